"""Training from a config to the last checkpoint; started again, it goes on."""

from __future__ import annotations

import pathlib

import jax
import numpy as np

from learning import lock
from learning.checkpoint import Checkpoints
from learning.files import clear_leftovers
from learning.fit import Record, fit, has_ended
from learning.sharding import check_batch_size, make_mesh
from weather.data.loader import GIGABYTE, Loader, Part
from weather.data.preparation import Preparation, prepare_run
from weather.data.sources import named_by
from weather.data.store import Atmosphere, open_atmosphere
from weather.data.windows import WindowIndex, model_step
from weather.experiment import Experiment
from weather.model.forecaster import Forecaster
from weather.training.origin import Origin
from weather.training.task import Loaders, WeatherTask
from weather.workdir import Workdir

_HOUR = np.timedelta64(1, 'h')


def train(setup: Experiment, workdir: str | pathlib.Path) -> None:
    """Trains an experiment, from the newest whole checkpoint in `workdir` if any.

    Raises:
      WorkdirError: the directory, or a checkpoint in it, is of another config.
      LockedError: another process trains there.
      CheckpointError: there are checkpoints, and all are damaged.
      ValueError: the data do not fit the config; says how.
      FloatingPointError: the training has failed.
      OSError: something cannot be read or written.
      Interrupted: a signal has asked to end; what was done is saved.
    """
    files = Workdir(workdir)
    # Cheap refusals first, and before the directory is touched.
    check_batch_size(setup.training.batch_size, make_mesh())
    atmosphere = open_training_store(setup)
    check_periods(setup, atmosphere)
    with lock.hold(files.path, work='training'):
        keep, best = setup.training.keep_checkpoints, setup.training.keep_best
        with Checkpoints(files.checkpoints, keep=keep, keep_best=best) as saved:
            newest = saved.newest_whole()
            metadata = None if newest is None else saved.metadata(newest)
            setup = files.claim(setup, metadata)
            clear_leftovers(files.path)
            saved.clear_leftovers()
            _train(setup, files, saved, atmosphere, newest)


def _train(
    setup: Experiment,
    files: Workdir,
    saved: Checkpoints,
    atmosphere: Atmosphere,
    newest: int | None,
) -> None:
    # Before preparation, which may read all of the data: there may be nothing to do.
    last = setup.training.total_updates
    if newest is not None:
        ended = has_ended(saved.metadata(newest), setup.training)
        if ended or newest >= last:
            why = ', where no validation was better for long enough' * ended
            print(
                f'nothing left to do: {files.checkpoints}/{newest} is of update '
                f'{newest} of {last}{why}; raise training.num_updates, or add to '
                'training.stages, to go on'
            )
            return
    # The checkpoints of a run that has begun hold all that it took from another.
    origin = Origin.read(setup) if newest is None else None
    prepared = prepare_run(setup, atmosphere, files)
    loaders = make_loaders(setup, atmosphere, prepared)
    model = make_model(setup, atmosphere, prepared)
    if origin is not None:
        print(origin.summary(model), flush=True)
        model = origin.scaled(model)
    task = WeatherTask(setup, model, loaders, make_mesh(), origin)
    print(_banner(setup, task, loaders), flush=True)
    if newest is not None:
        print(f'resuming after update {newest}', flush=True)
    fit(
        task,
        setup.training,
        saved,
        resume_from=newest,
        record=Record(
            files.losses, files.tensorboard, files.failures, files.failure_report
        ),
    )


def open_training_store(setup: Experiment) -> Atmosphere:
    """Opens the store of an experiment, with its statics."""
    data = setup.data
    with named_by('--config.data.store'):
        return open_atmosphere(
            data.store,
            levels=data.stored.levels,
            statics=data.statics,
            grid=setup.grid,
            storage_options=data.options,
        )


def check_periods(setup: Experiment, atmosphere: Atmosphere) -> None:
    """Finds out, before anything is written, whether the store serves the config.

    Raises:
      ValueError: the store has no such step, or in a period no window of a rollout that
        the curriculum asks for.
    """
    step = model_step(atmosphere.times, setup.data.timestep_hours)
    for period in (setup.data.train, setup.data.validation):
        windows = WindowIndex(atmosphere.times, period=period, timestep=step)
        for num_steps in {1, setup.training.max_steps}:
            windows.starts(num_steps)


def make_loaders(
    setup: Experiment, atmosphere: Atmosphere, prepared: Preparation
) -> Loaders:
    """Builds the loaders of both periods, for this process and without NaN."""
    data, training = setup.data, setup.training
    step = model_step(atmosphere.times, data.timestep_hours)

    def loader(
        period: tuple[str, str], seed: int, cache_gb: float, prefetch_gb: float
    ) -> Loader:
        return Loader(
            atmosphere,
            WindowIndex(
                atmosphere.times,
                period=period,
                invalid=prepared.invalid_times,
                timestep=step,
            ),
            batch_size=training.batch_size,
            seed=seed,
            cache_bytes=int(cache_gb * GIGABYTE),
            prefetch_bytes=int(prefetch_gb * GIGABYTE),
            num_threads=data.num_threads,
            part=Part(jax.process_index(), jax.process_count()),
        )

    # Validation batches are the same in every run, whatever its seed; one is read
    # ahead, beside what waits for training meanwhile.
    return Loaders(
        loader(data.train, training.seed, data.cache_gb, data.prefetch_gb),
        loader(data.validation, seed=0, cache_gb=0, prefetch_gb=0),
    )


def make_model(
    setup: Experiment, atmosphere: Atmosphere, prepared: Preparation
) -> Forecaster:
    """Builds the model, scaled by the statistics of its training period."""
    stored = {name: atmosphere.dataset[name].values for name in setup.data.statics}
    return Forecaster.from_data(setup, prepared.statistics, stored)


def _banner(setup: Experiment, task: WeatherTask, loaders: Loaders) -> str:
    windows = loaders.training.windows.starts(setup.training.num_steps(0))
    most = loaders.training.most_bytes(setup.training.max_steps) / GIGABYTE
    seen = ' and '.join(setup.data.trained_on)
    warning = f'\nwarning: {seen} overlap training: scores there show no skill'
    return (
        f'{setup.data.store}: {setup.grid.num_lat}x{setup.grid.num_lon} '
        f'{setup.grid.kind} grid, {len(task.model.channels)} channels, '
        f'step {task.timestep / _HOUR:g} h, {len(windows)} training windows, '
        f'at most {most:.2g} GB of fields in memory\n'
        f'model: {task.model.num_parameters:,} parameters; '
        f'devices: {len(jax.devices())} {jax.devices()[0].platform}; '
        f'config {setup.digest}{warning if seen else ""}'
    )
