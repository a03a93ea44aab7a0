"""Climatology: mean and spread by day of the year and hour, WeatherBench 2's recipe.

For every hour of the day and day of the year d, over all samples x at that hour whose
day d' lies in a window of `window_days` around d (the year being a ring of 366 days),

  mean(d) = sum_d' w(|d - d'|) x(d') / sum_d' w(|d - d'|),   w(k) = max(0, 1 - k / h),

with h = window_days // 2, and the standard deviation with the same weights, not
corrected for bias. In years without a day 366, day 365 also counts as day 366. Source:
`utils.compute_hourly_stat` of WeatherBench 2 0.2.1, window 61. Two differences, both
for data with gaps only: a missing day stays missing (there, day 365 of that year stands
in for it), and a period may be shorter than a year (days out of reach are NaN).

The store is read in order of time; memory grows neither with years nor with variables.
"""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import fsspec
import numpy as np
import pandas as pd
import xarray as xr
import zarr

from learning.files import MARK, Output, OutputError
from learning.provenance import code_version
from weather.data.blocks import stored_chunk, time_blocks
from weather.data.day_sums import BYTES_PER_VALUE, DaySums, slices
from weather.data.store import refused
from weather.outputs import CLIMATOLOGY
from weather.variables import VARIABLES

DAYS_OF_YEAR = np.arange(1, 367)
DIMS = ('hour', 'dayofyear', 'level', 'latitude', 'longitude')
STD_SUFFIX = '_std'
NUM_SAMPLES = 'num_samples'
# Values read at once, and written as one chunk: large enough for any disk or bucket.
_READ_BYTES = 2**26
_CHUNK_BYTES = 2**23
# Mean and spread of all days of the year, float32.
_RESULT_BYTES = 2 * 4 * 366


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


def window_weights(window_days: int) -> np.ndarray:
    """Weights `[dayofyear, dayofyear]` of samples (second axis) around days (first).

    Raises:
      ValueError: a window that is no odd number of days from 1 to 365.
    """
    if window_days % 2 != 1 or not 1 <= window_days <= 365:
        raise ValueError(
            f'expected window_days to be odd, from 1 to 365, got {window_days}; '
            'WeatherBench 2 uses 61'
        )
    apart = np.abs(DAYS_OF_YEAR[:, None] - DAYS_OF_YEAR)
    apart = np.minimum(apart, DAYS_OF_YEAR.size - apart)
    # A window of one day has no slope: nothing may be divided by it.
    return np.maximum(0, 1 - apart / max(1, window_days // 2))


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
        days = np.unique(np.concatenate([_days(time) for time in times]))
        return cls(
            dataset=dataset,
            period=range(len(every))[chosen],
            times=times,
            hours=np.unique(times.hour),
            days=days,
            weights=weights[:, days - 1],
            window_days=window_days,
        )

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
            counts[hour, np.searchsorted(self.days, _days(time))] += 1
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


def _days(time: pd.Timestamp) -> Sequence[int]:
    """Days of the year that a sample counts for."""
    day = time.day_of_year
    return (365, 366) if day == 365 and not time.is_leap_year else (day,)


def _blocks(plan: _Plan, max_bytes: int) -> Iterator[_Block]:
    for name in moving_variables(plan.dataset):
        field = plan.dataset[name]
        for hours, levels, rows in itertools.product(*_groups(plan, field, max_bytes)):
            selection = {'level': levels} if 'level' in field.dims else {}
            selection['latitude'] = rows
            # An eighth for what is read, which stands there twice for a moment.
            sums = _sums(plan, field.isel(selection), hours, max_bytes // 8)
            while sums:
                part = (hours[-len(sums)], slice(None), *selection.values())
                # Let go of one by one.
                yield _Block(name, part, *sums.pop(0).mean_and_std(plan.weights))


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
    sums_bytes = len(groups[0]) * plan.days.size * BYTES_PER_VALUE
    bytes_of_row = (sums_bytes + _RESULT_BYTES) * field.sizes['longitude']
    fitting = int(max_bytes * 0.75 / bytes_of_row)  # Rows of one level.
    return _Groups(
        groups,
        slices(num_levels, max(1, fitting // num_rows)),
        slices(num_rows, max(1, min(fitting, num_rows))),
    )


def _sums(
    plan: _Plan, field: xr.DataArray, hours: list[int], max_bytes: int
) -> list[DaySums]:
    """Sums of one variable at the given hours, read once in order of time."""
    dims = [dim for dim in DIMS[2:] if dim in field.dims]
    shape = (plan.days.size, *(field.sizes[dim] for dim in dims))
    sums = {int(plan.hours[hour]): DaySums.zeros(shape) for hour in hours}
    wanted = np.flatnonzero(np.isin(plan.times.hour, list(sums)))
    chunk_bytes = stored_chunk(field) * 4 * int(np.prod(shape[1:]))
    read_bytes = min(max(_READ_BYTES, chunk_bytes), max_bytes)
    positions = wanted + plan.period.start
    for batch in time_blocks(field, positions, max_bytes=read_bytes):
        loaded = field.isel(time=batch).transpose('time', *dims)
        for position, value in zip(batch, loaded.values, strict=True):
            time = plan.times[position - plan.period.start]
            for day in np.searchsorted(plan.days, _days(time)):
                sums[time.hour].add(day, value.astype(np.float64))
    return list(sums.values())


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
        days = _CHUNK_BYTES // (4 * np.prod([sizes[dim] for dim in dims[2:]]))
        sizes['dayofyear'] = int(np.clip(days, 1, DAYS_OF_YEAR.size))
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
