"""Simulated stores: schema, balance, climate, determinism, caching."""

import dataclasses
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from learning.files import OutputError, temporary_name
from sphere_ops import LatLonGrid
from weather.data.simulation import SimulationConfig, planet_store, simulate
from weather.variables import VARIABLES, WEATHERBENCH_LEVELS

SHORT = SimulationConfig(num_days=2, spin_up_days=1)
EARTH_RADIUS_M = 6.37122e6
CORIOLIS_S = 2 * 7.292e-5
GAS_CONSTANT = 1004 * 2 / 7


@pytest.fixture(scope='module')
def atmosphere(store):
    with xr.open_zarr(store) as dataset:
        yield dataset.load()


def files(path: pathlib.Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob('*'))
        if file.is_file()
    }


# Schema.


def test_store_has_the_dims_and_coordinates_of_weatherbench(atmosphere):
    dims = ('time', 'level', 'latitude', 'longitude')
    for name in planet_store.diagnostics.NAMES:
        assert atmosphere[name].dims == dims
        assert atmosphere[name].dtype == np.float32
    np.testing.assert_array_equal(atmosphere.level, WEATHERBENCH_LEVELS)
    grid = LatLonGrid.from_latitudes_longitudes(
        atmosphere.latitude.values, atmosphere.longitude.values
    )
    assert grid == LatLonGrid('gauss', num_lat=32, num_lon=64)


def test_times_are_six_hourly_from_the_start_date(atmosphere):
    time = atmosphere.time.values
    assert time[0] == np.datetime64('2001-01-01T00')
    assert time.size == 40
    assert set(np.diff(time)) == {np.timedelta64(6, 'h')}


def test_variables_carry_cf_attributes_and_lie_in_their_plausible_ranges(atmosphere):
    for name, field in atmosphere.data_vars.items():
        variable = VARIABLES[name]
        assert field.attrs['units'] == variable.units
        assert field.attrs['standard_name'] == variable.standard_name
        assert np.isfinite(field).all(), name
        least, largest = variable.plausible
        assert least <= field.min() and field.max() <= largest, name


def test_zeros_and_missing_values_are_told_apart(store):
    """Nothing but NaN is missing: an exact zero must survive any reader."""
    with xr.open_zarr(store, mask_and_scale=False) as raw:
        assert np.isnan(raw.temperature.attrs['_FillValue'])
        assert '_FillValue' not in raw.time.attrs
        assert raw.time[0] == np.datetime64('2001-01-01')


# Balance.


def interior(field):
    """Latitudes 25..65 of both hemispheres, where the flow is geostrophic."""
    return field.where((abs(field.latitude) > 25) & (abs(field.latitude) < 65))


def slope_and_correlation(wind, geostrophic):
    wind, geostrophic = (
        interior(field).values.ravel() for field in (wind, geostrophic)
    )
    valid = np.isfinite(wind) & np.isfinite(geostrophic)
    wind, geostrophic = wind[valid], geostrophic[valid]
    correlation = np.corrcoef(wind, geostrophic)[0, 1]
    return np.polyfit(geostrophic, wind, 1)[0], correlation


def test_winds_are_geostrophic_eastward_and_northward(atmosphere):
    """u = -dphi/dy / f and v = dphi/dx / f: a swapped sign or row would show."""
    fields = atmosphere.sel(level=500)
    latitude = np.radians(fields.latitude)
    coriolis = CORIOLIS_S * np.sin(latitude)
    phi = fields.geopotential
    northward_gradient = phi.differentiate('latitude') * 180 / np.pi / EARTH_RADIUS_M
    # Periodic centred difference in longitude.
    spacing = 2 * np.radians(360 / 64) * EARTH_RADIUS_M * np.cos(latitude)
    eastward_gradient = (phi.roll(longitude=-1) - phi.roll(longitude=1)) / spacing
    for name, geostrophic in (
        ('u_component_of_wind', -northward_gradient / coriolis),
        ('v_component_of_wind', eastward_gradient / coriolis),
    ):
        slope, correlation = slope_and_correlation(fields[name], geostrophic)
        # Rossby numbers of 0.1-0.2 and differences over 5.6 degrees.
        assert correlation > 0.95, name
        assert 0.8 < slope < 1.25, name


