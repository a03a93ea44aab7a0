"""A run of an earlier version is read, forecasts, scores and goes on as it did then."""

import csv
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from learning.checkpoint import Checkpoints
from learning.loss_log import TIMINGS
from weather.data.forecasts import open_forecasts
from weather.forecasting import forecast
from weather.forecasting.run import load_run
from weather.training.trainer import train
from weather.workdir import Workdir

ROOT = pathlib.Path(__file__).resolve().parents[2]
DIGEST = '23164337e235'  # What version 0.1 printed, and wrote into its files.
# Of the largest value of a field. Bit for bit on the processor that made the run, in
# batches of the same size; another one sums in another order.
FORECAST_ROUND_OFF = dict(rtol=0, atol=3e-6)
# Adam divides by the root of the gradient's square, which amplifies round-off.
TRAINING_ROUND_OFF = dict(rtol=1e-3, atol=0)


@pytest.fixture
def run(tmp_path, monkeypatch) -> Workdir:
    """The kept run, in a folder from which its relative store is seen."""
    shutil.copytree(ROOT / 'tests/old_runs/v1', tmp_path / 'v1')
    monkeypatch.chdir(tmp_path / 'v1')
    return Workdir('run')


def metrics(path: pathlib.Path) -> dict[tuple[str, str], float]:
    with open(path, newline='') as file:
        return {
            (row['update'], row['name']): float(row['value'])
            for row in csv.DictReader(file)
            if row['name'] not in TIMINGS
        }


def test_its_config_is_read_and_its_digest_is_known(run):
    setup = run.read_config()
    assert setup.training.num_updates == 8
    assert (setup.training.beta2, setup.training.ema_ramp) == (0.98, 10.0)
    assert run.known_digests() == (DIGEST, setup.digest)
    with Checkpoints(run.checkpoints) as saved:
        assert saved.metadata(6)['config_hash'] == DIGEST
        run.check_checkpoint(saved.metadata(6))


def test_it_forecasts_what_it_forecast_then(run):
    then = open_forecasts(run.forecasts)
    trained = load_run(run.path)
    now = forecast.run(
        trained,
        forecast.open_store(trained),
        init_times=then.time.values,
        lead_times=forecast.hours(6, 24, step=6),
        batch_size=trained.setup.forecast.batch_size,
    )
    for name in ('geopotential', 'temperature', 'u_component_of_wind'):
        axes = then[name].dims
        values = now[name].transpose(*axes).values
        assert np.isfinite(values).any()
        scale = np.nanmax(np.abs(then[name].values))
        np.testing.assert_allclose(
            values / scale, then[name].values / scale, **FORECAST_ROUND_OFF
        )


def test_it_goes_on_as_it_did_then(run):
    train(run.read_config(), run.path)
    then, now = metrics(pathlib.Path('resumed_metrics.csv')), metrics(run.losses)
    # Later versions log more.
    assert now.keys() >= then.keys()
    assert ('8', 'validation_loss_step_2') in now
    for name, value in then.items():
        np.testing.assert_allclose(now[name], value, **TRAINING_ROUND_OFF, err_msg=name)
    with Checkpoints(run.checkpoints) as saved:
        assert max(saved.updates) == 8
        assert saved.metadata(8)['config_hash'] == run.known_digests()[-1]
    assert run.known_digests()[0] == DIGEST


def test_its_forecasts_score_what_they_scored_then(run):
    subprocess.run(
        [
            sys.executable,
            str(ROOT / 'scripts/evaluate.py'),
            f'--forecast={run.forecasts}',
            '--truth=atmosphere.zarr',
            f'--climatology={run.climatology}',
            '--output=scores.csv',
        ],
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'},
        check=True,
    )

    def scores(path):
        with open(path, newline='') as file:
            rows = list(csv.reader(file))[1:]
        return {tuple(row[:-1]): float(row[-1]) for row in rows if row[3] == 'global'}

    then, now = scores(run.scores), scores('scores.csv')
    # That version scored the baselines also at levels that the forecasts lack.
    forecast = {place[1:3] for place in then if place[0] == 'spherecast'}
    then = {place: value for place, value in then.items() if place[1:3] in forecast}
    assert len(forecast) > 4 and then.keys() <= now.keys()
    for place, value in then.items():
        # Six digits were written then.
        np.testing.assert_allclose(
            now[place], value, rtol=1e-5, atol=1e-9, err_msg=place
        )
