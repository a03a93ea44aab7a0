"""Slabs: all levels of a variable at a time, each read once while anybody holds it.

A thread that needs a slab which another one is reading waits for it and copies it from
there; one that needs a slab of a batch that is still held does the same without
waiting; what no batch holds any more may be in the cache. Only what is in none of
these is read, straight into its place in the batch.
"""

from __future__ import annotations

import itertools
import math
import threading
import weakref
from collections.abc import Sequence

import cachetools
import numpy as np

from weather.data.store import Atmosphere


class Slab:
    """A place in some batch that is being filled, or has been.

    Attributes:
      values: `[level, lat, lon]` float32, a view of the batch.
    """

    def __init__(self, values: np.ndarray):
        self.values = values
        self._done = threading.Event()
        self._error: BaseException | None = None

    @property
    def done(self) -> bool:
        """Whether nobody need wait any more."""
        return self._done.is_set()

    def finish(self, error: BaseException | None = None) -> None:
        """Lets those go on who wait; with the error, if there was one."""
        self._error = error
        self._done.set()

    def wait(self) -> np.ndarray:
        """Returns the values once they are there; raises what kept them away."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self.values


class NotFiniteError(ValueError):
    """A value that is not finite.

    Attributes:
      time: when, ISO 8601.
    """

    def __init__(self, message: str, time: str):
        super().__init__(message)
        self.time = time


class SlabReader:
    """Reads slabs for any number of threads.

    Attributes:
      num_read: slabs read from the store so far.
    """

    def __init__(
        self,
        atmosphere: Atmosphere,
        cache_bytes: int,
        *,
        latitudes: slice | None = None,
    ):
        """Prepares to read.

        Args:
          atmosphere: the opened store.
          cache_bytes: most that slabs may occupy which no batch holds any more.
          latitudes: the rows of the grid that slabs consist of; None for all.
        """
        self._latitudes = latitudes
        self._is_remote = '://' in atmosphere.source
        self._fields = atmosphere.fields
        self._levels = atmosphere.levels
        self._positions = {
            name: _level_positions(atmosphere, of_name)
            for name, of_name in atmosphere.levels.items()
        }
        self._cache: cachetools.LRUCache[tuple[str, int], np.ndarray]
        self._cache = cachetools.LRUCache(cache_bytes, lambda slab: slab.nbytes)
        # Batches hold the slabs that were read for them: with a batch these go.
        self._held: weakref.WeakValueDictionary[tuple[str, int], Slab]
        self._held = weakref.WeakValueDictionary()
        self._lock = threading.Lock()
        self.num_read = 0

    def shape(self, name: str) -> tuple[int, int, int]:
        """`(level, lat, lon)` of the slabs of a variable; one level if it has none."""
        num_lat, num_lon = self._fields[name].shape[-2:]
        if self._latitudes is not None:
            num_lat = len(range(num_lat)[self._latitudes])
        return max(len(self._levels[name]), 1), num_lat, num_lon

    @property
    def chunk_bytes(self) -> int:
        """Size of the largest stored chunk, decoded."""
        return max(
            math.prod(field.chunks.values()) * field.variable.dtype.itemsize
            for field in self._fields.values()
        )

    def portions(
        self, name: str, times: np.ndarray, *, least: int
    ) -> list[tuple[int, int]]:
        """Splits times into what is best read together: `(first, stop)` of each.

        Times of one stored chunk, which is decoded as a whole; and of so many chunks
        that there are `least` bytes. All of them at an address, where chunks that are
        asked for at once come at once, and otherwise each after a wait.
        """
        if self._is_remote:
            return [(0, len(times))]
        together = -(-least // (4 * math.prod(self.shape(name))))
        chunks = times // self._fields[name].chunks['time']
        bounds = [0]
        for place in range(1, len(times)):
            if chunks[place] != chunks[place - 1] and place - bounds[-1] >= together:
                bounds.append(place)
        return list(itertools.pairwise([*bounds, len(times)]))

    def fill(self, out: np.ndarray, name: str, times: Sequence[int]) -> list[Slab]:
        """Fills `out` `[time, level, lat, lon]` with a variable.

        Args:
          out: float32, contiguous; must live as long as what is returned.
          name: the variable.
          times: positions on the store's time axis.

        Returns:
          The slabs that were read from the store: whoever holds them lets others copy
          from `out`.

        Raises:
          ValueError: a chunk that cannot be read or holds NaN, naming it.
        """
        mine: dict[int, Slab] = {}
        others: dict[int, Slab | np.ndarray] = {}
        with self._lock:  # Even to look changes the order of what was used last.
            for place, time in enumerate(times):
                key = name, time
                found: Slab | np.ndarray | None = self._cache.get(key)
                found = self._held.get(key) if found is None else found
                if found is None:
                    mine[place] = self._held[key] = Slab(out[place])
                else:
                    others[place] = found
        try:
            self._read(out, name, times, mine)
        except BaseException as error:
            self._give_up(mine, name, times, error)
            raise
        # Last: nobody waits who has not read what others may be waiting for.
        for place, slab in others.items():
            out[place] = slab.wait() if isinstance(slab, Slab) else slab
        return list(mine.values())

    def _read(
        self, out: np.ndarray, name: str, times: Sequence[int], mine: dict[int, Slab]
    ) -> None:
        # Runs of missing times: each is one reading.
        begins = [place for place in mine if place - 1 not in mine]
        ends = [place + 1 for place in mine if place + 1 not in mine]
        for first, stop in zip(begins, ends, strict=True):
            self._read_run(name, out[first:stop], np.asarray(times[first:stop]))
            for place in range(first, stop):
                self._remember(name, times[place], out[place])
                mine[place].finish()

    def _give_up(
        self,
        mine: dict[int, Slab],
        name: str,
        times: Sequence[int],
        error: BaseException,
    ) -> None:
        """Lets the next one who asks read what could not be read."""
        unread = {times[place]: slab for place, slab in mine.items() if not slab.done}
        with self._lock:
            for time in unread:
                del self._held[name, time]
        for slab in unread.values():
            slab.finish(error)

    def _read_run(self, name: str, out: np.ndarray, times: np.ndarray) -> None:
        """Reads times from the store; refuses what is not finite."""
        field = self._fields[name]
        selection, positions = {'time': times}, self._positions[name]
        if self._latitudes is not None:
            selection['latitude'] = np.arange(field.shape[-2])[self._latitudes]
        if self._levels[name]:
            if positions is not None:
                selection['level'] = positions
            field.read_into(out, selection)
        else:
            field.read_into(out[:, 0], selection)
        # A sum is cheaper than looking at every value, and no sum of finite physical
        # values overflows.
        with np.errstate(all='ignore'):
            finite = np.isfinite(np.sum(out))
        if not finite:
            self._refuse(name, out, times)
        with self._lock:
            self.num_read += len(times)

    def _refuse(self, name: str, values: np.ndarray, times: np.ndarray) -> None:
        """Raises `NotFiniteError` for the first value that is not finite."""
        bad = np.argwhere(~np.isfinite(values))
        if not bad.size:
            return
        time, level = bad[0][:2].tolist()
        field = self._fields[name]
        levels = self._levels[name]
        channel = f'{name}@{levels[level]}' if levels else name
        when = field.times[times[time]].astype('datetime64[s]')
        raise NotFiniteError(
            f'expected finite values, found NaN or infinity in {channel} at {when} of '
            f'{field.source}, which has changed since its missing values were looked '
            'for; delete invalid_times.json in the run directory and start again, or '
            'leave the channel out of config.data.variables',
            str(when),
        )

    def _remember(self, name: str, time: int, slab: np.ndarray) -> None:
        if slab.nbytes > self._cache.maxsize:
            return  # The cache would raise.
        # A copy: the slab is a part of a batch, which would stay in memory whole.
        copy = slab.copy()
        with self._lock:
            self._cache[name, time] = copy


def _level_positions(
    atmosphere: Atmosphere, levels: tuple[float, ...]
) -> np.ndarray | None:
    """Where `levels`, in their order, stand on the level axis; None for all of it."""
    order = atmosphere.dataset['level'].values.tolist() if levels else []
    if list(levels) == order:
        return None
    return np.array([order.index(level) for level in levels])
