"""The loss of a batch of windows, in training and in validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learning.settings import Stage
from learning.update import Loss, Losses, Memory, Weights, make_update
from sphere_ops.sharding import by_latitude
from weather.experiment import Experiment, Training
from weather.model.forecaster import Forecaster
from weather.model.loss import (
    Errors,
    channel_weights,
    lead_losses,
    squared_errors,
    variable_losses,
)
from weather.model.state import Forcing


class DeviceBatch(NamedTuple):
    """A batch of windows on the device.

    Attributes:
      fields: `[batch, time, level, lat, lon]` by variable, SI units; the first time is
        the initial state, each following one a target.
      clocks: `forcings.clock` of every target, `[batch, step, phase]`.
      slot: of the memory whose rollouts go on; None where there is no memory.
      begins: `[batch]`, whether a rollout begins with the data, and not there.
    """

    fields: Mapping[str, jax.Array]
    clocks: jax.Array
    slot: jax.Array | np.ndarray | None = None
    begins: jax.Array | None = None


class Rows(NamedTuple):
    """What the loss of an update is given.

    Attributes:
      fields, clocks: as those of a `DeviceBatch`.
      initial: normalised states `[batch, lat, lon, channel]` that rollouts begin with;
        None for those of the data.
    """

    fields: Mapping[str, jax.Array]
    clocks: jax.Array
    initial: jax.Array | None = None


class ValidationErrors(NamedTuple):
    """What a batch says of the model.

    Attributes:
      losses: `[step]`.
      mean_squares: `[step, channel]`, mean squared errors of normalised states.
    """

    losses: jax.Array
    mean_squares: jax.Array


def make_loss(weights_of_channels: np.ndarray, training: Training) -> Loss:
    """Builds the loss of a rollout, whose parts are those of its trained steps."""

    def loss(weights: Weights, model: Forecaster, batch: Rows | DeviceBatch) -> Losses:
        states, forcings = _trajectory(model, batch.fields, batch.clocks)
        initial = getattr(batch, 'initial', None)
        initial = states[0] if initial is None else initial
        first = training.pushforward
        initial = _push_forward(weights, model, initial, forcings, first)
        rest = jax.tree.map(lambda leaf: leaf[first:], forcings)
        predicted, moments = model.train_rollout(weights, initial, rest)
        errors = _errors(model, predicted, states[first + 1 :])
        named = variable_losses(errors, weights_of_channels, model.channels)
        return Losses(
            lead_losses(errors, weights_of_channels),
            {'batch_stats': moments},
            {f'loss_{name}': value for name, value in named.items()},
            jax.lax.stop_gradient(predicted[-1]) if training.replay else None,
        )

    return loss


def make_memory(training: Training) -> Memory | None:
    """How rollouts of a stage begin, where not with the data as they are."""
    if not training.replay and not training.noise:
        return None

    def read(
        buffer: jax.Array | None,
        model: Forecaster,
        batch: DeviceBatch,
        update: jax.Array,
    ) -> Rows:
        first = {name: field[:, 0] for name, field in batch.fields.items()}
        initial = model.normalize(first)
        if training.noise:
            key = jax.random.fold_in(jax.random.key(training.seed), update)
            noise = jax.random.normal(key, initial.shape, initial.dtype)
            scale = training.noise * jnp.asarray(model.normalizer.tendency_ratio)
            initial = initial + scale * noise
        if buffer is not None:
            reached = buffer[batch.slot]
            begins = batch.begins[:, None, None, None]  # type: ignore[index]
            initial = jnp.where(begins, initial, reached)
        return Rows(batch.fields, batch.clocks, initial)

    def write(
        buffer: jax.Array | None, batch: DeviceBatch, reached: jax.Array | None
    ) -> jax.Array | None:
        if buffer is None:
            return None
        return by_latitude(buffer.at[batch.slot].set(reached), axis=2, batch=1)

    return Memory(read, write)


def build_update(setup: Experiment, model: Forecaster, stage: Stage) -> Any:
    """The compiled update of a stage; arrays of `model` are not looked at."""
    weights, settings = channel_weights(model.channels, setup.loss), stage.settings
    loss = make_loss(weights, settings)
    return make_update(loss, stage, make_memory(settings), setup.devices)


def make_validation(
    weights_of_channels: np.ndarray,
) -> Callable[[Weights, Forecaster, DeviceBatch], ValidationErrors]:
    """Builds the compiled errors of forecasts as they are made from weights."""

    def validate(
        weights: Weights, model: Forecaster, batch: DeviceBatch
    ) -> ValidationErrors:
        states, forcings = _trajectory(model, batch.fields, batch.clocks)
        predicted = model.rollout(weights, states[0], forcings)
        errors = _errors(model, predicted, states[1:])
        # Of normalised states again: whoever asks knows the units of those.
        spread = jnp.square(jnp.asarray(model.normalizer.tendency_ratio))
        return ValidationErrors(
            lead_losses(errors, weights_of_channels), errors.means * spread
        )

    return jax.jit(validate)


def _push_forward(
    weights: Weights,
    model: Forecaster,
    initial: jax.Array,
    forcings: Forcing,
    num_steps: int,
) -> jax.Array:
    """The states after steps through which no gradient goes."""
    if not num_steps:
        return initial
    first = jax.tree.map(lambda leaf: leaf[:num_steps], forcings)
    fixed = jax.lax.stop_gradient(weights)
    # With the moments of batches, as the trained steps that follow.
    states, _ = model.train_rollout(fixed, jax.lax.stop_gradient(initial), first)
    return jax.lax.stop_gradient(states[-1])


def _trajectory(
    model: Forecaster, fields: Mapping[str, jax.Array], clocks: jax.Array
) -> tuple[jax.Array, Forcing]:
    """Normalised states `[time, batch, ...]` and the forcings of all but the first."""
    # Time first, as the scan over steps has it.
    states = jnp.moveaxis(model.normalize(fields), 1, 0)
    targets = {name: field[:, 1:] for name, field in fields.items()}
    forcings = model.forcing(clocks, targets)
    return states, jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), forcings)


def _errors(model: Forecaster, predicted: jax.Array, targets: jax.Array) -> Errors:
    # The states are normalised, and so must be what they are measured in.
    spread = jnp.asarray(model.normalizer.tendency_ratio)
    return squared_errors(predicted, targets, model.grid, spread)
