"""An update follows the gradient of the loss and keeps what stands beside it."""

import jax
import jax.numpy as jnp
import numpy as np

from learning.update import Losses, init_train_state, make_update
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
