"""Which regridding suits which grids."""

import numpy as np
import pytest

from sphere_ops.grid import LatLonGrid
from weather.data.regridding import make_regridder

TARGET = LatLonGrid('equiangular', num_lat=8, num_lon=16)
POLES = LatLonGrid('equiangular_with_poles', num_lat=19, num_lon=36)


@pytest.mark.parametrize('method', ['conservative', 'spectral'])
def test_a_source_on_the_grid_wanted_is_left_as_it_is(method):
    regridder = make_regridder(method, TARGET.latitudes, TARGET.longitudes, TARGET)
    field = np.random.default_rng(0).normal(size=TARGET.shape).astype(np.float32)
    field[0, 0] = np.nan
    assert regridder.scalars(field) is field
    winds = regridder.winds(field, field)
    assert winds.u is field
    assert winds.v is field
    assert 'already' in regridder.name


def test_rows_that_are_no_grid_can_be_averaged():
    # 720 rows without the south pole, as some models have them.
    latitudes = 90 - np.arange(18) * 10.0
    regridder = make_regridder('conservative', latitudes, POLES.longitudes, TARGET)
    ones = np.ones((18, 36), np.float32)
    np.testing.assert_allclose(regridder.winds(ones, 2 * ones).v, 2, rtol=3e-7)
    with pytest.raises(ValueError, match='say prepare.regridding=conservative'):
        make_regridder('spectral', latitudes, POLES.longitudes, TARGET)


def test_columns_between_meridians_are_no_obstacle():
    longitudes = POLES.longitudes + 5
    phase = np.cos(np.radians(POLES.latitudes))[:, None]
    field = (phase * np.cos(np.radians(longitudes))).astype(np.float32)
    spectral = make_regridder('spectral', POLES.latitudes, longitudes, TARGET)
    expected = np.cos(np.radians(TARGET.latitudes))[:, None] * np.cos(
        np.radians(TARGET.longitudes)
    )
    # Degree one is far below both truncations: transforms in float32 remain.
    np.testing.assert_allclose(spectral.scalars(field), expected, atol=1e-5)
    assert 'degree 3' in spectral.name


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match="got 'bilinear'"):
        make_regridder('bilinear', POLES.latitudes, POLES.longitudes, TARGET)
