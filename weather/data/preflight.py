"""Preflight: what a config's stores hold and cost to read, before a job is launched.

Every store is opened as the job would open it, and everything that is wrong is listed
at once: a job on a cluster that waits for hours in a queue should not end in its first
minute, nor in the next one for the next reason.

Volumes are of decoded float32 values, estimated from the layout: chunks are read whole,
so that a store with 37 levels in a chunk costs 2.8 times what a model of 13 levels
uses. How many bytes a reading takes on the way is measured by reading one time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray

from learning.spelling import did_you_mean
from weather.data import patient, sources
from weather.data.faults import unusable_times
from weather.data.identity import believed_record
from weather.data.sources.zarr_store import ZarrStore
from weather.data.store import Atmosphere, open_atmosphere, open_dataset, refused
from weather.data.times import common_timestep
from weather.data.windows import WindowIndex, model_step
from weather.experiment import Experiment

_BYTES = 4  # Of a float32.
_UNITS = ('B', 'kB', 'MB', 'GB', 'TB', 'PB')


class Report(NamedTuple):
    """What was found.

    Attributes:
      lines: for the reader.
      problems: what a job would stop at; none if it may be launched.
    """

    lines: list[str]
    problems: list[str]


class Cost(NamedTuple):
    """Values that windows of one variable take, and those that are read for them."""

    used: float
    read: float


def preflight(setup: Experiment, *, others: Mapping[str, str] | None = None) -> Report:
    """Opens every store of an experiment and finds out what it holds.

    Args:
      setup: the experiment; its cache is left aside, since what the store itself gives
        is asked for.
      others: addresses of further stores by what they are (`'climatology'`), which are
        opened and described.
    """
    report = Report([], [])
    data = setup.data
    dataset = _describe(data.store, 'atmosphere', data.storage_options, report)
    if dataset is not None:
        with dataset:
            _check_contents(setup, dataset, report)
            found = _present(setup, dataset)
            atmosphere = _open_as_training(setup, dataset, found, report)
            _check_periods(setup, dataset, atmosphere, report)
            if found and 'time' in dataset.dims:
                report.lines.extend(_costs(setup, dataset, found))
                report.lines.extend(_test_read(dataset, found, report))
    for what, address in (others or {}).items():
        opened = _describe(address, what, data.storage_options, report)
        if opened is not None:
            opened.close()
    return report


def _describe(
    address: str, what: str, options: Mapping[str, Any], report: Report
) -> xarray.Dataset | None:
    """Opens one store and says what it is; None, and a problem, where that fails."""
    start = time.monotonic()
    report.lines.append(f'{what}: {address}')
    try:
        stores = sources.open_stores(address, options)
        reached = {each.access for each in stores if isinstance(each, ZarrStore)}
        for store in stores:
            store.close()
        dataset = open_dataset(address, what=what, storage_options=options)
    except ValueError as error:
        report.lines.append('  cannot be opened')
        report.problems.append(f'{what}: {error}')
        return None
    seconds = time.monotonic() - start
    how = ', '.join(sorted(reached)) or 'on disk'
    report.lines.append(f'  reached {how} in {seconds:.1f} s')
    report.lines.extend(f'  {line}' for line in _axes(dataset))
    return dataset


def _axes(dataset: xarray.Dataset) -> Iterator[str]:
    sizes = ', '.join(f'{dim} {size}' for dim, size in dataset.sizes.items())
    yield f'dims: {sizes}'
    for dim, unit in (('latitude', 'degrees'), ('longitude', 'degrees')):
        if dim in dataset.coords:
            yield f'{dim}: {_ends(dataset[dim].values)} {unit}'
    if 'level' in dataset.coords:
        levels = ' '.join(f'{level:g}' for level in dataset['level'].values)
        yield f'levels: {levels} hPa'
    times = dataset['time'].values if 'time' in dataset.coords else np.empty(0)
    if times.size > 1:
        hours = common_timestep(times) / np.timedelta64(1, 'h')
        yield f'times: {_date(times[0])} to {_date(times[-1])}, every {hours:g} h'
    yield f'variables: {", ".join(sorted(map(str, dataset.data_vars)))}'


def _check_contents(setup: Experiment, dataset: xarray.Dataset, report: Report) -> None:
    """Compares variables, levels and statics with those that the config wants."""
    held, reasons = list(map(str, dataset.data_vars)), refused(dataset)
    levels = dataset['level'].values.tolist() if 'level' in dataset.coords else []
    wanted = {**setup.data.stored.levels, **dict.fromkeys(setup.data.statics, ())}
    found = 0
    for name, of_name in wanted.items():
        if name not in held:
            reason = reasons.get(name, f'not there{did_you_mean(name, held)}')
            report.problems.append(f'{name}: {reason}')
            continue
        missing = [level for level in of_name if level not in levels]
        if missing:
            report.problems.append(
                f'{name}: levels {missing} hPa are not there, those that are: {levels}'
            )
        found += not missing
    report.lines.append(f'  wanted: {len(wanted)} variables and statics, found {found}')


def _check_periods(
    setup: Experiment,
    dataset: xarray.Dataset,
    atmosphere: Atmosphere | None,
    report: Report,
) -> None:
    """Compares the periods and the step of the config with the times of the store."""
    if 'time' not in dataset.coords:
        report.problems.append('there is no time axis')
        return
    times, data = dataset['time'].values, setup.data
    unusable = _known_unusable(setup, atmosphere)
    try:
        step = model_step(times, data.timestep_hours)
    except ValueError as error:
        report.problems.append(str(error))
        step = common_timestep(times)
    for name in ('train', 'validation', 'test'):
        period = getattr(data, name)
        try:
            windows = WindowIndex(times, period=period, invalid=unusable, timestep=step)
            lengths = () if name == 'test' else (1, setup.training.max_steps)
            counts = [windows.starts(steps).size for steps in lengths]
        except ValueError as error:
            report.problems.append(f'data.{name}: {error}')
            continue
        first, last = (np.datetime64(date) for date in period)
        # In the resolution of the dates: of 2020 is all of that year.
        if first < times[0].astype(first.dtype) or last > times[-1].astype(last.dtype):
            report.problems.append(
                f'data.{name}: {period[0]} to {period[1]} is not all there: the store '
                f'has {_date(times[0])} to {_date(times[-1])}'
            )
        found = ''.join(
            f'; {count} windows of {steps} steps'
            for steps, count in sorted({*zip(lengths, counts, strict=True)})
        )
        if windows.num_invalid:
            found += f'; unusable, as is known: {windows.num_invalid} times'
        report.lines.append(f'  {name}: {period[0]} to {period[1]}{found}')


def _present(setup: Experiment, dataset: xarray.Dataset) -> dict[str, list[float]]:
    """What is there of what the config wants, by variable, with a time axis."""
    levels = dataset['level'].values.tolist() if 'level' in dataset.coords else []
    return {
        name: [level for level in of_name if level in levels]
        for name, of_name in setup.data.stored.levels.items()
        if name in dataset.data_vars and 'time' in dataset[name].dims
        if not of_name or set(of_name) & set(levels)
    }


def _open_as_training(
    setup: Experiment,
    dataset: xarray.Dataset,
    found: Mapping[str, list[float]],
    report: Report,
) -> Atmosphere | None:
    """Opens what is there as training does: grid, times, units and a sample."""
    if not found:
        return None
    try:
        return open_atmosphere(
            setup.data.store,
            levels=found,
            statics=[name for name in setup.data.statics if name in dataset.data_vars],
            grid=setup.grid,
            storage_options=setup.data.storage_options,
        )
    except ValueError as error:
        report.problems.append(str(error))
        return None


def _known_unusable(setup: Experiment, atmosphere: Atmosphere | None) -> np.ndarray:
    """Times that training will leave out, as far as one knows without reading."""
    if atmosphere is None:
        return np.empty(0, 'datetime64[ns]')
    found = list(unusable_times(setup, atmosphere).values())
    record = believed_record(atmosphere, setup.data.storage_options)
    if record is not None:
        found.append(record.invalid_times(atmosphere.levels))
    return np.unique(np.concatenate([atmosphere.times[:0], *found]))


def _costs(
    setup: Experiment, dataset: xarray.Dataset, found: Mapping[str, Sequence[float]]
) -> Iterator[str]:
    """What is read for windows, updates and an epoch, and for what is used of it."""
    longest = setup.training.max_steps
    yield '  chunks, and values read for one that is used:'
    for name, levels in found.items():
        cost = window_cost(dataset[name], levels, 1)
        chunks = dict(dataset[name].encoding['preferred_chunks'])
        layout = ' x '.join(f'{size} {dim}' for dim, size in chunks.items())
        yield f'    {name}: {layout}; {cost.read / cost.used:.1f}'
    for length in sorted({1, longest + 1}):
        costs = [window_cost(dataset[n], of, length) for n, of in found.items()]
        used, read = (_BYTES * sum(of) for of in zip(*costs, strict=True))
        what = f'a window of {length} times' if length > 1 else 'one time'
        yield (
            f'  {what}: {_size(used)} used, {_size(read)} read (amplification '
            f'{read / used:.1f})'
        )
    batch = setup.training.batch_size
    yield f'  an update of {batch} windows: {_size(batch * used)} used, at most ' + (
        f'{_size(batch * read)} read'
    )
    inside = slice(*setup.data.train)
    times = dataset['time'].sel(time=inside).size
    whole = [window_cost(dataset[n], of, max(times, 1)) for n, of in found.items()]
    once = _BYTES * sum(cost.read for cost in whole)
    yield (
        f'  an epoch of {times} times: {_size(once)} if each field is read once, '
        f'{_size(times * read)} if each window is read by itself'
    )


def window_cost(
    variable: xarray.DataArray, levels: Sequence[float], length: int
) -> Cost:
    """Returns the values in a window of `length` times, and those read for it.

    A window begins anywhere in a chunk: `length - 1 + c` times are read on average of
    chunks of `c` times, since `(length - 1) / c + 1` chunks are touched.
    """
    chunks = variable.encoding['preferred_chunks']
    used, read = float(length), float(length - 1 + chunks['time'])
    read = min(read, float(max(variable.sizes['time'], chunks['time'])))
    for dim in ('level', 'latitude', 'longitude'):
        if dim not in variable.dims:
            continue
        size, chunk = variable.sizes[dim], chunks[dim]
        if dim == 'level':
            places = np.flatnonzero(np.isin(variable['level'].values, levels))
        else:
            places = np.arange(size)
        touched = np.unique(places // chunk)
        # The last chunk is as large as the others, but what it holds ends earlier.
        read *= np.minimum(chunk, size - touched * chunk).sum()
        used *= places.size
    return Cost(used, read)


def _test_read(
    dataset: xarray.Dataset, found: Mapping[str, Sequence[float]], report: Report
) -> Iterator[str]:
    """Reads the last time of every variable, and says what came and how long it took.

    The first one was read as a sample before, by whoever opens an atmosphere.
    """
    before, start = patient.TRAFFIC['bytes'], time.monotonic()
    count, empty = 0, []
    for name, levels in found.items():
        field = dataset[name].isel(time=-1)
        field = field.sel(level=list(levels)) if levels else field
        try:
            values = field.values
        except ValueError as error:
            report.problems.append(str(error))
            continue
        count += values.size
        if not np.isfinite(values).any():
            empty.append(name)
    seconds = max(time.monotonic() - start, 1e-6)
    came = patient.TRAFFIC['bytes'] - before
    sent = f', {_size(came)} on the way' if came else ''
    yield (
        f'  read {_size(_BYTES * count)} of {_date(dataset["time"].values[-1])} in '
        f'{seconds:.2f} s, {_size(_BYTES * count / seconds)}/s, one after the other'
        f'{sent}'
    )
    if empty:
        yield f'  the last time is missing in {", ".join(empty)}'


def _ends(values: np.ndarray) -> str:
    return f'{values[0]:g} to {values[-1]:g}' if values.size else 'none'


def _date(moment: np.datetime64) -> str:
    return str(moment.astype('datetime64[m]'))


def _size(num_bytes: float) -> str:
    place = 0
    while num_bytes >= 999.5 and place < len(_UNITS) - 1:
        num_bytes, place = num_bytes / 1000, place + 1
    return f'{num_bytes:.3g} {_UNITS[place]}'
