"""Worker: the flagship on random data.

A case is `{'measure': 'step', 'forecast' or 'update', 'size': 'full' or 'tiny',
'precision': ..., 'num_steps': of an update's rollout}`; a precision of None is that of
the config. Each case in a fresh worker: only then is the peak of the process its own.
The case `{'measure': 'memory'}` reports that peak.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import programs
from benchmarks.peers import Prepared
from configs import era5_256
from learning.update import init_train_state, make_update
from weather.data.forcings import clock
from weather.experiment import Experiment
from weather.model.forecaster import Forecaster, Weights
from weather.model.loss import channel_weights
from weather.model.state import Forcing
from weather.training.loss import DeviceBatch, make_loss

SIX_HOURS = np.timedelta64(6, 'h')
FORECAST_STEPS = 20  # Five days.

versions = programs.versions


def prepare(case: dict[str, Any]) -> Prepared:
    """Sets a case of the module's docstring up; its first run is a warm-up."""
    if case['measure'] == 'memory':
        return Prepared({}, {'process_gib': programs.process_gib()})
    setup = SIZES[case['size']]()
    if case['precision'] is not None:
        setup = with_precision(setup, case['precision'])
    if case['measure'] == 'update':
        return prepare_update(setup, num_steps=case['num_steps'])
    return {'step': prepare_step, 'forecast': prepare_forecast}[case['measure']](setup)


def full_size() -> Experiment:
    """The experiment of `configs/era5_256.py`."""
    return Experiment.from_config(era5_256.get_config())


def tiny() -> Experiment:
    """The same on few points and with few channels: to try the program out."""
    sizes = {
        'grid.num_lat': 16,
        'grid.num_lon': 16,
        'model.latent.num_lat': 8,
        'model.latent.num_lon': 8,
        'model.scalar_channels': 4,
        'model.vector_channels': 4,
        'model.num_blocks': 1,
        'model.num_knots': 3,
    }
    return full_size().with_changes(sizes)


SIZES: dict[str, Callable[[], Experiment]] = {'full': full_size, 'tiny': tiny}


def with_precision(setup: Experiment, precision: str) -> Experiment:
    """The same experiment with another `model.precision`."""
    return setup.with_changes({'model.precision': precision})


def random_batch(setup: Experiment, num_steps: int) -> DeviceBatch:
    """One window of `num_steps` steps: white noise of variance one."""
    random = np.random.default_rng(0)
    fields = {
        name: jnp.asarray(
            random.standard_normal(
                (1, num_steps + 1, max(len(levels), 1), *setup.grid.shape), np.float32
            )
        )
        for name, levels in setup.data.channels.levels.items()
    }
    return DeviceBatch(fields, jnp.asarray(clocks(num_steps)[None]))


def clocks(num_steps: int) -> np.ndarray:
    """Where sun and clock stand at the ends of steps, `[step, phase]`."""
    times = np.datetime64('2020-01-01', 'h') + np.arange(1, num_steps + 1) * SIX_HOURS
    return clock(times, timestep=SIX_HOURS)


def prepare_update(setup: Experiment, *, num_steps: int) -> Prepared:
    """Operation `'update'`: a training update with a rollout of `num_steps`."""
    model = Forecaster.without_data(setup)
    weights = model.init(jax.random.key(setup.training.seed))
    state = init_train_state(weights, setup.training)
    batch = random_batch(setup, num_steps)
    loss = make_loss(channel_weights(model.channels, setup.loss), setup.training)
    update = make_update(loss, setup.training)
    program, compilation = programs.compile_program(update, state, model, batch)
    programs.require_memory(program)

    def run() -> Any:
        nonlocal state
        # The program takes the state's place: it goes on from its own result.
        state, metrics = jax.block_until_ready(program(state, model, batch))
        return metrics

    metrics = run()
    facts = {
        'compilation_s': compilation,
        'program_gib': programs.program_gib(program),
        'loss': float(metrics.loss),
        'updates': int(state.update),
        'parameters': sum(x.size for x in jax.tree.leaves(state.weights['params'])),
    }
    return Prepared({'update': run}, facts)


def prepare_step(setup: Experiment) -> Prepared:
    """Operation `'step'`: one step of the model; the state stays on the device."""
    model, variables, state = _start(setup)
    program, compilation = compile_step(model, variables, state)
    phases = clocks(1)

    def run() -> None:
        nonlocal state
        # As in an update, the old state is gone.
        state = program(variables, model, state, phases).block_until_ready()

    run()
    facts = {
        'compilation_s': compilation,
        'program_gib': programs.program_gib(program),
        'flops': (program.cost_analysis() or {}).get('flops'),
    }
    return Prepared({'step': run}, facts)


def prepare_forecast(setup: Experiment) -> Prepared:
    """Operation `'forecast'`: five days as the product makes them.

    One compiled step after the other; every state goes to the host in SI units.
    """
    model, variables, state = _start(setup)
    program, compilation = compile_step(model, variables, state)
    denormalize = jax.jit(Forecaster.denormalize)
    to_si, _ = programs.compile_program(denormalize, model, state)

    def run() -> np.ndarray:
        nonlocal state
        for phases in clocks(FORECAST_STEPS):
            state = program(variables, model, state, phases[None])
            fields = np.asarray(to_si(model, state))
        return fields

    fields = run()
    facts = {
        'compilation_s': compilation,
        'program_gib': programs.program_gib(program),
        'finite': bool(np.isfinite(fields).all()),
        'shape': fields.shape,
    }
    return Prepared({'forecast': run}, facts)


def compile_step(
    model: Forecaster, variables: Weights, state: jax.Array
) -> programs.Compiled:
    """The step as forecasts compile it: the new state takes the place of the old.

    Raises:
      MemoryError: this machine cannot run it.
    """
    advance = jax.jit(_advance, donate_argnums=2)
    phases = np.broadcast_to(clocks(1), (len(state), clocks(1).shape[-1]))
    compiled = programs.compile_program(advance, variables, model, state, phases)
    programs.require_memory(compiled.program)
    return compiled


def _advance(
    variables: Weights, model: Forecaster, state: jax.Array, phases: jax.Array
) -> jax.Array:
    return model.rollout(variables, state, Forcing(phases[None]))[-1]


def _start(setup: Experiment) -> tuple[Forecaster, Weights, jax.Array]:
    """A new model, its variables and a state `[1, lat, lon, channel]`."""
    model = Forecaster.without_data(setup)
    variables = jax.block_until_ready(model.init(jax.random.key(0)))
    fields = {name: f[:, 0] for name, f in random_batch(setup, 1).fields.items()}
    return model, variables, jax.jit(Forecaster.normalize)(model, fields)
