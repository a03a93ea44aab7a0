"""Types of an experiment's values that more than their type must hold for.

A validator's message goes on where the key ends: `config.data.train must be ...`.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field

from learning.problems import did_you_mean
from learning.schema import Count, Group, Integer, Number
from weather.variables import ChannelIndex, Variable, register, stored_statics

_DATE = re.compile(r'(\d{4})(-\d\d(-\d\d([T ]\d\d(:\d\d){0,2})?)?)?')


def _date(value: str) -> str:
    """Refuses what is no date of the calendar, such as 2003-02-30."""
    try:
        if not _DATE.fullmatch(value):
            raise ValueError(value)
        np.datetime64(value)
    except ValueError:
        raise ValueError(f'must be a date such as 2003-01-31, got {value!r}') from None
    return value


def _period(dates: tuple[str, str]) -> tuple[str, str]:
    first, last = dates
    # Dates may be shortened, and 2001 as the last one means all of 2001.
    if first[: len(last)] > last[: len(first)]:
        raise ValueError(
            f'must be the first and the last date, got {first!r} after {last!r}'
        )
    return dates


def _variables(levels: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    if not levels:
        raise ValueError('must hold a variable')
    for name in set(levels) & set(stored_statics()):
        raise ValueError(f'has {name}, which never changes: data.statics is its place')
    try:
        ChannelIndex(levels)
    except ValueError as error:
        raise ValueError(f'is impossible: {error}') from None
    return levels


def _statics(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in stored_statics():
            raise ValueError(
                f'has unknown field {name!r}{did_you_mean(name, stored_statics())}; it '
                f'may have {", ".join(stored_statics())}'
            )
    return names


def _curriculum(pairs: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
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


class Definition(Group):
    """A variable that the table lacks; see `weather.variables.Variable`."""

    short_name: str
    units: str
    standard_name: str
    plausible: tuple[Number, Number]
    role: Literal['both', 'input', 'output', 'static'] = 'both'
    northward: str | None = None
    vector: str | None = None


def _register(definitions: dict[str, Definition]) -> dict[str, Definition]:
    for name, definition in definitions.items():
        register(Variable(name=name, **definition.model_dump()))
    return definitions


Date = Annotated[str, AfterValidator(_date)]
Period = Annotated[tuple[Date, Date], AfterValidator(_period)]
Gigabytes = Annotated[Number, Field(ge=0)]
Fraction = Annotated[Number, Field(ge=0, lt=1)]
Weight = Annotated[Number, Field(ge=0)]
Levels = Annotated[dict[str, tuple[Integer, ...]], AfterValidator(_variables)]
Definitions = Annotated[dict[str, Definition], AfterValidator(_register)]
Statics = Annotated[tuple[str, ...], AfterValidator(_statics)]
Curriculum = Annotated[tuple[tuple[Integer, Count], ...], AfterValidator(_curriculum)]
Window = Annotated[Integer, Field(ge=1, le=365), AfterValidator(_odd)]
