"""Whether all of a store is there, and what its packing cost."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import zarr

from weather.building.layout import METADATA, SUMMARY, chunk_keys
from weather.building.plan import Plan
from weather.building.tasks import ERROR_COLUMNS, Task, all_tasks
from weather.data.record_writer import DONE, column
from weather.data.spread import Spread
from weather.data.summary import Moments


def missing_files(plan: Plan) -> dict[str, list[str]]:
    """Files that a listing of the store lacks, by variable, static or coordinate."""
    place, shard = plan.place, plan.experiment.prepare.shard_times
    expected = {
        name: chunk_keys(plan.times.size, shard, len(plan.shape(name)))
        for name in plan.levels
    }
    for name in plan.experiment.data.statics:
        expected[name] = ['c/0/0']
    for name in ('time', *(['level'] if plan.axis else []), 'latitude', 'longitude'):
        expected[name] = ['c/0']
    lacking = {}
    for name, keys in expected.items():
        found = place.find(name)
        if missing := [key for key in (*keys, METADATA) if key not in found]:
            lacking[name] = missing
    return lacking


def unfinished(plan: Plan) -> list[Task]:
    """Tasks of which something is not recorded as done."""
    place = plan.place
    # The columns whole: a request for each block would take minutes at an address.
    done = {
        name: np.asarray(column(place.group(f'{SUMMARY}/{name}'), DONE)[:])
        for name in plan.levels
    }
    return [
        task
        for task in all_tasks(plan)
        if not all(done[name][task.start : task.stop].all() for name in task.names)
    ]


def tasks_of(plan: Plan, missing: dict[str, list[str]]) -> list[Task]:
    """Tasks that write the missing files."""
    shard = max(plan.experiment.prepare.shard_times, 1)
    times = {
        name: {int(key.split('/')[1]) * shard for key in keys if key != METADATA}
        for name, keys in missing.items()
        if name in plan.levels
    }
    return [
        task
        for task in all_tasks(plan)
        if any(
            task.start <= time < task.stop
            for name in task.names
            for time in times.get(name, ())
        )
    ]


class Findings(NamedTuple):
    """What the record says of a variable.

    Attributes:
      num_missing: values that are not finite, at wanted levels.
      num_times: times at which there is one.
      rms: `[level]`, error of packing, SI; 0 where nothing is packed.
      largest: `[level]`.
      share: `[level]`, `rms` over the standard deviation.
    """

    num_missing: int
    num_times: int
    rms: np.ndarray
    largest: np.ndarray
    share: np.ndarray


def findings(plan: Plan, name: str) -> Findings:
    """Sums up the record of a variable."""
    group = plan.place.group(f'{SUMMARY}/{name}')
    places = [plan.axis.index(level) for level in plan.levels[name]] or [0]

    def read(of_column: str) -> np.ndarray:
        return np.asarray(column(group, of_column)[:])[:, places]

    missing = read('num_missing')
    std = Spread.of(Moments(read('mean'), read('variance'))).std
    if plan.packing[name].kind == 'float32':
        square = largest = np.zeros((1, len(places)))
    else:
        square, largest = (
            np.asarray(_array(group, of_column)[:])[:, places]
            for of_column in ERROR_COLUMNS
        )
    rms = np.sqrt(square.mean(axis=0))
    with np.errstate(invalid='ignore', divide='ignore'):
        share = np.nan_to_num(rms / std, nan=0.0, posinf=0.0)
    return Findings(
        int(missing.sum()),
        int(missing.any(axis=1).sum()),
        rms,
        largest.max(axis=0),
        share,
    )


def _array(group: zarr.Group, name: str) -> zarr.Array:
    found = group[name]
    assert isinstance(found, zarr.Array)
    return found
