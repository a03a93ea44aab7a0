"""The training loss: area-weighted squared error in units of the tendency."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sphere_ops.grid import LatLonGrid
from weather import experiment
from weather.variables import ChannelIndex


def channel_weights(channels: ChannelIndex, loss: experiment.Loss) -> np.ndarray:
    """Weight `[channel]` of every channel, mean one: variable times level weight."""
    weights = np.array(
        [
            loss.variable_weights.get(channel.variable, 1.0)
            * loss.level_weights.get(str(channel.level), 1.0)
            for channel in channels
        ]
    )
    if weights.min() < 0 or weights.sum() == 0:
        raise ValueError(
            'expected loss weights that are not negative and not all zero, got '
            f'{loss.variable_weights} and {loss.level_weights}'
        )
    # Weights move the loss between channels, and leave its size as it is.
    return weights / weights.mean()


class Errors(NamedTuple):
    """Squared errors of states.

    Attributes:
      sums: `[step, channel]`, weighted by area and summed over points and samples.
      num_points: of how many, whose weights have mean one.
    """

    sums: jax.Array
    num_points: int

    @property
    def means(self) -> jax.Array:
        """`[step, channel]`, mean squared errors."""
        return self.sums / self.num_points


def squared_errors(
    predicted: jax.Array, target: jax.Array, grid: LatLonGrid, unit: jax.Array
) -> Errors:
    """Squared errors per lead time and channel.

    Args:
      predicted: states `[step, batch, lat, lon, channel]`.
      target: states of the same shape and units.
      grid: grid of the states.
      unit: `[channel]` unit of the errors, in the units of the states.
    """
    squared = jnp.square((predicted - target) / unit)
    area = jnp.asarray(grid.area_weights, squared.dtype)
    sums = jnp.einsum('sbyxc,y->sc', squared, area)
    return Errors(sums, squared.shape[1] * grid.num_lat * grid.num_lon)


def lead_losses(errors: Errors, weights: np.ndarray) -> jax.Array:
    """Loss `[step]` per lead time: 1 is the error of persistence after one step.

    Args:
      errors: in units of one step's tendency: of what changes in a step, so that
        humidity and wind, slow and fast fields count alike.
      weights: `[channel]`, mean one.
    """
    weighted = errors.sums @ jnp.asarray(weights, errors.sums.dtype)
    return weighted / (errors.num_points * len(weights))


def variable_losses(
    errors: Errors, weights: np.ndarray, channels: ChannelIndex
) -> dict[str, jax.Array]:
    """The share of each variable in the loss, summed over lead times."""
    names = [channel.variable for channel in channels]
    # A product with zeros and ones: sums over chosen channels would be gathers.
    shares = np.array([[n == name for n in names] for name in channels.variables])
    shares = shares * weights / len(weights)
    sums = jnp.asarray(shares, errors.sums.dtype) @ errors.means.sum(axis=0)
    return {name: sums[i] for i, name in enumerate(channels.variables)}
