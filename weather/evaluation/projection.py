"""The Equal Earth projection: a map of the whole sphere that keeps areas.

Šavrič, Patterson and Jenny (2018), "The Equal Earth map projection", Int. J. Geogr.
Inf. Sci. 33(3), equations 1 to 4. Closed form, so that no map library is needed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_A1, _A2, _A3, _A4 = 1.340264, -0.081106, 0.000893, 0.003796
_SQRT_3 = np.sqrt(3)
# Pixels of one map: twice what a page of 1200 pixels shows, for sharp screens.
_WIDTH, _HEIGHT = 760, 370


class Points(NamedTuple):
    """Points on the map, in radii of the globe: `x` eastward, `y` northward."""

    x: np.ndarray
    y: np.ndarray


class Coordinates(NamedTuple):
    """Points on the globe, degrees."""

    latitudes: np.ndarray
    longitudes: np.ndarray


def project(latitudes: np.ndarray, longitudes: np.ndarray) -> Points:
    """Projects points; central meridian Greenwich.

    Args:
      latitudes: degrees, broadcastable with `longitudes`.
      longitudes: degrees, -180 to 180 (the map ends there; nothing is wrapped).
    """
    angle = np.arcsin(_SQRT_3 / 2 * np.sin(np.radians(latitudes)))
    x = 2 * _SQRT_3 / 3 * np.radians(longitudes) * np.cos(angle) / _slope(angle)
    return Points(x, np.broadcast_to(_ordinate(angle), x.shape))


def unproject(x: np.ndarray, y: np.ndarray) -> Coordinates:
    """Inverse of `project`; NaN off the map.

    Args:
      x: map position, in radii of the globe; broadcastable with `y`.
      y: likewise.

    Returns:
      Latitudes and longitudes (-180 to 180) in degrees, to 1e-6 degrees.
    """
    # The ordinate depends on the latitude alone and ascends: a table inverts it.
    table = np.linspace(-np.pi / 3, np.pi / 3, 40_001)
    angle = np.interp(y, _ordinate(table), table, left=np.nan, right=np.nan)
    sine = np.clip(np.sin(angle) * 2 / _SQRT_3, -1, 1)
    longitudes = np.degrees(3 * x * _slope(angle) / (2 * _SQRT_3 * np.cos(angle)))
    inside = np.abs(longitudes) <= 180
    latitudes = np.broadcast_to(np.degrees(np.arcsin(sine)), longitudes.shape)
    return Coordinates(
        np.where(inside, latitudes, np.nan), np.where(inside, longitudes, np.nan)
    )


def project_vectors(
    latitudes: np.ndarray, longitudes: np.ndarray, east: np.ndarray, north: np.ndarray
) -> Points:
    """Directs vectors along the map, with the length that they have on the sphere.

    Args:
      latitudes: degrees, not at the poles, where no direction is north.
      longitudes: degrees, -180 to 180.
      east: eastward component.
      north: northward component, same unit.

    Returns:
      Components along x and y, in that unit.
    """
    step = 1e-3  # Degrees; small against the curvature of any meridian.
    before = project(latitudes - step, longitudes)
    after = project(latitudes + step, longitudes)
    # Parallels are straight: east is x. The length of a step is lost on purpose.
    eastward = (
        project(latitudes, longitudes + step).x
        - project(latitudes, longitudes - step).x
    )
    eastward = eastward / np.cos(np.radians(latitudes))
    x = east * eastward + north * (after.x - before.x)
    y = north * (after.y - before.y)
    length = np.hypot(x, y)
    scale = np.hypot(east, north) / np.where(length > 0, length, 1)
    return Points(x * scale, y * scale)


def outline(num_points: int = 181) -> Points:
    """The edge of the map, a closed line."""
    up = np.linspace(-90, 90, num_points)
    latitudes = np.concatenate([up, up[::-1], up[:1]])
    longitudes = np.concatenate([np.full(num_points, 180), np.full(num_points, -180)])
    return project(latitudes, np.append(longitudes, 180))


class Globe:
    """Brings fields on a grid to the pixels of a map, by bilinear interpolation."""

    def __init__(
        self,
        latitudes: np.ndarray,
        longitudes: np.ndarray,
        land: np.ndarray | None = None,
    ):
        """Finds the grid points around every pixel.

        Args:
          latitudes: `[lat]` degrees, north to south.
          longitudes: `[lon]` degrees, eastward, equally spaced around the globe.
          land: `[lat, lon]` land fraction, or `None` where none is known.
        """
        self.latitudes = np.asarray(latitudes, np.float64)
        self._longitudes = np.asarray(longitudes, np.float64)
        self.x = np.linspace(-EDGE_X, EDGE_X, _WIDTH)
        self.y = np.linspace(-EDGE_Y, EDGE_Y, _HEIGHT)
        pixels = unproject(self.x, self.y[:, None])
        self.land = None if land is None else self.sample(land, pixels)
        self._pixels = pixels

    def pixels(self, field: np.ndarray) -> np.ndarray:
        """Returns `[y, x]` values of a field `[lat, lon]`, NaN off the map."""
        return self.sample(field, self._pixels)

    def sample(self, field: np.ndarray, points: Coordinates) -> np.ndarray:
        """Interpolates a field `[lat, lon]`; NaN at points that are NaN.

        Poleward of the last row its value is kept.
        """
        outside = np.isnan(points.longitudes)
        rows = np.interp(
            -np.where(outside, 0, points.latitudes),
            -self.latitudes,
            np.arange(self.latitudes.size),
        )
        count = self._longitudes.size
        eastward = np.where(outside, 0, points.longitudes) - self._longitudes[0]
        columns = np.mod(eastward * count / 360, count)
        row = np.minimum(rows.astype(int), self.latitudes.size - 2)
        column = columns.astype(int) % count
        south, east = rows - row, columns - np.floor(columns)
        following = (column + 1) % count
        north_edge = field[row, column] * (1 - east) + field[row, following] * east
        south_edge = (
            field[row + 1, column] * (1 - east) + field[row + 1, following] * east
        )
        values = north_edge * (1 - south) + south_edge * south
        return np.where(outside, np.nan, values)


def _ordinate(angle: np.ndarray) -> np.ndarray:
    """Ordinate of a parametric latitude."""
    square = angle**2
    return angle * (_A1 + _A2 * square + square**3 * (_A3 + _A4 * square))


def _slope(angle: np.ndarray) -> np.ndarray:
    """Derivative of `_ordinate`."""
    square = angle**2
    return _A1 + 3 * _A2 * square + square**3 * (7 * _A3 + 9 * _A4 * square)


# The edges of the map: of the equator at 180 degrees, and of the pole.
EDGE_X = float(2 * _SQRT_3 * np.pi / 3 / _A1)
EDGE_Y = float(_ordinate(np.array(np.pi / 3)))
