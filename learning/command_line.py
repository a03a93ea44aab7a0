"""What every script does around its one call: flags, log, and errors in one line."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence

from absl import app, flags
from absl import logging as absl_logging

from learning import config_flags

_TRACEBACK = flags.DEFINE_bool(
    'traceback', False, 'Show where an error came from, not only what it is.'
)
# What bad input raises: all of them say what was expected, found, and how to fix it.
_ERRORS = (ValueError, OSError, FloatingPointError)


def run(main: Callable[[], None]) -> None:
    """Parses the flags and calls `main`; bad input ends in one line and status 1."""
    app.run(lambda argv: _guarded(main, argv), flags_parser=_parse)


def _guarded(main: Callable[[], None], argv: Sequence[str]) -> int:
    if argv[1:]:
        raise app.UsageError(f'unexpected arguments {argv[1:]}; flags start with --')
    # This project's messages are for its users; those of libraries only if they warn.
    absl_logging.set_verbosity(absl_logging.WARNING)
    logging.getLogger('weather').setLevel(logging.INFO)
    absl_logging.get_absl_handler().setFormatter(logging.Formatter('%(message)s'))
    try:
        main()
    except _ERRORS as error:
        if _TRACEBACK.value:
            raise
        return _fail(error)
    return 0


def _parse(argv: Sequence[str]) -> list[str]:
    """Parses flags, those of a config's keys as well."""
    try:
        return flags.FLAGS(config_flags.declare(argv))
    except SystemExit:
        # Only the flags of help end here, and absl calls that a failure.
        sys.exit(0)
    except flags.Error as error:
        sys.exit(_fail(error))


def _fail(error: BaseException) -> int:
    print(f'error: {error}', file=sys.stderr)
    return 1
