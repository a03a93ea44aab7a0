"""Random coefficients and rotations, to test anything that is built on the sphere."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sphere_ops.fields import SpinCoefficients, num_modes
from sphere_ops.operators import rotate

# Relative error of two rotations and a few sums of tens of terms in float32.
ROUND_OFF_32 = 1e-5


class EulerAngles(NamedTuple):
    """Angles of `operators.rotate`, radians."""

    alpha: float
    beta: float
    gamma: float


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
    generator = _generator(key)
    shape = (*batch_shape, max_degree + 1, max_degree + 1, 2)
    coefficients = {}
    for spin in sorted(spins):
        values = generator.normal(size=(*shape, num_modes(spin), channels))
        values *= coefficient_mask(spin, max_degree)
        coefficients[spin] = jnp.asarray(values, dtype)
    return coefficients


def random_rotation(key: jax.Array) -> EulerAngles:
    """A rotation drawn uniformly from all rotations."""
    alpha, cosine, gamma = _generator(key).uniform(-1, 1, 3)
    return EulerAngles(
        float(np.pi * alpha), float(np.arccos(cosine)), float(np.pi * gamma)
    )


def equivariance_error(
    function: Callable[[SpinCoefficients], SpinCoefficients],
    coefficients: SpinCoefficients,
    rotation: EulerAngles,
) -> float:
    """How far `function` is from commuting with a rotation R.

    Returns:
      `|f(R x) - R f(x)| / |f(x)|`, where `|.|^2` sums all coefficients of all spins.
    """
    after = rotate(function(coefficients), **rotation._asdict())
    before = function(rotate(coefficients, **rotation._asdict()))
    difference = jax.tree.map(jnp.subtract, before, after)
    return _norm(difference) / _norm(after)


def assert_equivariant(
    function: Callable[[SpinCoefficients], SpinCoefficients],
    coefficients: SpinCoefficients,
    *,
    key: jax.Array,
    bounds: tuple[float, float] = (0.0, ROUND_OFF_32),
) -> None:
    """Asserts that `function` commutes with a random rotation, f(R x) = R f(x).

    Args:
      function: From coefficients to coefficients, of any spins and degree.
      coefficients: x, e.g. `random_coefficients`; the rotation takes memory in the cube
        of the degree.
      key: PRNG key of the rotation.
      bounds: Smallest and largest `equivariance_error` to accept. An error below the
        smallest fails too: where a function is known to be only approximately
        equivariant, a silent change either way shows.

    Raises:
      AssertionError: If the error is out of bounds; the message gives it.
    """
    rotation = random_rotation(key)
    error = equivariance_error(function, coefficients, rotation)
    if not bounds[0] <= error <= bounds[1]:
        raise AssertionError(
            f'expected an equivariance error from {bounds[0]:.3g} to {bounds[1]:.3g}, '
            f'got {error:.3g} under {rotation}'
        )


def _generator(key: jax.Array) -> np.random.Generator:
    # NumPy's, because JAX compiles its own for a second per shape.
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())


def _norm(coefficients: SpinCoefficients) -> float:
    squares = [jnp.sum(values**2) for values in coefficients.values()]
    return float(jnp.sqrt(sum(squares)))


def coefficient_mask(spin: int, max_degree: int) -> np.ndarray:
    """One where a coefficient may differ from zero: `[order, degree, part, 1, 1]`."""
    order, degree = np.mgrid[: max_degree + 1, : max_degree + 1]
    real = degree >= np.maximum(order, abs(spin))
    imaginary = real & (order > 0)
    return np.stack([real, imaginary], -1)[..., None, None].astype(np.float32)
