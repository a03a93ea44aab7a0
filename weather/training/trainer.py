"""Training from a config to the last checkpoint; started again, it goes on."""

from __future__ import annotations

import pathlib

import jax

from learning import lock, once, processes
from learning.checkpoint import Checkpoints
from learning.files import clear_leftovers
from learning.fit import Record, fit, has_ended
from learning.profiling import Profile
from learning.sharding import (
    Mesh,
    check_batch_size,
    check_num_lat,
    local_part,
    make_mesh,
)
from weather.data.loader import GIGABYTE, WHOLE, Loader, Part
from weather.data.preparation import Preparation, prepare_run
from weather.data.sources import named_by
from weather.data.store import Atmosphere, open_atmosphere
from weather.data.windows import WindowIndex, model_step
from weather.experiment import Experiment
from weather.model.forecaster import Forecaster
from weather.training.banner import banner
from weather.training.origin import Origin
from weather.training.task import Loaders, WeatherTask
from weather.workdir import Workdir


def train(
    setup: Experiment,
    workdir: str | pathlib.Path,
    *,
    profile: Profile | None = None,
) -> None:
    """Trains an experiment, from the newest whole checkpoint in `workdir` if any.

    Several processes (`learning.processes.connected`) call this alike. What is decided
    the first decides for all; it alone writes, and prepares.

    Args:
      setup: the experiment.
      workdir: the run directory, the same for all processes.
      profile: updates to trace.

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
    _check_alike(setup)
    mesh = make_mesh(setup.devices)
    # Cheap refusals first, and before the directory is touched.
    for stage in setup.training.plan():
        check_batch_size(stage.settings.batch_size, mesh)
    check_num_lat(setup.grid.num_lat, mesh)
    atmosphere = open_training_store(setup)
    check_periods(setup, atmosphere)
    training = setup.training
    with (
        jax.set_mesh(mesh),
        lock.hold(files.path, work='training'),
        Checkpoints(
            files.checkpoints,
            keep=training.keep_checkpoints,
            keep_best=training.keep_best,
            keep_every=training.keep_every,
        ) as saved,
    ):
        newest = saved.newest_whole()
        metadata = None if newest is None else saved.metadata(newest)
        setup = once.for_all(lambda: files.claim(setup, metadata))
        once.for_all(lambda: clear_leftovers(files.path))
        saved.clear_leftovers()
        _train(setup, files, saved, atmosphere, newest, mesh, profile)


def _check_alike(setup: Experiment) -> None:
    """Refuses processes that were started with other configs."""
    digests = processes.gather(setup.digest, channel='config')
    other = [n for n, digest in enumerate(digests) if digest != digests[0]]
    if other:
        raise ValueError(
            f'expected one config for all processes, got {digests[0]} in process 0 '
            f'and {digests[other[0]]} in process {other[0]}; give all the same --config'
        )


def _train(
    setup: Experiment,
    files: Workdir,
    saved: Checkpoints,
    atmosphere: Atmosphere,
    newest: int | None,
    mesh: Mesh,
    profile: Profile | None,
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
    # By one, while the others wait, however long it takes to read all of the data.
    prepared = once.for_all(lambda: prepare_run(setup, atmosphere, files))
    loaders = make_loaders(setup, atmosphere, prepared, mesh)
    model = make_model(setup, atmosphere, prepared)
    if origin is not None:
        print(origin.summary(model), flush=True)
        model = origin.scaled(model)
    task = WeatherTask(setup, model, loaders, mesh, origin)
    if profile is not None:
        update = profile.around(task.update, files.path / 'profile')
        task.update = update  # type: ignore[method-assign]
    print(banner(setup, task, loaders, mesh), flush=True)
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
    setup: Experiment,
    atmosphere: Atmosphere,
    prepared: Preparation,
    mesh: Mesh | None = None,
) -> Loaders:
    """Builds the loaders of both periods, for this process and without NaN.

    Args:
      setup: the experiment.
      atmosphere: its opened store.
      prepared: its statistics and missing values.
      mesh: devices, of several processes perhaps; None for those of this one.
    """
    data, training = setup.data, setup.training
    rows, latitudes = local_parts(mesh)
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
            part=rows,
            latitudes=latitudes,
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


def local_parts(mesh: Mesh | None) -> tuple[Part, Part]:
    """Rows and latitudes of a batch that this process reads."""
    if mesh is None:
        return WHOLE, WHOLE
    own = local_part(mesh)
    rows, latitudes = own.rows, own.latitudes
    return Part(rows.index, rows.count), Part(latitudes.index, latitudes.count)
