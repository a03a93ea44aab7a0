"""Terrain: smooth, periodic, single-valued at the poles."""

import numpy as np

from weather.data.simulation import terrain

LATITUDE, LONGITUDE = np.meshgrid(
    np.linspace(-90, 90, 91), np.arange(0, 360, 3.0), indexing='ij'
)


def test_a_range_has_its_height_at_the_centre_and_half_at_the_half_width():
    hill = terrain.HILLS[1]
    top = terrain.terrain_height(hill.latitude, hill.longitude)
    side = terrain.terrain_height(
        hill.latitude, hill.longitude + hill.half_width_longitude
    )
    # Neighbouring ranges contribute a little.
    np.testing.assert_allclose(top, hill.height_m, rtol=0.02)
    np.testing.assert_allclose(side, hill.height_m / 2, rtol=0.05)


def test_longitude_is_periodic():
    for field in (terrain.terrain_height, terrain.land_fraction):
        np.testing.assert_allclose(
            field(LATITUDE, LONGITUDE + 360), field(LATITUDE, LONGITUDE), rtol=1e-12
        )


def test_a_pole_has_one_height_and_one_surface():
    for field in (terrain.terrain_height, terrain.land_fraction):
        south = field(LATITUDE, LONGITUDE)[0]
        # Other shapes reach the pole with less than a thousandth of theirs.
        np.testing.assert_allclose(south, south[0], rtol=1e-2)


def test_land_is_a_fraction_and_covers_about_as_much_as_on_the_earth():
    land = terrain.land_fraction(LATITUDE, LONGITUDE)
    assert land.min() >= 0 and land.max() <= 1
    weights = np.cos(np.radians(LATITUDE))
    assert 0.2 < np.average(land, weights=weights) < 0.45


def test_continents_lie_where_the_name_says():
    assert terrain.land_fraction(50.0, 100.0) > 0.99  # Siberia
    assert terrain.land_fraction(0.0, 200.0) < 0.01  # Pacific
