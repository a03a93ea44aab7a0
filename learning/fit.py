"""The training loop: updates, log, validation, checkpoints; it knows no subject."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Generator, Mapping
from typing import Any, Protocol

import jax
import numpy as np

from learning import signals
from learning.addresses import Place
from learning.checkpoint import Checkpoints
from learning.loss_log import LossLog, Stopwatch
from learning.optimizer import learning_rate_schedule
from learning.settings import Settings
from learning.update import Outcome, TrainState


class Task(Protocol):
    """What is learnt: the subject's part of a training."""

    def init(self) -> TrainState:
        """The state before the first update."""

    def items(self, state: TrainState) -> dict[str, Any]:
        """What a checkpoint holds: pytrees of arrays, by name."""

    def from_items(self, items: Mapping[str, Any]) -> TrainState:
        """The state that `items` was made of; what else they hold, the task adopts."""

    def metadata(self, update: int) -> dict[str, Any]:
        """What a checkpoint says about itself, as JSON types."""

    def batches(self, first: int, last: int) -> Generator[Any, None, None]:
        """The batches of updates `first` to before `last`."""

    def update(self, state: TrainState, batch: Any) -> tuple[TrainState, Outcome]:
        """One update; `state` may be donated."""

    def validate(self, state: TrainState) -> np.ndarray:
        """Parts `[part]` of the validation loss."""

    def part_names(self, num_parts: int) -> list[str]:
        """Names of the parts of a loss, for the log."""

    def line(self, update: int, values: Mapping[str, float]) -> str:
        """What the console says of an update, or of a validation."""


@dataclasses.dataclass
class Progress:
    """What the loop remembers beside the state; checkpoints keep it.

    Attributes:
      best: smallest loss so far, by the number of its parts.
      validation_loss: of the newest validation.
    """

    best: dict[str, float] = dataclasses.field(default_factory=dict)
    validation_loss: float | None = None

    def judge(self, update: int, result: Outcome, max_loss_ratio: float) -> None:
        """Refuses to go on with, or to save, what has failed.

        Losses of different numbers of parts (rollouts of different lengths) are not
        compared.

        Raises:
          FloatingPointError: the loss is not finite, or far above its best.
        """
        loss, gradient = float(result.loss), float(result.gradient_norm)
        # Text: checkpoints keep this as JSON, whose keys are text.
        stage = str(len(result.parts))
        best = self.best.get(stage, math.inf)
        if math.isfinite(loss) and math.isfinite(gradient):
            if loss <= max_loss_ratio * best:
                self.best[stage] = min(loss, best)
                return
        raise FloatingPointError(
            f'the loss is {loss:.4g} and the norm of its gradient {gradient:.4g} in '
            f'update {update}, its best so far {best:.4g}; the checkpoints before it '
            'are kept. Lower training.learning_rate or training.clip_norm and start '
            'again in another --workdir (or raise training.max_loss_ratio if such a '
            'loss is no failure)'
        )


def fit(
    task: Task,
    settings: Settings,
    saved: Checkpoints,
    *,
    resume_from: int | None,
    table: Place,
    tensorboard: Place,
) -> TrainState:
    """Trains to the last update.

    Args:
      task: what is learnt.
      settings: for how long, and what is done how often.
      saved: checkpoints of this training.
      resume_from: the one to go on from; none to begin.
      table: the CSV of losses.
      tensorboard: folder of TensorBoard's event files.

    Raises:
      FloatingPointError: the training has failed; says what to do.
      SaveError: a checkpoint cannot be written.
      Interrupted: a signal has asked to end, and all updates so far are saved.
    """
    state, progress = task.init(), Progress()
    if resume_from is not None:
        items = task.items(state).items()
        state = task.from_items(
            {name: saved.restore(name, tree, resume_from) for name, tree in items}
        )
        # The first version's checkpoints have none.
        progress = Progress(**saved.metadata(resume_from).get('progress', {}))
    first, last = int(state.update), settings.num_updates
    batches = task.batches(first, last)
    with (
        # An exception has to end the threads that read ahead as well.
        contextlib.closing(batches),
        LossLog(table, tensorboard, first_update=first, num_updates=last) as log,
        signals.postponed() as asked,
    ):
        stopwatch = Stopwatch(first)
        loop = _Loop(task, settings, saved, log, progress, stopwatch)
        waited_for = stopwatch.waited_for(batches)
        for update, batch in enumerate(waited_for, start=first + 1):
            state, result = task.update(state, batch)
            loop.after(update, state, result)
            # The last update is saved in any case, and the training then at its end.
            if asked.number is not None and update < last:
                loop.save(update, state, result)
                saved.wait()  # On the disk before the message says so.
                raise signals.Interrupted(
                    asked.number,
                    f'stopped by {asked.name} after update {update} of {last}, which '
                    f'is saved in {saved.directory}: the same command goes on from it',
                )
        saved.wait()
    return state


