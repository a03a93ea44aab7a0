"""The arrays that flow: fields by variable on the host, states on the device.

A state is `[..., lat, lon, channel]` in the order of a `ChannelIndex`, SI units until
it is normalised. Hosts ship fields by variable, as they lie in the store, because
stacking and normalising are faster on the device than on the host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sphere_ops.fields import SpinFields
from weather.variables import ChannelIndex


class Forcing(NamedTuple):
    """What a step reads beside the state, at the valid time of its result.

    Attributes:
      clock: `forcings.clock`, `[..., phase]`: where the sun and the clock stand.
      inputs: normalised `[..., lat, lon, input]`, from the store; none where the
        experiment has no variables that are only inputs.
    """

    clock: Any
    inputs: jax.Array | None = None


def stack_fields(fields: Mapping[str, jax.Array], channels: ChannelIndex) -> jax.Array:
    """Stacks fields by variable into states.

    Args:
      fields: `[..., level, lat, lon]` for every variable of `channels`; one level for a
        surface variable.
      channels: the order wanted.

    Returns:
      States `[..., lat, lon, channel]`.
    """
    # Levels side by side first, one transpose of all at the end.
    stacked = jnp.concatenate([fields[name] for name in channels.variables], axis=-3)
    return jnp.moveaxis(stacked, -3, -1)


def to_spin_fields(state: jax.Array, channels: ChannelIndex) -> SpinFields:
    """Splits a state into scalars (spin 0) and winds u + iv (spin 1)."""
    scalars = select(state, channels.scalars)
    if not channels.winds:
        return {0: scalars}
    eastward = select(state, [pair[0] for pair in channels.winds])
    northward = select(state, [pair[1] for pair in channels.winds])
    return {0: scalars, 1: jax.lax.complex(eastward, northward)}


def from_spin_fields(fields: SpinFields, channels: ChannelIndex) -> jax.Array:
    """Joins scalars and winds into a state: the inverse of `to_spin_fields`."""
    parts = [fields[0]]
    order = list(channels.scalars)
    if channels.winds:
        parts += [fields[1].real, fields[1].imag]
        order += [pair[0] for pair in channels.winds]
        order += [pair[1] for pair in channels.winds]
    # Scalars and winds lie apart, and are put back in the order of the index.
    position = {channel: i for i, channel in enumerate(order)}
    joined = jnp.concatenate(parts, axis=-1)
    return select(joined, [position[channel] for channel in range(len(channels))])


def select(values: jax.Array, positions: Sequence[int]) -> jax.Array:
    """Takes `positions` on the last axis, by slices: much faster than a gather."""
    if not positions:
        return values[..., :0]  # Which `concatenate` cannot make of no slices.
    starts = [i for i, p in enumerate(positions) if i == 0 or p != positions[i - 1] + 1]
    stops = [*starts[1:], len(positions)]
    return jnp.concatenate(
        [
            values[..., positions[start] : positions[stop - 1] + 1]
            for start, stop in zip(starts, stops, strict=True)
        ],
        axis=-1,
    )
