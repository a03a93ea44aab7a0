"""Channels side by side: joined and parted, multiplied as they are rounded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sphere_ops.layers.channels import channel_product, num_channels, stack, unstack


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


def test_stacked_channels_come_apart_as_they_were(coefficients):
    columns = stack(coefficients)
    # Two channels of one mode at spin 0, of two modes at spin 1.
    assert columns.shape[-1] == 2 * 1 + 2 * 2
    apart = unstack(columns, num_channels(coefficients))
    assert apart.keys() == coefficients.keys()
    for spin, values in coefficients.items():
        np.testing.assert_array_equal(apart[spin], values)
