"""What is a fault of a field, judged by the numbers that a scan kept of it.

Each rule has its reason beside it; none looks at values again. Where a rule would
call real weather a fault it says nothing: what is told to a user has to be believed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from weather.data.checks import check_mean, standard_geopotential
from weather.data.faults import Fault
from weather.data.units import GRAVITY
from weather.doctor.scanning import Place, Scanned
from weather.variables import VARIABLES, Channel

# A jump is a change this many times the usual one and those around it, and this many
# robust standard deviations (1.4826 times the median absolute deviation, of the
# logarithm) beyond the usual.
_JUMP_FACTOR, _JUMP_DEVIATIONS = 2.5, 8.0
# Fewer changes do not show what is usual.
_JUMP_CHANGES = 10
# Above, the table's range is not meant (see `Variable.plausible`): jets and waves of
# the mesosphere reach half as far again.
_TOP_HPA, _TOP_FACTOR = 50, 1.5
# Times that show that something is so at all times.
_ALL_TIMES = 3


class Note(NamedTuple):
    """Something to know about a store that is no fault."""

    variable: str
    level: float | None
    text: str


class Verdict(NamedTuple):
    """What is wrong with a variable, and what is to be known of it."""

    faults: list[Fault]
    notes: list[Note]


class Series(NamedTuple):
    """A variable over the times that were scanned.

    Attributes:
      name: its name.
      levels: hPa; empty for a variable without.
      times: `[time]` datetime64[ns], ascending; one may stand there twice.
      step: the usual time between two; None where nobody can say.
      size: number of values of a field.
      is_every_level: whether these are all levels that the store has of it.
      is_asked_for: whether a config wants all of it, so that what is missing at all
        times is a fault.
    """

    name: str
    levels: Sequence[float]
    times: np.ndarray
    step: np.timedelta64 | None
    size: int
    is_every_level: bool
    is_asked_for: bool


def plausible_values(channel: Channel) -> tuple[float, float]:
    """Smallest and largest value, SI, that an atmosphere shows at one place."""
    low, high = VARIABLES[channel.variable].plausible
    if channel.level is None:
        return low, high
    if channel.variable == 'geopotential' and channel.level <= 850:
        # Of the standard atmosphere at that level; lows are 1000 m lower.
        standard = standard_geopotential(float(channel.level))
        return 0.5 * standard - 1e4, 2 * standard + 1e4
    if channel.level < _TOP_HPA:
        reach = (_TOP_FACTOR - 1) * (high - low) / 2
        return low - reach, high + reach
    return low, high


def judge(series: Series, scanned: Scanned) -> Verdict:
    """Judges every time and level of a variable of the project's table."""
    verdict = Verdict([], [])
    missing = scanned.summary.num_missing
    unreadable = np.zeros(missing.shape, bool)
    for place in scanned.unreadable:
        unreadable[place] = True
    settled = np.zeros(missing.shape, bool)

    def put(kind: str, flags: np.ndarray, detail: Callable[[Place], str]) -> None:
        """Notes faults where nothing worse was found."""
        flags = flags & ~settled
        settled[flags] = True
        verdict.faults.extend(_faults(series, kind, flags, detail))

    put('unreadable', unreadable, lambda p: scanned.unreadable.get(p, ''))
    settled |= _missing_at_all_times(series, scanned, settled, verdict)
    words = f'of {series.size} values'
    put('missing chunk', scanned.is_hole, lambda p: f'{missing[p]} {words}')
    put('NaN', missing > 0, lambda p: f'{missing[p]} {words} are not finite')
    if VARIABLES[series.name].role == 'both':
        _put_constant(series, scanned, put)
    _put_implausible(series, scanned, settled, put, verdict)
    if VARIABLES[series.name].role == 'both':
        _put_frozen(series, scanned, put)
        _put_jumps(series, scanned, settled, put)
    return verdict


_Put = Callable[[str, np.ndarray, Callable[[Place], str]], None]


