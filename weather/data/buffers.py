"""Memory of arrays that nobody holds any more, for the next ones.

The system fills new memory with zeros before a batch is read into it, which takes
longer than to read the batch from its cache.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence

import numpy as np

# Bytes: so JAX wants arrays on a CPU in order to use them as they are, without a copy.
_ALIGNED = 64
_LINE = _ALIGNED // 4


class Buffers:
    """Arrays, the memory of which is used again once they are garbage."""

    def __init__(self) -> None:
        self._idle: list[np.ndarray] = []

    @property
    def idle_bytes(self) -> int:
        """Size of what waits to be used again."""
        return sum(memory.nbytes for memory in self._idle)

    def empty(self, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
        """Returns float32 arrays of these shapes, contents undefined, of one memory.

        Idle memory of another size is let go: batches of one training have one size
        for long, and then another.
        """
        ends = np.cumsum([0, *(_padded(shape) for shape in shapes)])
        memory = self._take(int(ends[-1]) + _LINE)
        # An array of a foreign owner: views of it, and of these, refer to it and to
        # nothing beneath, so that it is garbage when the last of them is.
        whole = np.frombuffer(memory.data, np.float32)
        skipped = -memory.ctypes.data % _ALIGNED // 4
        # Appending is atomic: garbage is collected in any thread, at any time.
        weakref.finalize(whole, self._idle.append, memory).atexit = False
        return [
            whole[start : start + math.prod(shape)].reshape(shape)
            for start, shape in zip(ends + skipped, shapes, strict=False)
        ]

    def _take(self, size: int) -> np.ndarray:
        while self._idle:
            memory = self._idle.pop()
            if memory.size == size:
                return memory
        return np.empty(size, np.float32)


def _padded(shape: tuple[int, ...]) -> int:
    """Numbers in an array of this shape, so that the next one is aligned as well."""
    return -(-math.prod(shape) // _LINE) * _LINE
