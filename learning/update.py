"""One optimiser update, of whatever a loss says about a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import optax
from flax import struct

from learning.optimizer import make_optimizer, moving_average
from learning.settings import Devices, Settings, Stage
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
      averages: further averages, by their decay as text.
      memory: what an update leaves to later ones beside that; None where nothing.
    """

    update: jax.Array
    weights: Weights
    average: Weights
    optimizer: Any
    averages: Mapping[str, Weights] = struct.field(default_factory=dict)
    memory: Any = None


class Losses(NamedTuple):
    """What a loss returns.

    Attributes:
      parts: `[part]`, the loss is their sum.
      kept: the new values of all that stands beside `params` in the weights.
      named: further numbers for the log, by name: the loss taken apart otherwise.
      made: what the memory is to keep, `[batch, ...]`; None where there is none.
    """

    parts: jax.Array
    kept: Mapping[str, Any]
    named: Mapping[str, jax.Array] = {}
    made: Any = None


class Outcome(NamedTuple):
    """What an update reports.

    Attributes:
      loss: its value.
      parts: `[part]`, whose sum it is.
      gradient_norm: of its gradient, before the clip.
      named: further numbers for the log.
    """

    loss: jax.Array
    parts: jax.Array
    gradient_norm: jax.Array
    named: Mapping[str, jax.Array] = {}


class Memory(NamedTuple):
    """How an update uses what earlier ones have left.

    Attributes:
      read: (memory, constants, batch, update) -> rows: what the loss is given.
      write: (memory, batch, made) -> memory.
    """

    read: Callable[[Any, Any, Any, jax.Array], Any]
    write: Callable[[Any, Any, Any], Any]


# (weights, constants, rows): constants are arguments, and not literals, of a program.
# Rows are `[batch, ...]` throughout.
Loss = Callable[[Weights, Any, Any], Losses]
Update = Callable[[TrainState, Any, Any], tuple[TrainState, Outcome]]


def init_train_state(
    weights: Weights, settings: Settings, memory: Any = None
) -> TrainState:
    """The state before the first update."""

    # Copies: the state is donated, and a buffer can be given away only once.
    def copy() -> Weights:
        return jax.tree.map(jnp.copy, weights)

    return TrainState(
        update=jnp.zeros((), jnp.int32),
        weights=weights,
        average=copy(),
        optimizer=make_optimizer(settings).init(weights['params']),
        averages={str(decay): copy() for decay in settings.more_ema_decays},
        memory=memory,
    )


def make_update(
    loss: Loss,
    settings: Settings | Stage,
    memory: Memory | None = None,
    devices: Devices | None = None,
) -> Update:
    """Builds the compiled update (state, constants, batch) -> (state, outcome).

    The old `TrainState` is donated. Another shape of the batch compiles anew.

    Args:
      loss: what is made small.
      settings: of a training, or of one stage of it.
      memory: how the state's memory is used; None where there is none.
      devices: how the state lies on the mesh of `jax.set_mesh`.
    """
    stage = settings if isinstance(settings, Stage) else settings.plan()[0]
    optimizer = make_optimizer(stage.settings, stage.first_update)
    gradient_of = _accumulated(loss, stage.settings.accumulate)
    ramp = stage.settings.ema_ramp
    devices = Devices() if devices is None else devices

    def update(
        state: TrainState, constants: Any, batch: Any
    ) -> tuple[TrainState, Outcome]:
        rows = batch
        if memory is not None:
            rows = memory.read(state.memory, constants, batch, state.update)
        params = state.weights['params']
        (total, losses), gradient = gradient_of(state.weights, constants, rows)
        gradient = keep_layout(devices, gradient)
        changes, optimizer_state = optimizer.update(gradient, state.optimizer, params)
        weights = {'params': optax.apply_updates(params, changes), **losses.kept}

        # With what is kept: moments of norms fit the weights that they were seen with.
        def averaged(average: Weights, decay: float) -> Weights:
            return moving_average(
                average, weights, state.update, decay=decay, ramp=ramp
            )

        following = TrainState(
            update=state.update + 1,
            weights=weights,
            average=averaged(state.average, stage.settings.ema_decay),
            optimizer=optimizer_state,
            averages={k: averaged(v, float(k)) for k, v in state.averages.items()},
        )
        following = keep_layout(devices, following)
        if memory is not None:
            # It lies like a batch, not like parameters.
            kept = memory.write(state.memory, batch, losses.made)
            following = following.replace(memory=kept)
        # The norm before the clip, which hides how large it was.
        norm = optax.tree.norm(gradient)
        return following, Outcome(total, losses.parts, norm, losses.named)

    # Otherwise weights, average and moments would be in memory twice.
    return jax.jit(update, donate_argnums=0)


