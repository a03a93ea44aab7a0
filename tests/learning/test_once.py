"""Two real processes write a checkpoint together, and go on from the same."""

import json
import os
import socket
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from learning import once
from learning.addresses import is_address, place
from learning.checkpoint import Checkpoints
from tests import emulator
from tests.learning.two import SIZE


@pytest.fixture(scope='module', params=['a disk', 'a bucket'])
def run(request, tmp_path_factory):
    """What each of two processes saw, and where they wrote."""
    if request.param == 'a disk':
        yield _run(tmp_path_factory.mktemp('two'))
        return
    with emulator.standing_in():
        yield _run(place(f'gs://{emulator.BUCKET}/two'))


def _run(folder):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        address = f'127.0.0.1:{free.getsockname()[1]}'
    started, where = [], str(folder / 'run' / 'checkpoints')
    for rank in (0, 1):
        started.append(
            subprocess.Popen(
                [sys.executable, '-m', 'tests.learning.two', address, str(rank), where],
                env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': '.'},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        ended = [process.communicate(timeout=180) for process in started]
    finally:
        for process in started:
            process.kill()
            process.communicate()
    for process, (_, err) in zip(started, ended, strict=True):
        assert process.returncode == 0, err[-3000:]
    texts = [(folder / 'run' / f'seen_{rank}.json').read_text() for rank in (0, 1)]
    seen = [
        (json.loads(text), out) for text, (out, _) in zip(texts, ended, strict=True)
    ]
    return folder / 'run', seen


def test_what_the_first_finds_out_all_know(run):
    _, seen = run
    for found, _ in seen:
        assert found['value'] == [1, {'a': 0}]
        assert found['error'] == 'FileNotFoundError: process 0 says so'
        assert found['before'] is None
        assert found['newest'] == 30 and found['again'] == 40


def test_each_restores_its_part(run):
    _, seen = run
    starts = [found['first'] for found, _ in seen]
    assert starts == [30.0, 30.0 + SIZE / 2]


def test_what_two_have_written_one_reads(run):
    directory = run[0] / 'checkpoints'
    saved = Checkpoints(directory)
    # Every twentieth for good; the newest two; the damaged one beside them.
    assert saved.updates[:3] == [20, 30, 40]
    assert all(saved.verify(update) == [] for update in saved.updates)
    assert (
        len([p for p in directory.iterdir() if p.name.startswith('40.damaged-')]) == 1
    )
    found = saved.restore('forecast', {'w': jnp.zeros(SIZE)}, 40)
    np.testing.assert_array_equal(found['w'], np.arange(SIZE) + 40)
    files = json.loads((directory / '40' / 'checksums.json').read_text())['files']
    for rank in (0, 1):
        assert any(f'ocdbt.process_{rank}/' in name for name in files)


def test_that_one_cannot_write_all_know(run):
    _, seen = run
    first, second = (found['full'] for found, _ in seen)
    assert '50 cannot be written (No space left' in first
    assert second == 'SaveError: another process could not write its part'


def test_disks_of_their_own_are_refused(run):
    _, seen = run
    for found, _ in seen:
        if is_address(run[0]):
            assert not found['apart']  # There is none.
            continue
        assert 'expected a directory that all processes share' in found['apart']


def test_one_writes_the_log_and_speaks(run):
    directory, seen = run
    rows = (directory / 'metrics.csv').read_text().splitlines()
    assert rows == ['update,num_steps,name,value', '1,1,loss,0.5']
    assert len(list((directory / 'tensorboard').iterdir())) == 1
    assert 'rank 0 speaks' in seen[0][1] and 'speaks' not in seen[1][1]


def test_one_process_asks_nobody():
    assert once.for_all(lambda: 3) == 3
    with pytest.raises(KeyError):
        once.for_all(lambda: {}['none'])
