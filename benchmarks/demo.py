"""Skill and duration of the demo over several seeds.

    python -m benchmarks.demo --seeds=0,1,2,3 --folder=PATH [--output=JSON] [--write]

Each seed is a planet of its own (its noise), initial parameters and order of batches of
its own, trained and scored as `make demo` does, but for the climatology. The planet is
chaotic, so that the same seed is another atmosphere on another processor: one run says
little, the range says what to expect. Durations are those of an empty folder: a planet
and a training that are there already are not made again.
"""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import pandas as pd

from benchmarks import flags, machine, programs, results

ROOT = pathlib.Path(__file__).parents[1]
LEADS = (6, 24, 72, 120)
MODELS = ('spherecast', 'persistence')
# Name, unit, factor from SI: as the README's table has them.
FIELDS = {
    ('geopotential', 500): ('Z500', 'm2 s-2', 1, 0),
    ('temperature', 850): ('T850', 'K', 1, 2),
    ('specific_humidity', 700): ('Q700', 'g kg-1', 1000, 2),
    ('wind_vector', 850): ('wind vector 850', 'm s-1', 1, 2),
}


def run_demo(folder: pathlib.Path, seed: int) -> dict[str, float]:
    """Simulates, trains, forecasts and scores a seed; seconds that each stage took."""
    planet, forecasts = folder / 'planet.zarr', folder / 'forecasts'
    stages: dict[str, list[Any]] = {
        'simulate': ['--output', planet, '--days=780', f'--seed={seed}'],
        'train': [
            '--config=configs/demo.py',
            f'--workdir={folder}',
            f'--config.data.store={planet}',
            f'--config.training.seed={seed}',
        ],
        'forecast': [f'--workdir={folder}', f'--output={forecasts}', '--overwrite'],
        'evaluate': [
            f'--forecast={forecasts}',
            f'--truth={planet}',
            f'--output={folder / "scores.csv"}',
            # What the table shows: all channels would take longer.
            '--channels=headline',
            '--overwrite',
        ],
    }
    seconds = {}
    # Each a process, as in `make demo`: starting is a part of what it takes.
    for script, arguments in stages.items():
        began = time.perf_counter()
        command = [sys.executable, f'scripts/{script}.py', *map(str, arguments)]
        subprocess.run(command, cwd=ROOT, check=True)
        seconds[script] = time.perf_counter() - began
    return seconds


def read_rmse(
    scores: pathlib.Path, leads: Sequence[int] = LEADS
) -> list[dict[str, Any]]:
    """Global RMSE of the headline fields in the README's units, a row each."""
    table: Any = pd.read_csv(scores)
    table = table[(table.metric == 'rmse') & (table.region == 'global')]
    table = table[table.lead_time_hours.isin(leads) & table.model.isin(MODELS)]
    found = []
    for row in table.to_dict('records'):
        field = FIELDS.get((row['variable'], row['level']))
        if field is not None:
            name, _, factor, _ = field
            found.append(
                {
                    'model': row['model'],
                    'field': name,
                    'lead_hours': int(row['lead_time_hours']),
                    'rmse': row['value'] * factor,
                }
            )
    return found


def summarise(runs: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Smallest, mean and largest RMSE over seeds, by field and model and lead time."""
    rows = [{'seed': run['seed'], **row} for run in runs for row in run['rmse']]
    groups = pd.DataFrame(rows).groupby(['field', 'model', 'lead_hours'], sort=False)
    return groups.rmse.agg(['min', 'mean', 'max'])


def range_table(runs: Sequence[dict[str, Any]]) -> str:
    """The Markdown table: `min to max` of every field and model, lead by lead."""
    found: Any = summarise(runs)
    rows = []
    for name, unit, _, digits in FIELDS.values():
        for model in MODELS:
            cells = [found.loc[name, model, lead] for lead in LEADS]
            spans = [f'{c["min"]:.{digits}f} to {c["max"]:.{digits}f}' for c in cells]
            rows.append([f'{name}, {unit}, {model}', *spans])
    return results.table(['RMSE', *(f'{lead} h' for lead in LEADS)], rows)


def duration_table(runs: Sequence[dict[str, Any]]) -> str:
    """Seconds of each stage, seed by seed."""
    stages = list(runs[0]['seconds'])
    rows = [
        [str(run['seed']), *(f'{run["seconds"][stage]:.0f}' for stage in stages)]
        for run in runs
    ]
    return results.table(['seed', *(f'{stage} s' for stage in stages)], rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs every seed and reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seeds', type=flags.integers, default=(0, 1, 2, 3))
    parser.add_argument('--folder', type=pathlib.Path, required=True)
    parser.add_argument('--output', type=pathlib.Path)
    parser.add_argument('--write', action='store_true', help='into RESULTS.md')
    options = parser.parse_args(arguments)
    runs = []
    for seed in options.seeds:
        folder = options.folder.resolve() / str(seed)
        seconds = run_demo(folder, seed)
        rmse = read_rmse(folder / 'scores.csv')
        runs.append({'seed': seed, 'seconds': seconds, 'rmse': rmse})
    text = f'{range_table(runs)}\n\n{duration_table(runs)}'
    print(text)
    if options.output:
        results.write_json(
            options.output, {'machine': machine.describe(), 'runs': runs}
        )
    if options.write:
        line = flags.command('benchmarks.demo', sys.argv[1:])
        origin = results.provenance(machine.describe(), programs.versions(), line)
        results.replace_section('demo', f'{origin}\n\n{text}')


if __name__ == '__main__':
    main()
