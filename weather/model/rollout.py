"""Repeated application of one model step: what training and forecasting share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

Step = Callable[[jax.Array, Any], tuple[jax.Array, Any]]


def rollout(step: Step, state: jax.Array, forcings: Any) -> tuple[jax.Array, Any]:
    """Applies `step` once per forcing, feeding each state into the next step.

    Every step is rematerialised in the backward pass, so that the memory of a gradient
    is that of one step plus one state per lead time.

    Args:
      step: pure function (state, forcing) -> (next state, diagnostics).
      state: initial state.
      forcings: pytree of arrays whose first axis is the step.

    Returns:
      States after every step and their diagnostics, stacked on a new first axis.
    """

    def body(state: jax.Array, forcing: Any) -> tuple[jax.Array, Any]:
        following, diagnostics = step(state, forcing)
        return following, (following, diagnostics)

    _, trajectory = jax.lax.scan(
        jax.checkpoint(body, prevent_cse=False), state, forcings
    )
    return trajectory
