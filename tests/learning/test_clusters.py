"""Where a process stands: what flags, environment and cluster say of it."""

import pytest

from learning.clusters import Place, find

NAMES = ('JAX_COORDINATOR_ADDRESS', 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID')


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def slurm(monkeypatch, **changes):
    environment = {
        'SLURM_JOB_ID': '4096',
        'SLURM_STEP_NODELIST': 'node[07-10]',
        'SLURM_NTASKS': '4',
        'SLURM_PROCID': '2',
        'SLURM_LOCALID': '0',
        'SLURM_STEP_TASKS_PER_NODE': '1(x4)',
    }
    for name, value in (environment | changes).items():
        monkeypatch.setenv(name, value)


def test_a_machine_of_its_own_stands_alone():
    assert find() is None


def test_flags_say_which_place():
    place = find(coordinator='node1:8476', num_processes=4, process=3)
    assert place == Place('node1:8476', 4, 3)


def test_one_process_by_flags_stands_alone():
    assert find(num_processes=1) is None
    assert find(coordinator='node1:8476', num_processes=1, process=0) is None


def test_the_environment_says_which_place_and_flags_come_first(monkeypatch):
    for name, value in zip(NAMES, ('[::1]:1234', '2', '0'), strict=True):
        monkeypatch.setenv(name, value)
    assert find() == Place('[::1]:1234', 2, 0, source='the environment')
    assert find(coordinator='b:1', num_processes=3, process=2) == Place('b:1', 3, 2)


@pytest.mark.parametrize(
    'flags, message',
    [
        ({'process': 1}, '--coordinator, --num_processes is not given'),
        ({'coordinator': 'a:1', 'num_processes': 2, 'process': 2}, 'from 0 to 1'),
        ({'coordinator': 'a', 'num_processes': 2, 'process': 0}, 'HOST:PORT'),
        ({'num_processes': 2, 'process': 0}, '--coordinator is not given'),
    ],
)
def test_flags_that_do_not_fit_together_are_refused(flags, message):
    with pytest.raises(ValueError, match=message):
        find(**flags)


def test_slurm_is_recognised_and_a_process_that_has_a_machine_has_all_its_devices(
    monkeypatch,
):
    slurm(monkeypatch)
    place = find()
    assert (place.count, place.index, place.devices) == (4, 2, None)
    host, port = place.coordinator.split(':')
    assert host == 'node07' and 61440 <= int(port) < 65536


def test_a_process_that_shares_a_machine_has_the_device_of_its_number(monkeypatch):
    slurm(
        monkeypatch,
        SLURM_NTASKS='32',
        SLURM_PROCID='19',
        SLURM_LOCALID='3',
        SLURM_STEP_TASKS_PER_NODE='8(x4)',
    )
    assert find().devices == (3,)


def test_a_cluster_with_one_process_waits_for_nobody(monkeypatch):
    slurm(monkeypatch, SLURM_NTASKS='1', SLURM_PROCID='0')
    assert find() is None
