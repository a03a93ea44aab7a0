"""Training batches: a pure function of (seed, update, number of steps).

Nothing about the position in the data is stored: any update's batch can be asked for
at any time, by any number of threads, and is the same; so are the rows and latitudes of
it that each of several processes reads. Fields stay per variable, since stacking and
normalising are cheaper inside jit than on the host.

Memory is bounded in bytes, see `Loader.most_bytes`: the cache, the batches that wait or
are being read, the two that were handed out last, and what threads hold of chunks.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import functools
import hashlib
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from weather.data.buffers import Buffers
from weather.data.shares import WHOLE, Part
from weather.data.slabs import Slab, SlabReader
from weather.data.store import Atmosphere
from weather.data.windows import WindowIndex

GIGABYTE = 10**9
# Batches waiting per thread, at most: more smooth nothing, and tiny batches would
# otherwise queue by the ten thousand before they fill their bytes.
_DEPTH = 4
# What a thread reads at a time, at least: less, and the handing out would tell.
_TASK_BYTES = 2**20


class Batch(NamedTuple):
    """Windows of an atmosphere.

    Attributes:
      fields: by variable, float32 `[batch, time, level, lat, lon]`, SI, rows from north
        to south; the level axis has length 1 for a variable without levels.
      valid_times: `[batch, time]`, int64, hours since 1970-01-01T00.
    """

    fields: dict[str, np.ndarray]
    valid_times: np.ndarray

    def digests(self) -> list[str]:
        """Of each window, what tells its content from any other."""
        return [_digest(self, row) for row in range(len(self.valid_times))]


class Loader:
    """Reads batches of windows, ahead of their use and in bounded memory."""

    def __init__(
        self,
        atmosphere: Atmosphere,
        windows: WindowIndex,
        *,
        batch_size: int,
        seed: int,
        cache_bytes: int = 0,
        prefetch_bytes: int = GIGABYTE,
        num_threads: int = 2,
        part: Part = WHOLE,
        latitudes: Part = WHOLE,
        times_of: Callable[[int, int], np.ndarray] | None = None,
    ):
        """Prepares to read; nothing is read yet.

        Args:
          atmosphere: the opened store.
          windows: which windows of it to draw from.
          batch_size: windows per batch, over all processes.
          seed: of the permutation of each epoch, >= 0.
          cache_bytes: most that decoded fields may occupy which no batch holds.
          prefetch_bytes: most that batches may occupy which wait or are being read;
            one batch is always read ahead, even if it is larger.
          num_threads: threads that read, many of them at one batch.
          part: which rows of each batch this process reads.
          latitudes: which latitudes of them. Processes that share rows read the same
            windows, and each its own latitudes of these.
          times_of: other windows than drawn ones: (update, number of steps) to
            positions of their times, `[batch, time]`.

        Raises:
          ValueError: sizes that do not fit, or times that are not whole hours.
        """
        if batch_size < 1:
            raise ValueError(f'expected a positive batch_size, got {batch_size}')
        if seed < 0 or num_threads < 1:
            raise ValueError(
                f'expected seed >= 0 and num_threads >= 1, got {seed} and {num_threads}'
            )
        self.atmosphere = atmosphere
        self.windows = windows
        self.batch_size = batch_size
        self.seed = seed
        self.cache_bytes = cache_bytes
        self.prefetch_bytes = prefetch_bytes
        self.num_threads = num_threads
        self._part, self._latitudes = part, latitudes
        self._rows = part.rows(batch_size)
        self._times_of = times_of or self._drawn
        self._hours = _whole_hours(atmosphere.times)
        num_lat = min(field.shape[-2] for field in atmosphere.fields.values())
        own = latitudes.latitudes(num_lat) if latitudes.count > 1 else None
        self.slabs = SlabReader(atmosphere, cache_bytes, latitudes=own)

    def batch(self, update: int, num_steps: int) -> Batch:
        """Reads the batch of an update, with all threads.

        Windows are drawn epoch by epoch, each a new permutation of all windows of
        `num_steps`; a batch may straddle epochs.

        Args:
          update: number of the update, from 0.
          num_steps: steps of the rollout; the batch holds one time more.

        Returns:
          The batch, in new arrays.

        Raises:
          ValueError: a chunk that cannot be read or holds NaN, naming it.
        """
        one = self.batches(update, update + 1, lambda _: num_steps)
        with contextlib.closing(one):
            return next(one)

    def batches(
        self, first_update: int, last_update: int, num_steps_at: Callable[[int], int]
    ) -> Generator[Batch, None, None]:
        """Yields the batches of updates `first_update` to before `last_update`.

        Batches are read ahead by threads. An error while reading is raised here, in
        its turn. Close the iterator (`contextlib.closing`) to stop early: it waits for
        the slabs being read and frees them.

        Args:
          first_update: number of the first update.
          last_update: the first number not wanted.
          num_steps_at: steps of the rollout by update.
        """
        pool = concurrent.futures.ThreadPoolExecutor(self.num_threads, 'loader')
        updates = range(first_update, last_update)
        try:
            queue = _ReadAhead(self, pool, updates, num_steps_at)
            for _ in updates:
                yield queue.take()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def spoilt(self, num_steps: int) -> Batch:
        """A batch of NaN, of the size of this process's part."""
        rows = self._rows.stop - self._rows.start
        shape = rows, num_steps + 1
        fields = {
            name: np.full((*shape, *self.slabs.shape(name)), np.nan, np.float32)
            for name in self.atmosphere.levels
        }
        return Batch(fields, np.zeros(shape, np.int64))

    def batch_bytes(self, num_steps: int) -> int:
        """Returns the size of this process's part of a batch."""
        points = sum(math.prod(self.slabs.shape(n)) for n in self.atmosphere.levels)
        return 4 * (self._rows.stop - self._rows.start) * (num_steps + 1) * points

    def most_bytes(self, num_steps: int) -> int:
        """Returns the most that rollouts of `num_steps` make the loader hold at once.

        That is the cache; batches that wait or are being read; the one handed out last
        and the one before it, which whoever asks for the next may still hold; and for
        each thread a slab that it copies and twice a stored chunk, encoded and decoded.
        JAX on a CPU uses the arrays as they are: those that it holds longer come on
        top.
        """
        batch = self.batch_bytes(num_steps)
        slabs = [4 * math.prod(self.slabs.shape(n)) for n in self.atmosphere.levels]
        threads = self.num_threads * (max(slabs) + 2 * self.slabs.chunk_bytes)
        waiting = max(self.prefetch_bytes, batch)
        return self.cache_bytes + waiting + 2 * batch + threads

    def start(
        self,
        update: int,
        num_steps: int,
        *,
        submit: Callable[..., _Future],
        buffers: Buffers,
    ) -> _Reading:
        """Begins to read the batch of an update; `submit` hands work to threads."""
        times = self.times(update, num_steps)[self._rows]
        names = list(self.atmosphere.levels)
        arrays = buffers.empty(
            [(*times.shape, *self.slabs.shape(name)) for name in names]
        )
        fields = dict(zip(names, arrays, strict=True))
        pieces = (
            _Piece(field[row, first:stop], name, of_row[first:stop].tolist())
            for row, of_row in enumerate(times)
            for name, field in fields.items()
            for first, stop in self.slabs.portions(name, of_row, least=_TASK_BYTES)
        )
        tasks = [submit(self._read, task) for task in _grouped(pieces)]
        return _Reading(Batch(fields, self._hours[times]), tasks)

    def _read(self, pieces: Sequence[_Piece]) -> list[Slab]:
        return [slab for piece in pieces for slab in self.slabs.fill(*piece)]

    def times(self, update: int, num_steps: int) -> np.ndarray:
        """Positions of the times of an update's windows, `[batch, time]`, of all rows.

        Args:
          update: number of the update, from 0.
          num_steps: steps of the rollout.
        """
        return self._times_of(update, num_steps)

    def with_windows(
        self,
        windows: WindowIndex,
        *,
        batch_size: int,
        seed: int,
        times_of: Callable[[int, int], np.ndarray] | None = None,
    ) -> Loader:
        """The same of other windows, drawn or named otherwise; see `Loader`."""
        return Loader(
            self.atmosphere,
            windows,
            batch_size=batch_size,
            seed=seed,
            cache_bytes=self.cache_bytes,
            prefetch_bytes=self.prefetch_bytes,
            num_threads=self.num_threads,
            part=self._part,
            latitudes=self._latitudes,
            times_of=times_of,
        )

    def _drawn(self, update: int, num_steps: int) -> np.ndarray:
        starts = self.windows.starts(num_steps)
        # Draws are numbered through: the order does not know where updates begin.
        draws = update * self.batch_size + np.arange(self.batch_size)
        chosen = permuted(starts, self.seed, draws)
        return self.windows.positions(chosen, num_steps)


