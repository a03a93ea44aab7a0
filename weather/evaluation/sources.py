"""Reading what is compared: forecasts, truth and climatology, brought to one order.

Any store in the schema of WeatherBench 2 serves, whatever its orientation, order of
dimensions and chunks. Fields come out `[level, lat, lon]`, north to south and eastward
from Greenwich; a variable without levels has one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any, Literal

import cachetools
import numpy as np
import xarray as xr

from weather.data.forecasts import open_forecasts, open_zarr

COORDINATE_TOLERANCE_DEGREES = 1e-3
_HORIZONTAL = ('latitude', 'longitude')

Source = xr.Dataset | str | os.PathLike


def resolve(
    source: Source, what: Literal['forecast', 'truth', 'climatology']
) -> xr.Dataset:
    """Returns a source, opened if it is a path, in canonical order."""
    if isinstance(source, xr.Dataset):
        return canonical(source, what)
    opener = open_forecasts if what == 'forecast' else open_store
    return canonical(opener(source), what)


def address(source: Source | None) -> str | None:
    """Where a source comes from, as far as it says so."""
    if isinstance(source, xr.Dataset):
        return str(source.encoding.get('source', 'in memory'))
    return None if source is None else os.fspath(source)


def open_store(
    path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None
) -> xr.Dataset:
    """Opens truth or climatology lazily: Zarr or one netCDF file, as they are on disk.

    Unlike `weather.data.store.open_store` this asks for no known variables, grids or
    units: what two stores share can be scored.

    Args:
      path: local path or address.
      storage_options: passed to fsspec for an address.

    Raises:
      ValueError: the store is unreadable or not there.
    """
    path = os.fspath(path)
    if path.endswith('.nc'):
        return xr.open_dataset(path)
    return open_zarr(path, storage_options=storage_options)


def canonical(dataset: xr.Dataset, what: str) -> xr.Dataset:
    """Brings the horizontal axes to their order, lazily: north to south, 0 eastward.

    Args:
      dataset: with the coordinates `latitude` and `longitude`.
      what: its name in error messages.

    Raises:
      ValueError: a coordinate is absent, or the latitudes are in no order.
    """
    for name in _HORIZONTAL:
        if name not in dataset.indexes:
            raise ValueError(
                f'{what}: expected the dimension coordinates latitude and longitude, '
                f'got {", ".join(map(str, dataset.indexes))}; rename them'
            )
    latitudes = dataset.latitude.values
    if latitudes[0] < latitudes[-1]:
        dataset = dataset.isel(latitude=slice(None, None, -1))
    if not (np.diff(dataset.latitude.values) < 0).all():
        raise ValueError(
            f'{what}: expected latitudes in ascending or descending order, '
            f'got {latitudes}; sort the store by latitude'
        )
    # A column a rounding error west of Greenwich stays the first.
    longitudes = dataset.longitude.values.astype(np.float64)
    shifted = np.mod(longitudes + COORDINATE_TOLERANCE_DEGREES, 360)
    order = np.argsort(shifted, kind='stable')
    dataset = dataset.assign_coords(longitude=shifted - COORDINATE_TOLERANCE_DEGREES)
    if (order == np.arange(order.size)).all():
        return dataset
    return dataset.isel(longitude=order)


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
        max_block_bytes: int = 2**28,
    ):
        """Prepares the reader.

        Args:
          variable: dimensions `axis`, `latitude`, `longitude` and perhaps `level`.
          axis: name of the dimension that `__call__` counts along.
          levels: levels wanted, hPa; a level that the variable lacks reads as NaN;
            `(None,)` for a variable without levels.
          cache: keeps the blocks.
          max_block_bytes: upper bound of a block, however large the chunks are.
        """
        self._array = LevelArray(variable, levels)
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

    def __init__(self, variable: xr.DataArray, levels: Sequence[float | None]):
        """Finds the levels; `(None,)` stands for a variable without levels."""
        self._variable = variable
        self._missing = np.zeros(len(levels), bool)
        self._selection: dict[str, Any] = {}
        if 'level' in variable.dims:
            found = np.asarray(variable.level.values, np.float64)
            # Levels of float32, such as 0.1 hPa, differ in the eighth digit.
            matches = np.isclose(
                np.asarray(levels, np.float64)[:, None], found, rtol=1e-6, atol=0
            )
            self._missing = np.logical_not(matches.any(axis=1))
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
        if self._missing.any():
            values = np.where(self._missing[:, None, None], np.nan, values)
        return values


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
            del result
        yield pending.result()
