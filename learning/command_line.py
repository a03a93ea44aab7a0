"""What every script does around its one call: flags, log, signals, one-line errors."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Sequence

from absl import app, flags
from absl import logging as absl_logging

from learning import config_flags, signals
from learning.hub import LOST
from learning.seat import AbsentError

_TRACEBACK = flags.DEFINE_bool(
    'traceback', False, 'Show where an error came from, not only what it is.'
)
# What bad input raises: all of them say what was expected, found, and how to fix it.
_EXPECTED = (ValueError, OSError, FloatingPointError)


def execute(main: Callable[[], None]) -> None:
    """Parses the flags and calls `main`.

    Bad input ends in one line and status 1; a signal in one line and the status that
    shells expect of it (130 for Ctrl-C, 143 for SIGTERM), after context managers have
    cleaned up; a process that the others have left alone in one line and status 75.
    """
    signals.install()
    app.run(lambda argv: _guarded(main, argv), flags_parser=_parse)


def _guarded(main: Callable[[], None], argv: Sequence[str]) -> int:
    if argv[1:]:
        return _fail(
            ValueError(f'unexpected arguments {argv[1:]}; flags start with --')
        )
    _set_up_log()
    try:
        main()
    except signals.Interrupted as interrupted:
        print(interrupted.message, file=sys.stderr)
        return interrupted.status
    except AbsentError as error:
        _fail(error)
        return LOST
    except Exception as error:
        if _TRACEBACK.value:
            raise
        return _fail(error)
    return 0


def _set_up_log() -> None:
    """This project's messages are for its users; those of libraries if they warn."""
    absl_logging.set_verbosity(absl_logging.WARNING)
    for room in ('learning', 'weather'):
        logging.getLogger(room).setLevel(logging.INFO)
    absl_logging.get_absl_handler().setFormatter(logging.Formatter('%(message)s'))
    if not _TRACEBACK.value:
        # Orbax and what it is built of log, with tracebacks, what it raises then.
        for name in ('absl', 'asyncio', 'concurrent.futures'):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _parse(argv: Sequence[str]) -> list[str]:
    """Parses flags, those of a config's keys as well."""
    try:
        return flags.FLAGS(config_flags.declare(argv))
    except SystemExit:
        # Only the flags of help end here, and absl calls that a failure.
        sys.exit(0)
    # For a value where none belongs absl raises the latter.
    except (flags.Error, ValueError) as error:
        sys.exit(_fail(ValueError(_in_words(error))))


def _in_words(error: Exception) -> str:
    """What absl says of wrong flags, without its list of all values that go into it."""
    lacking = r'flag --(\w+)=None: Flag --\1 must have a value other than None\.'
    text = re.sub(lacking, r'expected --\1=...;', str(error))
    return re.sub(r'flags .*?: (?=say )', '', text).strip('; ')


def _fail(error: BaseException) -> int:
    message: object = error
    # The text of a KeyError is the representation of its message, quotes and all.
    if isinstance(message, KeyError) and message.args:
        message = message.args[0]
    # One line: messages of libraries may go over many.
    text = ' '.join(str(message).split()) or type(error).__name__
    if not isinstance(error, _EXPECTED):
        text = f'{type(error).__name__}: {text} (--traceback shows where)'
    print(f'error: {text}', file=sys.stderr)
    return 1
