"""Worker: what `model.precision = 'bfloat16'` changes, beside float32.

Two kinds of case:

- `{'measure': 'random', 'size': 'full' or 'tiny'}`: the flagship with random
  parameters, all of them at work, from a smooth random state. Operations `'float32'`
  and `'bfloat16'`: one step of the model.
- `{'measure': 'trained', 'workdir': PATH, 'num_starts'}`: a trained run, from starts
  of its test period. No operations; facts hold scores against the truth.

Both report the difference of forecasts from the same parameters and states, after 1
and 20 steps, as fractions of the state and of its change since the start.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import programs
from benchmarks.flagship import (
    FORECAST_STEPS,
    SIZES,
    clocks,
    compile_step,
    with_precision,
)
from benchmarks.model_tables import PRECISIONS
from benchmarks.peers import Prepared
from sphere_ops import LatLonGrid
from sphere_ops.layers import SpectralBatchNorm
from sphere_ops.operators import inverse_laplacian, winds_from_vorticity_divergence
from sphere_ops.testing import random_coefficients
from weather.data.store import Atmosphere
from weather.evaluation.evaluate import HEADLINE, evaluate
from weather.evaluation.headlines import HEADLINES
from weather.experiment import Experiment
from weather.forecasting import forecast
from weather.forecasting.layout import ForecastLayout, to_dataset
from weather.forecasting.run import Run, load_run
from weather.model.forecaster import Forecaster, Weights
from weather.model.state import Forcing, from_spin_fields

LEADS = (1, FORECAST_STEPS)
# A step of six hours changes most fields by about a tenth of their spread.
TENDENCY = 0.1
PERTURBATION = 0.3

versions = programs.versions


def prepare(case: dict[str, Any]) -> Prepared:
    """Sets a case of the module's docstring up."""
    if case['measure'] == 'trained':
        return prepare_trained(case['workdir'], num_starts=case['num_starts'])
    return prepare_random(SIZES[case['size']]())


def prepare_random(setup: Experiment) -> Prepared:
    """The flagship with random parameters in both precisions."""
    models = {p: Forecaster.without_data(with_precision(setup, p)) for p in PRECISIONS}
    start = smooth_state(models['float32'])
    variables = lively_variables(models['float32'], start)
    compiled = {p: compile_step(m, variables, start) for p, m in models.items()}
    runners = {
        p: _Runner(compiled[p].program, variables, model, start)
        for p, model in models.items()
    }
    # In the order of PRECISIONS.
    exact, rounded = (runners[p].forecast() for p in PRECISIONS)
    facts = {
        'compilation_s': {p: c.seconds for p, c in compiled.items()},
        'differences': {
            lead: difference(
                rounded[lead], exact[lead], start=np.asarray(start), grid=setup.grid
            )
            for lead in LEADS
        },
    }
    return Prepared({p: runner.step for p, runner in runners.items()}, facts)


class _Runner:
    """Steps of a compiled model, one after the other.

    Args:
      program: from `compile_step`; it takes the place of the state it is given.
      variables: of the model.
      model: the model.
      start: state `[start, lat, lon, channel]`, kept.
    """

    def __init__(
        self, program: Any, variables: Weights, model: Forecaster, start: jax.Array
    ):
        self._program, self._constants = program, (variables, model)
        # A copy: the program takes the place of what it is given.
        self._start, self._state = start, jnp.copy(start)

    def step(self, phases: np.ndarray | None = None) -> None:
        """Advances the state."""
        phases = clocks(1) if phases is None else phases
        self._state = self._program(*self._constants, self._state, phases)
        self._state.block_until_ready()

    def forecast(self) -> dict[int, np.ndarray]:
        """The states after each of `LEADS` steps."""
        self._state, states = jnp.copy(self._start), {}
        for lead, phases in enumerate(clocks(max(LEADS)), start=1):
            self.step(phases[None])
            if lead in LEADS:
                # Copied too, before the next step overwrites it.
                states[lead] = np.array(self._state)
        return states


