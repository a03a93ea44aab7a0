"""Meshes of eight devices compute what one does, with the collectives that are meant.

All meshes in one process of their own, `on_meshes.py`: devices are counted once.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
FAST = ('2x4:sharded',)
SLOW = (
    '8x1:replicated',
    '8x1:sharded',
    '4x2:replicated',
    '4x2:sharded',
    '2x4:replicated',
    '1x8:replicated',
    '1x8:sharded',
)
# float32 sums in another order: each of a step's some hundred sums is off by a few
# 1e-7, and steps add up.
ROUND_OFF = 1e-5
# Adam divides a gradient by its own size, so that elements that are small among others
# of their array show the round-off of those.
OF_UPDATES = 1e-3
NUM_STEPS = 2
# Real and imaginary parts of a scalar, and of both components of a vector.
OF_SCALARS, OF_ALL = 2, 6
COLLAPSES = 3
# Of a step: to coefficients and back, and each phase collapse to the grid and back.
OF_STEP = 2 * OF_ALL + COLLAPSES * (OF_ALL + OF_SCALARS)


def found_on(cases):
    flags = {'XLA_FLAGS': '--xla_force_host_platform_device_count=8'}
    script = pathlib.Path(__file__).with_name('on_meshes.py')
    output = subprocess.run(
        [sys.executable, str(script), *cases],
        env={**os.environ, **flags, 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=900,
    ).stdout
    return json.loads(output.splitlines()[-1])


@pytest.fixture(scope='module')
def fast():
    return found_on(FAST)


@pytest.fixture(scope='module')
def slow():
    return found_on(SLOW)


def check_errors(found, case):
    errors = found[case]['errors']
    assert max(errors['forward'], errors['losses']) < ROUND_OFF, errors
    assert max(errors['weights'], errors['moments']) < OF_UPDATES, errors


def check_collectives(found, case):
    exchanges = 0 if '8x1' in case else NUM_STEPS * (3 * OF_STEP - OF_ALL)
    programs, kernels = found[case]['collectives'], found['kernels']
    assert programs['transform']['runs'] == (
        {'all-to-all': OF_ALL} if exchanges else {}
    )
    runs, largest = programs['update']['runs'], programs['update']['largest']
    assert set(runs) <= {'all-to-all', 'all-reduce', 'all-gather'}
    # Forward, anew (all but the last way to the grid), and backward.
    assert runs.get('all-to-all', 0) == exchanges
    # No field is gathered: kernels are, each once in an update, where they are split.
    assert runs.get('all-gather', 0) <= ('sharded' in case) * len(kernels)
    assert largest.get('all-gather', 0) <= max(kernels)
    # Sums: of the loss, of norms, and of gradients, of kernels once.
    assert largest['all-reduce'] <= 1.1 * sum(kernels)


def check_state(found, case):
    alone, here = found['alone']['state_bytes'], found[case]['state_bytes']
    assert here == alone if 'replicated' in case else here < alone / 4


@pytest.mark.parametrize('case', FAST)
def test_a_mesh_gives_the_losses_and_parameters_of_one_device(fast, case):
    check_errors(fast, case)


@pytest.mark.parametrize('case', FAST)
def test_programs_have_the_collectives_that_are_meant_and_no_others(fast, case):
    check_collectives(fast, case)


@pytest.mark.parametrize('case', FAST)
def test_a_sharded_state_takes_an_eighth_on_each_device(fast, case):
    check_state(fast, case)


@pytest.mark.slow
@pytest.mark.parametrize('case', SLOW)
def test_every_mesh_does_so_with_either_layout(slow, case):
    check_errors(slow, case)
    check_collectives(slow, case)
    check_state(slow, case)
