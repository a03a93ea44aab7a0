"""Sums over the samples of each day of the year, and means and spreads from them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Two sums in float64 and a count per value that is kept.
BYTES_PER_VALUE = 8 + 8 + 4


class DaySums(NamedTuple):
    """Sums over the samples of each day, `[day, ..., lat, lon]`.

    `number` of samples that are not NaN, of the `first` and of the `second` power.
    """

    number: np.ndarray
    first: np.ndarray
    second: np.ndarray

    @classmethod
    def zeros(cls, shape: tuple[int, ...]) -> DaySums:
        """Returns sums of nothing."""
        return cls(np.zeros(shape, np.float32), np.zeros(shape), np.zeros(shape))

    def add(self, day: int, value: np.ndarray) -> None:
        """Adds one sample of a day, leaving out its NaN."""
        valid = np.isfinite(value)
        if not valid.all():
            value = np.where(valid, value, 0)
        self.number[day] += valid
        self.first[day] += value
        # In float64: squares of geopotential are a thousand times their variance.
        self.second[day] += value * value

    def mean_and_std(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns both, `[dayofyear, ...]`, float32, for weights `[dayofyear, day]`."""
        shape = (len(weights), *self.first.shape[1:])
        num_points = self.first[0].size
        mean, std = np.full((2, len(weights), num_points), np.nan, np.float32)
        flat = DaySums(*(sums.reshape(len(sums), -1) for sums in self))
        # In parts: most weights of a few days are 0, and memory stays small.
        for rows in slices(len(weights), 30):
            days = np.flatnonzero(weights[rows].any(axis=0))
            of_days = weights[rows][:, days]
            for points in slices(num_points if days.size else 0, 2048):
                part = DaySums(*(sums[days, points] for sums in flat))
                mean[rows, points], std[rows, points] = part._smooth(of_days)
        return mean.reshape(shape), std.reshape(shape)

    def _smooth(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
