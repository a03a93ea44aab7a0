"""Climatologies by day of the year and hour: what of them belongs to a valid time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from weather.evaluation import readers


def reader(
    variable: xr.DataArray,
    times: pd.DatetimeIndex,
    *,
    levels: Sequence[float | None],
    cache: readers.BlockCache,
    wanted_units: str | None = None,
) -> Callable[[int], np.ndarray]:
    """Returns a function from positions in `times` to fields `[level, lat, lon]`.

    Args:
      variable: dims `dayofyear`, `latitude`, `longitude`, perhaps `hour` and `level`;
        without `hour` it serves every hour.
      times: valid times; `check_days` has found those that are asked for.
      levels: as for `readers.FieldReader`.
      cache: keeps blocks of days.
      wanted_units: of the fields; by default those of the climatology.
    """
    hours = variable.hour.values if 'hour' in variable.dims else [None]
    of_hour = {
        hour: readers.FieldReader(
            variable if hour is None else variable.sel(hour=hour),
            'dayofyear',
            levels=levels,
            cache=cache,
            wanted_units=wanted_units,
        )
        for hour in hours
    }
    days = pd.Index(variable.dayofyear.values).get_indexer(times.day_of_year)
    # Looked up for all times at once, and not anew at every field.
    of_time = [None] * len(times) if None in of_hour else times.hour
    return lambda position: of_hour[of_time[position]](int(days[position]))


def check_days(climatology: xr.Dataset, valid_times: np.ndarray) -> None:
    """Raises `ValueError` unless `climatology` covers the days and hours wanted."""
    times = pd.DatetimeIndex(valid_times)
    days = _days_and_hours(climatology)
    wanted = pd.MultiIndex.from_arrays(
        [
            times.day_of_year,
            # One that serves every hour is looked up at hour 0.
            times.hour if 'hour' in climatology.dims else 0 * times.hour,
        ]
    )
    lacking = wanted.difference(days)
    if len(lacking):
        raise ValueError(
            f'the climatology has no data for {len(lacking)} of {len(times)} valid '
            f'times: days of the year {_runs(lacking.get_level_values(0))} at hours '
            f'{sorted(set(lacking.get_level_values(1)))} UTC; compute it from a period '
            'that covers them, or with a wider --window_days'
        )


def _days_and_hours(climatology: xr.Dataset) -> pd.MultiIndex:
    """Pairs (day of the year, hour) that hold data; hour 0 where there is no hour."""
    hours = climatology.hour.values if 'hour' in climatology.dims else [0]
    days = climatology.dayofyear.values
    # Climatologies of this project say where the window had no sample.
    sampled = np.ones((len(hours), len(days)), bool)
    if 'num_samples' in climatology:
        sampled = climatology.num_samples.transpose('hour', 'dayofyear').values > 0
    hour, day = np.nonzero(sampled)
    return pd.MultiIndex.from_arrays([days[day], np.asarray(hours)[hour]])


def _runs(days: pd.Index) -> str:
    """Days as runs: `1 to 3, 7`."""
    distinct = np.unique(days)
    runs = np.split(distinct, np.nonzero(np.diff(distinct) > 1)[0] + 1)
    return ', '.join(
        f'{run[0]} to {run[-1]}' if run.size > 1 else f'{run[0]}' for run in runs
    )
