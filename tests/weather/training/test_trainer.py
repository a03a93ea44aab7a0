"""Training: it learns, it goes on as if never stopped, and devices do not matter."""

import csv
import os
import random
import shutil
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from learning import lock
from learning.checkpoint import Checkpoints
from learning.loss_log import TIMINGS
from learning.update import init_train_state
from tests.weather import tiny
from weather.forecasting.run import load_run
from weather.training.trainer import train
from weather.workdir import Workdir, WorkdirError

# Eight devices add up a gradient in another order than one: float32 round-off, which
# nine updates of Adam (whose first steps are signs) may enlarge.
OTHER_ORDER = dict(rtol=0, atol=2e-3)

TRAIN = """
import sys
from tests.weather import tiny
from weather.training.trainer import train
train(tiny.setup(sys.argv[1]), sys.argv[2])
"""


@pytest.fixture(scope='module')
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp('store') / 'tiny.zarr'
    tiny.write_store(path)
    return path


@pytest.fixture(scope='module')
def finished(store, tmp_path_factory):
    """A run from its first update to its last, without interruption."""
    workdir = tmp_path_factory.mktemp('runs') / 'finished'
    train(tiny.setup(store), workdir)
    return workdir


def start(store, workdir, **environment):
    return subprocess.Popen(
        [sys.executable, '-c', TRAIN, str(store), str(workdir)],
        env={**os.environ, 'PYTHONPATH': '.', **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def checkpointed(workdir):
    """Every array of the newest checkpoint, by its place in the tree."""
    files = Workdir(workdir)
    setup = files.read_config()
    run = load_run(workdir)
    state = init_train_state(run.variables, setup.training)
    template = {
        'update': state.update,
        'variables': state.weights,
        'optimizer': state.optimizer,
    }
    saved = Checkpoints(files.checkpoints)
    assert saved.updates[-1] == setup.training.num_updates
    training = saved.restore('training', template, saved.updates[-1])
    leaves = jax.tree_util.tree_leaves_with_path((training, run.variables))
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def read_metrics(workdir):
    with Workdir(workdir).losses.open() as file:
        return [
            (int(row['update']), row['name'], row['value'])
            for row in csv.DictReader(file)
            if row['name'] not in TIMINGS
        ]


def test_a_killed_training_ends_bit_for_bit_like_one_that_was_not(
    store, finished, tmp_path
):
    workdir = tmp_path / 'killed'
    process = start(store, workdir)
    wanted = random.randint(1, 3) * 2  # At or after this update, whatever is going on.
    deadline = time.monotonic() + 300
    while not (Workdir(workdir).checkpoints / str(wanted)).is_dir():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()

    process = start(store, workdir)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert 'resuming after update' in output
    expected, found = checkpointed(finished), checkpointed(workdir)
    assert expected.keys() == found.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    assert read_metrics(workdir) == read_metrics(finished)


def test_a_damaged_checkpoint_is_passed_by_and_the_end_is_the_same(
    store, finished, tmp_path, caplog
):
    """Bit for bit: the one before it is as good a place to go on from."""
    workdir = shutil.copytree(finished, tmp_path / 'damaged')
    newest = Workdir(workdir).checkpoints / '9'
    damaged = max(newest.glob('training/**/d/*'), key=lambda path: path.stat().st_size)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)

    train(tiny.setup(store), workdir)
    named = [line for line in caplog.messages if 'is damaged' in line]
    assert len(named) == 1 and str(newest) in named[0] and '8 is used' in named[0]
    expected, found = checkpointed(finished), checkpointed(workdir)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    assert read_metrics(workdir) == read_metrics(finished)
    (kept,) = newest.parent.glob('9.damaged-*')
    assert (kept / damaged.relative_to(newest)).read_bytes() == content


def test_what_the_loss_decides_survives_in_the_checkpoint(finished):
    saved = Checkpoints(Workdir(finished).checkpoints)
    losses = {(u, name): float(value) for u, name, value in read_metrics(finished)}
    progress = saved.metadata(9)['progress']
    assert set(progress['best']) == {'1', '2'}  # By the length of the rollout.
    assert progress['best']['2'] <= losses[6, 'loss']
    np.testing.assert_allclose(
        progress['validation_loss'], losses[9, 'validation_loss'], rtol=1e-7
    )


def test_a_second_training_in_the_workdir_is_refused(store, tmp_path):
    with lock.hold(tmp_path / 'run', work='training'):
        with pytest.raises(lock.LockedError, match=f'process {os.getpid()} on '):
            train(tiny.setup(store), tmp_path / 'run')
    assert not Workdir(tmp_path / 'run').config.exists()


def test_the_checkpoints_of_another_run_are_refused(store, finished, tmp_path):
    other = Workdir(tmp_path / 'other')
    shutil.copytree(Workdir(finished).checkpoints, other.checkpoints)
    with pytest.raises(WorkdirError, match='learning_rate: 0.01 -> 0.001'):
        train(tiny.setup(store, learning_rate=1e-3), other.path)
    assert not other.config.exists()
    other.claim(tiny.setup(store, learning_rate=1e-3))
    with pytest.raises(WorkdirError, match='learning_rate: 0.01 -> 0.001'):
        load_run(other.path)


@pytest.mark.slow
def test_eight_devices_train_like_one(store, finished, tmp_path):
    flags = '--xla_force_host_platform_device_count=8'
    process = start(store, tmp_path / 'eight', XLA_FLAGS=flags)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert 'devices: 8 cpu' in output
    expected = checkpointed(finished)
    found = checkpointed(tmp_path / 'eight')
    for name in expected:
        np.testing.assert_allclose(
            found[name], expected[name], **OTHER_ORDER, err_msg=name
        )


def test_a_finished_training_has_nothing_left_to_do(store, finished, capsys):
    before = read_metrics(finished)
    train(tiny.setup(store), finished)
    assert 'nothing left to do: ' in capsys.readouterr().out
    assert read_metrics(finished) == before


def test_the_workdir_of_another_config_is_refused(store, finished):
    with pytest.raises(WorkdirError, match='learning_rate'):
        train(tiny.setup(store, learning_rate=1.0), finished)


def test_training_learns(store, tmp_path):
    train(tiny.setup(store, num_updates=60, curriculum=((0, 1),)), tmp_path / 'run')
    values = read_metrics(tmp_path / 'run')
    losses = [float(value) for _, name, value in values if name == 'validation_loss']
    assert losses[-1] < losses[0] / 2


def test_metrics_are_there_once_per_update_with_a_loss_for_every_lead(finished):
    values = read_metrics(finished)
    losses = [update for update, name, _ in values if name == 'loss']
    assert losses == [3, 6, 9]
    assert [u for u, name, _ in values if name == 'loss_step_2'] == [6, 9]
    assert list(Workdir(finished).tensorboard.glob('events.*'))


def test_a_checkpoint_says_what_it_was_trained_on(store, finished):
    metadata = Checkpoints(Workdir(finished).checkpoints).metadata(9)
    assert metadata['config'] == tiny.setup(store).to_dict()
    assert metadata['loader'] == {'seed': 0, 'next_update': 9}
    assert metadata['timestep_seconds'] == 6 * 3600


def test_a_checkpoint_that_is_not_there_is_named(finished):
    with pytest.raises(FileNotFoundError, match=r'update 5 .*there are \[8, 9\]'):
        load_run(finished, update=5)


def test_a_loss_that_is_not_finite_stops_the_training(store, tmp_path):
    setup = tiny.setup(store, learning_rate=1e38, warmup_updates=0, clip_norm=1e30)
    with pytest.raises(FloatingPointError, match='Lower training.learning_rate'):
        train(setup, tmp_path / 'run')


def test_a_period_too_short_for_the_rollout_is_refused_before_anything_is_written(
    store, tmp_path
):
    setup = tiny.setup(store, curriculum=((0, 1), (4, 9)))
    with pytest.raises(ValueError, match='at least 10 consecutive'):
        train(setup, tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_statistics_of_another_period_are_refused(store, tmp_path):
    from weather.data.statistics import compute_statistics, save_statistics
    from weather.training.trainer import open_training_store

    setup = tiny.setup(store)
    atmosphere = open_training_store(setup)
    longer = compute_statistics(
        atmosphere.dataset, setup.data.channels, source=str(store)
    )
    files = Workdir(tmp_path / 'run')
    files.claim(setup)
    save_statistics(longer, files.statistics)
    with pytest.raises(ValueError, match='from 2001-01-01 to 2001-01-07, found'):
        train(setup, files.path)


def test_a_bucket_that_orbax_cannot_write_to_is_no_run_directory():
    with pytest.raises(WorkdirError, match='a local path or an address gs://'):
        Workdir('s3://bucket/run')
