"""The commands from a simulated store to scores, run as a user runs them."""

import hashlib
import json
import pathlib
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from sphere_ops.grid import LatLonGrid

ROOT = pathlib.Path(__file__).resolve().parents[2]
GRID = LatLonGrid('equiangular', num_lat=12, num_lon=24)
WINDS = ('u_component_of_wind', 'v_component_of_wind')
HOURS = np.timedelta64(1, 'h')


def run(script, *flags):
    return subprocess.run(
        [sys.executable, ROOT / 'scripts' / script, *flags],
        cwd=ROOT,
        env={'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope='module')
def stores(tmp_path_factory):
    """A store of three days and forecasts of it, one netCDF file per start."""
    folder = tmp_path_factory.mktemp('stores')
    rng = np.random.default_rng(0)
    times = pd.date_range('2001-03-01', periods=12, freq='6h').as_unit('ns')
    shape = (12, 1, *GRID.shape)
    coordinates = dict(
        time=times, level=[500], latitude=GRID.latitudes, longitude=GRID.longitudes
    )
    truth = xr.Dataset(
        {
            name: (tuple(coordinates), rng.normal(size=shape).astype(np.float32))
            for name in WINDS
        },
        coords=coordinates,
    )
    truth.to_zarr(folder / 'truth.zarr', zarr_format=2)
    (folder / 'forecasts').mkdir()
    for start in times[[0, 4]]:
        # What scripts/forecast.py writes: valid times, and two more coordinates.
        forecast = truth.sel(time=start + np.array([6, 12]) * HOURS) + 0.5
        forecast.assign_coords(
            forecast_reference_time=start,
            forecast_period=('time', np.array([6, 12]) * HOURS),
        ).to_netcdf(folder / 'forecasts' / f'forecast_{start:%Y%m%dT%H%M}.nc')
    return folder


def test_climatology_and_scores_from_the_command_line(stores):
    climatology = stores / 'climatology.zarr'
    done = run(
        'compute_climatology.py',
        f'--store={stores / "truth.zarr"}',
        f'--output={climatology}',
    )
    assert done.returncode == 0, done.stderr
    output = stores / 'scores.csv'
    done = run(
        'evaluate.py',
        f'--forecast={stores / "forecasts"}',
        f'--truth={stores / "truth.zarr"}',
        f'--climatology={climatology}',
        '--regions=global,tropics',
        '--model_name=shifted',
        f'--output={output}',
    )
    assert done.returncode == 0, done.stderr
    assert 'grid: equiangular, 12 x 24 (lat x lon)' in done.stdout
    assert 'weighting: ' in done.stdout
    assert 'not scored' not in done.stdout
    table = pd.read_csv(output)
    assert list(table.columns) == [
        'model',
        'variable',
        'level',
        'region',
        'lead_time_hours',
        'metric',
        'value',
    ]
    assert set(table.model) == {'shifted', 'persistence', 'climatology'}
    ours = table[(table.model == 'shifted') & (table.variable == WINDS[0])]
    bias = ours[ours.metric == 'bias'].value
    # Forecasts are the truth plus one half; both are float32.
    assert len(bias) == 4
    np.testing.assert_allclose(bias, 0.5, atol=1e-6)


def score(stores, output, *flags):
    return run(
        'evaluate.py',
        f'--forecast={stores / "forecasts"}',
        f'--truth={stores / "truth.zarr"}',
        f'--output={output}',
        '--regions=global',
        *flags,
    )


def test_scores_are_replaced_when_told_and_say_whose_they_are(stores, tmp_path):
    output = tmp_path / 'scores.csv'
    assert score(stores, output).returncode == 0
    before = output.read_bytes()
    done = score(stores, output, '--lead_hours=6')
    assert done.returncode == 1
    assert done.stderr.count('\n') == 1 and 'say --overwrite' in done.stderr
    assert output.read_bytes() == before
    assert score(stores, output, '--lead_hours=6', '--overwrite').returncode == 0
    record = json.loads((tmp_path / 'scores.provenance.json').read_text())
    assert record['sha256'] == hashlib.sha256(output.read_bytes()).hexdigest()
    assert record['starts'] == ['2001-03-01T00:00', '2001-03-02T00:00']
    assert record['lead_hours'] == [6]
    assert record['forecast']['address'] == str(stores / 'forecasts')


def test_what_is_read_is_never_written_to(stores, tmp_path):
    truth = tmp_path / 'truth.nc'
    with xr.open_zarr(stores / 'truth.zarr') as dataset:
        dataset.to_netcdf(truth)
    before = truth.read_bytes()
    for flags in ((), ('--overwrite',)):
        done = score(stores, truth, f'--truth={truth}', *flags)
        assert done.returncode == 1
        assert 'is what is read' in done.stderr and done.stderr.count('\n') == 1
    inside = stores / 'forecasts' / 'scores.csv'
    done = score(stores, stores / 'forecasts', '--overwrite')
    assert done.returncode == 1 and 'is what is read' in done.stderr
    assert truth.read_bytes() == before and not inside.exists()


def test_what_was_not_scored_is_printed(stores, tmp_path):
    truth = xr.open_zarr(stores / 'truth.zarr').rename({WINDS[0]: 'u_componet_of_wind'})
    truth.to_zarr(tmp_path / 'typo.zarr', zarr_format=2)
    done = score(stores, tmp_path / 's.csv', f'--truth={tmp_path / "typo.zarr"}')
    assert done.returncode == 0, done.stderr
    assert (
        "not scored:\n  only in the forecast, did you mean 'u_componet_of_wind'?: "
        'u_component_of_wind\n' in done.stdout
    )
    record = json.loads((tmp_path / 's.provenance.json').read_text())
    assert list(record['not_scored']) == ['u_component_of_wind', 'u_componet_of_wind']


@pytest.mark.parametrize('script', ['evaluate.py', 'compute_climatology.py'])
def test_help_has_an_example_and_loads_nothing(script):
    done = run(script, '--help')
    assert f'python scripts/{script}' in done.stdout
    source = (ROOT / 'scripts' / script).read_text()
    assert len(source.splitlines()) <= 60


@pytest.mark.parametrize('script', ['evaluate.py', 'compute_climatology.py'])
def test_misspelt_flags_name_the_nearest(script):
    done = run(script, '--outptu=x')
    assert done.returncode != 0
    assert 'Did you mean: output' in done.stderr + done.stdout


def test_missing_store_is_a_plain_error(stores):
    done = run(
        'evaluate.py',
        f'--forecast={stores / "forecasts"}',
        f'--truth={stores / "truht.zarr"}',
        f'--output={stores / "none.csv"}',
    )
    assert done.returncode != 0
    assert 'did you mean' in done.stderr and 'truth.zarr' in done.stderr
    assert not (stores / 'none.csv').exists()


def test_headline_channels_that_are_absent_are_named(stores):
    done = run(
        'evaluate.py',
        f'--forecast={stores / "forecasts"}',
        f'--truth={stores / "truth.zarr"}',
        '--channels=headline',
        f'--output={stores / "none.csv"}',
    )
    assert done.returncode != 0
    assert "'geopotential' is not in both forecast and truth" in done.stderr
