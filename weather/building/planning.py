"""Making a plan: what is asked of the sources before anything is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from weather.building import reading
from weather.building.packing import Packing, choose_packing
from weather.building.plan import Plan, cut, group_variables
from weather.building.tasks import Workshop
from weather.data.checks import check_mean
from weather.experiment import Experiment
from weather.variables import VARIABLES, Channel

# Times at which fields are looked at: enough to tell what is always missing from what
# is missing now and then.
_PROBES = 5
# Of a config.
PERIODS = ('train', 'validation', 'test')


def make_plan(setup: Experiment, sources: Sequence[str], output: str) -> Plan:
    """Opens the sources, chooses times, and looks at a few fields of each variable.

    Raises:
      ValueError: something is not there, never has a value, has other units, or does
        not fit in memory.
    """
    data = setup.data
    # Ascending, as the axis will be.
    levels = {name: tuple(sorted(of)) for name, of in data.stored.levels.items()}
    opened = reading.open_sources(
        sources, [*levels, *data.statics], setup.prepare.source_options
    )
    found = reading.locate(opened, levels, data.statics)
    times = reading.choose_times(setup, opened, found)
    axis = tuple(sorted({level for of in levels.values() for level in of}))
    groups = group_variables(tuple(levels), setup)
    sizes = cut(
        setup,
        num_times=times.chosen.size,
        read_bytes=max(_read_bytes(group, levels, opened, found) for group in groups),
        write_bytes=max(_write_bytes(group, levels, axis, setup) for group in groups),
    )
    plan = Plan(
        setup=setup.to_dict(),
        sources=tuple(sources),
        output=output,
        times=times.chosen,
        step=times.step,
        left_out=times.left_out,
        axis=axis,
        levels=levels,
        packing=dict.fromkeys(levels, Packing()),
        **dataclasses.asdict(sizes),
    )
    return dataclasses.replace(plan, packing=_probe(Workshop(plan, opened)))


def _read_bytes(
    names: Sequence[str],
    levels: Mapping[str, Sequence[float]],
    sources: Sequence[reading.Source],
    found: Mapping[str, Sequence[int]],
) -> int:
    """The most that one time of these variables takes on the sources' grids."""

    def of_one(name: str, source: reading.Source) -> int:
        field = source.dataset[name]
        chunks = dict(field.encoding.get('preferred_chunks') or {})
        # A chunk is decoded whole, however few of its levels are wanted.
        num_levels = max(len(levels[name]), chunks.get('level', 1))
        return 4 * num_levels * field.sizes['latitude'] * field.sizes['longitude']

    return sum(
        max(of_one(name, sources[number]) for number in found[name]) for name in names
    )


def _write_bytes(
    names: Sequence[str],
    levels: Mapping[str, Sequence[float]],
    axis: Sequence[float],
    setup: Experiment,
) -> int:
    """What one time of these variables takes on the grid of the store."""
    num_fields = sum(len(axis) if levels[name] else 1 for name in names)
    return 4 * num_fields * setup.grid.num_lat * setup.grid.num_lon


def _probe(workshop: Workshop) -> dict[str, Packing]:
    """Looks at a few times of every variable; chooses how it is stored.

    Raises:
      ValueError: values that are missing at all of these times, or other units.
    """
    plan, problems, packing = workshop.plan, [], {}
    num_times = plan.times.size
    probes = np.unique(np.linspace(0, num_times - 1, _PROBES).astype(int))
    for group in plan.groups:
        for name, fields in workshop.make(group, probes).items():
            levels = plan.levels[name]
            samples = fields[:, [plan.axis.index(of) for of in levels] or [0]]
            channels = [Channel(name, level) for level in levels or (None,)]
            problems += _missing(channels, samples, workshop)
            _check_means(channels, samples, workshop)
            packing[name] = choose_packing(name, workshop.setup.prepare.dtype, samples)
    if problems:
        raise ValueError(_advice(problems, workshop, probes.size))
    # In the order of the variables, not of the groups.
    return {name: packing[name] for name in plan.levels}


@dataclasses.dataclass(frozen=True)
class _Missing:
    channel: Channel
    share: float

    def __str__(self) -> str:
        return f'{self.channel} ({self.share:.1%})'


