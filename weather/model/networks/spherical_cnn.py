"""A spherical CNN from normalised fields to normalised tendencies.

Source: Esteves, Slotine, Makadia, "Scaling Spherical CNNs", ICML 2023
(arXiv:2306.05420), section 5.4: an input convolution with spectral pooling, residual
blocks on a coarser grid, an output convolution with spectral upsampling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn

from sphere_ops.fields import SpinFields, num_modes
from sphere_ops.grid import LatLonGrid
from sphere_ops.layers import (
    PhaseCollapse,
    ResidualBlock,
    SpectralBatchNorm,
    SpinConvolution,
)
from sphere_ops.operators import pad_to_degree, truncate
from sphere_ops.transform import SpinTransform
from weather import experiment


class Transforms(NamedTuple):
    """Transforms of the two grids of the network.

    Attributes:
      state: of the grid of the states, up to the largest degree the network sees.
      latent: of the grid of the residual blocks.
    """

    state: SpinTransform
    latent: SpinTransform

    @classmethod
    def create(
        cls, grid: LatLonGrid, sizes: experiment.Model, spins: tuple[int, ...] = (0, 1)
    ) -> Transforms:
        """Builds both; pooling is the state's coefficients cut at the latent degree."""
        degree = min(grid.max_degree, sizes.latent.max_degree)
        state_degree = grid.max_degree if sizes.skips == 'input' else degree
        return cls(
            state=SpinTransform.create(grid, spins=spins, max_degree=state_degree),
            # Vectors too where the state has none: the layers make them of scalars.
            latent=SpinTransform.create(sizes.latent, spins=(0, 1), max_degree=degree),
        )


class Network(nn.Module):
    """Spherical CNN of the paper, with `2 * num_blocks + 2` convolutions.

    One more, from the input to the output, where `sizes.skips` says so.

    Attributes:
      sizes: of the layers.
      num_scalars: spin-0 fields of a state.
      num_vectors: spin-1 fields of a state.
      use_running_average: norms take running moments instead of those of the batch.
    """

    sizes: experiment.Model
    num_scalars: int
    num_vectors: int
    use_running_average: bool

    @nn.compact
    def __call__(self, fields: SpinFields, transforms: Transforms) -> SpinFields:
        """Returns one step's tendency of the state, in units of its spread.

        Args:
          fields: normalised state, forcings and statics: spin 0
            `[..., lat, lon, scalars]`, spin 1 `[..., lat, lon, winds]`.
          transforms: of the two grids.
        """
        sizes, latent = self.sizes, transforms.latent
        dtype = jnp.dtype(sizes.precision)
        width = {0: sizes.scalar_channels, 1: sizes.vector_channels}
        inputs = transforms.state.to_spectral(fields)

        # Pooling in the spectral domain: cut off, and not folded back.
        hidden = truncate(inputs, latent.max_degree)
        hidden = SpinConvolution(width, sizes.num_knots, dtype, name='input')(hidden)
        hidden = SpectralBatchNorm(self.use_running_average)(hidden)
        hidden = PhaseCollapse(dtype)(hidden, latent)
        # Anew in the backward pass of a step, block by block.
        block = nn.remat(ResidualBlock) if sizes.remat == 'block' else ResidualBlock
        for i in range(sizes.num_blocks):
            hidden = block(
                width,
                sizes.num_knots,
                self.use_running_average,
                dtype,
                name=f'block_{i}',
            )(hidden, latent)

        # Kernels that begin at zero make the first forecast persistence.
        width = {0: self.num_scalars}
        if self.num_vectors:
            width[1] = self.num_vectors
        output = SpinConvolution(
            width, sizes.num_knots, dtype, nn.initializers.zeros, name='output'
        )(hidden)
        # Degrees that the latent grid lacks reach the tendency by this way alone.
        if sizes.skips == 'input':
            direct = SpinConvolution(
                width,
                sizes.num_knots,
                kernel_init=nn.initializers.zeros,
                name='output_of_input',
            )(inputs)
            output = pad_to_degree(output, transforms.state.max_degree)
            output = {spin: output[spin] + direct[spin] for spin in output}
        return transforms.state.to_grid(output)


def axis_names(
    path: Sequence[str],
    sizes: experiment.Model,
    inputs: Mapping[int, Sequence[str]],
    outputs: Mapping[int, Sequence[str]],
) -> tuple[tuple[str, ...] | None, ...]:
    """What stands along the axes of a parameter, so that it can be found by name.

    Args:
      path: the parameter's names, from the collection on.
      sizes: of the network.
      inputs: names of the fields that the network reads, by spin.
      outputs: of those that it predicts.

    Returns:
      For each axis the names of its places; None for an axis of knots.
    """
    scalars = tuple(f'scalar {i}' for i in range(sizes.scalar_channels))
    vectors = tuple(f'vector {i}' for i in range(sizes.vector_channels))
    hidden = {0: scalars, 1: vectors}
    if path[-1] == 'knots':
        read = inputs if path[-2] in ('input', 'output_of_input') else hidden
        made = outputs if path[-2] in ('output', 'output_of_input') else hidden
        return None, _columns(read), _columns(made)
    if path[-1] == 'kernel':
        return (scalars + vectors if path[-2] == 'magnitudes' else scalars), scalars
    return (vectors if path[-1].endswith('_1') else scalars,)


def _columns(names: Mapping[int, Sequence[str]]) -> tuple[str, ...]:
    """As `channels.stack` puts them side by side."""
    return tuple(
        f'{name} mode {mode}'
        for spin, of_spin in sorted(names.items())
        for mode in range(num_modes(spin))
        for name in of_spin
    )
