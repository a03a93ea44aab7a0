"""The whole chain on five real days: train, forecast, export, score, report."""

import csv
import os
import pathlib
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(script, *flags):
    done = subprocess.run(
        [sys.executable, f'scripts/{script}', *flags],
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_five_real_days_are_memorised_forecast_and_scored(shared_data, tmp_path):
    store = shared_data / 'ncep_r1_20220101_5d_73x144.zarr'
    climatology = shared_data / 'ncep_r1_climatology_1991_2020_jan01_06.zarr'
    workdir = tmp_path / 'ncep'
    output = run(
        'train.py',
        '--config=configs/ncep_sample.py',
        f'--workdir={workdir}',
        f'--config.data.store={store}',
    )
    assert 'validation and test overlap training' in output
    with (workdir / 'metrics.csv').open() as file:
        rows = [row for row in csv.DictReader(file) if row['name'] == 'loss_step_1']
    first, last = float(rows[0]['value']), float(rows[-1]['value'])
    # A new model forecasts persistence, whose loss is one by definition.
    assert first < 1
    assert last < 0.1

    run(
        'forecast.py',
        f'--workdir={workdir}',
        f'--output={workdir / "forecasts"}',
        '--init_times=2022-01-01,2022-01-02',
        '--lead_hours=72',
    )
    files = sorted((workdir / 'forecasts').glob('*.nc'))
    assert len(files) == 2
    with xr.open_dataset(files[0], decode_timedelta=True) as forecast:
        hours = forecast.forecast_period.values / np.timedelta64(1, 'h')
        np.testing.assert_array_equal(hours, [24, 48, 72])
        # The source has no humidity above 300 hPa, so the forecast has none.
        missing = forecast.specific_humidity.isnull().all(
            ('time', 'latitude', 'longitude')
        )
        assert forecast.level[missing].max() == 250

    run(
        'evaluate.py',
        f'--forecast={workdir / "forecasts"}',
        f'--truth={store}',
        f'--climatology={climatology}',
        f'--output={workdir / "scores.csv"}',
        '--channels=all',
    )
    scores = pd.read_csv(workdir / 'scores.csv').set_index(
        ['model', 'variable', 'level', 'region', 'lead_time_hours', 'metric']
    )['value']
    for lead in (24, 48, 72):
        place = ('geopotential', 500, 'global', lead, 'rmse')
        assert scores['spherecast', *place] < scores['persistence', *place] / 2
    run('report.py', f'--workdir={workdir}')
    assert '2 of 2 starts lie in the training' in (workdir / 'report.html').read_text()
