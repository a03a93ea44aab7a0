"""Spin-weighted spherical-harmonic transforms between grid and coefficients."""

from collections.abc import Mapping, Sequence

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from sphere_ops import fields as spin_fields
from sphere_ops.fields import SpinCoefficients, SpinFields
from sphere_ops.grid import LatLonGrid
from sphere_ops.wigner import harmonic_table

LARGEST_SPIN = 2


@flax.struct.dataclass
class SpinTransform:
    """Transforms of fields on one grid, exact up to `max_degree`.

    `f(colatitude, longitude) = sum_lm a_lm sYlm(colatitude, longitude)`; `to_spectral`
    finds the a_lm by quadrature, `to_grid` evaluates the sum. A pytree: pass it to
    jitted functions as an argument, so that its tables are not compiled into them.

    Attributes:
      grid: Where the fields are sampled.
      max_degree: Largest degree, inclusive, of the coefficients.
      tables: `{spin: [order, degree, lat]}`, harmonics without their longitude part.
      weights: `[lat]`, solid angle of a grid point.
      waves: `[part, order, lon]`, cosine and minus sine of order times longitude.
    """

    grid: LatLonGrid = flax.struct.field(pytree_node=False)
    max_degree: int = flax.struct.field(pytree_node=False)
    tables: dict[int, jax.Array]
    weights: jax.Array
    waves: jax.Array

    @classmethod
    def create(
        cls,
        grid: LatLonGrid,
        *,
        spins: Sequence[int] = (0, 1),
        max_degree: int | None = None,
        dtype=jnp.float32,
    ) -> 'SpinTransform':
        """Computes the tables, in float64, on the host.

        Args:
          grid: Where the fields are sampled.
          spins: Which of -2 ... 2 to transform.
          max_degree: Largest degree, inclusive; by default all that the grid resolves.
          dtype: Real type of tables and coefficients; float64 needs `jax_enable_x64`.

        Raises:
          ValueError: If a spin or the degree is out of range, or float64 is not
            enabled.
        """
        if max_degree is None:
            max_degree = grid.max_degree
        _check_arguments(grid, spins, max_degree, dtype)
        angles = np.outer(np.arange(max_degree + 1), np.radians(grid.longitudes))
        solid_angles = 2 * np.pi / grid.num_lon * grid.quadrature_weights
        return cls(
            grid=grid,
            max_degree=max_degree,
            tables={
                spin: jnp.asarray(
                    harmonic_table(spin, grid.colatitudes, max_degree, dtype)
                )
                for spin in spins
            },
            weights=jnp.asarray(solid_angles, dtype),
            waves=jnp.asarray([np.cos(angles), -np.sin(angles)], dtype),
        )

    @property
    def spins(self) -> tuple[int, ...]:
        """Spins that can be transformed, ascending."""
        return tuple(sorted(self.tables))

    def to_spectral(self, fields: Mapping[int, jax.Array]) -> SpinCoefficients:
        """Coefficients of fields on the grid, up to `max_degree`.

        Args:
          fields: `{spin: [..., lat, lon, channel]}`; real at spin 0, complex elsewhere.

        Returns:
          `{spin: [..., order, degree, part, mode, channel]}`.

        Raises:
          ValueError: If a spin is unknown or an array is not on the grid.
        """
        self._check_fields(fields)
        return _to_spectral(self, dict(fields))

    def to_grid(self, coefficients: Mapping[int, jax.Array]) -> SpinFields:
        """Fields on the grid, from coefficients up to `max_degree` or any lower one.

        Args:
          coefficients: `{spin: [..., order, degree, part, mode, channel]}`.

        Returns:
          `{spin: [..., lat, lon, channel]}`; real at spin 0, complex elsewhere.

        Raises:
          ValueError: If a spin is unknown or the degree exceeds `max_degree`.
        """
        self._check_spins(coefficients)
        degree = spin_fields.max_degree(coefficients)
        if degree > self.max_degree:
            raise ValueError(
                f'expected coefficients of max_degree <= {self.max_degree} for this '
                f'transform, got {degree}; reduce them with '
                f'operators.truncate(coefficients, {self.max_degree})'
            )
        return _to_grid(self, dict(coefficients))

    def _analyse(self, spin: int, field: jax.Array) -> jax.Array:
        batch = field.shape[:-3]
        dtype = self.weights.dtype
        dtype = dtype if spin == 0 else jnp.result_type(dtype, jnp.complex64)
        field = field.reshape(-1, *field.shape[-3:]).astype(dtype)
        field = field * self.weights[:, None, None]
        waves = self._waves(field)
        a = _multiply_by_order(self.tables[spin], waves, contract=2)
        if spin != 0:
            a = _pair(a[..., 0, :], self._reflect(spin, a[..., 1, :]))
            # A real field has no imaginary part at order 0: exactly, not to round-off.
            a = a.at[0, :, :, 1].set(0)
        a = jnp.moveaxis(a, 2, 0)
        return a.reshape(*batch, *a.shape[1:])

    def _synthesise(self, spin: int, a: jax.Array) -> jax.Array:
        batch, size = a.shape[:-5], a.shape[-4]
        a = jnp.moveaxis(a.reshape(-1, *a.shape[-5:]), 0, 2).astype(self.weights.dtype)
        if spin != 0:
            plus, minus = _plus_minus(a)
            a = jnp.stack([plus, self._reflect(spin, minus)], axis=-2)
        waves = _multiply_by_order(self.tables[spin][:size, :size], a, contract=1)
        field = self._sum_of_waves(waves)
        return field.reshape(*batch, *field.shape[1:])

    def _waves(self, field: jax.Array) -> jax.Array:
        """Fourier sums over longitude, of both signs of the order.

        The sum of order -m is conjugated and has its rows from south to north: so one
        table serves both signs. A real field needs the plus sign only.

        Args:
          field: `[batch, lat, lon, channel]`, real or complex.

        Returns:
          `[order, lat, batch, part, sign, channel]`.
        """
        is_real = jnp.isrealobj(field)
        if _fourier_sums_are_products():
            parts = [field] if is_real else [field.real, field.imag]
            return _waves_by_product(self.waves, jnp.stack(parts, axis=3))
        size = self.max_degree + 1
        rows = jnp.swapaxes(field, 2, 3)
        if is_real:
            sums = [jnp.fft.rfft(rows)[..., :size]]
        else:
            both = jnp.fft.fft(rows)
            minus = jnp.concatenate([both[..., :1], both[..., :-size:-1]], axis=-1)
            sums = [both[..., :size], minus[:, ::-1].conj()]
        signs = jnp.stack(sums, axis=3).transpose(4, 1, 0, 3, 2)
        return jnp.stack([signs.real, signs.imag], axis=3)

    def _sum_of_waves(self, waves: jax.Array) -> jax.Array:
        """The inverse of `_waves`, real where there is one sign only."""
        num_lon, is_real = self.grid.num_lon, waves.shape[-2] == 1
        if _fourier_sums_are_products():
            pair = _sum_by_product(self.waves, waves)
            first = pair[..., 0, :]
            return first if is_real else jax.lax.complex(first, pair[..., 1, :])
        values = jax.lax.complex(waves[:, :, :, 0], waves[:, :, :, 1])
        plus = values[..., 0, :]
        if is_real:
            plus = plus.transpose(2, 1, 3, 0)
            rows = jnp.fft.irfft(plus, n=num_lon, norm='forward')
        else:
            minus = values[:0:-1, ::-1, :, 1].conj()
            gap = jnp.zeros((num_lon - len(plus) - len(minus), *plus.shape[1:]))
            both = jnp.concatenate([plus, gap.astype(plus.dtype), minus])
            rows = jnp.fft.ifft(both.transpose(2, 1, 3, 0), norm='forward')
        return jnp.swapaxes(rows, 2, 3)

    def _reflect(self, spin: int, a: jax.Array) -> jax.Array:
        """Times `(-1)^(l + m + s)`, the sign of the tables under m to -m.

        Args:
          spin: s.
          a: `[order, degree, ...]`.
        """
        index = jnp.arange(a.shape[0])
        signs = 1 - 2 * ((index[:, None] + index + spin) % 2)
        return a * signs.astype(a.dtype)[:, :, None, None, None]

    def _check_spins(self, values: Mapping[int, jax.Array]) -> None:
        unknown = sorted(set(values) - set(self.tables))
        if unknown:
            raise ValueError(
                f'expected spins of {self.spins}, got {unknown} too; name them in '
                'SpinTransform.create(grid, spins=...)'
            )

    def _check_fields(self, fields: Mapping[int, jax.Array]) -> None:
        self._check_spins(fields)
        for spin, field in fields.items():
            if jnp.ndim(field) < 3 or field.shape[-3:-1] != self.grid.shape:
                raise ValueError(
                    f'expected fields [..., lat, lon, channel] on {self.grid}, got '
                    f'shape {jnp.shape(field)} at spin {spin}; create the transform on '
                    'the grid that the fields are on'
                )
            is_complex = jnp.issubdtype(field.dtype, jnp.complexfloating)
            if spin == 0 and is_complex:
                raise ValueError(
                    'expected real fields at spin 0, got complex ones; pass real and '
                    'imaginary parts as separate channels'
                )
            if spin != 0 and not is_complex:
                raise ValueError(
                    f'expected complex fields at spin {spin}, got {field.dtype}; '
                    'a wind is jax.lax.complex(eastward, northward) at spin 1'
                )


