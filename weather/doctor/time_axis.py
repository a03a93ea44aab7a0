"""What is wrong with a time axis: doubled, decreasing, uneven times, and gaps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from weather.data.faults import TIME, Fault
from weather.data.times import common_timestep

_HOUR = np.timedelta64(1, 'h')


def time_faults(times: np.ndarray) -> list[Fault]:
    """Faults of an axis but for its gaps.

    Times between the steps of most others are uneven: those are named, and not their
    neighbours, which stand a fraction of a step from them.

    Args:
      times: `[time]` datetime64[ns] in stored order.
    """
    found = []
    steps = np.diff(times)
    for place in np.flatnonzero(steps < np.timedelta64(0)):
        detail = f'follows {_text(times[place])}'
        found.append(_fault(times[place + 1], 'decreasing time', detail))
    unique, counts = np.unique(times, return_counts=True)
    for place in np.flatnonzero(counts > 1):
        detail = f'{counts[place]} times on the axis'
        found.append(_fault(unique[place], 'doubled time', detail))
    if unique.size < 3:
        return found  # One step fits itself.
    step = common_timestep(unique)
    phases = (unique - unique[0]) % step
    kinds, numbers = np.unique(phases, return_counts=True)
    usual = kinds[np.argmax(numbers)]
    for place in np.flatnonzero(phases != usual):
        off = (phases[place] - usual) % step / _HOUR
        detail = f'{off:g} h after a multiple of the step of {step / _HOUR:g} h'
        found.append(_fault(unique[place], 'uneven time', detail))
    return found


def gaps(
    times: np.ndarray, periods: Sequence[tuple[str, str]] | None = None
) -> list[Fault]:
    """Where times are missing; named by the last time before.

    Args:
      times: `[time]` datetime64[ns] in any order.
      periods: first and last date of each; a gap that reaches out of a period is none,
        nor is one between two. None: one from the first time to the last.
    """
    unique = np.unique(times)
    if unique.size < 3:
        return []
    step = common_timestep(unique)
    found = []
    for place in np.flatnonzero(np.diff(unique) >= 2 * step):
        before, after = unique[place], unique[place + 1]
        if periods is None or any(_within(before, after, p) for p in periods):
            number = int((after - before) / step) - 1
            detail = f'{number} times are missing before {_text(after)}'
            found.append(_fault(before, 'gap', detail))
    return found


def _within(
    before: np.datetime64, after: np.datetime64, period: tuple[str, str]
) -> bool:
    first, last = (np.datetime64(bound) for bound in period)
    return bool(first <= before and after < last + 1)


def _fault(time: np.datetime64, fault: str, detail: str) -> Fault:
    return Fault(TIME, None, time, fault, detail)


def _text(time: np.datetime64) -> str:
    return str(time.astype('datetime64[s]'))
