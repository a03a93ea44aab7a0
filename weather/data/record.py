"""The record of a prepared store: the summary of every field, kept beside the fields.

    STORE/summary/VARIABLE/{mean, variance, ...}  [time, level], see `summary.Summary`
    STORE/summary/VARIABLE/checksum               [time]
    STORE/summary/VARIABLE/done                   [time], 1 where the others are written

It is written while the store is, block by block, so that a run that was killed goes on
where it was. When all blocks are there, `RecordWriter.finish` joins them: tens of
thousands of small files are slow to read.

What is summarised has to be what a reader of the store gets: where the store is rounded
or packed, after that, and unpacked again.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import hashlib
import itertools
import json
import logging
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import xarray
import zarr

from sphere_ops.grid import LatLonGrid
from weather.data import sources
from weather.data.axes import read_coordinate
from weather.data.record_writer import DONE, GROUP, RecordWriter, column, variables
from weather.data.spread import Spreads, step_before
from weather.data.statistics import Scan, Traits, excluded_times, from_spreads
from weather.data.summary import Summary
from weather.data.times import common_timestep
from weather.variables import Channel, ChannelIndex, as_level

_LOGGER = logging.getLogger(__name__)

__all__ = ['Record', 'RecordWriter']
Period = tuple[str, str] | None


class Record:
    """What a prepared store says of its fields.

    Attributes:
      address: path or address of the store.
      times: `[time]` datetime64[ns].
      levels: in hPa, by variable; empty for one without.
      grid: of the fields.
      attributes: of the group `summary`, as the writer gave them.
    """

    def __init__(self, store: sources.RawStore, group: zarr.Group):
        """Wraps the group `summary` of a store; see `open`."""

        def axis(dim: str) -> np.ndarray:
            return read_coordinate(dim, dim, 0, store)

        self.address = store.address
        self.times = axis('time')
        self.grid = LatLonGrid.from_latitudes_longitudes(
            axis('latitude'), axis('longitude')
        )
        self.attributes = dict(group.attrs)
        self._store = store
        self._groups = variables(group)
        stated: Any = self.attributes.get('levels', {})
        self.levels = {
            name: self._levels(name, stated.get(name), axis) for name in self._groups
        }

    @classmethod
    def open(
        cls, address: str, storage_options: Mapping[str, Any] | None = None
    ) -> Record | None:
        """Returns the record of a store; None where it has none, or a partial one."""
        try:
            (store,) = sources.open_stores(address, storage_options)
            root = getattr(store, 'group', None)  # Of Zarr alone.
            group = root.get(GROUP) if isinstance(root, zarr.Group) else None
        except ValueError:  # Several stores, or none.
            return None
        if not isinstance(group, zarr.Group):
            return None
        try:
            record = cls(store, group)
            problem = record._problem()
        # Damaged bytes raise anything; whoever asks reads the data instead.
        except Exception as error:
            problem = f'cannot be read ({error})'
        if problem:
            _LOGGER.warning('the record of %s is not used: %s', address, problem)
            return None
        return record

    def _levels(self, name: str, stated: Any, axis: Any) -> tuple[float, ...]:
        if stated is not None:
            return tuple(map(as_level, stated))
        variable = self._store.variable(name)
        has_levels = variable is not None and 'level' in variable.dims
        return tuple(map(as_level, axis('level').tolist())) if has_levels else ()

    def _problem(self) -> str:
        """Why it is no record of this store; empty if it is one."""
        for name in self._groups:
            shape = (self.times.size, len(self.levels[name]) or 1)
            done = self._read(name, DONE)
            found = self._column(name, 'mean').shape
            if found != shape:
                return f'expected {name} of shape {shape}, found {found}'
            if not (done == 1).all():
                return f'{(done != 1).sum()} times of {name} are not written'
        return '' if self._groups else 'it holds no variable'

    def _column(self, variable: str, name: str) -> Any:
        return column(self._groups[variable], name)

    def _read(self, variable: str, name: str, part: slice = slice(None)) -> np.ndarray:
        return np.asarray(self._column(variable, name)[part])

    def summary(self, variable: str, part: slice = slice(None)) -> Summary:
        """The summary of a variable at consecutive positions in time, all levels."""
        return Summary(*(self._read(variable, name, part) for name in Summary._fields))

    def checksums(self, variable: str) -> np.ndarray:
        """`[time]` uint32: CRC-32C of every field, see `Summary`."""
        return self._read(variable, 'checksum')

    @functools.cached_property
    def digest(self) -> str:
        """What the data are, wherever they lie: 64 hexadecimal digits.

        Of all checksums, times, channels and how numbers are stored.
        """
        found = hashlib.sha256(self.times.tobytes())
        for name, levels in sorted(self.levels.items()):
            stored = self._store.variable(name)
            traits: list[Any] = [name, list(levels), str(self.grid)]
            if stored is not None:
                packing = {k: str(v) for k, v in sorted(stored.attributes.items())}
                traits += [str(stored.dtype), str(stored.fill_value), packing]
            found.update(json.dumps(traits).encode())
            found.update(self.checksums(name).tobytes())
        return found.hexdigest()

    def holds(self, levels: Mapping[str, Sequence[float]]) -> bool:
        """Whether every channel is among what is recorded."""
        return all(
            name in self.levels
            and bool(of) == bool(self.levels[name])
            and set(of) <= set(self.levels[name])
            for name, of in levels.items()
        )

    def scan(
        self,
        channels: ChannelIndex,
        period: Period = None,
        timestep: np.timedelta64 | None = None,
        *,
        unusable: Mapping[Channel, np.ndarray] = MappingProxyType({}),
    ) -> Scan | None:
        """What `statistics.scan` finds, without reading a field.

        Args:
          channels: what is wanted.
          period: first and last date, both included; None for all.
          timestep: model step; None for the store's.
          unusable: as of `statistics.scan`.

        Returns:
          None where it does not hold what is asked for: another step than the store's,
          a channel, or fewer than two times.

        Raises:
          ValueError: as `statistics.scan`.
        """
        part = self._positions(period)
        if not self.holds(channels.levels) or part.stop - part.start < 2:
            return None
        step = common_timestep(self.times)
        if timestep is not None and timestep != step:
            _LOGGER.info(
                'the record of %s holds changes over %s, not over the model step %s: '
                'the fields are read',
                self.address,
                *(f'{of / np.timedelta64(1, "h"):g} h' for of in (step, timestep)),
            )
            return None
        before = step_before(self.times, step, part)
        spreads = []
        for name, levels in channels.levels.items():
            bad = excluded_times(self.times, name, levels, unusable)
            found = self._of_levels(self.summary(name, part), name, levels)
            steps = before[part]
            spreads.append(Spreads.of(found, steps, bad[part], bad[steps]))
        traits = Traits(self.address, self.times[part], step, self.grid)
        return from_spreads(spreads, channels, traits)

    def statistics(
        self,
        channels: ChannelIndex,
        period: Period = None,
        timestep: np.timedelta64 | None = None,
    ) -> xarray.Dataset | None:
        """Statistics as those of `statistics.scan`; None as by `scan`."""
        found = self.scan(channels, period, timestep)
        return None if found is None else found.statistics

    def invalid_times(
        self, levels: Mapping[str, Sequence[float]], period: Period = None
    ) -> np.ndarray:
        """Times of a period, ascending, at which a channel is not finite somewhere.

        Raises:
          ValueError: a channel that is not recorded; ask `holds` first.
        """
        if not self.holds(levels):
            raise ValueError(
                f'expected channels among {dict(self.levels)} of the record of '
                f'{self.address}, got {dict(levels)}'
            )
        part = self._positions(period)
        bad = np.zeros(part.stop - part.start, bool)
        for name, of_name in levels.items():
            missing = self._read(name, 'num_missing', part)
            bad |= missing[:, self._places(name, of_name)].any(axis=1)
        return self.times[part][bad]

    def _positions(self, period: Period) -> slice:
        found = pd.DatetimeIndex(self.times).slice_indexer(*(period or (None, None)))
        return slice(found.start or 0, max(found.stop, found.start or 0))

    def _places(self, name: str, levels: Sequence[float]) -> list[int]:
        return [self.levels[name].index(level) for level in levels] or [0]

    def _of_levels(
        self, summary: Summary, name: str, levels: Sequence[float]
    ) -> Summary:
        places = self._places(name, levels)
        return Summary(*(of[:, places] if of.ndim > 1 else of for of in summary))

    def renew(self) -> None:
        """Makes it newer than its fields: for whoever compared all of them.

        Raises:
          OSError: it may not be written to.
        """
        os.utime(pathlib.Path(self.address, GROUP, 'zarr.json'))

    def is_older_than_its_fields(self) -> bool:
        """Whether, on a local disk, a chunk of a recorded variable changed after it.

        The folder of a chunk counts as well: it changes when a chunk is put there that
        says it is old, or is removed.
        """
        folder = pathlib.Path(self.address)
        if not folder.is_dir():
            return False
        written = _newest(folder / GROUP)

        def changed(name: str) -> bool:
            array = getattr(self._store.variable(name), 'array', None)
            return array is None or any(
                time > written for time in _times_of_change(array, folder / name)
            )

        # Waiting for the disk, and not for each other.
        with concurrent.futures.ThreadPoolExecutor() as pool:
            return any(pool.map(changed, self._groups))


def _newest(folder: pathlib.Path) -> int:
    """Time of the last change within a folder, ns."""
    return max(os.stat(path).st_mtime_ns for path in [folder, *folder.rglob('*')])


def _times_of_change(array: zarr.Array, folder: pathlib.Path) -> Iterator[int]:
    """When every chunk, or its folder, changed last, ns."""
    yield os.stat(folder / 'zarr.json').st_mtime_ns
    sizes = array.shards or array.chunks  # What is one file.
    numbers = [range(-(-n // k)) for n, k in zip(array.shape, sizes, strict=True)]
    last = ''
    # Each asked for by its name: to list so many folders would take ten times as long.
    for place in itertools.product(*numbers):
        path = f'{folder}/{array.metadata.encode_chunk_key(place)}'
        with contextlib.suppress(FileNotFoundError):
            yield os.stat(path).st_mtime_ns
        parent = os.path.dirname(path)
        while parent != last:
            try:
                yield os.stat(parent).st_mtime_ns
                last = parent
            except FileNotFoundError:
                parent = os.path.dirname(parent)
