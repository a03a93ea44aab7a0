"""Convolution: the complex sum of the paper, its variance, its blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sphere_ops import coefficient
from sphere_ops.layers.convolution import (
    SpinConvolution,
    knot_weights,
    multiply_by_degree,
)
from sphere_ops.layers.norms import sphere_variance
from sphere_ops.testing import assert_equivariant, random_coefficients

KEY = jax.random.key(1)  # Of parameters.
MAX_DEGREE = 7
ROUND_OFF = dict(rtol=0, atol=2e-5)  # float32, values of order one, sums of tens.


def test_knots_interpolate_linearly_and_sum_to_one():
    weights = knot_weights(9, 3)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    line = weights @ np.array([0.0, 4.0, 8.0])
    np.testing.assert_allclose(line, np.arange(9))
    np.testing.assert_array_equal(knot_weights(5, 5), np.eye(5))
    np.testing.assert_array_equal(knot_weights(5, 1), np.ones((5, 1)))


def test_more_knots_than_degrees_are_refused():
    with pytest.raises(ValueError, match='between 1 and 4 knots'):
        knot_weights(4, 5)


def test_convolution_equals_the_complex_sum_of_the_paper(coefficients):
    """y[l,m,s',c'] = sum_{s,c} k[l,s,s',c,c'] x[l,m,s,c] with complex kernels."""
    layer = SpinConvolution({1: 1}, num_knots=MAX_DEGREE + 1)
    spin_1 = {1: coefficients[1]}
    kernel = np.random.default_rng(0).normal(size=(MAX_DEGREE + 1, 2, 2))
    # A complex kernel k acts on E + iB as the matrix [[Re, -Im], [Im, Re]].
    matrix = np.zeros((MAX_DEGREE + 1, 4, 2), np.float32)
    matrix[:, :2, 0], matrix[:, :2, 1] = kernel[..., 0], kernel[..., 1]
    matrix[:, 2:, 0], matrix[:, 2:, 1] = -kernel[..., 1], kernel[..., 0]
    result = layer.apply({'params': {'knots': jnp.asarray(matrix)}}, spin_1)
    for degree in range(MAX_DEGREE + 1):
        for order in range(-degree, degree + 1):
            place = dict(spin=1, degree=degree, order=order)
            expected = coefficient(spin_1, **place) @ (
                kernel[degree, :, 0] + 1j * kernel[degree, :, 1]
            )
            found = coefficient(result, **place)[..., 0]
            np.testing.assert_allclose(found, expected, **ROUND_OFF)


def test_convolution_gives_nothing_below_either_spin(coefficients):
    layer = SpinConvolution({0: 2, 1: 2, 2: 2}, num_knots=3)
    result = layer.apply(layer.init(KEY, coefficients), coefficients)
    assert float(jnp.abs(result[1][..., 0, :, :, :]).max()) == 0
    assert float(jnp.abs(result[2][..., :2, :, :, :]).max()) == 0
    assert float(jnp.abs(result[2][..., 2, :, :, :]).max()) > 0


def test_convolution_keeps_the_variance_of_its_input(coefficients):
    wide = random_coefficients(
        jax.random.key(2), spins=(0, 1), max_degree=MAX_DEGREE, channels=256
    )
    layer = SpinConvolution({0: 256, 1: 256}, num_knots=4)
    result = layer.apply(layer.init(KEY, wide), wide)
    # Between knots two independent kernels are averaged, which halves their variance
    # at worst.
    for spin in (0, 1):
        ratio = (
            sphere_variance(result[spin]).mean() / sphere_variance(wide[spin]).mean()
        )
        assert 0.4 < ratio < 1.4


def test_convolution_commutes_with_rotations(coefficients):
    layer = SpinConvolution({0: 3, 1: 2}, 3)
    variables = layer.init(KEY, coefficients)
    assert_equivariant(
        lambda c: layer.apply(variables, c), coefficients, key=jax.random.key(4)
    )


@pytest.mark.parametrize('num_degrees', [5, 16, 40])
def test_blocks_of_degrees_equal_one_product_per_degree(num_degrees):
    random = np.random.default_rng(0)
    columns = random.normal(size=(2, num_degrees, num_degrees, 2, 3))
    order, degree = np.indices((num_degrees, num_degrees))
    columns *= (order <= degree)[:, :, None, None]
    knots = random.normal(size=(4, 3, 2))
    kernel = np.einsum('lk,kio->lio', knot_weights(num_degrees, 4), knots)
    expected = np.einsum('bmlpi,lio->bmlpo', columns, kernel)
    found = multiply_by_degree(jnp.asarray(columns, jnp.float32), jnp.float32(knots))
    # float32: sums of three products of order one.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
