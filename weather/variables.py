"""What a field is: its name, units, CF name, plausible range, role and levels.

Names and units are those of ECMWF and WeatherBench 2; `standard_name` follows the CF
standard name table, version 90. A new variable is one entry of the table here, or of
`data.definitions` in a config, which calls `register`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from learning.spelling import did_you_mean

# What the model does with a variable: reads and forecasts it, only reads it (a forcing
# from the store), only forecasts it (a diagnostic such as precipitation), or reads it
# once (it never changes).
ROLES = ('both', 'input', 'output', 'static')


@dataclasses.dataclass(frozen=True)
class Variable:
    """A physical quantity as stores and forecasts spell it.

    Attributes:
      name: name in stores (ECMWF long name, as in WeatherBench 2).
      short_name: prefix of headline names such as Z500.
      units: SI units, in the UDUNITS spelling that CF wants.
      standard_name: CF standard name.
      plausible: smallest and largest value, in `units`, that any terrestrial atmosphere
        between 1000 and 50 hPa shows; a field whose mean lies outside has other units.
      role: one of `ROLES`, where a config does not say otherwise.
      northward: of an eastward component, the name of the northward one; together they
        are one spin-1 field.
      vector: of an eastward component, what scores call the vector of both.
      on_levels: whether it is a field of pressure levels; None where that is not known.
      aliases: what else stores call it, whatever their case; see `weather.data.names`.
      accumulated: whether a value is a sum over the time since the one before it.
      averaged: whether another grid gets averages over cells, however the others are
        regridded: fields that keep to a bound with sharp edges, as a mask, of which
        truncated harmonics make values beyond it.
    """

    name: str
    short_name: str
    units: str
    standard_name: str
    plausible: tuple[float, float]
    role: str = 'both'
    northward: str | None = None
    vector: str | None = None
    on_levels: bool | None = None
    aliases: tuple[str, ...] = ()
    accumulated: bool = False
    averaged: bool = False

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(
                f'expected the role of {self.name} among {", ".join(ROLES)}, got '
                f'{self.role!r}{did_you_mean(self.role, ROLES)}'
            )

    @property
    def long_name(self) -> str:
        """The name in words."""
        return self.name.replace('_', ' ')


# Aliases: the Climate Data Store and ecCodes first, then CMIP, NCEP, MERRA-2, models'
# data sets. A name that means another thing elsewhere is told by its units, or by
# whether it has levels.
_TABLE = (
    # Geopotential: -5000 m2 s-2 is a deep low at 1000 hPa over low ground; 2.3e5 is
    # 50 hPa. Heights in metres are told by the mean of a level: `checks.check_mean`.
    Variable(
        'geopotential', 'Z', 'm2 s-2', 'geopotential', (-2e4, 3e5), on_levels=True,
        aliases=('z', 'gh', 'zg', 'hgt', 'h', 'z3', 'hgtprs', 'phi', 'fi',
                 'geopotential_height'),
    ),
    Variable(
        'specific_humidity', 'Q', 'kg kg-1', 'specific_humidity', (-1e-3, 0.06),
        on_levels=True, aliases=('q', 'hus', 'shum', 'qv', 'spfh', 'spfhprs'),
    ),
    Variable(
        'temperature', 'T', 'K', 'air_temperature', (130.0, 350.0), on_levels=True,
        aliases=('t', 'ta', 'air', 'tmp', 'tmpprs', 'air_temperature'),
    ),
    Variable(
        'u_component_of_wind', 'U', 'm s-1', 'eastward_wind', (-200.0, 200.0),
        northward='v_component_of_wind', vector='wind_vector', on_levels=True,
        aliases=('u', 'ua', 'uwnd', 'ugrd', 'ugrdprs', 'eastward_wind'),
    ),
    Variable(
        'v_component_of_wind', 'V', 'm s-1', 'northward_wind', (-200.0, 200.0),
        on_levels=True,
        aliases=('v', 'va', 'vwnd', 'vgrd', 'vgrdprs', 'northward_wind'),
    ),
    Variable(
        'vertical_velocity', 'W', 'Pa s-1', 'lagrangian_tendency_of_air_pressure',
        (-60.0, 60.0), on_levels=True,
        aliases=('w', 'wap', 'omega', 'vvel', 'vvelprs',
                 'lagrangian_tendency_of_air_pressure'),
    ),
    Variable(
        '2m_temperature', 'T2M', 'K', 'air_temperature', (170.0, 345.0),
        on_levels=False, aliases=('t2m', '2t', 'tas', 't_2m', 'tmp2m', 'var_2t'),
    ),
    Variable(
        'mean_sea_level_pressure', 'MSLP', 'Pa', 'air_pressure_at_mean_sea_level',
        (8.5e4, 1.1e5), on_levels=False,
        aliases=('msl', 'psl', 'slp', 'prmsl', 'mslp', 'prmslmsl', 'pmsl',
                 'air_pressure_at_mean_sea_level'),
    ),
    Variable(
        'surface_pressure', 'SP', 'Pa', 'surface_air_pressure', (4e4, 1.1e5),
        on_levels=False, aliases=('sp', 'ps', 'pressfc', 'surface_air_pressure'),
    ),
    Variable(
        '10m_u_component_of_wind', 'U10', 'm s-1', 'eastward_wind', (-110.0, 110.0),
        northward='10m_v_component_of_wind', vector='10m_wind_vector',
        on_levels=False,
        aliases=('u10', '10u', 'uas', 'u10m', 'u_10m', 'ugrd10m', 'var_10u'),
    ),
    Variable(
        '10m_v_component_of_wind', 'V10', 'm s-1', 'northward_wind', (-110.0, 110.0),
        on_levels=False,
        aliases=('v10', '10v', 'vas', 'v10m', 'v_10m', 'vgrd10m', 'var_10v'),
    ),
    Variable(
        'sea_surface_temperature', 'SST', 'K', 'sea_surface_temperature',
        (250.0, 320.0), role='input', on_levels=False, aliases=('sst', 'tos', 'sstk'),
    ),
    Variable(
        'sea_ice_cover', 'SIC', '1', 'sea_ice_area_fraction', (-1e-3, 1.001),
        role='input', on_levels=False, aliases=('siconc', 'ci', 'icec', 'sic'),
        averaged=True,
    ),
    # Accumulated over one hour, as ERA5 has it.
    Variable(
        'toa_incident_solar_radiation', 'TISR', 'J m-2', 'toa_incoming_shortwave_flux',
        # Over a day at most: what is prepared is summed over its step.
        (-1.0, 1.3e8), role='input', on_levels=False, aliases=('tisr',),
        accumulated=True,
    ),
    # Over one hour too: in ERA5, and in WeatherBench 1 made of it.
    Variable(
        'total_precipitation', 'TP', 'm', 'lwe_thickness_of_precipitation_amount',
        (-1e-3, 2.0), role='output', on_levels=False, aliases=('tp',),
        accumulated=True, averaged=True,
    ),
    Variable(
        'total_precipitation_6hr', 'TP6', 'm', 'lwe_thickness_of_precipitation_amount',
        (-1e-3, 2.0), role='output', on_levels=False, averaged=True,
    ),
    Variable(
        'geopotential_at_surface', 'ZS', 'm2 s-2', 'surface_geopotential',
        (-8e3, 9e4), role='static', on_levels=False,
        aliases=('z', 'orography', 'orog', 'hgt', 'phis', 'hgtsfc', 'gh',
                 'surface_geopotential'),
    ),
    Variable(
        'land_sea_mask', 'LSM', '1', 'land_area_fraction', (-1e-3, 1.001),
        role='static', on_levels=False,
        aliases=('lsm', 'sftlf', 'land', 'landmask', 'frland'), averaged=True,
    ),
)  # fmt: skip
VARIABLES: dict[str, Variable] = {variable.name: variable for variable in _TABLE}

# The 13 pressure levels of WeatherBench 2, hPa.
# Level in hPa and components of what a forecaster looks at first: the upper-air
# headline set of WeatherBench 2. Two components are a wind vector.
HEADLINE_FIELDS = {
    'Z500': (500, ('geopotential',)),
    'T850': (850, ('temperature',)),
    'Q700': (700, ('specific_humidity',)),
    'Wind 850': (850, ('u_component_of_wind', 'v_component_of_wind')),
}

WEATHERBENCH_LEVELS = (50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000)


def get_variable(name: str) -> Variable:
    """Returns the variable called `name`; `ValueError` names the nearest otherwise."""
    if name in VARIABLES:
        return VARIABLES[name]
    raise ValueError(
        f'unknown variable {name!r}{did_you_mean(name, VARIABLES)}; '
        f'known variables: {", ".join(VARIABLES)}'
    )


def register(variable: Variable) -> None:
    """Adds a variable to those that stores, models and scores know.

    Raises:
      ValueError: one of that name is known, and is another.
    """
    # Known and the same is no error: a config is checked more than once.
    if variable.name not in VARIABLES:
        _check_aliases(variable)
    known = VARIABLES.setdefault(variable.name, variable)
    if known != variable:
        raise ValueError(
            f'{variable.name} is known already, as {known}; give the new variable a '
            f'name of its own, got {variable}'
        )


def _check_aliases(variable: Variable) -> None:
    """Refuses an alias that nobody could tell from that of another variable."""
    mine = {name.casefold() for name in (variable.name, *variable.aliases)}
    for other in VARIABLES.values():
        if {variable.on_levels, other.on_levels} == {True, False}:
            continue  # Told by the axis of levels, which one of them has.
        shared = mine & {name.casefold() for name in (other.name, *other.aliases)}
        if shared:
            raise ValueError(
                f'expected aliases of {variable.name} that no other variable has, '
                f'{min(shared)!r} is one of {other.name}; leave it out'
            )


def stored_statics() -> tuple[str, ...]:
    """Fields that never change and that a store has to hold."""
    return tuple(name for name, of in VARIABLES.items() if of.role == 'static')


class WindPair(NamedTuple):
    """Two components that together are one spin-1 field, and its name in scores."""

    eastward: str
    northward: str
    vector: str


def wind_pairs() -> tuple[WindPair, ...]:
    """Every pair of components that the table knows."""
    return tuple(
        WindPair(name, of.northward, of.vector or f'{name}_vector')
        for name, of in VARIABLES.items()
        if of.northward
    )


class Channel(NamedTuple):
    """One horizontal field of a state: a variable, at a level (hPa) or at none."""

    variable: str
    level: float | None = None

    def __str__(self) -> str:
        return (
            self.variable if self.level is None else f'{self.variable}@{self.level:g}'
        )


class ChannelIndex:
    """Order of the channels of a state: variable-major, levels as configured.

    A state holds what is forecast; `outputs` are the variables among them that the
    model does not read: their values are made anew at every step.

    `channels['geopotential', 500]` is the position of Z500 on the last axis of a state;
    `channels['2m_temperature', None]` that of a surface variable.
    """

    def __init__(
        self, levels: Mapping[str, Sequence[float]], outputs: Collection[str] = ()
    ):
        """Builds the index.

        Args:
          levels: levels in hPa of every variable, in the order wanted; an empty
            sequence marks a variable without levels.
          outputs: names of the variables that are forecast but not read.

        Raises:
          ValueError: an unknown variable, a repeated level, or one component of a wind
            without the other at the same levels.
        """
        self.levels: dict[str, tuple[float, ...]] = {
            get_variable(name).name: tuple(as_level(level) for level in of_variable)
            for name, of_variable in levels.items()
        }
        self.outputs = frozenset(outputs)
        for name, of_variable in self.levels.items():
            if len(set(of_variable)) != len(of_variable):
                raise ValueError(f'{name} repeats a level: {of_variable}')
        self.channels: tuple[Channel, ...] = tuple(
            Channel(name, level)
            for name, of_variable in self.levels.items()
            for level in (of_variable or (None,))
        )
        self._position = {channel: i for i, channel in enumerate(self.channels)}
        for eastward, northward, _ in wind_pairs():
            # A rotation of the sphere mixes the two.
            found = [self.levels.get(eastward), self.levels.get(northward)]
            if found[0] != found[1]:
                raise ValueError(
                    f'{eastward} and {northward} are one vector field and need the '
                    f'same levels, got {found[0]} and {found[1]}'
                )

    def __len__(self) -> int:
        return len(self.channels)

    def __iter__(self):
        return iter(self.channels)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ChannelIndex)
            and self.channels == other.channels
            and self.outputs == other.outputs
        )

    def __hash__(self) -> int:
        return hash(self.channels)

    def __contains__(self, channel: object) -> bool:
        return channel in self._position

    def __getitem__(self, channel: tuple[str, float | None]) -> int:
        try:
            return self._position[Channel(*channel)]
        except KeyError:
            name, level = channel
            if name not in self.levels:
                hint = did_you_mean(name, self.levels)
                raise KeyError(
                    f'no variable {name!r} in the state{hint}; it holds '
                    f'{", ".join(self.levels)}'
                ) from None
            raise KeyError(
                f'{name} has no level {level}; its levels are {self.levels[name]}'
            ) from None

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables, in order."""
        return tuple(self.levels)

    @property
    def prognostic(self) -> ChannelIndex:
        """The channels that a step reads: all but the outputs."""
        return ChannelIndex(
            {name: of for name, of in self.levels.items() if name not in self.outputs}
        )

    @property
    def winds(self) -> tuple[tuple[int, int], ...]:
        """Positions of every (eastward, northward) pair: the spin-1 fields."""
        return tuple(
            (self[eastward, level], self[northward, level])
            for eastward, northward, _ in wind_pairs()
            if eastward in self.levels
            for level in (self.levels[eastward] or (None,))
        )

    @property
    def scalars(self) -> tuple[int, ...]:
        """Positions of every channel that is not a wind component: spin 0."""
        components = {position for pair in self.winds for position in pair}
        return tuple(i for i in range(len(self)) if i not in components)


def as_level(level: float) -> float:
    """A whole level is an integer, so that 500.0 hPa and 500 hPa are one."""
    return int(level) if level == int(level) else float(level)
