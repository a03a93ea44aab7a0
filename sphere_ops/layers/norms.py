"""Norms of coefficients, and the moments that they need."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from sphere_ops import sharding
from sphere_ops.fields import SpinCoefficients

_EPSILON = 1e-6  # Floor of a variance, where fields are of order one.


class SpectralBatchNorm(nn.Module):
    """Batch normalisation without an inverse transform (section 4.3 of the paper).

    The mean of a spin-0 field over the sphere is its l = 0 coefficient; the variance of
    any field is sum_{l > 0} |a_lm|^2 / 4 pi, here averaged over all leading axes. The
    offset is a constant spin-0 field; other spins have none.

    Attributes:
      use_running_average: take the moments from the collection `batch_stats` instead of
        computing (and recording) those of the batch.
      momentum: weight of the past in the running moments.
      scale_init: initialiser of the scale.
    """

    use_running_average: bool
    momentum: float = 0.9
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, coefficients: SpinCoefficients) -> SpinCoefficients:
        """Normalises every channel of every spin."""
        return {
            spin: self._normalize(spin, values)
            for spin, values in sorted(coefficients.items())
        }

    def _normalize(self, spin: int, values: jax.Array) -> jax.Array:
        channels = values.shape[-1:]
        scale = self.param(f'scale_{spin}', self.scale_init, channels)
        variance = self._moment(f'variance_{spin}', 1.0, sphere_variance(values))
        factor = scale * jax.lax.rsqrt(variance + _EPSILON)
        # Only scalars have a mean over the sphere: no other spin has a constant field.
        if spin != 0:
            return values * factor
        mean = self._moment('mean_0', 0.0, sphere_mean(values))
        bias = self.param('bias_0', nn.initializers.zeros, channels)
        # (x - mean) * factor + bias, where a constant lives in a_00 alone.
        return add_constant(values * factor, bias - mean * factor)

    def _moment(self, name: str, initial: float, observed: jax.Array) -> jax.Array:
        running = self.variable(
            'batch_stats', name, lambda: jnp.full(observed.shape, initial, jnp.float32)
        )
        if self.use_running_average:
            return running.value
        # The batch that shapes are found with is zeros, no sample of
        # anything.
        if not self.is_initializing():
            past = self.momentum * running.value
            running.value = past + (1 - self.momentum) * observed
        return observed


def sphere_variance(values: jax.Array) -> jax.Array:
    """Variance over the sphere, averaged over leading axes, of one spin's coefficients.

    Args:
      values: `[..., order, degree, part, mode, channel]`.

    Returns:
      `[channel]`: sum over degrees l > 0 and orders of |a_lm|^2, over 4 pi.
    """
    orders = sharding.orders(values.shape[-5])
    # Orders below zero are not stored: each order above zero stands for two.
    multiplicity = np.where(orders == 0, 1.0, 2.0)
    power = jnp.square(values[..., 1:, :, :, :]).sum(axis=(-4, -3, -2))
    per_sample = jnp.einsum('...mc,m->...c', power, multiplicity.astype(values.dtype))
    leading = tuple(range(per_sample.ndim - 1))
    return per_sample.mean(axis=leading) / (4 * np.pi)


def sphere_mean(values: jax.Array) -> jax.Array:
    """Mean over the sphere `[channel]` of a spin-0 field: a_00 / sqrt(4 pi)."""
    constant = sharding.order_0(values[..., 0, 0, 0, :])
    return constant.mean(axis=tuple(range(constant.ndim - 1))) / np.sqrt(4 * np.pi)


def add_constant(values: jax.Array, constant: jax.Array) -> jax.Array:
    """Adds a constant `[channel]` to spin-0 coefficients: a_00 grows."""
    return values.at[..., 0, 0, 0, 0, :].add(np.sqrt(4 * np.pi) * constant)
