"""Where what a training update reads and changes lies on the mesh of devices."""

from __future__ import annotations

from typing import Any

from jax.sharding import Mesh, NamedSharding, PartitionSpec

from learning.settings import Devices
from learning.sharding import DATA, SPACE, state_layout
from learning.update import TrainState
from weather.training.loss import DeviceBatch

# `[batch, time, level, lat, lon]`: a sample to each part of `data`, latitudes to each
# of `space`.
FIELDS = PartitionSpec(DATA, None, None, SPACE, None)
CLOCKS = PartitionSpec(DATA)
# `[slot, batch, lat, ...]`: as the batch whose states they are.
_ROLLOUTS = PartitionSpec(None, DATA, SPACE)


def batch_specs(batch: DeviceBatch) -> DeviceBatch:
    """How a batch is split."""
    return DeviceBatch(
        {name: FIELDS for name in batch.fields},  # type: ignore[misc]
        CLOCKS,  # type: ignore[arg-type]
        None if batch.slot is None else PartitionSpec(),  # type: ignore[arg-type]
        None if batch.begins is None else CLOCKS,  # type: ignore[arg-type]
    )


def state_layouts(mesh: Mesh, devices: Devices, state: TrainState) -> Any:
    """Of parameters and what goes with them; rollouts that go on lie like a batch."""
    parameters = state_layout(mesh, devices, state)
    if state.memory is None:
        return parameters
    return parameters.replace(memory=memory_layout(mesh))


def memory_layout(mesh: Mesh) -> NamedSharding:
    """Of rollouts that go on from update to update."""
    return NamedSharding(mesh, _ROLLOUTS)
