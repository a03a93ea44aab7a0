"""Forecasts of any length from any start, streamed: one compiled step at a time.

The state stays on the device; a lead time that is wanted is copied to the host and
handed on before the next is made, so that memory does not grow with the lead time.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray
from tqdm import tqdm

from learning import signals
from weather.data.sources import named_by
from weather.data.store import Atmosphere, open_atmosphere
from weather.forecasting.export import (
    ForecastLayout,
    ThreadedWriter,
    finished_starts,
    open_writer,
    to_dataset,
)
from weather.forecasting.initial import (
    check_initial_states,
    check_inputs,
    read_forcing,
    read_initial_fields,
)
from weather.forecasting.run import Run
from weather.forecasting.starts import (
    default_times,
    read_lead_hours,
    read_times,
    without_invalid,
)
from weather.model.forecaster import Forecaster, Weights
from weather.model.state import Forcing, stack_fields

_HOUR = np.timedelta64(1, 'h')


class Slab(NamedTuple):
    """One lead time of some starts.

    `lead` is its position; states are `[start, lat, lon, channel]` float32, SI units,
    members after the start.
    """

    starts: slice
    lead: int
    states: np.ndarray


def hours(first: float, last: float, *, step: float) -> np.ndarray:
    """Lead times from `first` to `last` hours, both included."""
    count = int(round((last - first) / step)) + 1
    # timedelta64 is an integer: half hours must not be cut off.
    seconds = np.round(3600 * (first + step * np.arange(count))).astype(int)
    return seconds * np.timedelta64(1, 's')


def open_store(run: Run, path: str | None = None) -> Atmosphere:
    """Opens a store with the variables and the grid of a run.

    `path` names another store than the one it was trained on.

    Raises:
      ValueError: the store lacks a variable or level, or has another grid.
    """
    data = run.setup.data
    # What is only an output is made, not read: a store need not have it.
    levels = data.channels.prognostic.levels | data.inputs.levels
    with named_by('--store'):
        return open_atmosphere(
            path or data.store,
            levels=levels,
            grid=run.setup.grid,
            storage_options=data.options,
        )


def run(
    trained: Run,
    atmosphere: Atmosphere,
    *,
    init_times: Sequence[str] | Sequence[np.datetime64] | np.ndarray,
    lead_times: np.ndarray,
    num_members: int | None = None,
    batch_size: int = 1,
) -> xarray.Dataset:
    """Makes forecasts in memory.

    Args:
      trained: the run.
      atmosphere: where the initial states are read, as `open_store` gives it.
      init_times: starts, each a time of the store.
      lead_times: multiples of the model step, ascending; 0 is the initial state.
      num_members: as for `make_layout`.
      batch_size: starts that are run together.

    Returns:
      Forecasts in WeatherBench 2 schema, SI units.

    Raises:
      ValueError: starts, lead times or inputs that the store or the model lacks.
      FloatingPointError: a value is implausible; names start, lead time and channel.
    """
    layout = make_layout(
        trained, atmosphere, init_times, lead_times, num_members=num_members
    )
    # All at once here: what does not fit in memory is for `write_all`.
    shape = (len(layout.init_times), len(layout.lead_times), *layout.state_shape)
    states = np.empty(shape, np.float32)
    for slab in stream(trained, atmosphere, layout, batch_size=batch_size):
        layout.check_values(slab.lead, slab.states, starts=slab.starts)
        states[slab.starts, slab.lead] = slab.states
    return to_dataset(states, layout)


def write_all(
    trained: Run,
    atmosphere: Atmosphere,
    output: str | pathlib.Path,
    *,
    init_times: Sequence[str] | np.ndarray | None = None,
    lead_hours: str | float | None = None,
    include_initial: bool = False,
    skip_existing: bool = False,
    overwrite: bool = False,
    sources: tuple[str | pathlib.Path, ...] = (),
) -> None:
    """Makes forecasts at every model step and writes them while they are made.

    All that can be refused is refused before the first forecast is made.

    Args:
      trained: the run.
      atmosphere: where the initial states are read, as `open_store` gives it.
      output: a directory for one netCDF file per start, or a path ending in `.zarr`.
      init_times: starts, see `starts.read_times`; by default those of the config's
        test period, without those at which the store holds NaN.
      lead_hours: longest lead time; by default that of the config.
      include_initial: whether the initial states are written as well, at 0 h.
      skip_existing: whether starts that are there already, whole and of the same run,
        checkpoint, initial states and lead times, are left as they are.
      overwrite: whether forecasts that are there may be replaced.
      sources: what must not be written to, beside the store of the initial states.
    """
    settings = trained.setup.forecast
    lead_times = read_lead_hours(
        settings.lead_hours if lead_hours is None else lead_hours,
        timestep=trained.timestep,
    )
    are_named = init_times is not None
    if init_times is None:
        init_times = default_init_times(trained, atmosphere, lead_times[-1])
    if include_initial:
        lead_times = np.append(0 * lead_times[:1], lead_times)  # In the same unit.
    layout = make_layout(trained, atmosphere, init_times, lead_times)
    done = f'forecasts of {lead_times[-1] / _HOUR:g} h in {output}'
    if skip_existing:
        finished = finished_starts(output, layout, overwrite=overwrite)
        done += f', {finished.sum()} more were there'
        if finished.all():
            print(f'0 {done}')
            return
        layout = layout.only(~finished)
    # Before the store is checked, which reads it: what stands in the way is cheap to
    # find.
    writer = open_writer(
        output, layout, overwrite=overwrite, sources=(atmosphere.source, *sources)
    )
    with ThreadedWriter(writer) as threaded, _progress(layout) as bar:
        if are_named:  # Of the others, those with NaN have been left out.
            check_initial_states(atmosphere, layout)
        # Between two fields only: a process that ends while a step still runs dies of a
        # segmentation fault.
        with signals.postponed() as request:
            for slab in stream(
                trained, atmosphere, layout, batch_size=settings.batch_size
            ):
                threaded.write(slab.lead, slab.states, starts=slab.starts)
                bar.update(len(slab.states))
                if request.number is not None:
                    raise signals.Interrupted(
                        request.number,
                        f'stopped by {request.name}: what was finished stays in '
                        f'{output}, what was not is removed; the same command with '
                        '--skip_existing goes on',
                    )
    print(f'{len(layout.init_times)} {done}')


def default_init_times(
    trained: Run, atmosphere: Atmosphere, longest: np.timedelta64
) -> np.ndarray:
    """Starts in the test period whose longest lead time ends within it.

    Those at which the store holds NaN are left out, and counted in the log. A store of
    one time, such as the newest analysis, has that start.

    Raises:
      ValueError: there is none.
    """
    setup = trained.setup
    times = default_times(
        atmosphere,
        setup.data.test,
        every=setup.forecast.init_every_hours * _HOUR,
        longest=longest,
    )
    return without_invalid(times, atmosphere)


def make_layout(
    trained: Run,
    atmosphere: Atmosphere,
    init_times: Sequence[str] | Sequence[np.datetime64] | np.ndarray,
    lead_times: np.ndarray,
    *,
    num_members: int | None = None,
) -> ForecastLayout:
    """Starts, lead times, channels and provenance of forecasts, checked.

    Args:
      trained: the run.
      atmosphere: where the initial states are read.
      init_times: starts, see `starts.read_times`.
      lead_times: multiples of the model step, ascending; 0 is the initial state.
      num_members: how often a start is run, along an axis of the states of its own;
        all of them from the same analysis, so that it is for the model to part them.

    Raises:
      ValueError: a start that the store lacks, a lead time between model steps, or
        inputs that the store lacks at a valid time.
    """
    source = atmosphere.source
    if '://' not in source:
        # The same from wherever it is called, so that files can be compared.
        source = str(pathlib.Path(source).expanduser().resolve())
    layout = ForecastLayout(
        channels=trained.model.channels,
        grid=trained.model.grid,
        init_times=read_times(init_times, atmosphere),
        lead_times=np.asarray(lead_times),
        num_members=num_members,
        provenance={**trained.provenance, 'initial_states': source},
    )
    off_step = layout.lead_times[layout.lead_times % trained.timestep != 0]
    if off_step.size or layout.lead_times[0] < np.timedelta64(0):
        raise ValueError(
            f'expected lead times that are multiples of the model step of '
            f'{trained.timestep / _HOUR:g} h, got {layout.lead_times / _HOUR} h'
        )
    check_inputs(trained, atmosphere, layout)
    return layout


def stream(
    trained: Run, atmosphere: Atmosphere, layout: ForecastLayout, *, batch_size: int
) -> Iterator[Slab]:
    """Yields forecasts lead time by lead time, `batch_size` starts together.

    Values are as the model gives them; writers, and `run`, refuse implausible ones.
    """
    # A state takes the place of the one before it, however many there are.
    advance = jax.jit(_advance, donate_argnums=2)
    normalize = jax.jit(Forecaster.normalize)
    to_si = jax.jit(Forecaster.denormalize)
    members = layout.num_members
    count = len(layout.init_times)
    batch_size = min(batch_size, count)  # Not to fill up what nobody asked for.
    for first in range(0, count, batch_size):
        starts = slice(first, min(first + batch_size, count))
        # The last batch repeats its last start, so that one program serves all.
        positions = np.minimum(np.arange(first, first + batch_size), count - 1)
        init_times = layout.init_times[positions]
        fields = read_initial_fields(atmosphere, layout, init_times)
        state = _repeat(normalize(trained.model, fields), members)
        valid_times = init_times
        for lead, lead_time in enumerate(layout.lead_times):
            while np.any(valid_times < init_times + lead_time):
                # First: a step is told the time that it leads to.
                valid_times = valid_times + trained.timestep
                forcing = read_forcing(trained, atmosphere, valid_times)
                forcing = jax.tree.map(lambda leaf: _repeat(leaf, members), forcing)
                state = advance(trained.variables, trained.model, state, forcing)
            if lead_time:
                states = np.asarray(to_si(trained.model, state))
            else:
                # As the store has it, without the rounding of scaling there and back.
                stored = stack_fields(fields, layout.channels)
                states = np.asarray(_repeat(stored, members))
            yield Slab(starts, lead, states[: starts.stop - starts.start])


def _advance(
    weights: Weights, model: Forecaster, state: jax.Array, forcing: Forcing
) -> jax.Array:
    # A rollout of one step: the very program that training and validation repeat.
    steps = jax.tree.map(lambda leaf: leaf[None], forcing)
    return model.rollout(weights, state, steps)[-1]


def _repeat(values: Any, members: int | None) -> Any:
    """`[start, ...]` once for each member, `[start, member, ...]`, where there are."""
    if members is None:
        return values
    return jnp.repeat(jnp.asarray(values)[:, None], members, axis=1)


def _progress(layout: ForecastLayout) -> tqdm:
    total = len(layout.init_times) * len(layout.lead_times)
    return tqdm(total=total, unit='field', disable=not sys.stderr.isatty())
