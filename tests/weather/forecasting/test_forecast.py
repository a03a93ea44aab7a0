"""Forecasts: the model's own steps, read, named and written as they should be."""

import jax
import numpy as np
import pytest
import xarray as xr

from tests.weather import tiny
from weather.data.forcings import clock
from weather.forecasting import forecast
from weather.forecasting.export import NetcdfWriter
from weather.forecasting.run import load_run
from weather.model.forecaster import Forecaster
from weather.model.state import Forcing
from weather.training.trainer import train

ROUND_OFF = dict(rtol=1e-5, atol=1e-4)  # float32, another order in another program.
STARTS = np.array(['2001-01-09T00', '2001-01-09T06', '2001-01-09T12'], 'datetime64[ns]')


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp('forecast')
    tiny.write_store(folder / 'tiny.zarr')
    train(tiny.setup(folder / 'tiny.zarr', num_updates=5), folder / 'run')
    return folder / 'run'


@pytest.fixture(scope='module')
def run(workdir):
    return load_run(workdir)


@pytest.fixture(scope='module')
def store(run):
    return forecast.open_store(run)


@pytest.fixture(scope='module')
def forecasts(run, store):
    return forecast.run(
        run,
        store,
        init_times=STARTS,
        lead_times=forecast.hours(6, 24, step=6),
        batch_size=2,
    )


def test_hours_include_both_ends():
    np.testing.assert_array_equal(
        forecast.hours(6, 18, step=6), np.array([6, 12, 18], 'timedelta64[h]')
    )
    np.testing.assert_array_equal(
        forecast.hours(0.5, 1.5, step=0.5), np.array([30, 60, 90], 'timedelta64[m]')
    )


def test_a_forecast_is_the_repeated_step_of_the_model(run, store, forecasts):
    start = STARTS[1]
    fields = {
        name: store.dataset[name].sel(time=[start]).values for name in store.levels
    }
    state = run.model.normalize(fields)
    for lead in range(1, 5):
        valid = np.array([start + lead * np.timedelta64(6, 'h')])
        forcing = Forcing(clock(valid, timestep=run.timestep))
        state = jax.jit(Forecaster.step)(run.model, run.variables, state, forcing)
        expected = run.model.normalizer.denormalize(state)[0]
        found = forecasts.isel(time=1, prediction_timedelta=lead - 1)
        for channel, (name, level) in enumerate(run.model.channels):
            np.testing.assert_allclose(
                found[name].sel(level=level), expected[..., channel], **ROUND_OFF
            )


def test_forecasts_have_the_schema_of_weatherbench(forecasts):
    assert dict(forecasts.sizes) == {
        'time': 3,
        'prediction_timedelta': 4,
        'level': 2,
        'latitude': 8,
        'longitude': 16,
    }
    assert forecasts.geopotential.attrs['units'] == 'm2 s-2'
    assert np.isfinite(forecasts.to_array()).all()


def test_files_hold_what_the_forecast_in_memory_holds(run, store, forecasts, tmp_path):
    forecast.write_all(
        run, store, tmp_path / 'out', init_times=[str(t) for t in STARTS]
    )
    files = sorted((tmp_path / 'out').glob('*.nc'))
    assert len(files) == len(STARTS)
    with xr.open_dataset(files[1], decode_timedelta=True) as found:
        expected = forecasts.isel(time=1).temperature.values
        np.testing.assert_allclose(found.temperature.values, expected, **ROUND_OFF)
        assert found.forecast_reference_time.values == STARTS[1]
        assert found.attrs['config_hash'] == run.setup.digest
        assert found.attrs['checkpoint'] == 'checkpoints/5'


def test_a_forecast_may_be_longer_than_any_rollout_in_training(run, store):
    longer = forecast.run(
        run, store, init_times=STARTS[:1], lead_times=forecast.hours(240, 240, step=6)
    )
    assert longer.prediction_timedelta.values == np.timedelta64(240, 'h')


def test_the_starts_of_the_test_period_leave_room_for_the_last_lead(run, store):
    starts = forecast.default_init_times(run, store, np.timedelta64(24, 'h'))
    assert starts[0] == np.datetime64('2001-01-09T00')
    assert starts[-1] + np.timedelta64(24, 'h') == np.datetime64('2001-01-10T18')


def test_a_test_period_shorter_than_the_forecast_is_refused(run, store):
    with pytest.raises(ValueError, match='longer than 96 h'):
        forecast.default_init_times(run, store, np.timedelta64(96, 'h'))


def test_a_start_that_the_store_lacks_is_named(run, store):
    with pytest.raises(ValueError, match='2001-01-09T03:00'):
        forecast.run(
            run,
            store,
            init_times=['2001-01-09T03'],
            lead_times=forecast.hours(6, 6, step=6),
        )


def test_a_lead_time_between_steps_is_refused(run, store):
    with pytest.raises(ValueError, match='multiples of the model step of 6 h'):
        forecast.run(
            run, store, init_times=STARTS, lead_times=forecast.hours(3, 9, step=3)
        )


def test_lead_hours_below_a_step_are_refused(run, store, tmp_path):
    with pytest.raises(ValueError, match='a multiple of the model step'):
        forecast.write_all(run, store, tmp_path / 'out', lead_hours=3)


def test_an_unstable_model_is_reported_and_leaves_no_file(run, store, tmp_path):
    exploding = jax.tree.map(lambda leaf: leaf + 1e30, run.variables)
    broken = type(run)(**{**vars(run), 'variables': exploding})
    layout = forecast.make_layout(broken, store, STARTS, forecast.hours(6, 24, step=6))
    with (
        pytest.raises(FloatingPointError, match='not finite'),
        NetcdfWriter(tmp_path / 'out', layout) as writer,
    ):
        for slab in forecast.stream(broken, store, layout, batch_size=3):
            writer.write(slab.lead, slab.states, starts=slab.starts)
    assert not list(tmp_path.rglob('*.nc'))


def test_nan_in_an_initial_state_is_named(run, store):
    broken = store.dataset.copy(deep=True).load()
    broken.temperature.loc[dict(time=STARTS[0], level=850)] = np.nan
    atmosphere = type(store)(**{**vars(store), 'dataset': broken})
    with pytest.raises(ValueError, match='NaN in temperature at 850 on 2001-01-09'):
        forecast.run(
            run,
            atmosphere,
            init_times=STARTS,
            lead_times=forecast.hours(6, 6, step=6),
        )
