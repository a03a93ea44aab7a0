"""From one grid to another: averages over cells, or truncated harmonics.

Conservative regridding (Jones 1999, Monthly Weather Review 127, 2204, first order) is
what the public stores of WeatherBench 2 were made with. It keeps integrals and bounds,
takes fields with holes, and winds component by component, which is wrong beside a pole,
where the components turn within a cell. Spectral regridding keeps every harmonic that
both grids resolve, winds as vectors, and drops the others: it keeps neither bounds (a
mask of 0 and 1 overshoots) nor holes.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
import scipy.sparse

from sphere_ops.grid import LatLonGrid
from sphere_ops.transform import SpinTransform

# Fields that are transformed together: as many as keep the work of a pass in a few
# hundred megabytes at 721x1440.
_FIELDS = 8


@dataclasses.dataclass(frozen=True, eq=False)
class ConservativeRegridder:
    """Averages of fields over the cells of another grid.

    Cells end halfway between rows, the outermost at the poles, and halfway between
    columns; averages are weighted by area. What lies beyond the last row of a grid that
    lacks one (720 rows without a pole) is taken to be like that row.

    Attributes:
      rows: `[target row, source row]`, sparse float32; each sums to 1.
      columns: `[target column, source column]`, likewise.
    """

    rows: scipy.sparse.csr_array
    columns: scipy.sparse.csr_array

    @classmethod
    def create(
        cls, latitudes: np.ndarray, longitudes: np.ndarray, target: LatLonGrid
    ) -> ConservativeRegridder:
        """Computes the weights, in float64.

        Args:
          latitudes: `[lat]` of the source, degrees, ascending or descending.
          longitudes: `[lon]` of the source, degrees, all around the globe in either
            direction, from any meridian.
          target: grid wanted.

        Raises:
          ValueError: coordinates that are not in order or leave gaps.
        """
        return cls(
            _row_weights(np.asarray(latitudes, np.float64), target.latitudes),
            _column_weights(np.asarray(longitudes, np.float64), target.longitudes),
        )

    def __call__(self, fields: np.ndarray) -> np.ndarray:
        """Regrids `[..., lat, lon]`; float32.

        Missing values (NaN) have no weight: an average is over what there is in its
        cell, and NaN where that is nothing, as in WeatherBench 2.

        Raises:
          ValueError: fields that are not on the source's grid.
        """
        expected = self.rows.shape[1], self.columns.shape[1]
        if fields.shape[-2:] != expected:
            raise ValueError(
                f'expected fields [..., lat, lon] with {expected[0]} x {expected[1]} '
                f'points, got shape {fields.shape}'
            )
        out = np.empty(
            (*fields.shape[:-2], self.rows.shape[0], self.columns.shape[0]), np.float32
        )
        for place in np.ndindex(fields.shape[:-2]):
            out[place] = self._regrid(np.asarray(fields[place], np.float32))
        return out

    def _regrid(self, field: np.ndarray) -> np.ndarray:
        # A sum tells, several times faster than a look at every value.
        with np.errstate(invalid='ignore', over='ignore'):
            whole = np.isfinite(field.sum())
        if whole:
            return self._average(field)
        missing = np.isnan(field)
        total = self._average(np.where(missing, np.float32(0), field))
        share = self._average((~missing).astype(np.float32))
        with np.errstate(invalid='ignore', divide='ignore'):
            return total / share  # 0 / 0 where there is nothing.

    def _average(self, field: np.ndarray) -> np.ndarray:
        # Rows first: neighbouring columns are then one vector operation, and most of
        # the field is gone before it has to be turned.
        fewer = self.rows @ field
        return (self.columns @ np.ascontiguousarray(fewer.T)).T


@dataclasses.dataclass(frozen=True, eq=False)
class SpectralRegridder:
    """Fields without the degrees that either grid does not resolve.

    Attributes:
      num_lon: columns of the source.
      first_longitude: of these, degrees.
      source: transform of the source's rows, with as few columns as its degrees need.
      target: transform of the grid wanted.
    """

    num_lon: int
    first_longitude: float
    source: SpinTransform
    target: SpinTransform

    @classmethod
    def create(
        cls, source: LatLonGrid, target: LatLonGrid, *, first_longitude: float = 0.0
    ) -> SpectralRegridder:
        """Computes the tables, up to the largest degree that both grids resolve.

        Args:
          source: grid of the fields, but for the longitude of its first column.
          target: grid wanted.
          first_longitude: that longitude, degrees.
        """
        degree = min(source.max_degree, target.max_degree)
        columns = min(source.num_lon, 2 * degree + 2)
        rows = dataclasses.replace(source, num_lon=columns)
        return cls(
            source.num_lon,
            first_longitude,
            SpinTransform.create(rows, max_degree=degree),
            SpinTransform.create(target, max_degree=degree),
        )

    @property
    def max_degree(self) -> int:
        """Largest degree, inclusive, that is kept."""
        return self.source.max_degree

    def scalars(self, fields: np.ndarray) -> np.ndarray:
        """Regrids scalars `[..., lat, lon]`; float32.

        Raises:
          ValueError: missing values, which no harmonic can tell apart from others, or
            fields that are not on the source's grid.
        """
        flat = self._flat(fields)
        out = [self._regrid(0, part) for part in _portions(self._fewer(flat))]
        return self._shaped(out, fields.shape)

    def winds(self, u: np.ndarray, v: np.ndarray) -> Winds:
        """Regrids eastward and northward components `[..., lat, lon]` as one vector.

        Raises:
          ValueError: as `scalars`.
        """
        parts = [self._fewer(self._flat(component)) for component in (u, v)]
        pairs = zip(*map(_portions, parts), strict=True)
        out = [self._regrid(1, east + 1j * north) for east, north in pairs]
        return Winds(
            self._shaped([found.real for found in out], u.shape),
            self._shaped([found.imag for found in out], v.shape),
        )

    def _flat(self, fields: np.ndarray) -> np.ndarray:
        """`[field, lat, lon]`, looked over."""
        expected = self.source.grid.num_lat, self.num_lon
        if fields.shape[-2:] != expected:
            raise ValueError(
                f'expected fields [..., lat, lon] with {expected[0]} x {expected[1]} '
                f'points, got shape {fields.shape}'
            )
        missing = (~np.isfinite(fields)).sum()
        if missing:
            raise ValueError(
                f'expected no missing values, which a spectral regridding would spread '
                f'over the globe, found {missing}; fill them '
                '(prepare.below_ground=fill), or regrid conservatively'
            )
        return np.asarray(fields, np.float32).reshape(-1, *expected)

    def _fewer(self, fields: np.ndarray) -> np.ndarray:
        """The orders that are kept, on few columns that begin at Greenwich.

        A fast Fourier transform on the host: multiplied out, as the transforms on a
        model's grid do it, the long circles of a source would take most of the time.
        """
        columns = self.source.grid.num_lon
        if columns == self.num_lon and not self.first_longitude:
            return fields
        orders = np.arange(self.max_degree + 1)
        # What stands in column 0 belongs to the first longitude.
        turned = np.exp(-1j * orders * np.radians(self.first_longitude))
        waves = scipy.fft.rfft(fields, axis=-1)[..., orders]
        waves *= (turned * columns / self.num_lon).astype(np.complex64)
        return scipy.fft.irfft(waves, n=columns, axis=-1)

    def _regrid(self, spin: int, fields: np.ndarray) -> np.ndarray:
        # Padded to one number of fields: one compiled program for all.
        padded = np.zeros((_FIELDS, *fields.shape[1:]), fields.dtype)
        padded[: len(fields)] = fields
        found = _regrid(spin, self.source, self.target, padded)
        return np.asarray(found)[: len(fields)]

    def _shaped(self, parts: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
        whole = np.concatenate(parts) if parts else np.empty(0, np.float32)
        return whole.reshape(*shape[:-2], *self.target.grid.shape)


class Winds(NamedTuple):
    """Eastward and northward component, `[..., lat, lon]`."""

    u: np.ndarray
    v: np.ndarray


@functools.partial(jax.jit, static_argnums=0)
def _regrid(
    spin: int, source: SpinTransform, target: SpinTransform, fields: jax.Array
) -> jax.Array:
    """Fields `[field, lat, lon]` of a spin on the other grid."""
    coefficients = source.to_spectral({spin: jnp.asarray(fields)[..., None]})
    return target.to_grid(coefficients)[spin][..., 0]


def _portions(fields: np.ndarray) -> list[np.ndarray]:
    return [fields[i : i + _FIELDS] for i in range(0, len(fields), _FIELDS)]


def _row_weights(source: np.ndarray, target: np.ndarray) -> scipy.sparse.csr_array:
    if (
        source.ndim != 1
        or source.size < 2
        or np.unique(np.sign(np.diff(source))).size > 1
    ):
        raise ValueError(
            f'expected latitudes in ascending or descending order, got {source}'
        )
    south_to_north = [np.sort(latitudes) for latitudes in (source, target)]
    bounds = [_row_bounds(latitudes) for latitudes in south_to_north]
    weights = _overlaps(*bounds)
    # Back to the order in which rows were given.
    for axis, latitudes in ((1, source), (0, target)):
        if latitudes[0] > latitudes[-1]:
            weights = np.flip(weights, axis)
    return _normalised(weights)


def _row_bounds(latitudes: np.ndarray) -> np.ndarray:
    """Sines of the bounds of cells, `[lat + 1]`, from the south pole to the north."""
    inner = (latitudes[1:] + latitudes[:-1]) / 2
    return np.sin(np.radians(np.concatenate([[-90.0], inner, [90.0]])))


def _column_weights(source: np.ndarray, target: np.ndarray) -> scipy.sparse.csr_array:
    order = np.argsort(np.mod(source, 360), kind='stable')
    eastward = np.mod(source, 360)[order]
    gaps = np.diff(eastward, append=eastward[:1] + 360)
    if source.ndim != 1 or gaps.min() <= 0 or gaps.max() > 2 * 360 / source.size:
        raise ValueError(
            'expected longitudes all around the globe, each once, got '
            f'{source.min():g} to {source.max():g} ({source.size} columns) with gaps '
            f'from {gaps.min():g} to {gaps.max():g} degrees'
        )
    bounds = [_column_bounds(longitudes) for longitudes in (eastward, target)]
    # The source's circle three times over, so that every cell wanted lies within it.
    source_bounds = bounds[0]
    thrice = np.concatenate(
        [source_bounds[:-1] - 360, source_bounds[:-1], source_bounds + 360]
    )
    weights = _overlaps(thrice, bounds[1])
    around = weights.reshape(target.size, 3, source.size).sum(axis=1)
    in_order = np.empty_like(around)
    in_order[:, order] = around
    return _normalised(in_order)


def _column_bounds(eastward: np.ndarray) -> np.ndarray:
    """Bounds of cells, `[lon + 1]`, degrees; the last is 360 beyond the first."""
    following = np.append(eastward, eastward[0] + 360)
    upper = (following[1:] + following[:-1]) / 2
    return np.concatenate([[upper[-1] - 360], upper])


def _overlaps(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Lengths shared by intervals between ascending bounds, `[target, source]`."""
    low = np.maximum(target[:-1, None], source[None, :-1])
    high = np.minimum(target[1:, None], source[None, 1:])
    return np.maximum(high - low, 0)


def _normalised(weights: np.ndarray) -> scipy.sparse.csr_array:
    # What is round-off of touching bounds is no overlap.
    weights = np.where(weights > 1e-12 * weights.max(), weights, 0)
    shares = weights / weights.sum(axis=1, keepdims=True)
    return scipy.sparse.csr_array(shares.astype(np.float32))