def _missing_at_all_times(
    series: Series, scanned: Scanned, settled: np.ndarray, verdict: Verdict
) -> np.ndarray:
    """Tells levels that a variable lacks, and masks, from holes in time.

    Returns `[time, level]`, what is explained so.
    """
    missing = scanned.summary.num_missing
    nothing, some = missing == series.size, (missing > 0) & (missing < series.size)
    lacks = (nothing | settled).all(axis=0) & nothing.any(axis=0)
    # What has no values at all is no variable that lacks a level.
    lacks &= not lacks.all()
    masked = (nothing | some | settled).all(axis=0) & (some.sum(axis=0) >= _ALL_TIMES)
    is_in_air = bool(series.levels) and VARIABLES[series.name].role == 'both'
    for column in map(int, np.flatnonzero(lacks)):
        text = 'NaN at all times: the store lacks it'
        _tell(series, column, 'absent', text, verdict, series.is_asked_for)
    for column in map(int, np.flatnonzero(masked)):
        numbers = missing[some[:, column], column]
        low, high = numbers.min(), numbers.max()
        number = f'{low}' if low == high else f'{low} to {high}'
        text = f'{number} of {series.size} values are NaN at every time'
        if is_in_air:
            text += "; below the ground? prepare.below_ground='fill' fills them"
            _tell(series, column, 'below ground', text, verdict, True)
        else:
            text += ', as over land or sea: fill them before it is trained on'
            _tell(series, column, 'NaN', text, verdict, series.is_asked_for)
    return (lacks | (masked & some)) & ~scanned.is_hole


def _tell(
    series: Series,
    column: int,
    kind: str,
    text: str,
    verdict: Verdict,
    is_fault: bool,
) -> None:
    level = _level(series, column)
    if is_fault:
        verdict.faults.append(Fault(series.name, level, None, kind, text))
    else:
        verdict.notes.append(Note(series.name, level, text))


def _put_constant(series: Series, scanned: Scanned, put: _Put) -> None:
    low, high = scanned.summary.minimum, scanned.summary.maximum
    is_constant = (low == high) & (series.size > 1)
    if VARIABLES[series.name].units in ('kg kg-1', 'Pa s-1'):
        # Air that is dry, or at rest, to the precision of the store: high levels.
        is_constant &= low != 0
    put('constant', is_constant, lambda p: f'{low[p]:g} everywhere')


def _put_implausible(
    series: Series,
    scanned: Scanned,
    settled: np.ndarray,
    put: _Put,
    verdict: Verdict,
) -> None:
    summary = scanned.summary
    flags = np.zeros(settled.shape, bool)
    hints: list[tuple[float, float, str]] = []
    for column in range(len(series.levels) or 1):
        channel = Channel(series.name, _level(series, column))
        low, high = plausible_values(channel)
        mean = summary.mean[:, column]
        outside = (summary.minimum[:, column] < low) | (
            summary.maximum[:, column] > high
        )
        flags[:, column] = outside | ~_plausible_means(channel, mean)
        hints.append((low, high, VARIABLES[series.name].units))
        judged = ~settled[:, column]
        guesses = {_guess(channel, value) for value in mean[judged & flags[:, column]]}
        always = judged.any() and flags[judged, column].all() and len(mean) > 1
        if always and len(guesses) == 1 and '' not in guesses:
            (guess,) = guesses
            text = f'means {np.nanmin(mean):.4g} to {np.nanmax(mean):.4g}{guess}'
            _tell(series, column, 'units', text, verdict, True)
            settled[:, column] = True

    def detail(place: Place) -> str:
        low, high, units = hints[place.level]
        found = f'{summary.minimum[place]:.4g} to {summary.maximum[place]:.4g} {units}'
        channel = Channel(series.name, _level(series, place.level))
        guess = _guess(channel, summary.mean[place])
        return f'values {found}, plausible {low:.4g} to {high:.4g}{guess}'

    put('implausible', flags, detail)


def _plausible_means(channel: Channel, means: np.ndarray) -> np.ndarray:
    """`[time]`, whether `checks.check_mean` accepts the area mean; true of NaN."""
    low, high = -np.inf, np.inf
    if channel.variable == 'geopotential' and (channel.level or 1000) <= 850:
        standard = standard_geopotential(float(channel.level or 0))
        low, high = 0.5 * standard, 2 * standard
    return ~((means < low) | (means > high))


