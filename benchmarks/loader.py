"""Times the loader against what the machine and the codec allow.

Example:
  python -m benchmarks.loader --folder=PATH --output=runs/benchmarks/loader.json

Stores of 256x256 points and 78 channels are made up in the folder (10 GB), and are in
the page cache when they are read: what is timed is reading from memory, decoding and
placing, the most that a disk or network could be asked for.

- readers: four ways to read a slab (a variable at a time: 3.4 MB here, 0.1 MB at
  64x32), raw, compressed, sharded. `weather/data/chunk_files.py` was kept: a window of
  13 times at 256x256 (266 MB) took it 61 / 104 / 231 ms of processor time raw / lz4 /
  zstd, zarr 208 / 288 / 396, zarr + zarrs 146 / 277 / 344, tensorstore 191 / 205 / 340;
  sharded lz4 91, 312, 251, 159. At 64x32 (8 MB) milliseconds on the clock: 3.5 / 7.5 /
  11, 31 / 55 / 47, 24 / 36 / 32, 10 / 11 / 18. Two cores, busy with other work, on
  2026-11-28: medians of five turns, not a quiet machine.
- loader: rollouts of 1, 4 and 12 steps, beside bare loops over the same chunks with as
  many threads, taking turns, and beside reading the files alone.
- memory: peak of resident memory against the bound that the loader states.
- overlap: slabs read in an epoch of overlapping windows, over slabs there are.
- demo: share of its time that the demo's training waits for data (--planet=STORE, as
  scripts/simulate.py makes it).
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import functools
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import flags, machine, results, stores, timing
from benchmarks.harness import ROOT, Worker, WorkerError
from benchmarks.results import Target

PARTS = ('readers', 'loader', 'memory', 'overlap', 'demo')
READERS = ('chunk files', 'zarr', 'zarr + zarrs', 'tensorstore')
LOADER_KINDS = ('v3 raw', 'v3 lz4', 'v3 zstd', 'v3 int16 raw')
BIG, SMALL = '256x256', '64x32'
WORKER = 'benchmarks.loading'
OUTPUT = 'runs/benchmarks/loader.json'
_GB = 10**9
# Six windows of 13 times, none of which overlaps another.
_TIMES = 78
_LEAST_SHARE, _MOST_MEMORY, _MOST_WAIT = 0.8, 1.1, 0.02

Job = Callable[[], dict[str, Any]]


def jobs(options: argparse.Namespace) -> dict[str, Job]:
    """What the options ask for: `{name: measurement}`, in order."""
    size, times = ('16x16', 26) if options.quick else (BIG, _TIMES)

    def store(kind: str, size: str, num_times: int = times) -> str:
        grid = stores.size_of(size)
        return str(stores.write(options.folder, kind, grid, num_times=num_times))

    def timed(measure: str, kind: str, size: str, **case: Any) -> Job:
        def job() -> dict[str, Any]:
            num_times = 16 if measure == 'readers' else times
            path = store(kind, size, num_times)
            found = {'measure': measure, 'store': path, **case}
            return measure_turns(found, rounds=options.rounds)

        return job

    def once(measure: str, kind: str, num_times: int, **case: Any) -> Job:
        def job() -> dict[str, Any]:
            path = store(kind, size, num_times)
            return measure_once({'measure': measure, 'store': path, **case})

        return job

    threads = {'num_threads': options.threads}
    ahead = {'prefetch_bytes': _GB // 2}
    todo: dict[str, dict[str, Job]] = {
        'readers': {
            f'readers {of_size} {kind}': timed('readers', kind, of_size)
            for of_size in (SMALL, size)
            for kind in stores.KINDS
            if 'int16' not in kind
        },
        'loader': {
            f'loader {kind}, {steps} steps': timed(
                'loader', kind, size, num_steps=steps, **threads, **ahead
            )
            for kind in LOADER_KINDS
            for steps in options.steps
        },
        'memory': {
            f'memory {kind}, cache {cache:g} GB, batch {batch}': once(
                'memory',
                kind,
                times // 2,
                num_steps=12,
                cache_bytes=int(cache * _GB),
                batch_size=batch,
                **threads,
                **ahead,
            )
            for kind in LOADER_KINDS
            for cache, batch in ((0, 1), (0.5, 1), (0, 4))
        },
        'overlap': {
            f'overlap, cache {cache:g} GB': once(
                'overlap',
                'v3 raw',
                times // 2,
                num_steps=12,
                cache_bytes=int(cache * _GB),
                **threads,
                **ahead,
            )
            for cache in (0, 1)
        },
        'demo': {'demo': functools.partial(measure_demo, options.planet)},
    }
    return {k: job for part in options.parts for k, job in todo[part].items()}


def measure_turns(case: Mapping[str, Any], *, rounds: int) -> dict[str, Any]:
    """Times the operations of a case of `benchmarks.loading`, taking turns."""
    with contextlib.closing(Worker(WORKER)) as worker:
        facts = worker.prepare('case', case)
        samples = timing.take_turns(
            {name: worker.clock('case', name) for name in operations(case)},
            rounds=rounds,
        )
        seconds = {name: sample.summary() for name, sample in samples.items()}
        first = samples[next(iter(samples))]
        shares = {
            name: timing.ratio(sample, first).summary()
            for name, sample in samples.items()
        }
        return {**facts, 'seconds': seconds, 'shares': shares, **_versions(worker)}


def operations(case: Mapping[str, Any]) -> tuple[str, ...]:
    """What a case times; the others are divided by the first."""
    if case['measure'] == 'readers':
        return READERS
    return 'loader', 'bare', 'bare, used again', 'disk'


def measure_once(case: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of a case, in a fresh process."""
    with contextlib.closing(Worker(WORKER)) as worker:
        return {**worker.prepare('case', case), **_versions(worker)}


