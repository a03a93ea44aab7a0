"""Layers of a spherical CNN: coefficients in, coefficients out.

Source: Esteves, Slotine, Makadia, "Scaling Spherical CNNs", ICML 2023
(arXiv:2306.05420), section 4. Every layer takes and returns `SpinCoefficients`, reads
spins and channels from the value, and commutes with rotations of the sphere: the
convolution and the norm exactly, the phase collapse up to the aliasing of a pointwise
nonlinearity.

In the layout of this package (real and imaginary parts of the E and B modes, orders
m >= 0) a linear equivariant map is one real matrix per degree over (spin, mode,
channel), so that a convolution is a real batched matrix product.
"""

from sphere_ops.layers.blocks import ResidualBlock
from sphere_ops.layers.channels import channel_product, num_channels
from sphere_ops.layers.collapse import PhaseCollapse, magnitude
from sphere_ops.layers.convolution import (
    SpinConvolution,
    copy_kernels,
    knot_weights,
    multiply_by_degree,
)
from sphere_ops.layers.norms import SpectralBatchNorm, add_constant, sphere_variance

__all__ = [
    'PhaseCollapse',
    'ResidualBlock',
    'SpectralBatchNorm',
    'SpinConvolution',
    'add_constant',
    'channel_product',
    'copy_kernels',
    'knot_weights',
    'magnitude',
    'multiply_by_degree',
    'num_channels',
    'sphere_variance',
]
