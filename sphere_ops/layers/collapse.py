"""The phase collapse, the nonlinearity of the network."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from sphere_ops import sharding
from sphere_ops.fields import SpinCoefficients
from sphere_ops.layers.channels import channel_product
from sphere_ops.layers.norms import add_constant
from sphere_ops.transform import SpinTransform

_EPSILON = 1e-6  # Floor of |x|, where fields are of order one.


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
            if sharding.num_parts() > 1:
                # Rows of samples and of latitudes, both split, have no common axis.
                axes = 'abcdefgh'[: values.ndim - 1]
                subscripts = f'{axes}i,io->{axes}o'
                return channel_product(subscripts, values, kernel, self.dtype)
            rows = values.reshape(-1, values.shape[-1])
            rows = channel_product('ri,io->ro', rows, kernel, self.dtype)
            return rows.reshape(*values.shape[:-1], -1)

        return nn.Dense(channels, use_bias=False, dot_general=product, name=name)


def magnitude(field: jax.Array) -> jax.Array:
    """|x|, with a gradient that exists at zero."""
    if jnp.iscomplexobj(field):
        return jnp.sqrt(field.real**2 + field.imag**2 + _EPSILON**2)
    return jnp.abs(field)
