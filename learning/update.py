"""One optimiser update, of whatever a loss says about a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from learning.optimizer import make_optimizer, moving_average
from learning.settings import Devices, Settings
from learning.sharding import keep_layout

# What training adjusts under `params`, and beside it what the loss keeps a record of,
# such as moments of batches: the collections of Flax.
Weights = Mapping[str, Any]


@struct.dataclass
class TrainState:
    """What an update changes.

    Attributes:
      update: number of updates done.
      weights: parameters, and what is kept beside them.
      average: their exponential moving average, which is for use.
      optimizer: state of the optimiser.
    """

    update: jax.Array
    weights: Weights
    average: Weights
    optimizer: Any


class Losses(NamedTuple):
    """What a loss returns.

    Attributes:
      parts: `[part]`, the loss is their sum.
      kept: the new values of all that stands beside `params` in the weights.
    """

    parts: jax.Array
    kept: Mapping[str, Any]


class Outcome(NamedTuple):
    """What an update reports: loss, its parts `[part]`, norm of its gradient."""

    loss: jax.Array
    parts: jax.Array
    gradient_norm: jax.Array


# (weights, constants, batch): constants are arguments, and not literals, of a program.
Loss = Callable[[Weights, Any, Any], Losses]
Update = Callable[[TrainState, Any, Any], tuple[TrainState, Outcome]]


def init_train_state(weights: Weights, settings: Settings) -> TrainState:
    """The state before the first update."""
    return TrainState(
        update=jnp.zeros((), jnp.int32),
        weights=weights,
        # A copy: the state is donated, and a buffer can be given away only once.
        average=jax.tree.map(jnp.copy, weights),
        optimizer=make_optimizer(settings).init(weights['params']),
    )


def make_update(
    loss: Loss, settings: Settings, devices: Devices | None = None
) -> Update:
    """Builds the compiled update (state, constants, batch) -> (state, outcome).

    The old `TrainState` is donated. Another shape of the batch compiles anew.
    """
    optimizer = make_optimizer(settings)
    devices = Devices() if devices is None else devices

    def update(
        state: TrainState, constants: Any, batch: Any
    ) -> tuple[TrainState, Outcome]:
        def of_parameters(params: Any) -> tuple[jax.Array, Losses]:
            losses = loss({**state.weights, 'params': params}, constants, batch)
            return losses.parts.sum(), losses

        params = state.weights['params']
        value_and_grad = jax.value_and_grad(of_parameters, has_aux=True)
        (total, losses), gradient = value_and_grad(params)
        gradient = keep_layout(devices, gradient)
        changes, optimizer_state = optimizer.update(gradient, state.optimizer, params)
        weights = {'params': optax.apply_updates(params, changes), **losses.kept}
        following = TrainState(
            update=state.update + 1,
            weights=weights,
            # With what is kept: moments of norms fit the weights that they were seen
            # with.
            average=moving_average(state.average, weights, state.update, settings),
            optimizer=optimizer_state,
        )
        following = keep_layout(devices, following)
        # The norm before the clip, which hides how large it was.
        return following, Outcome(total, losses.parts, optax.tree.norm(gradient))

    # Otherwise weights, average and moments would be in memory twice.
    return jax.jit(update, donate_argnums=0)
