"""Folding an axis onto half of it, so that sums over symmetric waves cost half.

Waves are even or odd under a reflection of the circle and harmonics under that of the
sphere at the equator. A sum of an even wave over all points is one over half of them,
of the values plus their mirror images; of an odd wave, minus.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


def fold(
    values: jax.Array, *, axis: int, signs: Sequence[int]
) -> tuple[jax.Array, jax.Array]:
    """Values plus and minus their mirror images, on the first half of an axis.

    Where the length is odd the point in the middle is its own image and comes out
    twice: sums over the result give it half the weight.

    Args:
      values: `[parity, ..., axis, ...]`.
      axis: the axis that is reflected.
      signs: +1 or -1 per parity: what the mirror images are multiplied with.

    Returns:
      Two arrays of length `(length + 1) // 2` along `axis`.
    """
    length = values.shape[axis]
    half = (length + 1) // 2
    first = jax.lax.slice_in_dim(values, 0, half, axis=axis)
    last = jax.lax.slice_in_dim(values, length - half, length, axis=axis)
    image = _column(signs, values) * jnp.flip(last, axis)
    return first + image, first - image


def unfold(
    even: jax.Array,
    odd: jax.Array,
    *,
    length: int,
    axis: int,
    signs: Sequence[int],
) -> jax.Array:
    """The transpose of `fold`, as a linear map: all `length` points of the axis."""
    first = even + odd
    last = jnp.flip(_column(signs, even) * (even - odd), axis)
    if length % 2 == 0:
        return jnp.concatenate([first, last], axis=axis)
    half = first.shape[axis]
    middle = jax.lax.slice_in_dim(first, half - 1, half, axis=axis)
    middle += jax.lax.slice_in_dim(last, 0, 1, axis=axis)
    first = jax.lax.slice_in_dim(first, 0, half - 1, axis=axis)
    last = jax.lax.slice_in_dim(last, 1, half, axis=axis)
    return jnp.concatenate([first, middle, last], axis=axis)


def _column(signs: Sequence[int], like: jax.Array) -> np.ndarray:
    """Along the first axis of `like`."""
    return np.array(signs, like.dtype).reshape(-1, *[1] * (like.ndim - 1))
