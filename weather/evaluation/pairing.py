"""Which fields of forecasts, truth and climatology belong together."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from learning.spelling import did_you_mean
from sphere_ops.grid import LatLonGrid
from weather.data.store import refused
from weather.evaluation import normals, readers, shared
from weather.evaluation.regions import Region, extent

# Forecasts are read in blocks of lead times of about this size; two exist at a time.
BLOCK_BYTES = 2**27
BASELINES = ('persistence', 'climatology')


@dataclasses.dataclass(frozen=True)
class Pairing:
    """What is compared with what.

    Attributes:
      forecasts, truth, climatology: datasets in canonical order on one grid.
      models: names in the order of the result, the forecasts first.
      levels: levels scored of every variable, `(None,)` for a surface variable.
      not_scored: the reason, by name, of what is not scored.
      rows: `[start]`, positions of the starts in the forecasts.
      leads: `[lead]`, positions in the forecasts.
      init: `[start]`, positions of the starts in the truth; -1 where it has none and
        persistence is not asked for.
      valid: `[start, lead]`, positions of the valid times in the truth.
    """

    forecasts: xr.Dataset
    truth: xr.Dataset
    climatology: xr.Dataset | None
    models: tuple[str, ...]
    levels: dict[str, tuple[float | None, ...]]
    not_scored: dict[str, str]
    rows: np.ndarray
    leads: np.ndarray
    init: np.ndarray
    valid: np.ndarray

    @property
    def lead_times(self) -> np.ndarray:
        """`[lead]`, timedelta64."""
        return self.forecasts.prediction_timedelta.values[self.leads]

    @property
    def num_starts(self) -> int:
        """How many starts are compared."""
        return len(self.rows)

    @property
    def starts(self) -> np.ndarray:
        """`[start]`, datetime64."""
        return self.forecasts.time.values[self.rows]

    def units(self, name: str) -> str | None:
        """Units of a variable's scores: those of the truth."""
        return self.truth[name].attrs.get('units')

    def thinned(self, max_starts: int | None) -> Pairing:
        """The same with at most `max_starts` starts, spread evenly."""
        if max_starts is None or max_starts >= self.num_starts:
            return self
        # Spread over the whole period, for a season is not a year.
        chosen = np.linspace(0, self.num_starts - 1, max_starts).round().astype(int)
        return dataclasses.replace(
            self,
            rows=self.rows[chosen],
            init=self.init[chosen],
            valid=self.valid[chosen],
        )

    def forecast_fields(self, *names: str) -> Iterator[tuple]:
        """Yields (start, lead, field of each of `names`), in order.

        Fields are `[member, level, lat, lon]`, with one member where the forecasts have
        no such axis. Variables that are read together have the same levels.
        """
        arrays = [
            readers.LevelArray(
                self.forecasts[name], self.levels[name], self.units(name)
            )
            for name in names
        ]
        blocks = list(self._blocks(names))
        reads = [functools.partial(self._read, arrays, *block) for block in blocks]
        read_ahead = readers.read_ahead(reads)
        for (start, part), fields in zip(blocks, read_ahead, strict=True):
            for offset, of_lead in enumerate(zip(*fields, strict=True)):
                yield start, part.start + offset, *of_lead

    def _blocks(self, names: Sequence[str]) -> Iterator[tuple[int, slice]]:
        """Starts, and the lead times that are read at once."""
        of_one_lead = {'time': 0, 'prediction_timedelta': 0}
        nbytes = sum(self.forecasts[name][of_one_lead].nbytes for name in names)
        per_read = max(1, BLOCK_BYTES // nbytes)  # A single one may be larger.
        for start in range(self.num_starts):
            for first in range(0, self.leads.size, per_read):
                yield start, slice(first, min(first + per_read, self.leads.size))

    def _read(
        self, arrays: Sequence[readers.LevelArray], start: int, part: slice
    ) -> list[np.ndarray]:
        """Fields `[lead, member, level, lat, lon]` of each variable."""
        at = {'time': int(self.rows[start]), 'prediction_timedelta': self.leads[part]}
        return [array.read('prediction_timedelta', 'member', **at) for array in arrays]

    def climatology_reader(
        self, name: str, cache: readers.BlockCache
    ) -> Callable[[int], np.ndarray] | None:
        """Returns a function from the position of a valid time to its climatology.

        `None` where there is no climatology of that variable.
        """
        if self.climatology is None or self.climatology_lacks(name):
            return None
        return normals.reader(
            self.climatology[name],
            pd.DatetimeIndex(self.truth.time.values),
            levels=self.levels[name],
            cache=cache,
            wanted_units=self.units(name),
        )

    def climatology_lacks(self, name: str) -> str | None:
        """Why a climatology serves a variable not, if so."""
        if self.climatology is None or name not in self.climatology:
            reasons = {} if self.climatology is None else refused(self.climatology)
            return reasons.get(name, 'not in the climatology')
        variable = self.climatology[name]
        if 'dayofyear' not in variable.dims:
            return 'no axis dayofyear in the climatology'
        if ('level' in variable.dims) != (self.levels[name] != (None,)):
            return 'a level axis in only one of truth and climatology'
        if readers.conversion(variable, self.units(name)) is None:
            return f'units {variable.attrs["units"]!r} in the climatology'
        return None

    def describe(self) -> dict[str, str | int]:
        """Grid, starts and members in words, for the reader of the scores."""
        starts = np.datetime_as_string(self.starts, 'm').tolist()
        words: dict[str, str | int] = {
            'grid': describe_grid(self.truth),
            'num_starts': self.num_starts,
            'first_start': starts[0],
            'last_start': starts[-1],
            'starts': ' '.join(starts),
        }
        if 'member' in self.forecasts.dims:
            words['members'] = self.forecasts.sizes['member']
        return words


def pair(
    forecasts: xr.Dataset,
    truth: xr.Dataset,
    climatology: xr.Dataset | None,
    *,
    levels: shared.Levels | None,
    lead_times: Sequence[np.timedelta64] | None,
    model: str,
    baselines: Iterable[str] | None,
) -> Pairing:
    """Checks that the sources fit together and pairs their times.

    Datasets are in canonical order, the other arguments those of `evaluate`.

    Raises:
      ValueError: sources that do not fit together; the message says where.
    """
    readers.check_same_grid(forecasts, truth, 'forecast')
    if climatology is not None:
        readers.check_same_grid(climatology, truth, 'climatology')
    chosen = _select_baselines(baselines, climatology)
    if model in BASELINES:  # Tables tell models apart by their names.
        raise ValueError(
            f'forecasts cannot be called {model!r}, as a baseline is; choose another '
            '--model_name'
        )
    selection = shared.select(forecasts, truth, levels)
    leads = _select_leads(forecasts, lead_times)
    times = _pair_times(forecasts, truth, leads, 'persistence' in chosen)
    if climatology is not None:
        normals.check_days(climatology, truth.time.values[np.unique(times.valid)])
    return Pairing(
        forecasts=forecasts,
        truth=truth,
        climatology=climatology,
        models=(model, *chosen),
        levels=selection.levels,
        not_scored={**selection.not_scored, **times.not_scored},
        rows=times.rows,
        leads=times.leads,
        init=times.init,
        valid=times.valid,
    )


def describe_grid(dataset: xr.Dataset) -> str:
    """The canonical dataset's grid in words, such as `gauss, 32 x 64 (lat x lon)`.

    Of a limited area its bounds as well.
    """
    latitudes, longitudes = dataset.latitude.values, dataset.longitude.values
    try:
        grid = LatLonGrid.from_latitudes_longitudes(latitudes, longitudes)
        kind = grid.kind
    except ValueError:
        # Scores need no quadrature: any rows and columns will do.
        kind = 'rectilinear'
    covered = extent(latitudes, longitudes)
    bounds = '' if covered == Region() else f', {covered}'
    return f'{kind}, {latitudes.size} x {longitudes.size} (lat x lon){bounds}'


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
    # pandas would take bare numbers for nanoseconds.
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


class _Times(NamedTuple):
    """Which start and lead time is compared with which time: see `Pairing`."""

    rows: np.ndarray
    leads: np.ndarray
    init: np.ndarray
    valid: np.ndarray
    not_scored: dict[str, str]


def _pair_times(
    forecasts: xr.Dataset, truth: xr.Dataset, leads: np.ndarray, needs_initial: bool
) -> _Times:
    """Finds starts and valid times in the truth.

    A start with a time that the truth lacks is left out at all lead times: every lead
    time is then a mean over the same starts. Where that leaves no start (6-hourly lead
    times, 12-hourly truth), lead times go instead, those first that the fewest starts
    have.
    """
    truth_times = truth.indexes['time']
    lead_times = pd.TimedeltaIndex(forecasts.prediction_timedelta.values[leads])
    init_times = pd.DatetimeIndex(forecasts.time.values)
    init = truth_times.get_indexer(init_times)
    valid = np.stack(
        [truth_times.get_indexer(init_times + lead) for lead in lead_times], axis=1
    )
    usable = valid >= 0
    # Persistence is what the truth held at the start.
    if needs_initial:
        usable &= (init >= 0)[:, None]
    kept = _leads_in_common(usable)
    complete = usable[:, kept].all(axis=1)
    span = (
        f'the truth goes from {truth_times[0]} to {truth_times[-1]}, starts from '
        f'{init_times[0]} to {init_times[-1]} with leads to {lead_times.max()}'
    )
    if not kept.size:
        raise ValueError(
            'the truth holds the initial and valid times of no start at any lead time: '
            f'{span}; give the truth of that time'
        )
    not_scored = {
        f'lead time {lead / np.timedelta64(1, "h"):g} h': 'the truth holds its valid '
        'time at no start that is scored'
        for lead in lead_times.delete(kept)
    }
    if not complete.all():
        name = f'{(~complete).sum()} of {complete.size} starts'
        not_scored[name] = f'times are lacking ({span})'
    rows = np.flatnonzero(complete)
    return _Times(rows, leads[kept], init[rows], valid[np.ix_(rows, kept)], not_scored)


def _leads_in_common(usable: np.ndarray) -> np.ndarray:
    """Lead times, of `usable` `[start, lead]`, that at least one start has all of."""
    if usable.all(axis=1).any():
        return np.arange(usable.shape[1])
    complete, kept = np.ones(len(usable), bool), []
    # Those of many starts first, which so leave the most starts to the others.
    for lead in np.argsort(-usable.sum(axis=0), kind='stable'):
        if (complete & usable[:, lead]).any():
            complete &= usable[:, lead]
            kept.append(lead)
    return np.sort(np.array(kept, int))
