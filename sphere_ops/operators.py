"""Differential operators, rotation, truncation and spectra of coefficients.

All are linear maps of `SpinCoefficients` that commute with rotations (power spectra are
invariant under them), so each is a factor per degree; signs follow from the definition
of eth in `sphere_ops/__init__.py`. Radii are in metres or any unit: the derivatives are
per that unit, and the default is the unit sphere.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sphere_ops import fields as spin_fields
from sphere_ops import sharding
from sphere_ops.fields import SpinCoefficients, SpinFields
from sphere_ops.transform import SpinTransform
from sphere_ops.wigner import wigner_d


class VorticityDivergence(NamedTuple):
    """Coefficients `{0: ...}` of both, in wind units per unit of the radius."""

    vorticity: SpinCoefficients
    divergence: SpinCoefficients


def eth(coefficients: Mapping[int, jax.Array]) -> SpinCoefficients:
    """Raises every spin by one: `a_lm sqrt((l - s) (l + s + 1))`.

    Args:
      coefficients: `{spin: [..., order, degree, part, mode, channel]}`.

    Returns:
      `{spin + 1: ...}`. A result of spin 0 is complex in general and has twice the
      channels: first the real parts, then the imaginary parts.
    """
    return {spin + 1: _step(a, spin, +1) for spin, a in coefficients.items()}


def eth_bar(coefficients: Mapping[int, jax.Array]) -> SpinCoefficients:
    """Lowers every spin by one: `-a_lm sqrt((l + s) (l - s + 1))`; else as `eth`."""
    return {spin - 1: -_step(a, spin, -1) for spin, a in coefficients.items()}


def gradient(
    scalars: Mapping[int, jax.Array], *, radius: float = 1
) -> SpinCoefficients:
    """Gradient of scalars, eastward + i northward at spin 1: `i eth / radius`.

    Args:
      scalars: `{0: [..., order, degree, part, 1, channel]}`.
      radius: Of the sphere.

    Returns:
      `{1: [..., order, degree, part, 2, channel]}`.
    """
    slope = _by_degree(_scalars(scalars), lambda k: np.sqrt(k * (k + 1)) / radius)
    # A gradient does not rotate: its E mode is zero.
    return {1: jnp.concatenate([jnp.zeros_like(slope), slope], axis=-2)}


def laplacian(
    scalars: Mapping[int, jax.Array], *, radius: float = 1
) -> SpinCoefficients:
    """Laplacian of scalars `{0: ...}`: `-l (l + 1) / radius^2`."""
    return {0: _by_degree(_scalars(scalars), lambda k: -k * (k + 1) / radius**2)}


def inverse_laplacian(
    scalars: Mapping[int, jax.Array], *, radius: float = 1
) -> SpinCoefficients:
    """The scalars `{0: ...}` of mean zero with a given Laplacian, its mean ignored."""
    return {0: _by_degree(_scalars(scalars), lambda k: -(radius**2) * _inverse(k))}


def vorticity_divergence(
    winds: Mapping[int, jax.Array], *, radius: float = 1
) -> VorticityDivergence:
    """Vorticity and divergence of winds u + i v.

    The vorticity is positive for counter-clockwise rotation seen from above: a westerly
    solid-body rotation has 2 U sin(latitude) / radius.

    Args:
      winds: `{1: [..., order, degree, part, 2, channel]}`.
      radius: Of the sphere.
    """
    slope = _by_degree(_winds(winds), lambda k: np.sqrt(k * (k + 1)) / radius)
    return VorticityDivergence({0: slope[..., :1, :]}, {0: -slope[..., 1:, :]})


def winds_from_vorticity_divergence(
    vorticity: Mapping[int, jax.Array],
    divergence: Mapping[int, jax.Array],
    *,
    radius: float = 1,
) -> SpinCoefficients:
    """The winds `{1: ...}` of given vorticity and divergence, `{0: ...}` each.

    Their means over the sphere are ignored: those of a wind are zero (Stokes).
    """
    curl_and_flow = jnp.concatenate(
        [_scalars(vorticity), -_scalars(divergence)], axis=-2
    )
    return {1: _by_degree(curl_and_flow, lambda k: radius * np.sqrt(_inverse(k)))}


def rotate(
    coefficients: Mapping[int, jax.Array], *, alpha: float, beta: float, gamma: float
) -> SpinCoefficients:
    """The field carried along by a rotation: the value at x moves to R x.

    R turns by gamma about the polar axis, then by beta about the axis through longitude
    90 on the equator, then by alpha about the polar axis (Euler angles z-y-z):
    `a'_lm = sum_n exp(-i m alpha) d^l_mn(beta) exp(-i n gamma) a_ln`, the same at every
    spin. Takes memory in the cube of the degree.

    Args:
      coefficients: `{spin: [..., order, degree, part, mode, channel]}`.
      alpha: Last angle, radians.
      beta: Middle angle, radians in [0, pi].
      gamma: First angle, radians.
    """
    if sharding.num_parts() > 1:
        raise ValueError(
            'expected all orders on one device, got a mesh whose space is '
            f'{sharding.num_parts()}; rotate outside of it'
        )
    degree = spin_fields.max_degree(coefficients)
    # Tables depend on the angles alone: made in float64, outside of what is compiled,
    # so that another rotation needs no other program.
    orders = np.arange(degree + 1)
    phases = [
        np.stack([np.cos(orders * x), np.sin(orders * x)]) for x in (alpha, gamma)
    ]
    return _rotate(dict(coefficients), _rotation_tables(beta, degree), *phases)


def truncate(
    coefficients: Mapping[int, jax.Array], max_degree: int
) -> SpinCoefficients:
    """Drops degrees above `max_degree`: the exact way to smooth or to pool."""
    present = spin_fields.max_degree(coefficients)
    if not 0 <= max_degree <= present:
        raise ValueError(
            f'expected max_degree from 0 to {present}, got {max_degree}; pad_to_degree '
            'adds degrees'
        )
    return {
        spin: sharding.first_orders(a, max_degree, axis=-5)[
            ..., : max_degree + 1, :, :, :
        ]
        for spin, a in coefficients.items()
    }


def pad_to_degree(
    coefficients: Mapping[int, jax.Array], max_degree: int
) -> SpinCoefficients:
    """Adds degrees up to `max_degree`, all zero: the same field."""
    missing = max_degree - spin_fields.max_degree(coefficients)
    if missing < 0:
        raise ValueError(
            f'expected max_degree >= {max_degree - missing}, got {max_degree}; '
            'truncate drops degrees'
        )
    orders = sharding.num_orders(max_degree)
    width = [(0, missing), (0, 0), (0, 0), (0, 0)]
    return {
        spin: jnp.pad(
            sharding.pad_orders(a, orders, axis=-5), [(0, 0)] * (a.ndim - 4) + width
        )
        for spin, a in coefficients.items()
    }


def regrid(
    fields: Mapping[int, jax.Array], *, source: SpinTransform, target: SpinTransform
) -> SpinFields:
    """Fields on another grid, without what either transform does not resolve.

    Args:
      fields: `{spin: [..., lat, lon, channel]}` on `source.grid`.
      source: Transform of the grid they are on.
      target: Transform of the grid they go to.
    """
    coefficients = source.to_spectral(fields)
    degree = min(source.max_degree, target.max_degree)
    return target.to_grid(truncate(coefficients, degree))


def power_spectrum(coefficients: Mapping[int, jax.Array]) -> dict[int, jax.Array]:
    """Power per degree, `sum_m |a_lm|^2` over orders of both signs.

    Its sum over degrees is the integral of |f|^2 over the unit sphere (Parseval); of a
    wind, `spectrum / 8 pi` is the kinetic energy per unit mass of each degree.

    Returns:
      `{spin: [..., degree, channel]}`.
    """
    powers = {}
    for spin, a in coefficients.items():
        orders = sharding.orders(a.shape[-5])
        twice = np.where(orders == 0, 1, 2).astype(a.dtype)
        powers[spin] = jnp.einsum(
            '...mlpkc,m->...lc', a**2, twice, precision=jax.lax.Precision.HIGHEST
        )
    return powers


def _scalars(coefficients: Mapping[int, jax.Array]) -> jax.Array:
    return _only(coefficients, 0, 'scalars')


def _winds(coefficients: Mapping[int, jax.Array]) -> jax.Array:
    return _only(coefficients, 1, 'winds')


def _only(coefficients: Mapping[int, jax.Array], spin: int, name: str) -> jax.Array:
    if set(coefficients) != {spin}:
        raise ValueError(
            f'expected {name} alone, {{{spin}: ...}}, got spins '
            f'{sorted(coefficients)}; pass {{{spin}: coefficients[{spin}]}}'
        )
    spin_fields.max_degree(coefficients)
    return coefficients[spin]


def _by_degree(a: jax.Array, factor) -> jax.Array:
    """Times `factor(degrees)`, computed in float64."""
    # On the host: degrees are static, and a factor is rounded to float32 only once.
    factors = factor(np.arange(a.shape[-4], dtype=np.float64)).astype(a.dtype)
    return a * factors[:, None, None, None]


def _inverse(degree: np.ndarray) -> np.ndarray:
    """`1 / l (l + 1)`, and 0 at degree 0."""
    return np.where(degree > 0, 1 / np.maximum(degree * (degree + 1), 1), 0)


def _step(a: jax.Array, spin: int, step: int) -> jax.Array:
    """The common part of eth (step 1) and eth-bar (step -1)."""
    s = spin * step
    a = _by_degree(a, lambda k: np.sqrt(np.maximum((k - s) * (k + s + 1), 0)))
    if spin == 0:  # A real scalar has no B mode; what is raised from it has one, zero.
        return jnp.concatenate([a, jnp.zeros_like(a)], axis=-2)
    if spin + step == 0:  # Scalars are real: E and B become channels of their own.
        return jnp.concatenate([a[..., :1, :], a[..., 1:, :]], axis=-1)
    return a


@jax.jit
def _rotate(
    coefficients: SpinCoefficients,
    tables: jax.Array,
    last: jax.Array,
    first: jax.Array,
) -> SpinCoefficients:
    """Applies `tables` `[part, order, order, degree]` between two turns."""

    def turn(a: jax.Array) -> jax.Array:
        turned = jnp.einsum(
            'pmnl,...nlpkc->...mlpkc',
            tables.astype(a.dtype),
            _turn_about_pole(a, first),
            precision=jax.lax.Precision.HIGHEST,
        )
        return _turn_about_pole(turned, last)

    return {spin: turn(a) for spin, a in coefficients.items()}


def _turn_about_pole(a: jax.Array, phases: jax.Array) -> jax.Array:
    """Times `exp(-i m angle)`, of which `[part, order]` are cosine and sine."""
    cos, sin = phases.astype(a.dtype)[:, :, None, None, None]
    real, imaginary = a[..., 0, :, :], a[..., 1, :, :]
    turned = [real * cos + imaginary * sin, imaginary * cos - real * sin]
    return jnp.stack(turned, axis=-3)


def _rotation_tables(beta: float, max_degree: int) -> np.ndarray:
    """What turns real and imaginary parts, `[part, order, order, degree]`.

    Orders n < 0 of a real field are (-1)^n times the conjugates of those > 0: they add
    to the real table and subtract from the imaginary one.
    """
    orders = np.arange(max_degree + 1)
    m, n = (axis.ravel() for axis in np.meshgrid(orders, orders, indexing='ij'))
    shape = (orders.size, orders.size, -1)
    plus = wigner_d(m, n, [beta], max_degree).reshape(shape)
    minus = wigner_d(m, -n, [beta], max_degree).reshape(shape)
    minus = minus * np.where(orders == 0, 0, (-1.0) ** orders)[:, None]
    return np.stack([plus + minus, plus - minus])
