"""What a set of forecasts holds, and how its coordinates and attributes are spelt.

One description serves the schema of WeatherBench 2, which is one store with a dimension
for the starts, and netCDF after CF-1.11, which is one file for each start.

In a netCDF file `time` is the valid time, the unlimited dimension and the first one, as
CDO and NCO want it; `forecast_period(time)` is the lead time. The initialisation is a
coordinate `forecast_reference_time` of length one, on which no field depends: CDO reads
no fields of five dimensions (2.1), and takes a scalar one, or a field's `coordinates`
that name times, for a mistake worth a warning, but finds the initialisation here.
Because of it `xarray.open_mfdataset(files)` gives one data set of all starts, aligned
by valid time, in which every start is NaN where it has no lead time. By lead time:
`preprocess=lambda start: start.swap_dims(time='forecast_period')`, or
`weather.data.forecasts.open_forecasts`, which needs no dask. Fields with the dimensions
of start and lead time, as ECMWF's data store gives them, no program but xarray opens.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Iterator, Mapping
from typing import Self

import numpy as np
import xarray as xr

from sphere_ops.grid import LatLonGrid
from weather.data.axes import CF_ATTRIBUTES
from weather.variables import ChannelIndex, get_variable

EPOCH = '1970-01-01 00:00:00'
_GLOBAL_ATTRIBUTES = {
    'Conventions': 'CF-1.11',
    'title': 'Global weather forecast',
    'source': 'spherecast: spherical convolutional neural network, autoregressive',
    'references': 'Esteves, Slotine and Makadia (2023), https://arxiv.org/abs/2306.05420',
}
_MEMBER = {'standard_name': 'realization', 'long_name': 'member', 'units': '1'}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ForecastLayout:
    """What a set of forecasts holds, known before the first state is.

    Attributes:
      channels: variables and levels on the last axis of the states.
      grid: rows and columns of the states.
      init_times: `[start]` datetime64, initialisation times.
      lead_times: `[lead]` timedelta64, after the initialisation.
      num_members: length of the states' member axis; None where they have none.
      provenance: what made the forecasts, as global attributes: configuration hash,
        checkpoint, git commit, data store; `title`, `institution` and `source` too.

    Raises:
      ValueError: no starts or no leads, repeated ones, or leads that do not ascend.
    """

    channels: ChannelIndex
    grid: LatLonGrid
    init_times: np.ndarray
    lead_times: np.ndarray
    num_members: int | None = None
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
            # One start twice would be two files of one name.
            found, counts = np.unique(values, return_counts=True)
            if np.any(counts > 1):
                raise ValueError(f'{name} holds {found[counts > 1][0]} twice')
            # Frozen from here on, with one type whatever was given.
            object.__setattr__(self, name, values.astype(dtype))
        if np.any(np.diff(self.lead_times) < np.timedelta64(0)):
            raise ValueError(f'expected ascending lead_times, got {self.lead_times}')

    def only(self, starts: np.ndarray) -> Self:
        """The same for some of the starts."""
        return dataclasses.replace(self, init_times=self.init_times[starts])

    @property
    def levels(self) -> tuple[int, ...]:
        """Every level of any variable, hPa, from the top down."""
        return tuple(sorted({c.level for c in self.channels if c.level is not None}))

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Shape of one state, `[lat, lon, channel]`, members first where there are."""
        members = () if self.num_members is None else (self.num_members,)
        return (*members, *self.grid.shape, len(self.channels))

    def dims(self, variable: str) -> tuple[str, ...]:
        """Dimensions of `variable` in the schema of WeatherBench 2.

        Members are its `number`, as in the ensembles that it publishes.
        """
        members = () if self.num_members is None else ('number',)
        levels = ('level',) if self.channels.levels[variable] else ()
        return (
            'time',
            'prediction_timedelta',
            *members,
            *levels,
            'latitude',
            'longitude',
        )

    def netcdf_dims(self, variable: str) -> tuple[str, ...]:
        """Dimensions of `variable` in a netCDF file: CF wants members on the left."""
        _, _, *others = self.dims(variable)
        members = () if self.num_members is None else ('realization',)
        return (*members, 'time', *others[len(members) :])

    def fields(self, state: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Takes a state apart.

        Args:
          state: `[lat, lon, channel]`, SI units; members first where there are.

        Yields:
          Name and float32 values `[level, lat, lon]` of each variable, or `[lat, lon]`
          where it has no levels; members first. All variables share `levels`; those
          that a variable lacks are NaN, as in the stores of WeatherBench 2.
        """
        for name, levels in self.channels.levels.items():
            if not levels:
                yield name, state[..., self.channels[name, None]]
                continue
            shape = (*state.shape[:-3], len(self.levels), *self.grid.shape)
            values = np.full(shape, np.nan, np.float32)
            for level in levels:
                place = self.levels.index(level)
                values[..., place, :, :] = state[..., self.channels[name, level]]
            yield name, values

    def check_values(
        self, lead: int, states: np.ndarray, *, starts: slice | None = None
    ) -> None:
        """Refuses values that no atmosphere has, before they are written.

        A model that grows without bound passes any limit within a few steps, so the
        limits are wide: the plausible range of a variable and its width once more on
        either side, which for temperature is from -90 to 570 K. No forecast that is
        merely bad comes near.

        Args:
          lead: position of the lead time.
          states: `[start, lat, lon, channel]`, SI units; members after the start.
          starts: which of the starts the states belong to.

        Raises:
          FloatingPointError: a value is not finite or implausible; names start, lead
            time and channel.
        """
        # By start and channel, members together: one message names one of each.
        flat = states.reshape(len(states), -1, states.shape[-1])
        # NaN is passed on by both, and then lies within no limits.
        lowest, highest = flat.min(axis=1), flat.max(axis=1)
        limits = np.array([_limits(channel.variable) for channel in self.channels])
        below, above = ~(lowest >= limits[:, 0]), ~(highest <= limits[:, 1])
        bad = np.argwhere(below | above)
        if not bad.size:
            return
        first, channel = bad[0]
        value = (lowest if below[first, channel] else highest)[first, channel]
        start = range(len(self.init_times))[starts or slice(None)][first]
        units = get_variable(self.channels.channels[channel].variable).units
        least, most = limits[channel]
        what = (
            f'is implausible, {value:.3g} {units} where {least:g} to {most:g} are '
            'accepted,'
            if np.isfinite(value)
            else 'is not finite'
        )
        more = f' and {len(bad) - 1} more fields' if bad[1:].size else ''
        raise FloatingPointError(
            f'{self.describe(start, lead)} {what} in {self.channels.channels[channel]}'
            f'{more}: the model has become unstable; try another checkpoint, train '
            'longer, or with more rollout steps'
        )

    def describe(self, start: int, lead: int) -> str:
        """Names one field of the forecasts, for messages."""
        init_time = self.init_times[start].astype('datetime64[m]')
        hours = self.lead_times[lead] / np.timedelta64(1, 'h')
        return f'the forecast from {init_time} at {hours:g} h'

    @functools.cached_property
    def _history(self) -> str:
        # One time for all files of one command: xarray joins what says the same.
        now = datetime.datetime.now(datetime.UTC).strftime('%Y-%m-%dT%H:%M:%SZ')
        return f'{now} written by weather.forecasting.export'

    def attributes(self) -> dict[str, str | int]:
        """Global attributes: conventions, grid and provenance."""
        return {
            **_GLOBAL_ATTRIBUTES,
            'history': self._history,
            'grid_kind': self.grid.kind,
            'grid_num_lat': self.grid.num_lat,
            'grid_num_lon': self.grid.num_lon,
            **self.provenance,
        }

    def coordinates(self) -> xr.Dataset:
        """The schema of WeatherBench 2 without its fields, with encoding for Zarr."""
        since, unit = _since(self.init_times), _unit(self.lead_times)
        return xr.Dataset(
            coords={
                'time': xr.Variable(
                    'time', self.init_times, None, {'units': since, 'dtype': 'i8'}
                ),
                # xarray adds dtype='timedelta64[ns]' to the attributes, which is what
                # makes readers (and WeatherBench 2) see a time and not a number.
                'prediction_timedelta': xr.Variable(
                    'prediction_timedelta',
                    self.lead_times,
                    None,
                    {'units': unit, 'dtype': 'i8'},
                ),
                **self._members('number'),
                **self._spatial(),
            },
            attrs=self.attributes(),
        )

    def netcdf_coordinates(self, start: int) -> xr.Dataset:
        """A file of CF-1.11 without its fields, with encoding for netCDF."""
        init_time = self.init_times[start : start + 1]
        valid_times = init_time + self.lead_times

        def named(standard_name: str, long_name: str, **more: str) -> dict[str, str]:
            return {'standard_name': standard_name, 'long_name': long_name, **more}

        no_leaps = {'units_metadata': 'leap_seconds: none'}
        spelt = {
            'units': _since(np.append(init_time, valid_times)),
            'calendar': 'proleptic_gregorian',
            'dtype': 'f8',
            '_FillValue': None,
        }
        return xr.Dataset(
            coords={
                'time': xr.Variable(
                    'time',
                    valid_times,
                    named('time', 'valid time', axis='T', **no_leaps),
                    # By default an unlimited axis gets chunks of a megabyte. The lead
                    # time is said to belong to the time and not, as CF has it, to each
                    # field: CDO warns of every field that says so.
                    {
                        **spelt,
                        'chunksizes': valid_times.shape,
                        'coordinates': 'forecast_period',
                    },
                ),
                'forecast_reference_time': xr.Variable(
                    'forecast_reference_time',
                    init_time,
                    named('forecast_reference_time', 'initialisation time', **no_leaps),
                    spelt,
                ),
                'forecast_period': xr.Variable(
                    'time',
                    self.lead_times,
                    named('forecast_period', 'lead time'),
                    {
                        'units': _unit(self.lead_times),
                        'dtype': 'i4',
                        'chunksizes': valid_times.shape,
                    },
                ),
                **self._members('realization'),
                **self._spatial(),
            },
            attrs=self.attributes(),
        )

    def _members(self, name: str) -> dict[str, xr.Variable]:
        if self.num_members is None:
            return {}
        return {
            name: xr.Variable(name, np.arange(self.num_members, dtype='i4'), _MEMBER)
        }

    def _spatial(self) -> dict[str, xr.Variable]:
        """Levels in hPa (if any), latitudes and longitudes in degrees."""
        values = {
            'level': np.array(self.levels, np.int32),
            'latitude': self.grid.latitudes,
            'longitude': self.grid.longitudes,
        }
        return {
            # xarray would say how missing ones look, and CF allows coordinates none.
            name: xr.Variable(name, of, dict(CF_ATTRIBUTES[name]), {'_FillValue': None})
            for name, of in values.items()
            if of.size
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
      states: `[start, lead, lat, lon, channel]`, SI units; members after the lead.
      layout: what the states hold.
    """
    starts = [[dict(layout.fields(state)) for state in start] for start in states]
    return layout.coordinates().assign(
        {
            name: (
                layout.dims(name),
                np.array([[fields[name] for fields in leads] for leads in starts]),
                variable_attributes(name),
            )
            for name in layout.channels.variables
        }
    )


def _limits(variable: str) -> tuple[float, float]:
    """What is accepted of a variable: its plausible range, three times as wide."""
    least, most = get_variable(variable).plausible
    return least - (most - least), most + (most - least)


def _since(times: np.ndarray) -> str:
    return f'{_unit(times)} since {EPOCH}'


def _unit(times: np.ndarray) -> str:
    """Hours where every time, or difference of times, is whole hours; else seconds."""
    # Whole numbers in either unit: a fraction of hours would be rounded.
    hour = np.timedelta64(1, 'h').astype('timedelta64[ns]').astype(int)
    return 'seconds' if np.any(times.astype(int) % hour) else 'hours'
