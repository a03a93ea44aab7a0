"""What a set of forecasts holds, and how its coordinates and attributes are spelt.

One description serves netCDF (CF-1.11) and the schema of WeatherBench 2 alike.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator, Mapping

import numpy as np
import xarray as xr

from sphere_ops.grid import LatLonGrid
from weather.data.forecasts import DIMS
from weather.variables import ChannelIndex, get_variable

EPOCH = '1970-01-01 00:00:00'
_GLOBAL_ATTRIBUTES = {
    'Conventions': 'CF-1.11',
    'title': 'Global weather forecast',
    'source': 'spherecast: spherical convolutional neural network, autoregressive',
    'references': 'Esteves, Slotine and Makadia (2023), https://arxiv.org/abs/2306.05420',
}
COORDINATES: Mapping[str, Mapping[str, str]] = {
    'level': {
        'standard_name': 'air_pressure',
        'long_name': 'pressure level',
        'units': 'hPa',
        'positive': 'down',
        'axis': 'Z',
    },
    'latitude': {
        'standard_name': 'latitude',
        'long_name': 'latitude',
        'units': 'degrees_north',
        'axis': 'Y',
    },
    'longitude': {
        'standard_name': 'longitude',
        'long_name': 'longitude',
        'units': 'degrees_east',
        'axis': 'X',
    },
}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ForecastLayout:
    """What a set of forecasts holds, known before the first state is.

    Attributes:
      channels: variables and levels on the last axis of the states.
      grid: rows and columns of the states.
      init_times: `[start]` datetime64, initialisation times.
      lead_times: `[lead]` timedelta64, after the initialisation.
      provenance: what made the forecasts, as global attributes: configuration hash,
        checkpoint, git commit, data store; `title`, `institution` and `source` too.

    Raises:
      ValueError: no starts or no leads, repeated ones, or leads that do not ascend.
    """

    channels: ChannelIndex
    grid: LatLonGrid
    init_times: np.ndarray
    lead_times: np.ndarray
    provenance: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for name, dtype in (
            ('init_times', 'datetime64[ns]'),
            ('lead_times', 'timedelta64[ns]'),
        ):
            values = np.atleast_1d(np.asarray(getattr(self, name)))
            if values.dtype.kind != np.dtype(dtype).kind:
                raise ValueError(f'expected {name} as {dtype}, got {values.dtype}')
            if values.size == 0 or np.isnat(values).any():
                raise ValueError(f'expected {name} without gaps, got {values}')
            if np.unique(values).size != values.size:
                raise ValueError(f'{name} holds the same value twice: {values}')
            object.__setattr__(self, name, values.astype(dtype))
        if np.any(np.diff(self.lead_times) < np.timedelta64(0)):
            raise ValueError(f'expected ascending lead_times, got {self.lead_times}')

    @property
    def levels(self) -> tuple[int, ...]:
        """Every level of any variable, hPa, from the top down."""
        return tuple(sorted({c.level for c in self.channels if c.level is not None}))

    def dims(self, variable: str) -> tuple[str, ...]:
        """Dimensions of `variable` in the schema of WeatherBench 2."""
        has_levels = bool(self.channels.levels[variable])
        return tuple(name for name in DIMS if name != 'level' or has_levels)

    def shape(self, variable: str) -> tuple[int, ...]:
        """Sizes of `dims(variable)`."""
        sizes = dict(
            zip(
                DIMS,
                (
                    len(self.init_times),
                    len(self.lead_times),
                    len(self.levels),
                    *self.grid.shape,
                ),
                strict=True,
            )
        )
        return tuple(sizes[name] for name in self.dims(variable))

    def fields(self, state: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Takes a state apart.

        Args:
          state: `[lat, lon, channel]`, SI units.

        Yields:
          Name and float32 values `[level, lat, lon]` of each variable, or `[lat, lon]`
          where it has no levels. All variables share `levels`; those that a variable
          lacks are NaN, as in the stores of WeatherBench 2.
        """
        for name, levels in self.channels.levels.items():
            if not levels:
                yield name, np.asarray(state[..., self.channels[name, None]])
                continue
            values = np.full(self.shape(name)[2:], np.nan, np.float32)
            for level in levels:
                channel = self.channels[name, level]
                values[self.levels.index(level)] = state[..., channel]
            yield name, values

    def check_finite(
        self, lead: int, states: np.ndarray, *, starts: slice | None = None
    ) -> None:
        """Raises `FloatingPointError` unless states `[start, ...]` are all finite.

        The message names start, lead time and channel.
        """
        bad = np.argwhere(~np.isfinite(states).all(axis=(1, 2)))
        if bad.size:
            first, channel = bad[0]
            start = range(len(self.init_times))[starts or slice(None)][first]
            raise FloatingPointError(
                f'{self.describe(start, lead)} is not finite in '
                f'{self.channels.channels[channel]} and {len(bad) - 1} more fields: '
                'the model has become unstable; train longer, or with more rollout '
                'steps'
            )

    def describe(self, start: int, lead: int) -> str:
        """Names one field of the forecasts, for messages."""
        init_time = self.init_times[start].astype('datetime64[m]')
        hours = self.lead_times[lead] / np.timedelta64(1, 'h')
        return f'the forecast from {init_time} at {hours:g} h'

    def attributes(self) -> dict[str, str | int]:
        """Global attributes: conventions, grid and provenance."""
        now = datetime.datetime.now(datetime.UTC).strftime('%Y-%m-%dT%H:%M:%SZ')
        return {
            **_GLOBAL_ATTRIBUTES,
            'history': f'{now} written by weather.forecasting.export',
            'grid_kind': self.grid.kind,
            'grid_num_lat': self.grid.num_lat,
            'grid_num_lon': self.grid.num_lon,
            **self.provenance,
        }


