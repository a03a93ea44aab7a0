"""What forecasts and truth share and can be scored, and why the rest cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from learning.spelling import did_you_mean
from weather.data.store import refused
from weather.evaluation import readers
from weather.variables import VARIABLES, as_level, stored_statics

# Levels in hPa of every variable; an empty sequence for one without levels.
Levels = Mapping[str, Sequence[float]]
_FIELD = {'time', 'latitude', 'longitude'}


class Selection(NamedTuple):
    """What is scored, and what is not.

    Attributes:
      levels: levels of every variable that is scored, ascending, integers where they
        are whole; `(None,)` for one without levels.
      not_scored: the reason, by name, of what is in either source and is not scored. A
        variable stands in both where only some of its levels are scored.
    """

    levels: dict[str, tuple[float | None, ...]]
    not_scored: dict[str, str]


def select(
    forecasts: xr.Dataset, truth: xr.Dataset, levels: Levels | None = None
) -> Selection:
    """Chooses what to score: what is asked for, or all in both sources.

    Raises:
      ValueError: nothing in common, or something asked for that cannot be scored.
    """
    shared, reasons = {}, {}
    names = {*map(str, forecasts), *map(str, truth)}
    names |= refused(forecasts).keys() | refused(truth).keys()
    # What never changes is no forecast that anyone misses.
    names -= {
        name for name in stored_statics() if name in truth and name not in forecasts
    }
    for name in sorted(names, key=_rank):
        of_name, reason = _compare(name, forecasts, truth)
        if of_name:
            shared[name] = of_name
        if reason:
            reasons[name] = reason
    if not shared:
        raise ValueError(
            'forecast and truth have no variable at a common level; '
            + '; '.join(describe(reasons))
        )
    if levels is None:
        return Selection(shared, reasons)
    for name, wanted in levels.items():
        if name not in shared:
            why = f' ({reasons[name]})' if name in reasons else ''
            raise ValueError(
                f'{name!r} is not in both forecast and truth{why}'
                f'{did_you_mean(name, shared)}; they share {", ".join(shared)}'
            )
        # In the order of their texts: None and numbers have no other.
        lacking = sorted(set(wanted or (None,)) - set(shared[name]), key=str)
        if lacking:
            raise ValueError(
                f'{name} is not in both forecast and truth at {lacking}; '
                f'they share its levels {shared[name]}'
            )
    chosen: dict[str, tuple[float | None, ...]] = {
        name: tuple(wanted) or (None,) for name, wanted in levels.items()
    }
    # Who says what to score knows that the rest is not scored.
    return Selection(chosen, {})


def describe(not_scored: Mapping[str, str]) -> list[str]:
    """One line for every reason: `only in the truth: pressure, temperature`."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in not_scored.items():
        by_reason.setdefault(reason, []).append(name)
    return [f'{reason}: {", ".join(names)}' for reason, names in by_reason.items()]


def _compare(
    name: str, forecasts: xr.Dataset, truth: xr.Dataset
) -> tuple[tuple[float | None, ...], str | None]:
    """Levels of one variable that can be scored, and why others, or all, cannot."""
    for what, one, other in (
        ('forecast', forecasts, truth),
        ('truth', truth, forecasts),
    ):
        if name in refused(other):
            return (), refused(other)[name]
        if name not in other and name not in refused(one):
            near = did_you_mean(name, set(map(str, other)) - set(map(str, one)))
            return (), f'only in the {what}{near}'
    forecast, observed = forecasts[name], truth[name]
    reason = _unfit(forecast, _FIELD | {'prediction_timedelta'}, 'forecast') or _unfit(
        observed, _FIELD, 'truth'
    )
    if reason:
        return (), reason
    wanted = observed.attrs.get('units')
    if readers.conversion(forecast, wanted) is None:
        units = forecast.attrs['units']
        return (), f'units {units!r} of the forecast are not {wanted!r} of the truth'
    if ('level' in forecast.dims) != ('level' in observed.dims):
        without = 'truth' if 'level' in forecast.dims else 'forecast'
        return (), f'no level axis in the {without}'
    if 'level' not in forecast.dims:
        return (None,), None
    return _compare_levels(forecast.level.values, observed.level.values)


def _unfit(variable: xr.DataArray, needed: set[str], what: str) -> str | None:
    """Why a variable holds no fields to compare, if so."""
    dims = set(map(str, variable.dims))
    if needed - dims:
        return f'no axis {" and ".join(sorted(needed - dims))} in the {what}'
    return None


def _compare_levels(
    forecast: np.ndarray, truth: np.ndarray
) -> tuple[tuple[float, ...], str | None]:
    found, expected = ({as_level(level) for level in of} for of in (forecast, truth))
    reasons = [
        f'levels {", ".join(f"{level:g}" for level in sorted(only))} hPa only in the '
        f'{what}'
        for what, only in (('forecast', found - expected), ('truth', expected - found))
        if only
    ]
    return tuple(sorted(found & expected)), ' and '.join(reasons) or None


def _rank(name: str) -> tuple[int, str]:
    """Order of variables: as the project lists them, then by name."""
    known = list(VARIABLES)
    return known.index(name) if name in known else len(known), name
