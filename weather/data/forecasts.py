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

import xarray as xr

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
      read when asked for.

    Raises:
      StoreNotFoundError: nothing there, or a directory without netCDF files; it is a
        `FileNotFoundError` and a `ValueError`.
      ValueError: unreadable, another schema, or files that do not belong together.
    """
    forecasts = open_any_forecasts(path, storage_options=storage_options)
    if is_by_valid_time(forecasts):
        raise ValueError(
            f'expected forecasts by their start in {_name(path)}, found a time axis '
            f'that says it is the valid time ({forecasts.time.attrs}); subtract the '
            'lead time and sort by starts'
        )
    return forecasts


def open_any_forecasts(
    path: store.Source, *, storage_options: Mapping[str, Any] | None = None
) -> xr.Dataset:
    """As `open_forecasts`; `time` may be the valid time (`is_by_valid_time`)."""
    try:
        forecasts = store.open_dataset(
            path, what='forecast', storage_options=storage_options
        )
    except StoreNotFoundError as error:
        raise StoreNotFoundError(
            f'expected forecasts at {_name(path)}: {error}'
        ) from None
    check_schema(forecasts, _name(path))
    return forecasts


def is_by_valid_time(forecasts: xr.Dataset) -> bool:
    """Whether the time axis says in words that it is the valid time, not the start.

    The standard name `time`, which CF keeps for the valid time, says nothing: too many
    tools give it to any axis of times.
    """
    words = ' '.join(map(str, forecasts.time.attrs.values())).lower()
    return 'valid' in words and 'forecast_reference_time' not in words


def _name(source: store.Source) -> str:
    return 'the dataset' if isinstance(source, xr.Dataset) else str(source)


def open_zarr(
    path: str, *, storage_options: Mapping[str, Any] | None = None
) -> xr.Dataset:
    """Opens fields of any schema lazily: `store.open_dataset` of a plain store."""
    return store.open_dataset(path, what='store', storage_options=storage_options)


def check_schema(forecasts: xr.Dataset, path: str) -> None:
    """Raises `ValueError` unless `forecasts`, read from `path`, has the WB2 schema."""
    found = tuple(forecasts.sizes)
    missing = [name for name in DIMS if name not in found and name != 'level']
    if missing:
        raise ValueError(
            f'{path}: expected dimensions {DIMS}, got {found} without {missing}; '
            'is it a forecast store? One forecast has a start, forecast_reference_time'
        )
