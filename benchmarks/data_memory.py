"""Memory of what reads whole stores: does it depend on how many times there are?

    python -m benchmarks.data_memory --folder=PATH [--times=100,1000] [--tasks=...]
        [--output=JSON] [--write]

Each command runs in a fresh process, on stores that differ in the number of times
alone, and its peak resident memory is what the kernel counted (`VmHWM`). Times are
daily, so that the fewest are more days already than the windows of a climatology touch
at once. `idle` is a process that imports what they import and reads nothing. A
climatology at 721x1440 is computed with two bounds, from chunks of one time and of
many, few days and one level: that is more than the smaller bound holds at once.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from benchmarks import flags, machine, programs, results
from benchmarks.harness import environment
from benchmarks.results import Target
from weather.data.checks import standard_geopotential

ROOT = pathlib.Path(__file__).resolve().parents[1]
LEVELS = (50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000)
NUM_LAT, NUM_LON = 32, 64
# Largest growth from the fewest to the most times.
GROWTH = 1.1
MIB = 2**20
# What their options or modules promise to hold beside an idle process, MiB.
BOUNDS = {
    'statistics': 512,
    'climatology': 2048,
    'prepare': 2048,
    'check': 512,
    'export': 512,
}
GLOBAL_BOUNDS = (2**29, 2**31)  # For the climatology at 721x1440.
GLOBAL_CHUNKS = (1, 20)
_IDLE = (
    'import weather.data.climatology, weather.data.preparation, weather.experiment, '
    'weather.data.loader'
)


class Usage(NamedTuple):
    """What a process took.

    Attributes:
      peak_mib: largest resident memory.
      seconds: from start to end.
    """

    peak_mib: float
    seconds: float


# Runs a script as its own process would, and notes the largest resident memory. Not by
# `ru_maxrss`: that begins with what the parent held when it forked.
_RUN = """
import runpy, sys
place, script, *arguments = sys.argv[1:]
sys.argv = [script, *arguments]
try:
    runpy.run_path(script, run_name='__main__')
finally:
    status = open('/proc/self/status').read()
    open(place, 'w').write(status.split('VmHWM:')[1].split()[0])
