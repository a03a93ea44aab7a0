"""Training from a config to the last checkpoint; started again, it goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from learning import provenance
from learning.checkpoint import Checkpoints
from weather.data.forcings import clock
from weather.data.loader import GIGABYTE, Batch, Loader
from weather.data.preparation import Preparation, prepare_run
from weather.data.store import Atmosphere, open_atmosphere
from weather.data.windows import WindowIndex
from weather.experiment import Experiment
from weather.model.forecaster import Forecaster
from weather.model.loss import channel_weights
from weather.training.metrics import MetricsWriter, Stopwatch
from weather.training.sharding import (
    check_batch_size,
    make_mesh,
    replicated,
    split_batch,
)
from weather.training.update import (
    DeviceBatch,
    Metrics,
    TrainState,
    init_train_state,
    learning_rate_schedule,
    make_update,
    make_validation,
)
from weather.workdir import Workdir

_HOUR = np.timedelta64(1, 'h')


def train(setup: Experiment, workdir: str | pathlib.Path) -> None:
    """Trains an experiment, from the newest checkpoint in `workdir` if there is one.

    Args:
      setup: the experiment.
      workdir: run directory; claimed for this experiment.

    Raises:
      WorkdirError: the directory holds a run of another config.
      ValueError: the data do not fit the config; says how.
      FloatingPointError: the loss is not finite.
    """
    files = Workdir(workdir)
    mesh = make_mesh()
    check_batch_size(setup.training.batch_size, mesh)
    atmosphere = open_training_store(setup)
    check_periods(setup, atmosphere)
    files.claim(setup)
    prepared = prepare_run(setup, atmosphere, files)
    loaders = make_loaders(setup, atmosphere, prepared)
    timestep = loaders.training.windows.timestep
    model = make_model(setup, atmosphere, prepared)
    print(_banner(setup, model, loaders, timestep), flush=True)

    with Checkpoints(files.checkpoints, keep=setup.training.keep_checkpoints) as saved:
        model = jax.device_put(model, replicated(mesh))
        state = jax.device_put(
            init_train_state(model, setup.training), replicated(mesh)
        )
        if saved.latest is not None:
            state, model = _restore(saved, state, model)
            print(f'resuming after update {int(state.update)}', flush=True)
        to_device = functools.partial(_to_device, mesh=mesh, timestep=timestep)
        _loop(setup, files, saved, model, state, loaders, to_device)


@dataclasses.dataclass(frozen=True)
class Loaders:
    """Batches for training and for validation."""

    training: Loader
    validation: Loader


def open_training_store(setup: Experiment) -> Atmosphere:
    """Opens the store of an experiment, with its statics."""
    data = setup.data
    return open_atmosphere(
        data.store,
        levels=data.channels.levels,
        statics=data.statics,
        grid=setup.grid,
        storage_options=data.storage_options,
    )


def check_periods(setup: Experiment, atmosphere: Atmosphere) -> None:
    """Finds out, before anything is written, whether a period is too short.

    Raises:
      ValueError: the store has no window of a rollout that the curriculum asks for.
    """
    for period in (setup.data.train, setup.data.validation):
        windows = WindowIndex(atmosphere.times, period=period)
        for num_steps in {1, setup.training.max_steps}:
            windows.starts(num_steps)


def make_loaders(
    setup: Experiment, atmosphere: Atmosphere, prepared: Preparation
) -> Loaders:
    """Builds the loaders of both periods, without windows that touch a NaN."""
    data, training = setup.data, setup.training
    invalid = prepared.invalid_times

    def loader(period: tuple[str, str], seed: int, cache_gb: float) -> Loader:
        return Loader(
            atmosphere,
            WindowIndex(atmosphere.times, period=period, invalid=invalid),
            batch_size=training.batch_size,
            seed=seed,
            cache_bytes=int(cache_gb * GIGABYTE),
            prefetch_bytes=int(data.prefetch_gb * GIGABYTE),
            num_threads=data.num_threads,
        )

    # Validation batches are the same in every run, whatever its seed.
    return Loaders(
        loader(data.train, training.seed, data.cache_gb),
        loader(data.validation, seed=0, cache_gb=0),
    )


def make_model(
    setup: Experiment, atmosphere: Atmosphere, prepared: Preparation
) -> Forecaster:
    """Builds the model, scaled by the statistics of its training period."""
    stored = {name: atmosphere.dataset[name].values for name in setup.data.statics}
    return Forecaster.from_data(setup, prepared.statistics, stored)


def _loop(
    setup: Experiment,
    files: Workdir,
    saved: Checkpoints,
    model: Forecaster,
    state: TrainState,
    loaders: Loaders,
    to_device: Callable[[Batch], DeviceBatch],
) -> None:
    training = setup.training
    weights = channel_weights(model.channels, setup.loss)
    apply_update = make_update(training, weights)
    validate = functools.partial(
        _validate, setup, make_validation(weights), loaders.validation, to_device
    )
    first = int(state.update)
    metadata = _metadata(setup, model, loaders)
    batches = loaders.training.batches(first, training.num_updates, training.num_steps)
    with (
        contextlib.closing(batches),
        MetricsWriter(
            files, first_update=first, num_updates=training.num_updates
        ) as metrics,
    ):
        stopwatch, steps_compiled, previous = Stopwatch(first), 0, None
        for update, batch in enumerate(batches, start=first + 1):
            state, result = apply_update(state, model, to_device(batch))
            # One update runs while the next batch is sent; more would pile up there.
            jax.block_until_ready(previous)
            previous = result
            metrics.advance()
            last = update == training.num_updates
            if update % training.log_every == 0 or last:
                values = _values(training, update, result)
                values['updates_per_second'] = stopwatch.rate(update)
                metrics.write(update, len(result.lead_losses), values)
                metrics.say(_line(setup, update, values, loaders.training))
                stopwatch.start(update)
            if update % training.validate_every == 0 or last:
                values = validate(state, model)
                metrics.write(update, training.max_steps, values)
                metrics.say(_validation_line(update, values))
                stopwatch.start(update)
            if update % training.checkpoint_every == 0 or last:
                _check_finite(update, result)
                saved.save(update, **_items(setup, state, model, metadata))
                stopwatch.start(update)
            if len(result.lead_losses) != steps_compiled:
                jax.block_until_ready(result)
                steps_compiled = len(result.lead_losses)
                stopwatch.start(update)  # Compilation is not throughput.


def _values(training: Any, update: int, result: Metrics) -> dict[str, float]:
    """Named metrics of one update; refuses any that is not finite."""
    _check_finite(update, result)
    values = {
        'loss': float(result.loss),
        'gradient_norm': float(result.gradient_norm),
        'learning_rate': float(learning_rate_schedule(training)(update - 1)),
    }
    for step, loss in enumerate(np.asarray(result.lead_losses), start=1):
        values[f'loss_step_{step}'] = float(loss)
    return values


def _check_finite(update: int, result: Metrics) -> None:
    """Refuses to go on, or to save, what has become NaN."""
    loss, gradient = float(result.loss), float(result.gradient_norm)
    if not np.isfinite([loss, gradient]).all():
        raise FloatingPointError(
            f'the loss is {loss} and the norm of its gradient {gradient} in update '
            f'{update}; lower training.learning_rate or training.clip_norm and start '
            'again in another --workdir'
        )


def _validate(
    setup: Experiment,
    losses_of: Callable[..., jax.Array],
    loader: Loader,
    to_device: Callable[[Batch], DeviceBatch],
    state: TrainState,
    model: Forecaster,
) -> dict[str, float]:
    """Loss per step of the averaged weights, over the longest rollout trained on."""
    steps = setup.training.max_steps
    per_batch = [
        np.asarray(losses_of(state.average, model, to_device(loader.batch(i, steps))))
        for i in range(setup.training.validation_batches)
    ]
    losses = np.mean(per_batch, axis=0)
    values = {f'validation_loss_step_{i + 1}': float(v) for i, v in enumerate(losses)}
    return {'validation_loss': float(losses.sum()), **values}


def _to_device(batch: Batch, *, mesh: Any, timestep: np.timedelta64) -> DeviceBatch:
    clocks = clock(batch.valid_times[:, 1:], timestep=timestep)
    return DeviceBatch(*split_batch(mesh, (batch.fields, clocks)))


def _items(
    setup: Experiment,
    state: TrainState,
    model: Forecaster,
    metadata: Mapping[str, Any],
) -> dict[str, Any]:
    """What a checkpoint holds."""
    loader = {'seed': setup.training.seed, 'next_update': int(state.update)}
    return {
        'training': _training_item(state),
        'forecast': model.items(state.average),
        'metadata': {**metadata, 'loader': loader},
    }


def _metadata(setup: Experiment, model: Forecaster, loaders: Loaders) -> dict[str, Any]:
    """What does not change while a run goes on."""
    timestep = loaders.training.windows.timestep
    return {
        'config': setup.to_dict(),
        'config_hash': setup.digest,
        'timestep_seconds': int(timestep / np.timedelta64(1, 's')),
        'num_parameters': model.num_parameters,
        'code_version': provenance.code_version(),
        'git_commit': provenance.git_commit(),
    }


def _restore(
    saved: Checkpoints, state: TrainState, model: Forecaster
) -> tuple[TrainState, Forecaster]:
    """Reads the newest checkpoint: the state, and the scales it was trained with."""
    training = saved.restore_training(_training_item(state))
    forecast = saved.restore_forecast(model.items(state.average))
    model, average = model.with_items(forecast)
    return TrainState(average=average, **training), model


def _training_item(state: TrainState) -> dict[str, Any]:
    return {
        'update': state.update,
        'variables': state.variables,
        'optimizer': state.optimizer,
    }


def _banner(
    setup: Experiment, model: Forecaster, loaders: Loaders, timestep: np.timedelta64
) -> str:
    windows = loaders.training.windows.starts(setup.training.num_steps(0))
    seen = ' and '.join(setup.data.trained_on)
    warning = f'\nwarning: {seen} overlap training: scores there show no skill'
    return (
        f'{setup.data.store}: {setup.grid.num_lat}x{setup.grid.num_lon} '
        f'{setup.grid.kind} grid, {len(model.channels)} channels, '
        f'step {timestep / _HOUR:g} h, {len(windows)} training windows\n'
        f'model: {model.num_parameters:,} parameters; devices: {len(jax.devices())} '
        f'{jax.devices()[0].platform}; config {setup.digest}{warning if seen else ""}'
    )


def _line(
    setup: Experiment, update: int, values: dict[str, float], loader: Loader
) -> str:
    hours = loader.windows.timestep / _HOUR
    leads = [value for name, value in values.items() if name.startswith('loss_step_')]
    shown = ', '.join(f'{(i + 1) * hours:g} h {v:.3f}' for i, v in enumerate(leads))
    rate = values['updates_per_second']
    return (
        f'update {update}/{setup.training.num_updates}  loss {values["loss"]:.3f} '
        f'({shown})  gradient {values["gradient_norm"]:.2f}  {rate:.2f} updates/s '
        f'{rate * setup.training.batch_size:.1f} windows/s'
    )


def _validation_line(update: int, values: dict[str, float]) -> str:
    leads = [v for name, v in values.items() if name.startswith('validation_loss_')]
    shown = ', '.join(f'{loss:.3f}' for loss in leads)
    return f'update {update}  validation loss {values["validation_loss"]:.3f} ({shown})'
