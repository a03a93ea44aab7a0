"""The updates of a training as programs, compiled ahead of time.

Nothing is read and nothing is computed: shapes are enough, and devices that are none.
XLA lays the same program out over as many CPUs as the mesh has devices, and says what
each of them would hold.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from learning.flops import Flops, count_flops
from learning.settings import Stage
from learning.sharding import shardings
from learning.update import TrainState, init_train_state
from weather.data.forcings import CLOCK
from weather.experiment import Experiment, Training
from weather.model.forecaster import Forecaster
from weather.training.layouts import batch_specs, state_layouts
from weather.training.loss import DeviceBatch, build_update
from weather.training.replay import new_rollouts

# Machine code is not wanted: without its optimisation compiling takes a third of the
# time, and what a program holds is decided before.
_OPTIONS = {
    'xla_backend_optimization_level': 0,
    'xla_llvm_disable_expensive_passes': True,
}


@dataclasses.dataclass(frozen=True)
class Phase:
    """Updates that are one program: of a stage, with one length of rollout.

    Attributes:
      stage: in which they are.
      num_steps: of the rollout, those included through which no gradient goes.
      num_updates: how many; a mean where lengths are drawn.
    """

    stage: Stage
    num_steps: int
    num_updates: float

    @property
    def settings(self) -> Training:
        """Those of the stage."""
        return self.stage.settings


@dataclasses.dataclass(frozen=True)
class Program:
    """What a program holds on every device, in bytes, and what it computes on all.

    Attributes:
      state: parameters, averages, moments of the optimiser, rollouts that go on.
      model: tables, scales and statics.
      batch: the one in use; another waits beside it.
      workspace: what is computed in between, and results that replace nothing.
      flops: of an update.
    """

    state: int
    model: int
    batch: int
    workspace: int
    flops: Flops

    @property
    def total(self) -> int:
        """All that a device holds at once."""
        return self.state + self.model + 2 * self.batch + self.workspace


def phases(training: Training) -> Iterator[Phase]:
    """All programs of a training, in order."""
    for stage in training.plan():
        settings = stage.settings
        begins = [first for first, _ in settings.curriculum]
        ends = [*begins[1:], settings.num_updates]
        for (begin, lengths), end in zip(settings.curriculum, ends, strict=True):
            count = min(end, settings.num_updates) - begin
            choices = (lengths,) if isinstance(lengths, int) else lengths
            for length in sorted(set(choices)):
                share = choices.count(length) / len(choices)
                if count > 0:
                    steps = settings.pushforward + length
                    yield Phase(stage, steps, count * share)


def abstract_model(setup: Experiment) -> Any:
    """Shapes of the forecaster."""
    model = Forecaster.without_data(setup)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype), model
    )


def abstract_state(setup: Experiment, model: Any, phase: Phase) -> TrainState:
    """Shapes of the state of a training."""

    def init(key: jax.Array, model: Forecaster) -> TrainState:
        memory = new_rollouts(phase.settings, model)
        return init_train_state(model.init(key), setup.training, memory)

    return jax.eval_shape(init, jax.random.key(0), model)


def abstract_batch(setup: Experiment, phase: Phase) -> Any:
    """Shapes of a `DeviceBatch`."""
    # Shapes in place of arrays, which types do not know of.
    make: Any = DeviceBatch
    rows, steps = phase.settings.batch_size, phase.num_steps
    fields = {
        name: jax.ShapeDtypeStruct(
            (rows, steps + 1, max(len(levels), 1), *setup.grid.shape), jnp.float32
        )
        for name, levels in setup.data.stored.levels.items()
    }
    clocks = jax.ShapeDtypeStruct((rows, steps, len(CLOCK)), jnp.float32)
    if not phase.settings.replay:
        return make(fields, clocks)
    slot = jax.ShapeDtypeStruct((), jnp.int32)
    return make(fields, clocks, slot, jax.ShapeDtypeStruct((rows,), jnp.bool_))


def compile_update(setup: Experiment, phase: Phase, mesh: Mesh) -> Program:
    """Compiles the update of a phase for a mesh of devices."""
    # Tables are made for the mesh as well.
    with jax.set_mesh(mesh):
        model = abstract_model(setup)
        state = abstract_state(setup, model, phase)
        batch = abstract_batch(setup, phase)
        update = build_update(setup, model, phase.stage)
        placed = (
            _placed(state, state_layouts(mesh, setup.devices, state)),
            _placed(model, shardings(mesh, model, model.layout)),
            _placed(batch, shardings(mesh, batch, batch_specs(batch))),
        )
        flops = count_flops(update, *placed)
        compiled = update.lower(*placed).compile(compiler_options=_OPTIONS)
    memory = compiled.memory_analysis()
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    sizes = [_bytes_per_device(tree) for tree in placed]
    return Program(
        state=sizes[0],
        model=sizes[1],
        batch=sizes[2],
        workspace=memory.temp_size_in_bytes + results,
        flops=flops,
    )


def _placed(tree: Any, layouts: Any) -> Any:
    return jax.tree.map(
        lambda leaf, layout: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=layout
        ),
        tree,
        layouts,
    )


def _bytes_per_device(tree: Any) -> int:
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )
