"""The schedule of a training: what is optimised how, for how long, stage by stage."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from learning import settings
from learning.schema import EXTENDABLE, MACHINE, Count, Integer, Number
from weather.entries import Curriculum, Period


class NextStage(settings.NextStage):
    """A stage after the first; keys that it lacks are as in the stage before.

    Each key is that of `Training`. Without a `curriculum` of its own a stage goes on
    with the rollout that the stage before had at its end.
    """

    batch_size: Count | None = None
    curriculum: Curriculum | None = None
    period: Period | None = None
    pushforward: Annotated[Integer, Field(ge=0)] | None = None
    replay: Annotated[Integer, Field(ge=0)] | None = None
    replay_steps: Count | None = None
    noise: Annotated[Number, Field(ge=0)] | None = None


class Training(settings.Settings):
    """The optimisation: `Settings`, and what is weather's own.

    Attributes:
      seed: of the initial parameters and of the order of the batches.
      batch_size: windows per update, over all devices.
      curriculum: pairs (first update, rollout steps), the first at update 0. Several
        numbers of steps, such as (1, 2, 4), are drawn from, update by update.
      period: first and last date of what is trained on; none for all of `data.train`.
      pushforward: steps of a rollout, before those that are trained, through which no
        gradient goes: the model is trained on states of its own.
      replay: rollouts per row of the batch that go on from update to update, each from
        where the model has left it, up to `replay_steps`: gradients go through the
        steps of one update, errors come of all; 0: none. At least 1 and as many as
        memory has room for; a state each.
      replay_steps: steps after which such a rollout ends and another one begins.
      noise: standard deviation of noise that is added to the states that rollouts begin
        with, in units of one step's tendency.
      validation_batches: batches in a validation.
    """

    stages: Annotated[tuple[NextStage, ...], EXTENDABLE] = ()
    seed: Annotated[Integer, Field(ge=0)] = 0
    batch_size: Count = 32
    curriculum: Curriculum = ((0, 1),)
    period: Period | None = None
    pushforward: Annotated[Integer, Field(ge=0)] = 0
    replay: Annotated[Integer, Field(ge=0)] = 0
    replay_steps: Count = 40
    noise: Annotated[Number, Field(ge=0)] = 0.0
    validation_batches: Annotated[Count, MACHINE] = 8

    def num_steps(self, update: int) -> int:
        """Rollout steps that the given update of a stage trains.

        Derived, so that it survives a resume.
        """
        steps = [steps for first, steps in self.curriculum if first <= update][-1]
        if isinstance(steps, int):
            return steps
        draw = np.random.Philox(np.random.SeedSequence((self.seed, update)))
        return int(np.random.Generator(draw).choice(steps))

    def rollout_length(self, update: int) -> int:
        """Steps of its whole rollout, pushforward included."""
        return self.pushforward + self.num_steps(update)

    @property
    def max_steps(self) -> int:
        """The longest rollout, pushforward included, that some update has."""
        return max(of.settings.longest_rollout for of in self.plan())

    @property
    def longest_rollout(self) -> int:
        """The same of the updates of the first stage."""
        lengths = [
            max(steps) if isinstance(steps, tuple) else steps
            for first, steps in self.curriculum
            if first < self.num_updates
        ]
        return self.pushforward + max(lengths)

    @property
    def loss_ratio_limit(self) -> float:
        """Without limit where rollouts go on: their errors grow as they should."""
        return math.inf if self.replay else self.max_loss_ratio

    def followed_by(self, stage: settings.NextStage) -> Training:
        """The settings of a stage after one with these."""
        following = super().followed_by(stage)
        if 'curriculum' not in stage.changes:
            last = self.curriculum[-1][1]
            return following.model_copy(update={'curriculum': ((0, last),)})
        return following

    @model_validator(mode='after')
    def _check_stages(self) -> Training:
        for stage in self.plan():
            _check_stage(stage.settings, f'stage {stage.number} of config.training')
        return self


def _check_stage(stage: Training, what: str) -> None:
    if stage.batch_size % stage.accumulate:
        raise ValueError(
            f'{what}: expected accumulate to divide batch_size={stage.batch_size}, got '
            f'{stage.accumulate}'
        )
    if not stage.replay:
        return
    steps = stage.curriculum[-1][1]
    if len(stage.curriculum) > 1 or isinstance(steps, tuple):
        raise ValueError(
            f'{what}: expected one number of steps per update where rollouts go on '
            f'(replay={stage.replay}), got curriculum={stage.curriculum}; make a stage '
            'of each'
        )
    if stage.replay_steps < stage.longest_rollout:
        raise ValueError(
            f'{what}: expected replay_steps of at least the {stage.longest_rollout} '
            f'steps of an update, got {stage.replay_steps}'
        )
