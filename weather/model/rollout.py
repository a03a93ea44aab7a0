"""Repeated application of one model step: what training and forecasting share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

Step = Callable[[jax.Array, Any], tuple[jax.Array, Any]]


def rollout(
    step: Step, state: jax.Array, forcings: Any, *, rematerialise: bool
) -> tuple[jax.Array, Any]:
    """Applies `step` once per forcing, feeding each state into the next step.

    Args:
      step: pure function (state, forcing) -> (next state, diagnostics).
      state: initial state.
      forcings: pytree of arrays whose first axis is the step.
      rematerialise: compute every step anew in the backward pass, so that the memory of
        a gradient is that of one step plus one state per lead time; otherwise the
        intermediate values of all steps are kept.

    Returns:
      States after every step and their diagnostics, stacked on a new first axis.
    """

    def body(state: jax.Array, forcing: Any) -> tuple[jax.Array, Any]:
        following, diagnostics = step(state, forcing)
        return following, (following, diagnostics)

    # Inside a scan nothing outside of a step can be merged with what is computed anew,
    # so the barrier against that (`prevent_cse`) would only cost time.
    if rematerialise:
        body = jax.checkpoint(body, prevent_cse=False)
    _, trajectory = jax.lax.scan(body, state, forcings)
    return trajectory
