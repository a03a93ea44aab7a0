"""Several processes as one training: what they agree about (to be replaced)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np


def is_first() -> bool:
    """Whether this is the process that writes for all."""
    return jax.process_index() == 0


def agree(flags: Sequence[bool]) -> list[bool]:
    """For each question whether any process says yes."""
    if jax.process_count() == 1:
        return list(flags)
    from jax.experimental import multihost_utils

    found = multihost_utils.process_allgather(np.asarray(flags, np.int32))
    return (np.sum(found, axis=0) > 0).tolist()


def from_first(value: Any) -> Any:
    """The value of process 0."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    content = json.dumps(value).encode()
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(content))))
    buffer = np.zeros(size, np.uint8)
    if is_first():
        buffer[:] = np.frombuffer(content, np.uint8)
    found = multihost_utils.broadcast_one_to_all(buffer)
    return json.loads(np.asarray(found).tobytes())


def barrier(name: str) -> None:
    """Waits for all processes."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)
