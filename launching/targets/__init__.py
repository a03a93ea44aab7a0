"""The places where a training can be launched, one file a target.

A target is a module here with two names:

- `Options`: a `learning.schema.Config` of what it wants to know, keys of `--launch.*`;
- `prepare(job, options) -> Submission`: the files and commands, without doing anything.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from launching.job import LaunchError
from learning.spelling import did_you_mean


def names() -> tuple[str, ...]:
    """The targets there are."""
    # By the files that are there: a new target is one, and no list grows.
    return tuple(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """Returns the module of a target.

    Raises:
      LaunchError: there is none of that name; names the nearest.
    """
    if name not in names():
        raise LaunchError(
            f'expected --target as one of {", ".join(names())}, got {name!r}'
            f'{did_you_mean(name, names())}'
        )
    return importlib.import_module(f'{__name__}.{name}')
