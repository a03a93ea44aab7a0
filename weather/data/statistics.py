"""Statistics of an atmosphere: mean, spread, and spread of the change over a step.

They are computed once per training period, streamed through memory, and kept as a small
netCDF with what they were computed from. The same pass finds the times that no window
may touch, because a channel is not finite there: reading is what takes the time.
"""

from __future__ import annotations

import concurrent.futures
import datetime
import logging
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import xarray

from learning.addresses import place, reading
from learning.files import MARK, replacing
from learning.provenance import code_version
from sphere_ops.grid import LatLonGrid
from weather.data.blocks import select_levels
from weather.data.spread import Spread, Spreads, stream
from weather.data.times import common_timestep
from weather.outputs import STATISTICS
from weather.variables import Channel, ChannelIndex, as_level

_LOGGER = logging.getLogger(__name__)

# A spread below what float32 resolves beside the mean is that of a constant field.
_CONSTANT = 1e-7
_NO_LEVEL = -1
# Variables read at a time: one waits for its chunks while another is added up. More
# would take more memory and, on the few cores that this runs on, no less time.
_THREADS = 2
_BELOW_GROUND = (
    'finite everywhere at no time of the period (missing below the ground?); '
    "prepare.below_ground='fill' of scripts/prepare_data.py fills what is below the "
    'ground; or leave it out of the config'
)
_FORMULA = (
    'mean and std: over longitude and time with equal weights, over latitude with the '
    'area between cell bounds halfway to the neighbours; tendency_std: the same std of '
    'x(t + timestep) - x(t) over all pairs of times one timestep apart; times at which '
    'a channel has a value that is not finite, or which a check of the store found '
    'faulty, are left out for that channel'
)


class DamagedError(ValueError):
    """A file that cannot be read: a crash or a full disk cut it short."""


class Scan(NamedTuple):
    """What one pass over a period finds.

    Attributes:
      statistics: mean, std and tendency std of every channel, see `scan`.
      invalid_times: `[time]` datetime64[ns], ascending, at which a channel has a value
        that is not finite.
    """

    statistics: xarray.Dataset
    invalid_times: np.ndarray


def compute_statistics(
    dataset: xarray.Dataset, channels: ChannelIndex, **options: Any
) -> xarray.Dataset:
    """Returns mean, std and tendency std of every channel: a part of `scan`."""
    return scan(dataset, channels, **options).statistics


def scan(
    dataset: xarray.Dataset,
    channels: ChannelIndex,
    *,
    start: str | np.datetime64 | None = None,
    end: str | np.datetime64 | None = None,
    timestep: np.timedelta64 | None = None,
    source: str | None = None,
    max_bytes: int = 2**25,
    unusable: Mapping[Channel, np.ndarray] = MappingProxyType({}),
) -> Scan:
    """Computes the statistics of every channel and finds the invalid times.

    Variables are read in blocks of times, each time once, and enter running moments in
    float64 (see `spread`), so that memory does not depend on the number of times nor
    the result on the blocks.

    Args:
      dataset: canonical atmosphere from `store.open_store`.
      channels: what is wanted.
      start: first date, included; None for the first of the store.
      end: last date, included (all hours of it); None for the last of the store.
      timestep: model step; None for the store's.
      source: path or address of the store, for the record.
      max_bytes: size of a block in float64; one time at least.
      unusable: by channel, times that are not to be used although they are finite.

    Returns:
      The invalid times, those unusable among them, and a Dataset with `mean`, `std`
      (SI), `tendency_std` (SI per step), `num_times` and `num_pairs`, all `[channel]`,
      coordinates `variable` and `level` (-1 for none) along channel, and provenance in
      its attributes.

    Raises:
      ValueError: a channel that is missing, constant, never changes or is never
        finite, or a period with fewer than two times; names the channel or period.
    """
    _check_present(dataset, channels)
    period = _period(dataset, start, end)
    grid = LatLonGrid.from_latitudes_longitudes(
        dataset.latitude.values, dataset.longitude.values
    )
    times = dataset.time.values
    step = common_timestep(times) if timestep is None else timestep

    def read(variable: str) -> Spreads:
        levels = channels.levels[variable]
        field = select_levels(dataset[variable], levels)
        _LOGGER.info('statistics of %s: %d times', variable, times[period].size)
        excluded = excluded_times(times, variable, levels, unusable)
        return stream(
            field, period, step, grid.area_weights, max_bytes, excluded=excluded
        )

    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        spreads = list(pool.map(read, channels.variables))
    traits = Traits(source, times[period], step, grid)
    return from_spreads(spreads, channels, traits)