_Future = concurrent.futures.Future[list[Slab]]


class _Piece(NamedTuple):
    """Consecutive times of a window and a variable, and where they belong."""

    out: np.ndarray
    name: str
    times: list[int]


def _grouped(pieces: Iterator[_Piece]) -> Iterator[list[_Piece]]:
    """Puts pieces together until they are worth a task."""
    task: list[_Piece] = []
    size = 0
    for piece in pieces:
        task.append(piece)
        size += piece.out.nbytes
        if size >= _TASK_BYTES:
            yield task
            task, size = [], 0
    if task:
        yield task


class _Reading:
    """A batch that is being read.

    While it is referred to, its slabs are there for other batches to be copied from.
    """

    def __init__(self, batch: Batch, tasks: Sequence[_Future]):
        self._batch = batch
        self._tasks = tasks
        self.num_bytes = sum(field.nbytes for field in batch.fields.values())

    def result(self) -> Batch:
        """Waits for all of it; raises what went wrong."""
        for task in self._tasks:
            task.result()
        return self._batch


class _ReadAhead:
    """Batches of consecutive updates that threads read, within bytes and number."""

    def __init__(
        self,
        loader: Loader,
        pool: concurrent.futures.Executor,
        updates: range,
        num_steps_at: Callable[[int], int],
    ):
        self._loader = loader
        self._pool = pool
        self._updates = updates
        self._num_steps_at = num_steps_at
        self._waiting: collections.deque[_Reading] = collections.deque()
        self._in_use: _Reading | None = None
        self._buffers = Buffers()
        self._fill()

    def take(self) -> Batch:
        """Returns the next batch, having started to read further ones."""
        batch = self._waiting[0].result()
        # Let go of the one before first: more may be begun than was there.
        self._in_use = self._waiting.popleft()
        self._fill()
        return batch

    def _fill(self) -> None:
        loader = self._loader
        while self._updates and len(self._waiting) < _DEPTH * loader.num_threads:
            num_steps = self._num_steps_at(self._updates[0])
            waiting = sum(reading.num_bytes for reading in self._waiting)
            size = loader.batch_bytes(num_steps)
            # The first in any case, or a batch larger than all would never be read.
            if self._waiting and waiting + size > loader.prefetch_bytes:
                return
            reading = loader.start(
                self._updates[0],
                num_steps,
                submit=self._pool.submit,
                buffers=self._buffers,
            )
            self._waiting.append(reading)
            self._updates = self._updates[1:]


