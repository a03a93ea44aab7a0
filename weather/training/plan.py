"""What a training will need, before it is launched: memory, data, time, money.

Memory per device is that of the program, compiled for the mesh
(`weather.training.ahead`); that of the host is what the loader and a checkpoint may
hold; operations are counted (`learning.flops`). Time is operations over a rate that
somebody has measured.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Sequence

import jax
from jax.sharding import Mesh

from learning.sharding import make_mesh
from weather.data.loader import GIGABYTE
from weather.experiment import Experiment
from weather.training.ahead import (
    Phase,
    Program,
    abstract_model,
    abstract_state,
    compile_update,
    phases,
)

GIB = 2**30
_HOURS_OF_A_DAY = 24
# Bytes of a number of a state, of a field, of a checkpoint.
_FLOAT32 = 4


@dataclasses.dataclass(frozen=True)
class Machine:
    """What a training is to run on.

    Attributes:
      num_devices: in all.
      devices_per_process: of each process, which reads its rows of a batch.
      hbm_gib: memory of a device that programs may have; None: nothing is refused.
      peak_tflops: of a device, as its maker states it, of products of matrices.
      utilisation: fraction of it that is reached; the log of a training says it.
      rate: updates per second that were measured in the first phase.
      read_mb_per_s: decoded fields that a process can read, `benchmarks/loader.py`
        measures it; an update takes no less than the reading of its batch.
      price_per_hour: of a device.
    """

    num_devices: int = 1
    devices_per_process: int = 8
    hbm_gib: float | None = None
    peak_tflops: float | None = None
    utilisation: float = 0.3
    rate: float | None = None
    read_mb_per_s: float | None = None
    price_per_hour: float | None = None

    @property
    def num_processes(self) -> int:
        """Of all devices."""
        return math.ceil(self.num_devices / self.devices_per_process)

    def fits(self, program: Program) -> bool:
        """Whether every device can hold what the program holds."""
        return self.hbm_gib is None or program.total <= self.hbm_gib * GIB

    def seconds(self, flops: float, first_flops: float, num_bytes: int) -> float | None:
        """Time of an update, where one can be told.

        Args:
          flops: of products of matrices, of the update.
          first_flops: of one of the first phase, whose rate may be known.
          num_bytes: that it reads.
        """
        computing = self._computing(flops, first_flops)
        if computing is None or self.read_mb_per_s is None:
            return computing
        reading = num_bytes / (self.num_processes * self.read_mb_per_s * 1e6)
        return max(computing, reading)

    def _computing(self, flops: float, first_flops: float) -> float | None:
        if self.rate is not None:
            return flops / first_flops / self.rate
        if self.peak_tflops is None:
            return None
        speed = self.num_devices * self.peak_tflops * 1e12 * self.utilisation
        return flops / speed


@dataclasses.dataclass(frozen=True)
class Needs:
    """What the updates of a phase need.

    Attributes:
      phase: which they are.
      program: memory per device and operations.
      host_bytes: of a process.
      read_bytes: of decoded fields that an update reads, over all processes.
      seconds: of an update; None where no rate is known.
    """

    phase: Phase
    program: Program
    host_bytes: int
    read_bytes: int
    seconds: float | None

    @property
    def days(self) -> float | None:
        """Of all updates of the phase."""
        if self.seconds is None:
            return None
        return self.seconds * self.phase.num_updates / 3600 / _HOURS_OF_A_DAY


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a training needs.

    Attributes:
      setup: the experiment.
      machine: what it runs on.
      mesh: parts of a batch, parts of a sample.
      num_parameters: numbers that are trained.
      checkpoint_bytes: of one.
      needs: of each phase.
    """

    setup: Experiment
    machine: Machine
    mesh: tuple[int, int]
    num_parameters: int
    checkpoint_bytes: int
    needs: Sequence[Needs]

    @property
    def largest(self) -> Needs:
        """Where a device holds the most."""
        return max(self.needs, key=lambda needs: needs.program.total)

    @property
    def fits(self) -> bool:
        """Whether all phases do."""
        return self.machine.fits(self.largest.program)

    @property
    def days(self) -> float | None:
        """Of the whole training, without validation and checkpoints."""
        days = [needs.days for needs in self.needs if needs.days is not None]
        return math.fsum(days) if days else None

    @property
    def cost(self) -> float | None:
        """The same in the money of the price."""
        price = self.machine.price_per_hour
        if price is None or self.days is None:
            return None
        return self.days * _HOURS_OF_A_DAY * self.machine.num_devices * price


