"""Checkpoints without checksums, as the first version saved them.

Whether their numbers are those that were saved nothing can tell; whether all of them
can be read can be tried.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from learning import checksums
from learning.addresses import Place

METADATA = 'metadata'


def unreadable(folder: Place) -> list[str]:
    """Which items of a checkpoint without checksums cannot be read, and why."""
    try:
        text = (folder / '_CHECKPOINT_METADATA').read_bytes()
        items = sorted(json.loads(text)['item_handlers'])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f'_CHECKPOINT_METADATA cannot be read ({checksums.first_line(error)})']
    problems = []
    for item in items:
        try:
            if item == METADATA:
                json.loads((folder / item / item).read_bytes())
            else:
                _read_arrays(folder / item)
        # What Orbax and TensorStore raise for damaged files has no common class.
        except Exception as error:
            problems.append(f'{item} cannot be read ({checksums.first_line(error)})')
    return problems


def _read_arrays(folder: Place) -> Any:
    """Reads an item without knowing its shapes."""
    with contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler:
        tree = handler.metadata(folder).tree
        # As NumPy's: the devices of the training need not be here.
        kinds = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        return handler.restore(folder, args=ocp.args.PyTreeRestore(restore_args=kinds))
