"""Regridding: averages over cells, and truncated harmonics."""

import jax
import numpy as np
import pytest
from dinosaur import horizontal_interpolation

from sphere_ops.grid import LatLonGrid
from sphere_ops.regridding import ConservativeRegridder, SpectralRegridder
from sphere_ops.testing import random_coefficients
from sphere_ops.transform import SpinTransform

# Weights and products are float32: a few roundings of 6e-8.
ROUND_OFF = dict(rtol=1e-6, atol=1e-6)
# Transforms in float32, relative to fields of about 1; the project's own bound.
TRANSFORM = dict(rtol=0, atol=1e-5)

FINE = LatLonGrid('equiangular_with_poles', num_lat=37, num_lon=72)
COARSE = LatLonGrid('equiangular', num_lat=16, num_lon=32)
GRIDS = [
    COARSE,
    LatLonGrid('equiangular_with_poles', num_lat=17, num_lon=30),
    LatLonGrid('gauss', num_lat=12, num_lon=25),
]


def noise(grid: LatLonGrid, *leading: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(*leading, *grid.shape)).astype(np.float32)


def area_mean(grid: LatLonGrid, fields: np.ndarray) -> np.ndarray:
    return fields.astype(np.float64).mean(axis=-1) @ grid.area_weights / grid.num_lat


def conservative(source: LatLonGrid, target: LatLonGrid) -> ConservativeRegridder:
    return ConservativeRegridder.create(source.latitudes, source.longitudes, target)


@pytest.mark.parametrize('target', GRIDS)
def test_averages_keep_a_constant(target):
    ones = np.full((2, *FINE.shape), 280, np.float32)
    np.testing.assert_allclose(conservative(FINE, target)(ones), 280, rtol=3e-7)


@pytest.mark.parametrize('target', GRIDS)
@pytest.mark.parametrize('source', [FINE, *GRIDS])
def test_averages_keep_the_global_mean(source, target):
    # The areas of cells are those of `area_weights`, on both grids.
    fields = 280 + noise(source, 3)
    found = conservative(source, target)(fields)
    np.testing.assert_allclose(
        area_mean(target, found), area_mean(source, fields), rtol=1e-7
    )


def test_averages_stay_between_the_least_and_the_largest_value():
    mask = (noise(FINE) > 0).astype(np.float32)
    found = conservative(FINE, COARSE)(mask)
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-6


@pytest.mark.parametrize('target', GRIDS)
def test_averages_are_sums_over_shared_areas(target):
    """Against the definition, written out as a loop over pairs of cells."""
    field = noise(COARSE)
    found = conservative(COARSE, target)(field)

    def bounds(grid):
        rows = (grid.latitudes[1:] + grid.latitudes[:-1]) / 2
        rows = np.sin(np.radians(np.concatenate([[90], rows, [-90]])))
        half = 180 / grid.num_lon
        return rows, grid.longitudes - half, grid.longitudes + half

    rows, west, east = bounds(COARSE)
    target_rows, target_west, target_east = bounds(target)
    expected = np.zeros(target.shape)
    for i, j in np.ndindex(target.shape):
        area = 0.0
        for k, l in np.ndindex(COARSE.shape):  # noqa: E741
            height = min(rows[k], target_rows[i]) - max(rows[k + 1], target_rows[i + 1])
            width = sum(
                max(
                    0.0,
                    min(east[l] + turn, target_east[j])
                    - max(west[l] + turn, target_west[j]),
                )
                for turn in (-360, 0, 360)
            )
            shared = max(0.0, height) * width
            area += shared
            expected[i, j] += shared * field[k, l]
        expected[i, j] /= area
    np.testing.assert_allclose(found, expected, **ROUND_OFF)


