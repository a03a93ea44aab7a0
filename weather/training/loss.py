"""The loss of a batch of windows, in training and in validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learning.update import Loss, Losses, Weights
from weather.model.forecaster import Forecaster
from weather.model.loss import lead_losses
from weather.model.state import Forcing


class DeviceBatch(NamedTuple):
    """A batch of windows on the device.

    Attributes:
      fields: `[batch, time, level, lat, lon]` by variable, SI units; the first time is
        the initial state, each following one a target.
      clocks: `forcings.clock` of every target, `[batch, step, phase]`.
    """

    fields: Mapping[str, jax.Array]
    clocks: jax.Array


def make_loss(channel_weights: np.ndarray) -> Loss:
    """Builds the loss of a rollout, whose parts are those of its steps."""

    def loss(weights: Weights, model: Forecaster, batch: DeviceBatch) -> Losses:
        states, forcings = _trajectory(model, batch)
        predicted, moments = model.train_rollout(weights, states[0], forcings)
        parts = _losses(model, predicted, states[1:], channel_weights)
        return Losses(parts, {'batch_stats': moments})

    return loss


def make_validation(
    channel_weights: np.ndarray,
) -> Callable[[Weights, Forecaster, DeviceBatch], jax.Array]:
    """Builds the compiled loss `[step]` of forecasts as they are made from weights."""

    def validate(weights: Weights, model: Forecaster, batch: DeviceBatch) -> jax.Array:
        states, forcings = _trajectory(model, batch)
        predicted = model.rollout(weights, states[0], forcings)
        return _losses(model, predicted, states[1:], channel_weights)

    return jax.jit(validate)


def _trajectory(model: Forecaster, batch: DeviceBatch) -> tuple[jax.Array, Forcing]:
    """Normalised states `[time, batch, ...]` and the forcings of all but the first."""
    # Time first, as the scan over steps has it.
    states = jnp.moveaxis(model.normalize(batch.fields), 1, 0)
    targets = {name: field[:, 1:] for name, field in batch.fields.items()}
    forcings = model.forcing(batch.clocks, targets)
    return states, jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), forcings)


def _losses(
    model: Forecaster, predicted: jax.Array, targets: jax.Array, weights: np.ndarray
) -> jax.Array:
    # The states are normalised, and so must be what they are measured in.
    spread = jnp.asarray(model.normalizer.tendency_ratio)
    return lead_losses(predicted, targets, model.grid, weights, spread)
