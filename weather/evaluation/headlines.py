"""The fields that a forecaster looks at first, and how they are shown.

The upper-air headline set of WeatherBench 2: Z500, T850, Q700 and the wind vector at
850 hPa. Scores are shown in the units of its tables, maps in those of weather charts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import xarray as xr

from weather.data.units import GRAVITY
from weather.variables import HEADLINE_FIELDS


@dataclasses.dataclass(frozen=True)
class Display:
    """A unit for people.

    Attributes:
      unit: as it is printed.
      scale: SI value times this is the value in `unit`.
      digits: decimals that mean something in a table.
    """

    unit: str
    scale: float
    digits: int


@dataclasses.dataclass(frozen=True)
class Headline:
    """One headline field.

    Attributes:
      name: short name, such as Z500.
      level: hPa.
      components: variables in a store; two are a wind vector, shown by its speed.
      scored: name of the variable in a table of scores.
      in_scores: unit of scores.
      on_maps: unit of maps.
      in_spectra: unit of variance, or of kinetic energy for a wind.
      map_words: what a map of it shows.
      colours: name of a perceptually uniform colour map.
      contour_interval: between drawn isolines on a map, in the unit of maps; 0: none.
    """

    name: str
    level: int
    components: tuple[str, ...]
    scored: str
    in_scores: Display
    on_maps: Display
    in_spectra: Display
    map_words: str
    colours: str
    contour_interval: float = 0

    @property
    def is_vector(self) -> bool:
        """Whether it is a wind."""
        return len(self.components) == 2

    def missing_from(self, dataset: xr.Dataset, what: str) -> str | None:
        """Says why a dataset, called `what`, has no such field; `None` if it has."""
        for name in self.components:
            if name not in dataset:
                return f'the {what} has no {name}'
            variable = dataset[name]
            if 'level' not in variable.dims or self.level not in variable.level.values:
                return f'the {what} has no {name} at {self.level} hPa'
        return None

    def select(self, dataset: xr.Dataset, **positions: int) -> dict[str, np.ndarray]:
        """Reads the components at one time: `positions` as in `isel`.

        Returns:
          `[lat, lon]` float64 by component, SI units; the mean of members.
        """
        fields = {}
        for name in self.components:
            field = dataset[name].sel(level=self.level).isel(positions).compute()
            if 'member' in field.dims:
                # A member that failed must not go unnoticed.
                field = field.mean('member', skipna=False)
            values = field.transpose('latitude', 'longitude').values
            fields[name] = values.astype(np.float64)
        return fields

    def on_map(self, fields: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns what a map shows of the components: `[lat, lon]` in its unit."""
        values = [fields[name] for name in self.components]
        magnitude = np.hypot(*values) if self.is_vector else values[0]
        return magnitude * self.on_maps.scale


HEADLINES: tuple[Headline, ...] = (
    Headline(
        'Z500',
        *HEADLINE_FIELDS['Z500'],
        scored='geopotential',
        in_scores=Display('m² s⁻²', 1.0, 0),
        # Of geopotential height, which the WMO defines with standard gravity.
        on_maps=Display('dam', 0.1 / GRAVITY, 1),
        in_spectra=Display('m⁴ s⁻⁴', 1.0, 0),
        map_words='Geopotential height at 500 hPa',
        colours='viridis',
        contour_interval=6,  # As on synoptic charts of 500 hPa.
    ),
    Headline(
        'T850',
        *HEADLINE_FIELDS['T850'],
        scored='temperature',
        in_scores=Display('K', 1.0, 2),
        on_maps=Display('K', 1.0, 1),
        in_spectra=Display('K²', 1.0, 0),
        map_words='Temperature at 850 hPa',
        colours='plasma',
    ),
    Headline(
        'Q700',
        *HEADLINE_FIELDS['Q700'],
        scored='specific_humidity',
        in_scores=Display('g kg⁻¹', 1e3, 3),
        on_maps=Display('g kg⁻¹', 1e3, 1),
        in_spectra=Display('g² kg⁻²', 1e6, 0),
        map_words='Specific humidity at 700 hPa',
        colours='cividis',
    ),
    Headline(
        'Wind 850',
        *HEADLINE_FIELDS['Wind 850'],
        scored='wind_vector',
        in_scores=Display('m s⁻¹', 1.0, 2),
        on_maps=Display('m s⁻¹', 1.0, 1),
        in_spectra=Display('m² s⁻²', 1.0, 0),
        map_words='Wind speed and direction at 850 hPa',
        colours='viridis',
    ),
)
