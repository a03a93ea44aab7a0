r"""Engines of prepare_data.py on one job: threads, Apache Beam, dask.distributed.

The job is synthetic: 4 variables on 181x360 points with 13 levels, regridded to 64x64;
a quarter of the times is a task. What is timed is the engine alone, from the
list of tasks to the last one done, its start-up included.

Example:
  python -m benchmarks.engines --num_times=32
"""

import pathlib
import shutil
import tempfile
import time

import numpy as np
import xarray as xr
from absl import app, flags

from weather.building import build, engine, planning, tasks
from weather.building.plan import Plan
from weather.experiment import Experiment

_NUM_TIMES = flags.DEFINE_integer('num_times', 32, 'Times of the store.')
_ENGINES = flags.DEFINE_list(
    'engines', ['threads', 'beam', 'beam_processes', 'dask'], 'What is compared.'
)
_LEVELS = (50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000)
_VARIABLES = (
    'temperature',
    'specific_humidity',
    'u_component_of_wind',
    'v_component_of_wind',
)
_MEANS = {'temperature': 250.0, 'specific_humidity': 0.003}
_PROCESSES = '--direct_running_mode=multi_processing --direct_num_workers=2'


def write_source(path: pathlib.Path, num_times: int) -> None:
    """Writes a source of noise, in plausible ranges."""
    random = np.random.default_rng(0)
    shape, dims = (13, 181, 360), ('time', 'level', 'latitude', 'longitude')
    for i in range(num_times):
        made = xr.Dataset(
            {
                name: (
                    dims,
                    (
                        _MEANS.get(name, 10.0) * (1 + 0.1 * random.random((1, *shape)))
                    ).astype(np.float32),
                )
                for name in _VARIABLES
            },
            coords={
                'time': [
                    np.datetime64('2001-01-01', 'ns') + i * np.timedelta64(6, 'h')
                ],
                'level': list(_LEVELS),
                'latitude': np.linspace(90, -90, 181),
                'longitude': np.arange(360.0),
            },
        )
        more = (
            {'append_dim': 'time'}
            if i
            else {'encoding': {'time': {'units': 'hours since 2001-01-01'}}}
        )
        made.to_zarr(path, zarr_format=2, **more)


def experiment(num_threads: int) -> Experiment:
    """What is wanted of the source."""
    grid = {'kind': 'equiangular', 'num_lat': 64, 'num_lon': 64}
    period = ('2001-01-01', '2001-12-31')
    return Experiment.from_config(
        {
            'data': {
                'store': 'unused',
                'variables': dict.fromkeys(_VARIABLES, _LEVELS),
                'statics': (),
                **dict.fromkeys(('train', 'validation', 'test'), period),
            },
            'grid': grid,
            'model': {'latent': grid},
            'training': {'num_updates': 1},
            'prepare': {'num_threads': num_threads, 'climatology': 'no'},
        }
    )


def run_on_dask(plan: Plan, todo: list[tasks.Task]) -> None:
    """The same tasks on two processes of dask.distributed."""
    import dask.distributed

    with (
        dask.distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        dask.distributed.Client(cluster) as client,
    ):
        futures = client.map(lambda task: tasks.run(plan, task), todo, pure=False)
        client.gather(futures)


ENGINES = {
    'threads': engine.run_in_threads,
    'beam': lambda plan, todo: engine.run_on_beam(plan, todo),
    'beam_processes': lambda plan, todo: engine.run_on_beam(
        plan, todo, options=_PROCESSES.split()
    ),
    'dask': run_on_dask,
}


def seconds(name: str, source: pathlib.Path, output: pathlib.Path) -> float:
    """Time that an engine takes for all tasks of a new store."""
    plan = planning.make_plan(experiment(2), [str(source)], str(output))
    build.lay_out(plan)
    # Nothing of the plan's own opening is left to help the first.
    tasks.Workshop.close()
    begin = time.perf_counter()
    ENGINES[name](plan, tasks.all_tasks(plan))
    elapsed = time.perf_counter() - begin
    shutil.rmtree(output)
    return elapsed


def main(argv: list[str]) -> None:
    """Times every engine."""
    del argv
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder, 'source.zarr')
        write_source(source, _NUM_TIMES.value)
        num_fields = _NUM_TIMES.value * len(_VARIABLES) * len(_LEVELS)
        for name in _ENGINES.value:
            elapsed = seconds(name, source, pathlib.Path(folder, 'output.zarr'))
            print(f'{name:>15}: {elapsed:6.1f} s, {num_fields / elapsed:6.0f} fields/s')


if __name__ == '__main__':
    app.run(main)
