"""Running mean and spread of fields over the sphere and in time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


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
    def of(cls, fields: np.ndarray, area_weights: np.ndarray) -> Block:
        """Moments of float64 `[time, level, lat, lon]`; overwrites `fields`."""
        num_lat, num_lon = fields.shape[-2:]
        with np.errstate(invalid='ignore'):  # inf - inf; sorted out below.
            means = fields.mean(axis=-1) @ area_weights / num_lat
            fields -= means[..., None, None]
            # Without an array of the squares.
            squares = np.vecdot(fields, fields) @ area_weights / (num_lat * num_lon)
        valid = np.isfinite(squares)
        count = valid.sum(axis=0)
        means = np.where(valid, means, 0)
        mean = means.sum(axis=0) / np.maximum(count, 1)
        # The spread of all: within each time, and of the times' means about theirs.
        between = np.where(valid, (means - mean) ** 2, 0)
        within = np.where(valid, squares, 0)
        return Block(cls(count, mean, (within + between).sum(axis=0)), valid)

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


class Block(NamedTuple):
    """Moments of a block, and which of its fields entered them, `[time, level]`."""

    spread: Spread
    valid: np.ndarray
