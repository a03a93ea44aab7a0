"""Mathematics of the sphere: grids, spin-weighted harmonics, spherical convolutions."""

from sphere_ops.grid import LatLonGrid

__all__ = ['LatLonGrid']