@dataclasses.dataclass
class _Loop:
    """What happens after an update."""

    task: Task
    settings: Settings
    saved: Checkpoints
    log: LossLog
    progress: Progress
    stopwatch: Stopwatch
    previous: tuple[int, Outcome] | None = None
    parts_compiled: int = 0

    def after(self, update: int, state: TrainState, result: Outcome) -> None:
        """Judges, logs, validates and saves, as is due."""
        settings = self.settings
        # One update runs while the next batch is sent; more would pile up there.
        # Looking at the one before waits for it, and no longer than that.
        if self.previous is not None:
            self.progress.judge(*self.previous, settings.max_loss_ratio)
        self.previous = update, result
        self.saved.check()
        self.log.advance()
        if self._due(update, settings.log_every):
            self._log(update, result)
        if self._due(update, settings.validate_every):
            self._validate(update, state)
        if self._due(update, settings.checkpoint_every):
            self.save(update, state, result)
        # Other parts are another shape, for which the update was just compiled anew.
        if len(result.parts) != self.parts_compiled:
            jax.block_until_ready(result)
            self.parts_compiled = len(result.parts)
            self.stopwatch.start(update)  # Compilation is not throughput.

    def save(self, update: int, state: TrainState, result: Outcome) -> None:
        """Saves what is fit to be saved."""
        self.progress.judge(update, result, self.settings.max_loss_ratio)
        # A checkpoint in a bucket is never ahead of the log there.
        self.log.flush()
        self.saved.save(
            update,
            self.task.items(state),
            {
                **self.task.metadata(update),
                'progress': dataclasses.asdict(self.progress),
            },
            # Of the newest validation: not every checkpoint has one of its own.
            score=self.progress.validation_loss,
        )
        self.stopwatch.start(update)

    def _due(self, update: int, every: int) -> bool:
        return update % every == 0 or update == self.settings.num_updates

    def _log(self, update: int, result: Outcome) -> None:
        # Reading the loss waits for this update anyway: no failed one is logged.
        self.progress.judge(update, result, self.settings.max_loss_ratio)
        values = {
            'loss': float(result.loss),
            'gradient_norm': float(result.gradient_norm),
            # The schedule counts updates done: update 1 was made at its beginning.
            'learning_rate': float(learning_rate_schedule(self.settings)(update - 1)),
            **self._named('loss', np.asarray(result.parts)),
            'updates_per_second': self.stopwatch.rate(update),
            'data_wait_share': self.stopwatch.waiting(update),
        }
        self._write(update, len(result.parts), values)

    def _validate(self, update: int, state: TrainState) -> None:
        parts = self.task.validate(state)
        loss = float(parts.sum())
        values = {'validation_loss': loss, **self._named('validation_loss', parts)}
        # Long rollouts of a network that knows only short ones may well blow up: that
        # is not the end of the training, but never its best.
        self.progress.validation_loss = loss if math.isfinite(loss) else None
        self._write(update, len(parts), values)

    def _named(self, name: str, parts: np.ndarray) -> dict[str, float]:
        names = self.task.part_names(len(parts))
        return {f'{name}_{n}': float(v) for n, v in zip(names, parts, strict=True)}

    def _write(self, update: int, num_parts: int, values: dict[str, float]) -> None:
        self.log.write(update, num_parts, values)
        self.log.say(self.task.line(update, values))
        self.stopwatch.start(update)
