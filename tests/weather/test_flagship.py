"""The flagship runs at full size on two cores and in the memory of a laptop."""

import json
import os
import subprocess
import sys

import pytest

MEMORY_GIB = 20


@pytest.mark.slow
def test_the_flagship_trains_and_forecasts_within_20_gib():
    done = subprocess.run(
        [sys.executable, '-m', 'tests.weather.flagship'],
        env={**os.environ, 'PYTHONPATH': '.', 'JAX_PLATFORMS': 'cpu'},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    report = json.loads(done.stdout.splitlines()[-1])
    assert report['updates'] == 1
    assert report['finite']
    assert report['shape'] == [1, 256, 256, 78]
    assert report['peak_gib'] < MEMORY_GIB
    # A new model forecasts persistence; of white noise of variance one that is wrong
    # by variance two, in units of a tendency of variance 0.01.
    assert 190 < report['loss'] < 210
