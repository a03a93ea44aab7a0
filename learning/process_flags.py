"""Flags of a command that several processes may run together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from absl import flags

_COORDINATOR = flags.DEFINE_string(
    'coordinator',
    None,
    'HOST:PORT at which process 0 listens, of several processes that train together. '
    'SLURM, TPU pods and Kubernetes say that themselves, as do JAX_COORDINATOR_ADDRESS,'
    ' JAX_NUM_PROCESSES and JAX_PROCESS_ID.',
)
_NUM_PROCESSES = flags.DEFINE_integer(
    'num_processes', None, 'How many there are; 1: this one alone, on any cluster.'
)
_PROCESS = flags.DEFINE_integer('process', None, 'Number of this one, from 0.')
_CONNECT = flags.DEFINE_float(
    'connect_timeout', 300, 'Seconds to wait for all processes to come.'
)
_HEARTBEAT = flags.DEFINE_float(
    'heartbeat_timeout',
    60,
    'Seconds without a sign of life after which a process is given up by the others.',
)
_STALL = flags.DEFINE_float(
    'stall_timeout',
    1800,
    'Seconds without an update of all processes after which all end, so that they can '
    'be started again; 0: never. Longer than compilation takes.',
)


@contextlib.contextmanager
def connected() -> Iterator[None]:
    """Joins the other processes that the flags or the cluster name, if there are any.

    Raises:
      ValueError: flags that do not fit together.
      AbsentError: not all processes have come in time.
    """
    # Imported here, so that --help answers at once.
    from learning import clusters, hub, processes

    place = clusters.find(
        coordinator=_COORDINATOR.value,
        num_processes=_NUM_PROCESSES.value,
        process=_PROCESS.value,
        connect_timeout=_CONNECT.value,
    )
    timeouts = hub.Timeouts(_CONNECT.value, _HEARTBEAT.value, _STALL.value)
    with processes.connected(place, timeouts):
        yield
