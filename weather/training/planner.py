"""The command that plans: as many devices as are wanted, made of one CPU."""

from __future__ import annotations

import jax

from weather.experiment import Experiment
from weather.training.plan import Machine, make_plan
from weather.training.plan_text import describe, verdict
from weather.training.proposals import propose


class DoesNotFitError(ValueError):
    """A training that its devices cannot hold; says what they could."""


def plan(setup: Experiment, machine: Machine) -> None:
    """Prints what a training needs.

    Raises:
      DoesNotFitError: its devices cannot hold it; says what would fit.
      ValueError: the mesh is impossible; names those that are possible.
      RuntimeError: JAX has begun already, with other devices.
    """
    # No device is needed, and none is to be taken from whoever uses it.
    jax.config.update('jax_platforms', 'cpu')
    jax.config.update('jax_num_cpu_devices', machine.num_devices)
    found = make_plan(setup, machine)
    print(describe(found), flush=True)
    if found.fits:
        return
    print('it does not fit; looking for what does', flush=True)
    raise DoesNotFitError(verdict(found, propose(found)))
