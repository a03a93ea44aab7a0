"""The scaling of states: SI before `Normalizer.normalize`, dimensionless after it."""

from __future__ import annotations

import flax.struct
import jax
import numpy as np
import xarray

from weather.data.statistics import select_channels
from weather.variables import ChannelIndex


@flax.struct.dataclass
class Normalizer:
    """Offset and scale of every channel: SI state <-> dimensionless state.

    A scalar channel gets its own mean and standard deviation. The two components of a
    wind are one vector field and are treated as one: no offset, because a constant
    eastward wind is no smooth vector field at the poles, and one common scale, because
    different ones would make the scaled vector depend on the orientation of the axes.
    That scale is the root of the mean square of both components; the tendency's is
    pooled in the same way.

    Attributes:
      offset, scale: float32 `[channel]`, SI.
      tendency_scale: float32 `[channel]`, SI per model step: standard deviation of
        the tendency over one step.
    """

    offset: jax.Array | np.ndarray
    scale: jax.Array | np.ndarray
    tendency_scale: jax.Array | np.ndarray

    @classmethod
    def from_statistics(
        cls, statistics: xarray.Dataset, channels: ChannelIndex
    ) -> Normalizer:
        """Takes offset and scale of `channels` from `statistics.compute_statistics`.

        Raises:
          ValueError: statistics that lack a channel or cannot be right.
        """
        statistics = select_channels(statistics, channels)
        mean, std, tendency_std = (
            statistics[name].values.astype(np.float64)
            for name in ('mean', 'std', 'tendency_std')
        )
        offset, scale, tendency_scale = mean.copy(), std.copy(), tendency_std.copy()
        for pair in channels.winds:
            wind = list(pair)
            offset[wind] = 0
            scale[wind] = np.sqrt(np.mean(mean[wind] ** 2 + std[wind] ** 2))
            tendency_scale[wind] = np.sqrt(np.mean(tendency_std[wind] ** 2))
        # What is predicted as such, and not by its tendency, is in units of its spread.
        direct = [channel.variable in channels.outputs for channel in channels]
        tendency_scale = np.where(direct, scale, tendency_scale)
        return cls(
            offset=offset.astype(np.float32),
            scale=scale.astype(np.float32),
            tendency_scale=tendency_scale.astype(np.float32),
        )

    @property
    def tendency_ratio(self) -> jax.Array | np.ndarray:
        """`[channel]`, the tendency's scale in units of the state's: dimensionless."""
        return self.tendency_scale / self.scale

    def normalize(self, state: jax.Array) -> jax.Array:
        """SI `[..., channel]` -> dimensionless, of the same shape."""
        return (state - self.offset) / self.scale

    def denormalize(self, state: jax.Array) -> jax.Array:
        """Dimensionless `[..., channel]` -> SI, of the same shape."""
        return state * self.scale + self.offset
