"""Weights of one model in another: by name, where shapes differ.

Along every axis of a parameter stand fields or channels that have names. What both
models know by name is taken; what only the new one has begins as new channels do, and
counts for nothing in what was taken: the new model begins with the forecasts of the
old one for all that both forecast. Kernels between other knots are interpolated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from weather.data.forcings import FORCINGS, POSITIONS
from weather.data.normalizer import Normalizer
from weather.experiment import Experiment
from weather.model import networks
from weather.variables import ChannelIndex

Names = Mapping[int, Sequence[str]]
Axes = tuple[tuple[str, ...] | None, ...]


class Taken(NamedTuple):
    """What came of the weights of another model.

    Attributes:
      weights: of the new model.
      whole: parameters that were taken as they are.
      partly: those of which some was taken.
      new: those of which nothing was.
    """

    weights: dict[str, Any]
    whole: tuple[str, ...]
    partly: tuple[str, ...]
    new: tuple[str, ...]


def transfer(
    source: Experiment, found: Mapping[str, Any], setup: Experiment, start: Any
) -> Taken:
    """Puts weights into those of another experiment.

    Args:
      source: the experiment that the weights are of.
      found: its weights.
      setup: the experiment that they are for.
      start: weights as it would begin with by itself.

    Raises:
      ValueError: the networks are of different kinds, or nothing can be taken.
    """
    if source.model.network != setup.model.network:
        raise ValueError(
            f'expected weights of the network {setup.model.network!r} (model.network), '
            f'found those of {source.model.network!r}: begin without init_from, or '
            'with a run of the same kind'
        )
    old = dict(jax.tree_util.tree_leaves_with_path(found))
    leaves, tree = jax.tree_util.tree_flatten_with_path(start)
    kinds: dict[str, list[str]] = {'whole': [], 'partly': [], 'new': []}
    taken = []
    for path, leaf in leaves:
        kind, value = 'new', leaf
        if path in old:
            kind, value = _take(path, old[path], source, leaf, setup)
        kinds[kind].append('/'.join(entry.key for entry in path))
        taken.append(value)
    if not kinds['whole'] and not kinds['partly']:
        raise ValueError(
            'expected weights that fit this model at least in part, found none: the '
            'two have no variable and no channel in common'
        )
    return Taken(
        jax.tree.unflatten(tree, taken),
        **{kind: tuple(names) for kind, names in kinds.items()},
    )


def transfer_scales(
    source: ChannelIndex, found: Normalizer, channels: ChannelIndex, own: Normalizer
) -> Normalizer:
    """Scales of the channels that both know, and own ones of the others.

    Weights are of the scales that they were trained with.
    """
    scales = {name: np.array(value) for name, value in vars(own).items()}
    for place, channel in enumerate(channels):
        if channel in source:
            for name, values in scales.items():
                values[place] = np.asarray(getattr(found, name))[source[channel]]
    return Normalizer(**scales)


def _take(
    path: Any, old: Any, source: Experiment, leaf: Any, setup: Experiment
) -> tuple[str, Any]:
    """How much of a parameter can be taken, and what becomes of it."""
    keys = tuple(entry.key for entry in path)
    before, after = _axes(keys, source), _axes(keys, setup)
    if before is None or after is None:
        same = np.shape(old) == np.shape(leaf)
        return ('whole', old) if same else ('new', leaf)
    if before == after and np.shape(old) == np.shape(leaf):
        return 'whole', old
    old, new = np.asarray(old), np.array(leaf)
    theirs, ours = [], []
    for axis, (was, now) in enumerate(zip(before, after, strict=True)):
        if was is None or now is None:
            old = _interpolated(old, new.shape[axis], axis)
            theirs.append(np.arange(new.shape[axis]))
            ours.append(np.arange(new.shape[axis]))
            continue
        place = {name: i for i, name in enumerate(was)}
        theirs.append(np.array([place[n] for n in now if n in place], int))
        ours.append(np.array([i for i, n in enumerate(now) if n in place], int))
    if not all(chosen.size for chosen in ours):
        return 'new', leaf
    if new.ndim > 1:
        # [..., input, output]: what is new is not heard by what was there.
        heard = np.zeros(new.shape, bool)
        heard[..., ours[-1]] = True
        new[heard] = 0
    new[np.ix_(*ours)] = old[np.ix_(*theirs)]
    return 'partly', new.astype(np.asarray(leaf).dtype)


def _interpolated(values: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Linear between equidistant knots, of which there will be `size`."""
    if values.shape[axis] == size:
        return values
    position = np.linspace(0, values.shape[axis] - 1, size)
    below = np.minimum(position.astype(int), max(values.shape[axis] - 2, 0))
    above = np.minimum(below + 1, values.shape[axis] - 1)
    shape = [-1 if i == axis else 1 for i in range(values.ndim)]
    share = (position - below).reshape(shape)
    lower, upper = np.take(values, below, axis), np.take(values, above, axis)
    return (1 - share) * lower + share * upper


def _axes(path: Sequence[str], setup: Experiment) -> Axes | None:
    """Names along the axes of a parameter; None where its network knows none."""
    of = getattr(networks.load(setup.model.network), 'axis_names', None)
    if of is None:
        return None
    return of(path, setup.model, _reads(setup), _spin_names(setup.data.channels))


def _reads(setup: Experiment) -> Names:
    """Names of the fields that a network reads, as `Forecaster` stacks them."""
    data = setup.data
    found = dict(_spin_names(data.channels.prognostic))
    own = [f'static {name}' for name in (*data.statics, *POSITIONS)]
    found[0] = [*found[0], *FORCINGS, *own]
    if len(data.inputs):
        for spin, names in _spin_names(data.inputs).items():
            found[spin] = [*found.get(spin, ()), *names]
    return found


def _spin_names(channels: ChannelIndex) -> Names:
    names = [str(channel) for channel in channels]
    found = {0: [names[i] for i in channels.scalars]}
    if channels.winds:
        # A wind by its eastward component.
        found[1] = [names[eastward] for eastward, _ in channels.winds]
    return found
