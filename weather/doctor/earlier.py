"""What an earlier check found is kept where a later one does not look."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from weather.data.faults import ALL, TIME, Fault, FaultList


class Looked(NamedTuple):
    """At what a check looked.

    Attributes:
      variables: their names.
      levels: hPa, by variable; one that is not among them was looked at on all.
      times: `[time]` datetime64[ns].
      blind: kinds of faults that it could not see.
    """

    variables: Collection[str]
    levels: Mapping[str, Sequence[float]]
    times: np.ndarray
    blind: Collection[str]


def join(listed: FaultList, found: FaultList, looked: Looked) -> FaultList:
    """Returns what was `listed` now, and of what was `found` earlier what stays."""
    kept = list(_unseen(found.faults, looked))
    versions = {**found.versions, **listed.versions}
    for name in {fault.variable for fault in kept} & set(found.versions):
        # They are of the data as they were: whoever reads the list is told.
        versions[name] = found.versions[name]
    return FaultList(listed.store, versions, [*listed.faults, *kept])


def _unseen(faults: Sequence[Fault], looked: Looked) -> Iterator[Fault]:
    for fault in faults:
        if fault.time is None:
            continue
        name, level = fault.variable, fault.level
        levels = looked.levels.get(name, ())
        seen = name in looked.variables or name in (TIME, ALL)
        # What was wrong on all levels is found again on some.
        seen &= level is None or not levels or level in levels
        seen &= fault.fault not in looked.blind
        if not (seen and np.isin(fault.time, looked.times)):
            yield fault
