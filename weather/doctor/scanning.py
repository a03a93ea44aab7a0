"""Reading every time of a variable once, in memory that does not grow with them.

Blocks of times are read and summarised in threads, in order, into buffers that are made
at the beginning and used again. What stays of a time are the numbers of its `Summary`,
44 bytes per level, of one variable at a time: 42 years of ERA5, six-hourly on 13
levels, are 35 MB. So a check needs about

    (2 threads + 1) x a block and a time + 50 B x times x levels of one variable,

a block being at most `max_bytes`, or one time with all levels of a variable.
"""

from __future__ import annotations

import collections
import concurrent.futures
import os
import queue
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from weather.data.sources import RawVariable
from weather.data.stored_field import StoredField
from weather.data.summary import DTYPES, Summary, summarise

_Argument = TypeVar('_Argument')
_Result = TypeVar('_Result')

MAX_BYTES = 2**24
# More do not make it faster, and small fields need little memory so.
_BLOCK_TIMES = 8
NUM_THREADS = min(4, os.cpu_count() or 1)


class Place(NamedTuple):
    """A time and a level by their positions in what was scanned."""

    time: int
    level: int


class Scanned(NamedTuple):
    """What is known of a variable after every time was read.

    Attributes:
      summary: of all times, `[time, level]`; changes are those from the time before,
        however long before.
      is_hole: `[time, level]`, whether a chunk of it was never written.
      unreadable: what the attempt to read said.
    """

    summary: Summary
    is_hole: np.ndarray
    unreadable: dict[Place, str]


class Selection(NamedTuple):
    """Positions, ascending, on the canonical axes; no level for a surface variable."""

    times: np.ndarray
    levels: np.ndarray | None


def scan(
    field: StoredField,
    selection: Selection,
    area_weights: np.ndarray,
    *,
    raw: RawVariable | None = None,
    max_bytes: int = MAX_BYTES,
    num_threads: int = NUM_THREADS,
    progress: Callable[[int], object] = lambda num_times: None,
) -> Scanned:
    """Reads a variable `[time, (level,) lat, lon]`; what cannot be read is put down.

    Args:
      field: the variable.
      selection: what of it is read.
      area_weights: `[lat]` with mean 1.
      raw: the array as it is stored, which knows what was never written in it.
      max_bytes: size of a block, one time at least.
      num_threads: that read and summarise.
      progress: told how many times were read.
    """
    num_levels = 1 if selection.levels is None else selection.levels.size
    found = _empty(selection.times.size, num_levels)
    shape = (num_levels, *field.shape[-2:])
    holes = _Holes(field, selection, raw)
    length = _length(field, 4 * int(np.prod(shape)), max_bytes)
    blocks = _blocks(field, selection.times, length)

    free: queue.SimpleQueue[np.ndarray] = queue.SimpleQueue()
    for _ in range(2 * num_threads + 1):
        # Row 0 is for the time before.
        free.put(np.empty((1 + length, *shape), np.float32))

    def read(task: _Task) -> _Task:
        return task._replace(problems=_read(field, selection, task.block, task.fields))

    def look(task: _Task) -> Scanned:
        before = task.buffer[: len(task.fields)]
        summary = summarise(task.fields, before, area_weights)
        found = holes.of(task.block, summary.num_missing)
        free.put(task.buffer)
        return Scanned(summary, found, task.problems)

    # As many are read ahead as are looked at, and one is between: none has to wait.
    tasks = (_Task(block, free.get_nowait(), {}) for block in blocks)
    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        done = _with_the_time_before(_ahead(pool, read, tasks, num_threads))
        looked = _ahead(pool, look, done, num_threads)
        for block, of_block in zip(blocks, looked, strict=True):
            for whole, part in zip(found.summary, of_block.summary, strict=True):
                whole[block] = part
            found.is_hole[block] = of_block.is_hole
            found.unreadable.update(of_block.unreadable)
            progress(block.stop - block.start)
    return found


def _empty(num_times: int, num_levels: int) -> Scanned:
    columns = [
        np.zeros(num_times if name == 'checksum' else (num_times, num_levels), dtype)
        for name, dtype in DTYPES.items()
    ]
    return Scanned(Summary(*columns), np.zeros((num_times, num_levels), bool), {})


class _Task(NamedTuple):
    """A block on its way, the buffer that it is read into, and what went wrong."""

    block: slice
    buffer: np.ndarray
    problems: dict[Place, str]

    @property
    def fields(self) -> np.ndarray:
        """`[time, level, lat, lon]`; in the buffer the time before stands before it."""
        return self.buffer[1 : 1 + self.block.stop - self.block.start]


def _with_the_time_before(tasks: Iterable[_Task]) -> Iterator[_Task]:
    last = None
    for task in tasks:
        task.buffer[0] = np.nan if last is None else last
        last = task.fields[-1].copy()
        yield task


