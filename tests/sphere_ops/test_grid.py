import dataclasses

import numpy as np
import pytest

from sphere_ops import LatLonGrid
from sphere_ops.grid import KINDS, area_weights, is_global

# float64 sums of a few hundred terms of order one: only round-off remains.
ROUND_OFF = dict(rtol=0, atol=2e-14)


def legendre_integrals(grid: LatLonGrid, max_degree: int) -> np.ndarray:
    basis = np.polynomial.legendre.legvander(np.cos(grid.colatitudes), max_degree)
    return grid.quadrature_weights @ basis


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('num_lat', [2, 3, 8, 121, 256, 257])
def test_quadrature_integrates_polynomials_of_its_degree_exactly(kind, num_lat):
    grid = LatLonGrid(kind, num_lat=num_lat, num_lon=1)
    degree = 2 * num_lat - 1 if kind == 'gauss' else num_lat - 1
    exact = np.zeros(degree + 1)
    exact[0] = 2
    np.testing.assert_allclose(legendre_integrals(grid, degree), exact, **ROUND_OFF)


@pytest.mark.parametrize('kind', KINDS)
def test_quadrature_is_inexact_one_even_degree_higher(kind):
    grid = LatLonGrid(kind, num_lat=9, num_lon=1)
    degree = 18 if kind == 'gauss' else 10
    assert abs(legendre_integrals(grid, degree)[-1]) > 1e-3


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('num_lat', [2, 5, 64])
def test_nodes_run_from_north_to_south_symmetric_about_the_equator(kind, num_lat):
    grid = LatLonGrid(kind, num_lat=num_lat, num_lon=4)
    assert (np.diff(grid.latitudes) < 0).all()
    np.testing.assert_allclose(grid.latitudes, -grid.latitudes[::-1], atol=1e-12)
    np.testing.assert_allclose(
        np.degrees(grid.colatitudes), 90 - grid.latitudes, atol=1e-12
    )
    np.testing.assert_array_equal(grid.longitudes, [0, 90, 180, 270])


def test_equator_of_an_odd_grid_is_exactly_zero():
    for kind in KINDS:
        assert LatLonGrid(kind, num_lat=721, num_lon=4).latitudes[360] == 0


def test_nodes_of_the_three_kinds():
    sizes = dict(num_lat=3, num_lon=4)
    poles = LatLonGrid('equiangular_with_poles', **sizes)
    np.testing.assert_allclose(poles.latitudes, [90, 0, -90], **ROUND_OFF)
    centres = LatLonGrid('equiangular', **sizes)
    np.testing.assert_allclose(centres.latitudes, [60, 0, -60], **ROUND_OFF)
    gauss = np.degrees(np.arcsin(np.sqrt(0.6)))
    nodes = LatLonGrid('gauss', **sizes).latitudes
    np.testing.assert_allclose(nodes, [gauss, 0, -gauss], atol=1e-12)  # Degrees.


@pytest.mark.parametrize(
    'kind, num_lat, num_lon, max_degree',
    [
        ('equiangular_with_poles', 721, 1440, 360),
        ('equiangular_with_poles', 256, 256, 127),
        ('equiangular', 256, 512, 127),
        ('equiangular', 32, 64, 15),
        ('gauss', 32, 64, 31),
        ('gauss', 128, 128, 63),
        ('gauss', 2, 1, 0),
        ('equiangular', 2, 5, 0),
    ],
)
def test_max_degree(kind, num_lat, num_lon, max_degree):
    grid = LatLonGrid(kind, num_lat=num_lat, num_lon=num_lon)
    assert grid.max_degree == max_degree
    assert grid.shape == (num_lat, num_lon)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('num_lat', [2, 33, 128])
def test_area_weights_are_positive_with_mean_one(kind, num_lat):
    weights = LatLonGrid(kind, num_lat=num_lat, num_lon=4).area_weights
    assert (weights > 0).all()
    np.testing.assert_allclose(weights.mean(), 1, **ROUND_OFF)


def test_area_weights_are_cosines_without_poles_and_half_cells_at_poles():
    centres = LatLonGrid('equiangular', num_lat=64, num_lon=4)
    cosines = np.cos(np.radians(centres.latitudes))
    np.testing.assert_allclose(
        centres.area_weights, cosines / cosines.mean(), **ROUND_OFF
    )
    poles = LatLonGrid('equiangular_with_poles', num_lat=73, num_lon=4)
    # The cap poleward of 88.75 degrees; the mean area is 2 / 73.
    cap = (1 - np.sin(np.radians(88.75))) * 73 / 2
    np.testing.assert_allclose(poles.area_weights[0], cap, **ROUND_OFF)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('num_lat', [2, 3, 4, 9, 32, 73, 180, 721])
def test_area_weights_of_the_globe_are_bit_for_bit_those_of_weatherbench(kind, num_lat):
    """`metrics.get_lat_weights`: bounds halfway, the outermost at the poles."""
    latitudes = LatLonGrid(kind, num_lat=num_lat, num_lon=4).latitudes[::-1]
    inner = (latitudes[1:] + latitudes[:-1]) / 2
    bounds = np.concatenate([[-90.0], inner, [90.0]])
    areas = np.diff(np.sin(np.radians(bounds)))
    for ordered, expected in ((latitudes, areas), (latitudes[::-1], areas[::-1])):
        assert (area_weights(ordered) == expected / expected.mean()).all()


LIMITED = {
    'Europe': np.arange(35.0, 72.5, 2.5),
    'tropics': np.arange(-20.0, 25.0, 5.0),
    'hemisphere with its pole': np.linspace(20.0, 90.0, 15),
    'south of 60': np.arange(-88.75, -60.0, 2.5),
}


