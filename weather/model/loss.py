"""The training loss: area-weighted squared error in units of the tendency."""

from __future__ import annotations

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


def lead_losses(
    predicted: jax.Array,
    target: jax.Array,
    grid: LatLonGrid,
    weights: np.ndarray,
    tendency_scale: jax.Array,
) -> jax.Array:
    """Mean squared error per lead time, in units of one step's tendency.

    Args:
      predicted: states `[step, batch, lat, lon, channel]`.
      target: states of the same shape and units.
      grid: grid of the states.
      weights: `[channel]`, mean one.
      tendency_scale: `[channel]` standard deviation of one step's tendency, in the
        units of the states.

    Returns:
      `[step]`: 1 is the error of persistence after one step.
    """
    # In units of what changes in a step: humidity and wind, slow and fast fields count
    # alike, and the loss of persistence is one.
    squared = jnp.square((predicted - target) / tendency_scale)
    area = jnp.asarray(grid.area_weights, squared.dtype)
    per_channel = jnp.einsum('sbyxc,y->sc', squared, area)
    # Area weights have mean one, and so have those of channels: a plain mean is left.
    num_points = squared.shape[1] * grid.num_lat * grid.num_lon
    return (per_channel @ jnp.asarray(weights, squared.dtype)) / (
        num_points * len(weights)
    )
