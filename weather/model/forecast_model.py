"""One step of the forecast: from a state to the state one model step later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from sphere_ops.grid import LatLonGrid
from weather import experiment
from weather.data.forcings import CLOCK, forcing_fields
from weather.data.normalizer import Normalizer
from weather.model.network import SphericalCNN, Transforms
from weather.model.state import from_spin_fields, stack_fields, to_spin_fields
from weather.variables import ChannelIndex

Variables = Mapping[str, Any]


@struct.dataclass
class ForecastModel:
    """Everything of a model but its parameters, as a pytree.

    Tables, statics and scales are leaves, so that they are arguments of a compiled
    program and not literals in it.

    Attributes:
      transforms: of the state's and the latent grid.
      normalizer: scales of the channels.
      statics: fields that never change, normalised, `[lat, lon, static]`.
      grid: grid of the states.
      channels: order of the channels.
      sizes: sizes of the network.
    """

    transforms: Transforms
    normalizer: Normalizer
    statics: jax.Array
    grid: LatLonGrid = struct.field(pytree_node=False)
    channels: ChannelIndex = struct.field(pytree_node=False)
    sizes: experiment.Model = struct.field(pytree_node=False)

    @classmethod
    def create(
        cls, setup: experiment.Experiment, normalizer: Normalizer, statics: Any
    ) -> ForecastModel:
        """Builds the model of an experiment.

        Args:
          setup: the experiment.
          normalizer: scales of its channels.
          statics: `[lat, lon, static]`, normalised, as `forcings.static_fields` gives.
        """
        channels = setup.data.channels
        spins = (0, 1) if channels.winds else (0,)
        return cls(
            transforms=Transforms.create(setup.grid, setup.model, spins),
            normalizer=normalizer,
            statics=jnp.asarray(statics, jnp.float32),
            grid=setup.grid,
            channels=channels,
            sizes=setup.model,
        )

    def init(self, key: jax.Array) -> Variables:
        """Initial parameters and batch statistics."""
        network = self._network(use_running_average=True)
        state = jnp.zeros((*self.grid.shape, len(self.channels)), jnp.float32)
        clock = jnp.zeros(len(CLOCK), jnp.float32)
        return network.init(key, self._inputs(state, clock), self.transforms)

    def normalize(self, fields: Mapping[str, jax.Array]) -> jax.Array:
        """Normalised states `[..., lat, lon, channel]` from fields by variable."""
        return self.normalizer.normalize(stack_fields(fields, self.channels))

    def step(
        self, variables: Variables, state: jax.Array, clock: jax.Array
    ) -> jax.Array:
        """The state one step later, with running moments in the norms.

        Args:
          variables: `params` and `batch_stats`.
          state: normalised, `[..., lat, lon, channel]`.
          clock: `forcings.clock` of the valid time of the result, `[..., phase]`.
        """
        network = self._network(use_running_average=True)
        inputs = self._inputs(state, clock)
        tendency: Any = network.apply(variables, inputs, self.transforms)
        return self._advance(state, tendency)

    def train_step(
        self, variables: Variables, state: jax.Array, clock: jax.Array
    ) -> tuple[jax.Array, Any]:
        """As `step`, with the batch's moments; also the updated `batch_stats`."""
        network = self._network(use_running_average=False)
        tendency, updated = network.apply(
            variables,
            self._inputs(state, clock),
            self.transforms,
            mutable=['batch_stats'],
        )
        return self._advance(state, tendency), updated['batch_stats']

    def _network(self, *, use_running_average: bool) -> SphericalCNN:
        return SphericalCNN(
            model=self.sizes,
            num_scalars=len(self.channels.scalars),
            num_vectors=len(self.channels.winds),
            use_running_average=use_running_average,
        )

    def _inputs(self, state: jax.Array, clock: jax.Array) -> dict[int, jax.Array]:
        fields = to_spin_fields(state, self.channels)
        forcing = forcing_fields(clock, self.grid)
        shape = (*state.shape[:-1], self.statics.shape[-1])
        statics = jnp.broadcast_to(self.statics, shape)
        scalars = jnp.concatenate([fields[0], forcing, statics], axis=-1)
        return {**fields, 0: scalars}

    def _advance(self, state: jax.Array, tendency: dict[int, jax.Array]) -> jax.Array:
        """Adds a tendency that is in units of its own spread to a normalised state."""
        tendency_state = from_spin_fields(tendency, self.channels)
        return state + tendency_state * self.normalizer.tendency_ratio
