"""The equations of an idealised planet, on the spectral core of dinosaur-dycore.

Quantities are dimensionless in dinosaur's units and fields are
`[layer, longitude, latitude]`, south to north.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import numpy as np
from dinosaur import (
    coordinate_systems,
    filtering,
    held_suarez,
    primitive_equations,
    sigma_coordinates,
    spherical_harmonic,
)
from dinosaur.scales import units

from weather.data.simulation.pressure_levels import GAS_CONSTANT
from weather.data.simulation.terrain import land_fraction, terrain_height

# Boundaries of the layers in sigma = pressure / surface pressure. The uppermost centre
# lies above 50 hPa at any surface pressure below 1050 hPa, so nothing is extrapolated
# upward; thin layers at the ground carry friction and evaporation.
LAYER_BOUNDARIES = np.array([0, 9, 16, 23, 31, 41, 53, 66, 78, 88, 95, 100]) / 100

# Isothermal and warmer than the air nearly everywhere: the semi-implicit scheme is then
# stable (Simmons, Hoskins and Burridge 1978, Mon. Wea. Rev. 106, 405).
REFERENCE_TEMPERATURE_K = 300.0
SEA_LEVEL_PRESSURE_PA = 1e5
# Held and Suarez have 315 and 60; with these the tropics are as warm as the Earth's,
# so that humidity is too, and eddies at T21 are livelier.
WARMEST_EQUILIBRIUM_K = 308.0
EQUATOR_TO_POLE_K = 65.0

# To be raised with every change of the planet's numbers: stores remember it.
VERSION = 1

HUMIDITY = 'specific_humidity'


class Numerics(NamedTuple):
    """What a truncation needs: Gauss rows per hemisphere, time step, damping time.

    Attributes:
      gaussian_nodes: rows between equator and pole; 2 rows per node, 4 columns.
      steps_per_day: leapfrog steps, a multiple of four (output is six-hourly).
      damping_hours: e-folding time of the smallest resolved scale.
    """

    gaussian_nodes: int
    steps_per_day: int
    damping_hours: float


# Largest wavenumber -> numerics. The grids resolve products of two fields (3 N + 1
# longitudes or more). T21 is stable down to 20 steps a day, not at 16.
NUMERICS = {
    21: Numerics(16, 24, 6.0),
    31: Numerics(24, 36, 5.0),
    42: Numerics(32, 48, 4.0),
}


class _Equations(primitive_equations.PrimitiveEquations):
    """Dry primitive equations with orography."""

    def kinetic_energy_tendency(self, aux_state):
        """As in dinosaur, without its sum over a stacked axis (an eighth of a step)."""
        grid = self.coords.horizontal
        eastward, northward = aux_state.cos_lat_u
        energy = (eastward**2 + northward**2) * grid.sec2_lat / 2
        return -grid.laplacian(grid.to_modal(energy))


@dataclasses.dataclass(frozen=True)
class Planet:
    """The equations of the planet at one truncation.

    Attributes:
      max_wavenumber: largest wavenumber (inclusive) of the triangular truncation.
    """

    max_wavenumber: int = 21

    def __post_init__(self):
        if self.max_wavenumber not in NUMERICS:
            raise ValueError(
                f'expected max_wavenumber in {tuple(NUMERICS)}, got '
                f'{self.max_wavenumber}; other truncations need a row in NUMERICS'
            )

    @property
    def numerics(self) -> Numerics:
        """Grid, time step and damping of this truncation."""
        return NUMERICS[self.max_wavenumber]

    @functools.cached_property
    def coords(self) -> coordinate_systems.CoordinateSystem:
        """Spectral truncation, Gauss grid and layers."""
        horizontal = spherical_harmonic.Grid.construct(
            self.max_wavenumber, self.numerics.gaussian_nodes
        )
        vertical = sigma_coordinates.SigmaCoordinates(LAYER_BOUNDARIES)
        return coordinate_systems.CoordinateSystem(horizontal, vertical)

    @functools.cached_property
    def specs(self) -> primitive_equations.PrimitiveEquationsSpecs:
        """Physical constants and the scale of units."""
        return primitive_equations.PrimitiveEquationsSpecs.from_si()

    def si(self, unit: str) -> float:
        """Value in SI units of the dimensionless 1 of a quantity measured in `unit`."""
        return float(self.specs.dimensionalize(1.0, units(unit).units).magnitude)

    @property
    def time_step(self) -> float:
        """Leapfrog step, dimensionless."""
        return 86400 / self.numerics.steps_per_day / self.si('s')

    @functools.cached_property
    def degrees(self) -> tuple[np.ndarray, np.ndarray]:
        """Latitude and longitude of the nodes, `[longitude, latitude]`, degrees."""
        longitude, sine = self.coords.horizontal.nodal_mesh
        return np.degrees(np.arcsin(sine)), np.degrees(longitude)

    @functools.cached_property
    def land(self) -> np.ndarray:
        """Fraction of land, `[longitude, latitude]`."""
        return land_fraction(*self.degrees)

    @functools.cached_property
    def orography(self) -> np.ndarray:
        """Spectral height of the ground, dimensionless; smoothed against ripples."""
        # A sharp mountain cut at the truncation would stand in a field of ripples,
        # which the geopotential near the ground would show.
        height = terrain_height(*self.degrees) / self.si('m')
        smooth = filtering.exponential_filter(self.coords.horizontal, order=2)
        modal = smooth(self.coords.horizontal.to_modal(height))
        return np.asarray(self.coords.horizontal.clip_wavenumbers(modal))

    @functools.cached_property
    def surface_geopotential(self) -> np.ndarray:
        """Geopotential of the ground that the dynamics see, `[lon, lat]`, m2 s-2."""
        height = self.coords.horizontal.to_nodal(self.orography)
        return np.asarray(height) * self.specs.g * self.si('m**2/s**2')

    @functools.cached_property
    def reference_temperature(self) -> np.ndarray:
        """Reference temperature of the layers, `[layer]`, K."""
        return np.full(self.coords.vertical.layers, REFERENCE_TEMPERATURE_K)

    @functools.cached_property
    def equations(self) -> primitive_equations.PrimitiveEquations:
        """Dry primitive equations with orography."""
        return _Equations(
            self.reference_temperature, self.orography, self.coords, self.specs
        )

    @functools.cached_property
    def held_suarez(self) -> held_suarez.HeldSuarezForcing:
        """Rates and equilibrium temperature of Held and Suarez."""
        return held_suarez.HeldSuarezForcing(
            self.coords,
            self.specs,
            self.reference_temperature,
            maxT=WARMEST_EQUILIBRIUM_K * units.degK,
            dTy=EQUATOR_TO_POLE_K * units.degK,
        )

    @functools.cached_property
    def initial_pressure(self) -> np.ndarray:
        """Surface pressure of the air at rest, `[1, lon, lat]`, dimensionless."""
        depth = GAS_CONSTANT * REFERENCE_TEMPERATURE_K
        pressure = SEA_LEVEL_PRESSURE_PA * np.exp(-self.surface_geopotential / depth)
        return (pressure / self.si('Pa')).astype(np.float32)[None]

    def mean(self, field):
        """Area mean, `[..., lon, lat]` to `[...]`."""
        return self.coords.horizontal.integrate(field) / (4 * np.pi)