def smooth_state(model: Forecaster) -> jax.Array:
    """A random state with spectra as the atmosphere's, every channel of variance one.

    Scalars and stream functions have coefficients ~ 1 / l (l + 1), variance per degree
    ~ l^-3. White noise would lie outside what the network sees.

    Returns:
      `[1, lat, lon, channel]`, normalised.
    """
    num_scalars, num_winds = len(model.channels.scalars), len(model.channels.winds)
    transform = model.transforms.state
    noise = random_coefficients(
        jax.random.key(0),
        spins=(0,),
        max_degree=transform.max_degree,
        channels=num_scalars + 2 * num_winds,
        batch_shape=(1,),
    )[0]
    scalars, curl, flow = jnp.split(
        noise, [num_scalars, num_scalars + num_winds], axis=-1
    )
    coefficients = inverse_laplacian({0: scalars})
    if num_winds:
        coefficients |= winds_from_vorticity_divergence({0: curl}, {0: flow})
    state = from_spin_fields(transform.to_grid(coefficients), model.channels)
    return state / jnp.sqrt(jnp.square(state).mean(axis=(0, 1, 2)))


def lively_variables(model: Forecaster, state: jax.Array) -> Weights:
    """Random variables with which every layer does something, as after a training.

    A new model's output kernels are zero, so that it forecasts persistence in any
    precision. Here all parameters are disturbed, the norms' moments are those of
    `state`, and the output is scaled to a tendency of `TENDENCY`.
    """
    variables = model.init(jax.random.key(0))
    past = variables['batch_stats']
    params = disturb(variables['params'])
    step = jax.jit(Forecaster.train_step)
    forcing = Forcing(clocks(1))
    _, updated = step(model, {'params': params, 'batch_stats': past}, state, forcing)
    memory = SpectralBatchNorm.momentum
    # Undoes the running mean: what the norms saw of this one batch.
    moments = jax.tree.map(
        lambda new, old: (new - memory * old) / (1 - memory), updated, past
    )
    variables = {'params': params, 'batch_stats': moments}
    following = jax.jit(Forecaster.step)(model, variables, state, forcing)
    factor = TENDENCY / jnp.sqrt(jnp.square(following - state).mean())
    outputs = {
        name: jax.tree.map(lambda kernel: kernel * factor, params[name])
        for name in params
        if name.startswith('output')
    }
    return {'params': {**params, **outputs}, 'batch_stats': moments}


