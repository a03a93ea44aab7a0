"""Which code made a file: version of the package and commit of its checkout."""

from __future__ import annotations

import importlib.metadata
import pathlib
import subprocess


def code_version() -> str:
    """Version of the installed package."""
    return importlib.metadata.version('spherecast')


def git_commit() -> str:
    """Commit of the checkout that runs, with `-dirty` where files were changed.

    `'unknown'` where the package does not run from a checkout.
    """
    checkout = pathlib.Path(__file__).resolve().parents[1]
    # No tag is to match: a commit is wanted.
    describe = ['describe', '--always', '--dirty', '--abbrev=12', '--exclude=*']
    command = ['git', '-C', str(checkout), *describe]
    # git would go on upwards, to a repository in which a package was installed.
    if not (checkout / '.git').exists():
        return 'unknown'
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'
    return done.stdout.strip()
