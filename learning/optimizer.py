"""The optimiser: AdamW behind a clip, a warm-up and a cosine, an average beside it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from learning.settings import Settings

# Parameters under these names decay; biases, scales and shifts do not.
_KERNELS = ('kernel', 'knots')


def learning_rate_schedule(settings: Settings) -> optax.Schedule:
    """Linear warm-up, then a cosine down to zero at the last update."""
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=settings.learning_rate,
        warmup_steps=settings.warmup_updates,
        # A run may be shorter than its warm-up, but optax wants a cosine.
        decay_steps=max(settings.num_updates, settings.warmup_updates + 1),
    )


def make_optimizer(settings: Settings) -> optax.GradientTransformation:
    """AdamW behind a clip of the global norm; only kernels decay."""

    def is_kernel(path: Any, _: Any) -> bool:
        return path[-1].key in _KERNELS

    return optax.chain(
        optax.clip_by_global_norm(settings.clip_norm),
        optax.adamw(
            learning_rate_schedule(settings),
            b2=settings.beta2,
            weight_decay=settings.weight_decay,
            mask=lambda params: jax.tree_util.tree_map_with_path(is_kernel, params),
        ),
    )


def moving_average(
    average: Any, weights: Any, update: jax.Array, settings: Settings
) -> Any:
    """Exponential moving average, with a shorter memory over the first updates."""
    # Without the ramp the average would keep the random start for 1 / (1 - decay).
    ramp = (1.0 + update) / (settings.ema_ramp + update)
    decay = jnp.minimum(settings.ema_decay, ramp)
    return jax.tree.map(
        lambda old, new: decay * old + (1 - decay) * new, average, weights
    )