def with_mesh(setup: Experiment, mesh: str | None) -> Experiment:
    """The experiment on the mesh `DATAxSPACE`; its own where none is given.

    Raises:
      ValueError: it is written otherwise.
    """
    if mesh is None:
        return setup
    match = re.fullmatch(r'(\d+)x(\d+)', mesh)
    if match is None:
        raise ValueError(f'expected --mesh as DATAxSPACE, such as 32x8, got {mesh!r}')
    data, space = map(int, match.groups())
    return setup.with_changes({'devices.data': data, 'devices.space': space})


Compile = Callable[[Experiment, Phase, Mesh], Program]


def make_plan(
    setup: Experiment, machine: Machine, compiled: Compile = compile_update
) -> Plan:
    """Works out what a training needs.

    Args:
      setup: the experiment.
      machine: what it is to run on; there must be as many JAX devices.
      compiled: compiles the update of a phase.

    Raises:
      ValueError: the mesh is impossible; names those that are possible.
    """
    mesh = mesh_of(setup, machine)
    found = [(phase, compiled(setup, phase, mesh)) for phase in phases(setup.training)]
    first = found[0][1].flops.matmul
    with jax.set_mesh(mesh):
        model = abstract_model(setup)
        state = abstract_state(setup, model, found[0][0])
    # The averages are in the state, the model's scales and statics beside it.
    checkpoint = _num_bytes(state) + _num_bytes(model.items(()))
    needs = [
        Needs(
            phase,
            program,
            host_bytes(setup, phase, machine) + checkpoint,
            read_bytes(setup, phase),
            machine.seconds(program.flops.matmul, first, read_bytes(setup, phase)),
        )
        for phase, program in found
    ]
    parameters = jax.tree.leaves(state.weights['params'])
    return Plan(
        setup,
        machine,
        (mesh.shape['data'], mesh.shape.get('space', 1)),
        sum(math.prod(leaf.shape) for leaf in parameters),
        checkpoint,
        needs,
    )


def mesh_of(setup: Experiment, machine: Machine) -> Mesh:
    """The mesh that training would make of the devices."""
    return make_mesh(setup.devices, jax.devices()[: machine.num_devices])


def read_bytes(setup: Experiment, phase: Phase) -> int:
    """Decoded bytes of the fields that an update reads; stored ones are fewer."""
    rows, times = phase.settings.batch_size, phase.num_steps + 1
    return rows * times * sum(_slab_bytes(setup).values())


def host_bytes(setup: Experiment, phase: Phase, machine: Machine) -> int:
    """What the loader of a process may hold: see `Loader.most_bytes`.

    Without a store at hand its chunks are taken to be a time of a variable each.
    """
    data = setup.data
    batch = read_bytes(setup, phase) // machine.num_processes
    largest = max(_slab_bytes(setup).values())
    threads = data.num_threads * 3 * largest
    waiting = max(int(data.prefetch_gb * GIGABYTE), batch)
    return int(data.cache_gb * GIGABYTE) + waiting + 2 * batch + threads


def _slab_bytes(setup: Experiment) -> dict[str, int]:
    """Size of a variable at one time, all levels."""
    points = math.prod(setup.grid.shape)
    levels = setup.data.stored.levels
    return {name: _FLOAT32 * points * max(len(of), 1) for name, of in levels.items()}


def _num_bytes(tree: object) -> int:
    return sum(
        math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)
    )
