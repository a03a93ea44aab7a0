"""The command that plans, on programs that are really compiled."""

import os
import subprocess
import sys

import pytest

from launching.launch import CHECKOUT
from tests.weather.training.test_plan import experiment

SCRIPT = str(CHECKOUT / 'scripts/plan.py')


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp('plan') / 'config.json'
    # One phase, so that one program is compiled.
    setup = experiment(**{'training.curriculum': ((0, 2),)})
    path.write_text(setup.to_json())
    return str(path)


def plan(config, *flags):
    return subprocess.run(
        [sys.executable, SCRIPT, f'--config={config}', *flags],
        env=os.environ | {'PYTHONPATH': str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_cannot_fit_is_refused_with_what_does(config):
    done = plan(config, '--config.model.remat=none', '--hbm_gib=0.0015')
    assert done.returncode == 1
    assert 'device GiB' in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith('error: expected at most 0.0015 GiB on a device, got 0.00')
    # The proposal is followed to the letter.
    proposed = [word for word in line.split() if word.startswith('--config.')]
    assert proposed
    again = plan(config, '--config.model.remat=none', '--hbm_gib=0.0015', *proposed)
    assert again.returncode == 0, again.stderr


def test_devices_are_made_of_a_cpu_and_an_impossible_mesh_is_refused(config):
    done = plan(config, '--devices=4', '--mesh=4x1', '--rate=2')
    assert done.returncode == 0, done.stderr
    assert '4 devices in 1 processes, mesh 4 x 1' in done.stdout
    assert 'from 2 updates/s' in done.stdout
    done = plan(config, '--devices=4', '--mesh=3x1')
    assert done.returncode == 1
    assert '4 x 1, 2 x 2, 1 x 4' in done.stderr
