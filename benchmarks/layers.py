"""Worker: layers of `sphere_ops`, forward and with gradients.

A case is `{'layer': one of LAYERS, 'num_points', 'channels', 'num_knots'}`: a grid of
`num_points` x `num_points`, equiangular with poles, `channels` at each of spins 0 and
1, batch 1. Operations are those of `programs.forward_and_gradient`. Norms take the
moments of the batch, as in training.

A layer whose name ends in `_on_grid` takes and returns fields on the grid, transformed
before and after it; any other takes and returns coefficients.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
from flax import linen as nn

from benchmarks import programs
from benchmarks.peers import Prepared, measures, probes
from sphere_ops import LatLonGrid, SpinTransform
from sphere_ops.layers import ResidualBlock, SpinConvolution
from sphere_ops.testing import random_coefficients

ON_GRID = '_on_grid'
LAYERS = ('convolution', 'convolution_on_grid', 'block', 'block_on_grid')

versions = programs.versions
probe = probes.prepare


def prepare(case: dict[str, Any]) -> Prepared:
    """Sets a case of the module's docstring up."""
    transform, initialisation = measures.timed(
        lambda: jax.block_until_ready(_transform(case['num_points']))
    )
    coefficients = random_coefficients(
        jax.random.key(0),
        max_degree=transform.max_degree,
        channels=case['channels'],
        batch_shape=(1,),
    )
    module = _layer(case)
    variables = jax.jit(module.init)(
        jax.random.key(1), coefficients, *_arguments(module, transform)
    )
    rest = {name: value for name, value in variables.items() if name != 'params'}
    on_grid = case['layer'].endswith(ON_GRID)
    operations, facts = programs.forward_and_gradient(
        functools.partial(_on_grid if on_grid else _on_coefficients, module),
        variables['params'],
        transform.to_grid(coefficients) if on_grid else coefficients,
        (rest, transform),
    )
    return Prepared(operations, {**facts, 'initialisation_s': initialisation})


def _transform(num_points: int) -> SpinTransform:
    grid = LatLonGrid(
        kind='equiangular_with_poles', num_lat=num_points, num_lon=num_points
    )
    return SpinTransform.create(grid, spins=(0, 1))


def _layer(case: dict[str, Any]) -> nn.Module:
    features = {0: case['channels'], 1: case['channels']}
    if case['layer'].startswith('block'):
        return ResidualBlock(features, case['num_knots'], use_running_average=False)
    return SpinConvolution(features, case['num_knots'])


def _arguments(module: nn.Module, transform: SpinTransform) -> tuple[Any, ...]:
    """What a layer takes beside coefficients: a convolution knows no grid."""
    return (transform,) if isinstance(module, ResidualBlock) else ()


def _on_coefficients(
    module: nn.Module, params: Any, coefficients: Any, constants: Any
) -> Any:
    rest, transform = constants
    outputs, _ = module.apply(
        {'params': params, **rest},
        coefficients,
        *_arguments(module, transform),
        mutable=list(rest),  # Norms take notes, as in training.
    )
    return outputs


def _on_grid(module: nn.Module, params: Any, fields: Any, constants: Any) -> Any:
    transform = constants[1]
    coefficients = transform.to_spectral(fields)
    outputs = _on_coefficients(module, params, coefficients, constants)
    return transform.to_grid(outputs)
