"""A model whose step is two of the store's, from training to scores."""

import dataclasses

import jax
import numpy as np
import pytest
import xarray as xr

from sphere_ops.grid import LatLonGrid
from tests.weather import tiny
from weather.data.preparation import prepare
from weather.data.statistics import load_statistics
from weather.evaluation.evaluate import evaluate
from weather.experiment import Experiment
from weather.forecasting import forecast
from weather.forecasting.run import load_run
from weather.training.trainer import open_training_store, train
from weather.workdir import Workdir

STARTS = np.array(['2001-01-08T06', '2001-01-08T12', '2001-01-08T18'], 'datetime64[ns]')
HOUR = np.timedelta64(1, 'h')
# Scaled to unit variance and back in float32.
ROUND_OFF = dict(rtol=2e-6, atol=2e-4)


def setup(store, hours, **training):
    entries = tiny.entries(store)
    entries['data']['timestep_hours'] = hours
    entries['data']['validation'] = ('2001-01-08', '2001-01-09')
    entries['training'].update(num_updates=3, curriculum=((0, 1), (2, 2)), **training)
    return Experiment.from_config(entries)


@pytest.fixture(scope='module')
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp('store') / 'tiny.zarr'
    tiny.write_store(path)
    return path


@pytest.fixture(scope='module')
def workdir(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp('runs') / 'twelve'
    train(setup(store, 12), folder)
    return folder


def test_the_run_knows_its_step(workdir):
    assert load_run(workdir).timestep == 12 * HOUR


def test_tendencies_are_those_over_the_models_step(store, workdir):
    truth = xr.open_zarr(store).sel(time=slice('2001-01-01', '2001-01-07')).load()
    channels = load_run(workdir).model.channels
    statistics = load_statistics(Workdir(workdir).statistics, channels)
    assert statistics.attrs['timestep_hours'] == 12
    weights = LatLonGrid('gauss', num_lat=8, num_lon=16).area_weights
    for number, (name, level) in enumerate(channels):
        field = truth[name].sel(level=level).values.astype(np.float64)
        change = field[2:] - field[:-2]
        mean = (change.mean(axis=(0, 2)) * weights).mean()
        variance = (((change - mean) ** 2).mean(axis=(0, 2)) * weights).mean()
        np.testing.assert_allclose(
            statistics['tendency_std'].values[number], np.sqrt(variance), rtol=1e-6
        )


def test_what_was_prepared_for_another_step_is_not_used(store, workdir):
    # `workdir` has left its own in the folder that all tests share.
    own = setup(store, 0)
    six = prepare(own, open_training_store(own)).statistics
    twelve = xr.open_dataset(Workdir(workdir).statistics)
    assert (six.attrs['timestep_hours'], twelve.attrs['timestep_hours']) == (6, 12)
    assert (six.tendency_std.values < 0.9 * twelve.tendency_std.values).all()
    np.testing.assert_array_equal(six['std'], twelve['std'])


def test_a_model_that_changes_nothing_forecasts_its_start_at_every_lead_time(
    store, workdir, tmp_path
):
    run = load_run(workdir)
    # As it is before its first update: the last layer begins at zero.
    unchanged = dataclasses.replace(run, variables=run.model.init(jax.random.key(0)))
    atmosphere = forecast.open_store(unchanged)
    found = forecast.run(
        unchanged,
        atmosphere,
        init_times=STARTS,
        lead_times=forecast.hours(12, 48, step=12),
        batch_size=2,
    )
    leads = found.prediction_timedelta.values
    assert (leads == np.arange(12, 60, 12) * HOUR).all()
    starts = xr.open_zarr(store).sel(time=STARTS).load()
    for name in ('geopotential', 'u_component_of_wind'):
        for lead in range(4):
            np.testing.assert_allclose(
                found[name]
                .isel(prediction_timedelta=lead)
                .transpose(*starts[name].dims),
                starts[name],
                **ROUND_OFF,
            )
    found.to_netcdf(tmp_path / 'forecasts.nc')
    scores = evaluate(str(tmp_path / 'forecasts.nc'), str(store), None)
    assert (scores.lead_time.values == leads).all()
    # Hence it is as good as persistence: its valid times are those of its leads.
    rmse = scores['rmse'].sel(variable='geopotential')
    found, expected = (rmse.sel(model=name) for name in ('spherecast', 'persistence'))
    assert (found.sel(region='global') > 10).all()
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_forecasts_of_a_trained_run_are_at_multiples_of_its_step(workdir, tmp_path):
    run = load_run(workdir)
    atmosphere = forecast.open_store(run)
    output = tmp_path / 'forecasts'
    forecast.write_all(run, atmosphere, output, init_times=STARTS[:1], lead_hours=48)
    (path,) = output.glob('*.nc')
    written = xr.open_dataset(path, decode_timedelta=True)
    leads = written.prediction_timedelta.values
    assert (leads == np.arange(12, 60, 12) * HOUR).all()
    with pytest.raises(ValueError, match='multiple of the model step, 12 h'):
        forecast.write_all(run, atmosphere, output, lead_hours=30)
    with pytest.raises(ValueError, match='multiples of the model step of 12 h'):
        forecast.run(
            run, atmosphere, init_times=STARTS, lead_times=forecast.hours(6, 6, step=6)
        )


@pytest.mark.parametrize('hours', [3, 9])
def test_an_impossible_step_is_refused_before_anything_is_written(
    store, tmp_path, hours
):
    with pytest.raises(ValueError, match='multiple of the step of the store, 6 h'):
        train(setup(store, hours), tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_runs_at_the_stores_own_step_keep_their_digest(store):
    entries = tiny.entries(store)
    old = Experiment.from_config(entries)
    entries['data']['timestep_hours'] = 0
    assert Experiment.from_config(entries).digest == old.digest
    entries['data']['timestep_hours'] = 12
    assert Experiment.from_config(entries).digest != old.digest
