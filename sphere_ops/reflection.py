"""Folding an axis onto half of it, so that sums over symmetric waves cost half.

Waves are even or odd under a reflection of the circle and harmonics under that of the
sphere at the equator. A sum of an even wave over all points is one over half of them,
of the values plus their mirror images; of an odd wave, minus.
"""

import jax
import jax.numpy as jnp


def fold(values: jax.Array, *, axis: int, sign=1) -> tuple[jax.Array, jax.Array]:
    """Values plus and minus `sign` times their mirror images, on the first half.

    Where the length is odd the point in the middle is its own image and comes out
    twice: sums over the result give it half the weight.

    Args:
      values: `[..., axis, ...]`.
      axis: the axis that is reflected.
      sign: +1 or -1, or an array of them that broadcasts.

    Returns:
      Two arrays of length `(length + 1) // 2` along `axis`.
    """
    length = values.shape[axis]
    half = (length + 1) // 2
    first = jax.lax.slice_in_dim(values, 0, half, axis=axis)
    last = jax.lax.slice_in_dim(values, length - half, length, axis=axis)
    image = sign * jnp.flip(last, axis)
    return first + image, first - image


def unfold(
    even: jax.Array, odd: jax.Array, *, length: int, axis: int, sign=1
) -> jax.Array:
    """The transpose of `fold`, as a linear map: both halves of the axis."""
    return join(even + odd, sign * (even - odd), length=length, axis=axis)


def join(first: jax.Array, image: jax.Array, *, length: int, axis: int) -> jax.Array:
    """The first half of an axis and the mirror image of the last, which may overlap."""
    last = jnp.flip(image, axis)
    if length % 2 == 0:
        return jnp.concatenate([first, last], axis=axis)
    half = first.shape[axis]
    middle = jax.lax.slice_in_dim(first, half - 1, half, axis=axis)
    middle += jax.lax.slice_in_dim(last, 0, 1, axis=axis)
    first = jax.lax.slice_in_dim(first, 0, half - 1, axis=axis)
    last = jax.lax.slice_in_dim(last, 1, half, axis=axis)
    return jnp.concatenate([first, middle, last], axis=axis)
