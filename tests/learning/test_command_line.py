"""Whatever happens in a command is one line, and a status that says what it was."""

import os
import signal
import subprocess
import sys

import pytest

COMMAND = """
import contextlib, sys, time
from learning import command_line

@contextlib.contextmanager
def cleaned_up():
    try:
        yield
    finally:
        print('cleaned up', flush=True)

def main():
    with cleaned_up():
        BODY

command_line.execute(main)
"""


def start(body, *flags, before=''):
    return subprocess.Popen(
        [sys.executable, '-c', before + COMMAND.replace('BODY', body), *flags],
        env={**os.environ, 'PYTHONPATH': '.'},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


ERRORS = {
    'what was expected, found': "raise ValueError('expected 1,\\n   found 2')",
    'what a library says': "raise RuntimeError('HDF error')",
    'a key that is not there': "{}['geopotential']",
    'a full disk': "raise OSError(28, 'No space left on device')",
}
LINES = {
    'what was expected, found': 'error: expected 1, found 2',
    'what a library says': 'error: RuntimeError: HDF error (--traceback shows where)',
    'a key that is not there': (
        'error: KeyError: geopotential (--traceback shows where)'
    ),
    'a full disk': 'error: [Errno 28] No space left on device',
}


@pytest.mark.parametrize('kind', ERRORS)
def test_an_error_is_one_line_whatever_raises_it(kind):
    process = start(ERRORS[kind])
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, output) == (1, 'cleaned up\n')
    assert errors == LINES[kind] + '\n'


NEEDED = """
from absl import flags
flags.DEFINE_string('needed', None, '', required=True)
flags.DEFINE_string('one', None, '')
flags.DEFINE_string('other', None, '')
flags.register_multi_flags_validator(
    ['one', 'other'], lambda of: any(of.values()), 'say where to: --one or --other'
)
"""
WRONG_FLAGS = {
    '--wrkdir=x': "error: Unknown command line flag 'wrkdir'",
    '--notraceback=3': 'error: --notraceback=3 does not take an argument',
    'extra': "error: unexpected arguments ['extra']; flags start with --",
    '--flagfile=/nowhere': 'error: ERROR:: Unable to open flagfile: [Errno 2] No such '
    "file or directory: '/nowhere'",
    '': 'error: expected --needed=...; say where to: --one or --other',
}


@pytest.mark.parametrize('flag', WRONG_FLAGS)
def test_wrong_flags_are_one_line(flag):
    process = start("print('never')", *flag.split(), before='' if flag else NEEDED)
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, output) == (1, '')
    assert errors == WRONG_FLAGS[flag] + '\n'


def test_where_it_came_from_is_shown_on_request():
    process = start(ERRORS['what a library says'], '--traceback')
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1 and 'Traceback' in errors


@pytest.mark.parametrize(
    'number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name
)
def test_a_signal_cleans_up_and_is_one_line(number):
    # In one long sleep a signal that comes just before it would wait for its end.
    process = start(
        "print('begun', flush=True); [time.sleep(0.05) for _ in range(5000)]"
    )
    assert process.stdout.readline() == 'begun\n'
    process.send_signal(number)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert (output, errors) == ('cleaned up\n', f'stopped by {number.name}\n')


def test_a_signal_that_is_to_be_ignored_is_ignored():
    """As under nohup."""
    ignored = 'signal.signal(signal.SIGHUP, signal.SIG_IGN)'
    body = "os.kill(os.getpid(), signal.SIGHUP); print('still here')"
    program = COMMAND.replace('BODY', body)
    process = subprocess.Popen(
        [sys.executable, '-c', f'import os, signal; {ignored}\n{program}'],
        env={**os.environ, 'PYTHONPATH': '.'},
        stdout=subprocess.PIPE,
        text=True,
    )
    output, _ = process.communicate(timeout=120)
    assert (process.returncode, output) == (0, 'still here\ncleaned up\n')
