"""Rollouts that go on from update to update: long ones at the memory of short ones.

A buffer keeps, for every row of the batch and in several slots, the state that the
model has reached in a rollout. An update takes one slot, goes on from its states for
the steps of one update, learns from those, and leaves there what it has reached. No
gradient passes from update to update; errors do. A rollout that has reached its end is
replaced by one from an analysis (a replay buffer: Chen et al. 2023, "FengWu",
arXiv:2304.02948; the pushforward trick of Brandstetter et al. 2022, arXiv:2202.03376,
over many updates).

Which window of the data an update needs, and whether it begins there, is a function of
its number: the buffer itself is all that a resume has to find again.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weather.data.loader import permuted
from weather.data.windows import WindowIndex
from weather.experiment import Training
from weather.model.forecaster import Forecaster


class Place(NamedTuple):
    """Where an update stands in its rollouts.

    Attributes:
      slot: of the buffer.
      lead: `[batch]`, steps that each rollout has behind it; 0 for one that begins.
      rollout: `[batch]`, number of each rollout in the order of draws.
    """

    slot: int
    lead: np.ndarray
    rollout: np.ndarray


@dataclasses.dataclass(frozen=True)
class Replay:
    """The rollouts of a stage.

    Attributes:
      slots: rollouts per row of the batch.
      batch_size: rows.
      steps: of one update.
      max_steps: of a rollout, at most.
    """

    slots: int
    batch_size: int
    steps: int
    max_steps: int

    @property
    def updates_each(self) -> int:
        """Updates that a rollout gets."""
        return self.max_steps // self.steps

    def place(self, update: int) -> Place:
        """Where an update stands, counted from the beginning of the stage."""
        visit, slot = divmod(update, self.slots)
        rank = np.arange(self.batch_size) * self.slots + slot
        # Rollouts end at different times, so that a batch has all lead times in it,
        # and all of them begin at the first visit.
        count = self.batch_size * self.slots
        generation, age = np.divmod(
            visit + rank * self.updates_each // count, self.updates_each
        )
        lead = np.minimum(age, visit) * self.steps
        return Place(slot, lead, generation * count + rank)

    def times(self, windows: WindowIndex, seed: int, update: int) -> np.ndarray:
        """Positions `[batch, step + 1]` of the times of an update's windows."""
        place = self.place(update)
        starts = permuted(windows.starts(self._length), seed, place.rollout)
        rollouts = windows.positions(starts, self._length)
        columns = place.lead[:, None] + np.arange(self.steps + 1)
        return np.take_along_axis(rollouts, columns, axis=1)

    @property
    def _length(self) -> int:
        return self.updates_each * self.steps


def replay_of(training: Training) -> Replay | None:
    """The rollouts of a stage that go on from update to update, if they do."""
    if not training.replay:
        return None
    return Replay(
        slots=training.replay,
        batch_size=training.batch_size,
        steps=training.longest_rollout,
        max_steps=training.replay_steps,
    )


def new_rollouts(training: Training, model: Forecaster) -> jax.Array | None:
    """A stage's buffer `[slot, batch, lat, lon, channel]`, before any has begun."""
    if not training.replay:
        return None
    shape = training.replay, training.batch_size, *model.grid.shape
    return jnp.zeros((*shape, len(model.channels)), jnp.float32)