@pytest.mark.parametrize('area', LIMITED)
def test_rows_of_a_limited_area_weigh_their_own_cells(area):
    """Against the integral of cos(latitude) over each cell, by the midpoint rule."""
    latitudes = LIMITED[area]
    half = (latitudes[1] - latitudes[0]) / 2
    parts = (np.arange(2000) + 0.5) / 1000 - 1
    inside = latitudes[:, None] + half * parts
    cells = np.where(np.abs(inside) < 90, np.cos(np.radians(inside)), 0).sum(axis=1)
    # The midpoint rule's error: (half / 1000)**2 / 24 in radians, far below 1e-7.
    np.testing.assert_allclose(area_weights(latitudes), cells / cells.mean(), rtol=1e-7)
    assert not is_global(latitudes, np.arange(0, 360, 10.0))


def test_the_globe_is_global_wherever_its_columns_start():
    for kind in KINDS:
        grid = LatLonGrid(kind, num_lat=9, num_lon=12)
        assert is_global(grid.latitudes, grid.longitudes)
        assert is_global(grid.latitudes[::-1], grid.longitudes - 165)
        assert not is_global(grid.latitudes, grid.longitudes[:9])
        assert not is_global(grid.latitudes[:6], grid.longitudes)


def test_quadrature_and_area_weights_agree_where_both_are_smooth():
    grid = LatLonGrid('equiangular', num_lat=181, num_lon=4)
    ratio = grid.quadrature_weights * 181 / 2 / grid.area_weights
    # Both are areas of the same cells to second order in the 1 degree spacing.
    np.testing.assert_allclose(ratio[45:136], 1, atol=1e-3)


def test_grids_are_values():
    grid = LatLonGrid('gauss', num_lat=8, num_lon=16)
    same = LatLonGrid(kind='gauss', num_lat=8, num_lon=16)
    assert grid == same and hash(grid) == hash(same)
    assert grid != LatLonGrid('gauss', num_lat=8, num_lon=17)
    with pytest.raises(dataclasses.FrozenInstanceError):
        grid.num_lat = 9
    with pytest.raises(ValueError, match='read-only'):
        grid.latitudes[0] = 1


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('num_lat, num_lon', [(2, 1), (3, 7), (121, 240), (256, 512)])
def test_coordinates_identify_their_grid(kind, num_lat, num_lon):
    grid = LatLonGrid(kind, num_lat=num_lat, num_lon=num_lon)
    noise = np.where(np.arange(num_lat) % 2, 9e-4, -9e-4)
    found = LatLonGrid.from_latitudes_longitudes(
        (grid.latitudes + noise).astype(np.float32), grid.longitudes.astype(np.float32)
    )
    assert found == grid


def recognise(latitudes=None, longitudes=None):
    grid = LatLonGrid('equiangular', num_lat=32, num_lon=64)
    return LatLonGrid.from_latitudes_longitudes(
        grid.latitudes if latitudes is None else latitudes,
        grid.longitudes if longitudes is None else longitudes,
    )


CENTRES = np.arange(32) * -5.625 + 87.1875
EASTWARD = np.arange(64) * 5.625


@pytest.mark.parametrize(
    'coordinates, message',
    [
        (dict(latitudes=CENTRES[::-1]), 'north to south, got -87.* to 87.*flip'),
        (dict(latitudes=CENTRES - 0.25), "'equiangular'.*difference is 0.25 degrees"),
        (dict(latitudes=CENTRES[[1, 0, *range(2, 32)]]), 'rows 0 and 1 .*sort'),
        (dict(latitudes=np.full(32, np.nan)), 'latitude .*32 not finite'),
        (dict(latitudes=CENTRES[:1]), 'at least 2'),
        (dict(latitudes=CENTRES[:, None]), r'shape \(32, 1\)'),
        (dict(longitudes=EASTWARD - 180), '-180 to 174.*modulo 360 and sort'),
        (dict(longitudes=np.linspace(0, 360, 65)), 'repeats the first: drop'),
        (dict(longitudes=EASTWARD + 2.8125), 'difference is 2.8125 degrees'),
        (dict(longitudes=EASTWARD / 2), 'difference is 177.188 degrees'),
        (dict(longitudes=[]), 'longitude to be at least 1'),
    ],
)
def test_other_coordinates_are_refused_with_the_difference_and_the_fix(
    coordinates, message
):
    with pytest.raises(ValueError, match=message):
        recognise(**coordinates)


def test_real_samples_are_recognised(shared_data):
    xarray = pytest.importorskip('xarray')
    with xarray.open_dataset(shared_data / 'era5_19590102T00_tl31_37levels.nc') as era5:
        latitude, longitude = era5.latitude.values, era5.longitude.values
    if latitude[0] < latitude[-1]:
        latitude = latitude[::-1]
    found = LatLonGrid.from_latitudes_longitudes(latitude, longitude)
    assert found == LatLonGrid('gauss', num_lat=32, num_lon=64)


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(kind='gaus', num_lat=4, num_lon=8), "did you mean 'gauss'"),
        (dict(kind='gauss', num_lat=1, num_lon=8), 'num_lat .* >= 2, got 1'),
        (dict(kind='gauss', num_lat=4, num_lon=0), 'num_lon .* >= 1, got 0'),
        (dict(kind='gauss', num_lat=4.0, num_lon=8), 'num_lat .*got 4.0'),
    ],
)
def test_impossible_grids_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LatLonGrid(**arguments)
