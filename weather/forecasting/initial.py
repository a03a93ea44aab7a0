"""What a forecast reads of a store: initial states, and inputs at valid times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from weather.data.forcings import clock
from weather.data.store import Atmosphere
from weather.data.windows import invalid_times
from weather.forecasting.layout import ForecastLayout
from weather.forecasting.run import Run
from weather.forecasting.starts import time_text
from weather.model.state import Forcing


def check_initial_states(atmosphere: Atmosphere, layout: ForecastLayout) -> None:
    """Reads all initial states before the first forecast is made; refuses NaN.

    Raises:
      ValueError: naming start, variable and level.
    """
    levels = layout.channels.prognostic.levels
    starts = atmosphere.dataset.sel(time=layout.init_times)
    invalid = invalid_times(starts, levels)
    if invalid.size:  # To be read once more, which says where and what.
        _read(atmosphere, levels, invalid[:1], 'initial states')


def check_inputs(trained: Run, atmosphere: Atmosphere, layout: ForecastLayout) -> None:
    """Finds out whether the store holds the inputs at every valid time.

    Raises:
      ValueError: naming the first time that it lacks; or 0 h is asked for of a variable
        that is only an output, which has no value then.
    """
    outputs = layout.channels.outputs
    if outputs and not layout.lead_times[0]:
        raise ValueError(
            f'expected lead times above 0 h: {", ".join(sorted(outputs))} is made by '
            'the first step and not known before; leave out the initial states'
        )
    # All before the first step, and not when a forecast has come that far.
    names = ', '.join(trained.model.inputs.variables)
    num_steps = int(layout.lead_times[-1] / trained.timestep)
    steps = trained.timestep * np.arange(1, num_steps + 1)
    valid_times = np.unique(layout.init_times[:, None] + steps)
    missing = valid_times[~np.isin(valid_times, atmosphere.times)]
    if names and missing.size:
        raise ValueError(
            f'expected {names} at every valid time, {atmosphere.source} lacks '
            f'{missing.size} of {valid_times.size}, the first {time_text(missing[0])}; '
            'name a store that has them with --store, or forecast fewer hours'
        )


def read_forcing(
    trained: Run, atmosphere: Atmosphere, valid_times: np.ndarray
) -> Forcing:
    """What a step to `valid_times` reads beside the state."""
    phases = clock(valid_times, timestep=trained.timestep)
    levels = trained.model.inputs.levels
    inputs = _read(atmosphere, levels, valid_times, 'inputs')
    return trained.model.forcing(phases, inputs)


def read_initial_fields(
    atmosphere: Atmosphere, layout: ForecastLayout, init_times: np.ndarray
) -> dict[str, Any]:
    """`[start, level, lat, lon]` of every variable of a state; zeros of outputs."""
    channels = layout.channels
    levels_of = channels.prognostic.levels
    fields = _read(atmosphere, levels_of, init_times, 'initial states')
    for name in channels.outputs:
        levels = max(len(channels.levels[name]), 1)
        shape = (len(init_times), levels, *layout.grid.shape)
        # To complete the state: the first step makes them and does not read them.
        fields[name] = np.zeros(shape, np.float32)
    return fields


def _read(
    atmosphere: Atmosphere,
    levels_of: Mapping[str, Sequence[float]],
    times: np.ndarray,
    what: str,
) -> dict[str, Any]:
    """Reads `[start, level, lat, lon]` of some variables; refuses NaN."""
    fields: dict[str, Any] = {}
    for name, levels in levels_of.items():
        field = atmosphere.dataset[name].sel(time=times)
        field = field.sel(level=list(levels)) if levels else field.expand_dims('level')
        values = field.transpose('time', 'level', ...).values
        finite = np.isfinite(values).all(axis=(2, 3))
        if not finite.all():
            start, level = np.argwhere(~finite)[0]
            raise ValueError(
                f'expected finite {what}, found NaN in {name} at '
                f'{levels[level] if levels else "the surface"} on '
                f'{time_text(times[start])} in {atmosphere.source}; leave that '
                'start out'
            )
        fields[name] = values
    return fields
