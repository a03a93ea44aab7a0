"""Where what is computed from data is kept, and under which names.

The folder is that of the environment variable SPHERECAST_PREPARATION, or
`config.data.preparation`, or `~/.cache/spherecast`. It holds a folder for every key, a
few small files each, and may be deleted at any time: everything is computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from weather.experiment import Experiment

_LOGGER = logging.getLogger(__name__)

# The attribute that says from which data something was computed.
KEY = 'preparation'
# Part of every key: raise it when something comes out otherwise from the same data.
_VERSION = 1
_ENVIRONMENT = 'SPHERECAST_PREPARATION'


def preparation_folder(setup: Experiment | None = None) -> pathlib.Path:
    """Where preparations are kept; None for those of no experiment."""
    caches = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    # The environment first: it is the machine's, the config may come from another.
    chosen = os.environ.get(_ENVIRONMENT) or (setup.data.preparation if setup else '')
    return pathlib.Path(chosen or f'{caches}/spherecast').expanduser()


@contextlib.contextmanager
def keeping(home: pathlib.Path) -> Iterator[None]:
    """Lets a folder that cannot be written to stop nothing."""
    try:
        yield
    except OSError as error:
        _LOGGER.info(
            'what was computed from the data cannot be kept in %s (%s): the next run '
            'computes it again; choose another folder by config.data.preparation or %s',
            home,
            error,
            _ENVIRONMENT,
        )


def digest(traits: Sequence[Any]) -> str:
    """Name of what is computed from what `traits` say."""
    return hashlib.sha256(json.dumps([_VERSION, *traits]).encode()).hexdigest()[:24]
