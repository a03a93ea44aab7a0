"""One optimiser update on a batch of windows, and the validation beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from weather import experiment
from weather.model.forecaster import Forecaster, Weights
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


@struct.dataclass
class TrainState:
    """What an update changes.

    Attributes:
      update: number of updates done.
      variables: parameters and batch statistics.
      average: their exponential moving average, which forecasts use.
      optimizer: state of the optimiser.
    """

    update: jax.Array
    variables: Weights
    average: Weights
    optimizer: Any


class Metrics(NamedTuple):
    """What an update reports: loss, loss `[step]` per lead time, gradient norm."""

    loss: jax.Array
    lead_losses: jax.Array
    gradient_norm: jax.Array


Update = Callable[[TrainState, Forecaster, DeviceBatch], tuple[TrainState, Metrics]]


def learning_rate_schedule(training: experiment.Training) -> optax.Schedule:
    """Linear warm-up, then a cosine down to zero at the last update."""
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=training.learning_rate,
        warmup_steps=training.warmup_updates,
        decay_steps=max(training.num_updates, training.warmup_updates + 1),
    )


def make_optimizer(training: experiment.Training) -> optax.GradientTransformation:
    """AdamW behind a clip of the global norm; only kernels decay."""

    def is_kernel(path: Any, _: Any) -> bool:
        return path[-1].key in ('kernel', 'knots')

    return optax.chain(
        optax.clip_by_global_norm(training.clip_norm),
        optax.adamw(
            learning_rate_schedule(training),
            b2=0.98,
            weight_decay=training.weight_decay,
            mask=lambda params: jax.tree_util.tree_map_with_path(is_kernel, params),
        ),
    )


def init_train_state(model: Forecaster, training: experiment.Training) -> TrainState:
    """The state before the first update: a function of the seed alone."""
    variables = model.init(jax.random.key(training.seed))
    return TrainState(
        update=jnp.zeros((), jnp.int32),
        variables=variables,
        average=jax.tree.map(jnp.copy, variables),
        optimizer=make_optimizer(training).init(variables['params']),
    )


def make_update(training: experiment.Training, weights: np.ndarray) -> Update:
    """Builds the compiled update; `weights` are those of the channels in the loss.

    The old `TrainState` is donated. A new rollout length compiles anew.
    """
    optimizer = make_optimizer(training)

    def loss_function(
        params: Any, batch_stats: Any, model: Forecaster, batch: DeviceBatch
    ) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        variables = {'params': params, 'batch_stats': batch_stats}
        states, forcings = _trajectory(model, batch)
        predicted, moments = model.train_rollout(variables, states[0], forcings)
        losses = _losses(model, predicted, states[1:], weights)
        return losses.sum(), (losses, moments)

    def update(
        state: TrainState, model: Forecaster, batch: DeviceBatch
    ) -> tuple[TrainState, Metrics]:
        value_and_grad = jax.value_and_grad(loss_function, has_aux=True)
        (loss, (losses, moments)), gradient = value_and_grad(
            state.variables['params'], state.variables['batch_stats'], model, batch
        )
        changes, optimizer_state = optimizer.update(
            gradient, state.optimizer, state.variables['params']
        )
        params = optax.apply_updates(state.variables['params'], changes)
        variables = {'params': params, 'batch_stats': moments}
        following = TrainState(
            update=state.update + 1,
            variables=variables,
            average=_average(state, variables, training.ema_decay),
            optimizer=optimizer_state,
        )
        return following, Metrics(loss, losses, optax.tree.norm(gradient))

    return jax.jit(update, donate_argnums=0)


def make_validation(
    weights: np.ndarray,
) -> Callable[[Weights, Forecaster, DeviceBatch], jax.Array]:
    """Builds the compiled loss per lead time `[step]` of forecasts from `variables`."""

    def validate(
        variables: Weights, model: Forecaster, batch: DeviceBatch
    ) -> jax.Array:
        states, forcings = _trajectory(model, batch)
        predicted = model.rollout(variables, states[0], forcings)
        return _losses(model, predicted, states[1:], weights)

    return jax.jit(validate)


def _trajectory(model: Forecaster, batch: DeviceBatch) -> tuple[jax.Array, Forcing]:
    """Normalised states `[time, batch, ...]` and the forcings of all but the first."""
    states = jnp.moveaxis(model.normalize(batch.fields), 1, 0)
    targets = {name: field[:, 1:] for name, field in batch.fields.items()}
    forcings = model.forcing(batch.clocks, targets)
    return states, jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), forcings)


def _losses(
    model: Forecaster, predicted: jax.Array, targets: jax.Array, weights: np.ndarray
) -> jax.Array:
    spread = jnp.asarray(model.normalizer.tendency_ratio)
    return lead_losses(predicted, targets, model.grid, weights, spread)


def _average(state: TrainState, variables: Weights, longest: float) -> Weights:
    """Exponential moving average, with a shorter memory over the first updates."""
    # Without the ramp the average would keep the random start for 1 / (1 - decay).
    ramp = (1.0 + state.update) / (10.0 + state.update)
    decay = jnp.minimum(longest, ramp)
    return jax.tree.map(
        lambda old, new: decay * old + (1 - decay) * new, state.average, variables
    )
