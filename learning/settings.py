"""What a training is told, whatever its subject: keys of a config."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from learning.schema import EXTENDABLE, MACHINE, Count, Fraction, Group, Integer, Number

Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Integer, Field(ge=0)]
Decay = Literal['cosine', 'linear', 'none']


class NextStage(Group):
    """A stage after the first; keys that it lacks are as in the stage before.

    Each key is that of `Settings`, counted from the beginning of the stage.
    """

    num_updates: Count
    learning_rate: Positive | None = None
    warmup_updates: NotNegative = 0
    decay: Decay | None = None
    final_learning_rate: Annotated[Number, Field(ge=0)] | None = None
    accumulate: Count | None = None

    @property
    def changes(self) -> dict[str, Any]:
        """What is said, by key."""
        return {name: value for name, value in self if value is not None}

    @model_serializer(mode='wrap')
    def _without_what_is_not_said(
        self, handler: SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        # A key that stages will have some day must not change the digest of others.
        return {k: value for k, value in handler(self).items() if value is not None}


class Settings(Group):
    """The optimiser's, and how often the loop does what.

    Keys of a schedule are those of the first stage of a training, and of all of it
    where `stages` names no other.

    Attributes:
      num_updates: optimiser updates of the first stage. A last stage may be made
        longer: from then on the learning rate follows the schedule of the new length.
      stages: what follows, one stage after the other. A run may get more of them, also
        when it is finished; what is over stays as it was.
      learning_rate: peak, after the warm-up.
      warmup_updates: updates of linear warm-up, from zero.
      decay: from the peak to `final_learning_rate` at the end of the stage: by a
        `'cosine'`, `'linear'`, or `'none'`.
      final_learning_rate: where the decay ends.
      accumulate: parts of a batch that are computed one after the other, each with the
        memory of a part. Norms take the moments of each part.
      beta2: decay of AdamW's second moments.
      weight_decay: of AdamW.
      clip_norm: largest global norm of the gradient.
      ema_decay: of the exponential moving average of weights and batch statistics.
      more_ema_decays: of further averages beside it, to choose from when a run is used.
      ema_ramp: the average's decay is at most `(1 + update) / (ema_ramp + update)`, so
        that it forgets the random start.
      max_loss_ratio: a loss this many times the best one is a training that failed.
      max_failures: so many failures after one checkpoint end the training; after fewer
        it goes back to the checkpoint and on with other batches.
      patience: validations without a new best loss after which training ends; 0: never.
      log_every, validate_every, checkpoint_every: updates between two of each.
      gradients_every: updates between two measurements of the gradient of each part of
        the loss, which cost as many backward passes as there are parts; 0: never.
      checkpoint_minutes: minutes after which a checkpoint is due as well; 0: never.
      keep_checkpoints: newest checkpoints that are kept.
      keep_best: best checkpoints that are kept beside the newest.
      keep_every: checkpoints of multiples of so many updates stay for good; 0: none.
    """

    num_updates: Annotated[Count, EXTENDABLE]
    stages: Annotated[tuple[NextStage, ...], EXTENDABLE] = ()
    learning_rate: Positive = 1e-3
    warmup_updates: NotNegative = 1000
    decay: Decay = 'cosine'
    final_learning_rate: Annotated[Number, Field(ge=0)] = 0.0
    accumulate: Count = 1
    beta2: Fraction = 0.98
    weight_decay: Annotated[Number, Field(ge=0)] = 0.01
    clip_norm: Positive = 1.0
    ema_decay: Fraction = 0.999
    more_ema_decays: tuple[Fraction, ...] = ()
    ema_ramp: Annotated[Number, Field(ge=1)] = 10.0
    max_loss_ratio: Annotated[Number, Field(gt=1), MACHINE] = 100.0
    max_failures: Annotated[Count, MACHINE] = 3
    patience: Annotated[NotNegative, MACHINE] = 0
    log_every: Annotated[Count, MACHINE] = 100
    validate_every: Annotated[Count, MACHINE] = 2000
    gradients_every: Annotated[NotNegative, MACHINE] = 0
    checkpoint_every: Annotated[Count, MACHINE] = 1000
    checkpoint_minutes: Annotated[Number, Field(ge=0), MACHINE] = 0.0
    keep_checkpoints: Annotated[Count, MACHINE] = 3
    keep_best: Annotated[NotNegative, MACHINE] = 1
    keep_every: Annotated[NotNegative, MACHINE] = 0

    def plan(self) -> tuple[Stage, ...]:
        """All stages, each with settings of its own."""
        settings = self.model_copy(update={'stages': ()})
        found = [Stage(1, 0, settings)]
        for following in self.stages:
            settings = settings.followed_by(following)
            last = found[-1]
            found.append(Stage(last.number + 1, last.last_update, settings))
        return tuple(found)

    def stage_of(self, update: int) -> Stage:
        """The stage in which update `update` (the first is 0) is done.

        Beyond the last update: the last stage.
        """
        plan = self.plan()
        return next((s for s in plan if update < s.last_update), plan[-1])

    def followed_by(self, stage: NextStage) -> Self:
        """The settings of a stage after one with these."""
        return self.model_copy(update=stage.changes)

    @property
    def loss_ratio_limit(self) -> float:
        """How many times the best loss of its stage a loss may be."""
        return self.max_loss_ratio

    @property
    def total_updates(self) -> int:
        """Updates of all stages."""
        return self.num_updates + sum(stage.num_updates for stage in self.stages)

    def check_successor(self, later: Settings, done: int) -> None:
        """Finds out whether a training with these settings may go on with `later` ones.

        Args:
          later: the settings wanted.
          done: updates that are done.

        Raises:
          ValueError: what is over would change; says what.
        """
        if later.total_updates < done:
            raise ValueError(
                f'{done} updates are done, more than the {later.total_updates} of '
                'training.num_updates and training.stages: give at least as many'
            )
        after = later.plan()
        before = [stage for stage in self.plan() if stage.first_update < done]
        for stage in before:
            # There is one: stages before it that are as they were do not reach `done`.
            now = after[stage.number - 1]
            # The last stage may be made longer, and one that goes on shorter, too.
            is_over = stage.last_update <= done and stage.number < len(self.plan())
            changed = _differing(stage.settings, now.settings, with_length=is_over)
            if changed:
                state = 'is over' if is_over else 'has begun'
                raise ValueError(
                    f'stage {stage.number} (updates {stage.first_update} to '
                    f'{stage.last_update}) {state} and would change: '
                    f'{"; ".join(changed)}. Set it as it was, and add a stage for '
                    'what is to be otherwise from now on'
                )


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage of a training.

    Attributes:
      number: from 1.
      first_update: updates before it.
      settings: its own, whose `num_updates` is its length.
    """

    number: int
    first_update: int
    settings: Any

    @property
    def last_update(self) -> int:
        """Updates done when it is over."""
        return self.first_update + self.settings.num_updates

    def num_steps_at(self, update: int) -> int:
        """Steps of the rollout of an update of this stage, counted from the run's."""
        return self.settings.num_steps(update - self.first_update)


