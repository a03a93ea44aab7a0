"""Climatology: mean and spread by day of the year and hour, WeatherBench 2's recipe.

For every hour of the day and day of the year d, over all samples x at that hour whose
day d' lies in a window of `window_days` around d (the year being a ring of 366 days),

  mean(d) = sum_d' w(|d - d'|) x(d') / sum_d' w(|d - d'|),   w(k) = max(0, 1 - k / h),

with h = window_days // 2, and the standard deviation with the same weights, not
corrected for bias. In years without a day 366, day 365 also counts as day 366. Source:
`utils.compute_hourly_stat` of WeatherBench 2 0.2.1, window 61. Two differences, both
for data with gaps only: a missing day stays missing (there, day 365 of that year stands
in for it), and a period may be shorter than a year (days out of reach are NaN).

Samples are read by days of the year: memory grows with neither years nor variables.
"""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import fsspec
import numpy as np
import pandas as pd
import xarray as xr
import zarr

from learning.files import MARK, Output, OutputError
from learning.provenance import code_version
from weather.data.blocks import stored_chunk, time_blocks
from weather.data.day_sums import (
    BYTES_PER_VALUE,
    DAYS_OF_YEAR,
    DaySums,
    days_of,
    slices,
    window_weights,
)
from weather.data.store import refused
from weather.outputs import CLIMATOLOGY
from weather.variables import VARIABLES

DIMS = ('hour', 'dayofyear', 'level', 'latitude', 'longitude')
STD_SUFFIX = '_std'
NUM_SAMPLES = 'num_samples'
# Values read at once, and written as one chunk: large enough for any disk or bucket.
_READ_BYTES = 2**26
_CHUNK_BYTES = 2**23
# Days whose mean and spread are computed together, float32.
PORTION = 15
_RESULT_BYTES = 2 * 4 * PORTION


