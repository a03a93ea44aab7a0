"""What devices send each other, read from the text of a compiled program.

Loops count as often as they run. Bytes are those that one device sends where all take
the cheapest way round a ring; payloads are what it holds, before or after.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

KINDS = (
    'all-to-all',
    'all-reduce',
    'all-gather',
    'reduce-scatter',
    'collective-permute',
)
_BYTES = {
    'pred': 1,
    's8': 1,
    'u8': 1,
    'bf16': 2,
    'f16': 2,
    'f64': 8,
    's64': 8,
    'u64': 8,
}
_COMPUTATION = re.compile(r'^(ENTRY )?%?([\w.\-]+) \(.*\{$')
_COLLECTIVE = re.compile(rf'= (.*?) ({"|".join(KINDS)})(?:-start)?\(')
_WHILE = re.compile(r' while\(.*body=%?([\w.\-]+)')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CALLED = re.compile(r'(?:to_apply|calls|branch_computations)=\{?%?([\w.\-]+)')
_ARRAY = re.compile(r'\b([a-z]\w*)\[([\d,]*)\]')
_AXES = re.compile(r'replica_groups=mesh\[(.*?)\] \{(.*?)\}')
_GROUPS = re.compile(r'replica_groups=(?:\{\{([\d,]*)\}|\[\d+,(\d+)\])')


class Collective(NamedTuple):
    """A collective of a program.

    Attributes:
      kind: one of `KINDS`.
      payload: bytes of its result on one device.
      group: devices that take part in one.
      times: how often it runs.
    """

    kind: str
    payload: int
    group: int
    times: int

    @property
    def sent(self) -> float:
        """Bytes that a device sends each time."""
        others = self.group - 1
        share = others / self.group
        return (
            self.payload
            * {
                'all-to-all': share,
                'all-gather': share,
                'all-reduce': 2 * share,
                'reduce-scatter': others,
                'collective-permute': float(others > 0),
            }[self.kind]
        )


def collectives(text: str) -> list[Collective]:
    """All collectives of a compiled program, `program.as_text()`."""
    bodies, entry = _computations(text)
    return list(_of_computation(bodies, entry, 1))


def bytes_sent(found: list[Collective]) -> dict[str, float]:
    """Bytes that a device sends in one run of the program, by kind."""
    return {
        kind: sum(c.times * c.sent for c in found if c.kind == kind) for kind in KINDS
    }


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    bodies: dict[str, list[str]] = {}
    entry, lines = '', []
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            lines = bodies[header[2]] = []
            entry = header[2] if header[1] else entry
        elif line.startswith(' '):
            lines.append(line)
    return bodies, entry


def _of_computation(
    bodies: dict[str, list[str]], name: str, times: int
) -> Iterator[Collective]:
    for line in bodies.get(name, ()):
        if found := _COLLECTIVE.search(line):
            yield Collective(found[2], _payload(found[1]), _group(line), times)
        elif loop := _WHILE.search(line):
            trips = _TRIPS.search(line)
            if trips is None:
                raise ValueError(f'expected a loop of known length, got {line.strip()}')
            yield from _of_computation(bodies, loop[1], times * int(trips[1]))
        elif called := _CALLED.search(line):
            yield from _of_computation(bodies, called[1], times)


def _payload(shapes: str) -> int:
    return sum(
        _BYTES.get(dtype, 4) * math.prod(int(n) for n in sizes.split(',') if n)
        for dtype, sizes in _ARRAY.findall(shapes)
    )


def _group(line: str) -> int:
    if axes := _AXES.search(line):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", axes[1]))
        return math.prod(int(sizes[name]) for name in re.findall(r"'(\w+)'", axes[2]))
    groups = _GROUPS.search(line)
    if groups is None:
        return 2  # A permutation, from pair to pair.
    return int(groups[2]) if groups[2] else len(groups[1].split(','))
