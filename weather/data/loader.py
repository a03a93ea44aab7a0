"""Training batches: a pure function of (seed, update, number of steps).

Nothing about the position in the data is stored: any update's batch can be asked for
at any time, by any number of threads, and is the same. Fields stay per variable, since
stacking and normalising are cheaper inside jit than on the host.
"""

from __future__ import annotations

import collections
import concurrent.futures
import functools
import logging
import threading
from collections.abc import Callable, Generator
from typing import NamedTuple

import cachetools
import numpy as np

from weather.data.store import Atmosphere
from weather.data.windows import WindowIndex

_LOGGER = logging.getLogger(__name__)

GIGABYTE = 10**9
# Batches waiting per thread, at most: more smooth nothing, and tiny batches would
# otherwise queue by the ten thousand before they fill their bytes.
_DEPTH = 4


class Batch(NamedTuple):
    """Windows of an atmosphere.

    Attributes:
      fields: by variable, float32 `[batch, time, level, lat, lon]`, SI, rows from north
        to south; the level axis has length 1 for a variable without levels.
      valid_times: `[batch, time]`, int64, hours since 1970-01-01T00.
    """

    fields: dict[str, np.ndarray]
    valid_times: np.ndarray


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
    ):
        """Prepares to read; nothing is read yet.

        Args:
          atmosphere: the opened store.
          windows: which windows of it to draw from.
          batch_size: windows per batch.
          seed: of the permutation of each epoch, >= 0.
          cache_bytes: most that decoded fields may occupy between batches.
          prefetch_bytes: most that batches read ahead may occupy; one batch is always
            read ahead.
          num_threads: batches read at a time.

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
        self.prefetch_bytes = prefetch_bytes
        self.num_threads = num_threads
        self._hours = _whole_hours(atmosphere.times)
        self._slabs = _SlabReader(atmosphere, cache_bytes)

    def batch(self, update: int, num_steps: int) -> Batch:
        """Reads the batch of an update.

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
        starts = self._starts(update, num_steps)
        times = starts[:, None] + np.arange(num_steps + 1)
        fields = {
            name: self._slabs.read(name, starts, num_steps + 1)
            for name in self.atmosphere.levels
        }
        return Batch(fields, self._hours[times])

    def batches(
        self, first_update: int, last_update: int, num_steps_at: Callable[[int], int]
    ) -> Generator[Batch, None, None]:
        """Yields the batches of updates `first_update` to before `last_update`.

        Batches are read ahead by threads. An error while reading is raised here, in
        its turn. Close the iterator (`contextlib.closing`) to stop early: it waits for
        the batches being read and frees them.

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

    def batch_bytes(self, num_steps: int) -> int:
        """Returns the size of a batch."""
        channels = sum(len(of) or 1 for of in self.atmosphere.levels.values())
        horizontal = self.atmosphere.grid.num_lat * self.atmosphere.grid.num_lon
        return 4 * self.batch_size * (num_steps + 1) * channels * horizontal

    def _starts(self, update: int, num_steps: int) -> np.ndarray:
        """Returns the first times of the windows of a batch, `[batch]`."""
        starts = self.windows.starts(num_steps)
        # Draws are numbered through: the order does not know where updates begin.
        draws = update * self.batch_size + np.arange(self.batch_size)
        epochs, places = np.divmod(draws, starts.size)
        chosen = [
            _permutation(self.seed, int(epoch), starts.size)[place]
            for epoch, place in zip(epochs, places, strict=True)
        ]
        return starts[chosen]


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
        self._entries: collections.deque[
            tuple[int, concurrent.futures.Future[Batch]]
        ] = collections.deque()
        self._fill()

    def take(self) -> Batch:
        """Returns the next batch, having started to read further ones."""
        batch = self._entries.popleft()[1].result()
        self._fill()
        return batch

    def _fill(self) -> None:
        loader = self._loader
        while self._updates and len(self._entries) < _DEPTH * loader.num_threads:
            num_steps = self._num_steps_at(self._updates[0])
            size = loader.batch_bytes(num_steps)
            waiting = sum(waiting for waiting, _ in self._entries)
            # The first in any case, or a batch larger than all would never be read.
            if self._entries and waiting + size > loader.prefetch_bytes:
                return
            future = self._pool.submit(loader.batch, self._updates[0], num_steps)
            self._entries.append((size, future))
            self._updates = self._updates[1:]


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


class _SlabReader:
    """Reads all levels of a variable at a time (a slab), remembering recent ones."""

    def __init__(self, atmosphere: Atmosphere, cache_bytes: int):
        self._fields = atmosphere.fields
        self._levels = atmosphere.levels
        self._positions = {
            name: _level_positions(atmosphere, of_name)
            for name, of_name in atmosphere.levels.items()
        }
        self._cache: cachetools.LRUCache[tuple[str, int], np.ndarray]
        self._cache = cachetools.LRUCache(cache_bytes, lambda slab: slab.nbytes)
        self._lock = threading.Lock()

    def read(self, name: str, starts: np.ndarray, length: int) -> np.ndarray:
        """Reads windows of a variable, `[start, length, level, lat, lon]`."""
        field = self._fields[name]
        levels = max(len(self._levels[name]), 1)
        out = np.empty((starts.size, length, levels, *field.shape[-2:]), np.float32)
        for window, start in zip(out, starts.tolist(), strict=True):
            self._read_window(name, window, start)
        return out

    def _read_window(self, name: str, out: np.ndarray, start: int) -> None:
        """Fills `out` `[time, level, lat, lon]`: from memory, the rest in few reads."""
        # Windows overlap: times that another one has read are copied from memory.
        known = [self._recall(name, start + i) for i in range(len(out))]
        for i, slab in enumerate(known):
            if slab is not None:
                out[i] = slab
        missing = np.array([slab is None for slab in known])
        # Where runs of missing times begin and end, in turn: each is one reading.
        edges = np.flatnonzero(np.diff(missing, prepend=False, append=False))
        for first, stop in edges.reshape(-1, 2).tolist():
            self._read_run(name, out[first:stop], start + first)

    def _read_run(self, name: str, out: np.ndarray, start: int) -> None:
        """Reads consecutive times from the store into `out` and remembers them."""
        field = self._fields[name]
        selection = {'time': np.arange(start, start + len(out))}
        if self._levels[name]:
            selection['level'] = self._positions[name]
            field.read_into(out, selection)
        else:
            field.read_into(out[:, 0], selection)
        # A sum is several times cheaper than looking at every value, and no sum of
        # finite physical values overflows.
        with np.errstate(all='ignore'):
            finite = np.isfinite(np.sum(out))
        if not finite:
            self._refuse(name, out, start)
        for i, slab in enumerate(out):
            self._remember(name, start + i, slab)

    def _refuse(self, name: str, values: np.ndarray, start: int) -> None:
        """Raises `ValueError` for the first value that is not finite."""
        bad = np.argwhere(~np.isfinite(values))
        if not bad.size:
            return
        time, level = bad[0][:2].tolist()
        field = self._fields[name]
        levels = self._levels[name]
        channel = f'{name}@{levels[level]}' if levels else name
        when = field.times[start + time].astype('datetime64[s]')
        raise ValueError(
            f'expected finite values, found NaN or infinity in {channel} at {when} of '
            f'{field.source}, which has changed since its missing values were looked '
            'for; delete invalid_times.json in the run directory and start again, or '
            'leave the channel out of config.data.variables'
        )

    def _recall(self, name: str, time: int) -> np.ndarray | None:
        # Even to look changes the order of what was used last.
        with self._lock:
            return self._cache.get((name, time))

    def _remember(self, name: str, time: int, slab: np.ndarray) -> None:
        if slab.nbytes > self._cache.maxsize:
            return  # The cache would raise.
        # A copy: the slab is a part of a batch, which would stay in memory whole.
        copy = slab.copy()
        with self._lock:
            self._cache[name, time] = copy


def _level_positions(atmosphere: Atmosphere, levels: tuple[float, ...]) -> np.ndarray:
    """Returns where `levels`, in their order, stand on the level axis."""
    if not levels:
        return np.empty(0, np.int64)
    order = atmosphere.dataset['level'].values.tolist()
    return np.array([order.index(level) for level in levels])
