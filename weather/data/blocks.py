"""Reading a store in order of time, a bounded number of bytes and whole chunks at once.

Statistics, the search for missing values and the climatology all read everything, so
they share what decides their speed: no chunk is fetched and decoded twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray


def stored_chunk(field: xarray.DataArray) -> int:
    """Times that the store keeps in one chunk; 1 where unknown."""
    return int((field.encoding.get('preferred_chunks') or {}).get('time', 1))


def select_levels(field: xarray.DataArray, levels: Sequence[float]) -> xarray.DataArray:
    """`[time, level, lat, lon]`, or without level for a surface variable; lazy."""
    # No expand_dims for the latter: it would read the whole field.
    field = field.sel(level=list(levels)) if levels else field
    return field.transpose('time', ..., 'latitude', 'longitude')


def time_blocks(
    field: xarray.DataArray,
    positions: Sequence[int] | np.ndarray,
    *,
    max_bytes: int,
    bytes_per_value: int = 4,
) -> list[np.ndarray]:
    """Splits positions in time into blocks of whole stored chunks that fit in memory.

    Args:
      field: `[time, ...]`, lazy, with the levels that are to be read.
      positions: ascending places on its time axis.
      max_bytes: size of a block, one time at least. A chunk that is larger is split
        all the same, and then read as often as it has parts: memory comes first.
      bytes_per_value: of the values that the caller makes of a block.

    Returns:
      The positions of each block, ascending.
    """
    positions = np.asarray(positions)
    points = field.size // field.sizes['time'] if positions.size else 1
    fitting = max(1, max_bytes // (bytes_per_value * points))
    chunk = stored_chunk(field)
    length = fitting // chunk * chunk or fitting
    # Borders are multiples in the store, not in the period: no chunk is read twice.
    borders = np.flatnonzero(np.diff(positions // length)) + 1
    return np.split(positions, borders) if positions.size else []
