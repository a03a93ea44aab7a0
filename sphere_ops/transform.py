"""Spin-weighted spherical-harmonic transforms between grid and coefficients."""

import functools
from collections.abc import Mapping, Sequence

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from sphere_ops import fields as spin_fields
from sphere_ops import sharding
from sphere_ops.fields import SpinCoefficients, SpinFields
from sphere_ops.fourier import Waves
from sphere_ops.grid import LatLonGrid
from sphere_ops.legendre import (
    Tables,
    from_coefficients,
    legendre_tables,
    to_coefficients,
)

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
      tables: `{spin: blocks}`, harmonics without their longitude part.
      waves: That part.
      weights: `[lat]`, solid angle of a grid point.
      num_parts: Devices that share a sphere, see `sphere_ops.sharding`.
    """

    grid: LatLonGrid = flax.struct.field(pytree_node=False)
    max_degree: int = flax.struct.field(pytree_node=False)
    tables: dict[int, Tables]
    waves: Waves
    weights: jax.Array
    num_parts: int = flax.struct.field(pytree_node=False, default=1)

    @classmethod
    def create(
        cls,
        grid: LatLonGrid,
        *,
        spins: Sequence[int] = (0, 1),
        max_degree: int | None = None,
        dtype=jnp.float32,
    ) -> 'SpinTransform':
        """Computes the tables, in float64, on the host, for the present mesh.

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
        solid_angles = 2 * np.pi / grid.num_lon * grid.quadrature_weights
        return cls(
            grid=grid,
            max_degree=max_degree,
            tables={
                spin: legendre_tables(spin, grid.colatitudes, max_degree, dtype)
                for spin in spins
            },
            waves=Waves.create(grid.num_lon, max_degree, dtype),
            weights=jnp.asarray(solid_angles, dtype),
            num_parts=sharding.num_parts(),
        )

    @property
    def spins(self) -> tuple[int, ...]:
        """Spins that can be transformed, ascending."""
        return tuple(sorted(self.tables))

    @property
    def layout(self) -> 'SpinTransform':
        """Of every array on the mesh, as a pytree of `PartitionSpec`."""
        everywhere = jax.sharding.PartitionSpec()
        return self.replace(  # type: ignore[attr-defined]
            tables=jax.tree.map(lambda _: sharding.table_layout(), self.tables),
            waves=jax.tree.map(lambda _: everywhere, self.waves),
            weights=everywhere,
        )

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

    def _check_spins(self, values: Mapping[int, jax.Array]) -> None:
        if self.num_parts != sharding.num_parts():
            raise ValueError(
                f'expected a mesh whose space is {self.num_parts}, for which this '
                f'transform was made, got {sharding.num_parts()}; create it under the '
                'same jax.set_mesh'
            )
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
    dtype = transform.weights.dtype
    # XLA multiplies by the quadrature weights while it reads the field. In the tables
    # they would cost a second set of these, since the way back has no weights.
    weights = transform.weights[:, None, None]
    result = {}
    for spin, field in fields.items():
        parts = [field] if spin == 0 else [field.real, field.imag]
        weighted = [weights * part.astype(dtype) for part in parts]
        a = _analyse(spin, transform, [_with_batch(part, 3) for part in weighted])
        result[spin] = a.reshape(*field.shape[:-3], *a.shape[1:])
    return result


@jax.jit
def _to_grid(transform: SpinTransform, coefficients: SpinCoefficients) -> SpinFields:
    dtype = transform.weights.dtype
    result = {}
    for spin, a in coefficients.items():
        # Padded with zeros, so that coefficients of any degree use the same tables.
        full = _pad_degrees(a.astype(dtype), transform.max_degree)
        # Orders below zero are not stored: each order above zero stands for two.
        twice = np.where(sharding.orders(full.shape[-5]) == 0, 1, 2)
        full *= twice.astype(dtype)[:, None, None, None, None]
        parts = _synthesise(spin, transform, _with_batch(full, 5))
        parts = [part.reshape(*a.shape[:-5], *part.shape[1:]) for part in parts]
        result[spin] = parts[0] if spin == 0 else jax.lax.complex(*parts)
    return result


# Analysis and synthesis are transposes of each other, and so each is the gradient of
# the other: XLA's own transpose of folds and shifts is pads and sums of whole fields,
# and takes twice as long. `custom_vjp` and not `linear_call`, which knows no `vmap`.
@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _analyse(spin: int, transform: SpinTransform, parts: list[jax.Array]) -> jax.Array:
    """Sums of fields times harmonics, without weights.

    Args:
      spin: s.
      transform: tables; their gradient is zero.
      parts: real fields `[batch, lat, lon, channel]`: the field itself, or eastward
        and northward component.

    Returns:
      `[batch, order, degree, part, mode, channel]`.
    """
    # Longitude is summed first and so comes first; batch and channel, the columns of
    # all products, stay last. Fields in that layout would save a sixth of this stage,
    # not enough for a second public layout.
    parts = [sharding.by_latitude(part, axis=1, batch=0) for part in parts]
    columns = [part.transpose(2, 1, 0, 3) for part in parts]
    sums = [_by_order(*_by_latitude(*transform.waves.sums(x))) for x in columns]
    a = to_coefficients(
        transform.tables[spin], sums, spin=spin, max_degree=transform.max_degree
    )
    return sharding.by_order(a, axis=1, batch=0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _synthesise(spin: int, transform: SpinTransform, a: jax.Array) -> list[jax.Array]:
    """The transpose of `_analyse`."""
    a = sharding.by_order(a, axis=1, batch=0)
    sums = from_coefficients(
        transform.tables[spin], a, spin=spin, num_lat=transform.grid.num_lat
    )
    pairs = [_by_latitude(*_by_order(*pair)) for pair in sums]
    parts = [transform.waves.values(*pair).transpose(2, 1, 0, 3) for pair in pairs]
    return [sharding.by_latitude(part, axis=1, batch=0) for part in parts]


_analyse.defvjp(
    lambda spin, transform, parts: (_analyse(spin, transform, parts), transform),
    lambda spin, transform, slope: (None, _synthesise(spin, transform, slope)),
)
_synthesise.defvjp(
    lambda spin, transform, a: (_synthesise(spin, transform, a), transform),
    lambda spin, transform, slopes: (None, _analyse(spin, transform, slopes)),
)


def _with_batch(values: jax.Array, num_axes: int) -> jax.Array:
    """Joins all axes before the last `num_axes`."""
    return values.reshape(-1, *values.shape[-num_axes:])


def _by_order(real: jax.Array, imaginary: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Fourier sums `[order % 2, order // 2, lat, batch, channel]`, split by order."""
    split = functools.partial(sharding.by_order, axis=1, batch=3)
    return split(real), split(imaginary)


def _by_latitude(real: jax.Array, imaginary: jax.Array) -> tuple[jax.Array, jax.Array]:
    split = functools.partial(sharding.by_latitude, axis=2, batch=3)
    return split(real), split(imaginary)


def _pad_degrees(a: jax.Array, max_degree: int) -> jax.Array:
    """Appends orders and degrees of zeros up to `max_degree`."""
    missing = max_degree + 1 - a.shape[-4]
    widths = [(0, 0)] * (a.ndim - 4) + [(0, missing)] + [(0, 0)] * 3
    return sharding.pad_orders(
        jnp.pad(a, widths), sharding.num_orders(max_degree), axis=-5
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