def _length(field: StoredField, bytes_per_time: int, max_bytes: int) -> int:
    """Times of a block: whole chunks, as far as these fit."""
    chunk = field.chunks.get('time', 1)
    fitting = max(1, max_bytes // bytes_per_time)
    fitting = min(fitting, max(_BLOCK_TIMES, chunk))
    return fitting // chunk * chunk or fitting


def _blocks(field: StoredField, times: np.ndarray, length: int) -> list[slice]:
    """Parts of `times`, none of them in two chunks where one would do."""
    if not times.size:
        return []
    stored = field.positions['time'][times]
    borders = np.flatnonzero(np.diff(stored // length)) + 1
    bounds = [0, *borders.tolist(), times.size]
    # Of a shuffled axis parts may be longer than they are far apart.
    return [
        slice(start, min(start + length, stop))
        for first, stop in zip(bounds[:-1], bounds[1:], strict=True)
        for start in range(first, stop, length)
    ]


def _ahead(
    pool: concurrent.futures.Executor,
    function: Callable[[_Argument], _Result],
    tasks: Iterable[_Argument],
    number: int,
) -> Iterator[_Result]:
    """Like `map`, in threads and in order, and never more than `number` ahead."""
    waiting: collections.deque[concurrent.futures.Future[_Result]] = collections.deque()
    for task in tasks:
        waiting.append(pool.submit(function, task))
        del task  # Or it would be held until the next is there.
        if len(waiting) >= number:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _read(
    field: StoredField, selection: Selection, block: slice, out: np.ndarray
) -> dict[Place, str]:
    """Reads into `out`, `[time, level, lat, lon]`; returns what could not be read."""
    times = selection.times[block]
    if _attempt(field, times, selection.levels, out) is None:
        return {}
    # One by one, so that only what is damaged is called so.
    found = {}
    for i, time in enumerate(times):
        part, one = out[i : i + 1], np.array([time])
        problem = _attempt(field, one, selection.levels, part)
        if problem is None:
            continue
        for j in range(out.shape[1]):
            at_level = part[:, j : j + 1]
            if selection.levels is not None:
                level = selection.levels[j : j + 1]
                problem = _attempt(field, one, level, at_level)
            if problem is not None:
                at_level[...] = np.nan
                found[Place(block.start + i, j)] = problem
    return found


def _attempt(
    field: StoredField, times: np.ndarray, levels: np.ndarray | None, out: np.ndarray
) -> str | None:
    """Reads into `out`; returns what was wrong."""
    chosen = {'time': times} | ({} if levels is None else {'level': levels})
    try:
        field.read_into(out if levels is not None else out[:, 0], chosen)
    except ValueError as error:
        cause = error.__cause__
        return ' '.join(str(error if cause is None else cause).split())[:200]
    return None


class _Holes:
    """Finds out which missing values lie in chunks that were never written."""

    def __init__(
        self, field: StoredField, selection: Selection, raw: RawVariable | None
    ):
        self._field = field
        self._selection = selection
        # A variable that was put together from several arrays has none of its own.
        dims = field.variable.dims
        self._raw = raw if raw is not None and len(raw.dims) == len(dims) else None
        self._least = self._smallest_chunk()

    def of(self, block: slice, num_missing: np.ndarray) -> np.ndarray:
        """Returns `[time, level]`, whether nothing was ever written there."""
        found = np.zeros(num_missing.shape, bool)
        if self._raw is None:
            return found
        # Asking is another reading: only where a whole chunk may be missing.
        for i in np.flatnonzero(num_missing.sum(axis=1) >= self._least):
            found[i] = self._at(self._selection.times[block.start + i])
        return found & (num_missing > 0)

    def _smallest_chunk(self) -> int:
        """Values at one time, of the levels selected, in the smallest chunk."""
        sizes = zip(
            self._field.variable.dims,
            self._field.variable.shape,
            self._field.variable.chunks,
            strict=True,
        )
        least, levels = 1, self._selection.levels
        for dim, size, chunk in sizes:
            if dim in ('latitude', 'longitude'):
                # A column that repeats the first is in the chunk and not in the field.
                kept = self._field.positions[dim].size
                least *= min(size % chunk or min(chunk, size), kept)
            elif dim == 'level' and chunk >= size and levels is not None:
                least *= levels.size
        return least

    def _at(self, time: int) -> np.ndarray:
        assert self._raw is not None
        field, dims = self._field, self._field.variable.dims
        stored = int(field.positions['time'][time])
        box = tuple(
            slice(stored, stored + 1) if dim == 'time' else slice(0, size)
            for dim, size in zip(dims, field.variable.shape, strict=True)
        )
        try:
            holes = self._raw.never_written(box)
        # The chunk beside it may be damaged: that is told in its own place.
        except Exception:
            return np.zeros(1, bool)
        others = tuple(i for i, dim in enumerate(dims) if dim != 'level')
        by_level = np.atleast_1d(holes.any(axis=others))
        if self._selection.levels is None:
            return by_level
        return by_level[field.positions['level'][self._selection.levels]]


def from_summary(summary: Summary) -> Scanned:
    """What is known from a record alone: nothing of chunks."""
    return Scanned(summary, np.zeros(summary.mean.shape, bool), {})


def select(scanned: Scanned, times: slice, levels: Sequence[int]) -> Scanned:
    """A part of what was scanned: consecutive times, some levels."""
    summary = Summary(
        *(of[times][:, levels] if of.ndim > 1 else of[times] for of in scanned.summary)
    )
    places = {level: i for i, level in enumerate(levels)}
    unreadable = {
        Place(place.time - times.start, places[place.level]): problem
        for place, problem in scanned.unreadable.items()
        if times.start <= place.time < times.stop and place.level in places
    }
    return Scanned(summary, scanned.is_hole[times][:, levels], unreadable)