def excluded_times(
    times: np.ndarray,
    variable: str,
    levels: Sequence[float],
    unusable: Mapping[Channel, np.ndarray],
) -> np.ndarray:
    """Returns `[time, level]` flags of what is `unusable` (see `scan`)."""
    columns = [
        np.isin(times, unusable.get(Channel(variable, level), ()))
        for level in levels or (None,)
    ]
    return np.stack(columns, axis=1)


class Traits(NamedTuple):
    """Of what statistics are: source, `[time]` times, model step and grid."""

    source: str | None
    times: np.ndarray
    step: np.timedelta64
    grid: LatLonGrid


def from_spreads(
    spreads: Sequence[Spreads], channels: ChannelIndex, traits: Traits
) -> Scan:
    """Returns what `scan` does, from the spreads of the variables of `channels`.

    Raises:
      ValueError: as `scan`.
    """
    statistics = _checked(_to_dataset(spreads, channels, _provenance(*traits)))
    usable = np.logical_and.reduce([of_variable.usable for of_variable in spreads])
    return Scan(statistics, traits.times[~usable])


def save_statistics(statistics: xarray.Dataset, path: str | os.PathLike[str]) -> None:
    """Writes netCDF to `path`, which appears whole or not at all."""
    with replacing(path) as temporary:
        statistics.to_netcdf(temporary)


def load_statistics(
    path: str | os.PathLike[str], channels: ChannelIndex
) -> xarray.Dataset:
    """Reads what `save_statistics` wrote: exactly `channels`, in their order.

    Raises:
      ValueError: no such file, a channel that it lacks, or numbers that cannot be
        statistics of an atmosphere; `DamagedError` for a file that cannot be read.
    """
    if not place(path).is_file():
        raise ValueError(
            f'no statistics at {path}; make them with scripts/compute_statistics.py'
        )
    try:
        with reading(path) as copy:
            with xarray.open_dataset(copy, engine='netcdf4') as dataset:
                loaded = dataset.load()
    except (OSError, RuntimeError, ValueError) as error:
        raise DamagedError(
            f'cannot read the statistics in {path}: {error}; the file is empty, '
            'truncated or damaged: delete it to have it made again'
        ) from error
    return _checked(select_channels(loaded, channels))


def select_channels(
    statistics: xarray.Dataset, channels: ChannelIndex
) -> xarray.Dataset:
    """Returns the statistics of `channels`, in their order.

    Raises:
      ValueError: naming the channels that the statistics lack.
    """
    position = {channel: i for i, channel in enumerate(_channels_of(statistics))}
    missing = [channel for channel in channels if channel not in position]
    if missing:
        raise ValueError(
            f'the statistics lack {", ".join(map(str, missing))}; compute them anew '
            'with scripts/compute_statistics.py and the variables of this config'
        )
    return statistics.isel(channel=[position[channel] for channel in channels])


def summary(statistics: xarray.Dataset) -> str:
    """Returns a table for the eye, with the ratio of tendency_std to std.

    The ratio is the forecaster's check: near 1 means that a step is as long as the
    memory of the field, and exactly 1 everywhere that something was copied.
    """
    lines = [f'{"channel":32}{"mean":>12}{"std":>12}{"tendency std":>14}{"ratio":>8}']
    rows = zip(
        _channels_of(statistics),
        statistics['mean'].values,
        statistics['std'].values,
        statistics['tendency_std'].values,
        strict=True,
    )
    for channel, mean, std, tendency in rows:
        lines.append(
            f'{str(channel):32}{mean:12.4g}{std:12.4g}{tendency:14.4g}'
            f'{tendency / std:8.3f}'
        )
    return '\n'.join(lines)


def _check_present(dataset: xarray.Dataset, channels: ChannelIndex) -> None:
    levels = dataset['level'].values if 'level' in dataset.coords else ()
    missing = [
        channel
        for channel in channels
        if channel.variable not in dataset
        or (channel.level is not None and channel.level not in levels)
    ]
    if missing:
        raise ValueError(
            f'the store lacks {", ".join(map(str, missing))}; it has variables '
            f'{", ".join(map(str, dataset.data_vars))} and levels {list(levels)}'
        )


