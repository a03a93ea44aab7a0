"""Diagnostics: signs and orientation on states whose winds are known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weather.data.simulation import diagnostics, physics
from weather.variables import VARIABLES, WEATHERBENCH_LEVELS

ROUND_OFF = 2e-3  # m s-1 of 20: float32 through two transforms


@pytest.fixture(scope='module')
def diagnose(planet):
    return jax.jit(functools.partial(diagnostics.diagnose, planet))


@pytest.fixture(scope='module')
def rest(planet):
    """Air at rest over flat sea: uniform surface pressure and temperature."""
    state = physics.initial_state(planet, seed=0)
    still = jnp.zeros_like(state.vorticity)
    uniform = jnp.zeros_like(state.log_surface_pressure)
    pressure = np.log(1e5 / planet.si('Pa')) * np.sqrt(4 * np.pi)
    return state.replace(
        temperature_variation=still,
        log_surface_pressure=uniform.at[0, 0, 0].set(pressure),
    )


def spectral(planet, field):
    """Coefficients in every layer of a `[lon, lat]` field."""
    layers = planet.coords.vertical.layers
    field = jnp.broadcast_to(jnp.asarray(field, jnp.float32), (layers, *field.shape))
    return planet.coords.horizontal.to_modal(field)


def north_to_south(planet, field):
    return field.T[::-1]


def test_solid_body_rotation_is_a_westerly_wind_everywhere(planet, rest, diagnose):
    latitude = np.radians(planet.degrees[0])
    speed = 20.0  # m s-1 at the equator
    vorticity = 2 * speed / planet.si('m') * np.sin(latitude) * planet.si('s')
    fields = diagnose(rest.replace(vorticity=spectral(planet, vorticity)))
    expected = speed * north_to_south(planet, np.cos(latitude))
    eastward = fields['u_component_of_wind']
    np.testing.assert_allclose(
        eastward, np.broadcast_to(expected, eastward.shape), atol=ROUND_OFF
    )
    np.testing.assert_allclose(fields['v_component_of_wind'], 0, atol=ROUND_OFF)


def test_wind_over_the_pole_turns_into_v_with_the_sign_of_northward(
    planet, rest, diagnose
):
    """Rotation about the axis through the equator at longitude 90 (psi ~ y)."""
    latitude, longitude = (np.radians(angle) for angle in planet.degrees)
    speed = 20.0
    y = np.cos(latitude) * np.sin(longitude)
    vorticity = 2 * speed / planet.si('m') * planet.si('s') * y
    fields = diagnose(rest.replace(vorticity=spectral(planet, vorticity)))
    # psi = -a speed y: u = -dpsi/dlat / a, v = dpsi/dlon / (a cos lat).
    expected_u = -speed * np.sin(latitude) * np.sin(longitude)
    expected_v = -speed * np.cos(longitude)
    for name, expected in (
        ('u_component_of_wind', expected_u),
        ('v_component_of_wind', expected_v),
    ):
        got = fields[name][5]
        np.testing.assert_allclose(
            got, north_to_south(planet, expected), atol=ROUND_OFF, err_msg=name
        )


def test_convergence_below_and_divergence_above_is_ascent(planet, rest, diagnose):
    """Omega is minus the integral of divergence from the top (flat ground)."""
    sigma = planet.coords.vertical.centers
    rate = 1e-6  # s-1
    profile = rate * np.where(sigma < 0.5, 1.0, -1.0)
    pattern = np.sin(np.radians(planet.degrees[0]))
    divergence = spectral(planet, pattern) * jnp.asarray(
        profile[:, None, None] * planet.si('s'), jnp.float32
    )
    fields = diagnose(rest.replace(divergence=divergence))
    omega = np.asarray(fields['vertical_velocity'])
    northern = north_to_south(planet, pattern) > 0.5
    middle = WEATHERBENCH_LEVELS.index(500)
    assert (omega[middle][northern] < 0).all()
    # The divergent layers end at sigma 0.53; 300 hPa is well inside them.
    level = WEATHERBENCH_LEVELS.index(300)
    expected = -rate * 3e4 * north_to_south(planet, pattern)
    # The scheme weights half layers by their logarithm: a few per cent.
    np.testing.assert_allclose(omega[level], expected, rtol=0.05, atol=1e-5)


def test_air_at_rest_is_flat_isothermal_and_still(planet, rest, diagnose):
    fields = diagnose(rest)
    for name in ('u_component_of_wind', 'v_component_of_wind', 'vertical_velocity'):
        np.testing.assert_allclose(fields[name], 0, atol=1e-5)
    np.testing.assert_allclose(fields['temperature'][:-1], 300.0, rtol=1e-5)


def test_fields_are_the_six_variables_north_to_south_in_float32(planet, rest, diagnose):
    fields = diagnose(rest)
    assert tuple(fields) == diagnostics.NAMES
    for name, field in fields.items():
        assert name in VARIABLES
        assert field.shape == (13, 32, 64) and field.dtype == np.float32
    statics = diagnostics.statics(planet)
    antarctic = statics['land_sea_mask'][-1]
    assert (antarctic > 0.9).all() and (statics['land_sea_mask'][0] < 0.1).all()
    assert (statics['geopotential_at_surface'][-1] > 1e4).all()
