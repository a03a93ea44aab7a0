"""Times the layers and the flagship; measures its memory and its precision.

Example:
  python -m benchmarks.model --official=CHECKOUT_OF_SPHERICAL_CNN --write

- convolution, block: single layers, forward and with gradients, beside those of
  google-research/spherical-cnn where its checkout is given. Ratios compare what takes
  and returns fields on the grid.
- step, update, forecast: the flagship of configs/era5_256.py at full size on random
  data, each measurement in a fresh process.
- precision: bfloat16 beside float32, with random parameters and, with --workdir, of a
  trained run.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import flags, harness, machine, model_tables, results, timing
from benchmarks.harness import Worker, WorkerError
from benchmarks.model_tables import OFFICIAL, OURS, PRECISIONS
from benchmarks.timing import Sample

MODEL_PARTS = ('convolution', 'block', 'step', 'update', 'forecast')
PARTS = (*MODEL_PARTS, 'precision')
FLAGSHIP, PRECISION = 'benchmarks.flagship', 'benchmarks.precision'
OPERATIONS = ('forward', 'value_and_grad')
LAYER = {'num_points': 128, 'channels': 64}
TINY_LAYER = {'num_points': 16, 'channels': 4}
# An update with many steps compiles, and runs once, before its worker answers.
TIMEOUT_S = 3600.0
KEY = 'case'
OUTPUT = 'runs/benchmarks/model.json'

Job = Callable[[], dict[str, Any]]


def jobs(options: argparse.Namespace) -> dict[str, Job]:
    """What the options ask for: `{name: measurement}`, in order."""
    size = 'tiny' if options.quick else 'full'
    few = max(3, options.rounds // 3)  # Of what takes many seconds.

    def flagship(measure: str, *, rounds: int, num_steps: int | None = None) -> Job:
        case = {
            'measure': measure,
            'size': size,
            'num_steps': num_steps,
            'precision': options.precision,
        }
        return functools.partial(measure_flagship, case, rounds=rounds)

    by_part: dict[str, dict[str, Job]] = {
        'convolution': {'convolution': lambda: measure_layer('convolution', options)},
        'block': {'block': lambda: measure_layer('block', options)},
        'step': {'step': flagship('step', rounds=options.rounds)},
        'update': {
            f'update {steps}': flagship('update', rounds=few, num_steps=steps)
            for steps in options.steps
        },
        'forecast': {'forecast': flagship('forecast', rounds=few)},
        'precision': {'precision': lambda: measure_precision(size, options.rounds)},
    }
    if options.workdir:
        by_part['precision']['trained'] = lambda: measure_trained(
            options.workdir, options.starts
        )
    chosen = (by_part[part] for part in PARTS if part in options.parts)
    return {name: job for part in chosen for name, job in part.items()}


def measure_layer(kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """Times a layer of ours, and the official one where it is given, taking turns.

    Returns:
      JSON: `operations`, by `library, case, operation` joined with spaces; `facts`, by
      library and case; `ratios` official over ours, by operation; `missing`.
    """
    case = {**(TINY_LAYER if options.quick else LAYER), 'num_knots': options.knots}
    official = [OFFICIAL] if options.official else []
    with harness.start_workers(
        [OURS, *official],
        paths={OFFICIAL: [str(options.official)]},
        timeout_s=TIMEOUT_S,
    ) as team:
        layers = {
            (worker.name, layer): worker.prepare(layer, {**case, 'layer': layer})
            for worker in team.workers.values()
            for layer in layers_of(worker.name, kind)
        }
        samples = timing.take_turns(
            {
                (name, layer, operation): team.workers[name].clock(layer, operation)
                for operation in OPERATIONS
                for name, layer in layers
            },
            rounds=options.rounds,
        )
        versions = {k: v for w in team.workers.values() for k, v in w.versions.items()}
        return {
            'case': case,
            'operations': {' '.join(k): s.summary() for k, s in samples.items()},
            'facts': {' '.join(k): facts for k, facts in layers.items()},
            'ratios': ratios(kind, samples),
            'missing': team.missing,
            'versions': versions,
        }


def layers_of(name: str, kind: str) -> list[str]:
    """Cases of a worker: the official library has fields on the grid only."""
    return [f'{kind}_on_grid'] if name == OFFICIAL else [kind, f'{kind}_on_grid']


def ratios(
    kind: str, samples: Mapping[tuple[str, str, str], Sample]
) -> dict[str, dict[str, Any]]:
    """How often ours runs while the official one runs once, by operation."""
    layer = f'{kind}_on_grid'
    return {
        operation: timing.ratio(
            samples[OFFICIAL, layer, operation], samples[OURS, layer, operation]
        ).summary()
        for operation in OPERATIONS
        if (OFFICIAL, layer, operation) in samples
    }


def measure_flagship(case: Mapping[str, Any], *, rounds: int) -> dict[str, Any]:
    """Times one case of `benchmarks.flagship` in a fresh process.

    Returns:
      JSON: `seconds`, what the worker reports and its `process_gib`.
    """
    with contextlib.closing(Worker(FLAGSHIP, timeout_s=TIMEOUT_S)) as worker:
        facts = worker.prepare(KEY, case)
        operation = case['measure']
        # Warm already; and a call is long enough to be a turn.
        seconds = [
            worker.time(KEY, operation, calls=1, warm_ups=0) for _ in range(rounds)
        ]
        # At the end: the peak of all that it did.
        memory = worker.prepare('memory', {'measure': 'memory'})
        summary = Sample(tuple(seconds)).summary()
        return {'seconds': summary, **facts, **memory, 'versions': worker.versions}


def measure_precision(size: str, rounds: int) -> dict[str, Any]:
    """The random flagship in both precisions, taking turns in one process."""
    with contextlib.closing(Worker(PRECISION, timeout_s=TIMEOUT_S)) as worker:
        facts = worker.prepare(KEY, {'measure': 'random', 'size': size})
        samples = timing.take_turns(
            {name: worker.clock(KEY, name) for name in facts['compilation_s']},
            rounds=rounds,
        )
        seconds = {name: sample.summary() for name, sample in samples.items()}
        return {'seconds': seconds, **facts, 'versions': worker.versions}


def measure_trained(workdir: str, num_starts: int) -> dict[str, Any]:
    """The scores of a trained run in both precisions."""
    case = {'measure': 'trained', 'workdir': workdir, 'num_starts': num_starts}
    with contextlib.closing(Worker(PRECISION, timeout_s=TIMEOUT_S)) as worker:
        return {**worker.prepare(KEY, case), 'versions': worker.versions}


def run(todo: Mapping[str, Job], speed: machine.Speedometer) -> dict[str, Any]:
    """Does one measurement after the other; one that fails leaves the others be.

    Returns:
      JSON: `machine`, `versions`, `measurements` and `failures`, by name.
    """
    measurements: dict[str, dict[str, Any]] = {}
    failures: dict[str, str] = {}
    versions: dict[str, str] = {}
    for name, job in todo.items():
        print(f'{name} ...', file=sys.stderr, flush=True)
        speed.measure()  # Whether the machine itself has slowed down meanwhile.
        try:
            measurements[name] = job()
            versions |= measurements[name].pop('versions')
        except WorkerError as error:
            failures[name] = reason(error)
            print(f'{name} failed: {error}', file=sys.stderr, flush=True)
    speed.measure()
    return {
        'machine': {**machine.describe(), **speed.summary()},
        'versions': versions,
        'measurements': measurements,
        'failures': failures,
    }


def reason(error: WorkerError) -> str:
    """The last line of an error, and what it means where a process was killed."""
    last = str(error).strip().splitlines()[-1]
    # What the kernel does to the largest process where memory runs out.
    killed = 'exit status -9' in last
    return last + killed * ' (killed: there was probably not enough memory)'


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.model',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('--parts', type=_parts, default=PARTS, help='comma-separated; default: all')
    add(
        '--official',
        type=flags.checkout,
        help='checkout of google-research/spherical-cnn',
    )
    add('--rounds', type=int, default=9, help='of layers and steps; others a third')
    add('--knots', type=int, default=8, help='free degrees of the layers')
    add('--steps', type=flags.integers, default=(1, 4, 12), help='of updates')
    add('--precision', choices=PRECISIONS, help="of the flagship, if not its config's")
    add('--workdir', help='run directory for the part precision')
    add('--starts', type=int, default=12, help='forecasts of that run')
    add('--quick', action='store_true', help='tiny sizes, to try the program out')
    add('--output', default=OUTPUT, help='JSON file for all measurements')
    add(
        '--write',
        action='store_true',
        help='into RESULTS.md what was measured, if nothing failed',
    )
    options = parser.parse_args(arguments)
    if options.write and (options.quick or options.precision):
        parser.error('--write is for the flagship itself: no --quick, no --precision')
    if options.write and not _are_sections(options):
        parser.error(
            '--write replaces whole sections: give none or all of the parts '
            f'{",".join(MODEL_PARTS)}, and precision only with --workdir'
        )
    return options


def _are_sections(options: argparse.Namespace) -> bool:
    measured = set(options.parts)
    whole = measured.isdisjoint(MODEL_PARTS) or measured >= set(MODEL_PARTS)
    return whole and ('precision' not in measured or bool(options.workdir))


def _parts(text: str) -> tuple[str, ...]:
    unknown = sorted(set(text.split(',')) - set(PARTS))
    if unknown:
        raise argparse.ArgumentTypeError(
            f'expected parts among {", ".join(PARTS)}, got {", ".join(unknown)}'
        )
    return tuple(text.split(','))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes; returns 1 where something failed."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse(arguments)
    with contextlib.closing(Worker(OURS)) as worker:
        result = run(jobs(options), machine.Speedometer(worker))
    result['command'] = flags.command('benchmarks.model', arguments)
    sections = model_tables.sections(result)
    print('\n\n'.join(sections.values()))
    results.write_json(options.output, result)
    if result['failures']:
        return 1
    if options.write:
        for name, text in sections.items():
            results.replace_section(name, text)
    return 0


if __name__ == '__main__':
    sys.exit(main())
