"""Preparation: what is computed from the data once and found again by every run.

Statistics and the search for missing values read a period through from end to end. Both
are made in one pass, kept under a key of the data themselves (`identity.fingerprint`),
the period, the channels and the step (`shelf`), and found again by whoever asks for the
same. A prepared store has a `record` of every field, from which they come in seconds.

Times that a check of the store found faulty (`faults`) are left out of both.

A run directory has copies, for the record: statistics.nc and invalid_times.json.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
import logging
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import xarray

from learning.files import MARK, remove, replacing
from learning.provenance import code_version
from weather.data.faults import unusable_times
from weather.data.identity import believed_record, fingerprint
from weather.data.record import Record
from weather.data.shelf import KEY, digest, keeping, preparation_folder
from weather.data.statistics import (
    DamagedError,
    Scan,
    load_statistics,
    save_statistics,
    scan,
)
from weather.data.store import Atmosphere
from weather.data.windows import invalid_times, model_step
from weather.entries import not_after
from weather.experiment import Experiment
from weather.variables import Channel, ChannelIndex
from weather.workdir import Workdir

_LOGGER = logging.getLogger(__name__)
_Value = TypeVar('_Value')

_STATISTICS, _INVALID_TIMES = 'statistics.nc', 'invalid_times.json'


@dataclasses.dataclass(frozen=True)
class Preparation:
    """What a run needs to know of its data before it begins.

    Attributes:
      statistics: mean, std and tendency std of the training period, by channel.
      invalid_times: `[time]` datetime64[ns], ascending: times of the training and
        validation periods at which a channel is not finite somewhere, or that a check
        found faulty.
    """

    statistics: xarray.Dataset
    invalid_times: np.ndarray


def prepare(
    setup: Experiment,
    atmosphere: Atmosphere,
    *,
    timestep: np.timedelta64 | None = None,
) -> Preparation:
    """Finds, or else computes and keeps, what the data of an experiment need.

    A folder that cannot be written to stops nothing: then every run computes anew.
    `timestep` is that of the model; None for the store's.

    Raises:
      ValueError: a channel that cannot be scaled, or a chunk that cannot be read.
    """
    return _prepare(*_parts(setup, atmosphere, timestep))


def _prepare(training: _Part, validation: _Part) -> Preparation:
    scanned = training.scan()
    found = [scanned.invalid_times, validation.search()]
    # Each once: the periods may overlap.
    return Preparation(scanned.statistics, np.unique(np.concatenate(found)))


def prepare_run(
    setup: Experiment,
    atmosphere: Atmosphere,
    files: Workdir,
    *,
    timestep: np.timedelta64 | None = None,
) -> Preparation:
    """Like `prepare`, for a run directory: with its own copies where it has them.

    A copy that a crash left empty or cut short is made again. One of data that have
    changed since is made again too, unless the run has checkpoints: it goes on with
    what it began with, and its scales are those of the checkpoint in any case.

    Raises:
      ValueError: as `prepare`; or statistics of another store or period.
    """
    started = files.checkpoints.is_dir() and any(files.checkpoints.iterdir())
    parts = functools.lru_cache(lambda: _parts(setup, atmosphere, timestep))
    statistics = _unless_damaged(files.statistics, load_statistics, setup.data.stored)
    invalid = _unless_damaged(files.invalid_times, _read_times)
    if statistics is not None:
        key = statistics.attrs.get(KEY)
        _check_period(statistics, setup, files)
        if key is None and not started:
            _check_store(statistics, setup, files)
        elif not started:
            training, validation = parts()
            if key != training.key:
                _LOGGER.info('%s has changed since: prepared anew', atmosphere.source)
                statistics = invalid = None
            elif (
                invalid is not None
                and not np.isin(validation.unusable_times, invalid).all()
            ):
                invalid = None  # Found by a check since.
    if statistics is None or invalid is None:
        prepared = _prepare(*parts())
        if statistics is None:
            statistics = prepared.statistics
            save_statistics(statistics, files.statistics)
        if invalid is None:
            invalid = prepared.invalid_times
            with replacing(files.invalid_times) as temporary:
                temporary.write_text(json.dumps([str(time) for time in invalid]))
    return Preparation(statistics, invalid)


def forget(setup: Experiment, atmosphere: Atmosphere) -> None:
    """Removes what `prepare` keeps for an experiment, so that it computes anew."""
    for part in _parts(setup, atmosphere):
        remove(part.folder)


def _parts(
    setup: Experiment, atmosphere: Atmosphere, timestep: np.timedelta64 | None = None
) -> tuple[_Part, _Part]:
    """The training period and the validation period."""
    data = setup.data
    if timestep is None:
        timestep = model_step(atmosphere.times, data.timestep_hours)
    record = believed_record(atmosphere, data.storage_options)
    unusable = unusable_times(setup, atmosphere)

    def part(period: tuple[str, str]) -> _Part:
        home = preparation_folder(setup)
        return _Part(atmosphere, data.stored, period, home, timestep, record, unusable)

    return part(data.train), part(data.validation)


@dataclasses.dataclass(frozen=True)
class _Part:
    """A period, first and last date included, of a data set."""

    atmosphere: Atmosphere
    channels: ChannelIndex
    period: tuple[str, str]
    home: pathlib.Path
    step: np.timedelta64
    record: Record | None
    unusable: Mapping[Channel, np.ndarray]

    @functools.cached_property
    def key(self) -> str:
        """Name of what is computed: of the data, the channels, period and step."""
        return self._key()

    @property
    def folder(self) -> pathlib.Path:
        """Where it is kept."""
        return self.home / self.key

    def scan(self) -> Scan:
        """Statistics and invalid times of the period, found or computed."""
        if self.record is not None:
            recorded = self.record.scan(
                self.channels, self.period, self.step, unusable=self.unusable
            )
            if recorded is not None:
                recorded.statistics.attrs[KEY] = self.key
                return recorded
        try:
            statistics = load_statistics(self.folder / _STATISTICS, self.channels)
            # The store may have been moved since.
            statistics.attrs['store'] = self.atmosphere.source
            return Scan(statistics, self._load_invalid_times())
        except (OSError, ValueError) as error:
            self._missed(error, 'statistics and missing values')
        first, last = self.period
        made = scan(
            self.atmosphere.dataset,
            self.channels,
            start=first,
            end=last,
            timestep=self.step,
            source=self.atmosphere.source,
            unusable=self.unusable,
        )
        made.statistics.attrs[KEY] = self.key
        self._keep(made.invalid_times, made.statistics)
        return made

    def search(self) -> np.ndarray:
        """Invalid times of the period, found or searched for."""
        if self.record is not None:
            return self._with_unusable(
                self.record.invalid_times(self.channels.levels, self.period)
            )
        try:
            return self._load_invalid_times()
        except (OSError, ValueError) as error:
            self._missed(error, 'missing values')
        dataset = self.atmosphere.dataset.isel(time=self._positions)
        if self._faulty:
            # Not read: they may be unreadable.
            usable = ~np.isin(dataset['time'].values, self.unusable_times)
            dataset = dataset.isel(time=usable)
        found = self._with_unusable(invalid_times(dataset, self.channels.levels))
        self._keep(found)
        return found

    @functools.cached_property
    def _faulty(self) -> dict[Channel, np.ndarray]:
        """The unusable times within the period."""
        times = self.atmosphere.times[self._positions]
        found = {k: times[np.isin(times, of)] for k, of in self.unusable.items()}
        return {channel: of for channel, of in found.items() if of.size}

    @property
    def unusable_times(self) -> np.ndarray:
        """Times of the period that a check found faulty in a channel in use."""
        nothing = self.atmosphere.times[:0]
        return np.unique(np.concatenate([nothing, *self._faulty.values()]))

    def _with_unusable(self, times: np.ndarray) -> np.ndarray:
        return np.union1d(times, self.unusable_times)

    @property
    def _positions(self) -> slice:
        return self.atmosphere.dataset.indexes['time'].slice_indexer(*self.period)

    def _key(self) -> str:
        levels = {name: self.channels.levels[name] for name in self.channels.variables}
        traits = [
            fingerprint(self.atmosphere, levels, self._positions, record=self.record),
            [str(channel) for channel in self.channels],
            int(self.step / np.timedelta64(1, 's')),
        ]
        if self._faulty:
            # By channel: a time that is bad in one counts in the moments of others.
            faulty = {
                str(channel): times.astype('datetime64[s]').astype(str).tolist()
                for channel, times in self._faulty.items()
            }
            traits.append(sorted(faulty.items()))
        return digest(traits)

    def _load_invalid_times(self) -> np.ndarray:
        return _read_times(self.folder / _INVALID_TIMES)

    def _missed(self, error: Exception, what: str) -> None:
        # Nothing there is ordinary; something that cannot be used wants a word.
        if self.folder.is_dir():
            _LOGGER.info('%s', error)
        _LOGGER.info(
            'reading %s from %s to %s for %s',
            self.atmosphere.source,
            *self.period,
            what,
        )

    def _keep(
        self, invalid: np.ndarray, statistics: xarray.Dataset | None = None
    ) -> None:
        # Asked anew: what changed meanwhile must not be found under what it was.
        if self._key() != self.key:
            _LOGGER.info('%s changed while it was read', self.atmosphere.source)
            return
        record = {
            MARK: 'invalid_times',
            'store': self.atmosphere.source,
            'first_time': self.period[0],
            'last_time': self.period[1],
            'source': f'spherecast {code_version()}',
            'created': datetime.datetime.now(datetime.UTC).isoformat(
                timespec='seconds'
            ),
            'invalid_times': [str(time) for time in invalid],
        }
        with keeping(self.home):
            if statistics is not None:
                save_statistics(statistics, self.folder / _STATISTICS)
            with replacing(self.folder / _INVALID_TIMES) as temporary:
                temporary.write_text(json.dumps(record, indent=2) + '\n')


def _read_times(path: pathlib.Path) -> np.ndarray:
    """Reads a list of times: bare, as in a run directory, or under its name."""
    try:
        record = json.loads(path.read_text('utf-8'))
        texts = record['invalid_times'] if isinstance(record, dict) else record
        return np.array(texts, 'datetime64[ns]')
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f'cannot read {path}: {error}') from error


def _unless_damaged(
    path: pathlib.Path, read: Callable[..., _Value], *arguments: Any
) -> _Value | None:
    """What a file of a run directory holds; None if it is missing or damaged."""
    if not path.exists():
        return None
    try:
        return read(path, *arguments)
    except DamagedError:
        _LOGGER.info('%s is empty, cut short or damaged: made again', path)
        return None


def _check_period(
    statistics: xarray.Dataset, setup: Experiment, files: Workdir
) -> None:
    """Refuses statistics of times outside the training period."""
    first, last = setup.data.train
    begin, end = (statistics.attrs[name] for name in ('first_time', 'last_time'))
    if not (first <= begin and not_after(end, last)):
        raise _foreign(statistics, setup, files)


def _check_store(statistics: xarray.Dataset, setup: Experiment, files: Workdir) -> None:
    """Refuses statistics of version 0.1, which have no key, of another store."""
    if statistics.attrs['store'] != setup.data.store:
        raise _foreign(statistics, setup, files)


def _foreign(
    statistics: xarray.Dataset, setup: Experiment, files: Workdir
) -> ValueError:
    first, last = setup.data.train
    found = (statistics.attrs[name] for name in ('store', 'first_time', 'last_time'))
    return ValueError(
        'expected statistics of {} from {} to {}, found those of {} from {} to {} in '
        '{}; delete that file, and {} beside it, to compute them again'.format(
            setup.data.store,
            first,
            last,
            *found,
            files.statistics,
            files.invalid_times.name,
        )
    )
