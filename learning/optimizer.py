"""The optimiser: AdamW behind a clip, a warm-up and a decay, an average beside it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from learning.settings import Settings

# Parameters under these names decay; biases, scales and shifts do not.
_KERNELS = ('kernel', 'knots')


def learning_rate_schedule(settings: Settings, first_update: int = 0) -> optax.Schedule:
    """Linear warm-up, then the decay that is asked for, until the end of a stage.

    Args:
      settings: of the stage.
      first_update: updates before the stage.
    """
    peak, warmup = settings.learning_rate, settings.warmup_updates
    # A stage may be shorter than its warm-up, but optax wants a decay.
    length = max(settings.num_updates, warmup + 1)
    final = settings.final_learning_rate
    if settings.decay == 'cosine':
        schedule = optax.warmup_cosine_decay_schedule(
            0.0, peak, warmup, decay_steps=length, end_value=final
        )
    else:
        last = final if settings.decay == 'linear' else peak
        schedule = optax.join_schedules(
            [
                optax.linear_schedule(0.0, peak, warmup),
                optax.linear_schedule(peak, last, length - warmup),
            ],
            [warmup],
        )
    if not first_update:
        return schedule
    return lambda update: schedule(update - first_update)


def learning_rate_of(settings: Settings, update: int) -> float:
    """The learning rate of update `update`, the first of which is 0, of a training."""
    stage = settings.stage_of(update)
    return float(learning_rate_schedule(stage.settings, stage.first_update)(update))


def make_optimizer(
    settings: Settings, first_update: int = 0
) -> optax.GradientTransformation:
    """AdamW behind a clip of the global norm; only kernels decay.

    Its state has the same form in every stage, and goes from one to the next.
    """

    def is_kernel(path: Any, _: Any) -> bool:
        return path[-1].key in _KERNELS

    return optax.chain(
        optax.clip_by_global_norm(settings.clip_norm),
        optax.adamw(
            learning_rate_schedule(settings, first_update),
            b2=settings.beta2,
            weight_decay=settings.weight_decay,
            mask=lambda params: jax.tree_util.tree_map_with_path(is_kernel, params),
        ),
    )


def moving_average(
    average: Any, weights: Any, update: jax.Array, *, decay: float, ramp: float
) -> Any:
    """Exponential moving average, with a shorter memory over the first updates."""
    # Without the ramp the average would keep the random start for 1 / (1 - decay).
    kept = jnp.minimum(decay, (1.0 + update) / (ramp + update))
    return jax.tree.map(
        lambda old, new: kept * old + (1 - kept) * new, average, weights
    )