def _digest(batch: Batch, row: int) -> str:
    digest = hashlib.sha256(batch.valid_times[row].tobytes())
    for name, field in batch.fields.items():
        digest.update(f'{name} {field[row].shape} '.encode())
        digest.update(np.ascontiguousarray(field[row]).data)
    return digest.hexdigest()


def permuted(values: np.ndarray, seed: int, draws: np.ndarray) -> np.ndarray:
    """Draws of `values` by number, epoch by epoch: each a new permutation of all."""
    epochs, places = np.divmod(draws, values.size)
    chosen = [
        _permutation(seed, int(epoch), values.size)[place]
        for epoch, place in zip(epochs, places, strict=True)
    ]
    return values[chosen]


# Few: batches that are being read are of one epoch or two, of one length or two.
@functools.lru_cache(maxsize=8)
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    """Order of the windows in an epoch; Philox, keyed by seed and epoch."""
    # From both numbers: the order of an epoch without those of the epochs before it.
    bits = np.random.Philox(np.random.SeedSequence((seed, epoch)))
    return np.random.Generator(bits).permutation(size)


def _whole_hours(times: np.ndarray) -> np.ndarray:
    """Returns hours since 1970 of datetime64 `times`; `ValueError` if not whole."""
    hours = times.astype('datetime64[h]')
    if (hours != times).any():
        raise ValueError(
            f'expected times at full hours, found {times[np.argmax(hours != times)]}; '
            'select times at full hours'
        )
    return hours.astype(np.int64)
