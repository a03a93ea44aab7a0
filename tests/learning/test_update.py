"""An update follows the gradient of the loss and keeps what stands beside it."""

import jax
import jax.numpy as jnp
import numpy as np

from learning.update import (
    Losses,
    Memory,
    init_train_state,
    make_part_gradients,
    make_update,
)
from tests.learning.toy import Settings


def loss(weights, target, batch):
    parts = jnp.stack([(weights['params']['bias'] - target) ** 2, batch.sum()])
    return Losses(parts, {'seen': weights['seen'] + len(batch)})


def test_loss_parts_gradient_and_what_is_kept():
    settings = Settings(warmup_updates=0, learning_rate=0.1, ema_decay=0.0)
    weights = {'params': {'bias': jnp.float32(3.0)}, 'seen': jnp.int32(0)}
    update = make_update(loss, settings)
    state, metrics = update(
        init_train_state(weights, settings), jnp.float32(1.0), jnp.ones(4)
    )
    # (3 - 1)^2 and 4; the derivative is 2 (3 - 1).
    np.testing.assert_array_equal(metrics.parts, [4.0, 4.0])
    assert (metrics.loss, metrics.gradient_norm) == (8.0, 4.0)
    # The first update of Adam is the learning rate against the sign of the gradient.
    np.testing.assert_allclose(state.weights['params']['bias'], 2.9, rtol=1e-6)
    assert state.weights['seen'] == 4 and state.update == 1
    # Without memory the average is the newest.
    same = jax.tree.map(jnp.array_equal, state.average, state.weights)
    assert all(jax.tree.leaves(same))


def squared(weights, scale, batch):
    """Of rows, without anything that rows share: parts of a batch are its mean."""
    error = batch['x'] * weights['params']['kernel'] - batch['y']
    parts = scale * jnp.square(error).mean(axis=0)
    return Losses(parts, {'seen': weights['seen'] + 1}, {'first': parts[0]}, error)


def test_a_batch_in_parts_is_the_batch():
    batch = {
        'x': jax.random.normal(jax.random.key(1), (12, 3)),
        'y': jax.random.normal(jax.random.key(2), (12, 3)),
    }
    weights = {'params': {'kernel': jnp.ones(3)}, 'seen': jnp.zeros(())}
    found = []
    for accumulate in (1, 4):
        settings = Settings(warmup_updates=0, accumulate=accumulate)
        memory = Memory(
            lambda memory, constants, batch, update: batch,
            lambda memory, batch, errors: errors,
        )
        state = init_train_state(
            jax.tree.map(jnp.copy, weights), settings, memory=jnp.zeros((12, 3))
        )
        found.append(make_update(squared, settings, memory)(state, 2.0, batch))
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        # Another order of the same sums, in float32.
        np.testing.assert_allclose(one, other, rtol=2e-6, atol=1e-6)


def test_every_average_has_a_memory_of_its_own():
    settings = Settings(
        warmup_updates=0,
        learning_rate=0.1,
        ema_decay=0.0,
        more_ema_decays=(0.5, 0.9),
        ema_ramp=1.0,
    )
    weights = {'params': {'bias': jnp.float32(3.0)}, 'seen': jnp.int32(0)}
    state = init_train_state(weights, settings)
    state, _ = make_update(loss, settings)(state, jnp.float32(1.0), jnp.ones(4))
    found = {k: float(v['params']['bias']) for k, v in state.averages.items()}
    np.testing.assert_allclose(found['0.5'], 0.5 * 3.0 + 0.5 * 2.9, rtol=1e-6)
    np.testing.assert_allclose(found['0.9'], 0.9 * 3.0 + 0.1 * 2.9, rtol=1e-6)


def test_the_gradients_of_parts_are_those_of_each_alone():
    batch = {'x': jnp.arange(6.0).reshape(2, 3), 'y': jnp.ones((2, 3))}
    weights = {'params': {'kernel': jnp.array([1.0, 2.0, 3.0])}, 'seen': 0.0}
    parts, named = make_part_gradients(squared)(weights, 1.0, batch)
    kernel = weights['params']['kernel']
    by_hand = jnp.mean(2 * batch['x'] * (batch['x'] * kernel - 1), axis=0)
    np.testing.assert_allclose(parts, jnp.abs(by_hand), rtol=1e-6)
    np.testing.assert_allclose(named['first'], abs(by_hand[0]), rtol=1e-6)
