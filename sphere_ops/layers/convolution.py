"""Spin convolutions: one real matrix per degree over spins, modes and channels."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.lax import Precision

from sphere_ops import sharding
from sphere_ops.fields import SpinCoefficients, num_modes
from sphere_ops.layers.channels import channel_product, stack, unstack

# A block of degrees needs no orders above its last degree, and only its own part of the
# interpolated kernel; fewer, larger blocks waste more, more blocks make small products.
DEGREES_PER_BLOCK = 16


def knot_weights(num_degrees: int, num_knots: int) -> np.ndarray:
    """Weights `[degree, knot]` of linear interpolation between equidistant knots.

    One knot gives a kernel that is the same at all degrees.
    """
    if not 1 <= num_knots <= num_degrees:
        raise ValueError(
            f'expected between 1 and {num_degrees} knots (one per degree), got '
            f'{num_knots}; lower num_knots or raise max_degree'
        )
    if num_knots == 1:
        return np.ones((num_degrees, 1))
    position = np.linspace(0, num_knots - 1, num_degrees)
    return np.maximum(0, 1 - abs(position[:, None] - np.arange(num_knots)))


def multiply_by_degree(
    columns: jax.Array, knots: jax.Array, dtype=jnp.float32
) -> jax.Array:
    """Products with one matrix per degree, interpolated between knots.

    Args:
      columns: `[..., order, degree, part, input]`.
      knots: `[knot, input, output]`; or `[data, space, knot, input, output]`, a copy
        for every device, see `sphere_ops.sharding.copies`.
      dtype: that is multiplied; sums have the type of `columns`.

    Returns:
      `[..., order, degree, part, output]`.
    """
    leading, (num_orders, num_degrees) = columns.shape[:-4], columns.shape[-4:-2]
    columns = columns.reshape(-1, *columns.shape[-4:])
    weights = knot_weights(num_degrees, knots.shape[-3])
    product = _product if knots.ndim == 3 else _product_of_copies
    blocks = []
    for start in range(0, num_degrees, DEGREES_PER_BLOCK):
        stop = min(start + DEGREES_PER_BLOCK, num_degrees)
        nonzero = np.flatnonzero(weights[start:stop].any(axis=0))
        used = slice(nonzero[0], nonzero[-1] + 1)
        # Orders above the block's last degree have no coefficients in it.
        block = sharding.first_orders(columns, stop - 1, axis=1)[:, :, start:stop]
        part = jnp.asarray(weights[start:stop, used], knots.dtype)
        block = product(block, part, knots[..., used, :, :], dtype)
        blocks.append(sharding.pad_orders(block, num_orders, axis=1))
    result = jnp.concatenate(blocks, axis=-3)
    return result.reshape(*leading, *result.shape[1:])


def _product(
    block: jax.Array, weights: jax.Array, knots: jax.Array, dtype
) -> jax.Array:
    """Of a block of degrees, whose `weights` are `[degree, knot]`."""
    # Interpolated block by block: the kernel of all degrees at once would be 134 MB for
    # 128 degrees and 512 columns.
    kernel = jnp.einsum('lk,kio->lio', weights, knots, precision=Precision.HIGHEST)
    return channel_product('bmlpi,lio->bmlpo', block, kernel, dtype)


# Its backward pass makes the kernel anew, and each pass when its numbers are there. XLA
# would make the kernels of all convolutions beforehand, and keep them: 260 MB of the
# flagship's, on every device alike.
@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _product_of_copies(
    block: jax.Array, weights: jax.Array, knots: jax.Array, dtype
) -> jax.Array:
    """As `_product`, by each device for its samples and orders."""
    # d, q: the devices' copies, and their samples and orders.
    mine = sharding.to_devices(block, knots.shape[:2])
    kernel = _kernel_of_copies(mine, weights, knots)
    mine = channel_product('dbqmlpi,dqlio->dbqmlpo', mine, kernel, dtype)
    return sharding.from_devices(mine)


def _product_of_copies_backward(dtype, residuals, slope):
    block, weights, knots = residuals
    mine = sharding.to_devices(slope, knots.shape[:2])
    kernel = _kernel_of_copies(mine, weights, knots)

    def product(block: jax.Array, kernel: jax.Array) -> jax.Array:
        values = sharding.to_devices(block, knots.shape[:2])
        return channel_product('dbqmlpi,dqlio->dbqmlpo', values, kernel, dtype)

    of_block, of_kernel = jax.vjp(product, block, kernel)[1](mine)
    of_knots = jnp.einsum(
        'lk,dqlio->dqkio', weights, of_kernel, precision=Precision.HIGHEST
    )
    return of_block, None, of_knots


_product_of_copies.defvjp(
    lambda block, weights, knots, dtype: (
        _product_of_copies(block, weights, knots, dtype),
        (block, weights, knots),
    ),
    _product_of_copies_backward,
)


def _kernel_of_copies(
    values: jax.Array, weights: jax.Array, knots: jax.Array
) -> jax.Array:
    """`[data, space, degree, input, output]`, once there are the first of `values`."""
    # No float is zero times another for XLA, which takes barriers out too early.
    nothing = 0 * values[:, 0, :, 0, 0, 0, 0]
    weights = weights + nothing[:, :, None, None]
    return jnp.einsum('dqlk,dqkio->dqlio', weights, knots, precision=Precision.HIGHEST)


def copy_kernels(params: Any, *, num_samples: int) -> Any:
    """Parameters with a copy of every kernel of a `SpinConvolution` for each device.

    For what uses them more than once. Samples that the axis `data` does not divide have
    the kernels as they are.
    """
    if num_samples % sharding.num_batches():
        return params

    def copy(path: Any, leaf: jax.Array) -> jax.Array:
        return sharding.copies(leaf) if path[-1].key == 'knots' else leaf

    return jax.tree_util.tree_map_with_path(copy, params)


class SpinConvolution(nn.Module):
    """Convolution y_lm = K_l x_lm, with K free at knots of the degree l (eq. 6).

    The matrix K_l acts on the E and B modes of all spins and channels. With two modes
    on both sides this holds the paper's complex kernels and, beside them, the coupling
    of a field to its complex conjugate (which has spin -s): both commute with
    rotations. Entries vanish below l = max(|s|, |s'|).

    Attributes:
      features: channels of the result at every spin.
      num_knots: number of degrees at which the kernel is free; fewer is smoother in
        degree and so more local on the sphere.
      dtype: of the numbers that are multiplied; sums and parameters are float32.
      kernel_init: initialiser of the kernel's knots `[knot, input, output]`; the
        default gives variance one out for variance one in, summed over all inputs.
    """

    features: Mapping[int, int]
    num_knots: int
    dtype: Any = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.initializers.variance_scaling(
        1.0, 'fan_in', 'normal', in_axis=1, out_axis=2, batch_axis=(0,)
    )

    @nn.compact
    def __call__(self, coefficients: SpinCoefficients) -> SpinCoefficients:
        """Convolves coefficients of any spins into `features`."""
        columns = stack(coefficients)
        num_degrees = columns.shape[-3]
        spins_out = np.concatenate(
            [
                np.full(num_modes(s) * n, abs(s))
                for s, n in sorted(self.features.items())
            ]
        )
        shape = self.num_knots, columns.shape[-1], len(spins_out)
        # Not by `param`, which would not have copies of it.
        if self.has_variable('params', 'knots'):
            knots: jax.Array = self.get_variable('params', 'knots')
        else:
            knots = self.param('knots', self.kernel_init, shape)
        if knots.shape[-3:] != shape:
            raise ValueError(
                f'expected knots [knot, input, output] of {shape}, got {knots.shape}; '
                'the parameters are those of another network'
            )
        result = multiply_by_degree(columns, knots.astype(columns.dtype), self.dtype)
        # Coefficients of the input vanish below |s| by themselves.
        exists = np.arange(num_degrees)[:, None, None] >= spins_out
        return unstack(jnp.where(exists, result, 0), self.features)
