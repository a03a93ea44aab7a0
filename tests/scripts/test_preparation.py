"""The commands that prepare: what they replace, what they find, what they leave."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests.weather import tiny
from weather.workdir import Workdir

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A run directory without a training, and how its commands are called."""
    folder = tmp_path_factory.mktemp('preparing')
    tiny.write_store(folder / 'store.zarr')
    setup = tiny.setup(folder / 'store.zarr')
    Workdir(folder / 'run').claim(setup)
    config = folder / 'config.json'
    config.write_text(json.dumps(setup.to_dict()))

    def call(script, *flags):
        return subprocess.run(
            [sys.executable, f'scripts/{script}', *flags],
            cwd=ROOT,
            env={
                **os.environ,
                'PYTHONPATH': str(ROOT),
                'SPHERECAST_PREPARATION': str(folder / 'shelf'),
            },
            capture_output=True,
            text=True,
            timeout=120,
        )

    call.folder = folder
    call.config = f'--config={config}'
    return call


def test_statistics_are_replaced_only_when_asked_for(run):
    flags = run.config, f'--output={run.folder / "statistics.nc"}'
    first = run('compute_statistics.py', *flags)
    assert first.returncode == 0, first.stderr
    assert '28 times, 2001-01-01 to 2001-01-07' in first.stdout
    assert 'reading' in first.stderr
    again = run('compute_statistics.py', *flags)
    assert again.returncode == 1
    assert 'say --overwrite to replace it' in again.stderr
    anew = run('compute_statistics.py', *flags, '--overwrite')
    assert anew.returncode == 0, anew.stderr
    assert 'reading' in anew.stderr


def test_statistics_never_replace_what_is_not_theirs(run):
    notes = run.folder / 'notes.nc'
    notes.write_text('do not lose me')
    for path in (notes, run.folder):
        flags = run.config, f'--output={path}', '--overwrite'
        done = run('compute_statistics.py', *flags)
        assert done.returncode == 1
        assert 'Traceback' not in done.stderr
    assert notes.read_text() == 'do not lose me'
    assert (run.folder / 'store.zarr' / '.zgroup').exists()


def test_the_climatology_of_a_run_is_found_where_it_is(run):
    flags = ('compute_climatology.py', f'--workdir={run.folder / "run"}')
    first, again = run(*flags), run(*flags)
    assert first.returncode == again.returncode == 0, first.stderr + again.stderr
    assert 'written to' in first.stdout
    assert 'is that of the same data already' in again.stdout
