"""One process at a time in a bucket, and a dead one holds nothing for long."""

import contextlib
import os
import subprocess
import sys
import threading

import pytest

from learning import lease, lock
from learning.addresses import place
from tests import emulator

HOLD = """
import sys, time
from learning import lease, lock
lease.RENEW_SECONDS = 0.1
with lock.hold(sys.argv[1], work='training'):
    print('held', flush=True)
    time.sleep(300)
"""


@pytest.fixture(scope='module', autouse=True)
def cloud():
    with emulator.standing_in() as url:
        yield url


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(lease, 'RENEW_SECONDS', 0.1)
    monkeypatch.setattr(lease, 'DEAD_SECONDS', 2.0)


@pytest.fixture
def folder(request):
    return f'gs://{emulator.BUCKET}/{request.node.name}'


@pytest.fixture
def other(folder, cloud):
    """A process that holds the lock of `folder`."""
    process = subprocess.Popen(
        [sys.executable, '-c', HOLD, folder],
        env={**os.environ, 'PYTHONPATH': '.'},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == 'held\n'
    yield process
    process.kill()
    process.communicate()


def test_a_living_process_is_named_and_a_killed_one_is_outwaited(other, folder):
    expected = f'another training is going on in {folder}: process {other.pid} on '
    with pytest.raises(lock.LockedError, match=expected) as caught:
        with lock.hold(folder, work='training'):
            pass
    assert '\n' not in str(caught.value)
    other.kill()
    other.wait()
    assert (place(folder) / '.lock').exists()
    with lock.hold(folder, work='training'):
        assert f'process {os.getpid()} on' in (place(folder) / '.lock').read_text()
    assert not (place(folder) / '.lock').exists()


def test_it_is_free_after_an_error(folder):
    for _ in range(2):
        with pytest.raises(RuntimeError), lock.hold(folder, work='training'):
            raise RuntimeError


def test_of_many_at_once_one_gets_it(folder):
    got, ready = [], threading.Barrier(4)

    def take():
        ready.wait()
        with contextlib.suppress(lock.LockedError):
            with lock.hold(folder, work='training'):
                got.append(1)
                done.wait(20)

    done = threading.Event()
    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    while sum(thread.is_alive() for thread in threads) > 1:
        threads[0].join(0.05)
    assert got == [1]
    done.set()
    for thread in threads:
        thread.join()


def test_who_has_lost_it_ends(folder, monkeypatch):
    lost = threading.Event()
    monkeypatch.setattr(lease, '_abandon', lambda path: lost.set())
    with lock.hold(folder, work='training'):
        (place(folder) / '.lock').write_text('{"owner": "x", "token": "y"}')
        assert lost.wait(20)
    # It is the other's now.
    assert '"y"' in (place(folder) / '.lock').read_text()


def test_what_is_hours_old_is_not_waited_for(folder, monkeypatch):
    (place(folder) / '.lock').write_text('{"owner": "x", "token": "y"}')
    monkeypatch.setattr(lease, 'DEAD_SECONDS', 300.0)
    monkeypatch.setattr(lease, '_OLD', -lease._OLD)
    with lock.hold(folder, work='training'):
        pass
