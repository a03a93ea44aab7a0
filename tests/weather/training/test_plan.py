"""Plans: what is added up is what it is made of; programs are made up here."""

import dataclasses
import math
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from learning.flops import Flops
from learning.update import init_train_state
from tests.weather import tiny
from weather.data.loader import GIGABYTE, Loader
from weather.data.store import open_atmosphere
from weather.data.windows import WindowIndex
from weather.experiment import Experiment
from weather.model.forecaster import Forecaster
from weather.training.ahead import Program, phases
from weather.training.plan import (
    GIB,
    Machine,
    host_bytes,
    make_plan,
    read_bytes,
    with_mesh,
)
from weather.training.plan_text import describe, verdict
from weather.training.proposals import propose

LEVELS = (500, 850)
CONFIG = {
    'data': {
        'store': 'none.zarr',
        'variables': {
            'geopotential': LEVELS,
            'u_component_of_wind': LEVELS,
            'v_component_of_wind': LEVELS,
        },
        'statics': [],
        'train': ('2001-01-01', '2001-12-31'),
        'validation': ('2002-01-01', '2002-01-31'),
        'test': ('2003-01-01', '2003-01-31'),
        'cache_gb': 0.0,
        'prefetch_gb': 0.0,
        'num_threads': 3,
    },
    'grid': {'kind': 'gauss', 'num_lat': 8, 'num_lon': 16},
    'model': {
        'latent': {'kind': 'gauss', 'num_lat': 8, 'num_lon': 16},
        'scalar_channels': 4,
        'vector_channels': 4,
        'num_blocks': 1,
        'num_knots': 3,
    },
    'training': {
        'num_updates': 100,
        'batch_size': 8,
        'curriculum': ((0, 1), (60, 3)),
        'warmup_updates': 0,
    },
}
SLAB = 4 * 8 * 16 * len(LEVELS)  # Bytes of a variable at one time.


def experiment(**changes) -> Experiment:
    return Experiment.from_config(CONFIG).with_changes(changes)


def made_up(setup, phase, mesh) -> Program:
    """A program whose workspace grows with steps and with rows at a time."""
    settings = phase.settings
    rows = settings.batch_size / settings.accumulate / mesh.shape['data']
    kept = 10 if setup.model.remat == 'none' else 1
    workspace = int(kept * rows * phase.num_steps / mesh.shape['space'] * 2**20)
    flops = settings.batch_size * phase.num_steps * 1e9
    return Program(2**20, 0, 2**18, workspace, Flops(flops, 0.0, flops / 10))


def plan(setup=None, **machine):
    return make_plan(setup or experiment(), Machine(**machine), made_up)


def test_every_length_of_every_stage_is_a_phase():
    setup = experiment(
        **{'training.stages': [{'num_updates': 30, 'curriculum': ((0, (2, 4)),)}]}
    )
    found = [
        (p.stage.number, p.num_steps, p.num_updates) for p in phases(setup.training)
    ]
    assert found == [(1, 1, 60), (1, 3, 40), (2, 2, 15), (2, 4, 15)]


def test_steps_without_a_gradient_are_of_the_rollout():
    (first, _) = phases(experiment(**{'training.pushforward': 2}).training)
    assert first.num_steps == 3


def test_updates_beyond_the_last_are_no_phase():
    found = list(phases(experiment(**{'training.num_updates': 60}).training))
    assert [phase.num_updates for phase in found] == [60]


def test_an_update_reads_every_field_at_every_time_of_its_windows():
    first, second = (needs.read_bytes for needs in plan().needs)
    assert first == 8 * 2 * 3 * SLAB
    assert second == 8 * 4 * 3 * SLAB


def test_the_loader_holds_what_it_says_itself(tmp_path):
    path = tmp_path / 'tiny.zarr'
    tiny.write_store(path)
    setup = tiny.setup(path)
    atmosphere = open_atmosphere(
        str(path),
        levels=setup.data.stored.levels,
        statics=setup.data.statics,
        grid=setup.grid,
    )
    loader = Loader(
        atmosphere,
        WindowIndex(atmosphere.times, period=setup.data.train),
        batch_size=setup.training.batch_size,
        seed=0,
        cache_bytes=int(setup.data.cache_gb * GIGABYTE),
        prefetch_bytes=int(setup.data.prefetch_gb * GIGABYTE),
        num_threads=setup.data.num_threads,
    )
    for phase in phases(setup.training):
        planned = host_bytes(setup, phase, Machine())
        # Chunks of that store are a time of a variable each, as is assumed.
        assert planned == loader.most_bytes(phase.num_steps)


