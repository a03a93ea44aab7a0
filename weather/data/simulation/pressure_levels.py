"""From the sigma layers of a model to pressure levels, hydrostatically.

Between the centres of two layers temperature is linear in the logarithm of pressure,
and geopotential is the exact integral of that profile. Below the lowest centre, also
underground, temperature follows the lapse rate of the standard atmosphere as in ECMWF's
and Trenberth's (1993, NCAR/TN-396) extrapolation, of which theirs is the third-order
Taylor series; everything else is constant there. Nothing is ever missing.
"""

from __future__ import annotations

import functools
import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# The values of dinosaur-dycore, so that its balances hold to round-off.
GAS_CONSTANT = 1004.0 * 2 / 7  # dry air, J kg-1 K-1
GRAVITY = 9.80616  # m s-2
LAPSE_RATE = 0.0065  # K m-1, standard atmosphere
_EXPONENT = GAS_CONSTANT * LAPSE_RATE / GRAVITY


class VerticalPosition(NamedTuple):
    """Where target pressures lie in the columns of a model.

    Attributes:
      fraction: `[gap, level, ...]`, part of each gap between two layer centres (in
        log pressure) that lies above the level.
      below: `[level, ...]`, logarithm of pressure over that of the lowest centre, or 0
        where the level is above it.
    """

    fraction: jax.Array
    below: jax.Array


def locate(sigma, surface_pressure, pressures) -> VerticalPosition:
    """Finds pressures in the columns of a sigma model.

    Args:
      sigma: `[layer]`, pressure at the centres over surface pressure, top first.
      surface_pressure: `[...]`, Pa.
      pressures: `[level]`, Pa.

    Returns:
      Positions, `[layer - 1, level, ...]` and `[level, ...]`.
    """
    log_sigma = np.log(np.asarray(sigma))
    levels = jnp.asarray(pressures, surface_pressure.dtype)
    levels = levels.reshape((-1,) + (1,) * surface_pressure.ndim)
    height = jnp.log(levels / surface_pressure)
    column = (-1,) + (1,) * height.ndim
    above = height[None] - log_sigma[:-1].reshape(column)
    fraction = jnp.clip(above / np.diff(log_sigma).reshape(column), 0, 1)
    # Positions instead of indices: clipped fractions of all gaps make interpolation a
    # sum of products, without a search or a gather in every column.
    return VerticalPosition(fraction, jnp.maximum(height - log_sigma[-1], 0))


def interpolate(field, position: VerticalPosition) -> jax.Array:
    """`[layer, ...]` to `[level, ...]`: linear in log pressure, constant outside."""
    steps = jnp.diff(field, axis=0)
    gaps = zip(steps, position.fraction, strict=True)
    return field[0] + _add(step * part for step, part in gaps)


def _add(terms):
    """Adds arrays one by one: XLA's reduction over a short leading axis is slow."""
    return functools.reduce(operator.add, terms)


def interpolate_temperature(temperature, position: VerticalPosition) -> jax.Array:
    """As `interpolate`, with a constant lapse rate below the lowest centre; K."""
    return interpolate(temperature, position) * jnp.exp(_EXPONENT * position.below)


def interpolate_geopotential(
    temperature, surface_geopotential, sigma, position: VerticalPosition
) -> jax.Array:
    """Integrates the hydrostatic equation from the ground to each level.

    The lowest half layer has the temperature of its centre, as in the model; above,
    the integral of the profile of `interpolate_temperature` is exact, and below the
    lowest centre too: there phi + (g / lapse rate) T is constant.

    Args:
      temperature: `[layer, ...]`, K (virtual temperature where moisture counts).
      surface_geopotential: `[...]`, m2 s-2.
      sigma: `[layer]`, as given to `locate`.
      position: from `locate`.

    Returns:
      `[level, ...]`, m2 s-2.
    """
    log_sigma = np.log(np.asarray(sigma))
    lowest = surface_geopotential - GAS_CONSTANT * log_sigma[-1] * temperature[-1]
    gaps = zip(
        np.diff(log_sigma),
        position.fraction,
        temperature[:-1],
        temperature[1:],
        strict=True,
    )
    # Integral over the part of each gap below the level, from `part` to 1.
    thickness = _add(
        gap * (upper * (1 - part) + (lower - upper) * (1 - part**2) / 2)
        for gap, part, upper, lower in gaps
    )
    warming = temperature[-1] * jnp.expm1(_EXPONENT * position.below)
    return lowest + GAS_CONSTANT * thickness - GRAVITY / LAPSE_RATE * warming
