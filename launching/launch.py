"""From flags to a launch: the config is checked here before anything is begun there."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pydantic

from launching import targets
from launching.job import Job, LaunchError
from launching.submission import Submission
from learning.problems import explain
from learning.schema import ConfigError

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]


def check_config(config: str, overrides: Mapping[str, str]) -> str:
    """The whole config as text, as the command that trains understands it.

    Raises:
      LaunchError: it refuses it; says why.
    """
    changes = [f'--config.{key}={value}' for key, value in overrides.items()]
    command = [sys.executable, str(CHECKOUT / 'scripts/train.py'), '--print_config']
    # In this folder: a relative path of a config is meant to be seen from here.
    done = subprocess.run(
        [*command, f'--config={config}', *changes],
        capture_output=True,
        text=True,
        check=False,
        env=_environment(),
    )
    if done.returncode:
        raise LaunchError(done.stderr.strip().removeprefix('error: '))
    return done.stdout


def prepare(
    target: str,
    options: Mapping[str, Any],
    overrides: Mapping[str, str],
    *,
    folder: str | None = None,
    **job: Any,
) -> Submission:
    """Works out a launch, and does nothing.

    Args:
      target: name of the target.
      options: what it is told, as a file says it.
      overrides: the same as the command line says it, by key.
      folder: for the files of the launch; default: one by the job's name.
      **job: the other entries of the `Job`.

    Raises:
      LaunchError: impossible; says what was expected, what was found, how to mend it.
    """
    module = targets.load(target)
    try:
        told = module.Options.from_config(options, overrides)
    except ConfigError as error:
        message = str(error).replace('config.', '--launch.')
        raise LaunchError(
            message.replace('config ', f'--launch of {target} ')
        ) from None
    try:
        place = os.path.abspath(folder or f'launches/{job.get("name")}')
        work = Job(checkout=str(CHECKOUT), folder=place, **job)
    except pydantic.ValidationError as error:
        raise LaunchError(explain(Job, error).replace('config.', '--')) from None
    return module.prepare(work, told)


def launch(submission: Submission, *, dry_run: bool) -> None:
    """Shows a launch, or makes it.

    Raises:
      LaunchError: a program is missing, or a command has failed.
    """
    if dry_run:
        print(submission.shown(), end='')
    else:
        submission.submit()


def _environment() -> dict[str, str]:
    # No accelerator is needed to read a config, nor is there one to be taken.
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get('PYTHONPATH')]))
    return {**os.environ, 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': path}
