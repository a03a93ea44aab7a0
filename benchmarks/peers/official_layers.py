"""The layers of google-research/spherical-cnn: convolution and residual block.

Its `SpinSphericalConvolution` and `SpinSphericalResidualBlock` (spectral norms, sum
with the skip in the spectral domain, phase collapse) take and return fields on the
grid, and so stand beside the cases `convolution_on_grid` and `block_on_grid` of
`benchmarks.layers`, where cases and operations are described. The library is not on
the package index: give its checkout with `--path`.

Two differences of the block are the library's own: its skip is always a dense layer
with a norm, where ours is the identity at equal widths; and it is complex at spin 0,
where ours is real. One is ours: coming from coefficients, our block on the grid ends
with a transform of both spins more.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import spherical_cnn
from flax import linen as nn
from spherical_cnn import layers, sphere_utils, spin_spherical_harmonics

from benchmarks import programs
from benchmarks.peers import Prepared, measures

SPINS = (0, 1)


def versions() -> dict[str, str]:
    """Of the library, JAX and flax."""
    return {'spherical_cnn': spherical_cnn.__version__, **programs.versions()}


# The library computes them whenever a layer is traced, tens of seconds each time, and
# then takes those that were computed first.
sphere_utils.compute_all_wigner_delta = functools.cache(
    sphere_utils.compute_all_wigner_delta
)


def prepare(case: dict[str, Any]) -> Prepared:
    """Sets a case of `benchmarks.layers` up, `convolution_on_grid` or `block_on_grid`.

    The kernels have `num_knots` free degrees.
    """
    num_points, channels = case['num_points'], case['channels']
    shape = (1, num_points, num_points, len(SPINS), channels)
    fields = jnp.asarray(measures.complex_normal(*shape))
    # Scalars are real, as in ours, and complex only in type.
    fields = fields.at[..., SPINS.index(0), :].set(fields.real[..., SPINS.index(0), :])
    # None: free at every degree, which is the default of the library's layers.
    num_knots = None if case['num_knots'] == num_points // 2 else case['num_knots']
    module = _LAYERS[case['layer']](num_points, channels, num_knots)
    variables, initialisation = measures.timed(
        lambda: jax.block_until_ready(jax.jit(module.init)(jax.random.key(0), fields))
    )
    rest = {name: value for name, value in variables.items() if name != 'params'}
    operations, facts = programs.forward_and_gradient(
        functools.partial(_apply, module), variables['params'], fields, rest
    )
    return Prepared(operations, {**facts, 'initialisation_s': initialisation})


def _apply(module: nn.Module, params: Any, fields: jax.Array, rest: Any) -> jax.Array:
    # As in the library's training: everything but the tables may change.
    outputs, _ = module.apply(
        {'params': params, **rest}, fields, mutable=['batch_stats']
    )
    return outputs


def _transformer(num_points: int) -> nn.Module:
    return spin_spherical_harmonics.SpinSphericalFourierTransformer(
        (num_points,), SPINS
    )


def _convolution(num_points: int, channels: int, num_knots: int | None) -> nn.Module:
    return layers.SpinSphericalConvolution(
        features=channels,
        spins_in=SPINS,
        spins_out=SPINS,
        spectral_pooling=False,
        spectral_upsampling=False,
        transformer=_transformer(num_points),
        num_filter_params=num_knots,
    )


class _TrainingBlock(nn.Module):
    """The residual block in training: norms take the moments of the batch."""

    block: nn.Module

    @nn.compact
    def __call__(self, fields: jax.Array) -> jax.Array:
        return self.block(fields, train=True)


def _block(num_points: int, channels: int, num_knots: int | None) -> nn.Module:
    block = layers.SpinSphericalResidualBlock(
        num_channels=channels,
        spins_in=SPINS,
        spins_out=SPINS,
        downsampling_factor=1,
        spectral_pooling=False,
        axis_name=None,
        transformer=_transformer(num_points),
        num_filter_params=num_knots,
    )
    return _TrainingBlock(block)


_LAYERS = {'convolution_on_grid': _convolution, 'block_on_grid': _block}
