"""Layout over devices: batches are split, everything else is on every device.

Written in terms of JAX's own SPMD: a jitted function on sharded arrays computes what
the same function computes on one device, and XLA inserts the communication.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

_Item = TypeVar('_Item')
_Placed = TypeVar('_Placed')


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with the one axis `data` over `devices`, by default all there are."""
    if devices is None:
        # Process by process: so do the parts of a batch that they read.
        devices = sorted(jax.devices(), key=lambda device: device.process_index)
    # Auto: XLA lays out what is in between; explicit axes would have to be said at
    # every product.
    return Mesh(np.array(devices), ('data',), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The layout of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def split_batch(mesh: Mesh, batch: Any) -> Any:
    """Puts a pytree of `[batch, ...]` arrays on the mesh, split along the first axis.

    Where several processes share the mesh, each gives its part of the rows: the first
    one the first rows, and so on.

    Raises:
      ValueError: the batch cannot be split evenly.
    """
    sharding = NamedSharding(mesh, PartitionSpec('data'))
    num_processes = len({device.process_index for device in mesh.devices.flat})

    def put(leaf: np.ndarray) -> jax.Array:
        shape = num_processes * leaf.shape[0], *leaf.shape[1:]
        # JAX would refuse it too, but does not know what to change.
        check_batch_size(shape[0], mesh)
        if num_processes == 1:
            return jax.device_put(leaf, sharding)
        return jax.make_array_from_process_local_data(sharding, leaf, shape)

    return jax.tree.map(put, batch)


def placed_ahead(
    items: Generator[_Item, None, None], place: Callable[[_Item], _Placed]
) -> Generator[_Placed, None, None]:
    """Yields `place(item)` of each, the next one placed while one is in use.

    A thread does it, so that whoever computes waits neither for an item to be made nor
    for its way to the device. Beside the one in use at most one is placed. An error is
    raised in its turn. Close it to stop early: that closes `items` as well.
    """
    pool = concurrent.futures.ThreadPoolExecutor(1, 'placing')
    end = object()

    def make() -> Any:
        # Nothing keeps the item itself: on the device there is a copy.
        for item in items:
            return place(item)
        return end

    try:
        ahead = pool.submit(make)
        while (placed := ahead.result()) is not end:
            ahead = pool.submit(make)
            yield placed
            del placed
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        items.close()


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises `ValueError` unless `batch_size` is a multiple of the device count."""
    if batch_size % mesh.size:
        raise ValueError(
            f'expected training.batch_size to be a multiple of the {mesh.size} '
            f'devices, got {batch_size}; set it to '
            f'{mesh.size * max(1, round(batch_size / mesh.size))}'
        )
