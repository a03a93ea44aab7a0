"""Forecasts: the model's own steps, read, named and written as they should be."""

import dataclasses
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from flax import struct

from learning import signals
from learning.files import OutputError
from tests.weather import tiny
from weather.data.forcings import clock
from weather.data.forecasts import open_forecasts
from weather.data.sources import StoreNotFoundError
from weather.forecasting import forecast
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


def with_weights(run, change):
    return dataclasses.replace(run, variables=jax.tree.map(change, run.variables))


def test_an_unstable_model_is_reported_and_leaves_no_file(run, store, tmp_path):
    broken = with_weights(run, lambda leaf: leaf + 1e30)
    with pytest.raises(FloatingPointError, match='not finite'):
        forecast.write_all(broken, store, tmp_path / 'out', init_times=STARTS)
    assert not list(tmp_path.iterdir())


def test_a_model_that_grows_is_refused_although_all_is_finite(run, store, tmp_path):
    @struct.dataclass
    class Growing(Forecaster):
        """One whose states are 1e6 times those of the step before."""

        def rollout(self, weights, state, forcings):
            return 1e6 * state[None]

    model = Growing(**{name: getattr(run.model, name) for name in vars(run.model)})
    growing = dataclasses.replace(run, model=model)
    for output in ('out', 'out.zarr'):
        with pytest.raises(FloatingPointError, match='at 6 h is implausible, .*e'):
            forecast.write_all(growing, store, tmp_path / output, init_times=STARTS)
    assert not list(tmp_path.iterdir())


def test_the_initial_state_is_written_at_0_h_as_the_store_has_it(run, store, tmp_path):
    forecast.write_all(
        run,
        store,
        tmp_path / 'out.zarr',
        init_times=STARTS,
        lead_hours=12,
        include_initial=True,
    )
    with open_forecasts(tmp_path / 'out.zarr') as written:
        lead_hours = written.prediction_timedelta.values / np.timedelta64(1, 'h')
        np.testing.assert_array_equal(lead_hours, [0, 6, 12])
        for name in store.levels:
            np.testing.assert_array_equal(
                written[name].isel(prediction_timedelta=0),
                store.dataset[name].sel(time=STARTS),
            )


@struct.dataclass
class Members(Forecaster):
    """A model that tells its members apart: every step adds the member's number."""

    def rollout(self, weights, state, forcings):
        numbers = jnp.arange(state.shape[1], dtype=jnp.float32)
        states = super().rollout(weights, state, forcings)
        return states + 1e-3 * numbers[:, None, None, None]


def test_a_model_may_give_members(run, store):
    parted = dataclasses.replace(
        run,
        model=Members(**{name: getattr(run.model, name) for name in vars(run.model)}),
    )
    arguments = dict(init_times=STARTS, lead_times=forecast.hours(0, 12, step=6))
    found = forecast.run(parted, store, num_members=3, batch_size=2, **arguments)
    alone = forecast.run(run, store, batch_size=2, **arguments)
    assert found.temperature.dims == (
        'time',
        'prediction_timedelta',
        'number',
        'level',
        'latitude',
        'longitude',
    )
    # The first is the model's own, all begin alike, and the others go their own way.
    for name in store.levels:
        np.testing.assert_allclose(found[name].sel(number=0), alone[name], **ROUND_OFF)
        initial = found[name].isel(prediction_timedelta=0)
        np.testing.assert_array_equal(initial.sel(number=2), initial.sel(number=0))
    spread = found.temperature.std('number').mean(('time', 'latitude', 'longitude'))
    assert (spread.isel(prediction_timedelta=slice(1, None)) > 0).all()
    assert (
        spread.isel(prediction_timedelta=2) > spread.isel(prediction_timedelta=1)
    ).all()


def write(run, store, output, **changes):
    arguments = dict(init_times=STARTS, lead_hours=12, **changes)
    forecast.write_all(run, store, output, **arguments)


def stopped_at(monkeypatch, *, start, lead):
    """Sends the process a signal while one lead time of one start is made."""
    whole = forecast.stream

    def stream(trained, atmosphere, layout, *, batch_size):
        for slab in whole(trained, atmosphere, layout, batch_size=1):
            if (slab.starts.start, slab.lead) == (start, lead):
                signal.raise_signal(signal.SIGTERM)
            yield slab

    monkeypatch.setattr(forecast, 'stream', stream)


