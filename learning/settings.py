"""What a training is told: any object with these attributes will do."""

# ruff: noqa: D102 - the docstrings of the classes say what each is.

from __future__ import annotations

from typing import Protocol


class Optimization(Protocol):
    """What an optimiser is made of.

    Attributes:
      num_updates: optimiser updates in all.
      learning_rate: peak, after the warm-up; decays to zero by a cosine.
      warmup_updates: updates of linear warm-up.
      beta2: decay of AdamW's second moments.
      weight_decay: of AdamW.
      clip_norm: largest global norm of the gradient.
      ema_decay: of the exponential moving average of the weights.
      ema_ramp: its decay is at most (1 + update) / (ema_ramp + update).
    """

    # Properties, since attributes of frozen dataclasses cannot be set.
    @property
    def num_updates(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def warmup_updates(self) -> int: ...
    @property
    def beta2(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def clip_norm(self) -> float: ...
    @property
    def ema_decay(self) -> float: ...
    @property
    def ema_ramp(self) -> float: ...


class Settings(Optimization, Protocol):
    """An optimiser's, and how often a loop does what.

    Attributes:
      log_every, validate_every, checkpoint_every: updates between two of each.
      max_loss_ratio: a loss that is this many times its best is a training that failed.
    """

    @property
    def log_every(self) -> int: ...
    @property
    def validate_every(self) -> int: ...
    @property
    def checkpoint_every(self) -> int: ...
    @property
    def max_loss_ratio(self) -> float: ...
