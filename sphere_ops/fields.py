"""What a field on the sphere and its coefficients are: one array per spin.

The axes, the two modes and the sign conventions are stated in `sphere_ops/__init__.py`.
"""

from collections.abc import Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from sphere_ops import sharding

# {spin: [..., lat, lon, channel]}; real at spin 0, complex at every other.
SpinFields: TypeAlias = dict[int, jax.Array]
# {spin: real [..., order, degree, part, mode, channel]}.
SpinCoefficients: TypeAlias = dict[int, jax.Array]


def num_modes(spin: int) -> int:
    """Length of the mode axis: a spin-0 field is real and has the E mode only."""
    return 1 if spin == 0 else 2


def max_degree(coefficients: Mapping[int, jax.Array]) -> int:
    """Largest degree, inclusive, that the coefficients hold.

    Raises:
      ValueError: If there are none, or their axes are not those of coefficients.
    """
    if not coefficients:
        raise ValueError('expected coefficients of at least one spin, got none')
    shapes = {spin: jnp.shape(values) for spin, values in coefficients.items()}
    for spin, shape in shapes.items():
        expected = (2, num_modes(spin))
        if (
            len(shape) < 5
            or shape[-5] != sharding.num_orders(shape[-4] - 1)
            or shape[-3:-1] != expected
        ):
            raise ValueError(
                f'expected coefficients at spin {spin} to be [..., order, degree, '
                f'part, mode, channel] with as many orders as degrees (rounded up on '
                f'several devices, see `sphere_ops.sharding`) and (part, mode) '
                f'= {expected}, got shape {shape}'
            )
    degrees = {shape[-4] - 1 for shape in shapes.values()}
    if len(degrees) > 1:
        raise ValueError(f'expected one max_degree for all spins, got shapes {shapes}')
    return degrees.pop()


def coefficient(
    coefficients: Mapping[int, jax.Array], *, spin: int, degree: int, order: int
) -> jax.Array:
    """The coefficient a_lm of the spin-weighted harmonic of one degree and order.

    Args:
      coefficients: `{spin: [..., order, degree, part, mode, channel]}`.
      spin: s, a key of `coefficients`.
      degree: l, from 0 to the largest.
      order: m, from -degree to degree.

    Returns:
      Complex `[..., channel]`.

    Raises:
      ValueError: If the spin, degree or order is not there.
    """
    if spin not in coefficients:
        raise ValueError(f'expected a spin of {sorted(coefficients)}, got {spin}')
    largest = max_degree(coefficients)
    if not abs(order) <= degree <= largest:
        raise ValueError(
            f'expected |order| <= degree <= {largest}, got degree {degree}, '
            f'order {order}'
        )
    # [..., part, mode, channel]: E and B are real fields, whose a_(l,-m) is
    # (-1)^m times the conjugate of a_lm.
    a = coefficients[spin]
    place = np.flatnonzero(sharding.orders(a.shape[-5]) == abs(order)).item()
    pair = a[..., place, degree, :, :, :]
    modes = jax.lax.complex(pair[..., 0, :, :], pair[..., 1, :, :])
    if order < 0:
        modes = (-1) ** order * jnp.conj(modes)
    if spin == 0:
        return modes[..., 0, :]
    return modes[..., 0, :] + 1j * modes[..., 1, :]