def write_climatology(
    dataset: xr.Dataset,
    path: str | os.PathLike[str],
    *,
    start: str | np.datetime64 | None = None,
    end: str | np.datetime64 | None = None,
    window_days: int = 61,
    source: str | None = None,
    max_bytes: int = 2**31,
    overwrite: bool = False,
    attributes: Mapping[str, str] | None = None,
    zarr_format: Literal[2, 3] = 2,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Writes the climatology of every variable that has a time axis, in blocks.

    Each variable is `[hour, dayofyear, level, latitude, longitude]` (no level axis
    where it has none), float32, its units kept, and its standard deviation stands
    beside it under its name with `_std`. `num_samples` `[hour, dayofyear]` counts the
    times with a weight above zero; where it is 0 the climatology is NaN.

    A local path appears whole or not at all, and what it replaces stays until then. At
    an address (`gs://...`), where nothing can be renamed, nothing may be there, and the
    consolidated metadata come last.

    Args:
      dataset: `[time, level, latitude, longitude]`, from `store.open_store`.
      path: Zarr store to write.
      start: first date, included; None for the first of the store.
      end: last date, included (all hours of it); None for the last of the store.
      window_days: width of the window, odd, at most 365.
      source: path or address of the store, for the record; never written to.
      max_bytes: memory for fields, sums and results, beside the chunks that are being
        decoded or encoded. Less than one level needs is read as many times more often.
      overwrite: whether a climatology of this project at `path` may be replaced.
      attributes: further attributes of the result.
      zarr_format: of the store; 3 for one that becomes a group of a store of that.
      storage_options: passed on to fsspec for an address.

    Raises:
      OutputError: something is at `path` that must stay.
      ValueError: no variable with a time axis, a period without times, or a window that
        is no odd number of days.
    """
    path = os.fspath(path)
    output = Output(path, CLIMATOLOGY, overwrite, (source,) if source else ())
    if '://' in path:
        _check_nothing_at(path, storage_options or {})
    else:
        output.check()
    plan = _Plan.create(dataset, start, end, window_days)
    skeleton = plan.skeleton(source).assign_attrs(attributes or {})
    if '://' in path:
        skeleton.to_zarr(
            path,
            mode='w',
            zarr_format=zarr_format,
            consolidated=False,
            storage_options=dict(storage_options or {}) or None,
        )
        _write(plan, path, max_bytes, storage_options)
        return
    with output.replacing() as temporary:
        skeleton.to_zarr(
            temporary, mode='w', zarr_format=zarr_format, consolidated=False
        )
        _write(plan, str(temporary), max_bytes)


def _check_nothing_at(address: str, options: Mapping[str, Any]) -> None:
    """Refuses to write to an address where something is: it could not be put back."""
    files, place = fsspec.core.url_to_fs(address, **options)
    if files.exists(place):
        raise OutputError(
            f'expected nothing at {address}, found something, which stays as it is: '
            'remove it first, or choose another address'
        )


def moving_variables(dataset: xr.Dataset) -> list[str]:
    """Names of the variables with a time axis: those that have a climatology."""
    dims = {str(name): set(of.dims) for name, of in dataset.data_vars.items()}
    known = {'time', *DIMS[2:]}
    return [name for name in dims if 'time' in dims[name] and dims[name] <= known]


def summary(dataset: xr.Dataset) -> str:
    """Says which variables have a climatology, and why others have none."""
    moving = moving_variables(dataset)
    others = refused(dataset) | {
        str(name): 'other dims' if 'time' in field.dims else 'no time axis'
        for name, field in dataset.data_vars.items()
        if name not in moving
    }
    left_out = ', '.join(f'{name} ({why})' for name, why in others.items()) or 'none'
    return f'variables: {", ".join(moving)}; left out: {left_out}'


class _Plan(NamedTuple):
    """Which samples enter which mean.

    Attributes:
      period, times: positions of the times that count, and these times.
      hours: `[hour]`, hours of the day among them.
      days: `[day]`, days of the year among them, with 366 where 365 stands for it.
      weights: `[dayofyear, day]`.
    """

    dataset: xr.Dataset
    period: range
    times: pd.DatetimeIndex
    hours: np.ndarray
    days: np.ndarray
    weights: np.ndarray
    window_days: int

    @classmethod
    def create(
        cls, dataset: xr.Dataset, start: Any, end: Any, window_days: int
    ) -> _Plan:
        """Chooses the times between two dates, both included."""
        weights = window_weights(window_days)
        if not set(moving_variables(dataset)) & set(VARIABLES):
            raise ValueError(
                'expected variables that the project knows, with a time axis, found '
                f'{summary(dataset)}; rename them: known are {", ".join(VARIABLES)}'
            )
        every = pd.DatetimeIndex(dataset.time.values)
        chosen = every.slice_indexer(start, end)
        times = every[chosen]
        if not len(times):
            raise ValueError(
                f'no times from {start} to {end} for a climatology: the store has '
                f'{every[0]} to {every[-1]}'
            )
        if (times != times.floor('h')).any():
            raise ValueError(
                f'expected times on the hour, got {times[times != times.floor("h")][0]}'
            )
        days = np.unique(np.concatenate([days_of(time) for time in times]))
        return cls(
            dataset=dataset,
            period=range(len(every))[chosen],
            times=times,
            hours=np.unique(times.hour),
            days=days,
            weights=weights[:, days - 1],
            window_days=window_days,
        )

    @property
    def capacity(self) -> int:
        """Most days that the windows around the days of a portion touch."""
        portions = slices(DAYS_OF_YEAR.size, PORTION)
        return max(int(self.weights[days].any(axis=0).sum()) for days in portions)

    def samples(self, hours: list[int], days: list[int]) -> np.ndarray:
        """Places among the times of the samples that count for some days."""
        wanted, of_year = self.days[days], self.times.day_of_year
        chosen = np.isin(of_year, wanted)
        if 366 in wanted:
            chosen |= (of_year == 365) & ~self.times.is_leap_year
        return np.flatnonzero(chosen & np.isin(self.times.hour, self.hours[hours]))

    def layout(self, name: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Dims and shape of a variable in the climatology."""
        sizes = {'hour': self.hours.size, 'dayofyear': DAYS_OF_YEAR.size}
        sizes |= {str(dim): n for dim, n in self.dataset[name].sizes.items()}
        dims = tuple(dim for dim in DIMS if dim in sizes)
        return dims, tuple(sizes[dim] for dim in dims)

    def num_samples(self) -> np.ndarray:
        """Times inside the window with a weight above zero, `[hour, dayofyear]`."""
        counts = np.zeros((self.hours.size, self.days.size), int)
        for time in self.times:
            hour = np.searchsorted(self.hours, time.hour)
            counts[hour, np.searchsorted(self.days, days_of(time))] += 1
        return counts @ (self.weights > 0).T

    def skeleton(self, source: str | None) -> xr.Dataset:
        """Coordinates, `num_samples` and provenance."""
        coordinates = {
            name: self.dataset[name].variable
            for name in ('level', 'latitude', 'longitude')
            if name in self.dataset.coords
        }
        return xr.Dataset(
            {NUM_SAMPLES: (('hour', 'dayofyear'), self.num_samples())},
            coords={'hour': self.hours, 'dayofyear': DAYS_OF_YEAR, **coordinates},
            attrs={
                MARK: CLIMATOLOGY.name,
                'title': 'Climatology by day of the year and hour',
                'source': source or 'a dataset in memory',
                'first_time': str(self.times[0]),
                'last_time': str(self.times[-1]),
                'num_times': len(self.times),
                'window_days': self.window_days,
                'weights': 'triangular around the day, as WeatherBench 2',
                'software': f'spherecast {code_version()}',
            },
        )


class _Block(NamedTuple):
    """Mean and spread of the variable `name` at `part`, an index into its axes."""

    name: str
    part: tuple[Any, ...]
    mean: np.ndarray
    std: np.ndarray


def _blocks(plan: _Plan, max_bytes: int) -> Iterator[_Block]:
    for name in moving_variables(plan.dataset):
        field = plan.dataset[name]
        for hours, levels, rows in itertools.product(*_groups(plan, field, max_bytes)):
            selection = {'level': levels} if 'level' in field.dims else {}
            selection['latitude'] = rows
            # An eighth for what is read, which stands there twice for a moment.
            yield from _summed(plan, name, selection, hours, max_bytes // 8)


class _Groups(NamedTuple):
    """What is summed together, of each axis, so that it fits in memory."""

    hours: list[list[int]]
    levels: list[slice]
    rows: list[slice]


def _groups(plan: _Plan, field: xr.DataArray, max_bytes: int) -> _Groups:
    """Splits hours, levels and, where even one level is too much, rows.

    Levels lie together on disk; so do hours where a chunk holds several times. What
    lies together is read as often as it has parts: memory comes first.
    """
    hours = list(range(plan.hours.size))
    groups = [[hour] for hour in hours] if stored_chunk(field) == 1 else [hours]
    num_levels, num_rows = (field.sizes.get(dim, 1) for dim in ('level', 'latitude'))
    sums_bytes = len(groups[0]) * plan.capacity * BYTES_PER_VALUE
    bytes_of_row = (sums_bytes + _RESULT_BYTES) * field.sizes['longitude']
    fitting = int(max_bytes * 0.75 / bytes_of_row)  # Rows of one level.
    return _Groups(
        groups,
        slices(num_levels, max(1, fitting // num_rows)),
        slices(num_rows, max(1, min(fitting, num_rows))),
    )


def _summed(
    plan: _Plan, name: str, selection: dict, hours: list[int], max_bytes: int
) -> Iterator[_Block]:
    """Mean and spread of one variable, portion by portion of the year.

    Samples of a day are there as long as some window touches it, and are read once; but
    those around New Year twice, unless the window is the whole year.
    """
    field = plan.dataset[name].isel(selection)
    field = field.transpose('time', *(dim for dim in DIMS[2:] if dim in field.dims))
    sums = {hour: DaySums(plan.capacity, field.shape[1:]) for hour in hours}
    for rows in slices(DAYS_OF_YEAR.size, PORTION):
        days = np.flatnonzero(plan.weights[rows].any(axis=0)).tolist()
        new = [of_hour.keep(days) for of_hour in sums.values()][0]
        _add_samples(plan, field, sums, new, max_bytes)
        weights = plan.weights[rows][:, days]
        for hour, of_hour in sums.items():
            part = (hour, rows, *selection.values())
            yield _Block(name, part, *of_hour.mean_and_std(weights, days))


def _add_samples(
    plan: _Plan,
    field: xr.DataArray,
    sums: Mapping[int, DaySums],
    days: list[int],
    max_bytes: int,
) -> None:
    """Reads the samples of some days in order of time and adds them, hour by hour."""
    chunk_bytes = stored_chunk(field) * 4 * field[:1].size
    read_bytes = min(max(_READ_BYTES, chunk_bytes), max_bytes)
    positions = plan.samples(list(sums), days) + plan.period.start
    for batch in time_blocks(field, positions, max_bytes=read_bytes):
        values = field.isel(time=batch).values
        for position, value in zip(batch, values, strict=True):
            time = plan.times[position - plan.period.start]
            hour = int(np.searchsorted(plan.hours, time.hour))
            for day in np.searchsorted(plan.days, days_of(time)):
                if day in days:
                    sums[hour].add(int(day), value.astype(np.float64))


def _write(
    plan: _Plan,
    path: str,
    max_bytes: int,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Adds all fields to what is at `path`, and the consolidated metadata at last."""
    options = dict(storage_options or {}) or None
    group = zarr.open_group(path, mode='r+', storage_options=options)
    is_old = group.metadata.zarr_format == 2
    arrays = {}
    for name in moving_variables(plan.dataset):
        dims, shape = plan.layout(name)
        sizes = dict(zip(dims, shape, strict=True))
        # What is written together is in chunks of its own: none is written twice.
        groups = _groups(plan, plan.dataset[name], max_bytes)
        together = {'level': groups.levels[0].stop, 'latitude': groups.rows[0].stop}
        sizes |= {'hour': 1} | {k: min(sizes[k], together[k]) for k in dims[2:-1]}
        most = _CHUNK_BYTES // (4 * np.prod([sizes[dim] for dim in dims[2:]]))
        parts = [days for days in range(1, PORTION + 1) if PORTION % days == 0]
        sizes['dayofyear'] = max([part for part in parts if part <= most], default=1)
        for suffix in ('', STD_SUFFIX):
            arrays[name + suffix] = group.create_array(
                name + suffix,
                shape=shape,
                chunks=tuple(sizes[dim] for dim in dims),
                dtype=np.float32,
                # NaN: a hole must not read as a number.
                fill_value=np.nan,
                dimension_names=None if is_old else dims,
                attributes={
                    **({'_ARRAY_DIMENSIONS': list(dims)} if is_old else {}),
                    **_attributes(plan.dataset, name, suffix),
                },
            )
    for name, part, mean, std in _blocks(plan, max_bytes):
        arrays[name][part] = mean
        arrays[name + STD_SUFFIX][part] = std
        del mean, std  # Before the next ones are made.
    with warnings.catch_warnings():
        # That version 3 of the format does not have them yet: all readers know them.
        warnings.simplefilter('ignore', zarr.errors.ZarrUserWarning)
        zarr.consolidate_metadata(group.store, path=group.path or None)


def _attributes(dataset: xr.Dataset, name: str, suffix: str) -> dict[str, Any]:
    """Attributes of a variable's mean or standard deviation."""
    attributes = dict(dataset[name].attrs)
    if not suffix:
        return attributes
    attributes.pop('standard_name', None)
    long_name = attributes.get('long_name', name)
    return attributes | {'long_name': f'standard deviation of {long_name}'}
