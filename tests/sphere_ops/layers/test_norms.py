"""Norms: fields of mean zero and variance one, now and as they run."""

import jax
import jax.numpy as jnp
import numpy as np

from sphere_ops.layers.norms import SpectralBatchNorm
from sphere_ops.testing import assert_equivariant

KEY = jax.random.key(1)  # Of parameters.
ROUND_OFF = dict(rtol=0, atol=2e-5)  # float32, values of order one, sums of tens.


def test_batch_norm_makes_fields_of_mean_zero_and_variance_one(coefficients, transform):
    scaled = {spin: 7 * values for spin, values in coefficients.items()}
    layer = SpectralBatchNorm(use_running_average=False)
    variables = layer.init(KEY, scaled)
    result, _ = layer.apply(variables, scaled, mutable=['batch_stats'])
    fields = transform.to_grid(result)
    grid = transform.grid
    weights = grid.quadrature_weights[:, None, None] / 2 / grid.num_lon
    means = (fields[0] * weights).sum(axis=(1, 2)).mean(axis=0)
    np.testing.assert_allclose(means, 0, **ROUND_OFF)
    for spin in (0, 1):
        anomaly = result[spin].at[..., 0, 0, :, :, :].set(0)
        field = transform.to_grid({spin: anomaly})[spin]
        variance = (jnp.abs(field) ** 2 * weights).sum(axis=(1, 2)).mean(axis=0)
        np.testing.assert_allclose(variance, 1, rtol=1e-4)


def test_running_moments_tend_to_those_of_the_batch(coefficients):
    layer = SpectralBatchNorm(use_running_average=False, momentum=0.5)
    variables = layer.init(KEY, coefficients)
    expected, _ = layer.apply(variables, coefficients, mutable=['batch_stats'])
    for _ in range(30):
        _, updated = layer.apply(variables, coefficients, mutable=['batch_stats'])
        variables = {**variables, **updated}
    running = SpectralBatchNorm(use_running_average=True)
    result = running.apply(variables, coefficients)
    for spin in (0, 1):
        np.testing.assert_allclose(result[spin], expected[spin], **ROUND_OFF)


def test_batch_norm_commutes_with_rotations(coefficients):
    layer = SpectralBatchNorm(use_running_average=True)
    variables = layer.init(KEY, coefficients)
    assert_equivariant(
        lambda c: layer.apply(variables, c), coefficients, key=jax.random.key(4)
    )