def _missing(
    channels: Sequence[Channel], samples: np.ndarray, workshop: Workshop
) -> list[_Missing]:
    """Channels with places that have a value at none of the times."""
    # Sums lack their first hours, and no more; whole fields that are missing now and
    # then are for the list of invalid times.
    never = np.isnan(samples).all(axis=0)
    weights = workshop.setup.grid.area_weights
    shares = never.mean(axis=-1) @ weights / weights.size
    return [
        _Missing(channel, float(share))
        for channel, share in zip(channels, shares, strict=True)
        if share > 0
    ]


def _advice(problems: Sequence[_Missing], workshop: Workshop, num_probes: int) -> str:
    setup, fixes = workshop.setup, []
    # What a spectral regridding meets with a hole has none of its values afterwards.
    most = 1.1 if setup.prepare.regridding == 'spectral' else 0.999
    ground = [
        one for one in problems if one.channel.level is not None and one.share < most
    ]
    if ground and setup.prepare.below_ground == 'refuse':
        fixes.append(
            'what is missing below the ground, prepare.below_ground=fill continues '
            'downward'
        )
    if not fixes or len(ground) < len(problems):
        fixes.append(
            'leave what has no values out of config.data.variables (or its levels)'
        )
    return (
        f'expected values everywhere, found some missing at each of {num_probes} times '
        f'looked at (share of the area): {", ".join(map(str, problems))}; '
        f'{"; ".join(fixes)}'
    )


def _check_means(
    channels: Sequence[Channel], samples: np.ndarray, workshop: Workshop
) -> None:
    """Refuses fields that are in other units than they say."""
    weights = workshop.setup.grid.area_weights[:, None] * np.ones(samples.shape[-1])
    sources = workshop.found[channels[0].variable]
    address = workshop.sources[sources[0]].address
    for place, channel in enumerate(channels):
        for field in samples[:, place]:
            valid = np.isfinite(field)
            if not valid.any():
                continue
            mean = float(np.sum(weights * field, where=valid) / weights[valid].sum())
            check_mean(channel, mean, address)
            break


def describe(plan: Plan) -> str:
    """The plan in words, for the user to stop it in time."""
    first, last = (plan.times[i].astype('datetime64[h]') for i in (0, -1))
    fields = [
        f'{name} ({len(of)} levels)' if of else name for name, of in plan.levels.items()
    ]
    left_out = ', '.join(f'{n} of {name}' for name, n in plan.left_out.items() if n)
    num_bytes = sum(
        plan.packing[name].dtype.itemsize * int(np.prod(plan.shape(name)))
        for name in plan.levels
    )
    stored = sorted({plan.packing[name].kind for name in plan.levels})
    setup = plan.experiment
    lines = [
        f'{plan.output} from {", ".join(plan.sources)}:',
        f'  times: {plan.times.size}, {first} to {last}, every '
        f'{plan.step / np.timedelta64(1, "h"):g} h; left out, because no source has '
        f'them: {left_out or "none"}',
        f'  fields: {", ".join(fields)}; statics: '
        f'{", ".join(setup.data.statics) or "none"}',
        f'  grid: {setup.grid.num_lat}x{setup.grid.num_lon} {setup.grid.kind}, '
        f'{setup.prepare.regridding}; stored as {", ".join(stored)}, '
        f'{setup.prepare.compression}: {num_bytes / 2**30:.3g} GiB before compression',
        f'  work: blocks of {plan.block} times, {plan.num_threads} at a time within '
        f'{setup.prepare.max_gb:g} GiB',
    ]
    if absent := absent_periods(plan):
        lines.append(f'  warning: {absent}')
    return '\n'.join(lines + _unpacked(plan))


def absent_periods(plan: Plan) -> str:
    """Periods of the config of which there is no time at all; empty if none."""
    absent = []
    for name in PERIODS:
        period = getattr(plan.experiment.data, name)
        first, beyond = reading.period_bounds(period)
        if not ((plan.times >= first) & (plan.times < beyond)).any():
            absent.append(f'{name} ({period[0]} to {period[1]})')
    return f'no source has any time of data.{", data.".join(absent)}' if absent else ''


def _unpacked(plan: Plan) -> list[str]:
    """Says which variables are not stored as the config says, and why."""
    kind = plan.experiment.prepare.dtype
    others = [
        f'{name} as {plan.packing[name].kind}'
        for name in plan.levels
        if plan.packing[name].kind != kind
    ]
    if not others:
        return []
    return [
        f'  {kind} would cost more than 1 % of the standard deviation of a level: '
        f'{", ".join(others)}'
    ]


def accumulated(plan: Plan) -> list[str]:
    """Names of the variables that are sums over the step of the store."""
    return [name for name in plan.levels if VARIABLES[name].accumulated]
