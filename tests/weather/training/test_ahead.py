"""Programs compiled ahead of time are those that training runs."""

import functools
import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest

from learning.sharding import make_mesh
from tests.weather.training.test_plan import experiment
from weather.training import ahead
from weather.training.loss import build_update

ROOT = pathlib.Path(__file__).resolve().parents[3]


@functools.cache
def compiled(**changes) -> ahead.Program:
    setup = experiment(**{key.replace('__', '.'): v for key, v in changes.items()})
    phase = list(ahead.phases(setup.training))[-1]
    return ahead.compile_update(
        setup, phase, make_mesh(setup.devices, jax.devices()[:1])
    )


@pytest.mark.slow  # Compiles with all optimisation.
def test_state_model_and_batch_are_the_arguments_of_the_program():
    setup = experiment()
    phase = list(ahead.phases(setup.training))[-1]
    model = ahead.abstract_model(setup)
    arguments = (
        ahead.abstract_state(setup, model, phase),
        model,
        ahead.abstract_batch(setup, phase),
    )
    program = build_update(setup, model, phase.stage).lower(*arguments).compile()
    memory = program.memory_analysis()
    found = compiled()
    # What is not used, such as statics where there are none, is not passed.
    total = found.state + found.model + found.batch
    assert total == pytest.approx(memory.argument_size_in_bytes, rel=0.01)
    # Machine code that is not optimised holds what optimised holds.
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    assert found.workspace == memory.temp_size_in_bytes + results


def test_a_step_that_is_computed_anew_costs_time_and_saves_memory():
    kept, anew = compiled(model__remat='none'), compiled()
    assert anew.workspace < 0.7 * kept.workspace
    # Forward, anew, and backward, which is twice: four in place of three.
    assert 1.1 < anew.flops.matmul / kept.flops.matmul < 1.4


def test_a_batch_in_parts_needs_the_workspace_of_a_part():
    whole, parts = compiled(), compiled(training__accumulate=4)
    assert parts.workspace < 0.6 * whole.workspace
    assert parts.flops.matmul == pytest.approx(whole.flops.matmul, rel=0.05)
    assert (parts.state, parts.batch) == (whole.state, whole.batch)


def test_rollouts_that_go_on_are_part_of_the_state():
    again = compiled(training__curriculum=((0, 1),), training__replay=3)
    once = compiled(training__curriculum=((0, 1),))
    states = 3 * 8 * (8 * 16 * 6) * 4  # Slots, batch, points and channels.
    assert again.state - once.state == states


@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'changes', 'number'),
    [
        ('demo', {}, 1),
        ('ncep_sample', {}, 1),
        ('era5_64x32', {'training.batch_size': 2, 'training.curriculum': ((0, 2),)}, 0),
    ],
)
def test_memory_is_within_15_percent_of_that_of_real_updates(
    tmp_path, name, changes, number
):
    from learning.config_flags import read_config_file
    from weather.experiment import Experiment

    entries = read_config_file(str(ROOT / f'configs/{name}.py'))
    setup = Experiment.from_config(entries).with_changes(changes)
    config = tmp_path / 'config.json'
    config.write_text(setup.to_json())
    # The C library otherwise keeps, for itself, pages that nobody uses.
    keeps_nothing = {
        'MALLOC_MMAP_THRESHOLD_': '65536',
        'MALLOC_TRIM_THRESHOLD_': '65536',
        'PYTHONPATH': str(ROOT),
        'JAX_PLATFORMS': 'cpu',
    }
    script = str(ROOT / 'tests/weather/training/peak.py')
    done = subprocess.run(
        [sys.executable, script, str(config), str(number)],
        env=os.environ | keeps_nothing,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    planned, grown = found['planned'] / 2**20, found['grown'] / 2**20
    print(f'{name}: planned {planned:.0f} MiB, measured {grown:.0f} MiB')
    assert planned == pytest.approx(grown, rel=0.15)
