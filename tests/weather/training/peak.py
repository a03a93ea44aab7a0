"""The memory that updates really take, in a process of their own.

    python tests/weather/training/peak.py CONFIG.json NUMBER

prints, as JSON, what is planned for phase NUMBER of a config and by how much the
process grew: from before there were any arrays to the highest point over four updates,
with a second batch beside the one in use as training has it. The system's own record of
the highest point (`VmHWM`) is reset in between, as compiling takes more.
"""

import ctypes
import gc
import json
import pathlib
import sys

import jax
import numpy as np

from learning.sharding import make_mesh
from learning.update import init_train_state
from weather.experiment import Experiment
from weather.model.forecaster import Forecaster
from weather.training import ahead
from weather.training.loss import build_update

PROCESS = pathlib.Path('/proc/self')


def resident(name: str) -> int:
    """A line of the process's status, bytes."""
    lines = (PROCESS / 'status').read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def random_like(tree):
    random = np.random.default_rng(0)

    def draw(leaf):
        return random.standard_normal(leaf.shape, np.float32).astype(leaf.dtype)

    return jax.tree.map(draw, tree)


def compiled_update(setup: Experiment, phase: ahead.Phase):
    """The update, and the arrays that it takes, on the host."""
    model = Forecaster.without_data(setup)
    weights = model.init(jax.random.key(0))
    state = init_train_state(weights, setup.training)
    update = build_update(setup, model, phase.stage)
    batch = ahead.abstract_batch(setup, phase)
    program = update.lower(state, model, batch).compile()
    return program, jax.tree.map(np.array, (state, model))


def run(program, state, model, shapes, count: int) -> None:
    """Updates, each with the next batch beside it."""
    # JAX on a CPU uses arrays of the host as they are where it can.
    state, model = jax.device_put((state, model), may_alias=False)
    batch = jax.device_put(random_like(shapes))
    for _ in range(count):
        following = jax.device_put(random_like(shapes))
        state, outcome = program(state, model, batch)
        jax.block_until_ready(outcome)
        batch = following


def grown(setup: Experiment, phase: ahead.Phase) -> int:
    """Bytes that the process grew by."""
    program, (state, model) = compiled_update(setup, phase)
    shapes = ahead.abstract_batch(setup, phase)
    # Once before: pages of libraries and of threads are not the program's.
    run(program, state, model, shapes, 1)
    gc.collect()
    ctypes.CDLL('libc.so.6').malloc_trim(0)
    before = resident('VmRSS')
    (PROCESS / 'clear_refs').write_text('5')
    run(program, state, model, shapes, 4)
    return resident('VmHWM') - before


def main(path: str, number: str) -> None:
    setup = Experiment.from_config(json.loads(pathlib.Path(path).read_text()))
    phase = list(ahead.phases(setup.training))[int(number)]
    planned = ahead.compile_update(setup, phase, make_mesh()).total
    print(json.dumps({'planned': planned, 'grown': grown(setup, phase)}))


if __name__ == '__main__':
    main(*sys.argv[1:])
