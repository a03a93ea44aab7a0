"""Worker: updates on a mesh of as many CPU devices as XLA_FLAGS ask for.

A case is `{'measure': 'time' or 'compile', 'data': ..., 'space': ..., 'parameters':
..., 'batch': ..., 'num_steps': ...}`: of the demo's network, run on random data, or of
the flagship's, compiled and not run.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from benchmarks import flagship, programs
from benchmarks.collectives import Collective, bytes_sent, collectives
from benchmarks.peers import Prepared
from configs import demo
from learning import sharding
from learning.flops import count_flops
from learning.settings import Devices
from weather.experiment import Experiment
from weather.training import ahead
from weather.training.layouts import batch_specs, state_layouts
from weather.training.loss import build_update

versions = programs.versions
CHIPS = 256

# Of what is not run, machine code is not wanted.
NOT_RUN = {
    'xla_backend_optimization_level': 0,
    'xla_llvm_disable_expensive_passes': True,
}


def prepare(case: dict[str, Any]) -> Prepared:
    """Compiles a case of the module's docstring; operation `'update'` of one to run."""
    config = {'time': demo.get_config(), 'compile': None}[case['measure']]
    setup = flagship.full_size() if config is None else Experiment.from_config(config)
    devices = Devices(**{k: case[k] for k in ('data', 'space', 'parameters')})
    setup = setup.with_changes(
        {
            'training.batch_size': case['batch'],
            'training.num_updates': 10,
            'training.curriculum': ((0, case['num_steps']),),
            'devices': devices.model_dump(),
        }
    )
    mesh = sharding.make_mesh(devices, jax.devices()[: case['data'] * case['space']])
    # One device needs no mesh: its program is the one without.
    if mesh.size == 1:
        return _prepare(setup, mesh, case)
    with jax.set_mesh(mesh):
        return _prepare(setup, mesh, case)


def _prepare(setup: Experiment, mesh: Any, case: dict[str, Any]) -> Prepared:
    (phase,) = ahead.phases(setup.training)
    model = ahead.abstract_model(setup)
    shapes = {
        'state': ahead.abstract_state(setup, model, phase),
        'model': model,
        'batch': ahead.abstract_batch(setup, phase),
    }
    layouts = {
        'state': state_layouts(mesh, setup.devices, shapes['state']),
        'model': sharding.shardings(mesh, model, model.layout),
        'batch': sharding.shardings(
            mesh, shapes['batch'], batch_specs(shapes['batch'])
        ),
    }
    placed = [_placed(shapes[name], layouts[name]) for name in layouts]
    update: Any = build_update(setup, model, phase.stage)
    is_run = case['measure'] == 'time'
    program = update.lower(*placed).compile(compiler_options={} if is_run else NOT_RUN)
    found = collectives(program.as_text())
    facts: dict[str, Any] = {
        'program_gib': programs.program_gib(program),
        'flops': count_flops(update, *placed).total,
        'sent': bytes_sent(found),
        # With as many parts of a batch as make 256 devices, instead of two.
        'sent_on_pod': bytes_sent([_grown(c, case) for c in found]),
        'collectives': {c.kind: 0 for c in found},
    }
    for collective in found:
        facts['collectives'][collective.kind] += collective.times
    if not is_run:
        return Prepared({}, facts)
    state, model, batch = (
        jax.tree.map(lambda leaf: jax.device_put(_noise(leaf), leaf.sharding), tree)
        for tree in placed
    )

    def run() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(program(state, model, batch))

    run()
    return Prepared({'update': run}, facts)


def _grown(collective: Collective, case: dict[str, Any]) -> Collective:
    goes_over_data = collective.group in (case['data'], mesh_size(case))
    is_all_to_all = collective.kind == 'all-to-all'  # Over `space` alone.
    if case['data'] == 1 or is_all_to_all or not goes_over_data:
        return collective
    return collective._replace(group=collective.group * CHIPS // mesh_size(case))


def mesh_size(case: dict[str, Any]) -> int:
    """Devices of a case."""
    return case['data'] * case['space']


def _placed(shapes: Any, layouts: Any) -> Any:
    return jax.tree.map(
        lambda leaf, layout: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=layout
        ),
        shapes,
        layouts,
    )


def _noise(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    """Small numbers: what they are does not change how long it takes."""
    values = np.random.default_rng(0).uniform(0.1, 0.2, leaf.shape)
    return values.astype(leaf.dtype)
