"""Rollouts of three days in one update beside rollouts of ten days over many.

    python -m benchmarks.long_rollouts --seeds=0,1 --folder=PATH [--updates=60] \
        [--output=JSON] [--write]

The demo is trained as it is, and its run then gets another stage, in copies: updates
of twelve steps each; updates of one step whose rollouts go on to forty (`replay`),
as many of them; and these again, as many as fit into the time that the first took. All
are forecast to ten days and scored. A folder holds what is there already.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from benchmarks import demo, flags, machine, programs, results

LEADS = (24, 72, 120, 240)
LEARNING_RATE = 4e-4
THREE_DAYS = {'curriculum': ((0, 12),)}
TEN_DAYS = {'curriculum': ((0, 1),), 'replay': 4, 'replay_steps': 40}


def stage(num_updates: int, rollouts: Mapping[str, Any]) -> str:
    """The flag that adds a stage to the demo."""
    entries = {
        'num_updates': num_updates,
        'learning_rate': LEARNING_RATE,
        'warmup_updates': 10,
        **rollouts,
    }
    return f'--config.training.stages=({entries!r},)'


def script(name: str, *arguments: Any) -> None:
    """Runs a script of the project."""
    command = [sys.executable, f'scripts/{name}.py', *map(str, arguments)]
    subprocess.run(command, cwd=demo.ROOT, check=True)


def go_on(base: pathlib.Path, folder: pathlib.Path, seed: int, added: str) -> float:
    """Trains a copy of a run for another stage; seconds without the start."""
    if not folder.exists():
        shutil.copytree(
            base, folder, ignore=shutil.ignore_patterns('planet.zarr', 'forecasts')
        )
    script(
        'train',
        '--config=configs/demo.py',
        f'--workdir={folder}',
        f'--config.data.store={base / "planet.zarr"}',
        f'--config.training.seed={seed}',
        # Validation of twelve steps would be a part of the time.
        '--config.training.validate_every=1000000',
        '--config.training.log_every=10',
        added,
    )
    return seconds_of_updates(folder)


def seconds_of_updates(folder: pathlib.Path) -> float:
    """Seconds that an update of the last stage took: the median of the log."""
    table: Any = pd.read_csv(folder / 'metrics.csv')
    last = json.loads((folder / 'config.json').read_text())['training']
    table = table[(table.name == 'updates_per_second')]
    table = table[table['update'] > last['num_updates']]
    return float(1 / table['value'].median())


def score(base: pathlib.Path, folder: pathlib.Path) -> list[dict[str, Any]]:
    """RMSE of the headline fields of forecasts to ten days."""
    forecasts, scores = folder / 'forecasts', folder / 'scores.csv'
    script(
        'forecast',
        f'--workdir={folder}',
        f'--output={forecasts}',
        f'--lead_hours={LEADS[-1]}',
        '--overwrite',
    )
    script(
        'evaluate',
        f'--forecast={forecasts}',
        f'--truth={base / "planet.zarr"}',
        f'--output={scores}',
        '--channels=headline',
        '--overwrite',
    )
    return demo.read_rmse(scores, leads=LEADS)


def run_seed(folder: pathlib.Path, seed: int, updates: int) -> list[dict[str, Any]]:
    """All ways of going on, of one seed."""
    base = folder / 'demo'
    if not (base / 'scores.csv').exists():
        demo.run_demo(base, seed)
    found = [{'way': 'demo', 'updates': 0, 'seconds': 0.0, 'rmse': score(base, base)}]
    three = _way('three days', base, folder / 'three', seed, updates, THREE_DAYS)
    ten = _way('ten days', base, folder / 'ten', seed, updates, TEN_DAYS)
    as_long = round(three['seconds'] / (ten['seconds'] / updates))
    longer = _way(
        'ten days, equal time', base, folder / 'longer', seed, as_long, TEN_DAYS
    )
    return [{'seed': seed, **way} for way in (*found, three, ten, longer)]


def _way(
    name: str,
    base: pathlib.Path,
    folder: pathlib.Path,
    seed: int,
    updates: int,
    rollouts: Mapping[str, Any],
) -> dict[str, Any]:
    began = time.perf_counter()
    each = go_on(base, folder, seed, stage(updates, rollouts))
    return {
        'way': name,
        'updates': updates,
        'seconds': each * updates,
        'wall_seconds': time.perf_counter() - began,
        'rmse': score(base, folder),
    }


def report(runs: Sequence[dict[str, Any]]) -> str:
    """RMSE of Z500 and T850 by way and lead time, over seeds."""
    rows = []
    for field, unit, digits in (('Z500', 'm2 s-2', 0), ('T850', 'K', 2)):
        for way in dict.fromkeys(run['way'] for run in runs):
            of_way = [run for run in runs if run['way'] == way]
            cells = []
            for lead in LEADS:
                values = [
                    row['rmse']
                    for run in of_way
                    for row in run['rmse']
                    if (row['model'], row['field'], row['lead_hours'])
                    == ('spherecast', field, lead)
                ]
                cells.append(' / '.join(f'{value:.{digits}f}' for value in values))
            updates = ' / '.join(str(run['updates']) for run in of_way)
            seconds = ' / '.join(f'{run["seconds"]:.0f}' for run in of_way)
            rows.append([f'{field}, {unit}', way, updates, seconds, *cells])
    heads = ['RMSE, seed by seed', 'added', 'updates', 'seconds']
    return results.table([*heads, *(f'{lead} h' for lead in LEADS)], rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs every seed and reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seeds', type=flags.integers, default=(0, 1))
    parser.add_argument('--updates', type=int, default=60)
    parser.add_argument('--folder', type=pathlib.Path, required=True)
    parser.add_argument('--output', type=pathlib.Path)
    parser.add_argument('--write', action='store_true', help='into RESULTS.md')
    options = parser.parse_args(arguments)
    runs = []
    for seed in options.seeds:
        folder = options.folder.resolve() / str(seed)
        runs += run_seed(folder, seed, options.updates)
    text = report(runs)
    print(text)
    if options.output:
        results.write_json(
            options.output, {'machine': machine.describe(), 'runs': runs}
        )
    if options.write:
        line = flags.command('benchmarks.long_rollouts', sys.argv[1:])
        origin = results.provenance(machine.describe(), programs.versions(), line)
        results.replace_section('long_rollouts', f'{origin}\n\n{text}')


if __name__ == '__main__':
    main()
