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

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.lax import Precision

from sphere_ops.fields import SpinCoefficients, num_modes
from sphere_ops.transform import SpinTransform

# A block of degrees needs no orders above its last degree, and only its own part of the
# interpolated kernel; fewer, larger blocks waste more, more blocks make small products.
DEGREES_PER_BLOCK = 16
_EPSILON = 1e-6  # Floor of a variance and of |x|, where fields are of order one.


def _stack(coefficients: SpinCoefficients) -> jax.Array:
    """Joins modes and channels of all spins, in ascending order, on the last axis."""
    columns = [
        values.reshape(*values.shape[:-2], -1)
        for _, values in sorted(coefficients.items())
    ]
    return jnp.concatenate(columns, axis=-1)


def _unstack(columns: jax.Array, features: Mapping[int, int]) -> SpinCoefficients:
    """The inverse of `_stack` for `features` channels at every spin."""
    result, start = {}, 0
    for spin, channels in sorted(features.items()):
        stop = start + num_modes(spin) * channels
        shape = (*columns.shape[:-1], num_modes(spin), channels)
        result[spin] = columns[..., start:stop].reshape(shape)
        start = stop
    return result


def num_channels(coefficients: SpinCoefficients) -> dict[int, int]:
    """Channels at every spin."""
    return {spin: values.shape[-1] for spin, values in coefficients.items()}


def knot_weights(num_degrees: int, num_knots: int) -> np.ndarray:
    """Weights `[degree, knot]` of linear interpolation between equidistant knots.

    One knot gives a kernel that is the same at all degrees.
    """
    if not 1 <= num_knots <= num_degrees:
        raise ValueError(
            f'expected between 1 and {num_degrees} knots (one per degree), got '
            f'{num_knots}; lower num_knots or raise max_degree'
        )
    if num_knots == 1:
        return np.ones((num_degrees, 1))
    position = np.linspace(0, num_knots - 1, num_degrees)
    return np.maximum(0, 1 - abs(position[:, None] - np.arange(num_knots)))


def multiply_by_degree(
    columns: jax.Array, knots: jax.Array, dtype=jnp.float32
) -> jax.Array:
    """Products with one matrix per degree, interpolated between knots.

    Args:
      columns: `[..., order, degree, part, input]`.
      knots: `[knot, input, output]`.
      dtype: that is multiplied; sums have the type of `columns`.

    Returns:
      `[..., order, degree, part, output]`.
    """
    leading, num_degrees = columns.shape[:-4], columns.shape[-3]
    columns = columns.reshape(-1, *columns.shape[-4:])
    weights = knot_weights(num_degrees, len(knots))
    blocks = []
    for start in range(0, num_degrees, DEGREES_PER_BLOCK):
        stop = min(start + DEGREES_PER_BLOCK, num_degrees)
        used = np.flatnonzero(weights[start:stop].any(axis=0))
        part = jnp.asarray(weights[start:stop, used[0] : used[-1] + 1], knots.dtype)
        kernel = jnp.einsum(
            'lk,kio->lio',
            part,
            knots[used[0] : used[-1] + 1],
            precision=Precision.HIGHEST,
        )
        block = channel_product(
            'bmlpi,lio->bmlpo', columns[:, :stop, start:stop], kernel, dtype
        )
        widths = [(0, 0), (0, num_degrees - stop), (0, 0), (0, 0), (0, 0)]
        blocks.append(jnp.pad(block, widths))
    result = jnp.concatenate(blocks, axis=-3)
    return result.reshape(*leading, *result.shape[1:])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 3))
def channel_product(
    subscripts: str, values: jax.Array, kernel: jax.Array, dtype
) -> jax.Array:
    """`einsum` of values with a kernel over channels, and likewise its gradient.

    Args:
      subscripts: As `'ri,io->ro'`; every letter of a factor also stands in the other
        one or in the result.
      values: Of the type that the result has.
      kernel: Likewise.
      dtype: To which all that is multiplied is rounded, forward and backward: bfloat16
        or the type of `values`, which is that of sums in any case. Off the CPU, JAX
        multiplies float32 with fewer bits (TF32 on GPUs, bfloat16 on TPUs) unless
        JAX_DEFAULT_MATMUL_PRECISION=highest.
    """
    return _channel_product_forward(subscripts, values, kernel, dtype)[0]


