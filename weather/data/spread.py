"""Running mean and spread of fields over the sphere and in time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray

from weather.data.blocks import time_blocks
from weather.data.summary import Moments, Summary, summarise


class Spread(NamedTuple):
    """Moments of what was seen so far; each time counts once.

    Attributes:
      num_times: `[level]`, those with finite values.
      mean: `[level]`.
      squares: `[level]` sum over times of the area mean of squared deviations.
    """

    num_times: np.ndarray
    mean: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, moments: Moments) -> Spread:
        """Spread of the times that are finite, from the moments of each."""
        valid = np.isfinite(moments.variance)
        count = valid.sum(axis=0)
        means = np.where(valid, moments.mean, 0)
        mean = means.sum(axis=0) / np.maximum(count, 1)
        # The spread of all: within each time, and of the times' means about theirs.
        between = np.where(valid, (means - mean) ** 2, 0)
        within = np.where(valid, moments.variance, 0)
        return cls(count, mean, (within + between).sum(axis=0))

    def merge(self, other: Spread) -> Spread:
        """Moments of both together (Chan, Golub and LeVeque, eq. 2.1)."""
        count = self.num_times + other.num_times
        difference = other.mean - self.mean
        share = other.num_times / np.maximum(count, 1)
        return Spread(
            count,
            self.mean + difference * share,
            self.squares + other.squares + difference**2 * self.num_times * share,
        )

    @property
    def std(self) -> np.ndarray:
        """`[level]`, NaN where nothing was counted."""
        seen = np.where(self.num_times > 0, self.num_times, np.nan)
        return np.sqrt(self.squares / seen)


class Spreads(NamedTuple):
    """Of one variable.

    Attributes:
      state: spread of the fields.
      tendency: spread of their changes over a step.
      usable: `[time]` of the period, whether every level is finite and not excluded.
    """

    state: Spread
    tendency: Spread
    usable: np.ndarray

    @classmethod
    def of(
        cls,
        summary: Summary,
        before: np.ndarray,
        bad: np.ndarray,
        bad_before: np.ndarray,
    ) -> Spreads:
        """Spreads of what was summarised.

        Args:
          summary: of consecutive times.
          before: `[time]`, positions of the times one step before, -1 for none.
          bad: `[time, level]`, times to be left out.
          bad_before: `[time, level]`, the same of the times one step before.
        """
        no_step = (before < 0)[:, None] | bad | bad_before
        variance = np.where(bad, np.nan, summary.variance)
        tendency_variance = np.where(no_step, np.nan, summary.tendency_variance)
        return cls(
            Spread.of(Moments(summary.mean, variance)),
            Spread.of(Moments(summary.tendency_mean, tendency_variance)),
            ((summary.num_missing == 0) & ~bad).all(axis=1),
        )


def stream(
    field: xarray.DataArray,
    period: slice,
    step: np.timedelta64,
    area_weights: np.ndarray,
    max_bytes: int,
    *,
    excluded: np.ndarray,
) -> Spreads:
    """Reads a period in blocks, each time once, holding a block and a step before it.

    Running moments: Chan, Golub and LeVeque, 1983, The American Statistician 37,
    242-247.

    Args:
      field: `[time, (level,) lat, lon]`, lazy.
      period: positions of the times.
      step: time over which a change is taken.
      area_weights: `[lat]`, mean 1.
      max_bytes: size of a block in float64; one time at least.
      excluded: `[time, level]` of the whole axis, times to be left out: they are not
        read, for they may be unreadable.
    """
    before = step_before(field.time.values, step, period)
    usable = np.zeros(before.size, bool)
    shape = (field.sizes.get('level', 1), *field.shape[-2:])
    nothing = np.zeros(shape[0])
    state = tendency = Spread(nothing.astype(int), nothing, nothing)
    blocks = [
        slice(int(block[0]), int(block[-1]) + 1)
        for block in time_blocks(
            field,
            range(period.start, period.stop),
            max_bytes=max_bytes,
            bytes_per_value=8,
        )
    ]
    # The first rows hold the times before the block, as many as a step needs.
    held = int(np.max((np.arange(before.size) - before)[before >= 0], initial=1))
    longest = max(block.stop - block.start for block in blocks)
    dtype = np.promote_types(field.dtype, np.float32)
    buffer = np.full((held + longest, *shape), np.nan, dtype)
    for block in blocks:
        length = block.stop - block.start
        fields = buffer[held : held + length]
        _read(field, block, excluded[block], fields)
        rows = np.where(before[block] < 0, -1, before[block] - block.start + held)
        found = Spreads.of(
            summarise(fields, _rows(buffer, rows), area_weights),
            before[block],
            excluded[block],
            excluded[before[block]],
        )
        usable[block] = found.usable
        state = state.merge(found.state)
        tendency = tendency.merge(found.tendency)
        buffer[:held] = buffer[length : length + held].copy()
    return Spreads(state, tendency, usable[period])


def _read(
    field: xarray.DataArray, block: slice, excluded: np.ndarray, out: np.ndarray
) -> None:
    """Reads a block into `[time, level, lat, lon]`; what is excluded is NaN."""
    partial = excluded.any(axis=1)
    if not partial.any():
        out[...] = field[block].values.reshape(out.shape)
        return
    out[...] = np.nan
    times = np.arange(block.start, block.stop)
    if not partial.all():
        whole = field[times[~partial]].values
        out[~partial] = whole.reshape(-1, *out.shape[1:])
    for row in np.flatnonzero(partial & ~excluded.all(axis=1)):
        levels = np.flatnonzero(~excluded[row])
        out[row, levels] = field[times[row]].isel(level=levels).values


def step_before(times: np.ndarray, step: np.timedelta64, period: slice) -> np.ndarray:
    """Position of the time one step before each, -1 where the period has none."""
    found = np.searchsorted(times, times - step)
    inside = (found >= period.start) & (found < np.arange(times.size))
    return np.where(inside & (times[found] == times - step), found, -1)


def _rows(buffer: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows of the buffer; a view where they follow each other, as mostly they do.

    Where a time has none before it, any row: the caller strikes out what comes of it.
    """
    present = np.flatnonzero(rows >= 0)
    lag = rows[present] - present
    if (lag == lag[:1]).all():
        start = int(lag[0]) if present.size else 0
        return buffer[start : start + rows.size]
    return buffer[np.maximum(rows, 0)]