@jax.jit
def _to_spectral(transform: SpinTransform, fields: SpinFields) -> SpinCoefficients:
    return {spin: transform._analyse(spin, field) for spin, field in fields.items()}


@jax.jit
def _to_grid(transform: SpinTransform, coefficients: SpinCoefficients) -> SpinFields:
    return {spin: transform._synthesise(spin, a) for spin, a in coefficients.items()}


def _check_arguments(grid: LatLonGrid, spins, max_degree: int, dtype) -> None:
    if not spins or any(abs(spin) > LARGEST_SPIN for spin in spins):
        raise ValueError(
            f'expected spins from -{LARGEST_SPIN} to {LARGEST_SPIN}, got {spins}'
        )
    if not 0 <= max_degree <= grid.max_degree:
        raise ValueError(
            f'expected max_degree from 0 to {grid.max_degree}, the largest that '
            f'{grid} resolves, got {max_degree}'
        )
    if jax.dtypes.canonicalize_dtype(dtype) != np.dtype(dtype):
        raise ValueError(
            f'expected a dtype that JAX is set to, got {np.dtype(dtype)}; '
            "call jax.config.update('jax_enable_x64', True) first"
        )


def _fourier_sums_are_products() -> bool:
    """Whether sums over longitude are matrix products rather than FFTs.

    On two CPU cores the FFT costs 0.7 of the product at 128 longitudes and half of it
    at 256. On a TPU the product wins (Esteves et al. 2023, table 4: +21 % speed).
    """
    return jax.default_backend() == 'tpu'


