"""Mountains and continents of the simulated planet: a few smooth shapes.

They stand roughly where the Earth's do, so that maps can be read, but are no attempt at
a real topography.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


class Hill(NamedTuple):
    """A Gaussian mountain range: centre and half widths, degrees; height, metres."""

    latitude: float
    longitude: float
    half_width_latitude: float
    half_width_longitude: float
    height_m: float


class Continent(NamedTuple):
    """An elliptic continent: centre and half axes, degrees."""

    latitude: float
    longitude: float
    half_axis_latitude: float
    half_axis_longitude: float


# Broad enough for T21 (5.6 degrees between columns) to show them without ripples.
HILLS = (
    Hill(44.0, 250.0, 15.0, 13.0, 2200.0),
    Hill(34.0, 88.0, 12.0, 20.0, 3000.0),
    Hill(-25.0, 292.0, 20.0, 10.0, 2200.0),
    Hill(-90.0, 0.0, 18.0, math.inf, 1800.0),
    Hill(-5.0, 28.0, 18.0, 15.0, 900.0),
)
CONTINENTS = (
    Continent(48.0, 262.0, 24.0, 38.0),
    Continent(50.0, 75.0, 25.0, 65.0),
    Continent(-15.0, 300.0, 30.0, 20.0),
    Continent(5.0, 20.0, 32.0, 26.0),
    Continent(-25.0, 134.0, 14.0, 21.0),
    Continent(-90.0, 0.0, 20.0, math.inf),
)


def _scaled_distance(latitude, longitude, shape: Hill | Continent):
    """Distance from the centre of a shape over its half widths; degrees in."""
    eastward = (longitude - shape.longitude + 180) % 360 - 180
    return np.hypot((latitude - shape.latitude) / shape[2], eastward / shape[3])


def terrain_height(latitude, longitude) -> np.ndarray:
    """Height of the ground in metres at `latitude`, `longitude` (degrees)."""
    return sum(
        hill.height_m
        * np.exp(-np.log(2) * _scaled_distance(latitude, longitude, hill) ** 2)
        for hill in HILLS
    )


def land_fraction(latitude, longitude) -> np.ndarray:
    """Fraction of land, 0..1 with soft coasts, at `latitude`, `longitude` (degrees)."""
    distances = [_scaled_distance(latitude, longitude, land) for land in CONTINENTS]
    # The nearest decides: what lies within any of them is land.
    return 1 / (1 + np.exp((np.min(distances, axis=0) - 1) / 0.05))
