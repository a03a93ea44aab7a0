"""The Equal Earth map keeps areas, inverts, and shows a field where it is."""

import numpy as np
import pytest

from weather.evaluation.projection import (
    EDGE_X,
    EDGE_Y,
    Globe,
    outline,
    project,
    project_vectors,
    unproject,
)

# Central differences over a hundredth of a degree leave their square, and round-off.
DIFFERENCES = dict(rtol=2e-7)
# The inverse reads a table of 40,001 rows: linear between rows 0.003 degrees apart.
TABLE_DEGREES = 1e-6
# Bilinear interpolation misses the square of the spacing, 5 degrees, over 8 times the
# second derivatives, which are at most sqrt(2) along latitude and 1 along longitude.
BILINEAR = np.radians(5) ** 2 / 8 * (np.sqrt(2) + 1)


def random_points(count=500):
    rng = np.random.default_rng(3)
    return rng.uniform(-89, 89, count), rng.uniform(-179, 179, count)


def test_edges_are_those_of_the_published_map():
    # The pole line is 0.59 times as long as the equator, the map 2.05 times as wide as
    # high (Šavrič et al. 2018, section 4).
    assert EDGE_X / EDGE_Y == pytest.approx(2.05, abs=0.006)
    pole, equator = project(np.array([90.0, 0.0]), np.array([180.0, 180.0])).x
    assert pole / equator == pytest.approx(0.59, abs=0.005)
    assert project(np.array(90.0), np.array(0.0)).y == pytest.approx(EDGE_Y)
    assert equator == pytest.approx(EDGE_X)


def test_areas_are_kept():
    latitudes, longitudes = random_points()
    step = 1e-2
    dx = (
        project(latitudes, longitudes + step).x
        - project(latitudes, longitudes - step).x
    )
    dy = (
        project(latitudes + step, longitudes).y
        - project(latitudes - step, longitudes).y
    )
    # y depends on the latitude alone, so that the Jacobian is one product.
    jacobian = dx * dy / np.radians(2 * step) ** 2
    np.testing.assert_allclose(jacobian, np.cos(np.radians(latitudes)), **DIFFERENCES)


def test_inverse_returns_the_point():
    latitudes, longitudes = random_points()
    found = unproject(*project(latitudes, longitudes))
    np.testing.assert_allclose(found.latitudes, latitudes, atol=TABLE_DEGREES)
    np.testing.assert_allclose(found.longitudes, longitudes, atol=TABLE_DEGREES * 10)


def test_points_off_the_map_are_nan():
    found = unproject(np.array([0, EDGE_X, 0.99 * EDGE_X]), np.array([2, 0.5, 1.2]))
    assert np.isnan(found.longitudes).all() and np.isnan(found.latitudes).all()


def test_outline_encloses_every_point():
    edge = outline()
    assert edge.x[0] == edge.x[-1] and edge.y[0] == edge.y[-1]
    assert np.abs(edge.x).max() == pytest.approx(EDGE_X)
    assert np.abs(edge.y).max() == pytest.approx(EDGE_Y)


def test_winds_keep_their_strength_and_follow_the_graticule():
    latitudes, longitudes = random_points()
    nothing, ten = np.zeros(latitudes.size), np.full(latitudes.size, 10.0)
    eastward = project_vectors(latitudes, longitudes, ten, nothing)
    np.testing.assert_allclose(eastward.x, 10)
    np.testing.assert_allclose(eastward.y, 0, atol=1e-9)
    northward = project_vectors(latitudes, longitudes, nothing, ten)
    np.testing.assert_allclose(np.hypot(*northward), 10)
    assert (northward.y > 0).all()
    # Meridians lean towards the central one on the way to the north pole.
    north = latitudes > 5
    leaning = -np.sign(longitudes[north])
    np.testing.assert_array_equal(np.sign(northward.x[north]), leaning)


def test_calm_is_no_vector():
    still = project_vectors(*random_points(3), np.zeros(3), np.zeros(3))
    np.testing.assert_array_equal(still, np.zeros((2, 3)))


@pytest.mark.parametrize(
    ('latitudes', 'num_lon'),
    [
        (np.linspace(90, -90, 37), 72),
        (np.linspace(87.5, -87.5, 36), 73),  # No poles, an odd number of columns.
    ],
)
def test_pixels_show_the_field_at_their_place(latitudes, num_lon):
    longitudes = np.arange(num_lon) * 360 / num_lon
    colatitude, longitude = np.radians(90 - latitudes)[:, None], np.radians(longitudes)
    field = np.sin(colatitude) * np.cos(longitude - 0.3) + np.cos(colatitude)
    globe = Globe(latitudes, longitudes)
    points = unproject(globe.x, globe.y[:, None])
    colatitude, longitude = (
        np.radians(90 - points.latitudes),
        np.radians(points.longitudes),
    )
    expected = np.sin(colatitude) * np.cos(longitude - 0.3) + np.cos(colatitude)
    inside = np.abs(points.latitudes) <= latitudes[0]
    np.testing.assert_allclose(
        globe.pixels(field)[inside], expected[inside], atol=BILINEAR
    )
    np.testing.assert_array_equal(
        np.isnan(globe.pixels(field)), np.isnan(points.latitudes)
    )


def test_map_is_continuous_across_greenwich_and_ends_at_the_date_line():
    longitudes = np.arange(72) * 5.0
    globe = Globe(np.linspace(90, -90, 37), longitudes)
    # A ramp from 0 to 360 jumps at Greenwich: in the middle of the map.
    middle = globe.pixels(np.broadcast_to(longitudes, (37, 72)))[globe.y.size // 2]
    jumps = np.flatnonzero(np.abs(np.diff(middle)) > 20)
    assert np.all(np.abs(globe.x[jumps]) < 0.1)


def test_land_is_sampled_like_any_field():
    latitudes, longitudes = np.linspace(90, -90, 19), np.arange(36) * 10.0
    land = np.broadcast_to((latitudes > 0)[:, None], (19, 36)).astype(float)
    globe = Globe(latitudes, longitudes, land)
    np.testing.assert_array_equal(globe.land, globe.pixels(land))
    assert Globe(latitudes, longitudes).land is None
