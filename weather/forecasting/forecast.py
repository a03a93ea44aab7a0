"""Forecasts of any length from any start, streamed: one compiled step at a time.

The state stays on the device; a lead time that is wanted is copied to the host and
handed on before the next is made, so that memory does not grow with the lead time.
"""

from __future__ import annotations

import logging
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
import xarray
from tqdm import tqdm

from weather.data.forcings import clock
from weather.data.store import Atmosphere, open_atmosphere
from weather.data.windows import invalid_times
from weather.forecasting.export import (
    ForecastLayout,
    IfExists,
    ThreadedWriter,
    open_writer,
    to_dataset,
)
from weather.forecasting.run import Run
from weather.model.forecaster import Forecaster, Weights
from weather.model.state import Forcing

_HOUR = np.timedelta64(1, 'h')
_LOGGER = logging.getLogger(__name__)


class Slab(NamedTuple):
    """One lead time of some starts.

    Attributes:
      starts: which starts.
      lead: position of the lead time.
      states: `[start, lat, lon, channel]` float32, SI units.
    """

    starts: slice
    lead: int
    states: np.ndarray


def hours(first: float, last: float, *, step: float) -> np.ndarray:
    """Lead times from `first` to `last` hours, both included."""
    count = int(round((last - first) / step)) + 1
    seconds = np.round(3600 * (first + step * np.arange(count))).astype(int)
    return seconds * np.timedelta64(1, 's')


def open_store(run: Run, path: str | None = None) -> Atmosphere:
    """Opens a store with the variables and the grid of a run.

    Args:
      run: the run.
      path: another store than the one it was trained on.

    Raises:
      ValueError: the store lacks a variable or level, or has another grid.
    """
    data = run.setup.data
    return open_atmosphere(
        path or data.store,
        levels=data.channels.levels,
        grid=run.setup.grid,
        storage_options=data.storage_options,
    )


def run(
    trained: Run,
    atmosphere: Atmosphere,
    *,
    init_times: Sequence[str] | Sequence[np.datetime64] | np.ndarray,
    lead_times: np.ndarray,
    batch_size: int = 1,
) -> xarray.Dataset:
    """Makes forecasts in memory.

    Args:
      trained: the run.
      atmosphere: where the initial states are read, as `open_store` gives it.
      init_times: starts, each a time of the store.
      lead_times: multiples of the model step, ascending.
      batch_size: starts that are run together.

    Returns:
      Forecasts in WeatherBench 2 schema, SI units.

    Raises:
      FloatingPointError: a value is not finite; names start, lead time and channel.
    """
    layout = make_layout(trained, atmosphere, init_times, lead_times)
    shape = (len(layout.init_times), len(layout.lead_times), *layout.grid.shape)
    states = np.empty((*shape, len(layout.channels)), np.float32)
    for slab in stream(trained, atmosphere, layout, batch_size=batch_size):
        layout.check_finite(slab.lead, slab.states, starts=slab.starts)
        states[slab.starts, slab.lead] = slab.states
    return to_dataset(states, layout)


def write_all(
    trained: Run,
    atmosphere: Atmosphere,
    output: str | pathlib.Path,
    *,
    init_times: Sequence[str] | np.ndarray | None = None,
    lead_hours: int | None = None,
    if_exists: IfExists = 'error',
) -> None:
    """Makes forecasts at every model step and writes them while they are made.

    Args:
      trained: the run.
      atmosphere: where the initial states are read, as `open_store` gives it.
      output: a directory for one netCDF file per start, or a path ending in `.zarr`.
      init_times: starts; by default those of the config's test period.
      lead_hours: longest lead time; by default that of the config.
      if_exists: what to do where `output` holds such forecasts already.
    """
    settings = trained.setup.forecast
    longest = settings.lead_hours if lead_hours is None else lead_hours
    step = trained.timestep / _HOUR
    if longest < step or longest % step:
        raise ValueError(
            f'expected --lead_hours as a multiple of the model step, {step:g} h, got '
            f'{longest}'
        )
    lead_times = hours(step, longest, step=step)
    if init_times is None:
        init_times = default_init_times(trained, atmosphere, lead_times[-1])
    layout = make_layout(trained, atmosphere, init_times, lead_times)
    batches = stream(trained, atmosphere, layout, batch_size=settings.batch_size)
    total = len(layout.init_times) * len(layout.lead_times)
    with (
        ThreadedWriter(open_writer(output, layout, if_exists=if_exists)) as writer,
        tqdm(total=total, unit='field', disable=not sys.stderr.isatty()) as bar,
    ):
        for slab in batches:
            writer.write(slab.lead, slab.states, starts=slab.starts)
            bar.update(len(slab.states))
    print(
        f'{len(layout.init_times)} forecasts of {longest} h, every {step:g} h, '
        f'in {output}'
    )


