"""Engines: who runs the tasks.

Threads of one process by default: reading waits for disks and the network, and NumPy,
JAX and codecs let go of the interpreter. Where one machine is too small, Apache Beam
(`pip install 'spherecast[beam]'`): a task needs nothing but the plan, so that

    beam.Create(tasks) | beam.Reshuffle() | beam.Map(run)

is the whole pipeline, on any runner. Why Beam: whoever regrids ERA5 by WeatherBench 2's
scripts has it, on Dataflow, which starts and ends the machines itself; a cluster of
Dask would have to be kept. On one machine neither is of use. `benchmarks/engines.py`,
32 times of 52 fields on two cores that were busy with other work: threads 1.7 s, Beam
in one process 5.3 s, Beam on two processes 28.7 s, dask.distributed on two processes
30.5 s, of the last two nearly all to start and to end them.

On Dataflow workers need this project: `--runner=DataflowRunner --project=P --region=R
--temp_location=gs://BUCKET/tmp --setup_file=./setup.py`, or an image that has it
(`--sdk_container_image=...`, quicker to start). Sources and output must then be
addresses that workers can reach.
"""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import tqdm

from weather.building import tasks
from weather.building.plan import Plan
from weather.building.tasks import Task

Engine = Callable[[Plan, Sequence[Task]], None]
ENGINES = ('threads', 'beam')


def make_engine(name: str, beam_options: str = '') -> Engine:
    """Returns an engine by its name.

    Raises:
      ValueError: an unknown name, options without Beam, or Beam is not installed.
    """
    if name not in ENGINES:
        raise ValueError(f'expected an engine among {", ".join(ENGINES)}, got {name!r}')
    if name == 'beam':
        _import_beam()
        return functools.partial(run_on_beam, options=shlex.split(beam_options))
    if beam_options:
        raise ValueError(f'options {beam_options!r} are for Beam: say --engine=beam')
    return run_in_threads


def run_in_threads(plan: Plan, todo: Sequence[Task]) -> None:
    """Runs tasks in `plan.num_threads` threads, with a bar of progress.

    After the first failure nothing more is begun; what is under way is finished, and
    so is not lost.
    """
    fields = sum(task.size for task in todo)
    bar = tqdm.tqdm(
        total=fields, desc='preparing', unit='field', mininterval=1, smoothing=0.05
    )
    with (
        bar,
        concurrent.futures.ThreadPoolExecutor(plan.num_threads) as pool,
    ):
        for done in _in_order(pool, plan, todo):
            bar.update(done.size)


def _in_order(
    pool: concurrent.futures.Executor, plan: Plan, todo: Iterable[Task]
) -> Iterator[Task]:
    """Yields tasks as they are done, a few of them begun at a time."""
    # Not all at once: after a failure the rest would have to be called back.
    remaining = iter(todo)
    running = {
        pool.submit(tasks.run, plan, task)
        for task in itertools.islice(remaining, plan.num_threads)
    }
    while running:
        finished, running = concurrent.futures.wait(
            running, return_when=concurrent.futures.FIRST_COMPLETED
        )
        for future in finished:
            yield future.result()
            running |= {
                pool.submit(tasks.run, plan, task)
                for task in itertools.islice(remaining, 1)
            }


def run_on_beam(
    plan: Plan, todo: Sequence[Task], *, options: Sequence[str] = ()
) -> None:
    """Runs tasks on Apache Beam, on the runner that `options` name.

    Raises:
      ValueError: a task failed; in its own words.
    """
    beam = _import_beam()
    from apache_beam.options.pipeline_options import PipelineOptions

    try:
        with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
            _ = (
                pipeline
                | beam.Create(list(todo))
                # Else runners may fuse all tasks into one bundle, on one worker.
                | beam.Reshuffle()
                | beam.Map(functools.partial(_run_on_worker, plan))
            )
    # A runner wraps what workers raise in errors of its own.
    except RuntimeError as error:
        raise ValueError(f'the pipeline failed: {error}') from error


def _run_on_worker(plan: Plan, task: Task) -> tuple[Any, ...]:
    # Plain, for Beam's coders.
    return tuple(tasks.run(plan, Task(*task)))


def _import_beam() -> Any:
    try:
        import apache_beam
    except ImportError as error:
        raise ValueError(
            'expected Apache Beam for --engine=beam, found none: '
            "pip install 'spherecast[beam]'"
        ) from error
    return apache_beam
