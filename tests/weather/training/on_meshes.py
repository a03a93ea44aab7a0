"""Forward and training on meshes of eight devices, beside one: prints JSON.

Arguments are cases, as `4x2:sharded`.
"""

import collections
import json
import sys

import jax
import numpy as np

from benchmarks.collectives import collectives
from benchmarks.flagship import clocks, full_size
from learning import sharding
from learning.settings import Devices
from learning.update import init_train_state, make_update
from sphere_ops import SpinTransform
from weather.model.forecaster import Forecaster
from weather.model.loss import channel_weights
from weather.training.layouts import CLOCKS, FIELDS
from weather.training.loss import (
    DeviceBatch,
    make_loss,
    make_validation,
)

NUM_STEPS, BATCH, UPDATES = 2, 8, 2
# Three quarters of the time would be the optimisation of machine code.
QUICK = {
    'xla_backend_optimization_level': 0,
    'xla_llvm_disable_expensive_passes': True,
}
WINDS = 'u_component_of_wind', 'v_component_of_wind'
SETUP = full_size().with_changes(
    {
        'data.variables': {'geopotential': (500, 850), **dict.fromkeys(WINDS, (500,))},
        'loss.variable_weights': {},
        'grid': {'kind': 'gauss', 'num_lat': 16, 'num_lon': 32},
        'model.latent': {'kind': 'gauss', 'num_lat': 16, 'num_lon': 32},
        'model.scalar_channels': 8,
        'model.vector_channels': 8,
        'model.num_blocks': 1,
        'model.num_knots': 8,
        'training.warmup_updates': 0,
        'training.batch_size': BATCH,
    }
)


def random_like(tree, scale):
    random = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: x + scale * random.standard_normal(x.shape, np.float32), tree
    )


def batch():
    fields = {
        name: np.zeros((BATCH, NUM_STEPS + 1, len(levels), *SETUP.grid.shape), 'f')
        for name, levels in SETUP.data.channels.levels.items()
    }
    phases = np.broadcast_to(clocks(NUM_STEPS), (BATCH, *clocks(NUM_STEPS).shape))
    return random_like(fields, 1.0), phases


def outcome(devices, mesh):
    """Losses, parameters, gradients' moments, and collectives by program."""
    model = Forecaster.without_data(SETUP)
    weights = jax.jit(Forecaster.init)(model, jax.random.key(0))
    # No kernel is zero: all have a gradient.
    weights = {**weights, 'params': random_like(weights['params'], 0.05)}
    state = init_train_state(weights, SETUP.training)
    state = jax.device_put(state, sharding.state_layout(mesh, devices, state))
    model = sharding.place(mesh, model, model.layout)
    rows = DeviceBatch(*sharding.split_batch(mesh, batch(), (FIELDS, CLOCKS)))
    kernels = channel_weights(model.channels, SETUP.loss)
    loss = make_loss(kernels, SETUP.training)
    update = make_update(loss, SETUP.training, None, devices)
    update = update.lower(state, model, rows).compile(QUICK)
    validate = make_validation(kernels).lower(state.weights, model, rows).compile(QUICK)
    forward = validate(state.weights, model, rows).losses
    losses = []
    for _ in range(UPDATES):
        state, result = update(state, model, rows)
        losses.append(float(result.loss))
    transform = jax.jit(SpinTransform.to_spectral)
    spectral = transform.lower(model.transforms.state, _fields(mesh)).compile(QUICK)
    programs = {'transform': spectral, 'forward': validate, 'update': update}
    return (
        {'forward': np.asarray(forward), 'losses': np.array(losses)},
        jax.tree.map(np.asarray, (state.weights, state.optimizer[1][0].mu)),
        {name: _counts(program) for name, program in programs.items()},
        sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(state)),
    )


def _fields(mesh):
    spec = jax.sharding.PartitionSpec('data', 'space')
    shape = BATCH, *SETUP.grid.shape, 3
    return {
        spin: jax.ShapeDtypeStruct(
            shape, dtype, sharding=jax.sharding.NamedSharding(mesh, spec)
        )
        for spin, dtype in ((0, 'float32'), (1, 'complex64'))
    }


def _counts(program):
    found = collectives(program.as_text())
    return {
        'runs': collections.Counter(c.kind for c in found for _ in range(c.times)),
        'largest': {
            kind: max(c.payload for c in found if c.kind == kind)
            for kind in {c.kind for c in found}
        },
    }


def main(cases):
    sharding.SMALLEST_SHARDED = 2**8  # So that kernels are, as they are in earnest.
    alone = sharding.make_mesh(devices=jax.devices()[:1])
    losses, arrays, counts, size = outcome(Devices(), alone)
    found = {'alone': {'collectives': counts, 'state_bytes': size}}
    for case in cases:
        mesh, parameters = case.split(':')
        data, space = map(int, mesh.split('x'))
        devices = Devices(data=data, space=space, parameters=parameters)
        mesh = sharding.make_mesh(devices)
        with jax.set_mesh(mesh):
            of_losses, of_arrays, counts, size = outcome(devices, mesh)
        errors = {k: _relative(of_losses[k], v) for k, v in losses.items()}
        for name, ours, theirs in zip(
            ('weights', 'moments'), of_arrays, arrays, strict=True
        ):
            errors[name] = _distance(ours, theirs)
        found[case] = {'errors': errors, 'collectives': counts, 'state_bytes': size}
    found['kernels'] = [
        x.nbytes for x in jax.tree.leaves(arrays[0]['params']) if x.ndim == 3
    ]
    print(json.dumps(found))


def _relative(ours, theirs):
    return float(np.abs(ours / theirs - 1).max())


def _distance(ours, theirs):
    """Largest distance of an array, as a vector, from what it should be.

    In units of the length of all arrays: some gradients are zero but for round-off.
    """
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    unit = np.linalg.norm([np.linalg.norm(leaf) for leaf in jax.tree.leaves(theirs)])
    return max(float(np.linalg.norm(a - b) / unit) for a, b in pairs)


if __name__ == '__main__':
    main(sys.argv[1:])
