"""One of two processes that write checkpoints together; says what it saw, as JSON."""

import json
import pathlib
import sys

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from learning import checksums, lock, once, processes
from learning.addresses import place
from learning.checkpoint import Checkpoints, SaveError
from learning.clusters import Place
from learning.loss_log import LossLog

SIZE = 4096


def items(update):
    """Half of an array on each process, and one that both have."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ('data',))
    values = np.arange(SIZE, dtype=np.float32) + update
    split = NamedSharding(mesh, PartitionSpec('data'))
    w = jax.make_array_from_callback((SIZE,), split, lambda index: values[index])
    both = NamedSharding(mesh, PartitionSpec())
    same = jax.make_array_from_callback((), both, lambda _: np.int32(update))
    return {'forecast': {'w': w}, 'training': {'update': same}}


def error_of(function, kind):
    try:
        function()
    except kind as error:
        return f'{type(error).__name__}: {error}'
    return ''


def refuse():
    raise FileNotFoundError(f'process {processes.index()} says so')


def main(directory, rank):
    seen = {}
    seen['value'] = once.for_all(lambda: [1, {'a': rank}])
    seen['error'] = error_of(lambda: once.for_all(refuse), FileNotFoundError)
    with lock.hold(directory.parent, work='training'):
        with Checkpoints(directory, keep=2, keep_every=20) as saved:
            seen['before'] = saved.newest_whole()
            for update in (10, 20, 30, 40):
                saved.save(update, items(update), {'of': update}, score=1.0)
            saved.wait()
            found = saved.restore('forecast', items(0)['forecast'], 30)
            local = [np.asarray(shard.data) for shard in found['w'].addressable_shards]
            seen['first'] = float(local[0][0])
            # One process sees the damage (it alone looks); both pass over.
            if rank == 0:
                (directory / '40' / 'metadata' / 'metadata').write_text('')
            seen['newest'] = saved.newest_whole()
            saved.save(40, items(40), {'of': 40})
            saved.wait()
            seen['again'] = saved.newest_whole()
        write = checksums.write
        if rank == 0:
            checksums.write = full
        with Checkpoints(directory) as saved:
            saved.save(50, items(50), {})
            seen['full'] = error_of(saved.wait, SaveError)
        checksums.write = write
        # As it looks where a disk is not shared.
        there, pathlib.Path.is_dir = pathlib.Path.is_dir, lambda path: rank == 0
        with Checkpoints(directory) as saved:
            act = lambda: saved.save(60, items(60), {})  # noqa: E731
            seen['apart'] = error_of(act, SaveError)
        pathlib.Path.is_dir = there
        files = directory.parent / 'metrics.csv', directory.parent / 'tensorboard'
        with LossLog(*files, first_update=0, num_updates=1) as log:
            log.write(1, 1, {'loss': 0.5})
            log.flush()
            log.say(f'rank {rank} speaks')
    return seen


def full(*_):
    raise OSError(28, 'No space left on device')


if __name__ == '__main__':
    address, rank, text = sys.argv[1:]
    directory = place(text)
    with processes.connected(Place(address, count=2, index=int(rank))):
        seen = main(directory, int(rank))
    (directory.parent / f'seen_{rank}.json').write_text(json.dumps(seen))
