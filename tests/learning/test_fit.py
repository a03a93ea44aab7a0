"""The loop learns, goes on as if never stopped, and refuses to save what has failed."""

import csv
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from learning.checkpoint import Checkpoints, SaveError
from learning.fit import Progress, has_ended
from learning.loss_log import TIMINGS
from learning.update import Outcome
from tests.learning import toy


def read_log(folder):
    with (folder / 'metrics.csv').open() as file:
        return [
            (int(row['update']), row['name'], row['value'])
            for row in csv.DictReader(file)
            if row['name'] not in TIMINGS
        ]


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp('finished')
    return folder, toy.train(folder)


def test_a_line_is_found(tmp_path):
    settings = toy.Settings(num_updates=300, validate_every=300, checkpoint_every=300)
    state = toy.train(tmp_path, settings)
    params = state.average['params']
    # The learning rate ends at zero: what is left is far below the spread of the data.
    np.testing.assert_allclose(params['kernel'], toy.SLOPE, atol=1e-3)
    np.testing.assert_allclose(params['bias'], toy.SHIFT, atol=1e-3)
    assert int(state.update) == state.weights['count'] == 300


class Stop(Exception):
    pass


@pytest.mark.parametrize('stop_at', [3, 7, 12, 29])
def test_a_training_that_died_goes_on_as_if_it_had_not(finished, stop_at, tmp_path):
    def die(update, batch):
        if update == stop_at:
            raise Stop
        return batch

    with pytest.raises(Stop):
        toy.train(tmp_path, spoil=die)
    found = toy.train(tmp_path)
    folder, expected = finished
    for one, other in zip(toy.arrays(found), toy.arrays(expected), strict=True):
        np.testing.assert_array_equal(one, other)
    assert read_log(tmp_path) == read_log(folder)


def test_the_log_has_every_part_of_every_loss_once(finished):
    folder, _ = finished
    log = read_log(folder)
    assert [update for update, name, _ in log if name == 'loss_large'] == [
        *range(5, 31, 5)
    ]
    values = {name: float(value) for update, name, value in log if update == 30}
    total = values['validation_loss_small'] + values['validation_loss_large']
    np.testing.assert_allclose(values['validation_loss'], total, rtol=1e-6)
    assert list((folder / 'tensorboard').glob('events.*'))


@pytest.mark.parametrize('factor', [np.nan, np.inf, 1e9])
def test_a_failed_training_is_not_saved_over_the_good_ones(factor, tmp_path):
    """Also where the loss stays finite."""

    def spoil(update, batch):
        return (batch[0], batch[1] * factor) if update >= 13 else batch

    settings = toy.Settings(max_loss_ratio=1e6, checkpoint_every=1)
    with pytest.raises(FloatingPointError, match='update 14, .*Lower training'):
        toy.train(tmp_path, settings, keep=2, spoil=spoil)
    saved = Checkpoints(tmp_path / 'checkpoints')
    assert saved.updates == [12, 13] and saved.newest_whole() == 13
    state = toy.train(tmp_path)
    assert int(state.update) == 30
    assert all(np.isfinite(array).all() for array in toy.arrays(state))


def test_a_loss_of_more_parts_is_not_compared_with_one_of_fewer():
    progress = Progress()

    def result(loss, parts=1):
        return Outcome(np.float32(loss), np.zeros(parts), np.float32(1))

    progress.judge(1, result(1e-3), 100)
    progress.judge(2, result(1e3, parts=2), 100)
    progress.judge(3, result(0.09), 100)
    with pytest.raises(FloatingPointError, match='update 4, its best so far 0.001'):
        progress.judge(4, result(0.11), 100)


def test_the_best_checkpoint_outlives_the_newest(tmp_path):
    def worse_and_worse(update, batch):
        return (batch[0], batch[1] - 0.1 * max(update - 10, 0))

    settings = toy.Settings(validate_every=5)
    toy.train(tmp_path, settings, keep=1, keep_best=1, spoil=worse_and_worse)
    log = {
        update: float(value)
        for update, name, value in read_log(tmp_path)
        if name == 'validation_loss'
    }
    best = min(log, key=log.get)
    assert best < 30
    assert Checkpoints(tmp_path / 'checkpoints').updates == [best, 30]


def test_a_checkpoint_that_cannot_be_written_ends_the_training_soon(
    tmp_path, monkeypatch
):
    """Not at the next checkpoint only: that may be hours away."""
    asked = []

    def check(saved):
        asked.append(saved)
        if len(asked) == 7:
            raise SaveError('no room')

    monkeypatch.setattr(Checkpoints, 'check', check)
    with pytest.raises(SaveError):
        toy.train(tmp_path, toy.Settings(log_every=1))
    assert read_log(tmp_path)[-1][0] == 6


