"""A training that knows no weather: a line through points."""

import dataclasses
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from learning import command_line, lock
from learning.checkpoint import Checkpoints
from learning.fit import fit
from learning.update import Losses, init_train_state, make_update

SLOPE, SHIFT = 3.0, -1.0


@dataclasses.dataclass(frozen=True)
class Settings:
    num_updates: int = 30
    learning_rate: float = 0.3
    warmup_updates: int = 2
    beta2: float = 0.98
    weight_decay: float = 0.0
    clip_norm: float = 10.0
    ema_decay: float = 0.5
    ema_ramp: float = 10.0
    log_every: int = 5
    validate_every: int = 10
    checkpoint_every: int = 5
    max_loss_ratio: float = 1e6


def loss(weights, scale, batch):
    """Squared error, in two parts: small x and large x; counts the updates."""
    x, y = batch
    params = weights['params']
    error = jnp.square(params['kernel'] * x + params['bias'] - y) * scale
    parts = jnp.stack([jnp.mean(error[: len(x) // 2]), jnp.mean(error[len(x) // 2 :])])
    return Losses(parts, {'count': weights['count'] + 1})


class Line:
    """The task; `spoil` turns batches of some updates into others."""

    def __init__(self, settings, *, spoil=lambda update, batch: batch, say=print):
        self.settings, self.spoil, self.say = settings, spoil, say
        self.scale = jnp.ones(())
        self._update = make_update(loss, settings)

    def init(self):
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

    def batches(self, first, last):
        for update in range(first, last):
            x = np.sort(np.random.default_rng(update).uniform(-1, 1, 16))
            yield self.spoil(update, (jnp.asarray(x), jnp.asarray(SLOPE * x + SHIFT)))

    def update(self, state, batch):
        return self._update(state, self.scale, batch)

    def validate(self, state):
        x = jnp.linspace(-1, 1, 16)
        batch = x, SLOPE * x + SHIFT
        return np.asarray(loss(state.average, self.scale, batch).parts)

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
            table=folder / 'metrics.csv',
            tensorboard=folder / 'tensorboard',
        )


def arrays(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def slowly(update, batch):
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