@pytest.mark.parametrize('form', ['out', 'out.zarr'])
def test_what_was_interrupted_goes_on_where_it_stopped(
    run, store, tmp_path, monkeypatch, capsys, form
):
    output = tmp_path / form
    with monkeypatch.context() as patch, pytest.raises(signals.Interrupted) as stopped:
        stopped_at(patch, start=2, lead=0)
        write(run, store, output)
    assert stopped.value.message.startswith('stopped by SIGTERM: ')
    assert stopped.value.message.endswith('with --skip_existing goes on')
    before = {file.name: file.stat().st_mtime_ns for file in tmp_path.rglob('*.nc')}
    if form == 'out':
        assert sorted(before) == [
            'forecast_20010109T0000.nc',
            'forecast_20010109T0600.nc',
        ]
    else:
        assert not list(tmp_path.iterdir())
    assert not list(tmp_path.rglob('*.tmp'))

    write(run, store, output, skip_existing=True)
    after = {file.name: file.stat().st_mtime_ns for file in tmp_path.rglob('*.nc')}
    assert {name: after[name] for name in before} == before
    assert f'{len(STARTS) - len(before)} forecasts of 12 h' in capsys.readouterr().out
    with open_forecasts(output) as written:
        np.testing.assert_array_equal(written.time, STARTS)
        alone = forecast.run(
            run, store, init_times=STARTS, lead_times=forecast.hours(6, 12, step=6)
        )
        np.testing.assert_allclose(written.temperature, alone.temperature, **ROUND_OFF)

    write(run, store, output, skip_existing=True)
    assert '0 forecasts of 12 h' in capsys.readouterr().out
    with pytest.raises(OutputError, match='exists'):
        write(run, store, output)


def test_forecasts_of_another_checkpoint_are_not_skipped(run, store, tmp_path):
    write(run, store, tmp_path / 'out')
    provenance = {**run.provenance, 'checkpoint': 'checkpoints/4'}
    other = dataclasses.replace(run, provenance=provenance)
    with pytest.raises(OutputError, match="checkpoint is 'checkpoints/5' there"):
        write(other, store, tmp_path / 'out', skip_existing=True)
    write(other, store, tmp_path / 'out', skip_existing=True, overwrite=True)
    with open_forecasts(tmp_path / 'out') as written:
        assert written.attrs['checkpoint'] == 'checkpoints/4'


def test_nan_in_an_initial_state_is_named(run, store, tmp_path):
    broken = store.dataset.copy(deep=True).load()
    broken.temperature.loc[dict(time=STARTS[2], level=850)] = np.nan
    atmosphere = type(store)(**{**vars(store), 'dataset': broken})
    message = 'NaN in temperature at 850 on 2001-01-09T12:00'
    with pytest.raises(ValueError, match=message):
        forecast.run(
            run,
            atmosphere,
            init_times=STARTS,
            lead_times=forecast.hours(6, 6, step=6),
        )
    # Although it is the last of the starts, none is made.
    for output in ('out', 'out.zarr'):
        with pytest.raises(ValueError, match=message):
            write(run, atmosphere, tmp_path / output)
    assert not list(tmp_path.iterdir())


def test_the_store_that_is_read_is_never_written_to(run, store):
    with pytest.raises(OutputError, match='is what is read'):
        write(run, store, store.source, overwrite=True)
    with pytest.raises(OutputError, match='lies inside of the store'):
        write(run, store, f'{store.source}/forecasts', overwrite=True)


def test_the_newest_analysis_alone_is_enough(run, store, tmp_path):
    newest = tmp_path / 'newest.zarr'
    analysis = store.dataset.isel(time=[-1]).load()
    for variable in analysis.variables.values():
        variable.encoding = {}
    analysis.to_zarr(newest, zarr_format=2)
    alone = forecast.open_store(run, str(newest))
    for name, init_times in ('a', None), ('b', ['latest']):
        forecast.write_all(
            run, alone, tmp_path / name, init_times=init_times, lead_hours=240
        )
        with open_forecasts(tmp_path / name) as written:
            np.testing.assert_array_equal(written.time, store.times[-1:])
            assert written.prediction_timedelta[-1] == np.timedelta64(240, 'h')
            assert written.attrs['initial_states'] == str(newest)


def test_a_store_that_is_not_there_says_how_to_name_it(run):
    with pytest.raises(StoreNotFoundError, match='or name the store with --store'):
        forecast.open_store(
            dataclasses.replace(run, setup=tiny.setup('nowhere.zarr', num_updates=5))
        )
