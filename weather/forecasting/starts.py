"""The starts and lead times of forecasts: read, checked, chosen.

All of it is done before the first forecast is made, so that what is refused is refused
as a whole.
"""

from __future__ import annotations

import datetime
import logging
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from weather.data.store import Atmosphere
from weather.data.windows import invalid_times

LATEST = 'latest'
_HOUR = np.timedelta64(1, 'h')
# The extended format only: of ISO 8601's others numpy reads 2003011000 as a year.
_FORM = re.compile(
    r'\d{4}-\d\d-\d\d([T ]\d\d(:\d\d(:\d\d(\.\d+)?)?)?(Z|[+-]\d\d(:?\d\d)?)?)?',
    re.IGNORECASE,
)
_LOGGER = logging.getLogger(__name__)


def read_times(
    texts: Sequence[str] | Sequence[np.datetime64] | np.ndarray, atmosphere: Atmosphere
) -> np.ndarray:
    """Reads starts as users write them.

    Args:
      texts: ISO 8601, UTC where no offset is said, or `latest`: the newest time of the
        store at which every channel is finite. datetime64 is passed on.
      atmosphere: where they should be.

    Returns:
      `[start]` datetime64[ns], ascending, each a time of the store.

    Raises:
      ValueError: none, one that cannot be read or that the store lacks, or one twice.
    """
    if not len(texts):
        raise ValueError(
            'expected at least one start, got none; say --init_times=2003-01-10T00, '
            'or leave the flag away for those of the test period'
        )
    times = np.array([_read_time(text, atmosphere) for text in texts], 'M8[ns]')
    found, counts = np.unique(times, return_counts=True)
    if counts.max() > 1:
        raise ValueError(
            f'expected every start once, got {time_text(found[counts > 1][0])} '
            f'{counts.max()} times; leave the repetitions away'
        )
    missing = found[~np.isin(found, atmosphere.times)]
    if missing.size:
        raise ValueError(
            f'expected starts among the times of {_covered(atmosphere)}, got '
            f'{", ".join(map(time_text, missing[:3]))}'
        )
    return found


def read_lead_hours(lead_hours: str | float, *, timestep: np.timedelta64) -> np.ndarray:
    """Every step of the model up to a lead time.

    Returns:
      `[lead]` timedelta64[s], ascending.

    Raises:
      ValueError: no number of hours, or none that is made of whole steps.
    """
    step = float(timestep / _HOUR)
    try:
        steps = float(lead_hours) / step
    except ValueError:
        steps = math.nan
    if not (steps >= 1 and math.isfinite(steps) and steps == round(steps)):
        raise ValueError(
            f'expected --lead_hours as a multiple of the model step, {step:g} h, such '
            f'as {4 * step:g}, got {lead_hours}'
        )
    return timestep.astype('m8[s]') * np.arange(1, round(steps) + 1)


def default_times(
    atmosphere: Atmosphere,
    period: tuple[str, str],
    *,
    every: np.timedelta64,
    longest: np.timedelta64,
) -> np.ndarray:
    """Starts in a period whose longest lead time ends within it.

    A store of a single time, such as the newest analysis, has one start: that.

    Raises:
      ValueError: there is none.
    """
    if atmosphere.times.size == 1:
        return atmosphere.times
    times = atmosphere.dataset.sel(time=slice(*period)).time.values
    if times.size:
        # From the first of the period on, at whatever hour that is.
        in_step = (times - times[0]) % every == np.timedelta64(0)
        fits = times[in_step & (times + longest <= times[-1])]
        if fits.size:
            return fits
    raise ValueError(
        f'expected a test period longer than {longest / _HOUR:g} h, got {times.size} '
        f'times between {" and ".join(period)} in {_covered(atmosphere)}; name starts '
        'with --init_times, or say --init_times=latest'
    )


def without_invalid(times: np.ndarray, atmosphere: Atmosphere) -> np.ndarray:
    """Those of the starts at which the store holds no NaN; how many not is logged.

    Raises:
      ValueError: none is left.
    """
    invalid = invalid_times(atmosphere.dataset.sel(time=times), atmosphere.levels)
    if invalid.size == times.size:
        raise ValueError(
            f'expected finite initial states, found NaN in {atmosphere.source} at all '
            f'{times.size} starts; name others with --init_times'
        )
    if invalid.size:
        _LOGGER.warning('%d starts left out: NaN in the store', invalid.size)
    return times[~np.isin(times, invalid)]


def _covered(atmosphere: Atmosphere) -> str:
    first, last = map(time_text, atmosphere.times[[0, -1]])
    return f'{atmosphere.source} ({first} to {last})'


def time_text(time: np.datetime64) -> str:
    """A time for messages, to the minute."""
    return str(time.astype('datetime64[m]'))


def _read_time(given: Any, atmosphere: Atmosphere) -> np.datetime64:
    if not isinstance(given, str):
        return np.datetime64(given, 'ns')
    if given.strip().lower() == LATEST:
        return _latest(atmosphere)
    try:
        if not _FORM.fullmatch(given.strip()):
            raise ValueError('another form')
        # In capitals: ISO 8601 may be written in small letters, Python reads no `z`.
        time = datetime.datetime.fromisoformat(given.strip().upper())
    except ValueError as error:
        raise ValueError(
            'expected starts in the form of ISO 8601, e.g. 2003-01-10T00, or latest; '
            f'got {given!r} ({error})'
        ) from None
    if time.tzinfo is not None:
        time = time.astimezone(datetime.UTC).replace(tzinfo=None)
    return np.datetime64(time, 'ns')


def _latest(atmosphere: Atmosphere) -> np.datetime64:
    # One after the other: mostly the newest will do, and no more need be read.
    for time in atmosphere.times[::-1]:
        newest = atmosphere.dataset.sel(time=[time])
        if not invalid_times(newest, atmosphere.levels).size:
            return time
        _LOGGER.warning('%s is not the latest start: NaN in the store', time_text(time))
    raise ValueError(
        f'expected a time with finite values in {atmosphere.source}, found NaN at all '
        'of them'
    )
