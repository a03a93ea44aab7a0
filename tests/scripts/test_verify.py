"""The command says what is whole, what was changed, and ends with 1 where damage is."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from learning.checkpoint import Checkpoints
from tests.weather import tiny
from weather.workdir import Workdir

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def run(tmp_path):
    """A run with three checkpoints, that was made longer after the second."""
    (tmp_path / 'store.zarr').mkdir()
    files, setup = Workdir(tmp_path / 'run'), tiny.setup(tmp_path / 'store.zarr')
    files.claim(setup)
    for updates in ((3, 6), (9,)):
        with Checkpoints(files.checkpoints) as saved:
            for update in updates:
                items = {'forecast': {'w': np.arange(100.0)}}
                saved.save(update, items, {}, score=0.5)
        if 6 in updates:
            files.claim(setup.with_changes({'training.num_updates': 12}))
    return files


def verify(workdir):
    return subprocess.run(
        [sys.executable, 'scripts/verify.py', f'--workdir={workdir}'],
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_damage_is_named_and_the_status_says_so(run):
    done = verify(run.path)
    assert done.returncode == 0, done.stderr
    *checkpoints, changed = done.stdout.splitlines()
    assert [line.split()[:2] for line in checkpoints] == [
        ['3', 'whole,'],
        ['6', 'whole,'],
        ['9', 'whole,'],
    ]
    assert checkpoints[-1].endswith('used by a resume')
    assert changed.endswith('after update 6: training.num_updates: 9 -> 12')
    (run.checkpoints / '9' / 'metadata' / 'metadata').unlink()
    done = verify(run.path)
    assert done.returncode == 1
    assert '9  damaged: metadata/metadata is missing' in done.stdout
    assert 'of 3 checkpoints 1 are damaged: [9]' in done.stderr


def test_a_place_without_a_run_is_said_so(tmp_path):
    done = verify(tmp_path / 'nothing')
    assert done.returncode == 0 and 'no checkpoints in' in done.stdout
    assert not (tmp_path / 'nothing').exists()
