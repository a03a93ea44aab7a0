"""A training that knows no weather: a line through points."""

import pathlib
import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learning import command_line, lock, settings
from learning.checkpoint import Checkpoints
from learning.fit import Record, fit
from learning.update import (
    Losses,
    init_train_state,
    make_part_gradients,
    make_update,
)

SLOPE, SHIFT = 3.0, -1.0


class Settings(settings.Settings):
    num_updates: int = 30
    learning_rate: float = 0.3
    warmup_updates: int = 2
    weight_decay: float = 0.0
    clip_norm: float = 10.0
    ema_decay: float = 0.5
    log_every: int = 5
    validate_every: int = 10
    checkpoint_every: int = 5
    max_loss_ratio: float = 1e6
    max_failures: int = 1


class Validation(NamedTuple):
    parts: np.ndarray
    named: dict


def loss(weights, scale, batch):
    """Squared error, in two parts: small x and large x; counts the updates."""
    x, y = batch
    params = weights['params']
    error = jnp.square(params['kernel'] * x + params['bias'] - y) * scale
    parts = jnp.stack([jnp.mean(error[: len(x) // 2]), jnp.mean(error[len(x) // 2 :])])
    return Losses(parts, {'count': weights['count'] + 1})


class Line:
    """The task; `spoil` turns batches of some updates into others."""

    def __init__(
        self, settings, *, spoil=lambda update, batch, order=0: batch, say=print
    ):
        self.settings, self.spoil, self.say = settings, spoil, say
        self.scale = jnp.ones(())
        self._updates = [make_update(loss, stage) for stage in settings.plan()]

    def init(self, update=0):
        params = {'kernel': jnp.zeros(()), 'bias': jnp.zeros(())}
        weights = {'params': params, 'count': jnp.zeros(())}
        return init_train_state(weights, self.settings)

    def items(self, state):
        return {'state': state, 'data': {'scale': self.scale}}

    def from_items(self, items):
        self.scale = items['data']['scale']
        return items['state']

    def metadata(self, update):
        return {'task': 'line', 'update': update}

    def batches(self, first, last, failures):
        for update in range(first, last):
            order = failures.order(update)
            seed = (update, order) if order else update
            x = np.sort(np.random.default_rng(seed).uniform(-1, 1, 16))
            batch = jnp.asarray(x), jnp.asarray(SLOPE * x + SHIFT)
            yield self.spoil(update, batch, **({'order': order} if order else {}))

    def update(self, number, state, batch):
        stage = self.settings.stage_of(number)
        return self._updates[stage.number - 1](state, self.scale, batch)

    def flops(self, number):
        return 100.0

    def part_gradients(self, number, state, batch):
        parts, _ = make_part_gradients(loss)(state.weights, self.scale, batch)
        return {'gradient_norm_small': float(parts[0])}

    def validate(self, state):
        x = jnp.linspace(-1, 1, 16)
        batch = x, SLOPE * x + SHIFT
        parts = np.asarray(loss(state.average, self.scale, batch).parts)
        return Validation(parts, {'validation_slope': float(parts[0])})

    def describe(self, update, failures):
        return {'batch': update}

    def unusable(self):
        return []

    def part_names(self, num_parts):
        return ['small', 'large'][:num_parts]

    def line(self, update, values):
        return f'update {update} {values}'


def train(folder, settings=None, keep=2, keep_best=0, **task):
    """Trains in a folder, from where it stands."""
    settings = settings or Settings()
    checkpoints = Checkpoints(folder / 'checkpoints', keep=keep, keep_best=keep_best)
    with checkpoints as saved:
        return fit(
            Line(settings, **task),
            settings,
            saved,
            resume_from=saved.newest_whole(),
            record=Record(
                folder / 'metrics.csv',
                folder / 'tensorboard',
                folder / 'failures.json',
                folder / 'failures.md',
            ),
        )


def arrays(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def slowly(update, batch, order=0):
    time.sleep(0.05)
    return batch


def main():
    """For tests of signals: trains for hours in the folder of the last argument."""
    with lock.hold(FOLDER, work='training'):
        settings = Settings(num_updates=100_000, log_every=1, checkpoint_every=10_000)
        train(FOLDER, settings, spoil=slowly)


if __name__ == '__main__':
    FOLDER = pathlib.Path(sys.argv.pop())
    command_line.execute(main)
