"""Weather as something to learn: what `learning.fit` asks of a subject."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Generator, Mapping
from typing import Any

import jax
import numpy as np

from learning import provenance
from learning.sharding import Mesh, placed_ahead, replicated, split_batch
from learning.update import Outcome, TrainState, init_train_state, make_update
from weather.data.forcings import clock
from weather.data.loader import Batch, Loader
from weather.experiment import Experiment
from weather.model.forecaster import Forecaster
from weather.model.loss import channel_weights
from weather.training.loss import DeviceBatch, make_loss, make_validation

_HOUR = np.timedelta64(1, 'h')


@dataclasses.dataclass(frozen=True)
class Loaders:
    """Batches for training and for validation."""

    training: Loader
    validation: Loader


class WeatherTask:
    """Forecasting, learnt from windows of an atmosphere.

    Attributes:
      model: what is trained; its scales are those of the run's first update.
    """

    def __init__(
        self, setup: Experiment, model: Forecaster, loaders: Loaders, mesh: Mesh
    ):
        self.model = jax.device_put(model, replicated(mesh))
        self._setup = setup
        self._loaders = loaders
        self._mesh = mesh
        weights = channel_weights(model.channels, setup.loss)
        self._update = make_update(make_loss(weights), setup.training)
        self._losses_of = make_validation(weights)
        self._metadata = {
            'config': setup.to_dict(),
            'config_hash': setup.digest,
            'timestep_seconds': int(self.timestep / np.timedelta64(1, 's')),
            'num_parameters': model.num_parameters,
            'code_version': provenance.code_version(),
            'git_commit': provenance.git_commit(),
        }

    @property
    def timestep(self) -> np.timedelta64:
        """Length of a step of the model."""
        return self._loaders.training.windows.timestep

    def init(self) -> TrainState:
        """The state before the first update: a function of the seed alone."""
        weights = self.model.init(jax.random.key(self._setup.training.seed))
        state = init_train_state(weights, self._setup.training)
        return jax.device_put(state, replicated(self._mesh))

    def items(self, state: TrainState) -> dict[str, Any]:
        """`training`, to go on, and `forecast`: all that a forecast needs."""
        training = {
            'update': state.update,
            # The name that the first version gave to the weights.
            'variables': state.weights,
            'optimizer': state.optimizer,
        }
        return {'training': training, 'forecast': self.model.items(state.average)}

    def from_items(self, items: Mapping[str, Any]) -> TrainState:
        """The state; the model gets the scales and statics that it was trained with."""
        self.model, average = self.model.with_items(items['forecast'])
        return TrainState(
            update=items['training']['update'],
            weights=items['training']['variables'],
            average=average,
            optimizer=items['training']['optimizer'],
        )

    def metadata(self, update: int) -> dict[str, Any]:
        """What a checkpoint says about itself."""
        # All there is to know of where the loader stands: it keeps no position.
        loader = {'seed': self._setup.training.seed, 'next_update': update}
        return {**self._metadata, 'loader': loader}

    def batches(self, first: int, last: int) -> Generator[DeviceBatch, None, None]:
        """Windows, as long as the curriculum asks for, on the devices ahead of use."""
        steps = self._setup.training.num_steps
        read = self._loaders.training.batches(first, last, steps)
        return placed_ahead(read, self._to_device)

    def update(
        self, state: TrainState, batch: DeviceBatch
    ) -> tuple[TrainState, Outcome]:
        """One update on a batch."""
        return self._update(state, self.model, batch)

    def validate(self, state: TrainState) -> np.ndarray:
        """Loss per step of the averaged weights, over the longest rollout trained."""
        training = self._setup.training
        # The longest from the start, though it may blow up: losses can be compared.
        # By number, from 0: the same batches every time.
        read = self._loaders.validation.batches(
            0, training.validation_batches, lambda _: training.max_steps
        )
        with contextlib.closing(placed_ahead(read, self._to_device)) as batches:
            losses = [
                np.asarray(self._losses_of(state.average, self.model, batch))
                for batch in batches
            ]
        return np.mean(losses, axis=0)

    def part_names(self, num_parts: int) -> list[str]:
        """The steps of a rollout."""
        return [f'step_{step}' for step in range(1, num_parts + 1)]

    def line(self, update: int, values: Mapping[str, float]) -> str:
        """What the console says of an update, or of a validation."""
        if 'validation_loss' in values:
            parts = _parts(values, 'validation_loss')
            shown = ', '.join(f'{part:.3f}' for part in parts)
            loss = values['validation_loss']
            return f'update {update}  validation loss {loss:.3f} ({shown})'
        hours, training = self.timestep / _HOUR, self._setup.training
        shown = ', '.join(
            f'{step * hours:g} h {part:.3f}'
            for step, part in enumerate(_parts(values, 'loss'), start=1)
        )
        rate = values['updates_per_second']
        return (
            f'update {update}/{training.num_updates}  loss {values["loss"]:.3f} '
            f'({shown})  gradient {values["gradient_norm"]:.2f}  {rate:.2f} updates/s '
            f'{rate * training.batch_size:.1f} windows/s'
        )

    def _to_device(self, batch: Batch) -> DeviceBatch:
        # Without the first: a step is told the time that it leads to.
        clocks = clock(batch.valid_times[:, 1:], timestep=self.timestep)
        return DeviceBatch(*split_batch(self._mesh, (batch.fields, clocks)))


def _parts(values: Mapping[str, float], name: str) -> list[float]:
    return [v for key, v in values.items() if key.startswith(f'{name}_step_')]
