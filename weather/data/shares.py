"""Shares of a batch: what each of several processes reads of it."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Part:
    """What a process reads of an axis of every batch: one of `count` equal parts.

    Attributes:
      index: of the part, from 0.
      count: of the parts.
    """

    index: int = 0
    count: int = 1

    def rows(self, batch_size: int) -> slice:
        """The rows of a batch; `ValueError` if there is no such part of equal size."""
        return self._of(batch_size, 'training.batch_size')

    def latitudes(self, num_lat: int) -> slice:
        """The latitudes of a grid; `ValueError` as for rows."""
        return self._of(num_lat, 'the number of latitudes')

    def _of(self, size: int, what: str) -> slice:
        if not 0 <= self.index < self.count:
            raise ValueError(
                f'expected a part from 0 to {self.count - 1}, got {self.index}'
            )
        if size % self.count:
            raise ValueError(
                f'expected {what} as a multiple of the {self.count} processes that '
                f'share it, got {size}'
            )
        length = size // self.count
        return slice(self.index * length, (self.index + 1) * length)


WHOLE = Part()
