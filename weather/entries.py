"""Types of a config's entries: what a date, a period or a level may be."""

from __future__ import annotations

import re
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field

from learning.schema import Count, Integer, Number
from learning.spelling import did_you_mean
from weather.variables import ChannelIndex, stored_statics

_DATE = re.compile(r'(\d{4})(-\d\d(-\d\d([T ]\d\d(:\d\d){0,2})?)?)?')


def _date(value: str) -> str:
    """Refuses what is no date of the calendar, such as 2003-02-30."""
    try:
        # NumPy alone would take `today` as well.
        if not _DATE.fullmatch(value):
            raise ValueError(value)
        np.datetime64(value)
    except ValueError:
        raise ValueError(f'must be a date such as 2003-01-31, got {value!r}') from None
    return value


def not_after(first: str, last: str) -> bool:
    """Whether a date comes before a last one, of which 2001 means all of 2001.

    Of equal length, ISO 8601 dates are ordered as text is.
    """
    return first[: len(last)] <= last[: len(first)]


def _period(dates: tuple[str, str]) -> tuple[str, str]:
    first, last = dates
    if not not_after(first, last):
        raise ValueError(
            f'must be the first and the last date, got {first!r} after {last!r}'
        )
    return dates


def _variables(levels: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    if not levels:
        raise ValueError('must hold a variable')
    try:
        ChannelIndex(levels)
    except ValueError as error:
        raise ValueError(f'is impossible: {error}') from None
    return levels


def _statics(names: tuple[str, ...]) -> tuple[str, ...]:
    known = stored_statics()
    for name in names:
        if name not in known:
            raise ValueError(
                f'has unknown field {name!r}{did_you_mean(name, known)}; it may have '
                f'{", ".join(known)}'
            )
    return names


Steps = int | tuple[int, ...]


def _curriculum(pairs: tuple[tuple[int, Steps], ...]) -> tuple[tuple[int, Steps], ...]:
    first_updates = [first for first, _ in pairs]
    if first_updates[:1] != [0]:
        raise ValueError(
            'must be pairs (first update, rollout steps), the first at update 0, got '
            f'{pairs}'
        )
    if sorted(set(first_updates)) != first_updates:
        raise ValueError(f'must ascend in updates, got {pairs}')
    return pairs


def _odd(days: int) -> int:
    if days % 2 == 0:
        raise ValueError(f'must be odd, got {days}')
    return days


def _divides_day(hours: int) -> int:
    if hours and 24 % hours:
        raise ValueError(f'must divide 24, or be 0, got {hours}')
    return hours


Date = Annotated[str, AfterValidator(_date)]
Period = Annotated[tuple[Date, Date], AfterValidator(_period)]
# 500.0 is written 500, so that a level has one spelling.
Level = Annotated[
    Annotated[Integer, Field(gt=0)] | Annotated[Number, Field(gt=0)],
    Field(union_mode='left_to_right'),
]
Gigabytes = Annotated[Number, Field(ge=0)]
Weight = Annotated[Number, Field(ge=0)]
Levels = Annotated[dict[str, tuple[Level, ...]], AfterValidator(_variables)]
Statics = Annotated[tuple[str, ...], AfterValidator(_statics)]
# A rollout's steps: a number, or several of which every update draws one.
# Of the problems of a union's members the last one is told.
RolloutSteps = Annotated[tuple[Count, ...], Field(min_length=1)] | Count
Curriculum = Annotated[
    tuple[tuple[Integer, RolloutSteps], ...], AfterValidator(_curriculum)
]
WindowDays = Annotated[Integer, Field(ge=1, le=365), AfterValidator(_odd)]
# Counted from midnight, every day alike.
StepHours = Annotated[Integer, Field(ge=0), AfterValidator(_divides_day)]
