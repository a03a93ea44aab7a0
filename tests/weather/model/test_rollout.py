"""A rollout is repeated application; a loss is a weighted mean of squares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sphere_ops import LatLonGrid
from weather import experiment
from weather.model.loss import (
    channel_weights,
    lead_losses,
    squared_errors,
    variable_losses,
)
from weather.model.rollout import rollout
from weather.variables import ChannelIndex

ROUND_OFF = dict(rtol=1e-6, atol=0)  # float32, a handful of operations.


def affine(state, forcing):
    return 2 * state + forcing, state


def test_a_rollout_composes_its_step():
    states, diagnostics = rollout(
        affine, jnp.float32(1), jnp.array([1.0, 2.0, 3.0]), rematerialise=True
    )
    np.testing.assert_array_equal(states, [3, 8, 19])
    np.testing.assert_array_equal(diagnostics, [1, 3, 8])


@pytest.mark.parametrize('rematerialise', [True, False])
def test_the_gradient_of_a_rollout_is_the_product_of_the_steps(rematerialise):
    def last(state):
        zeros = jnp.zeros(5)
        return rollout(affine, state, zeros, rematerialise=rematerialise)[0][-1]

    assert jax.grad(last)(jnp.float32(1)) == 2**5


def test_only_one_state_per_step_is_kept_for_the_gradient():
    """Rematerialisation: a step's inner values are not saved, whatever their size."""
    width = 4096

    def step(state, _):
        wide = jnp.sin(state * jnp.arange(width, dtype=jnp.float32))
        return jnp.tanh(wide.sum()), None

    def loss(state):
        return rollout(step, state, jnp.zeros(64), rematerialise=True)[0].sum()

    compiled = jax.jit(jax.grad(loss)).lower(jnp.float32(0.1)).compile()
    saved_without = 64 * width * 4  # `wide` of every step, float32.
    assert compiled.memory_analysis().temp_size_in_bytes < saved_without / 4


@pytest.fixture
def channels():
    return ChannelIndex({'geopotential': (500, 850), 'temperature': (850,)})


def test_channel_weights_multiply_variable_and_level_and_have_mean_one(channels):
    loss = experiment.Loss(
        variable_weights={'temperature': 2.0}, level_weights={'850': 0.5}
    )
    weights = channel_weights(channels, loss)
    np.testing.assert_allclose(weights, np.array([1, 0.5, 1]) * 3 / 2.5)


def test_weights_that_leave_nothing_are_refused(channels):
    nothing = experiment.Loss(
        variable_weights={'temperature': 0.0, 'geopotential': 0.0}, level_weights={}
    )
    with pytest.raises(ValueError, match='not all zero'):
        channel_weights(channels, nothing)


def test_an_error_of_one_tendency_everywhere_costs_one(channels):
    grid = LatLonGrid(kind='equiangular_with_poles', num_lat=9, num_lon=16)
    scale = jnp.array([3.0, 0.5, 20.0])
    target = jnp.ones((2, 4, *grid.shape, 3))
    predicted = target + scale * jnp.array([1.0, 2.0])[:, None, None, None, None]
    losses = lead_losses(squared_errors(predicted, target, grid, scale), np.ones(3))
    np.testing.assert_allclose(losses, [1, 4], **ROUND_OFF)


def test_an_error_counts_by_the_area_it_covers(channels):
    grid = LatLonGrid(kind='gauss', num_lat=8, num_lon=16)
    target = jnp.zeros((1, 1, *grid.shape, 3))
    at_pole = target.at[..., 0, :, :].set(1.0)
    loss = lead_losses(squared_errors(at_pole, target, grid, jnp.ones(3)), np.ones(3))[
        0
    ]
    np.testing.assert_allclose(loss, grid.area_weights[0] / 8, **ROUND_OFF)


def test_the_losses_of_variables_are_those_of_lead_times_taken_apart(channels):
    grid = LatLonGrid(kind='gauss', num_lat=4, num_lon=8)
    key = jax.random.key(1)
    predicted = jax.random.normal(key, (3, 2, *grid.shape, 3))
    weights = np.array([0.5, 1.0, 1.5])
    errors = squared_errors(predicted, jnp.zeros_like(predicted), grid, jnp.ones(3))
    by_variable = variable_losses(errors, weights, channels)
    assert set(by_variable) == {'geopotential', 'temperature'}
    total = sum(by_variable.values())
    np.testing.assert_allclose(total, lead_losses(errors, weights).sum(), rtol=1e-5)
    # The one channel of temperature, by hand.
    area = grid.area_weights[:, None]
    mean = np.mean(area * np.square(np.asarray(predicted)[..., 2]), axis=(1, 2, 3))
    expected = 1.5 / 3 * mean.sum()
    np.testing.assert_allclose(by_variable['temperature'], expected, rtol=1e-5)
