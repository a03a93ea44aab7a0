"""Which windows of times a rollout can be trained or scored on.

A window of `num_steps` is `num_steps + 1` times, each one model step after the other.
A model step is any multiple of the store's; windows start at every time of the store,
whatever the step, so that no time is without use. Windows that need a time which the
store lacks, or an invalid one (NaN), are left out, and how many is logged; times
between two steps are not looked at.
"""

from __future__ import annotations

import concurrent.futures
import logging
from collections.abc import Mapping, Sequence

import numpy as np
import xarray

from weather.data.blocks import select_levels, time_blocks
from weather.data.times import common_timestep

_LOGGER = logging.getLogger(__name__)
_HOUR = np.timedelta64(1, 'h')

# Enough to hide the latency of a store; a block is at most this large.
_SCAN_THREADS = 4
_SCAN_BLOCK_BYTES = 2**25


def model_step(times: np.ndarray, timestep_hours: float) -> np.timedelta64:
    """Returns the step of a model on a store: a multiple of the store's step.

    Args:
      times: `[time]` datetime64 of the store, increasing.
      timestep_hours: the step that is wanted; 0 for that of the store.

    Raises:
      ValueError: the store cannot give such a step; says which ones it can.
    """
    step = common_timestep(times)
    wanted = np.timedelta64(round(3600 * timestep_hours), 's')
    if not timestep_hours:
        return step
    if wanted < step or wanted % step:
        possible = ', '.join(f'{n * step / _HOUR:g}' for n in range(1, 5))
        raise ValueError(
            f'expected data.timestep_hours as a multiple of the step of the store, '
            f'{_text_step(step)} (0, or {possible}, ...), got {timestep_hours:g}'
        )
    return wanted.astype(step.dtype)


class WindowIndex:
    """Windows within a period of a store.

    Attributes:
      times: `[time]` datetime64 of the whole store.
      period: first and last date or time, inclusive.
      timestep: the step between times of a window.
    """

    def __init__(
        self,
        times: np.ndarray,
        *,
        period: tuple[str, str],
        invalid: Sequence[np.datetime64] | np.ndarray = (),
        timestep: np.timedelta64 | None = None,
    ):
        """Selects the times of `period`.

        Args:
          times: `[time]` datetime64 of the store, increasing.
          period: first and last date or time, ISO 8601, both inclusive: a bare date,
            month or year includes all of it.
          invalid: times not to be used, see `invalid_times`.
          timestep: step between times of a window, see `model_step`; None takes the
            store's.

        Raises:
          ValueError: the period cannot be read, ends before it starts, or holds no
            time of the store.
        """
        self.times = np.asarray(times)
        self.period = (str(period[0]), str(period[1]))
        self.timestep = common_timestep(self.times) if timestep is None else timestep
        first, beyond = _bounds(self.period)
        inside = (self.times >= first) & (self.times < beyond)
        if not inside.any():
            raise ValueError(
                f'expected times between {period[0]} and {period[1]}, the store covers '
                f'{_text(self.times[0])} to {_text(self.times[-1])}; correct the '
                'period in config.data'
            )
        self._inside = inside
        self._valid = ~np.isin(self.times, np.asarray(invalid, self.times.dtype))
        self._next = _places(self.times, self.times + self.timestep)
        # By length: a curriculum has few, and every batch asks for one.
        self._starts: dict[int, np.ndarray] = {}

    def changed(
        self, *, period: tuple[str, str] | None = None, invalid: Sequence[str] = ()
    ) -> WindowIndex:
        """The same of another period, or without further times."""
        unusable = [*self.times[~self._valid], *np.array(invalid, self.times.dtype)]
        return WindowIndex(
            self.times,
            period=period or self.period,
            invalid=np.array(unusable, self.times.dtype),
            timestep=self.timestep,
        )

    @property
    def num_invalid(self) -> int:
        """How many times of the period are not to be used."""
        return int(np.sum(self._inside & ~self._valid))

    def starts(self, num_steps: int) -> np.ndarray:
        """Returns where windows of `num_steps` steps start.

        Args:
          num_steps: steps of the rollout, 0 for single times.

        Returns:
          `[window]` int64, positions on the store's time axis, ascending; `positions`
          are those of all times of these windows.

        Raises:
          ValueError: the period holds no such window.
        """
        if num_steps < 0:
            raise ValueError(f'expected num_steps >= 0, got {num_steps}')
        if num_steps not in self._starts:
            self._starts[num_steps] = self._find(num_steps)
        return self._starts[num_steps]

    def positions(self, starts: np.ndarray, num_steps: int) -> np.ndarray:
        """Returns where the times of windows are, `[window, num_steps + 1]`.

        -1 where the store lacks the time.
        """
        places = [np.asarray(starts)]
        for _ in range(num_steps):
            last = places[-1]
            places.append(np.where(last < 0, -1, self._next[last]))
        return np.stack(places, axis=-1)

    def _find(self, num_steps: int) -> np.ndarray:
        inside = np.flatnonzero(self._inside)
        # Windows end within the period too: its last times begin none.
        ends = self.times[inside] + num_steps * self.timestep
        starts = inside[ends <= self.times[inside[-1]]]
        places = self.positions(starts, num_steps)
        continuous = (places >= 0).all(axis=1)
        valid = self._valid[places].all(axis=1)
        good = starts[continuous & valid]
        gaps, touching = np.sum(~continuous), np.sum(continuous & ~valid)
        counts = (
            f'{good.size} windows of {num_steps} steps among {inside.size} times; left '
            f'out: {gaps} across gaps, {touching} with invalid (NaN) times'
        )
        if not good.size:
            raise ValueError(
                f'expected at least {num_steps + 1} consecutive valid times '
                f'{_text_step(self.timestep)} apart between {self.period[0]} and '
                f'{self.period[1]} for a rollout of {num_steps} steps, found {counts}; '
                'lengthen the period in config.data, roll out fewer steps or, where '
                'values are missing below the ground, prepare the store with '
                'prepare.below_ground=fill'
            )
        if gaps or touching:
            _LOGGER.info('%s to %s: %s', *self.period, counts)
        return good


