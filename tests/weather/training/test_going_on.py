"""Runs that go on: longer, from another run's weights, past data that have gone bad."""

import csv
import json

import numpy as np
import pytest
import zarr

from learning.checkpoint import Checkpoints
from learning.fit import _Loop
from tests.weather import tiny
from weather.training.trainer import train
from weather.workdir import Workdir, WorkdirError

SETTINGS = {'num_updates': 4, 'curriculum': ((0, 2),), 'validate_every': 4}
STAGE = {'num_updates': 3, 'learning_rate': 1e-3, 'curriculum': ((0, 1),)}


@pytest.fixture(scope='module')
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp('store') / 'tiny.zarr'
    tiny.write_store(path)
    return path


@pytest.fixture(scope='module')
def finished(store, tmp_path_factory):
    workdir = tmp_path_factory.mktemp('runs') / 'finished'
    train(tiny.setup(store, **SETTINGS), workdir)
    return workdir


def values(workdir, wanted):
    with Workdir(workdir).losses.open() as file:
        return {
            int(row['update']): float(row['value'])
            for row in csv.DictReader(file)
            if row['name'] == wanted
        }


def test_a_validation_is_read_in_units_of_forecasters(finished):
    """Z500 in m2 s-2 of a wave of 800: the model is persistence at first, or better."""
    found = values(finished, 'validation_rmse_Z500_6h')
    later = values(finished, 'validation_rmse_Z500_12h')
    assert 10 < found[4] < later[4] < 800
    assert values(finished, 'validation_rmse_Wind850_12h')
    # What the store lacks has none.
    assert not values(finished, 'validation_rmse_Q700_6h')


def test_a_run_begins_with_the_forecasts_of_another(store, finished, tmp_path, capsys):
    """A fine-tune starts at the loss of what it starts from."""
    setup = tiny.setup(store, **SETTINGS | {'num_updates': 1, 'learning_rate': 1e-12})
    setup = setup.with_changes({'init_from': str(finished)})
    train(setup, tmp_path / 'tuned')
    output = capsys.readouterr().out
    assert f'init_from: {Workdir(finished).checkpoints}/4' in output
    assert '0 in part, 0 new' in output
    for name in ('validation_loss', 'validation_rmse_T850_12h'):
        expected = values(finished, name)[4]
        # The batch of the one update has moved the moments of norms a little.
        np.testing.assert_allclose(
            values(tmp_path / 'tuned', name)[1], expected, rtol=0.05
        )
    # It goes on by itself, whatever becomes of the other run.
    longer = setup.with_changes({'init_from': str(finished), 'training.num_updates': 2})
    train(longer, tmp_path / 'tuned')
    assert 'resuming after update 1' in capsys.readouterr().out


def test_a_run_of_other_steps_or_none_is_no_origin(store, finished, tmp_path):
    setup = tiny.setup(store, **SETTINGS | {'curriculum': ((0, 1),)}).with_changes(
        {'init_from': str(finished), 'data.timestep_hours': 12.0}
    )
    with pytest.raises(ValueError, match='steps of 12 h .* found steps of 6 h'):
        train(setup, tmp_path / 'a')
    nowhere = setup.with_changes({'init_from': str(tmp_path / 'nowhere')})
    with pytest.raises(WorkdirError, match='no run in .*nowhere'):
        train(nowhere, tmp_path / 'b')


def test_a_finished_run_gets_another_stage(store, tmp_path):
    workdir = tmp_path / 'run'
    train(tiny.setup(store, **SETTINGS), workdir)
    longer = tiny.setup(store, **SETTINGS, stages=(STAGE,))
    train(longer, workdir)
    saved = Checkpoints(Workdir(workdir).checkpoints)
    assert saved.updates[-1] == 7
    # Half a cosine of the new stage's own peak, from its own beginning.
    rates = values(workdir, 'learning_rate')
    np.testing.assert_allclose(rates[6], 1e-3 * (1 + np.cos(np.pi / 3)) / 2, rtol=1e-6)
    assert list(values(workdir, 'loss_step_2')) == [3, 4]
    changed = tiny.setup(store, **SETTINGS, stages=(STAGE | {'learning_rate': 1e-2},))
    with pytest.raises(WorkdirError, match='stage 2 .*learning_rate: 0.001 -> 0.01'):
        train(changed, workdir)
    shorter = tiny.setup(store, **SETTINGS | {'num_updates': 3}, stages=(STAGE,) * 2)
    with pytest.raises(WorkdirError, match='stage 1 .*is over'):
        train(shorter, workdir)
    history = json.loads(Workdir(workdir).config.read_text())['run']['history']
    assert list(history[-1]['changes']) == ['training.stages']


def test_data_that_have_gone_bad_are_gone_back_from_and_left_out(
    store, tmp_path, monkeypatch, caplog
):
    path = tmp_path / 'own.zarr'
    tiny.write_store(path)
    after = _Loop.after

    def spoil(loop, update, *arguments):
        if update == 2:
            zarr.open(str(path), mode='r+')['temperature'][5] = np.nan
        return after(loop, update, *arguments)

    monkeypatch.setattr(_Loop, 'after', spoil)
    setup = tiny.setup(path, **SETTINGS | {'num_updates': 12, 'checkpoint_every': 1})
    setup = setup.with_changes({'data.cache_gb': 0.0, 'data.prefetch_gb': 0.0})
    train(setup, tmp_path / 'run')
    assert Checkpoints(Workdir(tmp_path / 'run').checkpoints).updates[-1] == 12
    found = json.loads(Workdir(tmp_path / 'run').failures.read_text())
    assert [entry['left_out'] for entry in found] == [['2001-01-02T06:00:00']]
    assert 'temperature@500 at 2001-01-02T06:00:00' in caplog.text
    assert len(found[0]['facts']['windows']) == 8
    losses = values(tmp_path / 'run', 'loss')
    assert all(np.isfinite(loss) for loss in losses.values()) and 12 in losses