def _versions(worker: Worker) -> dict[str, Any]:
    return {'versions': worker.versions}


def measure_demo(planet: pathlib.Path) -> dict[str, Any]:
    """Trains the demo for a while; the share of its time that updates wait for data."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            'scripts/train.py',
            '--config=configs/demo.py',
            f'--workdir={folder}/run',
            f'--config.data.store={planet}',
            '--config.training.num_updates=120',
            '--config.training.warmup_updates=20',
            '--config.training.log_every=20',
        ]
        subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
        with open(f'{folder}/run/metrics.csv', newline='') as file:
            rows = list(csv.DictReader(file))
    waits = [float(r['value']) for r in rows if r['name'] == 'data_wait_share']
    rates = [float(r['value']) for r in rows if r['name'] == 'updates_per_second']
    return {'wait_shares': waits, 'updates_per_second': rates, 'versions': {}}


def run(todo: Mapping[str, Job]) -> dict[str, Any]:
    """Does one measurement after the other; one that fails leaves the others be."""
    found: dict[str, dict[str, Any]] = {}
    failures: dict[str, str] = {}
    versions: dict[str, str] = {}
    for name, job in todo.items():
        print(f'{name} ...', file=sys.stderr, flush=True)
        try:
            found[name] = job()
            versions |= found[name].pop('versions')
        except (WorkerError, subprocess.CalledProcessError) as error:
            failures[name] = str(error).strip().splitlines()[-1]
            print(f'{name} failed: {error}', file=sys.stderr, flush=True)
    return {
        'machine': machine.describe(),
        'versions': versions,
        'measurements': found,
        'failures': failures,
        'targets': [target._asdict() for target in targets(found)],
    }


def targets(found: Mapping[str, Mapping[str, Any]]) -> list[Target]:
    """What the figures should be."""
    wanted = []
    for name, of_one in found.items():
        if name.startswith('loader') and name.endswith(', 12 steps'):
            share = of_one['shares']['bare']['median']
            label = f'{name}: share of a bare loop'
            wanted.append(Target(label, share, _LEAST_SHARE, '>='))
        if name.startswith('memory'):
            share = of_one['bytes_more'] / of_one['bytes_bound']
            wanted.append(Target(f'{name}: of its bound', share, _MOST_MEMORY, '<='))
        if name == 'overlap, cache 1 GB':
            label = f'{name}: slabs read over slabs used'
            wanted.append(Target(label, of_one['amplification'], 1.0, '<='))
        if name == 'demo':
            shares = of_one['wait_shares']
            mean = sum(shares) / len(shares)
            wanted.append(Target('demo: share waited', mean, _MOST_WAIT, '<'))
    return wanted


def tables(result: Mapping[str, Any]) -> str:
    """All that was measured, for the eye."""
    found = result['measurements']
    parts = [
        readers_table({k: v for k, v in found.items() if k.startswith('readers')}),
        loader_table({k: v for k, v in found.items() if k.startswith('loader')}),
        results.table(
            ['target', 'value', 'bound', 'verdict'],
            [Target(**target).row() for target in result['targets']],
        ),
        results.provenance(result['machine'], result['versions'], result['command']),
    ]
    return '\n\n'.join(filter(None, parts))


def readers_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Milliseconds a window takes, by layout and reader."""
    rows = [
        [name.removeprefix('readers '), f'{of_one["bytes"] / 1e6:.0f}']
        + [f'{1e3 * of_one["seconds"][reader]["median"]:.1f}' for reader in READERS]
        for name, of_one in found.items()
    ]
    return results.table(['layout', 'MB', *(f'{r}, ms' for r in READERS)], rows)


def loader_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Rates of the loader, and its shares of the bare loops."""
    rows = []
    for name, of_one in found.items():
        rate = of_one['samples'] / of_one['seconds']['loader']['median']
        shares = {k: f'{v["median"]:.2f}' for k, v in of_one['shares'].items()}
        rows.append(
            [
                name.removeprefix('loader '),
                f'{rate:.1f}',
                f'{rate * of_one["sample_bytes"] / 1e9:.2f}',
                f'{rate * of_one["stored_bytes"] / 1e9:.2f}',
                *(shares[k] for k in ('bare', 'bare, used again', 'disk')),
            ]
        )
    header = [
        'store, rollout',
        'samples/s',
        'GB/s of float32',
        'GB/s of files',
        'share of bare loop',
        'of one with arrays used again',
        'of reading the files',
    ]
    return results.table(header, rows)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.loader',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('--parts', type=_parts, default=PARTS[:-1], help='comma-separated')
    add('--folder', type=pathlib.Path, required=True, help='where stores are made')
    add('--steps', type=flags.integers, default=(1, 4, 12), help='of the rollouts')
    add('--threads', type=int, default=2)
    add('--rounds', type=int, default=7)
    add('--planet', type=pathlib.Path, help='store of the demo, for the part demo')
    add('--quick', action='store_true', help='tiny sizes, to try the program out')
    add('--output', default=OUTPUT, help='JSON file for all measurements')
    add('--write', action='store_true', help='into RESULTS.md')
    options = parser.parse_args(arguments)
    if 'demo' in options.parts and options.planet is None:
        parser.error('the part demo needs --planet=STORE')
    options.folder = options.folder.resolve()
    options.folder.mkdir(parents=True, exist_ok=True)
    return options


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
    result = run(jobs(options))
    result['command'] = flags.command('benchmarks.loader', arguments)
    print(tables(result))
    results.write_json(options.output, result)
    if options.write:
        results.replace_section('loader', tables(result))
    return 1 if result['failures'] else 0


if __name__ == '__main__':
    sys.exit(main())
