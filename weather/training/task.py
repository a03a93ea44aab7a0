"""Weather as something to learn: what `learning.fit` asks of a subject."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import logging
from collections.abc import Generator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import NamedSharding

from learning import provenance
from learning.failures import Failures
from learning.flops import count_flops
from learning.settings import Stage
from learning.sharding import Mesh, place, placed_ahead, split_batch
from learning.update import (
    Outcome,
    TrainState,
    Update,
    init_train_state,
    make_part_gradients,
)
from weather.data.forcings import clock
from weather.data.loader import Batch, Loader
from weather.data.slabs import NotFiniteError
from weather.experiment import Experiment
from weather.model.forecaster import Forecaster
from weather.model.loss import channel_weights
from weather.training import layouts
from weather.training.layouts import memory_layout, state_layouts
from weather.training.loss import (
    DeviceBatch,
    build_update,
    make_loss,
    make_validation,
)
from weather.training.origin import Origin
from weather.training.replay import new_rollouts, replay_of
from weather.training.validation import Validation, headline_errors

_LOGGER = logging.getLogger(__name__)

_Item = TypeVar('_Item')
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
        self,
        setup: Experiment,
        model: Forecaster,
        loaders: Loaders,
        mesh: Mesh,
        origin: Origin | None = None,
    ):
        """Prepares to train.

        Args:
          setup: the experiment.
          model: what is trained.
          loaders: of the data.
          mesh: devices.
          origin: the weights of another run to begin with; None for random ones.
        """
        self.model = place(mesh, model, model.layout)
        self._setup = setup
        self._loaders = loaders
        self._mesh = mesh
        self._origin = origin
        self._unusable: list[str] = []
        # Operations of updates, by stage and shape; which the newest was.
        self._flops: dict[Any, float] = {}
        self._newest: Any = None
        self._weights_of_channels = channel_weights(model.channels, setup.loss)
        self._losses_of = make_validation(self._weights_of_channels)
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

    def init(self, update: int = 0) -> TrainState:
        """The state before the first update: a function of the seed alone."""
        training = self._setup.training
        weights = self.model.init(jax.random.key(training.seed))
        if self._origin is not None and not update:
            weights = self._origin.into(weights)
        # What the last update that was done has left is of its stage.
        memory = new_rollouts(
            training.stage_of(max(update - 1, 0)).settings, self.model
        )
        state = init_train_state(weights, training, memory)
        return jax.device_put(
            state, state_layouts(self._mesh, self._setup.devices, state)
        )

    def items(self, state: TrainState) -> dict[str, Any]:
        """`training`, to go on, and `forecast`: all that a forecast needs."""
        training = {
            'update': state.update,
            # The name that the first version gave to the weights.
            'variables': state.weights,
            'optimizer': state.optimizer,
        }
        if state.memory is not None:
            training['memory'] = state.memory
        items = {'training': training, 'forecast': self.model.items(state.average)}
        # By themselves: who makes a forecast reads one average.
        return items | {f'average_{k}': v for k, v in state.averages.items()}

    def from_items(self, items: Mapping[str, Any]) -> TrainState:
        """The state; the model gets the scales and statics that it was trained with."""
        self.model, average = self.model.with_items(items['forecast'])
        begin = 'average_'
        return TrainState(
            update=items['training']['update'],
            weights=items['training']['variables'],
            average=average,
            optimizer=items['training']['optimizer'],
            averages={
                name.removeprefix(begin): of
                for name, of in items.items()
                if name.startswith(begin)
            },
            memory=items['training'].get('memory'),
        )

    def metadata(self, update: int) -> dict[str, Any]:
        """What a checkpoint says about itself."""
        # All there is to know of where the loader stands: it keeps no position.
        loader = {'seed': self._setup.training.seed, 'next_update': update}
        return {**self._metadata, 'loader': loader}

    def batches(
        self, first: int, last: int, failures: Failures
    ) -> Generator[DeviceBatch, None, None]:
        """Windows, as the stages ask for them, on the devices ahead of use.

        What cannot be used because it is not finite is noted, and becomes a batch of
        NaN: all processes then fail in the same update, and not one by itself.
        """
        for begin, end in self._segments(first, last, failures):
            stage = self._setup.training.stage_of(begin)
            loader = self._loader(stage, begin, failures)
            read = loader.batches(
                begin - stage.first_update,
                end - stage.first_update,
                stage.settings.rollout_length,
            )
            numbered = _numbered(read, begin)
            placed = placed_ahead(numbered, lambda pair: self._to_device(*pair))
            with contextlib.closing(placed) as batches:
                try:
                    yield from batches
                except NotFiniteError as problem:
                    self._unusable.append(problem.time)
                    _LOGGER.warning('warning: %s', problem)
                    yield from self._spoilt(loader, stage, begin)

    def update(
        self, number: int, state: TrainState, batch: DeviceBatch
    ) -> tuple[TrainState, Outcome]:
        """One update on a batch."""
        stage = self._setup.training.stage_of(number)
        if number == stage.first_update and number:
            # What the stage before has left is not of this one.
            memory = new_rollouts(stage.settings, self.model)
            if memory is not None:
                memory = jax.device_put(memory, memory_layout(self._mesh))
            state = state.replace(memory=memory)  # type: ignore[attr-defined]
        update = self._update_of(stage.number)
        shape = stage.number, batch.clocks.shape
        if shape not in self._flops:
            # The trace is the one that compiles it.
            self._flops[shape] = count_flops(update, state, self.model, batch).total
        self._newest = shape
        return update(state, self.model, batch)

    def flops(self, number: int) -> float | None:
        """Operations of the newest update, over all devices."""
        return self._flops.get(self._newest)

    def part_gradients(
        self, number: int, state: TrainState, batch: DeviceBatch
    ) -> dict[str, float]:
        """Norms of the gradients of each step's and each variable's loss.

        Of rollouts that begin with the data, in a stage whose rollouts go on as well.
        """
        norms = self._gradients_of(self._setup.training.stage_of(number).number)
        parts, named = norms(state.weights, self.model, batch)
        steps = zip(self.part_names(len(parts)), np.asarray(parts), strict=True)
        found = {f'gradient_norm_{name}': float(norm) for name, norm in steps}
        variables = {name.removeprefix('loss_'): norm for name, norm in named.items()}
        return found | {f'gradient_norm_{k}': float(v) for k, v in variables.items()}

    def validate(self, state: TrainState) -> Validation:
        """Errors of the averaged weights, over the longest rollout trained."""
        training = self._setup.training
        # The longest from the start, though it may blow up: losses can be compared.
        # By number, from 0: the same batches every time.
        read = self._loaders.validation.batches(
            0, training.validation_batches, lambda _: training.max_steps
        )
        numbered = _numbered(read, 0)
        placed = placed_ahead(numbered, lambda pair: self._place(pair[1]))
        with contextlib.closing(placed) as batches:
            of_average = [
                jax.device_get(self._losses_of(state.average, self.model, batch))
                for batch in batches
            ]
        errors = np.mean([found.mean_squares for found in of_average], axis=0)
        return Validation(
            np.mean([found.losses for found in of_average], axis=0),
            headline_errors(errors, self.model, self.timestep),
        )

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
        batch_size = training.stage_of(update - 1).settings.batch_size
        return (
            f'update {update}/{training.total_updates}  loss {values["loss"]:.3f} '
            f'({shown})  gradient {values["gradient_norm"]:.2f}  {rate:.2f} updates/s '
            f'{rate * batch_size:.1f} windows/s'
        )

    def describe(self, update: int, failures: Failures) -> dict[str, Any]:
        """When the windows of an update begin."""
        stage = self._setup.training.stage_of(update)
        loader = self._loader(stage, update, failures)
        settings, number = stage.settings, update - stage.first_update
        steps = settings.rollout_length(number)
        starts = loader.windows.times[loader.times(number, steps)[:, 0]]
        return {
            'stage': stage.number,
            'num_steps': steps,
            'windows': [str(time.astype('datetime64[m]')) for time in starts],
        }

    def unusable(self) -> list[str]:
        """Times that were found to be missing since this was last asked."""
        found, self._unusable = self._unusable, []
        return found

    # As long as the task, which is as long as the training.
    @functools.cache  # noqa: B019
    def _update_of(self, number: int) -> Update:
        stage = self._setup.training.plan()[number - 1]
        return build_update(self._setup, self.model, stage)

    @functools.cache  # noqa: B019
    def _gradients_of(self, number: int) -> Any:
        stage = self._setup.training.plan()[number - 1]
        return make_part_gradients(make_loss(self._weights_of_channels, stage.settings))

    def _segments(
        self, first: int, last: int, failures: Failures
    ) -> list[tuple[int, int]]:
        """First and last update of what is read in one go."""
        stages = [stage.first_update for stage in self._setup.training.plan()]
        breaks = {first, last, *stages, *failures.changes_after(first)}
        inside = sorted(update for update in breaks if first <= update <= last)
        return list(itertools.pairwise(inside))

    def _loader(self, stage: Stage, update: int, failures: Failures) -> Loader:
        """Where the windows of an update come from."""
        settings, base = stage.settings, self._loaders.training
        windows, left_out = base.windows, failures.left_out(update)
        if settings.period or left_out:
            windows = windows.changed(period=settings.period, invalid=left_out)
        # Each stage, and each attempt after a failure, with an order of its own.
        order = stage.number - 1, failures.order(update)
        seed = settings.seed
        if any(order):
            seed = int(np.random.SeedSequence((seed, *order)).generate_state(1)[0])
        replay, times_of = replay_of(settings), None
        if replay is not None:

            def times_of(update: int, num_steps: int) -> np.ndarray:
                return replay.times(windows, seed, update)

        return base.with_windows(
            windows, batch_size=settings.batch_size, seed=seed, times_of=times_of
        )

    def _to_device(self, number: int, batch: Batch) -> DeviceBatch:
        stage = self._setup.training.stage_of(number)
        placed, replay = self._place(batch), replay_of(stage.settings)
        if replay is None:
            return placed
        where = replay.place(number - stage.first_update)
        begins = jax.device_put(
            where.lead == 0, NamedSharding(self._mesh, layouts.CLOCKS)
        )
        return placed._replace(slot=np.asarray(where.slot, np.int32), begins=begins)

    def _place(self, batch: Batch) -> DeviceBatch:
        # Without the first: a step is told the time that it leads to.
        clocks = clock(batch.valid_times[:, 1:], timestep=self.timestep)
        specs = layouts.FIELDS, layouts.CLOCKS
        return DeviceBatch(*split_batch(self._mesh, (batch.fields, clocks), specs))

    def _spoilt(
        self, loader: Loader, stage: Stage, update: int
    ) -> Generator[DeviceBatch, None, None]:
        """Batches of NaN without end."""
        length = stage.settings.rollout_length(update - stage.first_update)
        batch = self._to_device(update, loader.spoilt(length))
        while True:
            yield batch


def _numbered(
    items: Generator[_Item, None, None], first: int
) -> Generator[tuple[int, _Item], None, None]:
    """Yields items with numbers from `first` on; closed, it closes `items`."""
    with contextlib.closing(items):
        yield from enumerate(items, start=first)


def _parts(values: Mapping[str, float], name: str) -> list[float]:
    return [v for key, v in values.items() if key.startswith(f'{name}_step_')]