def _channel_product_forward(subscripts, values, kernel, dtype):
    factors = _rounded(values, dtype), _rounded(kernel, dtype)
    product = jnp.einsum(subscripts, *factors, preferred_element_type=values.dtype)
    return product, factors


def _channel_product_backward(subscripts, dtype, factors, slope):
    values, kernel = factors
    places, result = subscripts.split('->')
    of_values, of_kernel = places.split(',')
    product = functools.partial(jnp.einsum, preferred_element_type=slope.dtype)
    slope = _rounded(slope, dtype)
    return (
        product(f'{result},{of_kernel}->{of_values}', slope, kernel),
        product(f'{of_values},{result}->{of_kernel}', values, slope),
    )


# JAX's own gradient would multiply float32 slopes with bfloat16 factors, which no
# accelerator's matrix unit does.
channel_product.defvjp(_channel_product_forward, _channel_product_backward)


def _rounded(values: jax.Array, dtype) -> jax.Array:
    """Factors of a product over channels, rounded to bfloat16 if `dtype` is that."""
    if dtype != jnp.bfloat16:
        return values
    if jax.default_backend() == 'cpu':
        # XLA's CPU lacks this product with sums in float32. That of the same numbers in
        # float32 is equal; a mere cast there and back would be optimised away.
        return jax.lax.reduce_precision(values, exponent_bits=8, mantissa_bits=7)
    return values.astype(dtype)


class SpinConvolution(nn.Module):
    """Convolution y_lm = K_l x_lm, with K free at knots of the degree l (eq. 6).

    The matrix K_l acts on the E and B modes of all spins and channels. With two modes
    on both sides this holds the paper's complex kernels and, beside them, the coupling
    of a field to its complex conjugate (which has spin -s): both commute with
    rotations. Entries vanish below l = max(|s|, |s'|).

    Attributes:
      features: channels of the result at every spin.
      num_knots: number of degrees at which the kernel is free; fewer is smoother in
        degree and so more local on the sphere.
      dtype: of the numbers that are multiplied; sums and parameters are float32.
      kernel_init: initialiser of the kernel's knots `[knot, input, output]`; the
        default gives variance one out for variance one in, summed over all inputs.
    """

    features: Mapping[int, int]
    num_knots: int
    dtype: Any = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.initializers.variance_scaling(
        1.0, 'fan_in', 'normal', in_axis=1, out_axis=2, batch_axis=(0,)
    )

    @nn.compact
    def __call__(self, coefficients: SpinCoefficients) -> SpinCoefficients:
        """Convolves coefficients of any spins into `features`."""
        columns = _stack(coefficients)
        num_degrees = columns.shape[-3]
        spins_out = np.concatenate(
            [
                np.full(num_modes(s) * n, abs(s))
                for s, n in sorted(self.features.items())
            ]
        )
        knots = self.param(
            'knots',
            self.kernel_init,
            (self.num_knots, columns.shape[-1], len(spins_out)),
        )
        result = multiply_by_degree(columns, knots.astype(columns.dtype), self.dtype)
        # Coefficients of the input vanish below |s| by themselves.
        exists = np.arange(num_degrees)[:, None, None] >= spins_out
        return _unstack(jnp.where(exists, result, 0), self.features)


class SpectralBatchNorm(nn.Module):
    """Batch normalisation without an inverse transform (section 4.3 of the paper).

    The mean of a spin-0 field over the sphere is its l = 0 coefficient; the variance of
    any field is sum_{l > 0} |a_lm|^2 / 4 pi, here averaged over all leading axes. The
    offset is a constant spin-0 field; other spins have none.

    Attributes:
      use_running_average: take the moments from the collection `batch_stats` instead of
        computing (and recording) those of the batch.
      momentum: weight of the past in the running moments.
      scale_init: initialiser of the scale.
    """

    use_running_average: bool
    momentum: float = 0.9
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, coefficients: SpinCoefficients) -> SpinCoefficients:
        """Normalises every channel of every spin."""
        return {
            spin: self._normalize(spin, values)
            for spin, values in sorted(coefficients.items())
        }

    def _normalize(self, spin: int, values: jax.Array) -> jax.Array:
        channels = values.shape[-1:]
        scale = self.param(f'scale_{spin}', self.scale_init, channels)
        variance = self._moment(f'variance_{spin}', 1.0, sphere_variance(values))
        factor = scale * jax.lax.rsqrt(variance + _EPSILON)
        if spin != 0:
            return values * factor
        mean = self._moment('mean_0', 0.0, _sphere_mean(values))
        bias = self.param('bias_0', nn.initializers.zeros, channels)
        # (x - mean) * factor + bias, where a constant lives in a_00 alone.
        return add_constant(values * factor, bias - mean * factor)

    def _moment(self, name: str, initial: float, observed: jax.Array) -> jax.Array:
        running = self.variable(
            'batch_stats', name, lambda: jnp.full(observed.shape, initial, jnp.float32)
        )
        if self.use_running_average:
            return running.value
        if not self.is_initializing():
            past = self.momentum * running.value
            running.value = past + (1 - self.momentum) * observed
        return observed


