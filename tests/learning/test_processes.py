"""Several processes: what they agree on, and how they end when one of them is gone."""

import re
import signal
import time

import pytest

from learning import processes
from learning.hub import Hub, Timeouts
from learning.profiling import Profile
from learning.seat import AbsentError, Seat
from tests import several

# Joins, agrees, and does what it is told: by its number, or to all.
ACT = """
import os, signal, sys, time
from absl import flags
from learning import command_line, process_flags
_ACT = flags.DEFINE_string('act', '', '')

def main():
    from learning import processes
    with process_flags.connected():
        import jax
        index = processes.index()
        assert jax.device_count() == processes.count() == jax.process_count()
        assert processes.agree([index == 1, False]) == [True, False]
        assert processes.from_first({'newest': index}) == {'newest': 0}
        assert processes.gather(index, channel='x') == list(range(processes.count()))
        processes.barrier('met')
        print('met')
        who, _, act = _ACT.value.partition(':')
        if act and who == str(index):
            if act == 'fail':
                raise ValueError('nothing\\nto read')
            if act == 'wait':
                processes.agree([False])
                time.sleep(100)
            os.kill(os.getpid(), getattr(signal, act))
        if act:
            while True:
                processes.agree([False])
                time.sleep(0.01)

command_line.execute(main)
"""


@pytest.fixture(scope='module')
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp('script') / 'act.py'
    path.write_text(ACT)
    return path


def run(script, act='', *arguments, count=2, which=None):
    """Statuses, and lines that are not Gloo's."""
    started = several.start(
        count,
        script,
        f'--act={act}',
        '--heartbeat_timeout=30',
        *arguments,
        which=which,
    )
    if 'SIGSTOP' in act:
        stopped = started[int(act[0])]
        others = [one for one in started if one is not stopped]
        printed = several.outputs(others)
        stopped.kill()
        stopped.communicate()
    else:
        others = started
        printed = several.outputs(started)
    lines = [
        [line for line in output.splitlines() if 'Gloo' not in line]
        for output in printed
    ]
    return [process.returncode for process in others], lines


def test_one_process_agrees_with_itself():
    assert processes.is_first() and processes.count() == 1
    assert processes.agree([True, False]) == [True, False]
    assert processes.from_first({'newest': 7}) == {'newest': 7}
    assert processes.gather('here') == ['here']
    processes.barrier('prepared')


def test_three_processes_agree_and_the_first_alone_speaks(script):
    assert run(script, count=3) == ([0, 0, 0], [['met'], [], []])


@pytest.mark.parametrize('who', [0, 1])
def test_where_one_is_killed_the_others_say_which_and_end(script, who):
    statuses, lines = run(script, f'{who}:SIGKILL', count=3)
    assert statuses.pop(who) == -signal.SIGKILL and statuses == [75, 75]
    del lines[who]
    for said in lines:
        # One line: no trace of what JAX, C++ or Python make of it.
        *before, line = said
        assert before in ([], ['met'])
        gone = rf'process {who} \(pid \d+ on .*\) is gone: its connection has ended; '
        assert re.search(gone + '.*again with the same command', line), said


def test_one_that_is_stopped_is_given_up(script):
    statuses, lines = run(script, '1:SIGSTOP', '--heartbeat_timeout=2')
    assert statuses == [75]
    assert re.search(
        r'process 1 \(.*\) is gone: no sign of life for \d+ s', lines[0][1]
    )


def test_one_that_stands_still_is_named_with_the_place_where_it_is(script):
    statuses, lines = run(script, '1:wait', '--stall_timeout=2')
    assert statuses == [75, 75]
    assert re.search(r'no update has ended for .*process 1 \(.*\) is at ', lines[0][1])


def test_the_error_of_one_is_that_of_all(script):
    statuses, (first, second) = run(script, '1:fail')
    assert statuses == [1, 1]
    assert second == ['process 1: error: nothing to read']
    assert re.search(r'process 1 \(.*\) has ended with an error: nothing to', first[1])


def test_a_signal_to_one_that_the_others_wait_for_is_one_to_all(script):
    statuses, (first, second) = run(script, '1:SIGTERM')
    assert statuses == [143, 143]
    assert second == ['process 1: stopped by SIGTERM']
    assert re.search(r'stopped, as process 1 \(.*\) was by SIGTERM', first[1])


def test_one_that_never_comes_is_named(script):
    statuses, lines = run(script, '', '--connect_timeout=4', count=3, which=[0, 2])
    assert statuses == [75, 75]
    for said in lines:
        assert 'error: expected 3 processes, process 1 did not come to' in said[0]


def test_a_first_process_that_never_comes_is_named(script):
    statuses, lines = run(script, '', '--connect_timeout=1', which=[1])
    assert statuses == [75]
    assert 'error: process 0 did not answer at localhost:' in lines[0][0]


QUICK = Timeouts(connect=0.5, heartbeat=5, stall=0)


def seat(port, index, count, timeouts=QUICK):
    return Seat(f'localhost:{port}', index, count, timeouts, at_end=lambda _: None)


def test_processes_of_another_training_are_refused():
    port = several.free_port()
    Hub(port, 2, QUICK)
    with pytest.raises(AbsentError, match='process 2 of 3 has come to a training of 2'):
        seat(port, 2, 3)


def test_a_port_that_somebody_else_has_is_named():
    with several.listener() as port:
        with pytest.raises(AbsentError, match='did not answer at localhost'):
            seat(port, 1, 2)


def test_a_process_that_comes_late_is_waited_for():
    import threading

    port, found = several.free_port(), []
    patient = Timeouts(connect=60, heartbeat=30, stall=0)
    thread = threading.Thread(
        target=lambda: found.append(seat(port, 1, 2, patient).gather('x', 'late'))
    )
    thread.start()
    time.sleep(0.5)
    Hub(port, 2, patient)
    assert seat(port, 0, 2, patient).gather('x', 'early') == ['early', 'late']
    thread.join()
    assert found == [['early', 'late']]


@pytest.mark.parametrize('text', ['3', '3:2', '0:1', 'a:b', '1:2:3'])
def test_a_profile_of_no_updates_is_refused(text):
    with pytest.raises(ValueError, match='FIRST:LAST'):
        Profile.parse(text)


def test_a_profile_traces_the_updates_that_it_names(tmp_path, capsys):
    traced = Profile.parse('2:3').around(lambda number: number + 1, tmp_path)
    assert [traced(number) for number in range(5)] == [1, 2, 3, 4, 5]
    assert len(list(tmp_path.glob('plugins/profile/*/*.xplane.pb'))) == 1
    assert f'--logdir={tmp_path}' in capsys.readouterr().out
