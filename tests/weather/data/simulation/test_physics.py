"""Physics: relaxation, friction, moisture and mass, each against what it must do."""

import jax.numpy as jnp
import numpy as np
import pytest
from dinosaur import time_integration

from weather.data.simulation import physics, planet_store
from weather.data.simulation.planet import HUMIDITY, REFERENCE_TEMPERATURE_K

DAY_S = 86400.0


@pytest.fixture(scope='module')
def state(planet):
    return physics.initial_state(planet, seed=3)


def nodal_temperature(planet, state):
    variation = planet.coords.horizontal.to_nodal(state.temperature_variation)
    return REFERENCE_TEMPERATURE_K + variation


def surface_pressure(planet, state):
    return jnp.exp(planet.coords.horizontal.to_nodal(state.log_surface_pressure))


def moistening(planet, humidity, *, temperature=290.0, duration_s=3600.0):
    shape = (planet.coords.vertical.layers, *planet.coords.horizontal.nodal_shape)
    pressure = planet.coords.vertical.centers[:, None, None] * jnp.full(shape, 1e5)
    temperature = jnp.full(shape, temperature)
    saturated = physics.saturation_specific_humidity(temperature, pressure)
    change = physics._moistening(
        planet,
        humidity(saturated),
        temperature,
        pressure,
        duration_s / planet.si('s'),
    )
    return np.asarray(change), np.asarray(saturated)


def test_equilibrium_temperature_is_dinosaurs(planet):
    pressure = planet.initial_pressure
    forcing = planet.held_suarez
    got = physics.equilibrium_temperature(planet, jnp.log(pressure / forcing.p0))
    np.testing.assert_allclose(
        got, forcing.equilibrium_temperature(pressure), rtol=1e-5
    )


def test_kinetic_energy_tendency_is_dinosaurs(planet, state):
    base = super(type(planet.equations), planet.equations)
    grid = planet.coords.horizontal

    class Diagnostic:
        cos_lat_u = tuple(
            grid.to_nodal(state.temperature_variation) * scale for scale in (1, -2)
        )

    np.testing.assert_allclose(
        planet.equations.kinetic_energy_tendency(Diagnostic),
        base.kinetic_energy_tendency(Diagnostic),
        rtol=1e-4,
        atol=1e-2,  # of values up to 1e6
    )


def test_saturation_at_freezing_point_is_the_textbook_value():
    # 6.11 hPa over 1000 hPa: 3.8 g/kg.
    got = physics.saturation_specific_humidity(273.15, 1e5)
    np.testing.assert_allclose(got, 3.81e-3, rtol=5e-3)


def test_saturation_stays_a_fraction_in_thin_warm_air():
    got = physics.saturation_specific_humidity(jnp.float32(310.0), jnp.float32(1e3))
    assert 0 < got < 1


def test_supersaturation_rains_out_and_unsaturated_air_aloft_is_left_alone(planet):
    rain, saturated = moistening(planet, lambda saturated: 1.5 * saturated)
    assert (rain < 0).all()
    assert (1.5 * saturated + rain > saturated).all()  # not below saturation
    still, _ = moistening(planet, lambda saturated: 0.5 * saturated)
    aloft = planet.coords.vertical.centers < 0.7
    np.testing.assert_array_equal(still[aloft], 0)


def test_water_evaporates_near_the_ground_more_over_sea_than_over_land(planet):
    gained, _ = moistening(planet, lambda saturated: 0.2 * saturated)
    lowest = gained[-1]
    assert (lowest > 0).all()
    land = planet.land > 0.9
    sea = planet.land < 0.1
    assert lowest[land].mean() < 0.5 * lowest[sea].mean()


def test_negative_humidity_is_filled_up(planet):
    change, _ = moistening(planet, lambda saturated: -0.01 * saturated)
    assert (change > 0).all()


def test_temperature_relaxes_to_equilibrium_at_the_rate_of_held_and_suarez(planet):
    shape = (planet.coords.vertical.layers, *planet.coords.horizontal.nodal_shape)
    level = jnp.zeros((1, *shape[1:]))
    equilibrium = physics.equilibrium_temperature(planet, level)
    heating = physics._heating(
        planet, equilibrium + 10, level, duration=40 * DAY_S / planet.si('s')
    )
    # Aloft the time scale is 40 days: 10 K become 10 / e.
    np.testing.assert_allclose(heating[0], 10 * np.expm1(-1), rtol=1e-4)


def test_friction_stops_the_lowest_winds_in_a_day_and_none_aloft(planet, state):
    spun = state.replace(vorticity=state.temperature_variation)
    slowed = physics._friction_and_damping(planet, spun, DAY_S / planet.si('s'))
    largest = (slice(None), 1, 1)  # order 1, degree 1: not touched by damping
    kept = np.asarray(slowed.vorticity[largest] / spun.vorticity[largest])
    sigma = planet.coords.vertical.centers
    np.testing.assert_allclose(
        kept, np.exp(-np.maximum(0, (sigma - 0.7) / 0.3)), rtol=1e-5
    )


def test_damping_takes_the_smallest_scale_in_its_time_and_spares_the_large(planet):
    state = physics.initial_state(planet, seed=0)
    duration = planet.numerics.damping_hours * 3600 / planet.si('s')
    damped = physics._friction_and_damping(planet, state, duration)
    kept = np.asarray(damped.temperature_variation / state.temperature_variation)[0, 1]
    np.testing.assert_allclose(kept[21], np.exp(-((22 / 21) ** 4)), rtol=1e-4)
    assert (kept[1:8] > 0.999).all()


def test_the_mass_of_air_is_conserved(planet, state):
    (_, after), _ = planet_store.make_day(planet)((state, state))
    mean = planet.mean(surface_pressure(planet, after))
    # The shift is exact up to the nonlinearity of one step's drift.
    np.testing.assert_allclose(mean, planet.mean(planet.initial_pressure), rtol=1e-5)


def test_the_leapfrog_runs_the_right_equations(planet, state):
    """Without physics, one short leapfrog step is twice the tendency."""
    small = 1e-3 * planet.time_step
    leapfrog = time_integration.semi_implicit_leapfrog(planet.equations, small)
    _, after = leapfrog((state, state))
    tendency = (
        planet.equations.explicit_terms(state).divergence
        + planet.equations.implicit_terms(state).divergence
    )
    change = np.asarray(after.divergence - state.divergence) / (2 * small)
    scale = np.abs(tendency).max()
    np.testing.assert_allclose(change / scale, tendency / scale, atol=1e-3)


def test_the_initial_state_is_at_rest_and_differs_only_by_seeded_noise(planet, state):
    assert not np.any(state.vorticity) and not np.any(state.divergence)
    again = physics.initial_state(planet, seed=3)
    other = physics.initial_state(planet, seed=4)
    np.testing.assert_array_equal(
        again.temperature_variation, state.temperature_variation
    )
    noise = nodal_temperature(planet, other) - nodal_temperature(planet, state)
    assert 0.3 < np.std(noise) < 3  # K
    assert not np.any(state.tracers[HUMIDITY])
