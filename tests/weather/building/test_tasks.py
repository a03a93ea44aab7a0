"""A task is pure: from the plan alone, and twice done it is the same."""

import dataclasses
import pickle

import numpy as np
import pytest

from tests.weather.building import made
from weather.building import build, planning, tasks
from weather.building.plan import cut, group_variables
from weather.building.tasks import Task, Workshop, all_tasks


@pytest.fixture
def plan(tmp_path):
    source = made.write(made.dataset(made.hours(60)), tmp_path / 'in.zarr')
    setup = made.experiment(prepare={'num_threads': 1})
    made_plan = planning.make_plan(setup, [source], str(tmp_path / 'out.zarr'))
    build.lay_out(made_plan)
    yield made_plan
    Workshop.close()


def test_tasks_are_all_of_the_work_and_winds_are_together(plan):
    every = all_tasks(plan)
    cells = {
        (name, time)
        for task in every
        for name in task.names
        for time in range(task.start, task.stop)
    }
    assert len(cells) == sum(task.size for task in every) == 5 * plan.times.size
    assert ('u_component_of_wind', 'v_component_of_wind') in {of.names for of in every}


def test_what_is_filled_below_the_ground_is_made_with_what_it_needs():
    setup = made.experiment(prepare={'below_ground': 'fill'})
    groups = group_variables((*made.UPPER, 'specific_humidity'), setup)
    assert groups[0] == ('geopotential', 'temperature')
    assert ('specific_humidity',) in groups


def test_a_task_needs_the_plan_alone_and_done_twice_changes_no_byte(plan, tmp_path):
    task = all_tasks(plan)[3]
    tasks.run(plan, task)
    before = _bytes(tmp_path)
    Workshop.close()
    tasks.run(pickle.loads(pickle.dumps(plan)), task)
    assert _bytes(tmp_path) == before


def _bytes(folder) -> dict:
    return {
        str(path): path.read_bytes()
        for path in (folder / 'out.zarr').rglob('*')
        if path.is_file()
    }


def test_what_does_not_arrive_is_refused(plan, monkeypatch):
    workshop = Workshop.of(plan)
    array = workshop.array('temperature')

    class Lossy:
        shape = array.shape

        def __setitem__(self, key, values):
            array[key] = values * np.float32(1.001)

        def __getitem__(self, key):
            return array[key]

    workshop._arrays['temperature'] = Lossy()
    with pytest.raises(ValueError, match='temperature at 2001-01-01T00:00:00.*other b'):
        tasks.run(plan, Task(('temperature',), 0, plan.block))


def test_what_the_regridding_loses_is_refused(plan, monkeypatch):
    workshop = Workshop.of(plan)

    class Lossy:
        def scalars(self, fields):
            fields = fields.copy()
            fields[1, 0, 0, 0] = np.nan
            return fields

    workshop._regridders[0, 'conservative'] = Lossy()
    with pytest.raises(ValueError, match='temperature at 2001-01-01T06:00:00 after'):
        tasks.run(plan, Task(('temperature',), 0, plan.block))


def test_components_of_a_wind_in_two_sources_are_refused_where_they_are_mixed(tmp_path):
    parts = [
        made.dataset(made.hours(60), ('temperature', 'geopotential', *made.SURFACE)),
        made.dataset(made.hours(60), ('u_component_of_wind',), statics=False),
        made.dataset(made.hours(60), ('v_component_of_wind',), statics=False),
    ]
    paths = [made.write(part, tmp_path / f'{i}.zarr') for i, part in enumerate(parts)]
    planning.make_plan(made.experiment(), paths, str(tmp_path / 'out.zarr'))
    spectral = made.experiment(prepare={'regridding': 'spectral'})
    with pytest.raises(ValueError, match='in the same source'):
        planning.make_plan(spectral, paths, str(tmp_path / 'out.zarr'))


def test_blocks_fit_in_memory_and_in_shards():
    def sizes(max_gb, shard_times=0, num_threads=4):
        prepare = {
            'max_gb': max_gb, 'num_threads': num_threads, 'shard_times': shard_times
        }  # fmt: skip
        return cut(
            made.experiment(prepare=prepare),
            num_times=61_000,
            read_bytes=13 * 721 * 1440 * 4,
            write_bytes=13 * 256 * 256 * 4,
        )

    plenty = sizes(16.0)
    assert plenty.num_threads == 4 and plenty.block == 32
    # Four threads would hold less than what one time needs.
    assert sizes(1.0).num_threads < 4
    assert sizes(16.0, shard_times=24).block % 24 == 0
    with pytest.raises(ValueError, match='prepare.max_gb of 0.4'):
        sizes(0.1)


def test_a_plan_says_what_it_will_do(plan):
    said = planning.describe(plan)
    assert '10 times' not in said and 'times: 10,' in said
    assert 'temperature (2 levels)' in said and 'left out' in said
    assert dataclasses.is_dataclass(plan)