def make_part_gradients(loss: Loss) -> Callable[[Weights, Any, Any], Any]:
    """Builds the compiled norms of the gradients of all parts of a loss, one by one.

    Returns:
      (weights, constants, batch) -> (norms `[part]`, norms of `named` by name).
    """

    def norms(weights: Weights, constants: Any, batch: Any) -> tuple[Any, Any]:
        def of_parameters(params: Any) -> Any:
            losses = loss({**weights, 'params': params}, constants, batch)
            return losses.parts, losses.named

        values, pull_back = jax.vjp(of_parameters, weights['params'])
        flat, restore = jax.flatten_util.ravel_pytree(values)

        def norm(direction: jax.Array) -> jax.Array:
            return optax.tree.norm(pull_back(restore(direction))[0])

        # One after the other: each holds the memory of a backward pass.
        return restore(jax.lax.map(norm, jnp.eye(flat.size, dtype=flat.dtype)))

    return jax.jit(norms)


def _accumulated(loss: Loss, num_parts: int) -> Callable[..., Any]:
    """The loss and its gradient, of a batch in parts that are done one by one."""

    def whole(weights: Weights, constants: Any, batch: Any) -> Any:
        def of_parameters(params: Any) -> tuple[jax.Array, Losses]:
            losses = loss({**weights, 'params': params}, constants, batch)
            return losses.parts.sum(), losses

        return jax.value_and_grad(of_parameters, has_aux=True)(weights['params'])

    if num_parts == 1:
        return whole

    def in_parts(weights: Weights, constants: Any, batch: Any) -> Any:
        def one(total: Any, rows: Any) -> tuple[Any, Any]:
            (value, losses), gradient = whole(weights, constants, rows)
            of_rows = (value, losses._replace(made=None)), gradient
            return jax.tree.map(jnp.add, total, of_rows), losses.made

        parts = jax.tree.map(lambda leaf: _split_rows(leaf, num_parts), batch)
        first = jax.tree.map(lambda leaf: leaf[0], parts)
        (value, losses), gradient = jax.eval_shape(whole, weights, constants, first)
        start = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
            ((value, losses._replace(made=None)), gradient),
        )
        total, made = jax.lax.scan(one, start, parts)
        (value, losses), gradient = jax.tree.map(
            lambda leaf: (leaf / num_parts).astype(leaf.dtype), total
        )
        made = jax.tree.map(_join_rows, made)
        return (value, losses._replace(made=made)), gradient

    return in_parts


def _split_rows(rows: jax.Array, num_parts: int) -> jax.Array:
    """`[batch, ...]` to `[part, row, ...]`: every `num_parts`-th row to a part.

    Each device then keeps the rows that it has, where the batch is split over devices.
    """
    return jnp.swapaxes(rows.reshape(-1, num_parts, *rows.shape[1:]), 0, 1)


def _join_rows(parts: jax.Array) -> jax.Array:
    """The inverse of `_split_rows`."""
    return jnp.swapaxes(parts, 0, 1).reshape(-1, *parts.shape[2:])
