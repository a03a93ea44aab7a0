"""What one process finds out or does for all, so that all go on from the same.

Of several processes the first looks and decides: file systems show others a change
late, and two that decide for themselves wait for each other for ever.
"""

from __future__ import annotations

import base64
import pickle
from collections.abc import Callable
from typing import TypeVar

from learning import processes

_Value = TypeVar('_Value')


def for_all(compute: Callable[[], _Value]) -> _Value:
    """What `compute` returns to the first process, or raises there; all call this."""
    if processes.count() == 1:
        return compute()
    outcome: tuple[_Value | None, Exception | None] = None, None
    if processes.is_first():
        try:
            outcome = compute(), None
        except Exception as error:  # Whatever it is: the others wait for it.
            outcome = None, error
    text = base64.b64encode(pickle.dumps(_portable(*outcome))).decode()
    value, failure = pickle.loads(base64.b64decode(processes.from_first(text)))
    if failure is not None:
        raise failure
    return value


def _portable(value: object, error: Exception | None) -> tuple[object, object]:
    """The same, with an error that other processes can read."""
    try:
        pickle.loads(pickle.dumps(error))
        return value, error
    except Exception:
        return None, RuntimeError(f'the first process has failed: {error}')
