"""Fourier sums along longitude, as matrix products over a quarter of the circle.

A wave of even order is the same half a turn on, one of odd order has the other sign;
and both are symmetric or antisymmetric about the middle of a half circle. Folding the
circle twice leaves a product over a quarter of it, a quarter of the arithmetic, in the
order of axes that the sums over latitude want: on two CPU cores this beats XLA's FFT,
which needs longitude last and pays with two transposes, up to the sizes measured in
`benchmarks/RESULTS.md`; on a TPU products win in any case (Esteves et al. 2023,
table 4: +21 % speed).
"""

import math

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from sphere_ops.reflection import fold, join


@flax.struct.dataclass
class Waves:
    """Waves of orders 0 ... max_degree on a circle.

    Order m is at `[m % 2, m // 2]`; there may be one order more than asked for.

    Attributes:
      num_lon: Number of longitudes.
      cosine: `[order % 2, order // 2, lon]`, at the first longitude and on the folded
        rest of the circle.
      minus_sine: Likewise, without the first longitude.
    """

    num_lon: int = flax.struct.field(pytree_node=False)
    cosine: jax.Array
    minus_sine: jax.Array

    @classmethod
    def create(cls, num_lon: int, max_degree: int, dtype) -> 'Waves':
        """Computes the waves in float64."""
        orders = np.arange(2 * (max_degree // 2 + 1)).reshape(-1, 2).T[:, :, None]
        length = num_lon if num_lon % 2 else num_lon // 2
        columns = np.arange(length // 2 + 1)
        angles = 2 * np.pi / num_lon * (orders * columns % num_lon)
        # `fold` counts the point in the middle twice.
        weights = np.where(2 * columns == length, 0.5, 1.0)
        return cls(
            num_lon=num_lon,
            cosine=jnp.asarray(weights * np.cos(angles), dtype),
            minus_sine=jnp.asarray((-weights * np.sin(angles))[..., 1:], dtype),
        )

    def sums(self, values: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Real and imaginary part of sum_lon exp(-i order longitude) values.

        Args:
          values: `[lon, ...]`, real.

        Returns:
          Two `[order % 2, order // 2, ...]`.
        """
        if self.num_lon % 2:
            halves = [values, values]  # Nothing repeats after half a turn.
        else:
            east, west = jnp.split(values, 2)
            halves = [east + west, east - west]
        # Stacked, not broadcast with a sign: XLA would merge that into the next fold,
        # whose reads of four columns far apart take twice as long.
        circle = jnp.stack(halves)
        # The first longitude is its own mirror image.
        even, odd = fold(circle[:, 1:], axis=1, sign=self._signs(circle))
        even = jnp.concatenate([circle[:, :1], even], axis=1)
        return _product(self.cosine, even, 2), _product(self.minus_sine, odd, 2)

    def values(self, real: jax.Array, imaginary: jax.Array) -> jax.Array:
        """The transpose of `sums`: real part of sum_order exp(i order longitude) a.

        Args:
          real: `[order % 2, order // 2, ...]`.
          imaginary: Likewise.

        Returns:
          `[lon, ...]`.
        """
        even = _product(self.cosine, real, 1)
        odd = _product(self.minus_sine, imaginary, 1)
        start, even = even[:, 0], even[:, 1:]
        first, image = even + odd, self._signs(even) * (even - odd)
        if self.num_lon % 2:
            pieces = [piece.sum(axis=0) for piece in (start, first, image)]
            return _circle(pieces, self.num_lon)
        length = self.num_lon // 2
        # Half a turn on, odd orders have the other sign. Each half is put together from
        # sums: if halves were summed, XLA would write them out first.
        halves = [
            _circle([a[0] + sign * a[1] for a in (start, first, image)], length)
            for sign in (1, -1)
        ]
        return jnp.concatenate(halves)

    def _signs(self, like: jax.Array) -> np.ndarray:
        """Of cosine waves under reflection of the (half) circle, by order % 2."""
        second = 1 if self.num_lon % 2 else -1
        return np.array([1, second], like.dtype).reshape(2, *[1] * (like.ndim - 1))


def _circle(pieces: list[jax.Array], length: int) -> jax.Array:
    """`[lon, ...]` from its first point, and the two halves of the rest of it."""
    start, first, image = pieces
    rest = join(first, image, length=length - 1, axis=0)
    return jnp.concatenate([start[None], rest])


def _product(table: jax.Array, values: jax.Array, contract: int) -> jax.Array:
    """`[order % 2, a, b]` times `[order % 2, row, ...]`, over a (1) or b (2)."""
    # Not -1 columns: a circle of one or two points has no rest to sum over.
    columns = math.prod(values.shape[2:])
    flat = values.reshape(*values.shape[:2], columns)
    # Highest precision: accelerators would otherwise multiply with 8 or 10 bits.
    product = jax.lax.dot_general(
        table,
        flat,
        (((contract,), (1,)), ((0,), (0,))),
        precision=jax.lax.Precision.HIGHEST,
    )
    return product.reshape(*product.shape[:2], *values.shape[2:])
