"""What a training is told, whatever its subject: keys of a config."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from learning.schema import EXTENDABLE, MACHINE, Count, Fraction, Group, Integer, Number


class Settings(Group):
    """The optimiser's, and how often the loop does what.

    Attributes:
      num_updates: optimiser updates in all. A run may be made longer: from then on the
        learning rate follows the schedule of the new length.
      learning_rate: peak, after the warm-up; decays to zero by a cosine.
      warmup_updates: updates of linear warm-up.
      beta2: decay of AdamW's second moments.
      weight_decay: of AdamW.
      clip_norm: largest global norm of the gradient.
      ema_decay: of the exponential moving average of weights and batch statistics.
      ema_ramp: the average's decay is at most `(1 + update) / (ema_ramp + update)`, so
        that it forgets the random start.
      max_loss_ratio: a loss this many times the best one is a training that failed.
      log_every, validate_every, checkpoint_every: updates between two of each.
      keep_checkpoints: newest checkpoints that are kept.
      keep_best: best checkpoints that are kept beside the newest.
    """

    num_updates: Annotated[Count, EXTENDABLE]
    learning_rate: Annotated[Number, Field(gt=0)] = 1e-3
    warmup_updates: Annotated[Integer, Field(ge=0)] = 1000
    beta2: Fraction = 0.98
    weight_decay: Annotated[Number, Field(ge=0)] = 0.01
    clip_norm: Annotated[Number, Field(gt=0)] = 1.0
    ema_decay: Fraction = 0.999
    ema_ramp: Annotated[Number, Field(ge=1)] = 10.0
    max_loss_ratio: Annotated[Number, Field(gt=1), MACHINE] = 100.0
    log_every: Annotated[Count, MACHINE] = 100
    validate_every: Annotated[Count, MACHINE] = 2000
    checkpoint_every: Annotated[Count, MACHINE] = 1000
    keep_checkpoints: Annotated[Count, MACHINE] = 3
    keep_best: Annotated[Integer, Field(ge=0), MACHINE] = 1


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
