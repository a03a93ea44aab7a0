"""A run in a bucket: trained there, gone on with, forecast from, looked through."""

import csv

import fsspec
import numpy as np
import pytest

from learning import lease, lock
from learning.addresses import contents, reading
from learning.checkpoint import CheckpointError, Checkpoints
from learning.loss_log import TIMINGS
from tests import emulator
from tests.weather import tiny
from weather.forecasting.run import load_run
from weather.training.trainer import train
from weather.workdir import Workdir, WorkdirError


@pytest.fixture(scope='module', autouse=True)
def cloud():
    with emulator.standing_in() as url:
        yield url


@pytest.fixture(scope='module')
def setup(tmp_path_factory):
    store = tmp_path_factory.mktemp('store') / 'tiny.zarr'
    tiny.write_store(store)
    # One compilation: what is tested are files.
    few = dict(num_updates=4, validate_every=2, log_every=1, curriculum=((0, 1),))
    return tiny.setup(store, **few)


@pytest.fixture(scope='module')
def run(setup):
    """A finished run."""
    address = f'gs://{emulator.BUCKET}/runs/tiny'
    train(setup, address)
    return Workdir(address)


def losses(run):
    with reading(run.losses) as table, table.open(newline='') as file:
        return {
            (row['update'], row['name']): row['value']
            for row in csv.DictReader(file)
            if row['name'] not in TIMINGS
        }


def weights(run, update=None):
    return [np.asarray(leaf) for leaf in _leaves(load_run(run.path, update=update))]


def _leaves(run):
    import jax

    return jax.tree.leaves(run.variables)


def test_all_that_a_run_leaves_is_there_and_nothing_else(run):
    names = {name.split('/')[0] for name in contents(run.path)}
    assert names == {
        'checkpoints',
        'config.json',
        'invalid_times.json',
        'metrics.csv',
        'statistics.nc',
        'tensorboard',
    }


@pytest.mark.slow
def test_it_is_the_run_that_a_disk_would_have(run, setup, tmp_path):
    train(setup, tmp_path / 'run')
    here = Workdir(tmp_path / 'run')
    assert losses(here) == losses(run)
    for ours, theirs in zip(weights(here), weights(run), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_a_damaged_newest_is_passed_over_and_made_again(run, setup):
    files = fsspec.filesystem('gs')
    address = f'gs://{emulator.BUCKET}/runs/again'
    files.cp(str(run.path), address, recursive=True)
    copy = Workdir(address)
    before, rows = weights(copy), losses(copy)
    newest = Checkpoints(copy.checkpoints).updates[-1]
    inside = contents(copy.checkpoints / str(newest) / 'forecast')
    largest = max(inside, key=lambda name: inside[name].bytes)
    place = f'{copy.checkpoints}/{newest}/forecast/{largest}'
    content = bytearray(files.cat_file(place))
    content[len(content) // 2] ^= 1
    files.pipe_file(place, bytes(content))
    with pytest.raises(CheckpointError, match=f'{newest} is damaged'):
        load_run(address, update=newest)
    train(setup, address)
    assert losses(copy) == rows
    for ours, theirs in zip(weights(copy, newest), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_second_training_is_refused(run, setup, monkeypatch):
    monkeypatch.setattr(lease, 'RENEW_SECONDS', 0.1)
    with lock.hold(run.path, work='training'):
        with pytest.raises(
            lock.LockedError, match='another training is going on in gs'
        ):
            train(setup, run.path)


def test_another_experiment_is_refused(run, setup):
    with pytest.raises(WorkdirError, match='training.seed: 0 -> 7'):
        train(setup.with_changes({'training.seed': 7}), run.path)