def test_processes_share_what_is_read():
    phase = next(phases(experiment().training))
    one, four = (
        host_bytes(experiment(), phase, Machine(num_devices=n, devices_per_process=2))
        for n in (2, 8)
    )
    batch = read_bytes(experiment(), phase)
    assert one - four == 3 * (batch - batch // 4)


def test_a_checkpoint_is_what_training_saves():
    setup = experiment()
    model = Forecaster.without_data(setup)
    state = init_train_state(model.init(jax.random.key(0)), setup.training)
    training = state.update, state.weights, state.optimizer
    saved = jax.tree.leaves((training, model.items(state.average)))
    found = plan()
    assert found.checkpoint_bytes == sum(np.asarray(leaf).nbytes for leaf in saved)
    assert found.num_parameters == model.num_parameters


def test_time_is_operations_over_what_devices_reach():
    found = plan(peak_tflops=2e-3, utilisation=0.5)
    first, second = found.needs
    # 8 GFLOP at half of 2 GFLOP/s.
    assert first.seconds == pytest.approx(8.0)
    assert second.seconds == pytest.approx(24.0)
    assert found.days == pytest.approx((60 * 8 + 40 * 24) / 86400)


def test_a_measured_rate_is_that_of_the_first_phase():
    first, second = plan(rate=4.0).needs
    assert (first.seconds, second.seconds) == pytest.approx((0.25, 0.75))


def test_an_update_takes_no_less_than_the_reading_of_its_batch():
    first, second = plan(rate=4.0, read_mb_per_s=second_rate(0.5)).needs
    # The first phase reads 2 times, the second 4, in half a second and in one.
    assert (first.seconds, second.seconds) == pytest.approx((0.5, 1.0))


def second_rate(seconds: float) -> float:
    """Decoded MB per second with which the first phase is read in some seconds."""
    return plan().needs[0].read_bytes / seconds / 1e6


def test_cost_is_that_of_all_devices():
    found = plan(rate=4.0, price_per_hour=3600.0)
    assert found.cost == pytest.approx(60 * 0.25 + 40 * 0.75)
    assert plan(rate=4.0).cost is None and plan(price_per_hour=1.0).cost is None


def test_two_batches_are_on_a_device():
    assert made_up_total(workspace=5) == 1 + 2 + 2 * 3 + 5


def made_up_total(workspace: int) -> int:
    return Program(1, 2, 3, workspace, Flops()).total


def test_the_longest_rollout_decides_whether_it_fits():
    needed = plan().largest.program.total
    assert plan(hbm_gib=needed / GIB).fits
    assert not plan(hbm_gib=0.99 * needed / GIB).fits


def test_the_text_has_every_phase_and_the_sums():
    found = plan(rate=4.0, price_per_hour=3600.0)
    text = describe(found)
    for part in (
        '60',
        '40',
        'from 4 updates/s',
        'cost: 45',
        'mesh 1 x 1',
        '100 updates',
    ):
        assert part in text
    assert 'time: unknown' in describe(plan())


def test_a_mesh_is_written_as_two_numbers():
    setup = with_mesh(experiment(), '4x2')
    assert (setup.devices.data, setup.devices.space) == (4, 2)
    assert with_mesh(setup, None) is setup
    with pytest.raises(ValueError, match='DATAxSPACE, such as 32x8, got .8'):
        with_mesh(experiment(), '8')


def wanted(found, fraction):
    """The same plan for devices with a fraction of the memory that is needed."""
    limit = fraction * found.largest.program.total / GIB
    return dataclasses.replace(
        found, machine=dataclasses.replace(found.machine, hbm_gib=limit)
    )


def test_what_learns_the_same_is_proposed_first():
    refused = wanted(plan(experiment(**{'model.remat': 'none'})), 0.5)
    proposal = propose(refused, made_up)
    assert proposal.fits
    assert proposal.changes == {'model.remat': 'step'}
    assert proposal.flags == '--config.model.remat=step'


EIGHT_DEVICES = """
import jax
jax.config.update('jax_num_cpu_devices', 8)
from tests.weather.training.test_plan import *
found = make_plan(experiment(), Machine(num_devices=8), halves)
print(propose(wanted(found, 0.9), halves).flags)
"""


def test_no_more_is_proposed_than_is_needed():
    # A sample may be split four times on eight devices; twice is enough.
    done = subprocess.run(
        [sys.executable, '-c', EIGHT_DEVICES],
        cwd=pathlib.Path(__file__).parents[3],
        env=os.environ | {'PYTHONPATH': '.', 'JAX_PLATFORMS': 'cpu'},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == '--config.devices.data=4 --config.devices.space=2\n'


def halves(setup, phase, mesh):
    return Program(0, 0, 0, 2**20 // setup.devices.space, Flops(1.0))


def test_a_batch_in_parts_is_proposed_with_the_fewest_parts_that_fit():
    proposal = propose(wanted(plan(), 0.4), made_up)
    assert proposal.changes == {'training.accumulate': 4}
    assert proposal.fits
    text = verdict(wanted(plan(), 0.4), proposal)
    assert text.startswith('expected at most ')
    assert text.endswith('with --config.training.accumulate=4')


def test_a_later_stage_is_changed_where_it_stands():
    setup = experiment(
        **{'training.stages': [{'num_updates': 30, 'curriculum': ((0, 6),)}]}
    )
    proposal = propose(wanted(plan(setup), 0.4), made_up)
    (stage,) = proposal.changes['training.stages']
    assert (stage['num_updates'], stage['accumulate']) == (30, 4)
    assert "stages='[{" in proposal.flags  # For a shell.
    assert (
        setup.with_changes(proposal.changes).training.plan()[1].settings.accumulate == 4
    )


def test_where_nothing_fits_the_nearest_is_told():
    refused = wanted(plan(), 0.01)
    proposal = propose(refused, made_up)
    assert not proposal.fits
    assert 'nothing' not in verdict(refused, proposal)
    assert 'the nearest are' in verdict(refused, proposal)
    assert math.isclose(
        proposal.program.total, min(made_up_sizes(refused)), rel_tol=1e-9
    )


def made_up_sizes(found):
    """With every number of parts."""
    for parts in (1, 2, 4, 8):
        setup = found.setup.with_changes({'training.accumulate': parts})
        yield make_plan(setup, found.machine, made_up).largest.program.total