def test_a_change_of_stage_survives_a_death(tmp_path):
    """Schedules and batches are functions of the number of an update."""
    settings = toy.Settings(
        num_updates=12,
        stages=({'num_updates': 8, 'learning_rate': 0.1}, {'num_updates': 5}),
        checkpoint_every=4,
    )
    expected = toy.train(tmp_path / 'one', settings)
    for stop_at in (12, 13, 20):

        def die(update, batch, at=stop_at):
            if update == at:
                raise Stop
            return batch

        with pytest.raises(Stop):
            toy.train(tmp_path / 'two', settings, spoil=die)
    found = toy.train(tmp_path / 'two', settings)
    assert int(found.update) == 25
    for one, other in zip(toy.arrays(found), toy.arrays(expected), strict=True):
        np.testing.assert_array_equal(one, other)
    assert read_log(tmp_path / 'two') == read_log(tmp_path / 'one')
    rates = {u: float(v) for u, name, v in read_log(tmp_path / 'one') if 'rate' in name}
    # Stage 2 is at 2 of 8 updates of its cosine.
    np.testing.assert_allclose(rates[15], 0.1 * (1 + np.cos(np.pi / 4)) / 2, rtol=1e-6)


def test_a_training_without_progress_ends_early_and_stays_ended(tmp_path):
    def worse_and_worse(update, batch, order=0):
        return (batch[0], batch[1] - 0.1 * max(update - 6, 0))

    settings = toy.Settings(validate_every=3, patience=2, log_every=1)
    state = toy.train(tmp_path, settings, spoil=worse_and_worse)
    ended = int(state.update)
    losses = [
        float(v) for _, name, v in read_log(tmp_path) if name == 'validation_loss'
    ]
    # Two validations that were no better than the best one.
    assert ended < 30 and min(losses) == losses[-3]
    metadata = Checkpoints(tmp_path / 'checkpoints').metadata(ended)
    assert has_ended(metadata, settings)
    longer = settings.model_copy(update={'num_updates': 40})
    assert not has_ended(metadata, longer)
    assert int(toy.train(tmp_path, longer).update) > ended


def test_a_checkpoint_is_due_by_minutes_too(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr('learning.fit.time.monotonic', lambda: now[0])

    def passes(update, batch, order=0):
        now[0] += 25.0
        return batch

    settings = toy.Settings(num_updates=12, checkpoint_every=12, checkpoint_minutes=1.5)
    toy.train(tmp_path, settings, keep=99, spoil=passes)
    # More than 90 s after the one before: at every fourth update.
    assert Checkpoints(tmp_path / 'checkpoints').updates == [4, 8, 12]


def test_gradients_of_parts_are_logged_when_asked_for(tmp_path):
    toy.train(tmp_path, toy.Settings(num_updates=6, gradients_every=3))
    names = [(u, n) for u, n, _ in read_log(tmp_path) if n == 'gradient_norm_small']
    assert [update for update, _ in names] == [3, 6]


def start(folder):
    return subprocess.Popen(
        [sys.executable, '-m', 'tests.learning.toy', str(folder)],
        env={**os.environ, 'PYTHONPATH': '.', 'JAX_PLATFORMS': 'cpu'},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process, text):
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(process.stderr.read())


@pytest.mark.parametrize(
    'number', [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name
)
def test_a_signal_saves_says_how_to_go_on_and_ends(number, tmp_path):
    process = start(tmp_path)
    wait_for(process, 'update 3 ')
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    (line,) = errors.splitlines()
    (update,) = Checkpoints(tmp_path / 'checkpoints').updates
    assert line.startswith(f'stopped by {number.name} after update {update} of ')
    assert 'the same command goes on from it' in line
    # Exactly that update: the last one that the log has.
    assert read_log(tmp_path)[-1][0] == update
    assert Checkpoints(tmp_path / 'checkpoints').newest_whole() == update


def test_a_second_signal_ends_at_once(tmp_path):
    process = start(tmp_path)
    wait_for(process, 'update 3 ')
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM)
    assert 'Traceback' not in errors


def test_a_second_training_in_the_same_place_is_refused(tmp_path):
    first = start(tmp_path)
    wait_for(first, 'update 3 ')
    first.send_signal(signal.SIGSTOP)
    second = start(tmp_path)
    output, errors = second.communicate(timeout=60)
    assert second.returncode == 1 and not output
    assert f'process {first.pid} on ' in errors and len(errors.splitlines()) == 1
    first.kill()
    first.communicate()
    time.sleep(0.1)
    third = start(tmp_path)
    wait_for(third, 'update 3 ')
    third.kill()
    third.communicate()
