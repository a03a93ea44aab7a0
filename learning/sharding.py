"""Layout over devices: a mesh of samples times parts of the sphere.

Written in terms of JAX's own SPMD: a jitted function on sharded arrays computes what
the same function computes on one device, and XLA inserts the communication. The mesh
has two axes: samples of a batch are split over `data`, and each sample over `space`.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import math
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from learning.settings import Devices

_Item = TypeVar('_Item')
_Placed = TypeVar('_Placed')

DATA, SPACE = 'data', 'space'
_BY_ROWS = PartitionSpec(DATA)
# Smaller arrays are on every device: a gather of them would cost more than it saves.
SMALLEST_SHARDED = 2**16


@dataclasses.dataclass(frozen=True)
class Part:
    """Part `index` of `count` equal ones."""

    index: int
    count: int


class LocalPart(NamedTuple):
    """What a process reads of a batch: part of its rows, part of their latitudes."""

    rows: Part
    latitudes: Part


def make_mesh(
    settings: Devices | None = None, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """The mesh `(data, space)` over `devices`, by default all that there are.

    Devices stand process by process, and a sample stays within a process where it can:
    then each process has rows of its own, one behind the other.

    Raises:
      ValueError: there is no such mesh; names those that there are.
    """
    settings = Devices() if settings is None else settings
    if devices is None:
        devices = sorted(jax.devices(), key=lambda d: (d.process_index, d.id))
    count, space = len(devices), settings.space
    data = settings.data or max(1, count // space)
    if data * space != count:
        meshes = [(count // n, n) for n in range(1, count + 1) if count % n == 0]
        raise ValueError(
            f'expected devices.data x devices.space to be the {count} devices that '
            f'there are, got {settings.data or "any"} x {space}; set them to one of '
            f'{", ".join(f"{d} x {s}" for d, s in meshes)}'
        )
    # Auto: XLA lays out what is in between; explicit axes would have to be said at
    # every product.
    axes = (AxisType.Auto, AxisType.Auto)
    return Mesh(np.array(devices).reshape(data, space), (DATA, SPACE), axis_types=axes)


def replicated(mesh: Mesh) -> NamedSharding:
    """The layout of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def state_layout(mesh: Mesh, settings: Devices, tree: Any) -> Any:
    """Layouts of parameters and what goes with them, as `devices.parameters` says.

    Args:
      mesh: of the devices.
      settings: say whether they are replicated or sharded.
      tree: arrays, or their shapes.

    Returns:
      A `NamedSharding` for every array. Sharded is the longest axis that all devices
      divide; an array that has none, or is small, is replicated.
    """
    return jax.tree.map(
        lambda leaf: NamedSharding(mesh, _spec(leaf.shape, mesh.shape, settings)), tree
    )


def keep_layout(settings: Devices, tree: Any) -> Any:
    """The values of `tree`, in a compiled function, in the layout of `state_layout`.

    For the mesh of `jax.set_mesh`; without one nothing happens. XLA then makes the sums
    of a gradient over devices where the layout has them, and not everywhere.
    """
    axes = jax.sharding.get_abstract_mesh().shape
    if math.prod(axes.values()) <= 1:
        return tree
    return jax.tree.map(
        lambda leaf: jax.lax.with_sharding_constraint(
            leaf, _spec(leaf.shape, axes, settings)
        ),
        tree,
    )


def _spec(shape: Sequence[int], axes: Any, settings: Devices) -> PartitionSpec:
    count = math.prod(axes.values())
    lengths = [length if length % count == 0 else 0 for length in shape]
    is_small = math.prod(shape) < SMALLEST_SHARDED
    if settings.parameters == 'replicated' or is_small or not any(lengths):
        return PartitionSpec()
    names: list[Any] = [None] * len(shape)
    names[int(np.argmax(lengths))] = (DATA, SPACE)
    return PartitionSpec(*names)


def place(mesh: Mesh, tree: Any, specs: Any) -> Any:
    """Puts arrays that every process has whole on the mesh, split as `specs` say.

    `specs` is a pytree of `PartitionSpec` that `tree` begins like.
    """
    return jax.device_put(tree, shardings(mesh, tree, specs))