def _multiply_by_order(table: jax.Array, columns: jax.Array, *, contract: int):
    """`[order, a, b]` times `[order, row, ...]`, for each order, over a (1) or b (2).

    A `dot_general` with the table first, not an `einsum`: that swaps the operands and
    pays with transposes.
    """
    flat = columns.reshape(*columns.shape[:2], -1)
    # Highest precision: accelerators would otherwise multiply with 8 or 10 bits.
    product = jax.lax.dot_general(
        table,
        flat,
        (((contract,), (1,)), ((0,), (0,))),
        precision=jax.lax.Precision.HIGHEST,
    )
    return product.reshape(*product.shape[:2], *columns.shape[2:])


def _waves_by_product(table: jax.Array, pair: jax.Array) -> jax.Array:
    """`_waves` of `[batch, lat, lon, (real, imaginary), channel]`."""
    sums = jax.lax.dot_general(
        table, pair, (((2,), (2,)), ((), ())), precision=jax.lax.Precision.HIGHEST
    ).transpose(1, 3, 2, 0, 4, 5)
    if sums.shape[-2] == 1:
        return sums
    plus, minus = _plus_minus(sums)
    return jnp.stack([plus, minus[:, ::-1]], axis=-2)


def _sum_by_product(table: jax.Array, waves: jax.Array) -> jax.Array:
    """The inverse of `_waves_by_product`."""
    if waves.shape[-2] == 2:
        waves = _pair(waves[..., 0, :], waves[:, ::-1, ..., 1, :])
    orders = jnp.arange(waves.shape[0])
    once = jnp.where(orders == 0, 1, 2).astype(waves.dtype)[:, None]
    return jax.lax.dot_general(
        table[:, : orders.size] * once,
        waves,
        (((0, 1), (3, 0)), ((), ())),
        precision=jax.lax.Precision.HIGHEST,
    ).transpose(2, 1, 0, 3, 4)


def _plus_minus(pair: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`first + i second` and `first - i second` of `[..., part, (first, second), c]`.

    For a field u + i v they are its wave of order m and the conjugate of that of -m;
    for E + i B likewise its coefficients.
    """
    first, second = pair[..., 0, :], pair[..., 1, :]
    turned = jnp.stack([-second[..., 1, :], second[..., 0, :]], axis=-2)
    return first + turned, first - turned


def _pair(plus: jax.Array, minus: jax.Array) -> jax.Array:
    """The inverse of `_plus_minus`."""
    first, turned = (plus + minus) / 2, (plus - minus) / 2
    second = jnp.stack([turned[..., 1, :], -turned[..., 0, :]], axis=-2)
    return jnp.stack([first, second], axis=-2)
