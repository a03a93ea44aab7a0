"""Planet: units, grid and orientation of the model's own world."""

import numpy as np
import pytest

from sphere_ops import LatLonGrid
from weather.data.simulation.planet import NUMERICS, Planet


def test_units_are_those_of_a_planet_of_the_earths_size(planet):
    # Radius and twice the angular velocity are the units of length and time.
    assert planet.si('m') == pytest.approx(6.37122e6)
    assert planet.si('s') == pytest.approx(1 / (2 * 7.292e-5))
    assert planet.si('m/s') == pytest.approx(planet.si('m') / planet.si('s'))
    assert planet.time_step * planet.si('s') == pytest.approx(3600)


@pytest.mark.parametrize('max_wavenumber', NUMERICS)
def test_every_truncation_is_free_of_aliasing_and_outputs_every_six_hours(
    max_wavenumber,
):
    planet = Planet(max_wavenumber)
    num_lon, num_lat = planet.coords.horizontal.nodal_shape
    assert num_lon >= 3 * max_wavenumber + 1
    assert num_lon == 2 * num_lat
    assert planet.numerics.steps_per_day % 4 == 0


def test_nodes_are_the_gauss_grid(planet):
    latitude, longitude = planet.degrees
    grid = LatLonGrid('gauss', num_lat=32, num_lon=64)
    np.testing.assert_allclose(latitude[0, ::-1], grid.latitudes, atol=1e-9)
    np.testing.assert_allclose(longitude[:, 0], grid.longitudes, atol=1e-9)


def test_the_uppermost_layer_lies_above_50_hpa_wherever_the_ground_is(planet):
    highest_surface_pressure_hpa = 1050
    assert planet.coords.vertical.centers[0] * highest_surface_pressure_hpa < 50


def test_orography_is_resolved_without_deep_ripples(planet):
    height = planet.surface_geopotential / 9.80616
    assert 1500 < height.max() < 4000
    assert height.min() > -150  # Gibbs ripples, m


def test_the_mean_of_one_is_one(planet):
    ones = np.ones(planet.coords.horizontal.nodal_shape)
    np.testing.assert_allclose(planet.mean(ones), 1, rtol=1e-6)


def test_an_unknown_truncation_names_the_known_ones():
    with pytest.raises(ValueError, match=r'expected max_wavenumber in \(21, .*got 22'):
        Planet(22)
