"""Reading what is compared: forecasts, truth and climatology, field by field.

Everything comes through the one reader, `weather.data.store.open_dataset`, in canonical
order and SI units. Fields come out `[level, lat, lon]`; a variable without levels has
one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any, Literal

import cachetools
import numpy as np
import xarray as xr

from weather.data import units
from weather.data.forecasts import open_forecasts
from weather.data.store import open_dataset

# Public stores round coordinates to three decimals.
COORDINATE_TOLERANCE_DEGREES = 1e-3
_HORIZONTAL = ('latitude', 'longitude')

# A path, address, glob pattern, or list of these, or what is open already.
Source = xr.Dataset | str | os.PathLike | list[str]


def resolve(
    source: Source, what: Literal['forecast', 'truth', 'climatology']
) -> xr.Dataset:
    """Returns a source in canonical order; what is compared with has no members.

    Raises:
      ValueError: it cannot be read as what it is meant to be.
    """
    if what == 'forecast':
        return open_forecasts(source)
    dataset = open_dataset(source, what=what)
    if 'member' in dataset.dims:
        raise ValueError(
            f'{what} has {dataset.sizes["member"]} members: expected one; select it '
            'with isel, or take their mean'
        )
    if what == 'climatology' and 'dayofyear' not in dataset.dims:
        raise ValueError(
            f'expected a climatology by dayofyear (and hour), found '
            f'{tuple(dataset.dims)} at {address(source)}; make one with '
            'scripts/compute_climatology.py, or name that of a prepared store, '
            'STORE/climatology'
        )
    return dataset


def address(source: Source | None) -> str | None:
    """Where a source comes from, as far as it says so."""
    if isinstance(source, xr.Dataset):
        return str(source.encoding.get('source', 'in memory'))
    if isinstance(source, list):
        return ', '.join(source)
    return None if source is None else os.fspath(source)


def check_same_grid(
    found: xr.Dataset, expected: xr.Dataset, what: str, reference: str = 'truth'
) -> None:
    """Raises `ValueError` unless both canonical datasets lie on the same points."""
    for name in _HORIZONTAL:
        one = found[name].values.astype(np.float64)
        other = expected[name].values.astype(np.float64)
        if one.shape != other.shape:
            raise ValueError(
                f'{what} has {one.size} values of {name}, {reference} has '
                f'{other.size}; scores compare one grid: regrid one of the two'
            )
        difference = np.abs(one - other)
        if difference.max() > COORDINATE_TOLERANCE_DEGREES:
            worst = int(difference.argmax())
            raise ValueError(
                f'{name} of {what} differs from that of {reference} by up to '
                f'{difference.max():.6g} degrees (position {worst}: expected '
                f'{other[worst]:.6g}, found {one[worst]:.6g}), more than '
                f'{COORDINATE_TOLERANCE_DEGREES}; regrid one of the two'
            )


class BlockCache(cachetools.LRUCache):
    """Least recently used blocks of fields, bounded in bytes."""

    def __init__(self, max_bytes: int):
        super().__init__(max_bytes, getsizeof=lambda block: block.nbytes)


class FieldReader:
    """Fields of one variable along one axis (time or day of the year), block by block.

    A block is what the store keeps together on that axis, so that a chunk of many times
    is decoded once; blocks are cached.
    """

    def __init__(
        self,
        variable: xr.DataArray,
        axis: str,
        *,
        levels: Sequence[float | None],
        cache: BlockCache,
        wanted_units: str | None = None,
        max_block_bytes: int = 2**28,
    ):
        """Prepares the reader.

        Args:
          variable: dimensions `axis`, `latitude`, `longitude` and perhaps `level`.
          axis: name of the dimension that `__call__` counts along.
          levels: levels wanted, hPa; a level that the variable lacks reads as NaN;
            `(None,)` for a variable without levels.
          cache: keeps the blocks.
          wanted_units: as for `LevelArray`.
          max_block_bytes: upper bound of a block, however large the chunks are.
        """
        self._array = LevelArray(variable, levels, wanted_units)
        self._axis = axis
        self._cache = cache
        field_bytes = variable[{axis: 0}].size * variable.dtype.itemsize
        largest = max(1, max_block_bytes // max(1, field_bytes))
        self._block_size = min(chunk_size(variable, axis), largest)

    def __call__(self, position: int) -> np.ndarray:
        """Returns the field `[level, lat, lon]` at `position` along the axis."""
        block, offset = divmod(position, self._block_size)
        fields = self._cache.get((self, block))
        if fields is None:
            first = block * self._block_size
            part = slice(first, first + self._block_size)
            fields = self._array.read(self._axis, **{self._axis: part})
            # The cache refuses what is larger than all of it.
            if fields.nbytes <= self._cache.maxsize:
                self._cache[self, block] = fields
        return fields[offset]


class LevelArray:
    """A lazy variable read as `[..., level, lat, lon]` with the levels asked for."""

    def __init__(
        self,
        variable: xr.DataArray,
        levels: Sequence[float | None],
        wanted_units: str | None = None,
    ):
        """Finds the levels.

        Args:
          variable: dimensions `latitude`, `longitude` and others.
          levels: hPa; `(None,)` stands for a variable without levels.
          wanted_units: of what is read; by default those of the variable.
        """
        self._variable = variable
        self._conversion = conversion(variable, wanted_units) or units.Conversion()
        self._missing = np.zeros(len(levels), bool)
        self._selection: dict[str, Any] = {}
        if 'level' in variable.dims:
            found = np.asarray(variable.level.values, np.float64)
            # In float64 on both sides: 500 and 500.0 are one level.
            matches = found == np.asarray(levels, np.float64)[:, None]
            self._missing = ~matches.any(axis=1)
            self._selection = {'level': _as_slice(matches.argmax(axis=1))}

    def read(self, *axes: str, **selection: Any) -> np.ndarray:
        """Reads `[*axes, level, lat, lon]` at `selection`, positions as in `isel`.

        An axis that the variable has not got has length 1. A level that it lacks is
        NaN.
        """
        # Order of axes is settled after reading: a transposed lazy array is read point
        # by point by some backends.
        part = self._variable.isel({**self._selection, **selection}).compute()
        order = (*axes, 'level', *_HORIZONTAL)
        part = part.expand_dims([name for name in order if name not in part.dims])
        values = part.transpose(*order).values
        if self._conversion != units.Conversion():
            values = values * self._conversion.factor + self._conversion.offset
        if self._missing.any():
            values = np.where(self._missing[:, None, None], np.nan, values)
        return values


def conversion(variable: xr.DataArray, wanted: str | None) -> units.Conversion | None:
    """How the units of a variable become others; `None` where they cannot.

    What says no units is taken for what is wanted: nobody knows better.
    """
    found = variable.attrs.get('units')
    if not found or not wanted or found == wanted:
        return units.Conversion()
    return units.conversion(str(found), str(wanted))


def _as_slice(positions: np.ndarray) -> np.ndarray | slice:
    """Consecutive positions as a slice, which every backend reads best."""
    if (np.diff(positions) == 1).all():
        return slice(int(positions[0]), int(positions[-1]) + 1)
    return positions


def chunk_size(variable: xr.DataArray, axis: str) -> int:
    """Length along `axis` of what the store keeps in one chunk; 1 where unknown."""
    preferred = variable.encoding.get('preferred_chunks') or {}
    return int(preferred.get(axis, 1))


def read_ahead(reads: Sequence[Callable[[], Any]]) -> Iterator[Any]:
    """Yields the results of `reads` in order, the next one read in a thread meanwhile.

    At most two results exist at a time.
    """
    if not reads:
        return
    with futures.ThreadPoolExecutor(max_workers=1) as executor:
        pending = executor.submit(reads[0])
        for read in reads[1:]:
            result = pending.result()
            pending = executor.submit(read)
            yield result
            del result  # Or a third one would be there while the next is awaited.
        yield pending.result()