def _differing(before: Settings, after: Settings, *, with_length: bool) -> list[str]:
    """The keys of a schedule that differ, with both values."""
    ours, theirs = _schedule(before), _schedule(after)
    if not with_length:
        ours.pop('num_updates'), theirs.pop('num_updates')
    return [f'{k}: {ours[k]} -> {theirs[k]}' for k in ours if ours[k] != theirs[k]]


def _schedule(settings: Settings) -> dict[str, Any]:
    kind = type(settings).model_fields['stages'].annotation
    (stage, *_) = getattr(kind, '__args__', (NextStage,))
    values: Mapping[str, Any] = settings.model_dump(mode='json')
    return {name: values[name] for name in stage.model_fields if name in values}


class Devices(Group):
    """How the devices of all processes share the work.

    Attributes:
      data: parts that a batch is split into; 0 makes it all devices over `space`.
      space: devices that share one sample: its fields by latitude, its coefficients by
        order.
      parameters: `'replicated'`, or `'sharded'`: parameters, their average and the
        optimiser's moments are split over all devices, and gathered where used.
    """

    data: Annotated[Integer, Field(ge=0), MACHINE] = 0
    space: Annotated[Count, MACHINE] = 1
    parameters: Annotated[Literal['replicated', 'sharded'], MACHINE] = 'replicated'
