"""Sums over latitude: from Fourier sums to coefficients of E and B modes, and back.

With T[m, l] the part of the spin-s harmonic of order m and degree l that depends on
latitude, T' its image under reflection at the equator and sign = (-1)^(l + m + s),

    Z = (T + sign T') / 2,    X = (T - sign T') / 2

are even or odd under that reflection: Z as `sign` says, X the other way. For the
Fourier sums U and V of the eastward and northward component (of one order m),

    E = sum_lat (Z U + i X V),    B = sum_lat (Z V - i X U)

and the synthesis is the transpose. So two real fields go through the same real products
as a scalar does (for which X = 0), each over half the latitudes, and neither order -m
nor a complex number appears (the vector harmonics of Kostelec et al. 2000, J. Comput.
Phys. 162, 514, for any spin).

Orders and degrees are taken apart into even and odd ones, because a product has to be
all of one symmetry. Only degrees l >= m exist: orders come in blocks, each with the
degrees from its first order on, so that the products skip nearly half of a square
table.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import Precision

from sphere_ops import sharding
from sphere_ops.reflection import fold, unfold
from sphere_ops.wigner import harmonics_by_degree

# More blocks skip more of the square (at 256 rows 1, 2, 4, 8 blocks save 0, 25, 38, 44
# % of the arithmetic) but compile longer; see benchmarks/RESULTS.md.
ORDERS_PER_BLOCK = 16

# One per block of orders:
# [order % 2, order // 2, symmetry, (Z, and X if the spin is not 0) degree // 2, lat].
Tables = tuple[jax.Array, ...]

# Of a mirror image at the equator, by order % 2.
_SIGNS = (1, -1)

# E and B, by part and mode, are Z times U and V plus these times X times U and V with
# both axes turned round; and the same the other way.
_X_SIGNS = np.array([[-1, 1], [1, -1]])[:, :, None, None]


def legendre_tables(
    spin: int, colatitudes: np.ndarray, max_degree: int, dtype
) -> Tables:
    """Computes Z (and X, if the spin is not 0) in float64, on the northern half.

    Args:
      spin: s.
      colatitudes: `[lat]`, radians, symmetric about the equator.
      max_degree: Largest degree, inclusive.
      dtype: Of the result.

    Returns:
      Blocks of ascending orders. Symmetry 0 is even in latitude at even orders and odd
      at odd ones, 1 the other way. Degrees are those of the right parity from the
      block's first order (an even one) on. On several devices pairs of orders are
      dealt within each block, see `sphere_ops.sharding`.
    """
    pairs, half = max_degree // 2 + 1, (len(colatitudes) + 1) // 2
    kinds = num_kinds(spin)
    table = np.zeros((2, pairs, 2, kinds, pairs, half), dtype)
    for degree, values in enumerate(harmonics_by_degree(spin, colatitudes, max_degree)):
        orders = np.arange(degree + 1)
        # What reflection does to a scalar harmonic, P_lm(-x) = (-1)^(l+m) P_lm(x),
        # times (-1)^s: then T' = sign T wherever order or spin is 0, and X vanishes
        # there.
        sign = (1 - 2 * ((degree + orders + spin) % 2))[:, None]
        north, image = values[orders, :half], sign * values[orders, ::-1][:, :half]
        symmetry = (degree + spin) % 2
        table[orders % 2, orders // 2, symmetry, 0, degree // 2] = (north + image) / 2
        if kinds == 2:
            x = (north - image) / 2
            x[0] = 0  # T' = sign T at order 0: exactly, not to round-off.
            table[orders % 2, orders // 2, 1 - symmetry, 1, degree // 2] = x
    if len(colatitudes) % 2:
        table[..., -1] /= 2  # `fold` counts the equator twice.
    parts = sharding.num_parts()
    table = np.pad(table, [(0, 0), (0, -pairs % parts)] + [(0, 0)] * 4)
    # As many pairs for each device as there are in a block, but at least one.
    size = -(-(ORDERS_PER_BLOCK // 2) // parts) * parts
    starts = range(0, table.shape[1], size)
    blocks = [
        sharding.deal(table[:, i : i + size, :, :, i:], axis=1, parts=parts)
        for i in starts
    ]
    return tuple(
        jnp.asarray(block.reshape(*block.shape[:3], -1, half)) for block in blocks
    )


def num_kinds(spin: int) -> int:
    """How many tables a spin has: Z alone at spin 0, otherwise Z and X."""
    return 1 if spin == 0 else 2


def to_coefficients(
    tables: Tables,
    sums: Sequence[tuple[jax.Array, jax.Array]],
    *,
    spin: int,
    max_degree: int,
) -> jax.Array:
    """Coefficients from Fourier sums.

    Args:
      tables: Of the spin.
      sums: For each component of the field, real and imaginary part
        `[order % 2, order // 2, lat, batch, channel]`.
      spin: s.
      max_degree: Largest degree, inclusive.

    Returns:
      `[batch, order, degree, part, mode, channel]`.
    """
    blocks, start = [], 0
    for table in tables:
        stop = start + table.shape[1]
        rows = [
            [
                _analyse(table, sharding.slice_orders(part, start, stop, axis=1), spin)
                for part in component
            ]
            for component in sums
        ]
        modes = _modes_of_components(rows)
        # [order, degree, part, mode, batch, channel]
        a = modes.transpose(1, 0, 3, 2, 5, 6, 4, 7)
        a = a.reshape(2 * (stop - start), -1, *a.shape[4:])
        # Degrees below the first order of the block do not exist for any of its orders.
        blocks.append(jnp.pad(a, [(0, 0), (2 * start, 0)] + [(0, 0)] * 4))
        start = stop
    a = sharding.join_orders(blocks, axis=0)
    a = sharding.first_orders(a, max_degree, axis=0)[:, : max_degree + 1]
    return jnp.moveaxis(a, -2, 0)


def from_coefficients(
    tables: Tables, a: jax.Array, *, spin: int, num_lat: int
) -> list[tuple[jax.Array, jax.Array]]:
    """The transpose of `to_coefficients`."""
    # Orders and degrees come in pairs, even and odd; an odd number of them lacks one.
    odd = [(0, 0), (0, a.shape[1] % 2), (0, a.shape[2] % 2)]
    a = jnp.pad(a, odd + [(0, 0)] * 3)
    a = jnp.moveaxis(a, 0, -2)
    blocks, start = [], 0
    for table in tables:
        stop = start + table.shape[1]
        modes = sharding.slice_orders(a, 2 * start, 2 * stop, axis=0)[:, 2 * start :]
        modes = modes.reshape(stop - start, 2, -1, 2, *modes.shape[2:])
        # [order % 2, order // 2, degree % 2, degree // 2, part, mode, batch, channel]
        modes = modes.transpose(1, 0, 3, 2, 4, 5, 6, 7)
        blocks.append(_synthesise(table, modes, spin))
        start = stop
    return [
        (
            _join([block[..., 0, i, :, :] for block in blocks], num_lat),
            _join([block[..., 1, i, :, :] for block in blocks], num_lat),
        )
        for i in range(num_kinds(spin))
    ]


def _analyse(table: jax.Array, sums: jax.Array, spin: int) -> list[jax.Array]:
    """`[..., lat, batch, channel]` to, of Z and X, `[..., degree % 2, row, ...]`."""
    folded = jnp.stack(fold(sums, axis=2, signs=_SIGNS), axis=2)
    # p, o, s: order % 2, order // 2, symmetry; r: row, of Z and X; l: latitude.
    rows = jnp.einsum(
        'posrl,posl...->posr...', table, folded, precision=Precision.HIGHEST
    )
    kinds = jnp.split(rows, num_kinds(spin), axis=3)
    return [_turn(rows, spin + kind) for kind, rows in enumerate(kinds)]


def _synthesise(table: jax.Array, modes: jax.Array, spin: int) -> jax.Array:
    """`[..., degree % 2, row, part, mode, ...]` to `[..., symmetry, lat, part, ...]`.

    All parts and modes are columns of one product over the rows of Z and X; the modes
    become the components U and V.
    """
    rows = _turn(modes, spin)
    if spin != 0:
        signs = jnp.asarray(_X_SIGNS, modes.dtype)
        turned = _turn(signs * modes[..., ::-1, ::-1, :, :], spin + 1)
        # One product over the rows of both: two that are added on the grid write twice
        # as much (112 instead of 96 ms for spins 0 and 1 at 256 rows, 64 channels).
        rows = jnp.concatenate([rows, turned], axis=3)
    return jnp.einsum(
        'posrl,posr...->posl...', table, rows, precision=Precision.HIGHEST
    )


def _turn(values: jax.Array, odd: int) -> jax.Array:
    """Turns axis 2 from the symmetry to the parity of the degree, or back.

    They agree for Z at even spins and for X at odd ones. Products go by symmetry, for
    which latitudes are folded; what is kept goes by degree.
    """
    return values[:, :, ::-1] if odd % 2 else values


def _modes_of_components(rows) -> jax.Array:
    """`[component][part][kind]` to E and B, `[..., batch, part, mode, channel]`."""
    if len(rows) == 1:
        (((real,), (imaginary,)),) = rows
        return jnp.stack([real, imaginary], axis=-2)[..., None, :]
    ((z_u, x_u), (z_iu, x_iu)), ((z_v, x_v), (z_iv, x_iv)) = rows
    e = jnp.stack([z_u - x_iv, z_iu + x_v], axis=-2)
    b = jnp.stack([z_v + x_iu, z_iv - x_u], axis=-2)
    return jnp.stack([e, b], axis=-2)


def _join(blocks: list[jax.Array], num_lat: int) -> jax.Array:
    """Blocks of `[order % 2, order // 2, symmetry, lat, ...]` to all of the sphere."""
    halves = [(block[:, :, 0], block[:, :, 1]) for block in blocks]
    rows = [unfold(*pair, length=num_lat, axis=2, signs=_SIGNS) for pair in halves]
    return sharding.join_orders(rows, axis=1)