def test_thickness_is_hydrostatic(atmosphere):
    """Each layer between levels against the mean of the temperatures at its ends."""
    temperature = atmosphere.temperature.values
    depth = np.diff(np.log(WEATHERBENCH_LEVELS))[:, None, None]
    mean = (temperature[:, 1:] + temperature[:, :-1]) / 2
    expected = GAS_CONSTANT * mean * depth
    thickness = -np.diff(atmosphere.geopotential.values, axis=1)
    error = thickness / expected - 1
    # The profile bends between two levels: a little at the tropopause, most where a
    # cold pool lies on a plateau and temperature rises with height for a while.
    assert np.sqrt(np.mean(error**2)) < 2e-3
    assert np.abs(error).max() < 0.05


def test_levels_below_the_ground_are_filled_smoothly(atmosphere):
    mountain = atmosphere.geopotential_at_surface.argmax(...)
    column = atmosphere.isel(mountain)
    underground = column.geopotential < column.geopotential_at_surface
    assert underground.sel(level=1000).all() and not underground.sel(level=400).any()
    warming = column.temperature.sel(level=1000) - column.temperature.sel(level=850)
    assert ((warming > 0) & (warming < 20)).all()


# Climate: that of the Earth at an equinox, roughly.


def zonal_mean(field):
    return field.mean(('time', 'longitude'))


def test_jets_are_westerly_in_both_hemispheres_and_trades_easterly(atmosphere):
    jet = zonal_mean(atmosphere.u_component_of_wind.sel(level=250))
    assert 15 < jet.sel(latitude=slice(60, 25)).max() < 70
    assert 15 < jet.sel(latitude=slice(-25, -60)).max() < 70
    trades = zonal_mean(atmosphere.u_component_of_wind.sel(level=925))
    assert (trades.sel(latitude=slice(20, 8)) < 0).all()
    assert (trades.sel(latitude=slice(-8, -20)) < 0).all()


def test_temperature_falls_towards_the_poles_and_with_height(atmosphere):
    surface = zonal_mean(atmosphere.temperature.sel(level=850))
    tropics = surface.sel(latitude=slice(15, -15)).mean()
    for band in (slice(90, 60), slice(-60, -90)):
        contrast = tropics - surface.sel(latitude=band).mean()
        assert 25 < contrast < 60
    aloft = zonal_mean(atmosphere.temperature)
    assert (aloft.sel(level=850) > aloft.sel(level=500) + 15).all()
    assert (aloft.sel(level=500) > aloft.sel(level=250) + 10).all()


def test_moisture_is_most_in_the_warm_boundary_layer(atmosphere):
    humidity = atmosphere.specific_humidity
    assert humidity.min() >= 0 and humidity.max() < 0.03
    tropics = zonal_mean(humidity.sel(latitude=slice(15, -15))).mean('latitude')
    assert tropics.sel(level=1000) > 0.008
    assert tropics.sel(level=300) < 0.1 * tropics.sel(level=850)


def test_eddies_of_middle_latitudes_are_alive(atmosphere):
    """Fluctuation of Z500 within ten days, m2 s-2."""
    phi = atmosphere.geopotential.sel(level=500)
    spread = phi.std('time').mean('longitude')
    for band in (slice(60, 40), slice(-40, -60)):
        assert 200 < spread.sel(latitude=band).mean() < 1500


def test_rain_and_ascent_go_together(atmosphere):
    """Ascending air in the lower troposphere is the moister one."""
    band = atmosphere.sel(level=700, latitude=slice(60, 30))
    omega, humidity = (
        (field - field.mean(('time', 'longitude'))).values.ravel()
        for field in (band.vertical_velocity, band.specific_humidity)
    )
    assert np.corrcoef(omega, humidity)[0, 1] < -0.1


