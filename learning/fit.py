"""The training loop: updates, log, validation, checkpoints; it knows no subject."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from learning import processes, signals
from learning.checkpoint import Checkpoints
from learning.failures import Failures, TrainingFailed
from learning.files import write_text
from learning.flops import peak_tflops
from learning.loss_log import LossLog, Stopwatch
from learning.optimizer import learning_rate_of
from learning.settings import Settings
from learning.task import Record, Task
from learning.update import Outcome, TrainState

_LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass
class Progress:
    """What the loop remembers beside the state; checkpoints keep it.

    Attributes:
      best: smallest loss so far, by stage and number of its parts.
      validation_loss: of the newest validation.
      best_validation: smallest validation loss so far.
      validations_since: how many validations ago that was.
      ended_at: updates of the training that a lack of progress has ended; None for one
        that goes on.
    """

    best: dict[str, float] = dataclasses.field(default_factory=dict)
    validation_loss: float | None = None
    best_validation: float | None = None
    validations_since: int = 0
    ended_at: int | None = None

    def judge(
        self, update: int, result: Outcome, max_loss_ratio: float, stage: int = 1
    ) -> None:
        """Refuses to go on with, or to save, what has failed.

        Losses of different numbers of parts (rollouts of different lengths) are not
        compared, nor are those of different stages.

        Raises:
          TrainingFailed: the loss is not finite, or far above its best.
        """
        loss, gradient = float(result.loss), float(result.gradient_norm)
        # Text: checkpoints keep this as JSON, whose keys are text. The first version
        # knew no stages.
        kind = f'{stage}:' * (stage > 1) + str(len(result.parts))
        best = self.best.get(kind, math.inf)
        if math.isfinite(loss) and math.isfinite(gradient):
            if loss <= max_loss_ratio * best:
                self.best[kind] = min(loss, best)
                return
        raise TrainingFailed(
            update,
            f'the loss is {loss:.4g} and the norm of its gradient {gradient:.4g} in '
            f'update {update}, its best so far {best:.4g}',
            {
                'loss': loss,
                'gradient_norm': gradient,
                'best_loss': best,
                'loss_by_part': np.asarray(result.parts).tolist(),
                **{name: float(value) for name, value in result.named.items()},
            },
        )

    def validated(self, loss: float) -> None:
        """Takes note of a validation."""
        # Long rollouts of a network that knows only short ones may well blow up: that
        # is not the end of the training, but never its best.
        self.validation_loss = loss if math.isfinite(loss) else None
        best = math.inf if self.best_validation is None else self.best_validation
        if loss < best:
            self.best_validation, self.validations_since = loss, 0
        else:
            self.validations_since += 1


def has_ended(metadata: Mapping[str, Any], settings: Settings) -> bool:
    """Whether the training whose newest checkpoint says this has nothing left to do."""
    ended_at = metadata.get('progress', {}).get('ended_at')
    return ended_at is not None and ended_at == settings.total_updates


def fit(
    task: Task,
    settings: Settings,
    saved: Checkpoints,
    *,
    resume_from: int | None,
    record: Record,
) -> TrainState:
    """Trains to the last update.

    What fails goes back to the newest whole checkpoint and on from there with other
    batches, as often as `settings.max_failures` allows.

    Args:
      task: what is learnt.
      settings: for how long, and what is done how often.
      saved: checkpoints of this training.
      resume_from: the one to go on from; none to begin.
      record: where the log goes.

    Raises:
      TrainingFailed: the training has failed too often; says what to do.
      SaveError: a checkpoint cannot be written.
      Interrupted: a signal has asked to end, and all updates so far are saved.
    """
    failures = Failures.read(record.failures)
    while True:
        try:
            return _run(task, settings, saved, resume_from, record, failures)
        except TrainingFailed as failure:
            saved.wait()
            resume_from = saved.newest_whole()
            _go_back(failure, failures, task, settings, resume_from or 0, record)


def _go_back(
    failure: TrainingFailed,
    failures: Failures,
    task: Task,
    settings: Settings,
    back_to: int,
    record: Record,
) -> None:
    """Writes a failure down and says so; raises it where it is one too many."""
    failed = failure.update - 1  # Counted from 0.
    failure.facts |= {
        'learning_rate': learning_rate_of(settings, failed),
        **task.describe(failed, failures),
    }
    # Each process has read its own part.
    left_out = {
        name for names in processes.gather(list(task.unusable())) for name in names
    }
    failures.add(failure, back_to, sorted(left_out))
    in_a_row = failures.in_a_row(back_to)
    if len(in_a_row) >= settings.max_failures:
        if processes.is_first():
            write_text(record.report, failures.report(back_to))
        raise TrainingFailed(
            failure.update,
            f'{failure}; that is failure {len(in_a_row)} after update {back_to}, whose '
            f'checkpoint is kept: see {record.report}. Lower training.learning_rate or '
            'training.clip_norm and start again in another --workdir '
            f'(--config.init_from begins with these weights), or remove '
            f'{record.failures} to try the same again (or raise '
            'training.max_loss_ratio if such a loss is no failure)',
            failure.facts,
        ) from failure
    _LOGGER.warning(
        'warning: %s; going back to update %d and on from there with other batches%s',
        failure,
        back_to,
        f', without {", ".join(sorted(left_out))}' if left_out else '',
    )


def _run(
    task: Task,
    settings: Settings,
    saved: Checkpoints,
    resume_from: int | None,
    record: Record,
    failures: Failures,
) -> TrainState:
    """Trains from a checkpoint to the last update, or to a failure."""
    state, progress = task.init(resume_from or 0), Progress()
    if resume_from is not None:
        items = task.items(state).items()
        state = task.from_items(
            {name: saved.restore(name, tree, resume_from) for name, tree in items}
        )
        # The first version's checkpoints have none.
        progress = Progress(**saved.metadata(resume_from).get('progress', {}))
        progress.ended_at = None
    first, last = int(state.update), settings.total_updates
    batches = task.batches(first, last, failures)
    with (
        # An exception has to end the threads that read ahead as well.
        contextlib.closing(batches),
        LossLog(
            record.table, record.tensorboard, first_update=first, num_updates=last
        ) as log,
        signals.postponed() as asked,
    ):
        stopwatch = Stopwatch(first)
        loop = _Loop(task, settings, saved, log, progress, stopwatch)
        for number, batch in enumerate(stopwatch.waited_for(batches), start=first):
            update = number + 1
            state, result = task.update(number, state, batch)
            loop.after(update, state, result, batch)
            # The last update is saved in any case, and the training then at its end.
            if update == last:
                break
            stop, due = processes.agree([asked.number is not None, loop.is_time()])
            if stop or due or progress.ended_at is not None:
                loop.save(update, state, result)
            if progress.ended_at is not None:
                log.say(
                    f'ended after update {update} of {last}: no better validation loss '
                    f'than {progress.best_validation:.4g} in {settings.patience} '
                    'validations'
                )
                break
            if stop:
                saved.wait()  # On the disk before the message says so.
                raise signals.Interrupted(
                    # Of another process, perhaps.
                    asked.number or signals.SIGNALS[1],
                    f'stopped by {asked.name or "a signal to another process"} after '
                    f'update {update} of {last}, which is saved in {saved.directory}: '
                    'the same command goes on from it',
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
    shape_compiled: tuple[int, int] | None = None
    saved_at: float = dataclasses.field(default_factory=lambda: time.monotonic())

    def after(
        self, update: int, state: TrainState, result: Outcome, batch: Any
    ) -> None:
        """Judges, logs, validates and saves, as is due."""
        settings = self.settings
        # One update runs while the next batch is sent; more would pile up there.
        # Looking at the one before waits for it, and no longer than that.
        if self.previous is not None:
            self._judge(*self.previous)
        self.previous = update, result
        self.saved.check()
        self.log.advance()
        if self._due(update, settings.log_every):
            self._log(update, result)
        if settings.gradients_every and self._due(update, settings.gradients_every):
            values = self.task.part_gradients(update - 1, state, batch)
            self.log.write(update, len(result.parts), values)
            self.stopwatch.start(update)
        if self._due(update, settings.validate_every):
            self._validate(update, state)
        if self._due(update, settings.checkpoint_every):
            self.save(update, state, result)
        # Another stage or other parts: the update was just compiled anew.
        shape = settings.stage_of(update - 1).number, len(result.parts)
        if shape != self.shape_compiled:
            jax.block_until_ready(result)
            self.shape_compiled = shape
            self.stopwatch.start(update)  # Compilation is not throughput.

    def is_time(self) -> bool:
        """Whether the last checkpoint is old enough for another."""
        minutes = self.settings.checkpoint_minutes
        return bool(minutes) and time.monotonic() - self.saved_at > 60 * minutes

    def save(self, update: int, state: TrainState, result: Outcome) -> None:
        """Saves what is fit to be saved."""
        self._judge(update, result)
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
        self.saved_at = time.monotonic()
        self.stopwatch.start(update)

    def _judge(self, update: int, result: Outcome) -> None:
        stage = self.settings.stage_of(update - 1)
        self.progress.judge(
            update, result, stage.settings.loss_ratio_limit, stage.number
        )

    def _due(self, update: int, every: int) -> bool:
        return update % every == 0 or update == self.settings.total_updates

    def _log(self, update: int, result: Outcome) -> None:
        # Reading the loss waits for this update anyway: no failed one is logged.
        self._judge(update, result)
        values = {
            'loss': float(result.loss),
            'gradient_norm': float(result.gradient_norm),
            # The schedule counts updates done: update 1 was made at its beginning.
            'learning_rate': learning_rate_of(self.settings, update - 1),
            **self._named('loss', np.asarray(result.parts)),
            **{name: float(value) for name, value in result.named.items()},
            'updates_per_second': self.stopwatch.rate(update),
            **_speed(self.task.flops(update - 1), self.stopwatch.rate(update)),
            'data_wait_share': self.stopwatch.waiting(update),
        }
        self._write(update, len(result.parts), values)

    def _validate(self, update: int, state: TrainState) -> None:
        found = self.task.validate(state)
        loss = float(found.parts.sum())
        values = {
            'validation_loss': loss,
            **self._named('validation_loss', found.parts),
            **found.named,
        }
        self.progress.validated(loss)
        if 0 < self.settings.patience <= self.progress.validations_since:
            self.progress.ended_at = self.settings.total_updates
        self._write(update, len(found.parts), values)

    def _named(self, name: str, parts: np.ndarray) -> dict[str, float]:
        names = self.task.part_names(len(parts))
        return {f'{name}_{n}': float(v) for n, v in zip(names, parts, strict=True)}

    def _write(self, update: int, num_parts: int, values: dict[str, float]) -> None:
        self.log.write(update, num_parts, values)
        self.log.say(self.task.line(update, values))
        self.stopwatch.start(update)


def _speed(flops: float | None, rate: float) -> dict[str, float]:
    """TFLOP/s of all devices, and which share of their peak that is, where known."""
    if flops is None or math.isnan(rate):
        return {}
    speed = flops * rate / 1e12
    peak = peak_tflops(jax.devices()[0].device_kind)
    share = {} if peak is None else {'peak_share': speed / (peak * len(jax.devices()))}
    return {'tflops_per_second': speed, **share}
