"""Engines run every task once, whatever they are, and lose nothing by a failure."""

import threading
import time

import pytest

from tests.weather.building import made
from tests.weather.building.test_build import files, source  # noqa: F401
from weather.building import engine, tasks
from weather.building.build import build_store
from weather.building.tasks import Task

TODO = [Task(('temperature',), i, i + 1) for i in range(20)]


class FakePlan:
    num_threads = 3


def test_threads_run_each_task_once_and_no_more_than_allowed_at_a_time(monkeypatch):
    done, at_work, most = [], [], []
    lock = threading.Lock()

    def run(plan, task):
        with lock:
            at_work.append(task)
            most.append(len(at_work))
        time.sleep(0.005)
        with lock:
            at_work.remove(task)
            done.append(task)
        return task

    monkeypatch.setattr(tasks, 'run', run)
    engine.run_in_threads(FakePlan(), TODO)
    assert sorted(done) == TODO and max(most) == 3


def test_after_a_failure_nothing_is_begun_and_what_is_under_way_ends(monkeypatch):
    begun, done = [], []

    def run(plan, task):
        begun.append(task)
        if task.start == 4:
            raise ValueError('chunk 4 is damaged')
        time.sleep(0.01)
        done.append(task)
        return task

    monkeypatch.setattr(tasks, 'run', run)
    with pytest.raises(ValueError, match='chunk 4'):
        engine.run_in_threads(FakePlan(), TODO)
    assert len(begun) < 12 and len(done) == len(begun) - 1


def test_an_unknown_engine_and_options_for_none_are_refused():
    with pytest.raises(ValueError, match='threads, beam'):
        engine.make_engine('spark')
    with pytest.raises(ValueError, match='--engine=beam'):
        engine.make_engine('threads', '--runner=DirectRunner')


def test_beam_makes_the_same_store(source, tmp_path):  # noqa: F811
    pytest.importorskip('apache_beam', reason="needs pip install 'spherecast[beam]'")
    setup = made.experiment()
    on_beam = engine.make_engine('beam', '--runner=DirectRunner')
    build_store(setup, [source], str(tmp_path / 'beam.zarr'), engine=on_beam)
    build_store(setup, [source], str(tmp_path / 'threads.zarr'))
    assert files(tmp_path / 'beam.zarr') == files(tmp_path / 'threads.zarr')


def test_what_fails_on_beam_is_said_in_its_own_words(source, tmp_path, monkeypatch):  # noqa: F811
    pytest.importorskip('apache_beam', reason="needs pip install 'spherecast[beam]'")

    def run(plan, task):
        raise ValueError('temperature at noon is damaged')

    monkeypatch.setattr(tasks, 'run', run)
    on_beam = engine.make_engine('beam')
    with pytest.raises(ValueError, match='temperature at noon'):
        build_store(made.experiment(), [source], str(tmp_path / 'o'), engine=on_beam)
