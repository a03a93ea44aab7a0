"""A lock on a folder: one process at a time writes there, here or in a bucket.

Of several processes of one training the first holds it for all.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import logging
import os
import pathlib
import platform
import shlex
import sys
from collections.abc import Iterator
from typing import TextIO

from learning import lease, once
from learning.addresses import PathLike, Place, place

_LOGGER = logging.getLogger(__name__)

_NAME = '.lock'
# What file systems answer that know no locks.
_UNKNOWN = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


class LockedError(ValueError):
    """A folder in which another process is at work; says which."""


@contextlib.contextmanager
def hold(folder: PathLike, *, work: str) -> Iterator[None]:
    """Holds the lock of a folder, which is made where it is missing.

    Args:
      folder: what to lock: a path, or an address.
      work: what is done there, for messages: 'training'.

    Raises:
      LockedError: another process holds it.
      OSError: the folder cannot be written to.
    """
    with contextlib.ExitStack() as held:
        once.for_all(lambda: _enter(held, place(folder), work))
        yield


def _enter(held: contextlib.ExitStack, folder: Place, work: str) -> None:
    if isinstance(folder, pathlib.Path):
        held.enter_context(_hold_here(folder, work))
        return
    try:
        held.enter_context(lease.hold(folder / _NAME, _owner()))
    except lease.TakenError as error:
        raise _locked(folder, work, str(error)) from None


def _locked(folder: Place, work: str, owner: str) -> LockedError:
    return LockedError(
        f'another {work} is going on in {folder}: '
        f'{owner or "of a process that does not say which"}; '
        'wait for it, or end it, or choose another directory'
    )


@contextlib.contextmanager
def _hold_here(folder: pathlib.Path, work: str) -> Iterator[None]:
    """Holds the lock of a folder on a disk.

    The kernel keeps the lock for as long as the process lives, and no longer: the file
    that a killed one leaves behind locks nothing.
    """
    with _open(folder, work) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)  # Opened at its end.
            raise _locked(folder, work, file.read().strip()) from None
        except OSError as error:
            if error.errno not in _UNKNOWN:
                raise
            _LOGGER.warning(
                'warning: the file system of %s knows no locks: make sure that no '
                'other %s goes on there',
                folder,
                work,
            )
        file.truncate(0)
        file.write(_owner() + '\n')
        file.flush()
        try:
            yield
        finally:
            # Not removed: somebody may have opened it, and would lock a ghost.
            file.truncate(0)


def _open(folder: pathlib.Path, work: str) -> TextIO:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Appending: opening must not change what the owner says about itself.
        return (folder / _NAME).open('a+')
    except OSError as error:
        raise OSError(
            f'expected a directory that {work} can write to, found {folder}: '
            f'{error.strerror}; choose another one'
        ) from error


def _owner() -> str:
    now = datetime.datetime.now().astimezone().isoformat(' ', 'seconds')
    command = shlex.join([pathlib.Path(sys.executable).name, *sys.argv])
    return f'process {os.getpid()} on {platform.node()}, since {now} ({command})'
