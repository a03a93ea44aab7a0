"""Residual blocks: what a new one does, how its width changes, how it rounds."""

import jax
import jax.numpy as jnp
import numpy as np

from sphere_ops import LatLonGrid, SpinTransform
from sphere_ops.layers.blocks import ResidualBlock
from sphere_ops.layers.collapse import PhaseCollapse
from sphere_ops.testing import random_coefficients

KEY = jax.random.key(1)  # Of parameters.
MAX_DEGREE = 7
WIDTH = {0: 3, 1: 2}
ROUND_OFF = dict(rtol=0, atol=2e-5)  # float32, values of order one, sums of tens.
# Products of numbers with 8 bits, 4e-3 each, summed over tens of channels.
HALF_PRECISION = (1e-4, 2e-2)


def test_a_new_residual_block_is_the_phase_collapse_of_its_input(transform):
    same_width = random_coefficients(
        jax.random.key(3), spins=(0, 1), max_degree=MAX_DEGREE, channels=2
    )
    block = ResidualBlock({0: 2, 1: 2}, num_knots=3, use_running_average=True)
    variables = block.init(KEY, same_width, transform)
    assert 'skip' not in variables['params']  # The identity needs no parameters.
    result = block.apply(variables, same_width, transform)
    last = {'params': variables['params']['PhaseCollapse_1']}
    expected = PhaseCollapse().apply(last, same_width, transform)
    for spin in (0, 1):
        np.testing.assert_allclose(result[spin], expected[spin], **ROUND_OFF)


def test_a_residual_block_may_change_the_width(coefficients, transform):
    block = ResidualBlock(WIDTH, num_knots=3, use_running_average=True)
    variables = block.init(KEY, coefficients, transform)
    assert 'skip' in variables['params']
    result = block.apply(variables, coefficients, transform)
    assert {spin: values.shape[-1] for spin, values in result.items()} == WIDTH


def test_products_in_bfloat16_err_as_bfloat16_does():
    features = {0: 6, 1: 5}
    transform = SpinTransform.create(LatLonGrid('gauss', num_lat=16, num_lon=32))
    values = random_coefficients(jax.random.key(0), max_degree=15, channels=6)
    layers = [
        ResidualBlock(features, 4, use_running_average=True, dtype=dtype)
        for dtype in (jnp.float32, jnp.bfloat16)
    ]
    variables = layers[0].init(jax.random.key(1), values, transform)
    # The second norm begins at zero, which would hide all that is before it.
    params = jax.tree.map(lambda leaf: leaf + 0.1, variables['params'])
    exact, half = (
        layer.apply({**variables, 'params': params}, values, transform)
        for layer in layers
    )
    for spin in features:
        assert half[spin].dtype == jnp.float32
        error = jnp.sqrt(
            jnp.mean((half[spin] - exact[spin]) ** 2) / jnp.mean(exact[spin] ** 2)
        )
        assert HALF_PRECISION[0] < error < HALF_PRECISION[1]