# Determinism and caching.


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path):
    first, second, other = (
        files(simulate(dataclasses.replace(SHORT, seed=seed), tmp_path / name))
        for name, seed in (('a.zarr', 0), ('b.zarr', 0), ('c.zarr', 1))
    )
    assert first == second
    assert first['temperature/1.0.0.0'] != other['temperature/1.0.0.0']


def test_spin_up_is_discarded_and_not_merely_relabelled(tmp_path):
    long = simulate(
        dataclasses.replace(SHORT, num_days=3, spin_up_days=0), tmp_path / 'l'
    )
    short = simulate(SHORT, tmp_path / 's')
    assert files(long)['temperature/1.0.0.0'] == files(short)['temperature/0.0.0.0']


def test_a_complete_store_is_left_alone(tmp_path, monkeypatch, capsys):
    path = simulate(SHORT, tmp_path / 'planet.zarr')
    monkeypatch.setattr(planet_store, '_write_store', None)  # would fail if called
    assert simulate(SHORT, path) == path
    assert 'already' in capsys.readouterr().out


def test_a_store_with_other_parameters_is_replaced_only_when_it_is_said(tmp_path):
    path = simulate(SHORT, tmp_path / 'planet.zarr')
    before = files(path)
    wanted = dataclasses.replace(SHORT, num_days=1)
    with pytest.raises(OutputError, match=r'num_days = 2 \(wanted 1\); say --'):
        simulate(wanted, path)
    assert files(path) == before
    simulate(wanted, path, overwrite=True)
    with xr.open_zarr(path) as found:
        assert found.sizes['time'] == planet_store.STEPS_PER_DAY
    assert os.listdir(tmp_path) == ['planet.zarr']


@pytest.mark.parametrize('kind', ['file', 'folder', 'store'])
def test_something_else_at_the_path_survives_overwrite(tmp_path, kind):
    path = tmp_path / 'notes'
    if kind == 'file':
        path.write_text('precious')
    elif kind == 'folder':
        path.mkdir()
        (path / 'precious').touch()
    else:
        xr.Dataset({'precious': 1.0}).to_zarr(path, zarr_format=2)
    before = files(tmp_path)
    with pytest.raises(OutputError, match='expected nothing, or a simulated planet'):
        simulate(SHORT, path, overwrite=True)
    assert files(tmp_path) == before


def test_what_a_killed_simulation_left_is_cleared_by_the_next(tmp_path):
    path = simulate(SHORT, tmp_path / 'planet.zarr')
    done = subprocess.run(
        [sys.executable, '-c', 'import os; print(os.getpid())'],
        capture_output=True,
        text=True,
        check=True,
    )
    mine, dead = str(os.getpid()), done.stdout.strip()
    left = temporary_name(path).name.replace(mine, dead)
    (tmp_path / left).mkdir()
    assert simulate(SHORT, path) == path
    assert os.listdir(tmp_path) == ['planet.zarr']


def test_an_interrupted_run_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(fields, day):
        raise KeyboardInterrupt

    monkeypatch.setattr(planet_store, '_checked', interrupt)
    with pytest.raises(KeyboardInterrupt):
        simulate(SHORT, tmp_path / 'planet.zarr')
    assert not os.listdir(tmp_path)


def test_a_simulation_that_blows_up_says_so():
    fields = {'temperature': np.array([280.0, np.nan])}
    with pytest.raises(FloatingPointError, match='unstable before day 3.*more steps'):
        planet_store._checked(fields, 3)


def test_a_remote_path_is_an_error():
    with pytest.raises(OutputError, match='gs://.*expected a local path'):
        simulate(SHORT, 'gs://bucket/planet.zarr')


@pytest.mark.parametrize(
    'wrong',
    [{'num_days': 0}, {'spin_up_days': -1}, {'seed': -1}, {'max_wavenumber': 20}],
)
def test_impossible_parameters_are_errors_at_construction(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SimulationConfig(**wrong)


def test_help_answers_at_once_with_an_example():
    script = pathlib.Path(__file__).parents[4] / 'scripts' / 'simulate.py'
    result = subprocess.run(
        [sys.executable, script, '--help'], capture_output=True, text=True, timeout=20
    )
    assert 'python scripts/simulate.py --output=' in result.stdout
