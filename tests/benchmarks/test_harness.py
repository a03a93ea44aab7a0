import os
import subprocess
import sys
import textwrap

import pytest

from benchmarks import harness, timing

PEER = """
    import os, time
    from benchmarks.peers import Prepared

    print('whatever a library prints')

    def versions():
        return {'fake': '1.0', 'threads': os.environ['OMP_NUM_THREADS']}

    def prepare(case):
        if case['size'] < 0:
            raise ValueError('negative size')
        return Prepared(
            {
                'sleep': lambda: time.sleep(case['size']),
                'print': lambda: print('more'),
                'die': lambda: os._exit(7),
            },
            {'size': case['size'], 'pid': os.getpid()},
        )
"""


@pytest.fixture
def folder(tmp_path):
    """Importable peers: one that works and two that do not."""
    package = tmp_path / 'fakes'
    package.mkdir()
    (package / 'good.py').write_text(textwrap.dedent(PEER))
    (package / 'absent.py').write_text('import no_such_library')
    (package / 'broken.py').write_text('1 / 0')
    return str(tmp_path)


def start(folder, *names, **options):
    names = [f'fakes.{name}' for name in names]
    paths = {name: [folder] for name in names}
    return harness.start_workers(names, paths=paths, **options)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_worker_prepares_and_times(folder):
    with start(folder, 'good') as team:
        worker = team.workers['fakes.good']
        assert worker.versions == {'fake': '1.0', 'threads': str(harness.num_cores())}
        assert worker.prepare('a', {'size': 0.01})['size'] == 0.01
        assert worker.time('a', 'sleep', calls=2, warm_ups=1) >= 0.01
        seconds = timing.take_turns({'sleep': worker.clock('a', 'sleep')}, rounds=2)
        assert len(seconds['sleep'].values) == 2


def test_what_a_library_prints_does_not_break_the_protocol(folder):
    with start(folder, 'good') as team:
        worker = team.workers['fakes.good']
        worker.prepare('a', {'size': 0})
        assert worker.time('a', 'print', calls=3, warm_ups=0) > 0


def test_a_library_that_is_not_installed_is_reported(folder):
    with start(folder, 'absent', 'good') as team:
        assert list(team.workers) == ['fakes.good']
        reason = team.missing['fakes.absent']
    assert 'no_such_library is not installed' in reason
    assert "pip install -e '.[benchmarks]'" in reason


def test_a_module_that_fails_is_an_error_with_its_traceback(folder):
    with pytest.raises(harness.WorkerError, match='ZeroDivisionError'):
        with start(folder, 'broken'):
            pass


def test_a_misspelt_peer_is_an_error_and_not_a_missing_library():
    with pytest.raises(harness.WorkerError, match=r'benchmarks\.peers\.nobody'):
        harness.Worker('nobody')


def test_a_worker_survives_a_case_that_fails(folder):
    with start(folder, 'good') as team:
        worker = team.workers['fakes.good']
        with pytest.raises(harness.WorkerError, match='negative size'):
            worker.prepare('a', {'size': -1})
        assert worker.alive
        worker.prepare('a', {'size': 0})


def test_a_released_case_is_gone(folder):
    with start(folder, 'good') as team:
        worker = team.workers['fakes.good']
        worker.prepare('a', {'size': 0})
        worker.release('a')
        with pytest.raises(harness.WorkerError, match='KeyError'):
            worker.time('a', 'sleep', calls=1, warm_ups=0)


def test_a_worker_that_dies_says_how(folder):
    with start(folder, 'good') as team:
        worker = team.workers['fakes.good']
        worker.prepare('a', {'size': 0})
        with pytest.raises(harness.WorkerError, match='exit status 7'):
            worker.time('a', 'die', calls=1, warm_ups=0)
        assert not worker.alive


def test_a_worker_that_takes_too_long_is_ended_and_named(folder):
    with start(folder, 'good') as team:
        worker = team.workers['fakes.good']
        worker.prepare('a', {'size': 60})
        worker.timeout_s = 0.1
        with pytest.raises(harness.WorkerError, match=r'fakes\.good: no answer within'):
            worker.time('a', 'sleep', calls=1, warm_ups=0)
        assert not worker.alive


def test_no_worker_outlives_an_error(folder):
    with pytest.raises(RuntimeError, match='of the parent'):
        with start(folder, 'good') as team:
            pid = team.workers['fakes.good'].prepare('a', {'size': 0})['pid']
            raise RuntimeError('of the parent')
    assert not is_running(pid)


def test_all_workers_have_the_same_environment(monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', '99')
    environment = harness.environment()
    assert environment['OMP_NUM_THREADS'] == str(harness.num_cores())


def test_workers_have_large_pages_unless_told_otherwise(monkeypatch):
    monkeypatch.delenv('GLIBC_TUNABLES', raising=False)
    assert harness.environment()['GLIBC_TUNABLES'] == 'glibc.malloc.hugetlb=1'
    monkeypatch.setenv('GLIBC_TUNABLES', 'glibc.malloc.check=1')
    assert harness.environment()['GLIBC_TUNABLES'] == 'glibc.malloc.check=1'


def test_the_parent_needs_no_heavy_library():
    """So that --help answers at once."""
    code = (
        'import sys, benchmarks.transforms; '
        'sys.exit(bool({"jax", "torch", "sphere_ops"} & set(sys.modules)))'
    )
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0
