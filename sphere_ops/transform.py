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
        return {spin: self._analyse(spin, field) for spin, field in fields.items()}

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
        return {spin: self._synthesise(spin, a) for spin, a in coefficients.items()}

    def _analyse(self, spin: int, field: jax.Array) -> jax.Array:
        batch, channels = field.shape[:-3], field.shape[-1]
        field = field.reshape(-1, *field.shape[-3:])
        parts = [field] if spin == 0 else [field.real, field.imag]
        waves = self._fourier(jnp.stack(parts, axis=-2))
        waves = waves * self.weights[:, None, None, None]
        if spin != 0:
            waves = _both_signs(waves)
        a = _legendre('mlj,pmjbsc->mlbpsc', self.tables[spin], waves)
        if spin != 0:
            a = _modes(a, spin)
        a = jnp.moveaxis(a, 2, 0)
        return a.reshape(*batch, *a.shape[1:-1], channels)

    def _synthesise(self, spin: int, a: jax.Array) -> jax.Array:
        batch, channels, size = a.shape[:-5], a.shape[-1], a.shape[-4]
        a = jnp.moveaxis(a.reshape(-1, *a.shape[-5:]), 0, 2)
        if spin != 0:
            a = _signs_of_modes(a, spin)
        table = self.tables[spin][:size, :size]
        waves = _legendre('mlj,mlbpsc->pmjbsc', table, a)
        if spin != 0:
            waves = _real_fields(waves)
        values = self._inverse_fourier(waves)
        if spin == 0:
            field = values[..., 0, :]
        else:
            field = jax.lax.complex(values[..., 0, :], values[..., 1, :])
        return field.reshape(*batch, *self.grid.shape, channels)

    def _fourier(self, field: jax.Array) -> jax.Array:
        """`[batch, lat, lon, mode, channel]` to `[part, order, lat, batch, ...]`."""
        return jnp.einsum(
            'pmn,bjnsc->pmjbsc', self.waves, field, precision=jax.lax.Precision.HIGHEST
        )

    def _inverse_fourier(self, waves: jax.Array) -> jax.Array:
        """The sum over orders of both signs of a real field."""
        size = waves.shape[1]
        twice = jnp.where(jnp.arange(size) == 0, 1, 2).astype(waves.dtype)
        return jnp.einsum(
            'pmn,pmjbsc->bjnsc',
            self.waves[:, :size] * twice[:, None],
            waves,
            precision=jax.lax.Precision.HIGHEST,
        )

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
                    f'shape {jnp.shape(field)} at spin {spin}'
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


def _legendre(axes: str, table: jax.Array, columns: jax.Array) -> jax.Array:
    # Highest precision: accelerators would otherwise multiply in 8 or 10 bits.
    return jnp.einsum(axes, table, columns, precision=jax.lax.Precision.HIGHEST)


def _both_signs(waves: jax.Array) -> jax.Array:
    """Waves of the real u, v to those of u + iv at m, and their conjugate at -m.

    The second is returned with rows from south to north: by the symmetry of the
    harmonics one table then serves both, and orders < 0 are never formed.
    """
    (u_re, u_im), (v_re, v_im) = waves[..., 0, :], waves[..., 1, :]
    plus = jnp.stack([u_re - v_im, u_im + v_re])
    minus = jnp.stack([u_re + v_im, u_im - v_re])
    return jnp.stack([plus, minus[:, :, ::-1]], axis=-2)


def _real_fields(waves: jax.Array) -> jax.Array:
    """The inverse of `_both_signs`."""
    (p_re, p_im), (m_re, m_im) = waves[..., 0, :], waves[:, :, ::-1, :, 1]
    u = jnp.stack([p_re + m_re, p_im + m_im]) / 2
    v = jnp.stack([p_im - m_im, m_re - p_re]) / 2
    return jnp.stack([u, v], axis=-2)


def _reflection_signs(size: int, spin: int, dtype) -> jax.Array:
    """`(-1)^(l + m + s)`, `[order, degree]`: the table's sign under m to -m."""
    index = jnp.arange(size)
    parity = (index[:, None] + index + spin) % 2
    return (1 - 2 * parity).astype(dtype)


def _modes(a: jax.Array, spin: int) -> jax.Array:
    """E and B from a_m and the reflected conjugate of a_-m; `[m, l, b, part, 2, c]`."""
    signs = _reflection_signs(a.shape[0], spin, a.dtype)[:, :, None, None]
    (p_re, p_im) = a[..., 0, 0, :], a[..., 1, 0, :]
    (m_re, m_im) = signs * a[..., 0, 1, :], signs * a[..., 1, 1, :]
    # A real field has no imaginary part at order 0: exactly, not to round-off.
    turning = (jnp.arange(a.shape[0]) > 0).astype(a.dtype)[:, None, None, None]
    real = jnp.stack([p_re + m_re, p_im - m_im], axis=-2)
    imaginary = jnp.stack([p_im + m_im, m_re - p_re], axis=-2) * turning[..., None]
    return jnp.stack([real, imaginary], axis=-3) / 2


def _signs_of_modes(a: jax.Array, spin: int) -> jax.Array:
    """The inverse of `_modes`."""
    signs = _reflection_signs(a.shape[0], spin, a.dtype)[:, :, None, None]
    (e_re, b_re), (e_im, b_im) = (
        (a[..., part, 0, :], a[..., part, 1, :]) for part in (0, 1)
    )
    plus = jnp.stack([e_re - b_im, e_im + b_re], axis=-2)
    minus = jnp.stack([e_re + b_im, e_im - b_re], axis=-2) * signs[..., None]
    return jnp.stack([plus, minus], axis=-2)
