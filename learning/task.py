"""What the training loop asks of a subject, and where it keeps what it writes."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from learning.failures import Failures
from learning.update import Outcome, TrainState


class Validation(Protocol):
    """What a validation found."""

    @property
    def parts(self) -> np.ndarray:
        """`[part]` of the loss."""

    @property
    def named(self) -> Mapping[str, float]:
        """Further numbers for the log, by name."""


class Task(Protocol):
    """What is learnt: the subject's part of a training."""

    def init(self, update: int = 0) -> TrainState:
        """The state before the first update, in the form it has after `update`."""

    def items(self, state: TrainState) -> dict[str, Any]:
        """What a checkpoint holds: pytrees of arrays, by name."""

    def from_items(self, items: Mapping[str, Any]) -> TrainState:
        """The state that `items` was made of; what else they hold, the task adopts."""

    def metadata(self, update: int) -> dict[str, Any]:
        """What a checkpoint says about itself, as JSON types."""

    def batches(
        self, first: int, last: int, failures: Failures
    ) -> Generator[Any, None, None]:
        """The batches of updates `first` to before `last`."""

    def update(
        self, number: int, state: TrainState, batch: Any
    ) -> tuple[TrainState, Outcome]:
        """Update `number`, the first of which is 0; `state` may be donated."""

    def part_gradients(
        self, number: int, state: TrainState, batch: Any
    ) -> Mapping[str, float]:
        """Norms of the gradients of the parts of the loss, by name."""

    def validate(self, state: TrainState) -> Validation:
        """The validation loss."""

    def part_names(self, num_parts: int) -> list[str]:
        """Names of the parts of a loss, for the log."""

    def line(self, update: int, values: Mapping[str, float]) -> str:
        """What the console says of an update, or of a validation."""

    def describe(self, update: int, failures: Failures) -> Mapping[str, Any]:
        """What there is to know of the batch of an update, as JSON types."""

    def unusable(self) -> Sequence[str]:
        """What could not be read since this was last asked, by names of the task."""


@dataclasses.dataclass(frozen=True)
class Record:
    """Where a run keeps what it writes beside checkpoints.

    Attributes:
      table: the CSV of losses.
      tensorboard: folder of TensorBoard's event files.
      failures: the list of failures.
      report: what is said of failures that ended the training.
    """

    table: Any
    tensorboard: Any
    failures: Any
    report: Any
