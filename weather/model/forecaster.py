"""The forecaster: a network with its scales and statics, and the step it makes.

One object serves training, validation, forecasting and benchmarks, so that what is
trained is what forecasts. Forecasts differ by what it is given: a step is repeated by
`rollout`; a variable that is only an output is predicted as such at every step, the
others by their tendency; the leading axes of a state are starts, members, or both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import PartitionSpec

from sphere_ops import sharding
from sphere_ops.fields import SpinFields
from sphere_ops.grid import LatLonGrid
from sphere_ops.layers import copy_kernels
from sphere_ops.transform import SpinTransform
from weather import experiment
from weather.data.forcings import CLOCK, POSITIONS, forcing_fields, static_fields
from weather.data.normalizer import Normalizer
from weather.model import networks
from weather.model.rollout import rollout
from weather.model.state import (
    Forcing,
    from_spin_fields,
    select,
    stack_fields,
    to_spin_fields,
)
from weather.variables import ChannelIndex

# Parameters and batch statistics: what training adjusts. Flax says variables, which
# here are those of the atmosphere.
Weights = Mapping[str, Any]


@struct.dataclass
class Forecaster:
    """Everything of a model but its weights, as a pytree.

    Tables, statics and scales are leaves, so that they are arguments of a compiled
    program and not literals in it (14 MiB of tables at 256x256).

    Attributes:
      transforms: tables of the network.
      normalizer: scales of the channels.
      input_normalizer: scales of the inputs; none where there are none.
      statics: fields that never change, normalised, `[lat, lon, static]`.
      grid: grid of the states.
      channels: order of the channels of a state.
      inputs: order of the fields that a step reads beside the state.
      sizes: sizes of the network, and its name.
    """

    transforms: Any
    normalizer: Normalizer
    input_normalizer: Normalizer | None
    statics: jax.Array
    grid: LatLonGrid = struct.field(pytree_node=False)
    channels: ChannelIndex = struct.field(pytree_node=False)
    inputs: ChannelIndex = struct.field(pytree_node=False)
    sizes: experiment.Model = struct.field(pytree_node=False)

    @classmethod
    def create(
        cls,
        setup: experiment.Experiment,
        normalizer: Normalizer,
        statics: Any,
        input_normalizer: Normalizer | None = None,
    ) -> Self:
        """Builds the forecaster of an experiment.

        `statics` are `[lat, lon, static]`, normalised, of `forcings.static_fields`;
        `input_normalizer` is None for an experiment without inputs.

        Raises:
          ValueError: `model.network` names no network.
        """
        channels, inputs = setup.data.channels, setup.data.inputs
        spins = (0, 1) if channels.winds or inputs.winds else (0,)
        network = networks.load(setup.model.network)
        return cls(
            transforms=network.Transforms.create(setup.grid, setup.model, spins),
            normalizer=normalizer,
            input_normalizer=input_normalizer,
            statics=jnp.asarray(statics, jnp.float32),
            grid=setup.grid,
            channels=channels,
            inputs=inputs,
            sizes=setup.model,
        )

    @classmethod
    def from_data(
        cls, setup: experiment.Experiment, statistics: Any, stored: Mapping[str, Any]
    ) -> Self:
        """Builds it with the scales of a training period.

        `statistics` are those of `statistics.compute_statistics`; `stored` holds every
        static of the config, `[lat, lon]` in canonical orientation.
        """
        data = setup.data
        return cls.create(
            setup,
            Normalizer.from_statistics(statistics, data.channels),
            static_fields(stored, setup.grid, (*data.statics, *POSITIONS)),
            Normalizer.from_statistics(statistics, data.inputs)
            if len(data.inputs)
            else None,
        )

    @classmethod
    def without_data(cls, setup: experiment.Experiment) -> Self:
        """Builds it with scales of one, tendencies of a tenth, and flat statics.

        Its shapes are right, which is all that reading a checkpoint, counting
        parameters and timing need.
        """

        def unit(channels: ChannelIndex) -> Normalizer:
            ones = np.ones(len(channels), np.float32)
            return Normalizer(0 * ones, ones, ones / 10)

        num_statics = len(setup.data.statics) + len(POSITIONS)
        return cls.create(
            setup,
            unit(setup.data.channels),
            np.zeros((*setup.grid.shape, num_statics), np.float32),
            unit(setup.data.inputs) if len(setup.data.inputs) else None,
        )

    def items(self, weights: Weights) -> dict[str, Any]:
        """What a checkpoint keeps for forecasting: the only place that spells it."""
        items = {
            # The name that the first version gave to the weights.
            'variables': weights,
            # Without its class, which a later version may spell otherwise.
            'normalizer': dict(vars(self.normalizer)),
            'statics': self.statics,
        }
        if self.input_normalizer is not None:
            items['input_normalizer'] = dict(vars(self.input_normalizer))
        return items

    def with_items(self, items: Mapping[str, Any]) -> tuple[Self, Weights]:
        """The same with scales and statics of `items`, and the weights beside them."""
        inputs = items.get('input_normalizer')
        model = self.replace(  # type: ignore[attr-defined]
            normalizer=Normalizer(**items['normalizer']),
            statics=items['statics'],
            input_normalizer=None if inputs is None else Normalizer(**inputs),
        )
        return model, items['variables']

    def template(self) -> dict[str, Any]:
        """Shapes and dtypes of `items` on the first device, to read them into."""
        # Shapes alone: no numbers are drawn, to be thrown away.
        weights = jax.eval_shape(self.init, jax.random.key(0))
        sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                np.shape(leaf), leaf.dtype, sharding=sharding
            ),
            self.items(weights),
        )

    @property
    def layout(self) -> Self:
        """Where its arrays lie on a mesh, as a pytree of `PartitionSpec`.

        Tables are split by order and statics by latitude, so that no device holds them
        all; for `learning.sharding.place`.
        """
        everywhere = PartitionSpec()
        return self.replace(  # type: ignore[attr-defined]
            transforms=jax.tree.map(
                lambda transform: transform.layout,
                self.transforms,
                is_leaf=lambda node: isinstance(node, SpinTransform),
            ),
            normalizer=everywhere,
            input_normalizer=None if self.input_normalizer is None else everywhere,
            statics=sharding.field_layout(),
        )

    @property
    def num_parameters(self) -> int:
        """Number of real numbers that training adjusts."""
        shapes = jax.eval_shape(self.init, jax.random.key(0))['params']
        return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))

    def init(self, key: jax.Array) -> Weights:
        """Initial parameters and batch statistics."""
        state = jnp.zeros((*self.grid.shape, len(self.channels)), jnp.float32)
        inputs = jnp.zeros((*self.grid.shape, len(self.inputs)), jnp.float32)
        forcing = Forcing(jnp.zeros(len(CLOCK), jnp.float32), inputs)
        network = self._network(use_running_average=True)
        return network.init(key, self._read(state, forcing), self.transforms)

    def normalize(self, fields: Mapping[str, jax.Array]) -> jax.Array:
        """Normalised states `[..., lat, lon, channel]` from fields by variable, SI."""
        return self.normalizer.normalize(stack_fields(fields, self.channels))

    def denormalize(self, state: jax.Array) -> jax.Array:
        """States in SI units from normalised ones."""
        return self.normalizer.denormalize(state)

    def forcing(self, clock: Any, fields: Mapping[str, Any]) -> Forcing:
        """What steps read beside states, from the clock and fields by variable, SI.

        Args:
          clock: `forcings.clock` of the valid times, `[..., phase]`.
          fields: `[..., level, lat, lon]` at these times of every input; of other
            variables they are not looked at.
        """
        if self.input_normalizer is None:
            return Forcing(clock, None)
        inputs = stack_fields(fields, self.inputs)
        return Forcing(clock, self.input_normalizer.normalize(inputs))

    def step(self, weights: Weights, state: jax.Array, forcing: Forcing) -> jax.Array:
        """The state one step later, with running moments in the norms.

        Args:
          weights: `params` and `batch_stats`.
          state: normalised, `[..., lat, lon, channel]`.
          forcing: at the valid time of the result.
        """
        network = self._network(use_running_average=True)
        inputs = self._read(state, forcing)
        tendency: Any = network.apply(weights, inputs, self.transforms)
        return self._advance(state, tendency)

    def train_step(
        self, weights: Weights, state: jax.Array, forcing: Forcing
    ) -> tuple[jax.Array, Any]:
        """As `step`, with the batch's moments; also the updated `batch_stats`."""
        network = self._network(use_running_average=False)
        tendency, updated = network.apply(
            weights,
            self._read(state, forcing),
            self.transforms,
            mutable=['batch_stats'],
        )
        return self._advance(state, tendency), updated['batch_stats']

    def rollout(
        self, weights: Weights, state: jax.Array, forcings: Forcing
    ) -> jax.Array:
        """The states after every step, `[step, ..., lat, lon, channel]`.

        Args:
          weights: `params` and `batch_stats`.
          state: normalised, `[..., lat, lon, channel]`.
          forcings: at the valid time of every step, the steps on a new first axis.
        """

        def step(state: jax.Array, forcing: Forcing) -> tuple[jax.Array, None]:
            return self.step(weights, state, forcing), None

        # Nothing is kept for a gradient, so that nothing has to be made anew.
        return rollout(step, state, forcings, rematerialise=False)[0]

    def train_rollout(
        self, weights: Weights, state: jax.Array, forcings: Forcing
    ) -> tuple[jax.Array, Any]:
        """As `rollout`, with the batch's moments and the updated `batch_stats`."""
        # Here, so that gradients are summed over devices once, not in every step.
        params = copy_kernels(
            weights['params'], num_samples=math.prod(state.shape[:-3])
        )
        weights = {**weights, 'params': params}

        def step(state: jax.Array, forcing: Forcing) -> tuple[jax.Array, Any]:
            return self.train_step(weights, state, forcing)

        states, moments = rollout(
            step, state, forcings, rematerialise=self.sizes.remat != 'none'
        )
        # Every step starts from the same running moments: their mean is one update.
        return states, jax.tree.map(lambda leaf: leaf.mean(axis=0), moments)

    def _network(self, *, use_running_average: bool) -> Any:
        return networks.load(self.sizes.network).Network(
            sizes=self.sizes,
            num_scalars=len(self.channels.scalars),
            num_vectors=len(self.channels.winds),
            use_running_average=use_running_average,
        )

    def _read(self, state: jax.Array, forcing: Forcing) -> SpinFields:
        """All that the network reads, by spin."""
        read = self.channels.prognostic
        if len(read) != len(self.channels):
            # Outputs are made anew: what a state holds of them is not read.
            state = select(state, [self.channels[channel] for channel in read])
        fields = to_spin_fields(state, read)
        clock = forcing_fields(forcing.clock, self.grid)
        shape = (*state.shape[:-1], self.statics.shape[-1])
        statics = jnp.broadcast_to(self.statics, shape)
        parts = {spin: [values] for spin, values in fields.items()}
        parts[0] += [clock, statics]
        if len(self.inputs):
            assert forcing.inputs is not None
            for spin, values in to_spin_fields(forcing.inputs, self.inputs).items():
                parts.setdefault(spin, []).append(values)
        return {spin: jnp.concatenate(of, axis=-1) for spin, of in parts.items()}

    def _advance(self, state: jax.Array, tendency: SpinFields) -> jax.Array:
        """Adds a tendency that is in units of its own spread to a normalised state."""
        change = from_spin_fields(tendency, self.channels)
        if self.channels.outputs:
            # Nothing of the state before: it was not read, and may not be known.
            kept = [c.variable not in self.channels.outputs for c in self.channels]
            state = jnp.where(jnp.array(kept), state, 0)
        return state + change * self.normalizer.tendency_ratio
