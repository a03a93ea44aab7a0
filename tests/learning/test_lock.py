"""One process at a time, and a dead one holds nothing."""

import os
import subprocess
import sys

import pytest

from learning import lock

HOLD = """
import pathlib, sys, time
from learning import lock
with lock.hold(pathlib.Path(sys.argv[1]), work='training'):
    print('held', flush=True)
    time.sleep(300)
"""


@pytest.fixture
def other(tmp_path):
    """A process that holds the lock of `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, '-c', HOLD, str(tmp_path)],
        env={**os.environ, 'PYTHONPATH': '.'},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == 'held\n'
    yield process
    process.kill()
    process.communicate()


def test_the_other_process_is_named(other, tmp_path):
    expected = f'another training is going on in {tmp_path}: process {other.pid} on '
    for _ in range(2):  # Being refused changes nothing.
        with pytest.raises(lock.LockedError, match=expected) as caught:
            with lock.hold(tmp_path, work='training'):
                pass
    assert 'since 20' in str(caught.value) and '\n' not in str(caught.value)


def test_what_a_killed_process_leaves_locks_nothing(other, tmp_path):
    other.kill()
    other.wait()
    assert (tmp_path / '.lock').read_text().startswith(f'process {other.pid}')
    with lock.hold(tmp_path, work='training'):
        pass


def test_a_lock_is_free_again_after_an_error(tmp_path):
    for _ in range(2):
        with pytest.raises(RuntimeError), lock.hold(tmp_path / 'new', work='training'):
            raise RuntimeError
    assert (tmp_path / 'new' / '.lock').read_text() == ''


def test_a_place_where_nothing_can_be_written_is_one_line(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match='expected a directory that training can write'):
        with lock.hold(tmp_path / 'file' / 'run', work='training'):
            pass
