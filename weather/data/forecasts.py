"""Forecasts on disk, opened in the schema of WeatherBench 2.

A forecast store is either one Zarr with the dimensions `time` (initialisation),
`prediction_timedelta`, `level`, `latitude`, `longitude`, whoever wrote it, or netCDF
files as `weather.forecasting.export` writes them: one start per file, the dimension
`time` being the valid time and `forecast_reference_time` the initialisation. Both open
as the same lazy `xarray.Dataset`; members, where there are some, are its `number`.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from weather.data.axes import StoreNotFoundError, open_group

DIMS = ('time', 'prediction_timedelta', 'level', 'latitude', 'longitude')
_HORIZONTAL = ('latitude', 'longitude')
# Spellings that other writers use, and what they should be.
_FOREIGN = {
    'lead_time': 'prediction_timedelta',
    'step': 'prediction_timedelta',
    'init_time': 'time',
    'lat': 'latitude',
    'lon': 'longitude',
    'isobaricInhPa': 'level',
    'pressure_level': 'level',
}


def open_forecasts(
    path: str | os.PathLike, *, storage_options: Mapping[str, Any] | None = None
) -> xr.Dataset:
    """Opens forecasts lazily in the schema of WeatherBench 2.

    Args:
      path: a Zarr store (local or a URL such as `gs://...`), a directory of netCDF
        files of one start each, or one such file.
      storage_options: passed to fsspec for a URL.

    Returns:
      Variables with the dimensions `time`, `prediction_timedelta`, `level` (not for
      surface variables), `latitude`, `longitude` in SI units; `time` is the
      initialisation, datetime64[ns], ascending; `prediction_timedelta` is
      timedelta64[ns]. Values are read when asked for. Dimensions, rows and columns
      keep their order on disk: some backends read a transposed lazy array point by
      point.

    Raises:
      StoreNotFoundError: nothing there, or a directory without netCDF files; it is a
        `FileNotFoundError` and a `ValueError`.
      ValueError: unreadable, another schema, or files that do not belong together.
    """
    path = os.fspath(path)
    if '://' in path or _is_zarr(pathlib.Path(path)):
        forecasts = open_zarr(path, storage_options=storage_options)
    else:
        forecasts = _open_netcdf(pathlib.Path(path))
    check_schema(forecasts, path)
    if not forecasts.indexes['time'].is_monotonic_increasing:
        forecasts = forecasts.sortby('time')
    return forecasts


def open_zarr(
    path: str, *, storage_options: Mapping[str, Any] | None = None
) -> xr.Dataset:
    """Opens a Zarr store of any schema lazily; exact zeros stay zeros.

    Raises:
      ValueError: unreadable or not there (then a `FileNotFoundError` as well).
    """
    group = open_group(path, storage_options)
    stored = xr.open_zarr(
        group.store,
        group=group.path or None,
        chunks=None,
        consolidated=group.metadata.consolidated_metadata is not None,
        decode_cf=False,
    )
    # Zarr v2's default fill value, 0, would turn exact zeros into NaN; xarray's own
    # switch for this, use_zarr_fill_value_as_mask, does nothing in 2026.9.
    for variable in stored.variables.values():
        if np.array_equal(variable.attrs.get('_FillValue'), 0):
            del variable.attrs['_FillValue']
    return xr.decode_cf(stored, decode_timedelta=True)


def check_schema(forecasts: xr.Dataset, path: str) -> None:
    """Raises `ValueError` unless `forecasts`, read from `path`, has the WB2 schema."""
    found = tuple(forecasts.sizes)
    foreign = {name: _FOREIGN[name] for name in found if name in _FOREIGN}
    if foreign:
        raise ValueError(
            f'{path}: expected dimensions {DIMS}, got {found}; '
            f'open it yourself and rename {foreign}'
        )
    missing = [name for name in DIMS if name not in found and name != 'level']
    if missing:
        raise ValueError(
            f'{path}: expected dimensions {DIMS}, got {found} without {missing}; '
            'is it a forecast store?'
        )
    lead_times = forecasts.prediction_timedelta
    if lead_times.dtype.kind != 'm':
        raise ValueError(
            f'{path}: expected prediction_timedelta as timedelta64, got '
            f'{lead_times.dtype}; write it with a dtype attribute '
            '("timedelta64[ns]") and units such as "hours"'
        )
    for name in ('time', 'prediction_timedelta'):
        if forecasts.indexes[name].has_duplicates:
            raise ValueError(f'{path}: {name} holds the same value twice')


def _is_zarr(path: pathlib.Path) -> bool:
    markers = ('.zgroup', '.zmetadata', 'zarr.json')
    return path.suffix == '.zarr' or any((path / name).exists() for name in markers)


def _open_netcdf(path: pathlib.Path) -> xr.Dataset:
    paths = sorted(path.glob('*.nc')) if path.is_dir() else [path]
    if not path.exists() or not paths:
        raise StoreNotFoundError(
            f'expected forecasts at {path}: a .zarr store or a directory of .nc files '
            '(unfinished ones end in .tmp); found none, check the path'
        )
    starts = [xr.open_dataset(file, decode_timedelta=True) for file in paths]
    if len(starts) == 1 and 'prediction_timedelta' in starts[0].dims:
        return starts[0]  # The schema of WeatherBench 2 in a netCDF file.
    for file, start in zip(paths, starts, strict=True):
        _check_alike(file, start, paths[0], starts[0])
    stacked = xr.Dataset(
        {str(name): _stack(str(name), starts) for name in starts[0].data_vars},
        coords={
            # One value each; in files of the first version without a dimension.
            'time': np.concatenate(
                [start.forecast_reference_time.values.reshape(1) for start in starts]
            ),
            'prediction_timedelta': starts[0].forecast_period.values,
            **{
                name: starts[0][name].variable
                for name in ('realization', 'level', *_HORIZONTAL)
                if name in starts[0].dims
            },
        },
        attrs=starts[0].attrs,
    )
    if 'realization' in stacked.dims:
        stacked = stacked.rename(realization='number')
    stacked.set_close(lambda: _close(starts))
    return stacked


def _check_alike(
    file: pathlib.Path, start: xr.Dataset, first_file: pathlib.Path, first: xr.Dataset
) -> None:
    """Raises `ValueError` unless `start` can stand beside `first`."""
    needed = ('forecast_reference_time', 'forecast_period', *_HORIZONTAL)
    missing = [name for name in needed if name not in start.variables]
    if missing:
        raise ValueError(
            f'{file}: expected one forecast per file with the coordinates {needed}, '
            f'got {tuple(start.variables)} without {missing}; '
            'write it with weather.forecasting.export'
        )
    if set(start.data_vars) != set(first.data_vars):
        raise ValueError(
            f'{file}: expected the variables of {first_file}, '
            f'{sorted(map(str, first.data_vars))}, '
            f'got {sorted(map(str, start.data_vars))}'
        )
    for name in ('config_hash', 'checkpoint'):
        expected, found = first.attrs.get(name), start.attrs.get(name)
        if found != expected:
            raise ValueError(
                f'{file}: {name} {found} differs from {expected} of {first_file}; keep '
                'the forecasts of each run and checkpoint in their own directory'
            )
    for name in ('forecast_period', 'level', *_HORIZONTAL):
        if name in first.variables and not start[name].variable.equals(
            first[name].variable
        ):
            raise ValueError(
                f'{file}: {name} differs from that of {first_file}; '
                'keep the forecasts of each experiment in their own directory'
            )


def _stack(name: str, starts: Sequence[xr.Dataset]) -> xr.Variable:
    """Returns variable `name` of every start as one lazy variable."""
    variables = [start[name].variable for start in starts]
    lead = 'prediction_timedelta'
    dims = ('time', *(lead if dim == 'time' else dim for dim in variables[0].dims))
    data = indexing.LazilyIndexedArray(_Stack(variables))
    return xr.Variable(dims, data, attrs=variables[0].attrs)


class _Stack(BackendArray):
    """Equal-shaped lazy variables stacked along a new first axis, read on indexing.

    `xarray.concat` would read everything, and its lazy form needs dask.
    """

    def __init__(self, variables: Sequence[xr.Variable]):
        self.variables = variables
        self.shape = (len(variables), *variables[0].shape)
        self.dtype = variables[0].dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.typing.ArrayLike:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._read
        )

    def _read(self, key: tuple) -> np.ndarray:
        first, *rest = key
        chosen = np.arange(len(self.variables))[first]
        if np.ndim(chosen) == 0:
            return self._read_one(int(chosen), rest)
        parts = [self._read_one(i, rest) for i in chosen]
        shape = self._read_shape(rest)
        return np.stack(parts) if parts else np.empty((0, *shape), self.dtype)

    def _read_one(self, position: int, key: Iterable) -> np.ndarray:
        # A copy of the variable, so that what is read is not kept in memory.
        return self.variables[position].copy(deep=False)[tuple(key)].values

    def _read_shape(self, key: Iterable) -> tuple[int, ...]:
        return self.variables[0].copy(deep=False)[tuple(key)].shape


def _close(datasets: Sequence[xr.Dataset]) -> None:
    for dataset in datasets:
        dataset.close()
