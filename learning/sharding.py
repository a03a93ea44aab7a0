"""Layout over devices: batches are split, everything else is on every device.

Written in terms of JAX's own SPMD: a jitted function on sharded arrays computes what
the same function computes on one device, and XLA inserts the communication.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with the one axis `data` over `devices`, by default all there are."""
    devices = jax.devices() if devices is None else devices
    # Auto: XLA lays out what is in between; explicit axes would have to be said at
    # every product.
    return Mesh(np.array(devices), ('data',), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The layout of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def split_batch(mesh: Mesh, batch: Any) -> Any:
    """Puts a pytree of `[batch, ...]` arrays on the mesh, split along the first axis.

    Raises:
      ValueError: the batch cannot be split evenly.
    """
    sharding = NamedSharding(mesh, PartitionSpec('data'))
    # JAX would refuse it too, but does not know what to change.
    for leaf in jax.tree.leaves(batch):
        check_batch_size(leaf.shape[0], mesh)
    return jax.tree.map(lambda leaf: jax.device_put(leaf, sharding), batch)


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises `ValueError` unless `batch_size` is a multiple of the device count."""
    if batch_size % mesh.size:
        raise ValueError(
            f'expected training.batch_size to be a multiple of the {mesh.size} '
            f'devices, got {batch_size}; set it to '
            f'{mesh.size * max(1, round(batch_size / mesh.size))}'
        )