def _period(dataset: xarray.Dataset, start: Any, end: Any) -> slice:
    """Positions of the times from `start` to the end of `end`."""
    period = dataset.indexes['time'].slice_indexer(start, end)
    if period.stop - period.start < 2:
        raise ValueError(
            f'expected at least two times from {start} to {end} for statistics, found '
            f'{max(period.stop - period.start, 0)}; the store covers '
            f'{_date(dataset, 0)} to {_date(dataset, -1)}'
        )
    return slice(period.start, period.stop)


def _date(dataset: xarray.Dataset, position: int) -> str:
    return str(dataset.time.values[position].astype('datetime64[s]'))


def _provenance(
    source: str | None, times: np.ndarray, step: np.timedelta64, grid: LatLonGrid
) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC)
    return {
        MARK: STATISTICS.name,
        'title': 'Statistics of an atmosphere per channel',
        'store': 'in memory' if source is None else str(source),
        'first_time': str(times[0].astype('datetime64[s]')),
        'last_time': str(times[-1].astype('datetime64[s]')),
        'num_times': times.size,
        'timestep_hours': step / np.timedelta64(1, 'h'),
        'grid': f'{grid.kind}, {grid.num_lat} latitudes x {grid.num_lon} longitudes',
        'source': f'spherecast {code_version()}',
        'created': now.isoformat(timespec='seconds'),
        'comment': _FORMULA,
    }


def _to_dataset(
    spreads: Sequence[Spreads], channels: ChannelIndex, attributes: dict[str, Any]
) -> xarray.Dataset:
    state, tendency = (
        Spread(*map(np.concatenate, zip(*of_kind, strict=True)))
        for of_kind in zip(*((of.state, of.tendency) for of in spreads), strict=True)
    )
    levels = [_NO_LEVEL if c.level is None else c.level for c in channels]
    columns = {
        'mean': state.mean,
        'std': state.std,
        'tendency_std': tendency.std,
        'num_times': state.num_times,
        'num_pairs': tendency.num_times,
    }
    return xarray.Dataset(
        {name: ('channel', values) for name, values in columns.items()},
        coords={
            'variable': ('channel', [channel.variable for channel in channels]),
            'level': ('channel', _level_axis(levels), {'units': 'hPa'}),
        },
        attrs=attributes,
    )


def _level_axis(levels: Sequence[float]) -> np.ndarray:
    """Integers where all are whole, as most stores have them and version 0.1 wrote."""
    whole = all(level == int(level) for level in levels)
    return np.asarray(levels, np.int32 if whole else np.float64)


def _channels_of(statistics: xarray.Dataset) -> list[Channel]:
    return [
        Channel(str(variable), None if level == _NO_LEVEL else as_level(level))
        for variable, level in zip(
            statistics['variable'].values, statistics['level'].values, strict=True
        )
    ]


def _checked(statistics: xarray.Dataset) -> xarray.Dataset:
    """Returns the statistics, if they can be those of an atmosphere."""
    mean, std, tendency, times, pairs = (
        statistics[name].values
        for name in ('mean', 'std', 'tendency_std', 'num_times', 'num_pairs')
    )
    # From |a - b|^2 <= 2 |a|^2 + 2 |b|^2, each time being in at most two pairs.
    largest = 2 * np.sqrt(times / np.maximum(pairs, 1)) * std * (1 + 1e-9)
    bad_by_reason = {
        _BELOW_GROUND: times == 0,
        'of zero standard deviation, or one that is not a number: a constant field '
        'cannot be scaled; leave it out of the config, or repair the '
        'store': ~(std > _CONSTANT * np.abs(mean)),
        'without two finite times one time step apart, so without a tendency; choose '
        'another period': pairs == 0,
        'of zero tendency standard deviation, or one that is not a number: a field '
        'that never changes needs no forecast; leave it out of the '
        'config': ~(tendency > _CONSTANT * std),
        'of a tendency standard deviation larger than its standard deviation allows: '
        'the file is damaged; compute it anew': tendency > largest,
        'of a tendency standard deviation that is a copy of the standard deviation; '
        'compute the statistics anew': np.full(std.shape, (std == tendency).all()),
    }
    channels = _channels_of(statistics)
    # The first reason that fits is said: those below may follow from it.
    for reason, bad in bad_by_reason.items():
        if bad.any():
            named = ', '.join(str(channels[i]) for i in np.flatnonzero(bad))
            raise ValueError(f'statistics of channels {reason}: {named}')
    return statistics
