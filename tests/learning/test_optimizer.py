"""The optimiser does what its settings say."""

import jax.numpy as jnp
import numpy as np
import pytest

from learning.optimizer import (
    learning_rate_schedule,
    make_optimizer,
    moving_average,
)
from tests.learning.toy import Settings

ROUND_OFF = dict(rtol=1e-6, atol=1e-8)  # float32


def test_the_learning_rate_warms_up_to_its_peak_and_ends_at_zero():
    settings = Settings(num_updates=9, warmup_updates=2, learning_rate=1e-2)
    schedule = learning_rate_schedule(settings)
    found = [schedule(0), schedule(1), schedule(2), schedule(9)]
    np.testing.assert_allclose(found, [0, 5e-3, 1e-2, 0], **ROUND_OFF)


@pytest.mark.parametrize(('decay', 'half'), [('cosine', 0.6), ('linear', 0.6)])
def test_a_decay_ends_where_it_should(decay, half):
    settings = Settings(
        num_updates=12,
        warmup_updates=2,
        learning_rate=1.0,
        final_learning_rate=0.2,
        decay=decay,
    )
    schedule = learning_rate_schedule(settings)
    found = [schedule(1), schedule(2), schedule(7), schedule(12)]
    np.testing.assert_allclose(found, [0.5, 1.0, half, 0.2], rtol=1e-5)


def test_without_decay_the_peak_stays_and_a_later_stage_counts_from_its_start():
    settings = Settings(num_updates=6, warmup_updates=2, decay='none')
    schedule = learning_rate_schedule(settings, first_update=100)
    found = [schedule(100), schedule(101), schedule(102), schedule(106)]
    np.testing.assert_allclose(found, [0, 0.15, 0.3, 0.3], rtol=1e-6)


def test_only_kernels_decay():
    params = {'dense': {'kernel': jnp.ones(3), 'bias': jnp.ones(3)}}
    zero = {'dense': {'kernel': jnp.zeros(3), 'bias': jnp.zeros(3)}}
    settings = Settings(warmup_updates=0, learning_rate=0.1, weight_decay=0.5)
    optimizer = make_optimizer(settings)
    changes, _ = optimizer.update(zero, optimizer.init(params), params)
    # AdamW takes learning rate times decay of each weight off, whatever the gradient.
    np.testing.assert_allclose(changes['dense']['kernel'], -0.1 * 0.5, **ROUND_OFF)
    np.testing.assert_array_equal(changes['dense']['bias'], 0)


def test_the_gradient_is_clipped_and_beta2_is_that_of_the_settings():
    """The second update of Adam in closed form, of gradients clipped to norm one."""
    params = {'bias': jnp.zeros(())}
    settings = Settings(
        num_updates=10**6, warmup_updates=0, learning_rate=0.1, clip_norm=1.0, beta2=0.5
    )
    optimizer = make_optimizer(settings)
    state = optimizer.init(params)
    for gradient in (100.0, 0.25):
        gradients = {'bias': jnp.float32(gradient)}
        changes, state = optimizer.update(gradients, state, params)
    first = (0.1 * 0.9 * 1.0 + 0.1 * 0.25) / (1 - 0.9**2)
    second = (0.5 * 0.5 * 1.0**2 + 0.5 * 0.25**2) / (1 - 0.5**2)
    np.testing.assert_allclose(changes['bias'], -0.1 * first / second**0.5, rtol=1e-5)


def test_the_average_forgets_its_start_at_first_and_remembers_later():
    def average(update):
        old, new = {'w': jnp.ones(())}, {'w': jnp.zeros(())}
        return moving_average(old, new, update, decay=0.9, ramp=10.0)

    # What is left of the old value is the decay: (1 + update) / (10 + update) at first.
    np.testing.assert_allclose(average(0)['w'], 0.1, **ROUND_OFF)
    np.testing.assert_allclose(average(8)['w'], 0.5, **ROUND_OFF)
    np.testing.assert_allclose(average(10_000)['w'], 0.9, **ROUND_OFF)