@pytest.mark.parametrize('target', GRIDS)
def test_averages_agree_with_an_independent_implementation(target):
    class Radians:
        def __init__(self, grid):
            self.latitudes = np.radians(grid.latitudes[::-1])
            self.longitudes = np.radians(grid.longitudes)

    other = horizontal_interpolation.ConservativeRegridder(
        Radians(FINE), Radians(target)
    )
    field = noise(FINE)
    expected = np.asarray(other(field[::-1].T)).T[::-1]
    # Theirs are single-precision weights, of sines of small angles near the poles.
    np.testing.assert_allclose(
        conservative(FINE, target)(field), expected, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize('target', GRIDS)
def test_the_order_of_rows_and_columns_of_the_source_does_not_matter(target):
    field = noise(FINE)
    expected = conservative(FINE, target)(field)
    upside_down = ConservativeRegridder.create(
        FINE.latitudes[::-1], FINE.longitudes, target
    )
    # The same weights, added up in another order.
    np.testing.assert_allclose(upside_down(field[::-1]), expected, **ROUND_OFF)
    turned = ConservativeRegridder.create(
        FINE.latitudes, np.roll(FINE.longitudes, 11), target
    )
    np.testing.assert_allclose(
        turned(np.roll(field, 11, axis=-1)), expected, **ROUND_OFF
    )
    # From -180, and westward.
    westward = ConservativeRegridder.create(
        FINE.latitudes, np.roll((FINE.longitudes + 180) % 360 - 180, 36)[::-1], target
    )
    np.testing.assert_allclose(
        westward(np.roll(field, 36, axis=-1)[:, ::-1]), expected, **ROUND_OFF
    )


def test_columns_between_meridians_lie_where_they_say():
    # Cells of 10 degrees whose middles are at 5, 15...: bounds at full tens.
    longitudes = np.arange(5, 360, 10.0)
    target = LatLonGrid('equiangular', num_lat=18, num_lon=18)
    regridder = ConservativeRegridder.create(
        LatLonGrid('equiangular', num_lat=18, num_lon=36).latitudes, longitudes, target
    )
    field = np.zeros((18, 36), np.float32)
    field[:, 0] = 1  # From 0 to 10 degrees east.
    # The target's cells go from -10 to 10: half of the first.
    expected = np.zeros((18, 18))
    expected[:, 0] = 0.5
    np.testing.assert_allclose(regridder(field), expected, **ROUND_OFF)


def test_a_missing_value_has_no_weight_and_an_empty_cell_none_at_all():
    field = np.full(FINE.shape, 3, np.float32)
    field[:18, :36] = np.nan
    field[20, 40] = np.nan
    found = conservative(FINE, COARSE)(field)
    values = found[~np.isnan(found)]
    np.testing.assert_allclose(values, 3, rtol=3e-7)
    # Whole cells without any value, and no others.
    assert np.isnan(found[2:6, 2:14]).all()
    assert not np.isnan(found[9:]).any()


def test_gaps_between_columns_are_refused():
    with pytest.raises(ValueError, match='all around the globe'):
        ConservativeRegridder.create(FINE.latitudes, np.arange(0, 90, 5.0), COARSE)
    with pytest.raises(ValueError, match='ascending or descending'):
        ConservativeRegridder.create([10, 0, 5], FINE.longitudes, COARSE)


def band_limited(grid: LatLonGrid, spin: int, degree: int) -> np.ndarray:
    a = random_coefficients(jax.random.key(0), spins=(spin,), max_degree=degree)
    transform = SpinTransform.create(grid, spins=(spin,), max_degree=degree)
    return np.asarray(transform.to_grid(a)[spin])[..., 0]


@pytest.mark.parametrize('target', GRIDS)
def test_spectral_regridding_keeps_what_both_grids_resolve(target):
    degree = min(target.max_degree, FINE.max_degree)
    regridder = SpectralRegridder.create(FINE, target)
    assert regridder.max_degree == degree
    scalars = band_limited(FINE, 0, degree)
    np.testing.assert_allclose(
        regridder.scalars(scalars), band_limited(target, 0, degree), **TRANSFORM
    )
    winds = band_limited(FINE, 1, degree)
    found = regridder.winds(winds.real, winds.imag)
    np.testing.assert_allclose(
        found.u + 1j * found.v, band_limited(target, 1, degree), **TRANSFORM
    )


def test_spectral_regridding_drops_what_the_target_does_not_resolve():
    a = random_coefficients(jax.random.key(1), spins=(0,), max_degree=FINE.max_degree)
    target = GRIDS[0]
    fine = SpinTransform.create(FINE, spins=(0,))
    coarse = SpinTransform.create(target, spins=(0,))
    field = np.asarray(fine.to_grid(a)[0])[..., 0]
    found = SpectralRegridder.create(FINE, target).scalars(field)
    kept = coarse.to_spectral({0: found[..., None]})[0]
    stop = target.max_degree + 1
    np.testing.assert_allclose(kept, a[0][:stop, :stop], **TRANSFORM)


def test_a_solid_rotation_is_the_same_wind_on_every_grid():
    # About an axis on the equator: over the poles, where components are worst.
    def wind(grid):
        latitude, longitude = np.meshgrid(
            np.radians(grid.latitudes), np.radians(grid.longitudes), indexing='ij'
        )
        return -np.sin(latitude) * np.cos(longitude), np.sin(longitude)

    for target in GRIDS:
        found = SpectralRegridder.create(FINE, target).winds(*wind(FINE))
        np.testing.assert_allclose(found.u, wind(target)[0], **TRANSFORM)
        np.testing.assert_allclose(found.v, wind(target)[1], **TRANSFORM)


@pytest.mark.parametrize('first', [2.5, -180.0, 117.0])
def test_columns_may_begin_at_any_meridian(first):
    def field(grid, offset):
        latitude, longitude = np.meshgrid(
            np.radians(grid.latitudes),
            np.radians(grid.longitudes + offset),
            indexing='ij',
        )
        return np.cos(latitude) ** 3 * np.cos(3 * longitude) + np.sin(latitude)

    regridder = SpectralRegridder.create(FINE, COARSE, first_longitude=first)
    np.testing.assert_allclose(
        regridder.scalars(field(FINE, first)), field(COARSE, 0), **TRANSFORM
    )


def test_more_fields_than_are_worked_on_together_keep_their_order():
    fields = noise(FINE, 3, 7)
    regridder = SpectralRegridder.create(FINE, COARSE)
    found = regridder.scalars(fields)
    assert found.shape == (3, 7, *COARSE.shape)
    np.testing.assert_allclose(found[2, 5], regridder.scalars(fields[2, 5]), atol=1e-5)


def test_spectral_regridding_refuses_holes():
    field = noise(FINE)
    field[3, 4] = np.nan
    with pytest.raises(ValueError, match='found 1; fill them'):
        SpectralRegridder.create(FINE, COARSE).scalars(field)


@pytest.mark.parametrize('make', [conservative, SpectralRegridder.create])
def test_fields_of_another_grid_are_refused(make):
    regridder = make(FINE, COARSE)
    call = getattr(regridder, 'scalars', regridder)
    with pytest.raises(ValueError, match='expected fields .* with 37 x 72 points'):
        call(noise(COARSE))
