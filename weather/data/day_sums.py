"""Sums over the samples of each day of the year, and means and spreads from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

# Two sums in float64 and a count per value that is kept.
BYTES_PER_VALUE = 8 + 8 + 4
DAYS_OF_YEAR = np.arange(1, 367)


def window_weights(window_days: int) -> np.ndarray:
    """Weights `[dayofyear, dayofyear]` of samples (second axis) around days (first).

    Raises:
      ValueError: a window that is no odd number of days from 1 to 365.
    """
    if window_days % 2 != 1 or not 1 <= window_days <= 365:
        raise ValueError(
            f'expected window_days to be odd, from 1 to 365, got {window_days}; '
            'WeatherBench 2 uses 61'
        )
    apart = np.abs(DAYS_OF_YEAR[:, None] - DAYS_OF_YEAR)
    apart = np.minimum(apart, DAYS_OF_YEAR.size - apart)
    # A window of one day has no slope: nothing may be divided by it.
    return np.maximum(0, 1 - apart / max(1, window_days // 2))


def days_of(time: pd.Timestamp) -> Sequence[int]:
    """Days of the year that a sample counts for."""
    day = time.day_of_year
    return (365, 366) if day == 365 and not time.is_leap_year else (day,)


class DaySums:
    """Sums over the samples of each of some days, which come and go.

    Of every day that is there: the `number` of samples that are not NaN, and the sums
    of their `first` and of their `second` powers, `[place, level, lat, lon]`.
    """

    def __init__(self, capacity: int, shape: tuple[int, ...]):
        """Makes room for the fields `shape` of `capacity` days."""
        self._number = np.empty((capacity, *shape), np.float32)
        # In float64: squares of geopotential are a thousand times their variance.
        self._first, self._second = np.empty((2, capacity, *shape))
        self._places: dict[int, int] = {}
        self._free = list(range(capacity))

    def keep(self, days: Sequence[int]) -> list[int]:
        """Lets go of all but `days`; those that were not there are, without samples.

        Returns:
          The days that were not there.
        """
        gone, new = set(self._places) - set(days), set(days) - set(self._places)
        self._free += [self._places.pop(day) for day in gone]
        for day in new:
            place = self._places[day] = self._free.pop()
            for sums in (self._number, self._first, self._second):
                sums[place] = 0
        return sorted(new)

    def add(self, day: int, value: np.ndarray) -> None:
        """Adds one sample of a day, leaving out its NaN."""
        valid = np.isfinite(value)
        if not valid.all():
            value = np.where(valid, value, 0)
        place = self._places[day]
        self._number[place] += valid
        self._first[place] += value
        self._second[place] += value * value

    def mean_and_std(
        self, weights: np.ndarray, days: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns both, `[row, level, lat, lon]`, float32.

        Args:
          weights: `[row, day]`.
          days: those of the weights.
        """
        shape = (len(weights), *self._first.shape[1:])
        num_points = int(np.prod(shape[1:]))
        mean, std = np.full((2, len(weights), num_points), np.nan, np.float32)
        places = [self._places[day] for day in days]
        flat = [
            sums.reshape(len(sums), -1)
            for sums in (self._number, self._first, self._second)
        ]
        # In parts, so that memory stays small.
        for points in slices(num_points if places else 0, 2048):
            part = _Part(*(sums[places, points] for sums in flat))
            mean[:, points], std[:, points] = part.smooth(weights)
        return mean.reshape(shape), std.reshape(shape)


class _Part(NamedTuple):
    """Sums at some points, `[day, point]`."""

    number: np.ndarray
    first: np.ndarray
    second: np.ndarray

    def smooth(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation; NaN where there is no sample."""
        number = self.number
        # Without gaps, as nearly always, one column of counts serves all points.
        if (number == number[:, :1]).all():
            number = number[:, :1]
        with np.errstate(invalid='ignore', divide='ignore'):
            total = weights @ number
            mean = weights @ self.first / total
            variance = weights @ self.second / total - mean**2
        return mean, np.sqrt(np.maximum(variance, 0))


def slices(length: int, step: int) -> list[slice]:
    """Splits an axis into parts of `step` entries, the last of which may be shorter."""
    return [slice(i, i + step) for i in range(0, length, step)]
