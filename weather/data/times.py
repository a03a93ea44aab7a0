"""Times of a store: one step throughout, apart from gaps of whole steps."""

from __future__ import annotations

import numpy as np


def check_times(times: np.ndarray, source: str) -> None:
    """Refuses times that do not increase or whose steps fit no common step.

    Gaps of several steps are accepted: windows across them are left out later.

    Raises:
      ValueError: naming the first two times that offend.
    """
    steps = np.diff(times)
    backward = np.flatnonzero(steps <= np.timedelta64(0))
    if backward.size:
        first, second = _pair(times, backward[0])
        problem = 'repeated' if first == second else 'decreasing'
        raise ValueError(
            f'expected increasing times, found {problem} times {first}, {second} in '
            f'{source}; sort the store by time and drop repetitions'
        )
    if steps.size < 2:
        return
    step = common_timestep(times)
    irregular = np.flatnonzero(steps % step)
    if irregular.size:
        first, second = _pair(times, irregular[0])
        raise ValueError(
            f'expected times {_hours(step)} h apart, or a multiple of it where times '
            f'are missing, found {first} followed by {second} '
            f'({_hours(steps[irregular[0]])} h) in {source}; select times at one step'
        )


def common_timestep(times: np.ndarray) -> np.timedelta64:
    """Returns the most common difference between neighbouring times.

    Raises:
      ValueError: fewer than two times.
    """
    if times.size < 2:
        raise ValueError(
            f'expected at least two times to take the time step from, found '
            f'{times.size}; use a store that covers a longer period'
        )
    steps, counts = np.unique(np.diff(times), return_counts=True)
    return steps[np.argmax(counts)]


def _pair(times: np.ndarray, position: int) -> np.ndarray:
    return times[position : position + 2].astype('datetime64[s]')


def _hours(step: np.timedelta64) -> str:
    return f'{step / np.timedelta64(1, "h"):g}'
