"""A training that is killed again and again ends like one that was not: to the bit."""

import csv
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from learning.checkpoint import Checkpoints
from learning.sharding import make_mesh
from tests.weather import tiny
from weather.model.forecaster import Forecaster
from weather.training.task import Loaders, WeatherTask
from weather.training.trainer import train
from weather.workdir import Workdir

KILLS = {signal.SIGKILL: 20, signal.SIGTERM: 20}
# Stages with everything that a checkpoint has to bring back: rollouts that go on,
# several averages, parts of batches, drawn lengths, noise.
TRAINING = {
    'num_updates': 300,
    'curriculum': ((0, 1), (100, (1, 2))),
    'more_ema_decays': (0.5, 0.99),
    'stages': (
        {'num_updates': 300, 'replay': 2, 'replay_steps': 6, 'curriculum': ((0, 1),)},
        {'num_updates': 300, 'replay': 0, 'accumulate': 2, 'noise': 0.1},
    ),
    'learning_rate': 1e-3,
    'checkpoint_every': 3,
    'log_every': 10,
    'validate_every': 50,
    'keep_every': 200,
}
SLOWLY = """
import sys, time
from tests.weather import tiny
from tests.weather.training.test_kills import TRAINING
from learning import command_line
from weather.training.task import WeatherTask
from weather.training.trainer import train

update = WeatherTask.update

def slowly(task, number, *arguments):
    time.sleep(0.03)
    return update(task, number, *arguments)

WeatherTask.update = slowly
store, workdir = sys.argv[1:]
sys.argv[1:] = []
command_line.execute(lambda: train(tiny.setup(store, **TRAINING), workdir))
"""


def start(store, workdir, cache):
    return subprocess.Popen(
        [sys.executable, '-c', SLOWLY, str(store), str(workdir)],
        env={
            **os.environ,
            'PYTHONPATH': '.',
            'JAX_COMPILATION_CACHE_DIR': str(cache),
            'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_updates(process):
    """Until the first update of this life is done, or the training."""
    for line in process.stdout:
        if line.startswith(('update', 'nothing left')):
            return True
    return False


def checkpointed(workdir):
    """Every array of the newest checkpoint."""
    files = Workdir(workdir)
    setup = files.read_config()
    with Checkpoints(files.checkpoints) as saved:
        newest = saved.resolve(None)
        # Its shapes: those of a task that has nothing to read.
        task = WeatherTask(
            setup, Forecaster.without_data(setup), _NoData(), make_mesh()
        )
        items = task.items(task.init(newest))
        found = {name: saved.restore(name, of, newest) for name, of in items.items()}
    leaves = jax.tree_util.tree_leaves_with_path(found)
    return newest, {jax.tree_util.keystr(p): np.asarray(leaf) for p, leaf in leaves}


class _NoData(Loaders):
    def __init__(self):
        class Windows:
            timestep = np.timedelta64(6, 'h')

        class Reader:
            windows = Windows()

        super().__init__(Reader(), Reader())


def metrics(workdir):
    with Workdir(workdir).losses.open() as file:
        return [
            (row['update'], row['name'], row['value'])
            for row in csv.DictReader(file)
            if row['name'] not in ('updates_per_second', 'data_wait_share')
        ]


@pytest.mark.slow
def test_forty_ends_at_random_moments_leave_no_trace(tmp_path, capsys):
    store, cache = tmp_path / 'tiny.zarr', tmp_path / 'cache'
    tiny.write_store(store)
    train(tiny.setup(store, **TRAINING), tmp_path / 'whole')

    workdir = tmp_path / 'killed'
    ends = [number for number, count in KILLS.items() for _ in range(count)]
    random.shuffle(ends)
    reached = []
    for number in ends:
        process = start(store, workdir, cache)
        assert wait_for_updates(process), 'ended by itself'
        time.sleep(random.uniform(0, 0.6))
        process.send_signal(number)
        output = process.communicate(timeout=300)[0]
        assert process.returncode in (-number, 128 + number), output
        reached.append(
            max(Checkpoints(Workdir(workdir).checkpoints).updates, default=0)
        )
    process = start(store, workdir, cache)
    output = process.communicate(timeout=900)[0]
    assert process.returncode == 0, output

    newest, expected = checkpointed(tmp_path / 'whole')
    last, found = checkpointed(workdir)
    assert newest == last == 900 and expected.keys() == found.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    assert metrics(workdir) == metrics(tmp_path / 'whole')
    with capsys.disabled():
        counts = ', '.join(f'{count} {number.name}' for number, count in KILLS.items())
        print(f'\n{counts}; newest checkpoint after each: {reached}')
    # Within stages and across their changes.
    assert reached[0] < 300 < reached[-1]


if __name__ == '__main__':
    print(checkpointed(pathlib.Path(sys.argv[1]))[0])
