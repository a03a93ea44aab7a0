"""One piece of the work: some variables at consecutive times, from source to store.

A task is pure and idempotent. It knows the plan alone, opens what it needs where it
runs (once per process), and done twice it writes the same bytes: that is what lets a
build be killed at any moment, and lets any engine run it anywhere.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import xarray
import zarr

from weather.building import reading
from weather.building.layout import DIMS, SUMMARY, with_empty_chunks
from weather.building.packing import PackingError, packing_error
from weather.building.plan import Plan
from weather.data.below_ground import fill_below_ground
from weather.data.blocks import time_blocks
from weather.data.record_writer import RecordWriter
from weather.data.regridding import Regridder, make_regridder
from weather.data.summary import summarise
from weather.variables import VARIABLES, wind_pairs

# Beside the columns of the record, for what is not stored as it is.
ERROR_COLUMNS = ('packing_square', 'packing_largest')
_VERTICAL = ('level', 'latitude', 'longitude')


class Task(NamedTuple):
    """Variables that are made together, at times `start` to before `stop`."""

    names: tuple[str, ...]
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Fields in time, levels not counted: for a bar of progress."""
        return len(self.names) * (self.stop - self.start)


def all_tasks(plan: Plan) -> list[Task]:
    """Every task of a plan, in order of time."""
    return [
        Task(names, start, min(start + plan.block, plan.times.size))
        for start in range(0, plan.times.size, plan.block)
        for names in plan.groups
    ]


def run(plan: Plan, task: Task) -> Task:
    """Reads, sums, regrids, fills, packs, writes, reads back, and records.

    Raises:
      ValueError: something cannot be read or made; names variable and time.
      OSError: it cannot be written.
    """
    workshop = Workshop.of(plan)
    # The time before comes along, for the change over a step at the first.
    before = task.start > 0 and workshop.follows(task.start)
    times = np.arange(task.start - before, task.stop)
    fields = workshop.make(task.names, times)
    for name, values in fields.items():
        workshop.store(name, task.start, values, has_before=before)
    return task