def invalid_times(
    dataset: xarray.Dataset, levels: Mapping[str, Sequence[float]]
) -> np.ndarray:
    """Finds the times at which a channel in use is not finite somewhere.

    Reads everything once, in blocks of bounded size, so that the memory needed does not
    depend on the number of times; restrict `dataset` with `.sel(time=...)` first where
    only a period is of interest.

    Returns:
      Datetime64 of the invalid times, ascending.
    """
    bad = np.zeros(dataset.sizes['time'], bool)
    fields = [select_levels(dataset[name], levels[name]) for name in levels]

    def find(
        task: tuple[xarray.DataArray, np.ndarray],
    ) -> tuple[np.ndarray, np.ndarray]:
        field, block = task
        values = field[block[0] : block[-1] + 1].values.reshape(block.size, -1)
        return block, ~np.isfinite(values).all(axis=1)

    tasks = (
        (field, block)
        for field in fields
        for block in time_blocks(field, range(bad.size), max_bytes=_SCAN_BLOCK_BYTES)
    )
    with concurrent.futures.ThreadPoolExecutor(_SCAN_THREADS) as pool:
        # `map` keeps at most one block per thread in memory: results are flags.
        for block, found in pool.map(find, tasks):
            bad[block] |= found
    return dataset['time'].values[bad]


def _places(times: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Returns where each of the `wanted` times is among `times`; -1 where it is not."""
    places = np.minimum(np.searchsorted(times, wanted), times.size - 1)
    return np.where(times[places] == wanted, places, -1)


def _bounds(period: tuple[str, str]) -> tuple[np.datetime64, np.datetime64]:
    """Returns the first time of a period and the first after it."""
    try:
        first, last = (np.datetime64(bound) for bound in period)
    except ValueError as error:
        raise ValueError(
            f'expected a period as ISO 8601 dates such as 2020-01-01, got {period}: '
            f'{error}'
        ) from error
    # A date counts to its end, an hour to its last second, as pandas slices do.
    beyond = last + 1
    if not first < beyond:
        raise ValueError(
            f'expected a period (start, end), got end before start {period}'
        )
    return first.astype('datetime64[ns]'), beyond.astype('datetime64[ns]')


def _text(time: np.datetime64) -> str:
    return str(time.astype('datetime64[s]'))


def _text_step(step: np.timedelta64) -> str:
    return f'{step / _HOUR:g} h'
