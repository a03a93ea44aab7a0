"""Fourier sums along longitude, as matrix products over a quarter of the circle.

A wave of even order is the same half a turn on, one of odd order has the other sign;
and both are symmetric or antisymmetric about the middle of a half circle. Folding the
circle twice leaves a product over a quarter of it, a quarter of the arithmetic, in the
order of axes that the sums over latitude want: on two CPU cores this beats XLA's FFT,
which needs longitude last and pays with two transposes, at the 128 and 256 columns
measured in `benchmarks/RESULTS.md`; on a TPU products win too (Esteves et al. 2023,
table 4: +21 % speed). Longer circles and GPUs are not measured.
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import Precision

from sphere_ops import sharding
from sphere_ops.reflection import fold, unfold


@flax.struct.dataclass
class Waves:
    """Waves of orders 0 ... max_degree on a circle.

    Order m is at `[m % 2, m // 2]`, pairs of orders dealt as `sphere_ops.sharding`
    says; there may be more orders than asked for.

    Attributes:
      num_lon: Number of longitudes.
      cosine: `[order % 2, order // 2, lon]`, on the folded circle.
      minus_sine: Likewise.
    """

    num_lon: int = flax.struct.field(pytree_node=False)
    cosine: jax.Array
    minus_sine: jax.Array

    @classmethod
    def create(cls, num_lon: int, max_degree: int, dtype) -> 'Waves':
        """Computes the waves in float64."""
        # Even and odd orders apart: half a turn on they differ in sign, and a product
        # has to be all of one kind. An odd circle has no point half a turn on, and so
        # is folded once, not twice.
        count = sharding.num_orders(2 * (max_degree // 2) + 1)
        orders = sharding.orders(count).reshape(-1, 2).T[:, :, None]
        length = num_lon if num_lon % 2 else num_lon // 2
        columns = np.arange(length // 2 + 1)
        # Whole turns go while numbers are integers: angles of hundreds of radians would
        # cost digits.
        angles = 2 * np.pi / num_lon * (orders * columns % num_lon)
        # `fold` counts the point in the middle twice.
        weights = np.where(2 * columns == length, 0.5, 1.0)
        return cls(
            num_lon=num_lon,
            cosine=jnp.asarray(weights * np.cos(angles), dtype),
            minus_sine=jnp.asarray(-weights * np.sin(angles), dtype),
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
        # A zero behind, onto which the first longitude is folded: it is its own mirror
        # image. Concatenated, not broadcast with a sign, so that XLA writes this out:
        # merged into the next fold it reads four columns far apart, which is slower.
        zero = jnp.zeros_like(values[:1])
        circle = jnp.concatenate([halves[0], zero, halves[1], zero])
        circle = circle.reshape(2, -1, *values.shape[1:])
        even, odd = fold(circle, axis=1, signs=self._signs)
        # p, o, l: order % 2, order // 2, longitude. HIGHEST, here and in all sums of
        # the transforms: accelerators would otherwise round factors to 8 or 11 bits.
        subscripts, precision = 'pol,pl...->po...', Precision.HIGHEST
        real = jnp.einsum(subscripts, self.cosine, even, precision=precision)
        imaginary = jnp.einsum(subscripts, self.minus_sine, odd, precision=precision)
        return real, imaginary

    def values(self, real: jax.Array, imaginary: jax.Array) -> jax.Array:
        """The transpose of `sums`: real part of sum_order exp(i order longitude) a.

        Args:
          real: `[order % 2, order // 2, ...]`.
          imaginary: Likewise.

        Returns:
          `[lon, ...]`.
        """
        subscripts, precision = 'pol,po...->pl...', Precision.HIGHEST
        even = jnp.einsum(subscripts, self.cosine, real, precision=precision)
        odd = jnp.einsum(subscripts, self.minus_sine, imaginary, precision=precision)
        length = self.num_lon if self.num_lon % 2 else self.num_lon // 2
        circle = unfold(even, odd, length=length + 1, axis=1, signs=self._signs)
        first, second = circle[:, :length]
        if self.num_lon % 2:
            return first + second
        # Half a turn on, odd orders have the other sign.
        return jnp.concatenate([first + second, first - second])

    @property
    def _signs(self) -> tuple[int, int]:
        """Of cosine waves under reflection of the (half) circle, by order % 2."""
        return (1, 1) if self.num_lon % 2 else (1, -1)
