"""Several processes that train together: who they are, and what they agree on.

One process is the same code with nothing to wait for: every function here then answers
at once, and imports no network. All processes call them in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

_JSON = TypeVar('_JSON')

# Exit status of a process that another one has left alone: nothing is wrong with the
# command, which goes on from the newest checkpoint when all processes start it again.
LOST = 75


def index() -> int:
    """Number of this process, from 0; does not touch the devices."""
    return 0


def count() -> int:
    """How many processes there are; does not touch the devices."""
    return 1


def is_first() -> bool:
    """Whether this is process 0, which writes files and speaks to the user."""
    return index() == 0


def agree(flags: Sequence[bool]) -> list[bool]:
    """Whether any process says yes, for each of several questions.

    To be called after every update, with all that this process wants: `[stop, save]`.
    All processes get the same answers for the same update. It does not look at the
    devices, which go on with what they were given meanwhile.
    """
    return [bool(flag) for flag in flags]


def from_first(value: _JSON, *, channel: str = '') -> _JSON:
    """The value (JSON types) of process 0; what the others give is ignored.

    Args:
      value: what process 0 has found or decided.
      channel: of the question, where several threads ask: they need not come in order.
    """
    return value


def gather(value: Any, *, channel: str = '') -> list[Any]:
    """The values (JSON types) of all processes, in their order."""
    return [value]


def barrier(name: str) -> None:
    """Waits for all processes, however long it takes, to come to this place."""
