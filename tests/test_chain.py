"""From what users have to scores by commands alone, with no step in between."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from tests import shapes
from tests.weather import tiny

ROOT = pathlib.Path(__file__).resolve().parents[1]
# No shape holds more: a command that takes longer hangs.
PATIENCE = 600
TRAINING = {
    'num_updates': 2,
    'batch_size': 2,
    'curriculum': ((0, 1),),
    'warmup_updates': 1,
    'log_every': 1,
    'validate_every': 2,
    'checkpoint_every': 2,
}
LEVELS = {name: shapes.LEVELS for name in shapes.UPPER_AIR}
# Averages over cells of 22.5 degrees make waves of wavenumber two 2.6 % smaller in each
# direction, and a wave's peak is two and a half of its standard deviations.
SMOOTHING = 0.2


def call(folder, script, *flags, status=0):
    done = subprocess.run(
        [sys.executable, f'scripts/{script}', *flags],
        cwd=ROOT,
        env={
            **os.environ,
            'PYTHONPATH': str(ROOT),
            'JAX_PLATFORMS': 'cpu',
            'SPHERECAST_PREPARATION': str(folder / 'shelf'),
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    said = f'{script} {" ".join(flags)}\n{done.stdout}\n{done.stderr}'
    assert done.returncode == status, said
    assert 'Traceback' not in done.stderr, said
    return done.stdout


def write_config(folder, *, start, num_days=3, hours=6, **data):
    """A tiny experiment: the last day is that of validation and test."""
    days = np.arange(num_days) + np.datetime64(start)
    first, before, last = str(days[0]), str(days[-2]), str(days[-1])
    config = tiny.entries(folder / 'prepared.zarr')
    config['data'] |= {
        'variables': LEVELS | {'2m_temperature': ()},
        'train': (first, before),
        'validation': (last, last),
        'test': (last, last),
        **data,
    }
    config['training'] |= TRAINING
    config['forecast'] |= {'lead_hours': 2 * hours, 'init_every_hours': hours}
    config['prepare'] = {'timestep_hours': hours}
    path = folder / 'config.json'
    path.write_text(json.dumps(config))
    return f'--config={path}'


def run_chain(folder, flags, sources, *, faults=False):
    """Every command from sources to scores; returns the store and the scores.

    Args:
      folder: of everything that is written.
      flags: of those commands that take a config.
      sources: what is prepared.
      faults: whether the store has times that the doctor finds and training avoids.
    """
    store, run = folder / 'prepared.zarr', folder / 'run'
    named = [f'--source={source}' for source in sources]
    call(folder, 'prepare_data.py', *flags, *named, f'--output={store}')
    call(folder, 'check_data.py', f'--store={store}', status=int(faults))
    at_store = f'--config.data.store={store}'
    call(folder, 'train.py', *flags, f'--workdir={run}', at_store)
    forecasts, scores = run / 'forecasts', run / 'scores.csv'
    call(folder, 'forecast.py', f'--workdir={run}', f'--output={forecasts}')
    call(
        folder,
        'evaluate.py',
        f'--forecast={forecasts}',
        f'--truth={store}',
        f'--climatology={store}/climatology',
        f'--output={scores}',
        '--regions=global',
    )
    return store, read_rmse(scores)


def read_rmse(path):
    """RMSE by model, variable, level and lead time; finite for all models."""
    scores = pd.read_csv(path)
    rmse = scores[scores.metric == 'rmse'].set_index(
        ['model', 'variable', 'level', 'lead_time_hours']
    )['value']
    models = {'spherecast', 'persistence', 'climatology'}
    assert set(rmse.index.unique('model')) == models
    assert np.isfinite(rmse).all() and (rmse > 0).all()
    return rmse


def check_waves(store, start, *, num_times=12, levels=shapes.LEVELS):
    """The store holds the waves that the source was made of, on its own grid."""
    times = shapes.hours(start, num_times, step=6)
    with xr.open_zarr(store) as found:
        np.testing.assert_array_equal(found.time, times)
        np.testing.assert_array_equal(found.level, levels)
        assert found.latitude[0] > 0 > found.latitude[-1]
        place = found.latitude.values, found.longitude.values
        exact = shapes.atmosphere(*place, times, levels=levels)
        for name in (*LEVELS, '2m_temperature'):
            expected = exact[name].transpose(*found[name].dims)
            error = abs(found[name] - expected)
            spread = expected.std(('time', 'latitude', 'longitude'))
            assert (error <= SMOOTHING * spread).all(), name


def test_files_of_the_climate_data_store(tmp_path):
    source = shapes.cds_netcdf(tmp_path / 'cds', degrees=7.5)
    config = write_config(tmp_path, start='2020-01-01')
    store, _ = run_chain(tmp_path, [config], [source])
    check_waves(store, '2020-01-01')


@pytest.mark.slow
def test_files_of_the_climate_data_store_at_half_a_degree(tmp_path):
    source = shapes.cds_netcdf(tmp_path / 'cds', degrees=0.5)
    config = write_config(tmp_path, start='2020-01-01')
    levels, single = (f'{source}/{name}.nc' for name in ('levels', 'single'))
    store, _ = run_chain(tmp_path, [config], [levels, single])
    check_waves(store, '2020-01-01')


@pytest.mark.slow
@pytest.mark.parametrize('edition', [1, 2])
def test_grib(tmp_path, edition):
    source = shapes.grib(tmp_path / 'grib', edition=edition)
    config = write_config(tmp_path, start='2020-01-01', num_days=6)
    store, _ = run_chain(tmp_path, [config], [source])
    check_waves(store, '2020-01-01', num_times=24)


@pytest.mark.slow
def test_a_directory_of_weatherbench_1(tmp_path):
    source = shapes.weatherbench1(tmp_path / 'weatherbench')
    config = write_config(
        tmp_path,
        start='1979-01-01',
        # Its first seven hours are missing: windows are left out there.
        variables=LEVELS | {'2m_temperature': (), 'toa_incident_solar_radiation': ()},
    )
    store, _ = run_chain(tmp_path, [config], [source], faults=True)
    check_waves(store, '1979-01-01')
    with xr.open_zarr(store) as found:
        missing = found.toa_incident_solar_radiation.isnull().all(
            ('latitude', 'longitude')
        )
        assert missing.values.tolist() == [True, True] + 10 * [False]


@pytest.mark.slow
def test_a_store_like_arco_era5(tmp_path):
    source = shapes.arco(tmp_path / 'arco')
    config = write_config(tmp_path, start='2020-01-01')
    store, _ = run_chain(tmp_path, [config], [source])
    check_waves(store, '2020-01-01')


@pytest.mark.slow
def test_a_file_like_those_of_graphcast(tmp_path):
    source = shapes.graphcast(tmp_path / 'graphcast')
    config = write_config(tmp_path, start='2020-01-01', num_days=6)
    store, _ = run_chain(tmp_path, [config], [source])
    check_waves(store, '2020-01-01', num_times=24)


@pytest.mark.slow
def test_five_real_days_with_poles_on_a_grid_without(tmp_path, shared_data):
    source = shared_data / 'ncep_r1_20220101_5d_73x144.zarr'
    tiny_network = {
        'grid.kind': 'equiangular',
        'grid.num_lat': 64,
        'grid.num_lon': 64,
        'model.scalar_channels': 4,
        'model.vector_channels': 4,
        'model.num_blocks': 1,
        'model.num_knots': 4,
        'model.latent.num_lat': 24,
        'model.latent.num_lon': 48,
        'training.num_updates': 3,
        'training.warmup_updates': 1,
        'training.batch_size': 1,
        'training.curriculum': '((0, 1),)',
        'training.validate_every': 3,
        'training.checkpoint_every': 3,
        'forecast.lead_hours': 48,
    }
    flags = [f'--config.{key}={value}' for key, value in tiny_network.items()]
    store, rmse = run_chain(
        tmp_path, ['--config=configs/ncep_sample.py', *flags], [source]
    )
    # Of daily means, in m2 s-2: that of WeatherBench 2 on the grid of the source is
    # 51.7 m at one day (shared/data/README.md), and averaging over cells makes little
    # of it less.
    found = rmse['persistence', 'geopotential', 500, 24] / 9.80665
    assert 45 < found < 55
    with xr.open_zarr(store) as prepared:
        assert prepared.sizes['latitude'] == prepared.sizes['longitude'] == 64
        # The source has no humidity above 300 hPa.
        absent = prepared.specific_humidity.isnull().all(
            ('time', 'latitude', 'longitude')
        )
        assert set(prepared.level.values[absent]) <= {50, 100, 150, 200, 250}
