"""What a check found, as a table for the eye."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from weather.data.faults import KINDS, Fault
from weather.doctor.check import Report

_HEADINGS = ('variable', 'level', 'time', 'fault', 'detail')
# A store that is wrong throughout has more rows than anybody reads.
_MAX_ROWS = 200


class Row(NamedTuple):
    """A line of the table; see `Fault`. `number` is how many faults it stands for."""

    variable: str
    level: str
    time: str
    fault: str
    detail: str
    number: int = 1


def rows(report: Report) -> list[Row]:
    """Condenses faults: those of one kind at consecutive times are one row."""
    unique = np.unique(report.times)
    place = {time: i for i, time in enumerate(unique.tolist())}
    groups: dict[tuple[str, float | None, str], list[Fault]] = {}
    for fault in report.listed.faults:
        key = (fault.variable, fault.level, fault.fault)
        groups.setdefault(key, []).append(fault)
    found = []
    for group in groups.values():
        has_levels = bool(report.levels.get(group[0].variable))
        whole = 'all' if has_levels else '-'
        found += [_row(run, whole) for run in _runs(group, place)]
    return found


def _runs(faults: Sequence[Fault], place: dict[int, int]) -> Iterator[list[Fault]]:
    def position(fault: Fault) -> int:
        # Nanoseconds, as `tolist` gives them; those of an earlier check stand apart.
        time = -2 if fault.time is None else fault.time.astype('M8[ns]').item()
        return place.get(time, -2)

    run: list[Fault] = []
    for fault in sorted(faults, key=position):
        if run and position(fault) != position(run[-1]) + 1:
            yield run
            run = []
        run.append(fault)
    if run:
        yield run


def _row(run: Sequence[Fault], whole: str) -> Row:
    first, last = run[0], run[-1]
    times = '-'
    if first.time is not None and last.time is not None:
        times = _text(first.time)
        if len(run) > 1:
            times = f'{times} .. {_text(last.time)} ({len(run)})'
    level = whole if first.level is None else f'{first.level:g}'
    return Row(first.variable, level, times, first.fault, first.detail, len(run))


def to_text(report: Report) -> str:
    """The table, the notes, how many faults there are of each kind, and the verdict."""
    faults = report.listed.faults
    table = rows(report)
    shown = table[:_MAX_ROWS]
    lines = list(_columns(shown)) if shown else []
    if len(table) > len(shown):
        lines.append(f'... and {len(table) - len(shown)} rows more: see the list')
    lines += _notes(report)
    lines.append(f'{report.listed.store}: {report.summary}')
    counts = collections.Counter(fault.fault for fault in faults)
    for kind, number in counts.most_common():
        known = KINDS[kind]
        use = 'kept from training' if known.is_unusable else 'not left out'
        lines.append(f'{number:8d} {kind}: {use}, {known.reason}')
    lines.append(_verdict(report))
    return '\n'.join(lines)


def _notes(report: Report) -> Iterator[str]:
    """Those that say the same of several levels are one."""
    levels: dict[tuple[str, str], list[str]] = {}
    for note in report.notes:
        of_note = [] if note.level is None else [f'{note.level:g}']
        levels.setdefault((note.variable, note.text), []).extend(of_note)
    for (variable, text), at in levels.items():
        yield f'note: {variable}{"@" if at else ""}{",".join(at)}: {text}'


def _verdict(report: Report) -> str:
    faults = report.listed.faults
    if not faults:
        return f'sound: no fault in {_counted(len(report.levels), "variable")}'
    variables = sorted({fault.variable for fault in faults})
    times = {fault.time for fault in faults if fault.time is not None}
    return (
        f'faulty: {_counted(len(faults), "fault")} in {", ".join(variables)}, '
        f'at {len(times)} of {report.times.size} times'
    )


def _counted(number: int, noun: str) -> str:
    return f'{number} {noun}' if number == 1 else f'{number} {noun}s'


def _columns(table: Sequence[Row]) -> Iterator[str]:
    texts = [_HEADINGS, *(row[:5] for row in table)]
    widths = [max(len(text[i]) for text in texts) for i in range(4)]
    for text in texts:
        cells = [cell.ljust(width) for cell, width in zip(text, widths, strict=False)]
        yield '  '.join([*cells, text[4]])


def _text(time: np.datetime64) -> str:
    return str(time.astype('datetime64[m]'))
