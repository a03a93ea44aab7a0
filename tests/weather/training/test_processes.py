"""Several processes train as one does, and end and go on together."""

import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from configs import demo
from tests import several
from tests.weather import tiny
from tests.weather.training.test_trainer import OTHER_ORDER, checkpointed, read_metrics
from weather.experiment import Experiment
from weather.workdir import Workdir

# What is trained with, digests of the windows by update, for each process.
RECORD = """
import json, sys
from learning import clusters, processes
from tests.weather import tiny
from weather.experiment import Experiment
from weather.training import task, trainer

store, workdir, space, address, count, index = sys.argv[1:]
digests = []
place = task.WeatherTask._place

def recorded(self, batch):
    digests.append(batch.digests())
    return place(self, batch)

task.WeatherTask._place = recorded
mine = clusters.find(coordinator=address, num_processes=int(count), process=int(index))
entries = tiny.entries(store)
entries['devices'] = {'space': int(space)}
# One length of rollouts: compilation is what takes long.
entries['training'] |= {
    'num_updates': 4, 'curriculum': ((0, 1),), 'log_every': 2, 'validate_every': 4
}
with processes.connected(mine):
    trainer.train(Experiment.from_config(entries), workdir)
with open(f'{workdir}-{index}.json', 'w') as file:
    json.dump(digests, file)
"""


@pytest.fixture(scope='module')
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp('store') / 'tiny.zarr'
    tiny.write_store(path)
    return path


def trained(store, folder, count, *, devices=1, space=1):
    """Trains with so many processes; returns the workdir, and outputs."""
    workdir = folder / f'by_{count}'
    started = several.start(
        count, '-c', RECORD, store, workdir, space, flags=False, devices=devices
    )
    printed = several.outputs(started)
    assert [process.returncode for process in started] == [0] * count, printed
    return workdir, printed


def digests(workdir, count):
    """Of each batch, in order, those of its windows, of all processes."""
    files = [workdir.with_name(f'{workdir.name}-{n}.json') for n in range(count)]
    of_each = [json.loads(file.read_text()) for file in files]
    return [sum(parts, []) for parts in zip(*of_each, strict=True)]


@pytest.fixture(scope='module')
def alone(store, tmp_path_factory):
    return trained(store, tmp_path_factory.mktemp('alone'), 1)[0]


def assert_alike(workdir, alone):
    expected, found = checkpointed(alone), checkpointed(workdir)
    assert expected.keys() == found.keys()
    for name in expected:
        np.testing.assert_allclose(
            found[name], expected[name], **OTHER_ORDER, err_msg=name
        )
    names = [(update, name) for update, name, _ in read_metrics(alone)]
    assert [(update, name) for update, name, _ in read_metrics(workdir)] == names


def test_two_processes_train_like_one_on_the_same_batches(store, alone, tmp_path):
    workdir, (first, second) = trained(store, tmp_path, 2)
    assert digests(workdir, 2) == digests(alone, 1)
    assert_alike(workdir, alone)
    assert 'devices: 2 cpu of 2 processes' in first and 'update 4/4' in first
    # Gloo, below JAX, says how many it has met.
    lines = [line for line in second.splitlines() if 'Gloo' not in line]
    assert lines == []


@pytest.mark.slow
def test_four_processes_train_like_one_on_the_same_batches(store, alone, tmp_path):
    workdir, _ = trained(store, tmp_path, 4, devices=2)
    assert digests(workdir, 4) == digests(alone, 1)
    assert_alike(workdir, alone)


@pytest.mark.slow
def test_processes_that_share_windows_by_latitude_train_like_one(
    store, alone, tmp_path
):
    workdir, (first, _) = trained(store, tmp_path, 2, space=2)
    assert 'mesh 1 data x 2 space' in first
    assert_alike(workdir, alone)


def begin(store, workdir, count, **training):
    config = workdir.with_suffix('.json')
    config.write_text(tiny.setup(store, **training).to_json())
    return several.start(
        count,
        'scripts/train.py',
        f'--config={config}',
        f'--workdir={workdir}',
        '--heartbeat_timeout=20',
    )


def wait_for(workdir, started, update):
    """Waits until so many updates are saved."""
    folder, deadline = Workdir(workdir).checkpoints, time.monotonic() + several.PATIENCE
    while not any(int(p.name) >= update for p in folder.glob('*[0-9]')):
        assert all(process.poll() is None for process in started)
        assert time.monotonic() < deadline
        time.sleep(0.05)


LONG = dict(num_updates=3000, checkpoint_every=20, log_every=100, validate_every=3000)


@pytest.mark.slow
def test_a_signal_to_one_and_the_death_of_one_stop_all_which_then_go_on(
    store, tmp_path
):
    workdir = tmp_path / 'run'
    started = begin(store, workdir, 2, **LONG)
    wait_for(workdir, started, 20)
    started[1].send_signal(signal.SIGTERM)
    printed = several.outputs(started)
    assert [process.returncode for process in started] == [143, 143], printed
    stops = [re.findall(r'stopped by .* after update (\d+)', p) for p in printed]
    assert len(stops[0]) == 1 and stops[0] == stops[1], printed
    assert (Workdir(workdir).checkpoints / stops[0][0]).is_dir()

    started = begin(store, workdir, 2, **LONG)
    wait_for(workdir, started, int(stops[0][0]) + 20)
    started[1].kill()
    printed = several.outputs(started)
    assert started[0].returncode == 75, printed
    assert f'resuming after update {stops[0][0]}' in printed[0]
    (line,) = [line for line in printed[0].splitlines() if 'is gone' in line]
    assert line.startswith('process 1 (pid ') and 'same command' in line
    assert 'Check failure' not in printed[0] and 'Traceback' not in printed[0]

    # By another number of processes, as it happens.
    newest = max(int(p.name) for p in Workdir(workdir).checkpoints.glob('*[0-9]'))
    started = begin(store, workdir, 1, **LONG)
    wait_for(workdir, started, newest + 20)
    started[0].send_signal(signal.SIGTERM)
    (output,) = several.outputs(started)
    assert f'resuming after update {newest}' in output, output


@pytest.mark.slow
def test_two_and_four_processes_train_the_demo_like_one(tmp_path):
    """With the demo's network and data, for some updates, a longer rollout included."""
    planet, config = tmp_path / 'planet.zarr', tmp_path / 'demo.json'
    command = [sys.executable, 'scripts/simulate.py', f'--output={planet}', '--days=40']
    subprocess.run(command, cwd=several.ROOT, check=True, capture_output=True)
    entries = demo.get_config().to_dict()
    entries['data'] |= {
        'store': str(planet),
        'train': ('2001-01-01', '2001-01-25'),
        'validation': ('2001-01-28', '2001-01-31'),
        'test': ('2001-02-02', '2001-02-05'),
    }
    entries['training'] |= {
        'num_updates': 6,
        'curriculum': ((0, 1), (4, 2)),
        'log_every': 2,
        'validate_every': 6,
        'checkpoint_every': 3,
    }
    config.write_text(Experiment.from_config(entries).to_json())
    values = []
    for count in (1, 2, 4):
        workdir = tmp_path / f'by_{count}'
        arguments = f'--config={config}', f'--workdir={workdir}'
        started = several.start(count, 'scripts/train.py', *arguments)
        printed = several.outputs(started)
        assert [process.returncode for process in started] == [0] * count, printed
        arrays = checkpointed(workdir)
        values.append(np.concatenate([a.ravel() for a in arrays.values()]))
    for found in values[1:]:
        np.testing.assert_allclose(found, values[0], **OTHER_ORDER)
