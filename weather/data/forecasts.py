"""Forecasts on disk, opened in the schema of WeatherBench 2.

A forecast store has the dimensions `time` (initialisation), `prediction_timedelta`,
`level`, `latitude`, `longitude`, perhaps `member`, whoever wrote it and under whatever
names; or it is a directory of netCDF files of one start each, as
`weather.forecasting.export` writes them: the dimension `time` being the valid time and
`forecast_reference_time` the initialisation. All open as the same lazy Dataset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from weather.data import store
from weather.data.sources import StoreNotFoundError

DIMS = ('time', 'prediction_timedelta', 'level', 'latitude', 'longitude')


def open_forecasts(
    path: store.Source, *, storage_options: Mapping[str, Any] | None = None
) -> xr.Dataset:
    """Opens forecasts lazily in the schema of WeatherBench 2.

    Args:
      path: a Zarr store (local or an address such as `gs://...`), netCDF files of one
        start each (a directory, glob pattern or list), one file, or a Dataset.
      storage_options: passed to fsspec for an address.

    Returns:
      Variables with the dimensions `time`, `prediction_timedelta`, `level` (not for
      surface variables), `latitude`, `longitude`, with `member` before them where there
      are members, in canonical order and SI units; `time` is the initialisation,
      datetime64[ns], ascending; `prediction_timedelta` is timedelta64[ns]. Values are
      read when asked for. Of a store by valid time, the starts with all lead times.

    Raises:
      StoreNotFoundError: nothing there, or a directory without netCDF files; it is a
        `FileNotFoundError` and a `ValueError`.
      ValueError: unreadable, another schema, or files that do not belong together.
    """
    name = 'the dataset' if isinstance(path, xr.Dataset) else str(path)
    try:
        forecasts = store.open_dataset(
            path, what='forecast', storage_options=storage_options
        )
    except StoreNotFoundError as error:
        raise StoreNotFoundError(f'expected forecasts at {name}: {error}') from None
    check_schema(forecasts, name)
    # CF keeps the standard name `time` for the valid time, but too many tools give it
    # to any axis of times: what counts is what the axis says in words.
    words = ' '.join(map(str, forecasts.time.attrs.values())).lower()
    if 'valid' in words and 'forecast_reference_time' not in words:
        return _by_start(forecasts, name)
    return forecasts


def _by_start(forecasts: xr.Dataset, name: str) -> xr.Dataset:
    """Forecasts by valid time as forecasts by start: those with all lead times."""
    times = pd.DatetimeIndex(forecasts.time.values)
    leads = pd.TimedeltaIndex(forecasts.prediction_timedelta.values)
    starts = pd.DatetimeIndex(np.unique(times.values[:, None] - leads.values))
    rows = np.stack([times.get_indexer(starts + lead) for lead in leads], axis=1)
    # -1 stands for a valid time that is not there.
    complete = np.flatnonzero((rows >= 0).all(axis=1))
    if not complete.size:
        raise ValueError(
            f'{name}: the time axis says that it is the valid time '
            f'({forecasts.time.attrs}), and no start has all lead times; select some'
        )
    variables = {
        name: _ByStart.of(array.variable, rows[complete])
        for name, array in forecasts.data_vars.items()
        if {'time', 'prediction_timedelta'} <= set(array.dims)
    }
    attributes = {'standard_name': 'forecast_reference_time'}
    coordinates: dict[Any, Any] = {
        **{dim: forecasts[dim].variable for dim in forecasts.indexes},
        'time': ('time', starts[complete].values, attributes),
    }
    by_start = xr.Dataset(variables, coordinates, forecasts.attrs)
    by_start.encoding = forecasts.encoding
    return by_start


class _ByStart(BackendArray):
    """A lazy variable of (valid time, lead time) as one of (start, lead time)."""

    def __init__(self, variable: xr.Variable, rows: np.ndarray):
        self.variable = variable
        self.rows = rows  # `[start, lead]`, positions along time.
        self.axis = variable.dims.index('time')  # Canonical: lead times come next.
        sizes = {**variable.sizes, 'time': len(rows)}
        self.shape = tuple(sizes.values())
        self.dtype = variable.dtype

    @classmethod
    def of(cls, variable: xr.Variable, rows: np.ndarray) -> xr.Variable:
        """Returns the variable by start."""
        data = indexing.LazilyIndexedArray(cls(variable, rows))
        return xr.Variable(variable.dims, data, variable.attrs)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.typing.ArrayLike:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._read
        )

    def _read(self, key: tuple) -> np.ndarray:
        before, after = key[: self.axis], key[self.axis + 2 :]
        starts, leads = (
            np.arange(size)[part]
            for size, part in zip(
                self.rows.shape, key[self.axis : self.axis + 2], strict=True
            )
        )
        rows = self.rows[np.ix_(np.atleast_1d(starts), np.atleast_1d(leads))]
        # Field by field: the lead times of a start lie on a diagonal of the store.
        fields = [
            [
                self.variable[(*before, int(row), int(lead), *after)].values
                for row, lead in zip(of_start, np.atleast_1d(leads), strict=True)
            ]
            for of_start in rows
        ]
        # `[start, lead, *before, *after]`, without the axes that are a number.
        place = sum(np.ndim(part) > 0 or isinstance(part, slice) for part in before)
        values = np.moveaxis(np.array(fields), (0, 1), (place, place + 1))
        scalar = [place + i for i, of in enumerate((starts, leads)) if np.ndim(of) == 0]
        return values.squeeze(tuple(scalar))


def open_zarr(
    path: str, *, storage_options: Mapping[str, Any] | None = None
) -> xr.Dataset:
    """Opens fields of any schema lazily: `store.open_dataset` of a plain store."""
    return store.open_dataset(path, what='store', storage_options=storage_options)


def check_schema(forecasts: xr.Dataset, path: str) -> None:
    """Raises `ValueError` unless `forecasts`, read from `path`, has the WB2 schema."""
    found = tuple(forecasts.sizes)
    # Surface variables alone have no levels.
    missing = [name for name in DIMS if name not in found and name != 'level']
    if missing:
        raise ValueError(
            f'{path}: expected dimensions {DIMS}, got {found} without {missing}; '
            'is it a forecast store? One forecast has a start, forecast_reference_time'
        )
