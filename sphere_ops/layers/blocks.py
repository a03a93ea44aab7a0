"""Blocks of layers with a skip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from sphere_ops.fields import SpinCoefficients
from sphere_ops.layers.channels import num_channels
from sphere_ops.layers.collapse import PhaseCollapse
from sphere_ops.layers.convolution import SpinConvolution
from sphere_ops.layers.norms import SpectralBatchNorm
from sphere_ops.transform import SpinTransform


class ResidualBlock(nn.Module):
    """Spectral residual block (section 4.4): two convolutions and a skip.

    Convolution, norm, phase collapse, convolution, norm (scale initially zero), sum
    with the input in the spectral domain, phase collapse. Where the width changes, the
    skip is a convolution with one knot and a norm; otherwise it is the identity.

    Attributes:
      features: channels of the result at every spin.
      num_knots: of both convolutions.
      use_running_average: as in `SpectralBatchNorm`.
      dtype: as in `SpinConvolution` and `PhaseCollapse`.
    """

    features: Mapping[int, int]
    num_knots: int
    use_running_average: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, coefficients: SpinCoefficients, transform: SpinTransform
    ) -> SpinCoefficients:
        """Applies the block; `transform` is that of the grid of the nonlinearities."""
        skip = coefficients
        # In the official library a comparison of shapes makes the skip always dense;
        # what the paper means is the identity where widths agree.
        if num_channels(coefficients) != dict(self.features):
            skip = self._convolution(1, name='skip')(skip)
            skip = self._norm('skip_norm')(skip)
        hidden = self._convolution(self.num_knots)(coefficients)
        hidden = PhaseCollapse(self.dtype)(self._norm('norm_0')(hidden), transform)
        hidden = self._convolution(self.num_knots)(hidden)
        # Zero at first: a new block is its skip, and a deep network begins as a shallow
        # one, whatever the number of blocks.
        hidden = self._norm('norm_1', nn.initializers.zeros)(hidden)
        total = {spin: skip[spin] + hidden[spin] for spin in hidden}
        return PhaseCollapse(self.dtype)(total, transform)

    def _convolution(self, num_knots: int, name: str | None = None) -> SpinConvolution:
        return SpinConvolution(self.features, num_knots, self.dtype, name=name)

    def _norm(
        self, name: str, scale_init: nn.initializers.Initializer = nn.initializers.ones
    ) -> SpectralBatchNorm:
        return SpectralBatchNorm(
            self.use_running_average, scale_init=scale_init, name=name
        )
