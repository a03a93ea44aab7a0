"""Which fields of forecasts, truth and climatology belong together."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from learning.spelling import did_you_mean
from sphere_ops.grid import LatLonGrid
from weather.evaluation import sources
from weather.variables import VARIABLES

_LOGGER = logging.getLogger(__name__)

# Forecasts are read in blocks of lead times of about this size; two exist at a time.
BLOCK_BYTES = 2**27
BASELINES = ('persistence', 'climatology')
Levels = Mapping[str, Sequence[int]]


@dataclasses.dataclass(frozen=True)
class Pairing:
    """What is compared with what.

    Attributes:
      forecasts, truth, climatology: datasets in canonical order on one grid.
      models: names in the order of the result, the forecasts first.
      levels: levels scored of every variable, `(None,)` for a surface variable.
      starts: `[start]`, positions in the forecasts.
      leads: `[lead]`, positions in the forecasts.
      init: `[start]`, positions of the starts in the truth.
      valid: `[start, lead]`, positions of the valid times in the truth.
    """

    forecasts: xr.Dataset
    truth: xr.Dataset
    climatology: xr.Dataset | None
    models: tuple[str, ...]
    levels: dict[str, tuple[int | None, ...]]
    starts: np.ndarray
    leads: np.ndarray
    init: np.ndarray
    valid: np.ndarray

    @property
    def lead_times(self) -> np.ndarray:
        """`[lead]`, timedelta64."""
        return self.forecasts.prediction_timedelta.values[self.leads]

    def thinned(self, max_starts: int | None) -> Pairing:
        """The same with at most `max_starts` starts, spread evenly."""
        if max_starts is None or max_starts >= self.starts.size:
            return self
        chosen = np.linspace(0, self.starts.size - 1, max_starts).round().astype(int)
        return dataclasses.replace(
            self,
            starts=self.starts[chosen],
            init=self.init[chosen],
            valid=self.valid[chosen],
        )

    def forecast_fields(self, name: str) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yields (start, lead, field `[level, lat, lon]`) of one variable, in order."""
        variable = self.forecasts[name]
        array = sources.LevelArray(variable, self.levels[name])
        field_bytes = variable[{'time': 0, 'prediction_timedelta': 0}].nbytes
        per_read = max(1, BLOCK_BYTES // field_bytes)
        blocks = [
            (start, first)
            for start in range(self.starts.size)
            for first in range(0, self.leads.size, per_read)
        ]
        reads = [
            functools.partial(
                array.read,
                'prediction_timedelta',
                time=int(self.starts[start]),
                prediction_timedelta=self.leads[first : first + per_read],
            )
            for start, first in blocks
        ]
        read_ahead = sources.read_ahead(reads)
        for (start, first), fields in zip(blocks, read_ahead, strict=True):
            for offset, field in enumerate(fields):
                yield start, first + offset, field

    def climatology_reader(
        self, name: str, cache: sources.BlockCache
    ) -> Callable[[int], np.ndarray] | None:
        """Returns a function from the position of a valid time to its climatology.

        `None` where there is no climatology of that variable.
        """
        if self.climatology is None or name not in self.climatology:
            return None
        readers = {
            hour: sources.FieldReader(
                of_hour, 'dayofyear', levels=self.levels[name], cache=cache
            )
            for hour, of_hour in _by_hour(self.climatology[name]).items()
        }
        times = pd.DatetimeIndex(self.truth.time.values)
        days = pd.Index(self.climatology.dayofyear.values)
        positions = days.get_indexer(times.day_of_year).tolist()
        hours = [None] * len(times) if None in readers else times.hour.tolist()

        def read(valid: int) -> np.ndarray:
            # `pair` has checked that day and hour are there.
            return readers[hours[valid]](positions[valid])

        return read

    def describe(self) -> dict[str, str | int]:
        """Grid and starts in words, for the reader of the scores."""
        times = self.truth.indexes['time'][self.init]
        return {
            'grid': describe_grid(self.truth),
            'num_starts': int(self.starts.size),
            'first_start': str(times[0]),
            'last_start': str(times[-1]),
        }


def pair(
    forecasts: xr.Dataset,
    truth: xr.Dataset,
    climatology: xr.Dataset | None,
    *,
    levels: Levels | None,
    lead_times: Sequence[np.timedelta64] | None,
    model: str,
    baselines: Iterable[str] | None,
) -> Pairing:
    """Checks that the sources fit together and pairs their times.

    Args:
      forecasts: in canonical order, as are the others.
      truth: what they are scored against.
      climatology: what anomalies are departures from.
      levels: as in `evaluate`.
      lead_times: as in `evaluate`.
      model: as in `evaluate`.
      baselines: as in `evaluate`.

    Raises:
      ValueError: sources that do not fit together; the message says where.
    """
    sources.check_same_grid(forecasts, truth, 'forecast')
    if climatology is not None:
        sources.check_same_grid(climatology, truth, 'climatology')
    chosen = _select_baselines(baselines, climatology)
    if model in BASELINES:
        raise ValueError(
            f'forecasts cannot be called {model!r}, as a baseline is; choose another '
            '--model_name'
        )
    leads = _select_leads(forecasts, lead_times)
    starts, init, valid = _pair_times(forecasts, truth, leads)
    if climatology is not None:
        check_days(climatology, truth.time.values[np.unique(valid)])
    return Pairing(
        forecasts=forecasts,
        truth=truth,
        climatology=climatology,
        models=(model, *chosen),
        levels=select_levels(forecasts, truth, levels),
        starts=starts,
        leads=leads,
        init=init,
        valid=valid,
    )


def describe_grid(dataset: xr.Dataset) -> str:
    """The canonical dataset's grid in words, such as `gauss, 32 x 64 (lat x lon)`."""
    latitudes, longitudes = dataset.latitude.values, dataset.longitude.values
    try:
        grid = LatLonGrid.from_latitudes_longitudes(latitudes, longitudes)
        kind = grid.kind
    except ValueError:
        # Scores need no quadrature: any rows and columns will do.
        kind = 'rectilinear'
    return f'{kind}, {latitudes.size} x {longitudes.size} (lat x lon)'


def select_levels(
    forecasts: xr.Dataset, truth: xr.Dataset, levels: Levels | None
) -> dict[str, tuple[int | None, ...]]:
    """Levels to score of every variable: those asked for, or all in both sources.

    Raises:
      ValueError: nothing in common, or something asked for that one of them lacks.
    """
    shared = {}
    for name in sorted(map(str, forecasts.data_vars), key=_rank):
        dims = set(forecasts[name].dims)
        if {'time', 'prediction_timedelta', 'latitude', 'longitude'} <= dims:
            if name in truth and 'time' in truth[name].dims:
                shared[name] = _shared_levels(forecasts[name], truth[name])
    shared = {name: of_name for name, of_name in shared.items() if of_name}
    if not shared:
        raise ValueError(
            'forecast and truth have no variable at a common level: '
            f'{sorted(map(str, forecasts))} and {sorted(map(str, truth))}'
        )
    if levels is None:
        return shared
    for name, of_name in levels.items():
        if name not in shared:
            raise ValueError(
                f'{name!r} is not in both forecast and truth'
                f'{did_you_mean(name, shared)}; they share {", ".join(shared)}'
            )
        lacking = sorted(set(of_name or (None,)) - set(shared[name]), key=str)
        if lacking:
            raise ValueError(
                f'{name} is not in both forecast and truth at {lacking}; '
                f'they share its levels {shared[name]}'
            )
    return {name: tuple(of_name) or (None,) for name, of_name in levels.items()}


def check_days(climatology: xr.Dataset, valid_times: np.ndarray) -> None:
    """Raises `ValueError` unless `climatology` covers the days and hours wanted."""
    times = pd.DatetimeIndex(valid_times)
    days = _days_and_hours(climatology)
    wanted = pd.MultiIndex.from_arrays(
        [
            times.day_of_year,
            times.hour if 'hour' in climatology.dims else 0 * times.hour,
        ]
    )
    lacking = wanted.difference(days)
    if len(lacking):
        raise ValueError(
            f'the climatology has no data for {len(lacking)} of {len(times)} valid '
            f'times: days of the year {_runs(lacking.get_level_values(0))} at hours '
            f'{sorted(set(lacking.get_level_values(1)))} UTC; compute it from a period '
            'that covers them, or with a wider --window_days'
        )


def _days_and_hours(climatology: xr.Dataset) -> pd.MultiIndex:
    """Pairs (day of the year, hour) that hold data; hour 0 where there is no hour."""
    hours = climatology.hour.values if 'hour' in climatology.dims else [0]
    days = climatology.dayofyear.values
    # Climatologies of this project say where the window had no sample.
    sampled = np.ones((len(hours), len(days)), bool)
    if 'num_samples' in climatology:
        sampled = climatology.num_samples.transpose('hour', 'dayofyear').values > 0
    hour, day = np.nonzero(sampled)
    return pd.MultiIndex.from_arrays([days[day], np.asarray(hours)[hour]])


def _runs(days: pd.Index) -> str:
    """Days as runs: `1 to 3, 7`."""
    distinct = np.unique(days)
    runs = np.split(distinct, np.nonzero(np.diff(distinct) > 1)[0] + 1)
    return ', '.join(
        f'{run[0]} to {run[-1]}' if run.size > 1 else f'{run[0]}' for run in runs
    )


def _by_hour(variable: xr.DataArray) -> dict[int | None, xr.DataArray]:
    """Lazy parts of a climatology by hour; `None` for one that serves every hour."""
    if 'hour' not in variable.dims:
        return {None: variable}
    hours = variable.hour.values
    return {int(hour): variable.isel(hour=i) for i, hour in enumerate(hours)}


def _rank(name: str) -> tuple[int, str]:
    """Order of variables: as the project lists them, then by name."""
    known = list(VARIABLES)
    return known.index(name) if name in known else len(known), name


def _shared_levels(one: xr.DataArray, other: xr.DataArray) -> tuple[int | None, ...]:
    """Levels in both, in ascending order; `(None,)` where neither has the axis."""
    if 'level' not in one.dims and 'level' not in other.dims:
        return (None,)
    if 'level' not in one.dims or 'level' not in other.dims:
        return ()
    return tuple(int(level) for level in np.intersect1d(one.level, other.level))


def _select_baselines(
    baselines: Iterable[str] | None, climatology: xr.Dataset | None
) -> tuple[str, ...]:
    if baselines is None:
        return BASELINES if climatology is not None else BASELINES[:1]
    chosen = tuple(baselines)
    for name in chosen:
        if name not in BASELINES:
            raise ValueError(
                f'unknown baseline {name!r}{did_you_mean(name, BASELINES)}; '
                f'baselines are {", ".join(BASELINES)}'
            )
    if 'climatology' in chosen and climatology is None:
        raise ValueError('the baseline climatology needs a climatology store')
    return chosen


def _select_leads(
    forecasts: xr.Dataset, lead_times: Sequence[np.timedelta64] | None
) -> np.ndarray:
    """Positions of the lead times asked for."""
    found = pd.TimedeltaIndex(forecasts.prediction_timedelta.values)
    if lead_times is None:
        return np.arange(len(found))
    wanted = np.asarray(lead_times)
    if wanted.dtype.kind != 'm':
        raise ValueError(
            f'expected lead times as timedelta64, got {wanted.dtype}; write '
            "np.arange(6, 126, 6) * np.timedelta64(1, 'h')"
        )
    positions = found.get_indexer(pd.TimedeltaIndex(wanted))
    if (positions < 0).any():
        raise ValueError(
            f'the forecasts have no lead times of {_hours(wanted[positions < 0])} '
            f'hours; they have {_hours(found.to_numpy())}'
        )
    return positions


def _hours(lead_times: np.ndarray) -> list[float]:
    return (lead_times / np.timedelta64(1, 'h')).tolist()


def _pair_times(
    forecasts: xr.Dataset, truth: xr.Dataset, leads: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions of the starts, and of starts and valid times in the truth.

    A start with a time that the truth lacks is left out at all lead times: every lead
    time is then a mean over the same starts.
    """
    init_times = forecasts.indexes['time']
    truth_times = truth.indexes['time']
    if truth_times.has_duplicates:
        raise ValueError('the truth holds the same time twice; drop the duplicates')
    init = truth_times.get_indexer(init_times)
    lead_times = forecasts.indexes['prediction_timedelta'][leads]
    valid = np.stack(
        [truth_times.get_indexer(init_times + lead) for lead in lead_times], axis=1
    )
    complete = (init >= 0) & (valid >= 0).all(axis=1)
    span = (
        f'truth from {truth_times[0]} to {truth_times[-1]}, starts from '
        f'{init_times[0]} to {init_times[-1]} with leads to {lead_times.max()}'
    )
    if not complete.any():
        raise ValueError(
            f'the truth holds the initial and all valid times of no start: {span}; '
            'give a longer truth or fewer lead times'
        )
    if not complete.all():
        _LOGGER.warning(
            'scored %d of %d starts: the truth lacks times of the others (%s)',
            complete.sum(),
            complete.size,
            span,
        )
    return np.nonzero(complete)[0], init[complete], valid[complete]
