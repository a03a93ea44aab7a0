"""Variables with roles from the store to the score: an input and a diagnostic."""

import numpy as np
import pytest
import xarray as xr

from tests.weather import tiny
from weather.data.forecasts import open_forecasts
from weather.evaluation.evaluate import evaluate
from weather.experiment import Experiment
from weather.forecasting import forecast
from weather.forecasting.run import load_run
from weather.training.trainer import train

SIX_HOURS = forecast.hours(6, 12, step=6)
START = ['2001-01-09T00']


def write_store(path) -> None:
    """The tiny atmosphere with a sea surface and rain, both of its temperature."""
    tiny.write_store(path)
    air = xr.open_zarr(path).temperature.sel(level=850, drop=True).load()
    fields = xr.Dataset(
        {
            'sea_surface_temperature': 285 + 0.1 * (air - 280),
            'total_precipitation_6hr': 1e-3 * np.square(air - 280) / 36,
        }
    )
    for field in fields.values():
        field.encoding.clear()
    fields.to_zarr(path, mode='a')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('roles')
    write_store(folder / 'store.zarr')
    entries = tiny.entries(folder / 'store.zarr')
    entries['data']['variables'] |= {
        'sea_surface_temperature': (),
        'total_precipitation_6hr': (),
    }
    entries['training'] |= {'num_updates': 40, 'curriculum': ((0, 1), (30, 2))}
    train(Experiment.from_config(entries), folder / 'run')
    return folder


@pytest.fixture(scope='module')
def run(folder):
    return load_run(folder / 'run')


def test_an_input_is_read_and_a_diagnostic_made(run):
    assert run.model.inputs.variables == ('sea_surface_temperature',)
    assert run.model.channels.outputs == {'total_precipitation_6hr'}
    forecasts = forecast.run(
        run, forecast.open_store(run), init_times=START, lead_times=SIX_HOURS
    )
    assert 'sea_surface_temperature' not in forecasts
    assert np.isfinite(forecasts.total_precipitation_6hr).all()


def test_both_go_through_files_and_scores(folder, run):
    forecast.write_all(
        run, forecast.open_store(run), folder / 'out', init_times=START, lead_hours=12
    )
    with open_forecasts(folder / 'out') as forecasts:
        scores = evaluate(forecasts, folder / 'store.zarr')
    rmse = scores.rmse.sel(variable='total_precipitation_6hr', region='global')
    # Trained on its spread from nothing: no better than a guess would be one std.
    rain = xr.open_zarr(folder / 'store.zarr').total_precipitation_6hr
    assert (rmse.sel(model='spherecast', level=-1) < float(rain.std())).all()


def test_a_store_without_the_diagnostic_serves_as_analysis(folder, run):
    path = folder / 'without.zarr'
    xr.open_zarr(folder / 'store.zarr').drop_vars('total_precipitation_6hr').to_zarr(
        path, zarr_format=2
    )
    one, other = (
        forecast.run(
            run, forecast.open_store(run, where), init_times=START, lead_times=SIX_HOURS
        )
        for where in (str(path), None)
    )
    xr.testing.assert_equal(one, other)


def test_inputs_that_end_too_early_are_refused_before_any_work(folder, run):
    last = ['2001-01-10T18']
    with pytest.raises(ValueError, match='sea_surface_temperature at every valid time'):
        forecast.write_all(
            run, forecast.open_store(run), folder / 'no', init_times=last, lead_hours=6
        )
    assert not (folder / 'no').exists()


def test_a_diagnostic_has_no_value_at_0_h(folder, run):
    with pytest.raises(ValueError, match='made by the first step'):
        forecast.write_all(
            run,
            forecast.open_store(run),
            folder / 'no',
            init_times=START,
            lead_hours=6,
            include_initial=True,
        )
