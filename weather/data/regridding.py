"""Regridding fields of a store to a model's grid: which way suits which grids."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np

from sphere_ops.grid import LatLonGrid
from sphere_ops.regridding import ConservativeRegridder, SpectralRegridder, Winds

METHODS = ('conservative', 'spectral')


class Regridder(Protocol):
    """From the grid of a source to the one wanted; fields are `[..., lat, lon]`."""

    @property
    def name(self) -> str:
        """What is done, for the reader."""

    def scalars(self, fields: np.ndarray) -> np.ndarray:
        """Regrids scalars."""

    def winds(self, u: np.ndarray, v: np.ndarray) -> Winds:
        """Regrids eastward and northward components."""


def make_regridder(
    method: str, latitude: np.ndarray, longitude: np.ndarray, target: LatLonGrid
) -> Regridder:
    """Chooses how to regrid; not at all where the source is on the grid already.

    Args:
      method: `'conservative'` or `'spectral'`.
      latitude: `[lat]` of the source, degrees, north to south.
      longitude: `[lon]` of the source, degrees, eastward.
      target: grid wanted.

    Raises:
      ValueError: an unknown method, or rows and columns that it does not suit.
    """
    if method not in METHODS:
        raise ValueError(f'expected prepare.regridding among {METHODS}, got {method!r}')
    latitude, longitude = np.asarray(latitude), np.asarray(longitude)
    if _recognised(latitude, longitude) == target:
        return _Same(f'on {target} already')
    shape = f'{latitude.size} x {longitude.size}'
    if method == 'conservative':
        made = ConservativeRegridder.create(latitude, longitude, target)
        return _Conservative(f'{shape} to {target}, averages over cells', made)
    try:
        source = LatLonGrid.from_latitudes_longitudes(
            latitude, longitude - longitude[0]
        )
    except ValueError as error:
        raise ValueError(
            f'expected rows whose integrals are exact for a spectral regridding: '
            f'{error}; say prepare.regridding=conservative'
        ) from None
    spectral = SpectralRegridder.create(
        source, target, first_longitude=float(longitude[0])
    )
    name = f'{source} to {target}, harmonics to degree {spectral.max_degree}'
    return _Spectral(name, spectral)


def _recognised(latitude: np.ndarray, longitude: np.ndarray) -> LatLonGrid | None:
    try:
        return LatLonGrid.from_latitudes_longitudes(latitude, longitude)
    except ValueError:
        return None


@dataclasses.dataclass(frozen=True)
class _Same:
    name: str

    def scalars(self, fields: np.ndarray) -> np.ndarray:
        return fields

    def winds(self, u: np.ndarray, v: np.ndarray) -> Winds:
        return Winds(u, v)


@dataclasses.dataclass(frozen=True)
class _Conservative:
    name: str
    regridder: ConservativeRegridder

    def scalars(self, fields: np.ndarray) -> np.ndarray:
        return self.regridder(fields)

    def winds(self, u: np.ndarray, v: np.ndarray) -> Winds:
        # Component by component, as WeatherBench 2 does.
        return Winds(self.regridder(u), self.regridder(v))


@dataclasses.dataclass(frozen=True)
class _Spectral:
    name: str
    regridder: SpectralRegridder

    def scalars(self, fields: np.ndarray) -> np.ndarray:
        return self.regridder.scalars(fields)

    def winds(self, u: np.ndarray, v: np.ndarray) -> Winds:
        return self.regridder.winds(u, v)
