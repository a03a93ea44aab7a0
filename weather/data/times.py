"""Times of a store: decoded to the second, one step throughout apart from gaps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray

_CALENDARS = ('standard', 'gregorian', 'proleptic_gregorian')
_SECOND = np.timedelta64(1, 's')


def decode_times(
    stored: np.ndarray, attributes: Mapping[str, Any], source: str
) -> np.ndarray:
    """Returns times as datetime64[ns], rounded to the second.

    Hours in floating point are a rounding error away from the time that is meant:
    05:59:59.999999 is 06:00.

    Raises:
      ValueError: no times, another calendar than ours, or missing times.
    """
    calendar = str(attributes.get('calendar', 'standard')).lower()
    # cftime's times, which xarray has made of a calendar that NumPy lacks.
    if stored.dtype == object and stored.size and hasattr(stored.flat[0], 'calendar'):
        calendar = stored.flat[0].calendar
    if calendar not in _CALENDARS:
        raise ValueError(
            f'expected times in the standard calendar, found the calendar {calendar!r} '
            f'in {source}; convert it with xarray.Dataset.convert_calendar'
        )
    if stored.dtype == object and stored.size and hasattr(stored.flat[0], 'isoformat'):
        stored = np.array([time.isoformat() for time in stored.flat], 'datetime64[us]')
    times = _decode('time', stored, attributes, source)
    if times.dtype.kind != 'M':
        found = {k: attributes[k] for k in ('units', 'calendar') if k in attributes}
        raise ValueError(
            'expected times with units such as "hours since 1959-01-01" in the '
            f'standard calendar, found {found} in {source}; write the store with '
            'xarray, which encodes times so'
        )
    return _to_seconds(times, source)


def decode_lead_times(
    stored: np.ndarray, attributes: Mapping[str, Any], source: str
) -> np.ndarray:
    """Returns lead times as timedelta64[ns], rounded to the second."""
    leads = _decode('prediction_timedelta', stored, attributes, source)
    if leads.dtype.kind != 'm':
        raise ValueError(
            f'{source}: expected prediction_timedelta as timedelta64, got '
            f'{leads.dtype}; write it with a dtype attribute '
            '("timedelta64[ns]") and units such as "hours"'
        )
    return _to_seconds(leads, source)


def _decode(
    name: str, stored: np.ndarray, attributes: Mapping[str, Any], source: str
) -> np.ndarray:
    encoded = xarray.Variable(('x',) * stored.ndim, stored, dict(attributes))
    try:
        decoded = xarray.conventions.decode_cf_variable(
            name, encoded, decode_timedelta=True
        )
        return np.asarray(decoded.values)
    # Units that nobody understands, numbers out of range: xarray raises several kinds.
    except Exception as error:
        raise ValueError(f'cannot read {name} in {source}: {error}') from error


def _to_seconds(values: np.ndarray, source: str) -> np.ndarray:
    if np.isnat(values).any():
        raise ValueError(
            f'expected a time everywhere on the time axis, found '
            f'{np.isnat(values).sum()} missing in {source}; the store was not written '
            'to its end'
        )
    kind = values.dtype.kind
    # To the nearest second, which `astype` alone would cut off to.
    whole = values.astype(f'{kind}8[s]')
    rest = values.astype(f'{kind}8[ns]') - whole
    return (whole + (2 * rest >= _SECOND) * _SECOND).astype(f'{kind}8[ns]')


def check_increasing(times: np.ndarray, source: str) -> None:
    """Refuses times that do not increase, naming the first two that offend."""
    backward = np.flatnonzero(np.diff(times) <= np.timedelta64(0))
    if backward.size:
        first, second = _pair(times, backward[0])
        problem = 'repeated' if first == second else 'decreasing'
        raise ValueError(
            f'expected increasing times, found {problem} times {first}, {second} in '
            f'{source}; sort the store by time and drop repetitions'
        )


def check_times(times: np.ndarray, source: str) -> None:
    """Refuses times that do not increase or whose steps fit no common step.

    Gaps of several steps are accepted: windows across them are left out later.

    Raises:
      ValueError: naming the first two times that offend.
    """
    check_increasing(times, source)
    steps = np.diff(times)
    if steps.size < 2:
        return  # One step fits itself, and a single time has none.
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
