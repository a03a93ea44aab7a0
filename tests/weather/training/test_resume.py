"""Whatever interrupts a training: it sees the batches that it would have seen."""

import collections
import os
import random
import subprocess
import sys
import time

import pytest

from tests.weather import tiny
from weather.workdir import Workdir

# A training that notes the content of every batch, by its update, as it is read.
TRAIN = """
import sys
from tests.weather import tiny
from weather.data.loader import Loader
from weather.training import trainer

with_windows = Loader.with_windows

def noting(*arguments, **options):
    loader = with_windows(*arguments, **options)
    read = loader.batches

    def batches(first, last, num_steps_at):
        for update, batch in enumerate(read(first, last, num_steps_at), start=first):
            with open(sys.argv[3], 'a') as notes:
                notes.write(f'{update} {" ".join(batch.digests())}\\n')
            yield batch

    loader.batches = batches
    return loader

Loader.with_windows = noting
trainer.train(tiny.setup(sys.argv[1]), sys.argv[2])
"""


def start(store, workdir, notes):
    arguments = [str(store), str(workdir), str(notes)]
    return subprocess.Popen(
        [sys.executable, '-c', TRAIN, *arguments],
        env={**os.environ, 'PYTHONPATH': '.'},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output


def read(notes):
    """What was seen of each update."""
    seen = collections.defaultdict(set)
    for line in notes.read_text().splitlines():
        update, *digests = line.split()
        seen[int(update)].add(tuple(digests))
    return seen


@pytest.mark.slow
def test_a_killed_training_goes_on_with_the_batches_that_it_would_have_seen(tmp_path):
    tiny.write_store(tmp_path / 'tiny.zarr')
    whole, cut = tmp_path / 'whole.txt', tmp_path / 'cut.txt'
    finish(start(tmp_path / 'tiny.zarr', tmp_path / 'whole', whole))

    process = start(tmp_path / 'tiny.zarr', tmp_path / 'cut', cut)
    wanted = random.randint(1, 3) * 2
    deadline = time.monotonic() + 600
    while not (Workdir(tmp_path / 'cut').checkpoints / str(wanted)).is_dir():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    finish(start(tmp_path / 'tiny.zarr', tmp_path / 'cut', cut))

    expected, found = read(whole), read(cut)
    assert sorted(expected) == list(range(9))
    assert all(len(digests) == 1 for digests in expected.values())
    assert found == expected
