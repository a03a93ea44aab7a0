"""What drives the planet and what moves it forward by one step.

Heating and friction are those of Held and Suarez (1994, Bull. Amer. Meteor. Soc. 75,
1825): relaxation towards a prescribed temperature and drag near the ground, a perpetual
equinox without night and day. Water vapour evaporates near the ground, is carried by
the wind and rains out, and does not act back on the flow.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from dinosaur import primitive_equations, time_integration

from weather.data.simulation.planet import HUMIDITY, REFERENCE_TEMPERATURE_K, Planet

# Robert-Asselin: enough to hold the two leapfrog time levels together.
_TIME_FILTER = 0.05
_DAMPING_ORDER = 4  # of the Laplacian: acts on the last few wavenumbers only

# Moisture: air near the ground relaxes towards this relative humidity over the sea, and
# at a fraction of that rate over dry land; supersaturation rains out.
_SURFACE_RELATIVE_HUMIDITY = 0.85
_EVAPORATION_HOURS = 12.0
_LAND_EVAPORATION = 0.3
_RAIN_HOURS = 3.0
# Ratio of the gas constants of dry air and water vapour.
_EPSILON = 0.622


def initial_state(planet: Planet, seed: int) -> primitive_equations.State:
    """Air at rest in radiative equilibrium, with noise of about 1 K from `seed`."""
    grid = planet.coords.horizontal
    pressure = planet.initial_pressure
    log_pressure = jnp.log(pressure / planet.held_suarez.p0)
    equilibrium = equilibrium_temperature(planet, log_pressure)
    noise = np.random.default_rng(seed).standard_normal(planet.coords.modal_shape)
    temperature = grid.to_modal(equilibrium - REFERENCE_TEMPERATURE_K)
    # Without noise every longitude would stay like the others, and no eddy would grow.
    temperature += jnp.asarray(0.2 * noise * grid.mask, jnp.float32)
    still = jnp.zeros_like(temperature)
    return primitive_equations.State(
        vorticity=still,
        divergence=still,
        temperature_variation=grid.clip_wavenumbers(temperature),
        log_surface_pressure=grid.clip_wavenumbers(grid.to_modal(jnp.log(pressure))),
        tracers={HUMIDITY: still},
    )


def make_step(planet: Planet) -> Callable:
    """Builds one leapfrog step.

    Returns:
      Function from a pair of states (previous, current) to the pair one step later.
    """
    step = planet.time_step
    leapfrog = time_integration.semi_implicit_leapfrog(planet.equations, step)
    time_filter = time_integration.robert_asselin_leapfrog_filter(_TIME_FILTER)
    # A leapfrog step goes from the previous state to the next: two time steps.
    physics = functools.partial(_physics, planet, duration=2 * step)
    return time_integration.step_with_filters(
        leapfrog, [time_filter, time_integration.leapfrog_step_filter(physics)]
    )


def _physics(planet: Planet, state, duration: float):
    """Friction, heating, moisture and damping, each integrated over `duration`."""
    state = _friction_and_damping(planet, state, duration)
    grid = planet.coords.horizontal
    log_surface = grid.to_nodal(state.log_surface_pressure)
    surface = jnp.exp(log_surface)
    log_pressure = log_surface - math.log(planet.held_suarez.p0)
    temperature = REFERENCE_TEMPERATURE_K + grid.to_nodal(state.temperature_variation)
    humidity = grid.to_nodal(state.tracers[HUMIDITY])
    heating = _heating(planet, temperature, log_pressure, duration)
    pressure = planet.coords.vertical.centers[:, None, None] * surface
    moistening = _moistening(
        planet, humidity, temperature + heating, pressure * planet.si('Pa'), duration
    )
    heating, moistening = grid.to_modal(jnp.stack([heating, moistening]))
    return state.replace(
        temperature_variation=state.temperature_variation + heating,
        log_surface_pressure=_conserve_mass(planet, state, surface),
        tracers={HUMIDITY: state.tracers[HUMIDITY] + moistening},
    )


def _friction_and_damping(planet: Planet, state, duration: float):
    """Rayleigh friction of the winds near the ground and damping of small scales."""
    grid = planet.coords.horizontal
    rate = -grid.laplacian_eigenvalues / planet.max_wavenumber**2
    damping_time = planet.numerics.damping_hours * 3600 / planet.si('s')
    # Exact decay over the step, e.g. exp(-rate t), not 1 - rate t: stable at any rate.
    damping = np.exp(-duration / damping_time * rate**_DAMPING_ORDER)
    # By layer alone, so that it acts on coefficients as it does on winds.
    friction = np.exp(-duration * planet.held_suarez.kv())
    winds = (damping * friction).astype(np.float32)
    damping = damping.astype(np.float32)
    return state.replace(
        vorticity=state.vorticity * winds,
        divergence=state.divergence * winds,
        temperature_variation=state.temperature_variation * damping,
        tracers={HUMIDITY: state.tracers[HUMIDITY] * damping},
    )


def _heating(planet: Planet, temperature, log_pressure, duration: float):
    """Newtonian relaxation of `temperature`, K per step, `[layer, lon, lat]`."""
    approach = -np.expm1(-duration * planet.held_suarez.kt()).astype(np.float32)
    return approach * (equilibrium_temperature(planet, log_pressure) - temperature)


def equilibrium_temperature(planet: Planet, log_pressure):
    """Radiative equilibrium of Held and Suarez, K.

    As dinosaur's, with one power per column instead of one per point (a fourteenth of
    a step).

    `log_pressure` is the logarithm of surface over reference pressure, `[1, lon, lat]`;
    the result is `[layer, lon, lat]`.
    """
    forcing, kappa = planet.held_suarez, planet.specs.kappa
    sigma = planet.coords.vertical.centers[:, None, None]
    sine = np.sin(forcing.lat)
    exner = (sigma**kappa).astype(np.float32) * jnp.exp(kappa * log_pressure)
    warmth = forcing.maxT - forcing.dTy * sine**2
    stability = forcing.dThz * (log_pressure + np.log(sigma)) * (1 - sine**2)
    return jnp.maximum(forcing.minT, exner * (warmth - stability))


def _moistening(planet: Planet, humidity, temperature, pressure, duration: float):
    """Evaporation less rain, kg kg-1 per step, `[layer, lon, lat]`; pressure in Pa."""
    hour = 3600 / planet.si('s')
    saturated = saturation_specific_humidity(temperature, pressure)
    # Evaporation is felt where friction is: in the boundary layer of Held and Suarez.
    depth = planet.held_suarez.kv() / planet.held_suarez.kf
    wetness = 1 - (1 - _LAND_EVAPORATION) * planet.land
    supply = -np.expm1(-duration / (_EVAPORATION_HOURS * hour) * depth * wetness)
    lacking = jnp.maximum(_SURFACE_RELATIVE_HUMIDITY * saturated - humidity, 0)
    # Towards saturation, never beyond it, and never down: rain alone takes water away.
    moist = humidity + supply.astype(np.float32) * lacking
    rain = -np.expm1(-duration / (_RAIN_HOURS * hour)) * jnp.maximum(
        moist - saturated, 0
    )
    return jnp.maximum(moist - rain, 0) - humidity


def _conserve_mass(planet: Planet, state, surface_pressure):
    """Log surface pressure, shifted so that its mean pressure is the initial one."""
    # The core steps the logarithm of pressure, whose mean is not mass: without this the
    # planet would slowly win or lose air.
    drift = jnp.log(
        planet.mean(planet.initial_pressure) / planet.mean(surface_pressure)
    )
    # sqrt(4 pi) is the coefficient of the constant 1.
    shift = jnp.sqrt(4 * jnp.pi) * drift[0]
    return state.log_surface_pressure.at[..., 0, 0].add(shift)


def saturation_specific_humidity(temperature, pressure):
    """Specific humidity, kg kg-1, at K and Pa (Bolton 1980, equation 10)."""
    celsius = temperature - 273.15
    vapour_pressure = 611.2 * jnp.exp(17.67 * celsius / (celsius + 243.5))
    # High up and in the warm, vapour pressure would exceed air pressure.
    vapour_pressure = jnp.minimum(vapour_pressure, 0.5 * pressure)
    return _EPSILON * vapour_pressure / (pressure - (1 - _EPSILON) * vapour_pressure)