def sphere_variance(values: jax.Array) -> jax.Array:
    """Variance over the sphere, averaged over leading axes, of one spin's coefficients.

    Args:
      values: `[..., order, degree, part, mode, channel]`.

    Returns:
      `[channel]`: sum over degrees l > 0 and orders of |a_lm|^2, over 4 pi.
    """
    num_orders = values.shape[-5]
    # Orders below zero are not stored: each order above zero stands for two.
    multiplicity = np.where(np.arange(num_orders) == 0, 1.0, 2.0)
    power = jnp.square(values[..., 1:, :, :, :]).sum(axis=(-4, -3, -2))
    per_sample = jnp.einsum('...mc,m->...c', power, multiplicity.astype(values.dtype))
    leading = tuple(range(per_sample.ndim - 1))
    return per_sample.mean(axis=leading) / (4 * np.pi)


def _sphere_mean(values: jax.Array) -> jax.Array:
    """Mean over the sphere `[channel]` of a spin-0 field: a_00 / sqrt(4 pi)."""
    constant = values[..., 0, 0, 0, 0, :]
    return constant.mean(axis=tuple(range(constant.ndim - 1))) / np.sqrt(4 * np.pi)


def add_constant(values: jax.Array, constant: jax.Array) -> jax.Array:
    """Adds a constant `[channel]` to spin-0 coefficients: a_00 grows."""
    return values.at[..., 0, 0, 0, 0, :].add(np.sqrt(4 * np.pi) * constant)


class PhaseCollapse(nn.Module):
    """Phase collapse x_0 <- (W1 x_0 + W2 [|x_s|, all s]) / 2 + bias (section 4.2).

    The only nonlinearity. Fields of spin other than zero pass unchanged, so only their
    magnitudes are needed on the grid; and W1, the bias and the sum act on coefficients
    as they do on fields, so that a single spin-0 field returns from the grid.

    Attributes:
      dtype: of the numbers that are multiplied, as in `SpinConvolution`.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, coefficients: SpinCoefficients, transform: SpinTransform
    ) -> SpinCoefficients:
        """Applies the nonlinearity on the grid of `transform`."""
        channels = coefficients[0].shape[-1]
        fields = transform.to_grid(coefficients)
        magnitudes = jnp.concatenate(
            [magnitude(fields[spin]) for spin in sorted(fields)], axis=-1
        )
        collapsed = self._dense(channels, 'magnitudes')(magnitudes)
        straight = self._dense(channels, 'scalars')(coefficients[0])
        bias = self.param('bias', nn.initializers.zeros, (channels,))
        scalars = (straight + transform.to_spectral({0: collapsed})[0]) / 2
        return {**coefficients, 0: add_constant(scalars, bias)}

    def _dense(self, channels: int, name: str) -> nn.Dense:
        def product(values, kernel, *_, **__):
            rows = values.reshape(-1, values.shape[-1])
            rows = channel_product('ri,io->ro', rows, kernel, self.dtype)
            return rows.reshape(*values.shape[:-1], -1)

        return nn.Dense(channels, use_bias=False, dot_general=product, name=name)


def magnitude(field: jax.Array) -> jax.Array:
    """|x|, with a gradient that exists at zero."""
    if jnp.iscomplexobj(field):
        return jnp.sqrt(field.real**2 + field.imag**2 + _EPSILON**2)
    return jnp.abs(field)


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
        if num_channels(coefficients) != dict(self.features):
            skip = self._convolution(1, name='skip')(skip)
            skip = self._norm('skip_norm')(skip)
        hidden = self._convolution(self.num_knots)(coefficients)
        hidden = PhaseCollapse(self.dtype)(self._norm('norm_0')(hidden), transform)
        hidden = self._convolution(self.num_knots)(hidden)
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
