"""Regions of WeatherBench 2, and area-weighted means over them.

NumPy only. A field is `[..., lat, lon]`, latitudes and longitudes in degrees, in any
order as long as the latitudes are monotonic. Weights and bounds as in version 0.2.1 of
WeatherBench 2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from learning.spelling import did_you_mean
from sphere_ops.grid import area_weights, is_global, outer_bounds

# Coordinates of public stores are rounded to three decimals at worst: a row that is
# nominally on the edge of a region belongs to it.
EDGE_TOLERANCE_DEGREES = 1e-3

AREA = 'area'
WEIGHTING = (
    'latitude cell bounds halfway between rows, ends at the poles (of a limited area: '
    'half a step beyond the outer rows); '
    'sin(upper) - sin(lower) over its mean (WeatherBench 2)'
)


@dataclasses.dataclass(frozen=True)
class Region:
    """Rows within any of the latitude bands and columns within a longitude interval.

    Attributes:
      latitudes: bands (south, north) in degrees, edges included.
      longitudes: (west, east) in degrees eastward from Greenwich, edges included; west
        greater than east crosses Greenwich; `None` is the whole circle.
    """

    latitudes: tuple[tuple[float, float], ...] = ((-90.0, 90.0),)
    longitudes: tuple[float, float] | None = None

    def rows(self, latitudes: np.ndarray) -> np.ndarray:
        """Returns `[lat]`, true for the rows of the region."""
        inside = [
            (latitudes >= south - EDGE_TOLERANCE_DEGREES)
            & (latitudes <= north + EDGE_TOLERANCE_DEGREES)
            for south, north in self.latitudes
        ]
        return np.any(inside, axis=0)

    def columns(self, longitudes: np.ndarray) -> np.ndarray:
        """Returns `[lon]`, true for the columns of the region."""
        if self.longitudes is None:
            return np.ones(len(longitudes), bool)
        west, east = self.longitudes
        # Distance eastward from the western edge: one comparison, wherever it starts.
        from_west = np.mod(longitudes - west + EDGE_TOLERANCE_DEGREES, 360)
        return from_west <= np.mod(east - west, 360) + 2 * EDGE_TOLERANCE_DEGREES

    def is_within(self, other: Region) -> bool:
        """Whether all of it lies within `other`, a region of one band."""
        ((south, north),) = other.latitudes
        bands = all(
            low >= south - EDGE_TOLERANCE_DEGREES
            and high <= north + EDGE_TOLERANCE_DEGREES
            for low, high in self.latitudes
        )
        if other.longitudes is None or self.longitudes is None:
            return bands and other.longitudes is None
        (west, east), (first, last) = other.longitudes, self.longitudes
        from_west = np.mod(first - west + EDGE_TOLERANCE_DEGREES, 360)
        width = np.mod(last - first, 360) - 2 * EDGE_TOLERANCE_DEGREES
        return bands and bool(from_west + width <= np.mod(east - west, 360))

    def __str__(self) -> str:
        bands = ' and '.join(f'{low:g} to {high:g}' for low, high in self.latitudes)
        if self.longitudes is None:
            return f'latitudes {bands}'
        return f'latitudes {bands}, longitudes {{:g}} to {{:g}}'.format(
            *self.longitudes
        )

    def holds(self, latitudes: np.ndarray, longitudes: np.ndarray) -> bool:
        """Whether any point of a grid lies in the region."""
        return bool(self.rows(latitudes).any() and self.columns(longitudes).any())


REGIONS: Mapping[str, Region] = {
    'global': Region(),
    'tropics': Region(((-20, 20),)),
    'extra-tropics': Region(((-90, -20), (20, 90))),
    'northern-hemisphere': Region(((20, 90),)),
    'southern-hemisphere': Region(((-90, -20),)),
    'europe': Region(((35, 75),), (347.5, 42.5)),
    'north-america': Region(((25, 60),), (240, 285)),
    'north-atlantic': Region(((25, 65),), (290, 350)),
    'north-pacific': Region(((25, 60),), (145, 230)),
    'east-asia': Region(((25, 60),), (102.5, 150)),
    'ausnz': Region(((-45, -12.5),), (120, 175)),
    'arctic': Region(((60, 90),)),
    'antarctic': Region(((-90, -60),)),
}


def extent(latitudes: np.ndarray, longitudes: np.ndarray) -> Region:
    """The part of the sphere that the cells of a grid fill: `Region()` if all of it.

    A cell reaches half a step beyond its point; rows as in `area_weights`.
    """
    if is_global(latitudes, longitudes):
        return Region()
    band = outer_bounds(np.sort(latitudes))
    columns = np.sort(np.mod(longitudes, 360))
    gaps = np.diff(np.append(columns, columns[0] + 360))
    # What is not covered is the widest gap; the median is not moved by it.
    widest, step = int(gaps.argmax()), float(np.median(gaps))
    if gaps[widest] < 1.5 * step + EDGE_TOLERANCE_DEGREES:
        return Region((band,))
    # The last column before the gap is the easternmost.
    east = columns[widest] + step / 2
    west = np.roll(columns, -1)[widest] - step / 2
    sides = float(np.mod(west, 360)), float(np.mod(east, 360))
    return Region((band,), sides)


def regions_on(
    latitudes: np.ndarray, longitudes: np.ndarray, names: Iterable[str] | None = None
) -> dict[str, Region]:
    """Returns the regions that can be scored on a grid, or those called `names`.

    A limited area is never called global: all of it is the region `area`, and others
    are scored where it covers them wholly.

    Raises:
      ValueError: a name that is none, with the nearest, or a region that the grid does
        not cover.
    """
    covered = extent(latitudes, longitudes)
    found = {} if covered == Region() else {AREA: covered}
    found |= {
        name: region
        for name, region in REGIONS.items()
        if region.holds(latitudes, longitudes) and region.is_within(covered)
    }
    names = list(found if names is None else names)
    for name in names:
        if name not in found and name not in REGIONS:
            raise ValueError(
                f'unknown region {name!r}{did_you_mean(name, REGIONS)}; '
                f'regions are {", ".join(found)}'
            )
        if name not in found:
            raise ValueError(
                f'the grid does not cover the region {name!r}: it reaches over '
                f'{covered}; regions that can be scored are {", ".join(found)}'
            )
    return {name: found[name] for name in names}


class RegionalMean:
    """Area-weighted means over regions: `[..., lat, lon]` to `[..., region]`.

    NaN as in WeatherBench 2 without `skipna`: one NaN inside a region makes the mean of
    that region NaN, and none outside of it does.
    """

    def __init__(
        self,
        latitudes: np.ndarray,
        longitudes: np.ndarray,
        regions: Mapping[str, Region] = REGIONS,
    ):
        """Prepares the weights.

        Args:
          latitudes: `[lat]`, degrees, monotonic.
          longitudes: `[lon]`, degrees.
          regions: by name; their order is that of the last axis of the result.

        Raises:
          ValueError: a region that holds no point of the grid.
        """
        self.names = tuple(regions)
        latitudes = np.asarray(latitudes, np.float64)
        longitudes = np.asarray(longitudes, np.float64)
        weights = area_weights(latitudes)
        # Most regions share the whole circle: what shares columns is summed once.
        sectors: dict[bytes, int] = {}
        of_region, of_rows = [], []
        for name, region in regions.items():
            rows, columns = region.rows(latitudes), region.columns(longitudes)
            if not region.holds(latitudes, longitudes):
                raise ValueError(
                    f'region {name!r} ({region}) holds no point of this grid of '
                    f'{latitudes.size} x {longitudes.size}: leave it out'
                )
            of_rows.append(rows * weights / (weights[rows].sum() * columns.sum()))
            of_region.append(sectors.setdefault(columns.tobytes(), len(sectors)))
        # `[lon, sector]`, `[lat, region]` and `[region]`.
        masks = [np.frombuffer(columns, bool) for columns in sectors]
        self._columns = np.stack(masks, axis=-1).astype(np.float64)
        self._rows = np.stack(of_rows, axis=-1)
        self._sectors = np.array(of_region)

    def __call__(self, field: np.ndarray) -> np.ndarray:
        """Returns the means `[..., region]`, float64, of `field` `[..., lat, lon]`."""
        with np.errstate(invalid='ignore'):
            means = self._weigh(field)
        if np.isfinite(means).all():
            return means
        # The products spread NaN and infinity to regions where their weight is zero.
        means = self._weigh(np.where(np.isfinite(field), field, 0))
        with np.errstate(invalid='ignore'):
            for value in (np.inf, -np.inf, np.nan):
                found = np.isnan(field) if np.isnan(value) else field == value
                means = means + np.where(self._weigh(found) > 0, value, 0)
        return means

    def _weigh(self, field: np.ndarray) -> np.ndarray:
        # Two products: a pass over the field, whatever the number of regions.
        along_rows = field @ self._columns
        return np.einsum('...lr,lr->...r', along_rows[..., self._sectors], self._rows)