"""


def measure(script: str | pathlib.Path, *arguments: str) -> Usage:
    """Runs a script in a process of its own.

    Raises:
      RuntimeError: it failed; with what it said.
    """
    with tempfile.NamedTemporaryFile('r', suffix='.txt') as noted:
        command = [sys.executable, '-c', _RUN, noted.name, str(script), *arguments]
        began = time.perf_counter()
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**environment(), 'PYTHONPATH': str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        seconds = time.perf_counter() - began
        if done.returncode:
            raise RuntimeError(f'{script} {" ".join(arguments)} failed:\n{done.stdout}')
        return Usage(int(noted.read()) / 1024, seconds)


def measure_program(program: str) -> Usage:
    """Like `measure`, of the text of a program."""
    with tempfile.NamedTemporaryFile('w', suffix='.py') as file:
        file.write(program)
        file.flush()
        return measure(file.name)


def write_store(path: pathlib.Path, num_times: int) -> None:
    """Two upper-air variables at 13 levels, with statics; daily, noise."""
    rng = np.random.default_rng(0)
    shape = (len(LEVELS), NUM_LAT, NUM_LON)
    step = 180 / NUM_LAT
    place = {
        'level': list(LEVELS),
        'latitude': np.arange(90 - step / 2, -90, -step),
        'longitude': np.arange(0, 360, 360 / NUM_LON),
    }
    dims = ('time', 'level', 'latitude', 'longitude')
    means = {'temperature': (250.0, 5.0), 'geopotential': (0.0, 500.0)}
    heights = np.array([standard_geopotential(level) for level in LEVELS])
    for first in range(0, num_times, 100):
        times = np.datetime64('2000-01-01', 'ns') + np.arange(
            first, min(first + 100, num_times)
        ) * np.timedelta64(24, 'h')
        fields = {
            name: (
                dims,
                (
                    mean
                    + (heights[:, None, None] if name == 'geopotential' else 0)
                    + spread * rng.normal(size=(times.size, *shape))
                ).astype(np.float32),
            )
            for name, (mean, spread) in means.items()
        }
        part = xr.Dataset(fields, {'time': times, **place})
        if first:
            part.to_zarr(path, append_dim='time')
            continue
        flat = np.arange(NUM_LAT * NUM_LON, dtype=np.float32).reshape(shape[1:])
        part['geopotential_at_surface'] = dims[2:], flat
        part['land_sea_mask'] = dims[2:], (flat > 900).astype(np.float32)
        part.to_zarr(
            path,
            zarr_format=2,
            encoding={name: {'chunks': (1, *shape)} for name in fields}
            | {'time': {'units': 'hours since 2000-01-01', 'dtype': 'int64'}},
        )


def write_config(path: pathlib.Path, store: pathlib.Path, num_times: int) -> None:
    """An experiment on such a store."""
    last = np.datetime64('2000-01-01') + num_times - 1
    day = (str(last), str(last))
    config = {
        'data': {
            'store': str(store),
            'variables': {'temperature': LEVELS, 'geopotential': LEVELS},
            'train': ('2000-01-01', str(last)),
            'validation': day,
            'test': day,
            'preparation': str(path.parent / 'preparation'),
        },
        'grid': {'kind': 'equiangular', 'num_lat': NUM_LAT, 'num_lon': NUM_LON},
        'model': {'latent': {'kind': 'gauss', 'num_lat': 16, 'num_lon': 32}},
        'training': {'num_updates': 1},
        'prepare': {'max_gb': BOUNDS['prepare'] / 1024},
    }
    path.write_text(json.dumps(config))


def commands(folder: pathlib.Path, store: pathlib.Path) -> dict[str, list[str]]:
    """The command line of each task, in an order in which each can run."""
    config = f'--config={folder / "config.json"}'
    # On another grid, so that fields are regridded.
    gauss = [
        '--config.grid.kind=gauss',
        '--config.grid.num_lat=24',
        '--config.grid.num_lon=48',
    ]
    scripts = {
        'statistics': [
            'compute_statistics', config, f'--output={folder / "statistics.nc"}'
        ],
        'climatology': [
            'compute_climatology', f'--store={store}',
            f'--output={folder / "climatology.zarr"}',
        ],
        'prepare': [
            'prepare_data', config, *gauss, f'--source={store}',
            f'--output={folder / "prepared.zarr"}',
        ],
        'check': ['check_data', f'--store={store}'],
        'export': [
            'export_tfds', f'--store={store}', f'--output={folder / "examples"}'
        ],
    }  # fmt: skip
    return {
        task: [f'scripts/{script}.py', *arguments]
        for task, (script, *arguments) in scripts.items()
    }


def measure_times(
    folder: pathlib.Path, all_times: Sequence[int], tasks: Sequence[str]
) -> list[dict[str, Any]]:
    """Peaks of every task on stores of every length, a row each."""
    rows = []
    for num_times in all_times:
        place = folder / str(num_times)
        place.mkdir(parents=True)
        store = place / 'store.zarr'
        write_store(store, num_times)
        write_config(place / 'config.json', store, num_times)
        for task, command in commands(place, store).items():
            if task in tasks:
                used = measure(*command)
                print(f'{task}, {num_times} times: {used}', flush=True)
                rows.append({'task': task, 'num_times': num_times, **used._asdict()})
    return rows


def write_global_store(path: pathlib.Path, time_chunk: int) -> None:
    """Ten days, six-hourly, of one level at 721x1440."""
    rows, columns = np.linspace(90, -90, 721), np.arange(1440) / 4
    wave = np.cos(np.radians(rows))[:, None] * np.cos(np.radians(columns))
    for first in range(0, 40, 20):
        times = np.datetime64('2000-01-01', 'ns') + np.arange(
            first, first + 20
        ) * np.timedelta64(6, 'h')
        values = np.stack([wave + 280 + i for i in range(20)]).astype(np.float32)
        part = xr.Dataset(
            {'2m_temperature': (('time', 'latitude', 'longitude'), values)},
            {'time': times, 'latitude': rows, 'longitude': columns},
        )
        if first:
            part.to_zarr(path, append_dim='time')
            continue
        part.to_zarr(
            path,
            zarr_format=2,
            encoding={
                '2m_temperature': {'chunks': (time_chunk, 721, 1440)},
                'time': {'units': 'hours since 2000-01-01', 'dtype': 'int64'},
            },
        )


def measure_global(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Peaks of the climatology at 721x1440, a row for each bound and chunk."""
    rows = []
    for time_chunk in GLOBAL_CHUNKS:
        store = folder / f'global_{time_chunk}.zarr'
        write_global_store(store, time_chunk)
        for max_bytes in GLOBAL_BOUNDS:
            output = folder / 'climatology.zarr'
            program = (
                'from weather.data import climatology, store\n'
                f'fields = store.open_dataset({str(store)!r}, what="atmosphere")\n'
                f'climatology.write_climatology(fields, {str(output)!r}, '
                f'max_bytes={max_bytes})\n'
            )
            used = measure_program(program)
            shutil.rmtree(output)
            row = {'time_chunk': time_chunk, 'bound_mib': max_bytes // MIB}
            print(row, used, flush=True)
            rows.append({**row, **used._asdict()})
    return rows


def targets(result: dict[str, Any]) -> list[Target]:
    """What should be, of what was measured."""
    idle = result['idle']['peak_mib']
    found = []
    for task in dict.fromkeys(row['task'] for row in result['times']):
        peaks = [row['peak_mib'] for row in result['times'] if row['task'] == task]
        found += [
            Target(f'{task}: most times / fewest', peaks[-1] / peaks[0], GROWTH, '<='),
            Target(f'{task}: MiB above idle', max(peaks) - idle, BOUNDS[task], '<='),
        ]
    for row in result['global']:
        name = (
            f'climatology, 721x1440, {row["time_chunk"]} times a chunk, bound '
            f'{row["bound_mib"]}: MiB above idle'
        )
        found.append(
            # Chunks that are decoded and encoded stand beside the bound: see there.
            Target(name, row['peak_mib'] - idle, row['bound_mib'] * 1.1 + 256, '<=')
        )
    return found


def report(result: dict[str, Any]) -> str:
    """Tables of peaks and of targets."""
    rows = [
        [
            row['task'],
            str(row['num_times']),
            f'{row["peak_mib"]:.0f}',
            f'{row["seconds"]:.0f}',
        ]
        for row in [
            {'task': 'idle', 'num_times': '-', **result['idle']},
            *result['times'],
            *(
                {
                    'task': f'climatology 721x1440, bound {row["bound_mib"]} MiB, '
                    f'{row["time_chunk"]} times a chunk',
                    'num_times': 40,
                    **row,
                }
                for row in result['global']
            ),
        ]
    ]
    peaks = results.table(['task', 'times', 'peak MiB', 's'], rows)
    verdicts = results.table(
        ['target', 'measured', 'bound', 'verdict'],
        [target.row() for target in targets(result)],
    )
    return f'{peaks}\n\n{verdicts}'


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--folder', type=pathlib.Path, required=True)
    parser.add_argument('--times', type=flags.integers, default=(100, 1000))
    parser.add_argument('--tasks', default=','.join([*BOUNDS, 'global']))
    parser.add_argument('--output', type=pathlib.Path)
    parser.add_argument('--write', action='store_true', help='into RESULTS.md')
    options = parser.parse_args(arguments)
    tasks, folder = options.tasks.split(','), options.folder.resolve()
    result = {
        'machine': machine.describe(),
        'idle': measure_program(_IDLE)._asdict(),
        'times': measure_times(folder, options.times, tasks),
        'global': measure_global(folder) if 'global' in tasks else [],
    }
    text = report(result)
    print(text)
    if options.output:
        results.write_json(options.output, result)
    if options.write:
        line = flags.command('benchmarks.data_memory', sys.argv[1:])
        origin = results.provenance(machine.describe(), programs.versions(), line)
        results.replace_section('data_memory', f'{origin}\n\n{text}')


if __name__ == '__main__':
    main()
