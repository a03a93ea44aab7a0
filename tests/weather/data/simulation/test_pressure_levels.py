"""Pressure levels: exact where the profile is known, hydrostatic everywhere."""

import jax.numpy as jnp
import numpy as np
import pytest

from weather.data.simulation import pressure_levels

SIGMA = np.array([0.04, 0.1, 0.2, 0.35, 0.55, 0.75, 0.9, 0.98])
PRESSURES = 100.0 * np.array([50, 100, 250, 500, 700, 850, 925, 1000])
# Ground at sea level, on a plateau and on a peak; Pa and m2 s-2.
SURFACE = jnp.array([1.02e5, 8.5e4, 6.5e4])
GROUND = jnp.array([0.0, 1.4e4, 3.5e4])
FLOAT32 = dict(rtol=3e-6)  # round-off of sums of ten terms
FINE = dict(rtol=2e-5)  # round-off of differences over thin layers


def column(profile):
    """`[layer, place]`: a function of pressure at the centres of the layers."""
    return profile(jnp.asarray(SIGMA[:, None], jnp.float32) * SURFACE)


@pytest.fixture
def position():
    return pressure_levels.locate(SIGMA, SURFACE, PRESSURES)


def test_interpolation_is_exact_for_profiles_linear_in_log_pressure(position):
    got = pressure_levels.interpolate(column(jnp.log), position)
    within = np.log(np.minimum(PRESSURES[:, None], SIGMA[-1] * np.asarray(SURFACE)))
    np.testing.assert_allclose(got, within, **FLOAT32)


def test_interpolation_is_constant_beyond_both_ends():
    levels = [100.0, 2e5]  # far above the top centre, far below the ground
    position = pressure_levels.locate(SIGMA, SURFACE, levels)
    field = column(lambda pressure: jnp.sin(pressure / 1e4))
    got = pressure_levels.interpolate(field, position)
    np.testing.assert_allclose(got, field[np.array([0, -1])], **FLOAT32)


def test_a_layer_centre_keeps_its_value():
    field = column(lambda pressure: jnp.sin(pressure / 1e4))[:, :1]
    levels = SIGMA * float(SURFACE[0])
    position = pressure_levels.locate(SIGMA, SURFACE[:1], levels)
    got = pressure_levels.interpolate(field, position)
    # A centre is found to round-off of a logarithm, times the steps around it.
    np.testing.assert_allclose(got, field, atol=1e-5)


def test_isothermal_air_has_the_closed_form_above_the_lowest_centre(position):
    temperature = jnp.full((SIGMA.size, 3), 260.0)
    got = pressure_levels.interpolate_geopotential(temperature, GROUND, SIGMA, position)
    depth = np.log(np.asarray(SURFACE) / PRESSURES[:, None])
    expected = GROUND + pressure_levels.GAS_CONSTANT * 260.0 * depth
    above = PRESSURES[:, None] < SIGMA[-1] * np.asarray(SURFACE)
    assert above.sum() > 12
    np.testing.assert_allclose(got[above], expected[above], **FLOAT32)


def test_below_the_lowest_centre_temperature_has_the_standard_lapse_rate(position):
    temperature = column(lambda pressure: 200 + pressure / 1e3)
    warm = pressure_levels.interpolate_temperature(temperature, position)
    height = (
        pressure_levels.interpolate_geopotential(temperature, GROUND, SIGMA, position)
        / pressure_levels.GRAVITY
    )
    peak = 2  # 700, 850, 925 and 1000 hPa are underground there
    lapse = np.diff(warm[4:, peak]) / np.diff(height[4:, peak])
    np.testing.assert_allclose(lapse, -pressure_levels.LAPSE_RATE, rtol=1e-3)


def test_every_thickness_is_hydrostatic_from_the_top_to_the_underground():
    temperature = column(lambda pressure: 210 + 70 * (pressure / 1e5) ** 2)
    levels = np.geomspace(4.1e3, 1.1e5, 4001)  # from the top centre to underground
    position = pressure_levels.locate(SIGMA, SURFACE, levels)
    warm = np.asarray(
        pressure_levels.interpolate_temperature(temperature, position), np.float64
    )
    height = pressure_levels.interpolate_geopotential(
        temperature, GROUND, SIGMA, position
    )
    trapezoids = (warm[1:] + warm[:-1]) / 2 * np.diff(np.log(levels))[:, None]
    expected = -pressure_levels.GAS_CONSTANT * trapezoids.cumsum(axis=0)
    got = np.asarray(height[1:] - height[0], np.float64)
    np.testing.assert_allclose(got, expected, atol=1.0, **FINE)


def test_nothing_is_missing_and_pressure_falls_with_height(position):
    temperature = column(lambda pressure: 200 + pressure / 1e3)
    height = pressure_levels.interpolate_geopotential(
        temperature, GROUND, SIGMA, position
    )
    assert np.isfinite(height).all()
    assert (np.diff(height, axis=0) < 0).all()
