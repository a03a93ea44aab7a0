"""The plan of a prepared store: everything that decides what will be in it.

It is made before anything is written, from the coordinates and a few fields of the
sources, is kept in the store while that is unfinished, and tells then and afterwards
whether the same is asked for again.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from weather.building.layout import Place
from weather.building.packing import Packing
from weather.experiment import Experiment
from weather.variables import wind_pairs

# Times that are written together at most: of 61,000 times, 1,900 blocks a variable.
_LONGEST_BLOCK = 32
# Parts of a thread's share of the memory: what is read at once, and what is written.
_SLAB_SHARE, _BLOCK_SHARE = 1 / 8, 1 / 2
# Copies of a block while it is written: values, those before, stored, read back.
_COPIES = 5


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What is made of what. Picklable: a worker knows nothing else.

    Attributes:
      setup: the experiment as `Experiment.to_dict` has it.
      sources: addresses, in order of preference.
      output: path or address of the store.
      times: `[time]` datetime64[ns].
      step: between neighbouring times, gaps apart.
      left_out: by period, times that no source has.
      axis: all levels of the store, hPa, ascending.
      levels: those of each variable.
      packing: of each variable.
      block: times of a task.
      num_threads: tasks at a time.
      slab_bytes: of a source that are held at once by a task.
    """

    setup: Mapping[str, Any]
    sources: tuple[str, ...]
    output: str
    times: np.ndarray
    step: np.timedelta64
    left_out: Mapping[str, int]
    axis: tuple[float, ...]
    levels: Mapping[str, tuple[float, ...]]
    packing: Mapping[str, Packing]
    block: int
    num_threads: int
    slab_bytes: int

    @functools.cached_property
    def experiment(self) -> Experiment:
        """The experiment."""
        return Experiment.from_config(self.setup)

    @property
    def place(self) -> Place:
        """The store."""
        return Place(self.output, self.experiment.data.storage_options)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a variable in the store."""
        levels = (len(self.axis),) if self.levels[name] else ()
        return (self.times.size, *levels, *self.experiment.grid.shape)

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Variables that are made together: what one needs of the other."""
        return group_variables(tuple(self.levels), self.experiment)

    def describe(self) -> dict[str, Any]:
        """What makes two stores the same, as JSON types: compared, and recorded."""
        setup = self.experiment
        prepare, data = setup.prepare, setup.data
        return {
            'sources': list(self.sources),
            'grid': {
                'kind': setup.grid.kind,
                'num_lat': setup.grid.num_lat,
                'num_lon': setup.grid.num_lon,
            },
            'variables': {name: list(of) for name, of in self.levels.items()},
            'statics': list(data.statics),
            'periods': [list(data.train), list(data.validation), list(data.test)],
            'times': {
                'number': int(self.times.size),
                'first': str(self.times[0].astype('datetime64[s]')),
                'last': str(self.times[-1].astype('datetime64[s]')),
                'digest': hashlib.sha256(
                    self.times.astype('<i8').tobytes()
                ).hexdigest()[:12],
            },
            'regridding': prepare.regridding,
            'timestep_hours': prepare.timestep_hours,
            'below_ground': prepare.below_ground,
            'dtype': prepare.dtype,
            'packed': {
                name: packing.kind
                for name, packing in self.packing.items()
                if packing != Packing()
            },
            'compression': prepare.compression,
            'shard_times': prepare.shard_times,
        }


def group_variables(
    names: Sequence[str], setup: Experiment
) -> tuple[tuple[str, ...], ...]:
    """Puts together the components of a wind, and what filling needs together."""
    bound = [{pair.eastward, pair.northward} for pair in wind_pairs()]
    if setup.prepare.below_ground == 'fill':
        # The height of a level follows from the temperature of the column below it.
        bound.append({'temperature', 'geopotential'})
    groups: list[tuple[str, ...]] = []
    for name in names:
        mates = next((of for of in bound if name in of), {name})
        group = tuple(other for other in names if other in mates)
        if group not in groups:
            groups.append(group)
    return tuple(groups)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How the work is cut: see `Plan`."""

    block: int
    num_threads: int
    slab_bytes: int


def cut(
    setup: Experiment, *, num_times: int, read_bytes: int, write_bytes: int
) -> Sizes:
    """Cuts the work so that it fits in memory.

    Args:
      setup: its `prepare` says how much memory, and how many threads at most.
      num_times: of the store.
      read_bytes: the least that a task can read at once: of its sources, one time.
      write_bytes: of all variables of a task, one time.

    Raises:
      ValueError: one task alone does not fit; says what would.
    """
    prepare = setup.prepare
    total = int(prepare.max_gb * 2**30)
    least = int(max(read_bytes / _SLAB_SHARE, 2 * _COPIES * write_bytes / _BLOCK_SHARE))
    if least > total:
        raise ValueError(
            f'expected prepare.max_gb of {least / 2**30:.2f} at least for the fields '
            f'of one time, got {prepare.max_gb:g}'
        )
    num_threads = min(prepare.num_threads, total // least)
    share = total // num_threads
    block = int(share * _BLOCK_SHARE / (_COPIES * write_bytes)) - 1
    # Enough tasks for all threads, and not all of the work at stake when one is killed.
    block = min(block, _LONGEST_BLOCK, -(-num_times // (2 * num_threads)))
    shard = max(prepare.shard_times, 1)
    # A file is written once, by one task.
    block = max(1, block // shard) * shard
    return Sizes(block, num_threads, int(share * _SLAB_SHARE))