def disturb(params: Any) -> Any:
    """Adds fixed noise to parameters: to kernels, as much as keeps variances of one."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))

    def noise(key: jax.Array, leaf: jax.Array) -> jax.Array:
        # Sums over `fan_in` inputs then vary as much whatever their number.
        fan_in = leaf.shape[-2] if leaf.ndim > 1 else 1
        return PERTURBATION * jax.random.normal(key, leaf.shape) / np.sqrt(fan_in)

    disturbed = [leaf + noise(k, leaf) for k, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, disturbed)


def difference(
    state: np.ndarray, reference: np.ndarray, *, start: np.ndarray, grid: LatLonGrid
) -> dict[str, float]:
    """How far a state is from another, both forecast from the same start.

    Args:
      state: normalised, `[..., lat, lon, channel]`.
      reference: the other one.
      start: the state that both began with.
      grid: of the states; the root mean squares are weighted with its areas.

    Returns:
      Root mean square of the difference, over all channels, as a fraction of that of
      `reference` and of the change `reference - start`; the latter for the worst
      channel too; and the change itself, in units of the spread.
    """
    error = _channel_square(state - reference, grid)
    change = _channel_square(reference - start, grid)
    size = _channel_square(reference, grid)
    return {
        'of_state': float(np.sqrt(error.mean() / size.mean())),
        'of_change': float(np.sqrt(error.mean() / change.mean())),
        'of_change_worst_channel': float(np.sqrt((error / change).max())),
        'change': float(np.sqrt(change.mean())),
    }


def _channel_square(field: np.ndarray, grid: LatLonGrid) -> np.ndarray:
    """Area-weighted mean square `[channel]`, in float64."""
    squares = np.square(field.astype(np.float64))
    per_row = squares.mean(axis=(*range(squares.ndim - 3), -2))
    return np.einsum('yc,y->c', per_row, grid.area_weights) / grid.num_lat


def prepare_trained(workdir: str, *, num_starts: int) -> Prepared:
    """Forecasts of a trained run in both precisions, and their scores."""
    trained = load_run(workdir)
    atmosphere = forecast.open_store(trained)
    lead_times = trained.timestep * np.array(LEADS)
    starts = forecast.default_init_times(trained, atmosphere, lead_times[-1])
    spread_out = np.linspace(0, len(starts) - 1, min(num_starts, len(starts)))
    layout = forecast.make_layout(
        trained, atmosphere, starts[spread_out.astype(int)], lead_times
    )
    states = {p: _forecasts(trained, p, atmosphere, layout) for p in PRECISIONS}
    normalizer = trained.model.normalizer
    start, exact, rounded = (
        np.asarray(normalizer.normalize(jnp.asarray(s)))
        for s in (_initial_states(atmosphere, layout), *states.values())
    )
    facts = {
        'num_starts': len(layout.init_times),
        'rmse': {p: headline_rmse(s, layout, atmosphere) for p, s in states.items()},
        'differences': {
            lead: difference(rounded[:, i], exact[:, i], start=start, grid=layout.grid)
            for i, lead in enumerate(LEADS)
        },
    }
    return Prepared({}, facts)


def _forecasts(
    trained: Run, precision: str, atmosphere: Atmosphere, layout: ForecastLayout
) -> np.ndarray:
    """States `[start, lead, lat, lon, channel]`, SI units."""
    setup = with_precision(trained.setup, precision)
    old = trained.model
    model = Forecaster.create(setup, old.normalizer, old.statics, old.input_normalizer)
    run = dataclasses.replace(trained, setup=setup, model=model)
    shape = (len(layout.init_times), len(LEADS), *layout.grid.shape)
    states = np.empty((*shape, len(layout.channels)), np.float32)
    batch_size = setup.forecast.batch_size
    for slab in forecast.stream(run, atmosphere, layout, batch_size=batch_size):
        states[slab.starts, slab.lead] = slab.states
    return states


def _initial_states(atmosphere: Atmosphere, layout: ForecastLayout) -> np.ndarray:
    """States of the store `[start, lat, lon, channel]`, SI units."""
    fields = []
    for name, levels in layout.channels.levels.items():
        field = atmosphere.dataset[name].sel(time=layout.init_times)
        field = field.sel(level=list(levels)) if levels else field.expand_dims('level')
        fields.append(field.transpose('time', ..., 'level').values)
    return np.concatenate(fields, axis=-1)


def headline_rmse(
    states: np.ndarray, layout: ForecastLayout, atmosphere: Atmosphere
) -> dict[str, dict[str, Any]]:
    """Global RMSE of the headline fields that the forecasts have.

    Returns:
      `{field: {'unit', 'digits', 'values': one per lead of LEADS}}`.
    """
    levels = layout.channels.levels
    scored = {
        name: wanted
        for name, wanted in HEADLINE.items()
        if set(wanted) <= set(levels.get(name, ()))
    }
    scores = evaluate(
        to_dataset(states, layout),
        atmosphere.dataset,
        levels=scored,
        regions=('global',),
        baselines=(),
    ).rmse.squeeze(('model', 'region'))
    return {
        field.name: {
            'unit': field.in_scores.unit,
            'digits': field.in_scores.digits,
            'values': [
                float(value) * field.in_scores.scale
                for value in scores.sel(variable=field.scored, level=field.level)
            ],
        }
        for field in HEADLINES
        if set(field.components) <= set(scored)
    }
