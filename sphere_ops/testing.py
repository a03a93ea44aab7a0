"""Random coefficients and rotations, for tests of anything built on the sphere."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from sphere_ops.fields import SpinCoefficients, num_modes


def random_coefficients(
    key: jax.Array,
    *,
    spins: Sequence[int] = (0, 1),
    max_degree: int,
    channels: int = 1,
    batch_shape: Sequence[int] = (),
    dtype=jnp.float32,
) -> SpinCoefficients:
    """Coefficients of a statistically isotropic field: all of variance about one.

    Args:
      key: PRNG key.
      spins: Spins to draw.
      max_degree: Largest degree, inclusive.
      channels: Length of the channel axis.
      batch_shape: Leading axes.
      dtype: Real type.

    Returns:
      `{spin: [*batch_shape, order, degree, part, mode, channel]}`.
    """
    size = max_degree + 1
    return {
        spin: coefficient_mask(spin, max_degree, dtype)
        * jax.random.normal(
            jax.random.fold_in(key, spin + 100),
            (*batch_shape, size, size, 2, num_modes(spin), channels),
            dtype,
        )
        for spin in spins
    }


def coefficient_mask(spin: int, max_degree: int, dtype=jnp.float32) -> jax.Array:
    """One where a coefficient may differ from zero: `[order, degree, part, 1, 1]`."""
    order, degree = jnp.mgrid[: max_degree + 1, : max_degree + 1]
    real = degree >= jnp.maximum(order, abs(spin))
    imaginary = real & (order > 0)
    return jnp.stack([real, imaginary], -1)[..., None, None].astype(dtype)