class Workshop:
    """What a process needs for the tasks of a plan: all that is opened once."""

    _lock = threading.Lock()
    _kept: dict[str, Workshop] = {}

    @classmethod
    def of(cls, plan: Plan) -> Workshop:
        """That of a plan, made when it is first asked for."""
        with cls._lock:
            key = f'{plan.output} {plan.describe()}'
            if key not in cls._kept:
                # Of one plan at a time: open sources hold memory.
                cls._kept = {key: cls(plan)}
            return cls._kept[key]

    @classmethod
    def close(cls) -> None:
        """Lets go of all."""
        with cls._lock:
            cls._kept = {}

    def __init__(self, plan: Plan, sources: Sequence[reading.Source] | None = None):
        """Opens the sources, where they are not given."""
        self.plan = plan
        self.setup = plan.experiment
        statics = self.setup.data.statics
        self.sources = sources or reading.open_sources(
            plan.sources,
            [*plan.levels, *statics],
            self.setup.prepare.source_options,
        )
        self.found = reading.locate(self.sources, plan.levels, statics)
        self._places: dict[str, reading.Places] = {}
        self._regridders: dict[tuple[int, str], Regridder] = {}
        self._arrays: dict[str, zarr.Array] = {}
        self._making = threading.RLock()

    def follows(self, position: int) -> bool:
        """Whether a time comes one step after the one before it."""
        times = self.plan.times
        return bool(times[position] - times[position - 1] == self.plan.step)

    def places(self, name: str) -> reading.Places:
        """Where the values of a variable lie."""
        with self._making:
            if name not in self._places:
                self._places[name] = reading.find_places(
                    name,
                    self.sources,
                    self.found[name],
                    self.plan.times,
                    self.plan.step,
                )
            return self._places[name]

    def regridder(self, number: int, name: str = '') -> Regridder:
        """That of a source, for a variable."""
        averaged = name in VARIABLES and VARIABLES[name].averaged
        kind = 'conservative' if averaged else self.setup.prepare.regridding
        with self._making:
            if (number, kind) not in self._regridders:
                dataset = self.sources[number].dataset
                self._regridders[number, kind] = make_regridder(
                    kind,
                    dataset['latitude'].values,
                    dataset['longitude'].values,
                    self.setup.grid,
                )
            return self._regridders[number, kind]

    def array(self, name: str) -> zarr.Array:
        """An array of the store."""
        with self._making:
            if name not in self._arrays:
                self._arrays[name] = self.plan.place.array(name)
            return self._arrays[name]

    @functools.cached_property
    def _summary(self) -> zarr.Group:
        return self.plan.place.group(SUMMARY, mode='r+')

    @functools.cached_property
    def record(self) -> RecordWriter:
        """The record of the store."""
        return RecordWriter(self._summary, self.plan.block)

    def make(self, names: Sequence[str], times: np.ndarray) -> dict[str, np.ndarray]:
        """Fields `[time, level, lat, lon]` at times of the store, on its grid."""
        num_levels = max(1, len(self.plan.axis))
        shape = self.setup.grid.shape
        fields = {
            name: np.full(
                (times.size, num_levels if self.plan.levels[name] else 1, *shape),
                np.nan,
                np.float32,
            )
            for name in names
        }
        for number in sorted({i for name in names for i in self.found[name]}):
            for together, here in self._together(names, times, number):
                for part in self._parts(together, times, here, number):
                    self._fill_in(fields, together, times, part, number)
        if self.setup.prepare.below_ground == 'fill':
            return self._fill_ground(fields)
        return fields

    def _together(
        self, names: Sequence[str], times: np.ndarray, number: int
    ) -> list[tuple[list[str], np.ndarray]]:
        """Variables that a source has at the same times, and these in `times`."""
        groups: dict[bytes, tuple[list[str], np.ndarray]] = {}
        for name in names:
            here = np.flatnonzero(self.places(name).source[times] == number)
            groups.setdefault(here.tobytes(), ([], here))[0].append(name)
        found = [(of, here) for of, here in groups.values() if here.size]
        if self.setup.prepare.regridding == 'spectral':
            for of, here in found:
                self._check_winds(names, of, times[here[0]], number)
        return found

    def _check_winds(
        self, names: Sequence[str], found: Sequence[str], time: int, number: int
    ) -> None:
        """Refuses one component of a wind without the other: harmonics mix them."""
        for pair in wind_pairs():
            both = {pair.eastward, pair.northward}
            if both <= set(names) and len(both & set(found)) == 1:
                raise ValueError(
                    f'expected {pair.eastward} and {pair.northward} in the same source '
                    f'at all times, found {self.sources[number].address} with one of '
                    f'them alone at {self._text(time)}; give one --source that has '
                    'both, or say prepare.regridding=conservative'
                )

    def _parts(
        self, names: Sequence[str], times: np.ndarray, here: np.ndarray, number: int
    ) -> list[np.ndarray]:
        """Cuts times, given as places in `times`, into what is read at once."""
        name = names[0]
        positions = self.places(name).positions[times[here]]
        num_parts = positions.shape[1] * len(names)
        field = _levels_of(self.sources[number].dataset[name], self.plan.levels[name])
        # In whole chunks of the source.
        blocks = time_blocks(
            field,
            positions[:, -1],
            max_bytes=max(1, self.plan.slab_bytes // num_parts),
        )
        borders = np.cumsum([block.size for block in blocks])[:-1]
        return np.split(here, borders)

    def _fill_in(
        self,
        fields: Mapping[str, np.ndarray],
        names: Sequence[str],
        times: np.ndarray,
        part: np.ndarray,
        number: int,
    ) -> None:
        """Reads and regrids one part of the times from one source."""
        read = {name: self._read(name, times[part], number) for name in names}
        made = self._regrid(read, number)
        holes = _holes(read)
        for name, values in made.items():
            self._check(name, holes[name], values, times[part])
            places = [self.plan.axis.index(of) for of in self.plan.levels[name]] or [0]
            fields[name][part[:, None], places] = values

    def _read(self, name: str, times: np.ndarray, number: int) -> np.ndarray:
        """Fields `[time, level, lat, lon]` of a source, its wanted levels."""
        levels = self.plan.levels[name]
        field = _levels_of(self.sources[number].dataset[name], levels)
        positions = self.places(name).positions[times]
        wanted, where = np.unique(positions, return_inverse=True)
        values = field.isel(time=wanted).transpose(*DIMS, missing_dims='ignore').values
        values = values.reshape(wanted.size, max(1, len(levels)), *values.shape[-2:])
        if positions.shape[1] == 1:
            return values
        where = where.reshape(positions.shape)
        return np.stack(
            [values[of_time].sum(axis=0, dtype=np.float64) for of_time in where]
        ).astype(np.float32)

    def _regrid(
        self, fields: Mapping[str, np.ndarray], number: int
    ) -> dict[str, np.ndarray]:
        regridder, made = self.regridder(number), {}
        if self._spectral:
            # One hole would spread over the globe: first what can be filled is, and
            # what is left makes the whole field a hole.
            if self.setup.prepare.below_ground == 'fill':
                fields = self._filled(fields)
            holes = _holes(fields)
            fields = _without_holes(fields, holes)
        for pair in wind_pairs():
            if pair.eastward in fields and pair.northward in fields:
                made[pair.eastward], made[pair.northward] = regridder.winds(
                    fields[pair.eastward], fields[pair.northward]
                )
        for name, values in fields.items():
            if name not in made:
                made[name] = self.regridder(number, name).scalars(values)
        made = {name: np.array(values, np.float32) for name, values in made.items()}
        if self._spectral:
            for name, values in made.items():
                values[holes[name]] = np.nan
        return made

    @property
    def _spectral(self) -> bool:
        return self.setup.prepare.regridding == 'spectral'

    def _check(
        self, name: str, holes: np.ndarray, made: np.ndarray, times: np.ndarray
    ) -> None:
        """Refuses what is not finite where the source is."""
        bad = ~np.isfinite(made).all(axis=(-2, -1)) & ~holes
        if bad.any():
            time = times[np.flatnonzero(bad.any(axis=1))[0]]
            raise ValueError(
                f'expected finite values of {name} at {self._text(time)} after '
                f'regridding ({self.setup.prepare.regridding}), found others: the '
                'source does not cover the sphere; use a global one'
            )

    def _fill_ground(self, fields: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Continues columns downward, of fields with all levels of the store."""
        places = {
            name: [self.plan.axis.index(of) for of in self.plan.levels[name]]
            for name in fields
            if self.plan.levels[name]
        }
        wanted = {name: fields[name][:, of] for name, of in places.items()}
        for name, values in self._filled(wanted).items():
            fields[name][:, places[name]] = values
        return fields

    def _filled(self, fields: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Continues columns downward, of fields with the levels that are wanted."""
        levels = {name: self.plan.levels[name] for name in fields}
        if not any(np.isnan(fields[name]).any() for name, of in levels.items() if of):
            return fields
        return fill_below_ground(fields, levels).fields

    def _text(self, time: int) -> str:
        return str(self.plan.times[time].astype('datetime64[s]'))

    def store(
        self, name: str, start: int, values: np.ndarray, *, has_before: bool
    ) -> None:
        """Packs, writes, reads back and records a field `[time, level, lat, lon]`.

        `values` begin one time before `start` where `has_before`.
        """
        packing = self.plan.packing[name]
        try:
            stored = packing.pack(values)
        except ValueError as error:
            raise ValueError(
                f'{name} from {self._text(start)}: {error} for this variable'
            ) from None
        kept = packing.unpack(stored)
        ours = slice(int(has_before), None)
        stop = start + len(kept[ours])
        array = self.array(name)
        target = stored[ours].reshape(stop - start, *array.shape[1:])
        array[start:stop] = target
        self._compare(name, np.asarray(array[start:stop]), target, start)
        if packing.kind != 'float32':
            self._record_error(name, start, packing_error(values[ours], kept[ours]))
        nothing = np.full_like(kept[:1], np.nan)
        before = np.concatenate([kept[:1] if has_before else nothing, kept[ours][:-1]])
        for i in range(start + 1, stop):
            if not self.follows(i):
                before[i - start] = np.nan
        weights = self.setup.grid.area_weights
        self.record.write(name, start, summarise(kept[ours], before, weights))

    def _compare(
        self, name: str, found: np.ndarray, written: np.ndarray, start: int
    ) -> None:
        """Refuses what did not arrive as it was sent."""
        for i, (one, other) in enumerate(zip(found, written, strict=True)):
            if one.tobytes() != other.tobytes():
                raise ValueError(
                    f'expected {name} at {self._text(start + i)} in {self.plan.output} '
                    'as it was written, found other bytes: its disk or the connection '
                    'is damaged; run the same command again, it goes on'
                )

    def _record_error(self, name: str, start: int, error: PackingError) -> None:
        for column, values in zip(ERROR_COLUMNS, error, strict=True):
            array = self._summary[f'{name}/{column}']
            assert isinstance(array, zarr.Array)
            with_empty_chunks(array)[start : start + len(values)] = values


def _levels_of(field: xarray.DataArray, levels: Sequence[float]) -> xarray.DataArray:
    return field.sel(level=list(levels)) if levels else field


def _holes(fields: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Fields that are not finite throughout, `[time, level]`; of winds, both are."""
    holes = {
        name: ~np.isfinite(values).all(axis=(-2, -1)) for name, values in fields.items()
    }
    for pair in wind_pairs():
        if pair.eastward in fields and pair.northward in fields:
            both = holes[pair.eastward] | holes[pair.northward]
            holes[pair.eastward] = holes[pair.northward] = both
    return holes


def _without_holes(
    fields: Mapping[str, np.ndarray], holes: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The same with 0 throughout where there is a hole."""
    return {
        name: np.where(holes[name][..., None, None], np.float32(0), values)
        if holes[name].any()
        else values
        for name, values in fields.items()
    }
