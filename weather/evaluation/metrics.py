"""Scores of WeatherBench 2: area weights, regions, and the averages over them.

NumPy only. A field is `[..., lat, lon]`, latitudes and longitudes in degrees, in any
order as long as the latitudes are monotonic. Formulas: Rasp et al. 2024, WeatherBench 2
(JAMES 16, e2023MS004019); details (weights, regions, what is averaged before what) as
in version 0.2.1 of their code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from learning.spelling import did_you_mean
from sphere_ops.grid import area_weights

# Coordinates of public stores are rounded to three decimals at worst: a row that is
# nominally on the edge of a region belongs to it.
EDGE_TOLERANCE_DEGREES = 1e-3

WEIGHTING = (
    'latitude cell bounds halfway between rows, ends at the poles; '
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


def get_regions(names: Iterable[str]) -> dict[str, Region]:
    """Returns the regions called `names`; `ValueError` names the nearest."""
    names = list(names)
    for name in names:
        if name not in REGIONS:
            raise ValueError(
                f'unknown region {name!r}{did_you_mean(name, REGIONS)}; '
                f'regions are {", ".join(REGIONS)}'
            )
    return {name: REGIONS[name] for name in names}


def regions_on(latitudes: np.ndarray, longitudes: np.ndarray) -> dict[str, Region]:
    """Returns the regions that hold a point of the grid: on any fine one, all."""
    return {
        name: region
        for name, region in REGIONS.items()
        if region.holds(latitudes, longitudes)
    }


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
        sectors: dict[bytes, list[tuple[int, np.ndarray]]] = {}
        for position, (name, region) in enumerate(regions.items()):
            rows, columns = region.rows(latitudes), region.columns(longitudes)
            if not region.holds(latitudes, longitudes):
                raise ValueError(
                    f'region {name!r} ({region}) holds no point of this grid of '
                    f'{latitudes.size} x {longitudes.size}: leave it out'
                )
            of_rows = rows * weights / (weights[rows].sum() * columns.sum())
            sectors.setdefault(columns.tobytes(), []).append((position, of_rows))
        self._sectors = [
            _Sector.create(np.frombuffer(columns, bool), dict(members))
            for columns, members in sectors.items()
        ]

    def __call__(self, field: np.ndarray) -> np.ndarray:
        """Returns the means `[..., region]`, float64, of `field` `[..., lat, lon]`."""
        means = np.empty((*field.shape[:-2], len(self.names)))
        for sector in self._sectors:
            means[..., sector.regions] = sector.means(field)
        return means


class _Sector(NamedTuple):
    """Regions that share their columns.

    Attributes:
      rows: smallest range of rows that holds all of them.
      columns: their columns, as ranges.
      weights: `[row, region]`, zero outside of the region.
      regions: positions of the regions.
    """

    rows: slice
    columns: tuple[slice, ...]
    weights: np.ndarray
    regions: tuple[int, ...]

    @classmethod
    def create(cls, columns: np.ndarray, members: Mapping[int, np.ndarray]) -> _Sector:
        """Makes a sector of `columns` `[lon]` and weights `[lat]` of each region."""
        weights = np.stack([*members.values()], axis=-1)
        filled = np.flatnonzero(weights.sum(axis=-1))
        rows = slice(int(filled[0]), int(filled[-1]) + 1)
        return cls(rows, _ranges(columns), weights[rows].copy(), tuple(members))

    def means(self, field: np.ndarray) -> np.ndarray:
        """Returns `[..., region of this sector]`."""
        along_rows = sum(
            field[..., self.rows, part].sum(axis=-1, dtype=np.float64)
            for part in self.columns
        )
        means = along_rows @ self.weights
        if not np.isfinite(means).all():
            # The product spread a NaN to regions where its weight is zero.
            for region, weights in enumerate(self.weights.T):
                inside = weights > 0
                means[..., region] = along_rows[..., inside] @ weights[inside]
        return means


def _ranges(mask: np.ndarray) -> tuple[slice, ...]:
    """The runs of true entries; slices, because they cost no copy."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return tuple(
        slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)
    )


class Moments(NamedTuple):
    """Regional means of one forecast against the truth, each `[..., region]`.

    Attributes:
      bias: mean of forecast - truth.
      mae: mean of its absolute value.
      mse: mean of its square.
      acc: anomaly correlation; NaN without a climatology.
    """

    bias: np.ndarray
    mae: np.ndarray
    mse: np.ndarray
    acc: np.ndarray


def moments(
    forecast: np.ndarray,
    truth: np.ndarray,
    mean: RegionalMean,
    *,
    climatology: np.ndarray | None = None,
    truth_variance: np.ndarray | None = None,
) -> Moments:
    """Scores of one forecast field, before any average over starts.

    With anomalies f' = forecast - climatology and o' = truth - climatology,
    ACC = <f' o'> / sqrt(<f'^2> <o'^2>); the means of f' and o' are not removed. The
    covariance follows from <f' o'> = (<f'^2> + <o'^2> - <(f - o)^2>) / 2.

    Args:
      forecast: `[..., lat, lon]`.
      truth: `[..., lat, lon]`.
      mean: the regional mean on their grid.
      climatology: `[..., lat, lon]` at the valid time; none: no ACC.
      truth_variance: `[..., region]`, <o'^2> where it is known already.
    """
    # One stack, so that the means are one pass over memory that is still in cache.
    fields = np.empty((3 if climatology is None else 4, *truth.shape))
    np.subtract(forecast, truth, out=fields[0], dtype=np.float64)
    np.abs(fields[0], out=fields[1])
    np.multiply(fields[0], fields[0], out=fields[2])
    if climatology is None:
        bias, mae, mse = mean(fields)
        return Moments(bias, mae, mse, np.full_like(mse, np.nan))
    np.subtract(forecast, climatology, out=fields[3], dtype=np.float64)
    np.multiply(fields[3], fields[3], out=fields[3])
    bias, mae, mse, variance = mean(fields)
    if truth_variance is None:
        truth_variance = moments(climatology, truth, mean).mse
    return Moments(bias, mae, mse, correlation(variance, truth_variance, mse))


def correlation(
    forecast_variance: np.ndarray, truth_variance: np.ndarray, mse: np.ndarray
) -> np.ndarray:
    """ACC from second moments; NaN where either anomaly vanishes everywhere."""
    covariance = (forecast_variance + truth_variance - mse) / 2
    with np.errstate(divide='ignore', invalid='ignore'):
        return covariance / np.sqrt(forecast_variance * truth_variance)
