"""A state of the planet as a forecaster sees it: SI fields on pressure levels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from dinosaur import primitive_equations

from weather.data.simulation.planet import HUMIDITY, REFERENCE_TEMPERATURE_K, Planet
from weather.data.simulation.pressure_levels import (
    interpolate,
    interpolate_geopotential,
    interpolate_temperature,
    locate,
)
from weather.variables import WEATHERBENCH_LEVELS

NAMES = (
    'geopotential',
    HUMIDITY,
    'temperature',
    'u_component_of_wind',
    'v_component_of_wind',
    'vertical_velocity',
)


def diagnose(planet: Planet, state) -> dict[str, jax.Array]:
    """Computes the six variables on pressure levels.

    Returns:
      Variable to float32 `[level, latitude, longitude]`, SI units, levels as in
      `WEATHERBENCH_LEVELS`, north to south.
    """
    nodal = primitive_equations.compute_diagnostic_state(state, planet.coords)
    grid, sigma = planet.coords.horizontal, planet.coords.vertical.centers
    surface = jnp.exp(grid.to_nodal(state.log_surface_pressure)) * planet.si('Pa')
    temperature = REFERENCE_TEMPERATURE_K + nodal.temperature_variation
    eastward, northward = (
        wind * planet.si('m/s') / grid.cos_lat for wind in nodal.cos_lat_u
    )
    position = locate(sigma, surface[0], 100.0 * np.array(WEATHERBENCH_LEVELS))
    fields = {
        'geopotential': interpolate_geopotential(
            temperature, planet.surface_geopotential, sigma, position
        ),
        # A spectral tracer undershoots beside sharp edges; no air is drier than dry.
        HUMIDITY: jnp.maximum(interpolate(nodal.tracers[HUMIDITY], position), 0),
        'temperature': interpolate_temperature(temperature, position),
        'u_component_of_wind': interpolate(eastward, position),
        'v_component_of_wind': interpolate(northward, position),
        'vertical_velocity': interpolate(_omega(planet, nodal, surface), position),
    }
    return {name: _orient(field) for name, field in fields.items()}


def statics(planet: Planet) -> dict[str, np.ndarray]:
    """Orography (m2 s-2) and land mask (1), `[latitude, longitude]`, north to south."""
    fields = {
        'geopotential_at_surface': planet.surface_geopotential,
        'land_sea_mask': planet.land,
    }
    return {name: np.asarray(_orient(field)) for name, field in fields.items()}


def _omega(planet: Planet, nodal, surface_pressure):
    """Pressure velocity at the layer centres, Pa s-1, `[layer, lon, lat]`."""
    advection = nodal.u_dot_grad_log_sp
    # The model's own omega / p of its temperature equation, with temperature 1.
    relative = planet.equations._t_omega_over_sigma_sp(
        jnp.ones(()), advection + nodal.divergence, advection
    )
    pressure = planet.coords.vertical.centers[:, None, None] * surface_pressure
    return relative / planet.si('s') * pressure


def _orient(field):
    """`[..., lon, lat south to north]` to `[..., lat north to south, lon]`."""
    return jnp.swapaxes(field, -1, -2)[..., ::-1, :]
