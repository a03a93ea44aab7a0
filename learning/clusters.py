"""Where a process stands among several: what its flags or its cluster say.

JAX recognises clusters (SLURM, Open MPI, TPU pods of GCE and of GKE, Kubernetes jobs);
it is asked, so that a new one of its is one of ours. A machine of no cluster, and a
cluster with one process, stand alone, and wait for nothing.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping

from jax._src import clusters

# Of the environment, for launchers whose cluster JAX does not know: the first name is
# JAX's own, the others are those that its users have agreed on.
_COORDINATOR, _COUNT, _INDEX = (
    'JAX_COORDINATOR_ADDRESS',
    'JAX_NUM_PROCESSES',
    'JAX_PROCESS_ID',
)


@dataclasses.dataclass(frozen=True)
class Place:
    """One of several processes.

    Attributes:
      coordinator: `HOST:PORT` where process 0 listens.
      count: of the processes.
      index: of this one, from 0.
      devices: numbers of the GPUs of the machine that are its own; None for all.
      source: what said so, for messages.
    """

    coordinator: str
    count: int
    index: int
    devices: tuple[int, ...] | None = None
    source: str = 'flags'


def find(
    *,
    coordinator: str | None = None,
    num_processes: int | None = None,
    process: int | None = None,
    connect_timeout: float = 300,
) -> Place | None:
    """The place of this process; None if it is alone.

    Flags come first, then the environment (JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES,
    JAX_PROCESS_ID), then the cluster.

    Raises:
      ValueError: flags that do not fit together.
    """
    given = {
        '--coordinator': coordinator,
        '--num_processes': num_processes,
        '--process': process,
    }
    if any(value is not None for value in given.values()):
        # One process needs no address.
        if num_processes == 1 and process in (None, 0):
            return None
        return _checked(given, 'flags')
    environment = {name: os.environ.get(name) for name in (_COUNT, _INDEX)}
    if all(value is not None for value in environment.values()):
        address = {_COORDINATOR: os.environ.get(_COORDINATOR)}
        if environment[_COUNT] == '1':
            return None
        return _checked(address | environment, 'the environment')
    return _of_cluster(connect_timeout)


def _checked(given: Mapping[str, str | int | None], source: str) -> Place:
    lacking = [name for name, value in given.items() if value in (None, '')]
    if lacking:
        names = ', '.join(given)
        raise ValueError(
            f'expected all of {names}, or none; {", ".join(lacking)} is not given'
        )
    coordinator, count, index = given.values()
    try:
        place = Place(str(coordinator), int(count or 0), int(index or 0), source=source)
    except ValueError:
        raise ValueError(f'expected numbers of processes, got {given}') from None
    if not re.fullmatch(r'(\[[\da-fA-F:]+\]|[^:\s]+):\d{1,5}', place.coordinator):
        raise ValueError(
            f'expected {next(iter(given))} as HOST:PORT, got {place.coordinator!r}; '
            'name the machine of process 0 and a port that is free there'
        )
    if not 0 <= place.index < place.count:
        raise ValueError(
            f'expected processes from 0 to {place.count - 1}, for that many are '
            f'{place.count}, got {place.index}'
        )
    return place


def _of_cluster(connect_timeout: float) -> Place | None:
    """What JAX finds; None where it finds no cluster, or one process."""
    for kind in clusters.ClusterEnv._cluster_types:
        if kind.opt_in_only_method or not kind.is_env_present():
            continue
        count = kind.get_process_count()
        if count == 1:
            return None
        address = kind.get_coordinator_address(
            timeout_secs=int(connect_timeout),
            override_coordinator_port=os.environ.get('JAX_COORDINATOR_PORT'),
        )
        index, local = kind.get_process_id(), kind.get_local_process_id()
        # Where each machine has one process, all of its devices are that one's: JAX
        # would give it the first GPU alone.
        shared = local is not None and not _one_a_machine()
        devices = (local,) if shared and local is not None else None
        return Place(address, count, index, devices, kind.name or kind.__name__)
    return None


def _one_a_machine() -> bool:
    """Whether SLURM runs one task on this machine: '1(x4)', or '2,1' seen from each."""
    tasks = os.environ.get('SLURM_STEP_TASKS_PER_NODE', '')
    return bool(re.fullmatch(r'1(\(x\d+\))?', tasks))