def _guess(channel: Channel, mean: float) -> str:
    """Which other units would explain a mean; empty if none."""
    if not np.isfinite(mean):
        return ''
    by_units: dict[str, list[tuple[str, float, float]]] = {
        'K': [('degrees Celsius', 1, 273.15)],
        'Pa': [('hPa', 100, 0)],
        'm2 s-2': [('metres (heights)', GRAVITY, 0)],
        'kg kg-1': [('g kg-1', 1e-3, 0)],
        'm': [('mm', 1e-3, 0)],
        '1': [('percent', 1e-2, 0)],
    }
    for words, factor, offset in by_units.get(VARIABLES[channel.variable].units, []):
        try:
            check_mean(channel, mean * factor + offset, '')
        except ValueError:
            continue
        return f'; as if in {words}'
    return ''


def _put_frozen(series: Series, scanned: Scanned, put: _Put) -> None:
    summary = scanned.summary
    same = (summary.tendency_mean == 0) & (summary.tendency_variance == 0)
    # Of a field with missing values there is no change, but there is its checksum.
    repeats = np.concatenate([[False], np.diff(summary.checksum.astype(int)) == 0])
    partial = (summary.num_missing > 0) & (summary.num_missing < series.size)
    same |= repeats[:, None] & partial
    # A time that stands there twice is another fault.
    moves = np.concatenate([[False], np.diff(series.times) > np.timedelta64(0)])
    if VARIABLES[series.name].units in ('kg kg-1', 'Pa s-1'):
        same &= (summary.minimum != 0) | (summary.maximum != 0)
    put('frozen', same & moves[:, None], lambda p: 'the same as the time before')


def _put_jumps(
    series: Series, scanned: Scanned, settled: np.ndarray, put: _Put
) -> None:
    """Fields of which the changes to and from them are both far out of the usual."""
    summary = scanned.summary
    if len(series.times) < 3 or series.step is None:
        return
    change = np.sqrt(summary.tendency_variance + summary.tendency_mean**2)
    at_step = np.concatenate([[False], np.diff(series.times) == series.step])
    # A change from or to what is wrong for another reason says nothing.
    before = np.concatenate([settled[:1], settled[:-1]])
    usable = at_step[:, None] & np.isfinite(change) & (change > 0) & ~settled & ~before
    flags = np.zeros(settled.shape, bool)
    factor = np.zeros(settled.shape)
    for column in range(settled.shape[1]):
        good = usable[:, column]
        if good.sum() < _JUMP_CHANGES:
            continue
        logs = np.log(np.where(good, change[:, column], 1.0))
        middle = np.median(logs[good])
        deviation = 1.4826 * np.median(np.abs(logs[good] - middle))
        least = max(np.log(_JUMP_FACTOR), _JUMP_DEVIATIONS * deviation)
        far = good & (logs - middle > least)
        flags[:, column] = far & _next(far) & _stands_out(logs, good)
        factor[:, column] = np.exp(logs - middle)
    put(
        'jump',
        flags,
        lambda p: f'changes to and from it are {factor[p]:.1f} times the usual ones',
    )


def _stands_out(logs: np.ndarray, good: np.ndarray) -> np.ndarray:
    """`[time]`, whether the changes to and from a time exceed those around them too.

    One field that is wrong changes two changes; weather, and a model that finds its
    balance, more.
    """
    earlier = np.concatenate([[-np.inf], np.where(good, logs, -np.inf)[:-1]])
    later = _next(_next(np.where(good, logs, -np.inf), -np.inf), -np.inf)
    around = np.maximum(earlier, later) + np.log(_JUMP_FACTOR)
    return (np.minimum(logs, _next(logs, -np.inf)) > around) & (around > -np.inf)


def _next(values: np.ndarray, last: float = 0) -> np.ndarray:
    """Each entry replaced by the one after it."""
    return np.concatenate([values[1:], np.full(1, last, values.dtype)])


def _level(series: Series, column: int) -> float | None:
    return series.levels[column] if series.levels else None


def _faults(
    series: Series, kind: str, flags: np.ndarray, detail: Callable[[Place], str]
) -> list[Fault]:
    """One for each time and level, or for each time where it is all levels alike."""
    found = []
    for time in np.flatnonzero(flags.any(axis=1)):
        columns = np.flatnonzero(flags[time])
        together = series.is_every_level and columns.size == flags.shape[1] > 1
        for column in columns[:1] if together else columns:
            place = Place(int(time), int(column))
            level = None if together else _level(series, column)
            at = series.times[time]
            found.append(Fault(series.name, level, at, kind, detail(place)))
    return found
