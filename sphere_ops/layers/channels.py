"""Channels of all spins side by side, and products over them."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from sphere_ops.fields import SpinCoefficients, num_modes


def stack(coefficients: SpinCoefficients) -> jax.Array:
    """Joins modes and channels of all spins, in ascending order, on the last axis."""
    columns = [
        values.reshape(*values.shape[:-2], -1)
        for _, values in sorted(coefficients.items())
    ]
    return jnp.concatenate(columns, axis=-1)


def unstack(columns: jax.Array, features: Mapping[int, int]) -> SpinCoefficients:
    """The inverse of `stack` for `features` channels at every spin."""
    result, start = {}, 0
    for spin, channels in sorted(features.items()):
        stop = start + num_modes(spin) * channels
        shape = (*columns.shape[:-1], num_modes(spin), channels)
        result[spin] = columns[..., start:stop].reshape(shape)
        start = stop
    return result


def num_channels(coefficients: SpinCoefficients) -> dict[int, int]:
    """Channels at every spin."""
    return {spin: values.shape[-1] for spin, values in coefficients.items()}


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 3))
def channel_product(
    subscripts: str, values: jax.Array, kernel: jax.Array, dtype
) -> jax.Array:
    """`einsum` of values with a kernel over channels, and likewise its gradient.

    Args:
      subscripts: As `'ri,io->ro'`; every letter of a factor also stands in the other
        one or in the result.
      values: Of the type that the result has.
      kernel: Likewise.
      dtype: To which all that is multiplied is rounded, forward and backward: bfloat16
        or the type of `values`, which is that of sums in any case. Off the CPU, JAX
        multiplies float32 with fewer bits (TF32 on GPUs, bfloat16 on TPUs) unless
        JAX_DEFAULT_MATMUL_PRECISION=highest.
    """
    return _channel_product_forward(subscripts, values, kernel, dtype)[0]


def _channel_product_forward(subscripts, values, kernel, dtype):
    factors = _rounded(values, dtype), _rounded(kernel, dtype)
    product = jnp.einsum(subscripts, *factors, preferred_element_type=values.dtype)
    return product, factors


def _channel_product_backward(subscripts, dtype, factors, slope):
    values, kernel = factors
    places, result = subscripts.split('->')
    of_values, of_kernel = places.split(',')
    product = functools.partial(jnp.einsum, preferred_element_type=slope.dtype)
    slope = _rounded(slope, dtype)
    return (
        product(f'{result},{of_kernel}->{of_values}', slope, kernel),
        product(f'{of_values},{result}->{of_kernel}', values, slope),
    )


# JAX's own gradient would multiply float32 slopes with bfloat16 factors, which no
# accelerator's matrix unit does.
channel_product.defvjp(_channel_product_forward, _channel_product_backward)


def _rounded(values: jax.Array, dtype) -> jax.Array:
    """Factors of a product over channels, rounded to bfloat16 if `dtype` is that."""
    if dtype != jnp.bfloat16:
        return values
    if jax.default_backend() == 'cpu':
        # XLA's CPU lacks this product with sums in float32. That of the same numbers in
        # float32 is equal; a mere cast there and back would be optimised away.
        return jax.lax.reduce_precision(values, exponent_bits=8, mantissa_bits=7)
    return values.astype(dtype)
