"""The check of a store: everything opened, every time read, every fault listed."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import tqdm

from sphere_ops.grid import area_weights
from weather.data import sources
from weather.data.axes import Axes, expect_grid, order_axes
from weather.data.decoding import DecodedVariable
from weather.data.faults import ALL, TIME, Fault, FaultList, read_faults
from weather.data.identity import version
from weather.data.joining import open_parts
from weather.data.parts import Part
from weather.data.record import Record
from weather.data.stored_field import StoredField
from weather.data.times import common_timestep
from weather.doctor import earlier, scanning, time_axis, verdicts
from weather.doctor.scanning import Scanned, Selection
from weather.doctor.verdicts import Note, Series
from weather.experiment import Experiment
from weather.variables import VARIABLES, as_level

_LOGGER = logging.getLogger(__name__)

_DIMS = ('time', 'level', 'latitude', 'longitude')
# What a record alone cannot show.
_NEEDS_READING = ('missing chunk', 'unreadable', 'checksum')


class Report(NamedTuple):
    """What a check found.

    Attributes:
      listed: the faults, also those of an earlier check that this one did not look at.
      notes: what is to be known, and is no fault.
      times: `[time]` datetime64[ns], those looked at.
      levels: hPa, by name of the variables looked at; empty for one without.
      summary: a line on what the store is and how it was looked at.
    """

    listed: FaultList
    notes: list[Note]
    times: np.ndarray
    levels: Mapping[str, tuple[float, ...]]
    summary: str


class Scope(NamedTuple):
    """What of a store is looked at, and how.

    Attributes:
      setup: experiment whose variables, levels and grid are wanted; None for all known
        variables on any grid.
      start: first date, included.
      end: last date, included.
      quick: whether the record of a prepared store is believed and nothing read.
      max_bytes: size of a block that is read, one time at least.
    """

    setup: Experiment | None = None
    start: str | None = None
    end: str | None = None
    quick: bool = False
    max_bytes: int = scanning.MAX_BYTES

    @property
    def is_whole(self) -> bool:
        """Whether it is everything that the store holds."""
        return (self.setup, self.start, self.end) == (None, None, None)


def check_store(
    source: str,
    scope: Scope | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> Report:
    """Looks at every time of a store, or of a part of it, and names what is wrong.

    Raises:
      ValueError: there is no store, it holds no variable that the project knows, or it
        is to be judged by a record that it does not have.
    """
    opened = sources.open_stores(source, storage_options)
    address = opened[0].address if len(opened) == 1 else str(source)
    for one in opened:
        one.close()
    try:
        part = open_parts(source, storage_options, None)
        axes = order_axes(part.coordinates, part.address)
    except ValueError as error:
        # Something is there, and its axes make no sense: no field can be placed.
        kind = 'calendar' if 'calendar' in str(error) else 'axes'
        found = [Fault(ALL, None, None, kind, str(error))]
        listed = FaultList(address, {}, found)
        return Report(listed, [], np.empty(0, 'M8[ns]'), {}, 'cannot be opened')
    try:
        return _Check(source, scope or Scope(), part, axes, storage_options).run()
    finally:
        part.close()


class _Check:
    """One check of one store."""

    def __init__(self, source: str, scope: Scope, part: Part, axes: Axes, options: Any):
        self.source, self.scope, self.part, self.axes = source, scope, part, axes
        self.faults: list[Fault] = []
        self.notes: list[Note] = []
        self.options = options
        self.record = Record.open(source, options)
        if scope.quick and self.record is None:
            raise ValueError(
                f'expected the record of a prepared store in {source} to judge by, '
                'found none; check it without --quick'
            )
        self.all_times = axes.coordinates.get('time', np.empty(0, 'datetime64[ns]'))
        self.part_of_times = self._inside(scope)
        self.times = self.all_times[self.part_of_times]
        latitude = axes.coordinates['latitude']
        self.weights = area_weights(latitude) if latitude.size > 1 else np.ones(1)

    def _inside(self, scope: Scope) -> slice:
        """The times that are looked at; not none where some are asked for."""
        index = pd.DatetimeIndex(self.all_times)
        try:
            part = index.slice_indexer(scope.start, scope.end)
        # What pandas raises for what is no date, and for times that are in no order.
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(
                f'expected dates such as 2020-01-31 to begin and end at, of times in '
                f'order, got {scope.start} and {scope.end}'
            ) from error
        if index.size and not index[part].size:
            raise ValueError(
                f'expected times from {scope.start} to {scope.end} in {self.source}, '
                f'which has {index[0]} to {index[-1]}: nothing would be looked at'
            )
        return part

    def run(self) -> Report:
        names = self._names()
        self._look_at_axes()
        versions: dict[str, str | None] = {}
        levels = {}
        total = sum(self.times.size for name in names if self._is_moving(name))
        with tqdm.tqdm(
            total=total,
            desc='checking',
            unit='field',
            mininterval=1,
            disable=self.scope.quick or not sys.stderr.isatty(),
        ) as bar:
            for name in names:
                field = self._field(name)
                if field is None:
                    continue
                bar.set_postfix_str(name)
                self._look_at(field, bar)
                versions[name] = version(field)
                levels[name] = self._stored_levels(field)
        listed = self._with_earlier(FaultList(self.part.address, versions, self.faults))
        self._renew(versions)
        return Report(listed, self.notes, self.times, levels, self._summary())

    def _names(self) -> list[str]:
        """Variables to look at; those that are wanted and absent are faults."""
        known = [name for name in VARIABLES if name in self.part.variables]
        setup = self.scope.setup
        asked = (
            known if setup is None else [*setup.data.stored.levels, *setup.data.statics]
        )
        for name, reason in self.part.refused.items():
            if name in VARIABLES and (setup is None or name in asked):
                kind = 'units' if 'units' in reason else 'axes'
                self.faults.append(Fault(name, None, None, kind, reason))
        for name in asked:
            if name not in self.part.variables and name not in self.part.refused:
                self.faults.append(
                    Fault(name, None, None, 'absent', 'not in the store')
                )
        if setup is None and not known and not self.faults:
            raise ValueError(
                f'expected variables that the project knows in {self.source}, found '
                f'{", ".join(self.part.variables)}; known are {", ".join(VARIABLES)}'
            )
        unknown = sorted(set(self.part.variables) - set(VARIABLES))
        if unknown and setup is None:
            text = f'unknown, and not looked at: {", ".join(unknown)}'
            self.notes.append(Note(ALL, None, text))
        return [name for name in asked if name in self.part.variables]

    def _look_at_axes(self) -> None:
        setup = self.scope.setup
        try:
            if setup is not None:
                expect_grid(self.axes, self.source, setup.grid)
        except ValueError as error:
            self.faults.append(Fault(ALL, None, None, 'grid', str(error)))
        if 'time' not in self.axes.coordinates:
            detail = 'there is no axis of times'
            self.faults.append(Fault(ALL, None, None, 'axes', detail))
            return
        self.faults += [
            fault
            for fault in time_axis.time_faults(self.part.coordinates['time'])
            if self._is_looked_at(fault)
        ]
        periods = None
        if setup is not None:
            periods = [setup.data.train, setup.data.validation, setup.data.test]
        gaps = time_axis.gaps(self.times, periods)
        if self.record is None:
            self.faults += gaps
        else:
            # Made so: between its periods, or where its source has a gap.
            texts = (f'{gap.detail}, after {_text(gap.time)}' for gap in gaps)
            self.notes += [Note(TIME, None, text) for text in texts]

    def _is_looked_at(self, fault: Fault) -> bool:
        return fault.time is None or bool(np.isin(fault.time, self.times))

    def _is_moving(self, name: str) -> bool:
        dims = self.part.variables[name].dims
        return 'time' in dims and VARIABLES[name].role != 'static'

    def _field(self, name: str) -> StoredField | None:
        variable = self.part.variables[name]
        sizes = dict(zip(variable.dims, variable.shape, strict=True))
        foreign = [dim for dim, n in sizes.items() if dim not in _DIMS and n > 1]
        if foreign or not {'latitude', 'longitude'} <= set(sizes):
            detail = f'has the axes {variable.dims}'
            self.faults.append(Fault(name, None, None, 'axes', detail))
            return None
        positions = {d: p for d, p in self.axes.positions.items() if d in _DIMS}
        times = self.part.coordinates.get('time', np.empty(0, 'datetime64[ns]'))
        return StoredField(
            name=name,
            source=self.part.address,
            variable=variable,
            positions=positions,
            times=times,
        )

    def _look_at(self, field: StoredField, bar: tqdm.tqdm) -> None:
        name, stored = field.name, self._stored_levels(field)
        wanted, setup = list(stored), self.scope.setup
        if setup is not None and stored:
            wanted = list(setup.data.stored.levels.get(name, stored))
            for level in sorted(set(wanted) - set(stored)):
                detail = f'the store has the levels {list(stored)}'
                self.faults.append(Fault(name, level, None, 'absent', detail))
        levels = [level for level in stored if level in wanted]
        places = [stored.index(level) for level in levels] if stored else [0]
        if not self._is_moving(name):
            nothing = np.zeros(1, 'datetime64[ns]')
            self._judge(field, self._scan_static(field), places, levels, nothing)
            return
        recorded = self._recorded(name, stored)
        if self.scope.quick and recorded is not None:
            scanned = scanning.from_summary(recorded.summary(name, self.part_of_times))
        else:
            # A checksum is that of all levels together.
            read = list(range(len(stored))) if recorded is not None else places
            scanned = self._scan(field, read if stored else None, bar)
            self._compare(name, scanned, recorded)
            if recorded is None and stored:
                places = list(range(len(places)))
        self._judge(field, scanned, places, levels, self.times)

    def _stored_levels(self, field: StoredField) -> tuple[float, ...]:
        if 'level' not in field.dims:
            return ()
        return tuple(map(as_level, self.axes.coordinates['level'].tolist()))

    def _recorded(self, name: str, stored: tuple[float, ...]) -> Record | None:
        """The record, if it is of this variable."""
        record = self.record
        if record is None or record.levels.get(name) != stored:
            return None
        return record if np.array_equal(record.times, self.all_times) else None

    def _scan(
        self, field: StoredField, levels: list[int] | None, bar: tqdm.tqdm
    ) -> Scanned:
        times = np.arange(self.all_times.size)[self.part_of_times]
        return scanning.scan(
            field,
            Selection(times, None if levels is None else np.array(levels)),
            self.weights,
            raw=self._raw(field.name),
            max_bytes=self.scope.max_bytes,
            progress=bar.update,
        )

    def _scan_static(self, field: StoredField) -> Scanned:
        """Of one time, if the store repeats it for all."""
        positions = {**field.positions, 'time': np.zeros(1, int)}
        levels = None
        if 'level' in field.dims:
            levels = np.arange(field.positions['level'].size)
        return scanning.scan(
            dataclasses.replace(field, positions=positions),
            Selection(np.zeros(1, int), levels),
            self.weights,
            raw=self._raw(field.name),
        )

    def _raw(self, name: str) -> sources.RawVariable | None:
        """The one array behind a variable, if it is one."""
        variable = self.part.variables[name]
        return variable.raw if isinstance(variable, DecodedVariable) else None

    def _compare(self, name: str, scanned: Scanned, record: Record | None) -> None:
        if record is None:
            return
        expected = record.checksums(name)[self.part_of_times]
        differs = scanned.summary.checksum != expected
        for time in np.flatnonzero(differs):
            detail = 'the values are not those that were written'
            self.faults.append(Fault(name, None, self.times[time], 'checksum', detail))

    def _judge(
        self,
        field: StoredField,
        scanned: Scanned,
        places: list[int],
        levels: list[float],
        times: np.ndarray,
    ) -> None:
        scanned = scanning.select(scanned, slice(0, len(times)), places)
        unique = np.unique(self.all_times)
        step = common_timestep(unique) if unique.size > 1 else None
        size = field.shape[-2] * field.shape[-1]
        asked = self.scope.setup is not None
        every = len(levels) == len(self._stored_levels(field))
        series = Series(field.name, levels, times, step, size, every, asked)
        verdict = verdicts.judge(series, scanned)
        moving = self._is_moving(field.name)
        self.faults += [f if moving else f._replace(time=None) for f in verdict.faults]
        self.notes += verdict.notes

    def _with_earlier(self, listed: FaultList) -> FaultList:
        """Adds what an earlier check found where this one did not look."""
        try:
            found = read_faults(
                self.part.address, self.scope.setup, storage_options=self.options
            )
        except ValueError as error:
            _LOGGER.warning('%s', error)
            return listed
        setup = self.scope.setup
        looked = earlier.Looked(
            set(listed.versions),
            {} if setup is None else setup.data.stored.levels,
            self.times,
            _NEEDS_READING if self.scope.quick else (),
        )
        return listed if found is None else earlier.join(listed, found, looked)

    def _renew(self, looked_at: Mapping[str, str | None]) -> None:
        """Makes a record believed again that was found to be true of all fields."""
        record = self.record
        if record is None or self.scope.quick or not self.scope.is_whole:
            return
        if not record.is_older_than_its_fields() or set(record.levels) - set(looked_at):
            return
        if any(fault.fault in _NEEDS_READING for fault in self.faults):
            return
        try:
            record.renew()
            _LOGGER.info('every field agrees with the record: it is in use again')
        except OSError as error:
            _LOGGER.info('the record cannot be renewed: %s', error)

    def _summary(self) -> str:
        if not self.times.size:
            return 'no times'
        how = 'judged by its record, nothing was read' if self.scope.quick else 'read'
        grid = self.axes.grid
        rows, columns = (self.axes.sizes[d] for d in ('latitude', 'longitude'))
        on = f'{grid.kind}, {rows} x {columns}' if grid else f'{rows} x {columns}'
        return (
            f'{self.times.size} times from {_text(self.times[0])} to '
            f'{_text(self.times[-1])}, grid {on}; {how}'
        )


def _text(time: Any) -> str:
    return str(time.astype('datetime64[s]'))
