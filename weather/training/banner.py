"""What a training says of itself when it begins."""

from __future__ import annotations

import jax
import numpy as np

from learning import processes
from learning.settings import Stage
from learning.sharding import Mesh
from weather.data.loader import GIGABYTE
from weather.experiment import Experiment, Training
from weather.training.task import Loaders, WeatherTask

_HOUR = np.timedelta64(1, 'h')
# Bytes a parameter and what goes with it take while training: itself, its gradient,
# two moments and one average, float32.
_COPIES = 5


def banner(setup: Experiment, task: WeatherTask, loaders: Loaders, mesh: Mesh) -> str:
    """Data, model, devices and stages, a line each."""
    windows = loaders.training.windows.starts(setup.training.num_steps(0))
    most = loaders.training.most_bytes(setup.training.max_steps) / GIGABYTE
    seen = ' and '.join(setup.data.trained_on)
    warning = f'\nwarning: {seen} overlap training: scores there show no skill'
    parameters = task.model.num_parameters
    return (
        f'{setup.data.store}: {setup.grid.num_lat}x{setup.grid.num_lon} '
        f'{setup.grid.kind} grid, {len(task.model.channels)} channels, '
        f'step {task.timestep / _HOUR:g} h, {len(windows)} training windows, '
        f'at most {most:.2g} GB of fields in memory\n'
        f'model: {parameters:,} parameters ('
        f'{(_COPIES + len(setup.training.more_ema_decays)) * 4 * parameters / 1e6:.3g} '
        'MB with gradient, moments and averages); '
        f'{_devices(mesh)}; config {setup.digest}\n'
        + '\n'.join(_stage(setup, stage, loaders) for stage in setup.training.plan())
        + (warning if seen else '')
    )


def _devices(mesh: Mesh) -> str:
    """`devices: 8 cpu of 2 processes, mesh 4 data x 2 space, 15.7 GB each`."""
    devices = jax.devices()
    text = f'devices: {len(devices)} {devices[0].device_kind.lower()}'
    if processes.count() > 1:
        text += f' of {processes.count()} processes'
    if mesh.size > 1:
        text += ', mesh ' + ' x '.join(f'{n} {name}' for name, n in mesh.shape.items())
    # CPUs do not say.
    memory = (jax.local_devices()[0].memory_stats() or {}).get('bytes_limit')
    return text + (f', {memory / GIGABYTE:.3g} GB each' if memory else '')


def _stage(setup: Experiment, stage: Stage, loaders: Loaders) -> str:
    """Updates, rollouts and what is read for each update, over all processes."""
    training = stage.settings
    assert isinstance(training, Training)
    lengths = sorted(
        {training.rollout_length(0), training.rollout_length(training.num_updates - 1)}
    )
    rollout = ' to '.join(map(str, lengths))
    loader = loaders.training
    # Of a batch of this stage: the loader's own is of the first.
    size = loader.batch_bytes(lengths[-1]) * processes.count()
    size = size * training.batch_size // setup.training.batch_size
    return (
        f'stage {stage.number}: updates {stage.first_update + 1} to '
        f'{stage.last_update}, batch {training.batch_size}, rollouts of {rollout} '
        f'{"step" if lengths == [1] else "steps"}, {_bytes(size)} read per update'
    )


def _bytes(size: float) -> str:
    for unit in ('B', 'kB', 'MB'):
        if size < 999.5:
            return f'{size:.3g} {unit}'
        size /= 1000
    return f'{size:.3g} GB'