def split_batch(mesh: Mesh, batch: Any, specs: Any = _BY_ROWS) -> Any:
    """Puts a pytree of arrays on the mesh, split as `specs` say.

    Args:
      mesh: of the devices.
      batch: arrays `[batch, ...]`. Where several processes share the mesh, each gives
        its part: the rows, and of arrays that are split over `space` the latitudes,
        that `local_part` names.
      specs: a pytree of `PartitionSpec` that `batch` begins like; by default the first
        axis is split and no other.

    Raises:
      ValueError: an array cannot be split evenly.
    """
    part = local_part(mesh)
    counts = {DATA: part.rows.count, SPACE: part.latitudes.count}
    several = len({device.process_index for device in mesh.devices.flat}) > 1

    def put(leaf: np.ndarray, sharding: NamedSharding) -> jax.Array:
        shape = list(leaf.shape)
        for axis, name in enumerate(sharding.spec):
            if name is not None:
                shape[axis] *= counts[name]
                # JAX would refuse it too, but does not know what to change.
                _check_divides(shape[axis], name, mesh)
        if not several:
            return jax.device_put(leaf, sharding)
        return jax.make_array_from_process_local_data(sharding, leaf, tuple(shape))

    return jax.tree.map(put, batch, shardings(mesh, batch, specs))


def local_part(mesh: Mesh, process: int | None = None) -> LocalPart:
    """What a process, by default this one, has to give of a batch.

    With devices process by process it is a block of the mesh: all of the samples of
    some rows, or, where a sample is shared by processes, one part of its latitudes.

    Raises:
      ValueError: its devices are no block of the mesh.
    """
    process = jax.process_index() if process is None else process
    owner = np.vectorize(lambda device: device.process_index, otypes=[int])
    owned = owner(mesh.devices) == process
    rows, columns = np.flatnonzero(owned.any(1)), np.flatnonzero(owned.any(0))
    data, space = owned.shape
    block = owned[np.ix_(rows, columns)]
    even = (
        block.size
        and block.all()
        and data % len(rows) == rows[0] % len(rows) == 0
        and space % len(columns) == columns[0] % len(columns) == 0
        and np.ptp(rows) == len(rows) - 1
        and np.ptp(columns) == len(columns) - 1
    )
    if not even:
        raise ValueError(
            f'expected the devices of process {process} to be a block of the mesh '
            f'{data} x {space}, got {owned.sum()} devices that are none; set '
            'devices.space to a divisor or to a multiple of the devices of a process'
        )
    return LocalPart(
        Part(int(rows[0]) // len(rows), data // len(rows)),
        Part(int(columns[0]) // len(columns), space // len(columns)),
    )


def shardings(mesh: Mesh, tree: Any, specs: Any) -> Any:
    """A layout for every array of `tree`, which the pytree `specs` begins like."""

    def below(spec: PartitionSpec, branch: Any) -> Any:
        return jax.tree.map(lambda _: NamedSharding(mesh, spec), branch)

    is_spec = lambda node: isinstance(node, PartitionSpec)  # noqa: E731
    return jax.tree.map(below, specs, tree, is_leaf=is_spec)


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
    """Raises `ValueError` unless `data` of the mesh divides `batch_size`."""
    parts = mesh.shape[DATA]
    if batch_size % parts:
        raise ValueError(
            f'expected training.batch_size to be a multiple of the {parts} parts that '
            f'a batch is split into (devices.data), got {batch_size}; set it to '
            f'{parts * max(1, round(batch_size / parts))}, or devices.space so that '
            'there are fewer parts'
        )


def check_num_lat(num_lat: int, mesh: Mesh) -> None:
    """Raises `ValueError` unless `space` of the mesh divides `num_lat`."""
    parts = mesh.shape[SPACE]
    if num_lat % parts:
        works = [n for n in range(1, num_lat + 1) if num_lat % n == mesh.size % n == 0]
        raise ValueError(
            f'expected devices.space to divide the {num_lat} latitudes of the states, '
            f'got {parts}; with {mesh.size} devices set it to one of '
            f'{", ".join(map(str, works))}'
        )


def _check_divides(length: int, name: str, mesh: Mesh) -> None:
    {DATA: check_batch_size, SPACE: check_num_lat}[name](length, mesh)
