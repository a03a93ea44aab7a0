"""What is read: which source holds a variable, at which times, at which of its places.

A variable may be spread over several sources, as one file per year is: at each time the
first source counts that holds it. Nothing is read here but coordinates.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray

from weather.data.store import open_dataset, refused
from weather.data.times import common_timestep
from weather.experiment import Experiment
from weather.variables import VARIABLES

_HOUR = np.timedelta64(1, 'h')
_MISSING = -1


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """One of the things that a store is made of.

    Attributes:
      address: as the user gave it.
      dataset: its fields, lazy, in canonical order, only what is wanted.
    """

    address: str
    dataset: xarray.Dataset

    @functools.cached_property
    def times(self) -> np.ndarray:
        """`[time]` datetime64[ns] at which it has data; positions count from its axis.

        ARCO-ERA5's axis is longer than its data, whose bounds are attributes.
        """
        if 'time' not in self.dataset.coords:
            return np.empty(0, 'datetime64[ns]')
        times = self.dataset['time'].values
        stop = self.dataset.attrs.get('valid_time_stop')
        # Axes ascend: what is cut off at the end moves no position.
        return times[times < np.datetime64(stop) + 1] if stop else times

    def holds(self, name: str, levels: Sequence[float]) -> bool:
        """Whether it has a variable, at all of the levels."""
        if name not in self.dataset:
            return False
        field = self.dataset[name]
        if bool(levels) != ('level' in field.dims):
            return False
        return set(levels) <= set(field['level'].values.tolist() if levels else ())


def open_sources(
    addresses: Sequence[str], names: Sequence[str], options: Mapping[str, Any]
) -> list[Source]:
    """Opens the sources; only the variables of these names."""
    return [
        Source(
            address,
            open_dataset(
                address, what='atmosphere', storage_options=options or None, names=names
            ),
        )
        for address in addresses
    ]


def locate(
    sources: Sequence[Source],
    levels: Mapping[str, Sequence[float]],
    statics: Sequence[str],
) -> dict[str, tuple[int, ...]]:
    """Numbers of the sources that hold each variable and each static.

    Raises:
      ValueError: something is nowhere; says where it was looked for, and what is there.
    """
    wanted = {**levels, **dict.fromkeys(statics, ())}
    found = {
        name: tuple(i for i, one in enumerate(sources) if one.holds(name, of_name))
        for name, of_name in wanted.items()
    }
    problems = [
        _problem(sources, name, wanted[name])
        for name, numbers in found.items()
        if not numbers
    ]
    if problems:
        held = '; '.join(f'{one.address} holds {_held(one)}' for one in sources)
        raise ValueError(
            f'{"; ".join(problems)}; {held}: add a --source that has it, or leave it '
            'out of config.data.variables and config.data.statics'
        )
    for name in levels:
        for number in found[name]:
            if 'time' not in sources[number].dataset[name].dims:
                raise ValueError(
                    f'expected a time axis in {name} of {sources[number].address}, '
                    f'found dims {sources[number].dataset[name].dims}; what never '
                    'changes belongs to config.data.statics'
                )
    return found


def _problem(sources: Sequence[Source], name: str, levels: Sequence[float]) -> str:
    for one in sources:
        if name in one.dataset:
            field = one.dataset[name]
            if not levels or 'level' not in field.dims:
                axis = 'a level axis' if levels else 'no level axis'
                return (
                    f'expected {name} with {axis}, found dims {field.dims} in '
                    f'{one.address}'
                )
            lacking = sorted(set(levels) - set(field['level'].values.tolist()))
            return (
                f'expected {name} at all of {list(levels)} hPa, found none at '
                f'{lacking} in {one.address}'
            )
        if name in refused(one.dataset):
            return f'{name} of {one.address}: {refused(one.dataset)[name]}'
    where = ', '.join(one.address for one in sources)
    return f'expected {name!r} in one of the sources, found it in none of {where}'


def _held(source: Source) -> str:
    """All that a source has, whatever it was opened for; for messages."""
    try:
        dataset = open_dataset(source.address, what='atmosphere')
    except ValueError:
        dataset = source.dataset
    return ', '.join(map(str, dataset.data_vars))


class Times(NamedTuple):
    """Times of a store.

    Attributes:
      chosen: `[time]` datetime64[ns], ascending.
      left_out: by period, times between its bounds that no source has.
      step: between neighbours, gaps apart.
    """

    chosen: np.ndarray
    left_out: dict[str, int]
    step: np.timedelta64


def choose_times(
    setup: Experiment, sources: Sequence[Source], found: Mapping[str, Sequence[int]]
) -> Times:
    """Chooses the times of the three periods that every variable has.

    Sums over a step do not count: where one of its hours is missing the sum is NaN.

    Raises:
      ValueError: there is none, or the sources have too long a step.
    """
    moving = [name for name in found if name in setup.data.stored.variables]
    counted = [name for name in moving if not VARIABLES[name].accumulated] or moving
    held = [
        functools.reduce(np.union1d, (sources[i].times for i in found[name]))
        for name in counted
    ]
    common = functools.reduce(np.intersect1d, held)
    hours = setup.prepare.timestep_hours
    step = hours * _HOUR if hours else common_timestep(common)
    step = step.astype('timedelta64[ns]')
    if hours:
        common = common[(common - common.astype('datetime64[D]')) % step == 0 * step]
    chosen, left_out = np.zeros(common.size, bool), {}
    for name in ('train', 'validation', 'test'):
        first, beyond = period_bounds(getattr(setup.data, name))
        inside = (common >= first) & (common < beyond)
        phase = (common[0] if common.size else first).astype('datetime64[ns]')
        # Of the steps counted from `phase`, those from `first` to before `beyond`.
        expected = -((phase - beyond) // step) + (phase - first) // step
        left_out[name] = int(expected) - int(inside.sum())
        chosen |= inside
    if not chosen.any():
        raise ValueError(_no_times(setup, sources, found, hours))
    if common.size > 1 and (own := common_timestep(common)) > step:
        raise ValueError(
            f'expected times every {hours} h (prepare.timestep_hours), found them '
            f'every {own / _HOUR:g} h in the sources; choose {own / _HOUR:g}, a '
            'multiple of it, or 0 for what the sources have'
        )
    return Times(common[chosen], left_out, step)


def _no_times(
    setup: Experiment,
    sources: Sequence[Source],
    found: Mapping[str, Sequence[int]],
    hours: int,
) -> str:
    used = sorted({i for numbers in found.values() for i in numbers})
    spans = '; '.join(
        f'{sources[i].address} has {sources[i].times[0].astype("datetime64[m]")} to '
        f'{sources[i].times[-1].astype("datetime64[m]")}'
        for i in used
        if sources[i].times.size
    )
    data, every = setup.data, f' at every {hours} h from 00 UTC' if hours else ''
    return (
        f'expected times{every} that all variables have in the periods {data.train}, '
        f'{data.validation} or {data.test}, found none: {spans or "no times at all"}; '
        'correct config.data.train and the others, or add a --source'
    )


def period_bounds(period: tuple[str, str]) -> tuple[np.datetime64, np.datetime64]:
    """The first time of a period, and the first after it: a date counts to its end."""
    first, last = (np.datetime64(bound) for bound in period)
    return first.astype('datetime64[ns]'), (last + 1).astype('datetime64[ns]')


@dataclasses.dataclass(frozen=True, eq=False)
class Places:
    """Where the values of a variable lie, for every time of the store.

    Attributes:
      source: `[time]`, number of the source; -1 where some of it is missing.
      positions: `[time, parts]`, places on the source's axis whose values are summed.
    """

    source: np.ndarray
    positions: np.ndarray


def find_places(
    name: str,
    sources: Sequence[Source],
    numbers: Sequence[int],
    times: np.ndarray,
    step: np.timedelta64,
) -> Places:
    """Finds a variable at the given times; what is accumulated over all its parts.

    Raises:
      ValueError: a source whose accumulations are over another time than parts of a
        step.
    """
    parts = {i: _num_parts(name, sources[i], step) for i in numbers}
    if len(set(parts.values())) > 1:
        raise ValueError(
            f'expected {name} accumulated over one time in all sources, found sums of '
            f'{", ".join(map(str, parts.values()))} parts; give sources of one step'
        )
    num_parts = parts[numbers[0]]
    chosen = np.full(times.size, _MISSING)
    positions = np.full((times.size, num_parts), _MISSING)
    for i in reversed(numbers):  # The first that has a time comes last, and stays.
        held = sources[i].times
        if not held.size:
            continue
        ends = times[:, None] - step / num_parts * np.arange(num_parts)[::-1]
        places = np.minimum(np.searchsorted(held, ends), held.size - 1)
        there = (held[places] == ends).all(axis=1)
        chosen[there], positions[there] = i, places[there]
    return Places(chosen, positions)


def _num_parts(name: str, source: Source, step: np.timedelta64) -> int:
    """How many of a source's values make one of the store's."""
    if not VARIABLES[name].accumulated or source.times.size < 2:
        return 1
    own = common_timestep(source.times)
    if step % own != 0 * own:
        raise ValueError(
            f'expected {name} accumulated over parts of the step of '
            f'{step / _HOUR:g} h, found one value every {own / _HOUR:g} h in '
            f'{source.address}; choose another prepare.timestep_hours'
        )
    return int(step // own)
