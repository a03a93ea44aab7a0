"""Layers: explicit twins, closed forms, and equivariance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sphere_ops import LatLonGrid, SpinTransform, coefficient
from sphere_ops.layers import (
    PhaseCollapse,
    ResidualBlock,
    SpectralBatchNorm,
    SpinConvolution,
    channel_product,
    knot_weights,
    magnitude,
    multiply_by_degree,
    sphere_variance,
)
from sphere_ops.testing import assert_equivariant, random_coefficients

MAX_DEGREE = 7
GRID = LatLonGrid(kind='gauss', num_lat=16, num_lon=32)
ROUND_OFF = dict(rtol=0, atol=2e-5)  # float32, values of order one, sums of tens.
# |x| of a field cut at degree 7 has degrees far beyond the 15 that this grid resolves;
# what aliases back was half a per cent of it when measured. Less would mean that the
# layer does not do what it should, more that it is broken: both ways are asserted.
ALIASING = (1e-3, 0.1)
WIDTH = {0: 3, 1: 2}


@pytest.fixture
def coefficients():
    return random_coefficients(
        jax.random.key(0),
        spins=(0, 1),
        max_degree=MAX_DEGREE,
        channels=2,
        batch_shape=(3,),
    )


@pytest.fixture(scope='module')
def transform():
    return SpinTransform.create(GRID, spins=(0, 1), max_degree=MAX_DEGREE)


def init(layer, *arguments):
    return layer.init(jax.random.key(1), *arguments)


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
    result = layer.apply(init(layer, coefficients), coefficients)
    assert float(jnp.abs(result[1][..., 0, :, :, :]).max()) == 0
    assert float(jnp.abs(result[2][..., :2, :, :, :]).max()) == 0
    assert float(jnp.abs(result[2][..., 2, :, :, :]).max()) > 0


def test_convolution_keeps_the_variance_of_its_input(coefficients):
    wide = random_coefficients(
        jax.random.key(2), spins=(0, 1), max_degree=MAX_DEGREE, channels=256
    )
    layer = SpinConvolution({0: 256, 1: 256}, num_knots=4)
    result = layer.apply(init(layer, wide), wide)
    # Between knots two independent kernels are averaged, which halves their variance
    # at worst.
    for spin in (0, 1):
        ratio = (
            sphere_variance(result[spin]).mean() / sphere_variance(wide[spin]).mean()
        )
        assert 0.4 < ratio < 1.4


def test_batch_norm_makes_fields_of_mean_zero_and_variance_one(coefficients, transform):
    scaled = {spin: 7 * values for spin, values in coefficients.items()}
    layer = SpectralBatchNorm(use_running_average=False)
    variables = init(layer, scaled)
    result, _ = layer.apply(variables, scaled, mutable=['batch_stats'])
    fields = transform.to_grid(result)
    weights = GRID.quadrature_weights[:, None, None] / 2 / GRID.num_lon
    means = (fields[0] * weights).sum(axis=(1, 2)).mean(axis=0)
    np.testing.assert_allclose(means, 0, **ROUND_OFF)
    for spin in (0, 1):
        anomaly = result[spin].at[..., 0, 0, :, :, :].set(0)
        field = transform.to_grid({spin: anomaly})[spin]
        variance = (jnp.abs(field) ** 2 * weights).sum(axis=(1, 2)).mean(axis=0)
        np.testing.assert_allclose(variance, 1, rtol=1e-4)


def test_running_moments_tend_to_those_of_the_batch(coefficients):
    layer = SpectralBatchNorm(use_running_average=False, momentum=0.5)
    variables = init(layer, coefficients)
    expected, _ = layer.apply(variables, coefficients, mutable=['batch_stats'])
    for _ in range(30):
        _, updated = layer.apply(variables, coefficients, mutable=['batch_stats'])
        variables = {**variables, **updated}
    running = SpectralBatchNorm(use_running_average=True)
    result = running.apply(variables, coefficients)
    for spin in (0, 1):
        np.testing.assert_allclose(result[spin], expected[spin], **ROUND_OFF)


def test_phase_collapse_equals_its_formula_on_the_grid(coefficients, transform):
    layer = PhaseCollapse()
    variables = init(layer, coefficients, transform)
    variables['params']['bias'] = jnp.array([0.3, -2.0])
    result = layer.apply(variables, coefficients, transform)
    fields = transform.to_grid(coefficients)
    params = variables['params']
    magnitudes = jnp.concatenate([jnp.abs(fields[0]), jnp.abs(fields[1])], axis=-1)
    expected = (
        fields[0] @ params['scalars']['kernel']
        + magnitudes @ params['magnitudes']['kernel']
    ) / 2 + params['bias']
    expected = transform.to_spectral({0: expected})[0]
    np.testing.assert_allclose(result[0], expected, **ROUND_OFF)
    np.testing.assert_array_equal(result[1], coefficients[1])


def test_the_magnitude_has_a_gradient_everywhere():
    gradient = jax.grad(lambda x: magnitude(jax.lax.complex(x, x)).sum())(jnp.zeros(2))
    assert np.isfinite(gradient).all()


def test_a_new_residual_block_is_the_phase_collapse_of_its_input(transform):
    same_width = random_coefficients(
        jax.random.key(3), spins=(0, 1), max_degree=MAX_DEGREE, channels=2
    )
    block = ResidualBlock({0: 2, 1: 2}, num_knots=3, use_running_average=True)
    variables = init(block, same_width, transform)
    assert 'skip' not in variables['params']  # The identity needs no parameters.
    result = block.apply(variables, same_width, transform)
    last = {'params': variables['params']['PhaseCollapse_1']}
    expected = PhaseCollapse().apply(last, same_width, transform)
    for spin in (0, 1):
        np.testing.assert_allclose(result[spin], expected[spin], **ROUND_OFF)


def test_a_residual_block_may_change_the_width(coefficients, transform):
    block = ResidualBlock(WIDTH, num_knots=3, use_running_average=True)
    variables = init(block, coefficients, transform)
    assert 'skip' in variables['params']
    result = block.apply(variables, coefficients, transform)
    assert {spin: values.shape[-1] for spin, values in result.items()} == WIDTH


@pytest.mark.parametrize(
    'layer', [SpinConvolution(WIDTH, 3), SpectralBatchNorm(use_running_average=True)]
)
def test_convolution_and_batch_norm_commute_with_rotations(layer, coefficients):
    variables = init(layer, coefficients)
    assert_equivariant(
        lambda c: layer.apply(variables, c), coefficients, key=jax.random.key(4)
    )


def test_phase_collapse_commutes_with_rotations_up_to_aliasing(coefficients, transform):
    layer = PhaseCollapse()
    variables = init(layer, coefficients, transform)
    assert_equivariant(
        lambda c: layer.apply(variables, c, transform),
        coefficients,
        key=jax.random.key(5),
        bounds=ALIASING,
    )


# Products of numbers with 8 bits, 4e-3 each, summed over tens of channels.
HALF_PRECISION = (1e-4, 2e-2)


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


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_gradients_of_channel_products_multiply_what_is_rounded(dtype):
    values, kernel, slope = (
        jax.random.normal(jax.random.key(i), shape)
        for i, shape in enumerate([(7, 3, 5), (3, 5, 4), (7, 3, 4)])
    )

    def product(values, kernel):
        return channel_product('bli,lio->blo', values, kernel, dtype)

    result, pull = jax.vjp(product, values, kernel)
    # Numbers of few bits have exact products: float64 differs by the sums alone.
    x, k, s = (np.float64(a.astype(dtype)) for a in (values, kernel, slope))
    expected = (
        np.einsum('bli,lio->blo', x, k),
        np.einsum('blo,lio->bli', s, k),
        np.einsum('bli,blo->lio', x, s),
    )
    for found, exact in zip((result, *pull(slope)), expected, strict=True):
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, exact, rtol=0, atol=3e-6)


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