def default_init_times(
    trained: Run, atmosphere: Atmosphere, longest: np.timedelta64
) -> np.ndarray:
    """Starts in the test period whose longest lead time ends within it.

    Those at which the store holds NaN are left out, and counted in the log.

    Raises:
      ValueError: there is none.
    """
    setup = trained.setup
    times = atmosphere.dataset.sel(time=slice(*setup.data.test)).time.values
    every = setup.forecast.init_every_hours * _HOUR
    fits = (
        times[((times - times[0]) % every == 0) & (times + longest <= times[-1])]
        if times.size
        else times
    )
    if not fits.size:
        raise ValueError(
            f'expected a test period longer than {longest / _HOUR:g} h, got '
            f'{times.size} times between {" and ".join(setup.data.test)} in '
            f'{atmosphere.source}; name starts with --init_times'
        )
    starts = atmosphere.dataset.sel(time=fits)
    invalid = invalid_times(starts, atmosphere.levels)
    if invalid.size:
        _LOGGER.warning('%d starts left out: NaN in the store', invalid.size)
    return fits[~np.isin(fits, invalid)]


def make_layout(
    trained: Run,
    atmosphere: Atmosphere,
    init_times: Sequence[str] | Sequence[np.datetime64] | np.ndarray,
    lead_times: np.ndarray,
) -> ForecastLayout:
    """Starts, lead times, channels and provenance of forecasts, checked.

    Raises:
      ValueError: a start that the store lacks, or a lead time between model steps.
    """
    layout = ForecastLayout(
        channels=trained.model.channels,
        grid=trained.model.grid,
        init_times=np.asarray(init_times, 'datetime64[ns]'),
        lead_times=np.asarray(lead_times),
        provenance={**trained.provenance, 'initial_states': atmosphere.source},
    )
    missing = layout.init_times[~np.isin(layout.init_times, atmosphere.times)]
    if missing.size:
        raise ValueError(
            f'expected starts among the times of {atmosphere.source} '
            f'({_minute(atmosphere.times[0])} to {_minute(atmosphere.times[-1])}), '
            f'got {", ".join(map(_minute, missing[:3]))}'
        )
    off_step = layout.lead_times[layout.lead_times % trained.timestep != 0]
    if off_step.size or layout.lead_times[0] <= np.timedelta64(0):
        raise ValueError(
            f'expected lead times that are multiples of the model step of '
            f'{trained.timestep / _HOUR:g} h, got {layout.lead_times / _HOUR} h'
        )
    return layout


def stream(
    trained: Run, atmosphere: Atmosphere, layout: ForecastLayout, *, batch_size: int
) -> Iterator[Slab]:
    """Yields forecasts lead time by lead time, `batch_size` starts together.

    Values are as the model gives them; writers, and `run`, refuse any that is not
    finite.
    """
    advance = jax.jit(_advance, donate_argnums=2)
    normalize = jax.jit(Forecaster.normalize)
    to_si = jax.jit(Forecaster.denormalize)
    count = len(layout.init_times)
    batch_size = min(batch_size, count)
    for first in range(0, count, batch_size):
        starts = slice(first, min(first + batch_size, count))
        # The last batch repeats its last start, so that one program serves all.
        positions = np.minimum(np.arange(first, first + batch_size), count - 1)
        init_times = layout.init_times[positions]
        fields = _initial_fields(atmosphere, layout, init_times)
        state = normalize(trained.model, fields)
        valid_times = init_times
        for lead, lead_time in enumerate(layout.lead_times):
            while np.any(valid_times < init_times + lead_time):
                valid_times = valid_times + trained.timestep
                phases = clock(valid_times, timestep=trained.timestep)
                forcing = Forcing(phases)
                state = advance(trained.variables, trained.model, state, forcing)
            states = np.asarray(to_si(trained.model, state))
            states = states[: starts.stop - starts.start]
            yield Slab(starts, lead, states)


def _initial_fields(
    atmosphere: Atmosphere, layout: ForecastLayout, init_times: np.ndarray
) -> dict[str, np.ndarray]:
    """Reads `[start, level, lat, lon]` of every variable; refuses NaN."""
    fields = {}
    for name, levels in layout.channels.levels.items():
        field = atmosphere.dataset[name].sel(time=init_times)
        field = field.sel(level=list(levels)) if levels else field.expand_dims('level')
        values = field.transpose('time', 'level', ...).values
        finite = np.isfinite(values).all(axis=(2, 3))
        if not finite.all():
            start, level = np.argwhere(~finite)[0]
            raise ValueError(
                f'expected finite initial states, found NaN in {name} at '
                f'{levels[level] if levels else "the surface"} on '
                f'{_minute(init_times[start])} in {atmosphere.source}; leave that '
                'start out'
            )
        fields[name] = values
    return fields


def _advance(
    weights: Weights, model: Forecaster, state: jax.Array, forcing: Forcing
) -> jax.Array:
    steps = jax.tree.map(lambda leaf: leaf[None], forcing)
    return model.rollout(weights, state, steps)[-1]


def _minute(time: np.datetime64) -> str:
    return str(time.astype('datetime64[m]'))