def variable_attributes(name: str) -> dict[str, str]:
    """Units and CF names of a variable."""
    variable = get_variable(name)
    # CF-1.11 wants to tell temperatures from differences of temperature.
    scale = {'units_metadata': 'temperature: on_scale'} if variable.units == 'K' else {}
    return {
        'standard_name': variable.standard_name,
        'long_name': variable.long_name,
        'units': variable.units,
        **scale,
    }


def to_dataset(states: np.ndarray, layout: ForecastLayout) -> xr.Dataset:
    """Returns forecasts in memory, in the schema of WeatherBench 2.

    Args:
      states: `[start, lead, lat, lon, channel]`, SI units.
      layout: what the states hold.
    """
    starts = [[dict(layout.fields(state)) for state in start] for start in states]
    return xr.Dataset(
        {
            name: (
                layout.dims(name),
                np.array([[fields[name] for fields in leads] for leads in starts]),
                variable_attributes(name),
            )
            for name in layout.channels.variables
        },
        coords=coordinates(layout),
        attrs=layout.attributes(),
    )


def coordinates(layout: ForecastLayout) -> dict[str, xr.Variable]:
    """Returns every coordinate in the schema of WeatherBench 2."""
    spatial = spatial_coordinates(layout)
    return {
        'time': xr.Variable('time', layout.init_times),
        'prediction_timedelta': xr.Variable('prediction_timedelta', layout.lead_times),
        **{
            name: xr.Variable(name, values, dict(COORDINATES[name]))
            for name, values in spatial.items()
        },
    }


def time_unit(layout: ForecastLayout) -> tuple[np.timedelta64, str]:
    """Returns hours where every time is a whole number of them, else seconds."""
    hour = np.timedelta64(1, 'h')
    whole_starts = layout.init_times == layout.init_times.astype('datetime64[h]')
    if whole_starts.all() and not np.any(layout.lead_times % hour):
        return hour, 'hours'
    return np.timedelta64(1, 's'), 'seconds'


def spatial_coordinates(layout: ForecastLayout) -> dict[str, np.ndarray]:
    """Returns levels in hPa (if any), latitudes and longitudes in degrees."""
    levels = {'level': np.array(layout.levels, np.int32)} if layout.levels else {}
    return {
        **levels,
        'latitude': layout.grid.latitudes,
        'longitude': layout.grid.longitudes,
    }
