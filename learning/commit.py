"""How a checkpoint becomes whole: by a rename, or in a bucket by its checksums.

On a disk it is written under a hidden name and gets its own when it is whole. A bucket
cannot rename: there it is written under its own name, and is whole when its checksums,
which come last, are there. A mark beside it says meanwhile that it is being written; by
that mark what a killed process has left is told from what somebody else has put there,
which is never touched.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any, Protocol

from etils import epath

from learning import checksums
from learning.addresses import Place, move_folder, remove_folder
from learning.files import remove, temporary_name


class Commit(Protocol):
    """Writing and removing folders of checkpoints so that none is ever taken for whole.

    Only the first of several processes calls this.
    """

    def stage(self, update: int) -> Place:
        """Where the files of a checkpoint are to be written; nothing is there yet."""

    def finish(self, update: int, facts: Mapping[str, Any]) -> None:
        """Adds checksums and `facts` to what was staged, and makes it whole."""

    def abandon(self, update: int) -> None:
        """Removes what was staged, if it has not become whole; never raises."""

    def set_aside(self, update: int, why: str) -> None:
        """Gives a checkpoint a name of no update: '30.damaged-20260102T030405'."""

    def remove(self, update: int) -> None:
        """Removes a checkpoint, which at no moment looks damaged."""

    def clear_leftovers(self) -> None:
        """Removes what killed processes have left unfinished or half removed."""


def commit_in(directory: Place) -> Commit:
    """The way of a directory."""
    if isinstance(directory, pathlib.Path):
        return _ByRename(directory)
    return _ByChecksums(directory)


class _ByRename:
    def __init__(self, directory: pathlib.Path):
        self._directory = directory

    def stage(self, update: int) -> pathlib.Path:
        staging = self._staging(update)
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        # In a hidden folder of its own: Orbax has temporary names too, beside its
        # target.
        return staging / str(update)

    def finish(self, update: int, facts: Mapping[str, Any]) -> None:
        staging = self._staging(update)
        checksums.write(staging / str(update), facts)
        os.rename(staging / str(update), self._directory / str(update))
        shutil.rmtree(staging, ignore_errors=True)

    def abandon(self, update: int) -> None:
        shutil.rmtree(self._staging(update), ignore_errors=True)

    def set_aside(self, update: int, why: str) -> None:
        folder = self._directory / str(update)
        os.rename(folder, folder.with_name(_aside(update, why)))

    def remove(self, update: int) -> None:
        folder = self._directory / str(update)
        aside = temporary_name(folder)
        os.rename(folder, aside)
        shutil.rmtree(aside, ignore_errors=True)

    def clear_leftovers(self) -> None:
        if self._directory.is_dir():
            for path in list(self._directory.iterdir()):
                # The first version's were Orbax's own.
                if path.name.endswith('.tmp') or 'orbax-checkpoint-tmp' in path.name:
                    remove(path)

    def _staging(self, update: int) -> pathlib.Path:
        return temporary_name(self._directory / str(update))


class _ByChecksums:
    def __init__(self, directory: epath.Path):
        self._directory = directory

    def stage(self, update: int) -> epath.Path:
        folder = self._directory / str(update)
        if folder.exists():  # Damaged, or never finished, and not by us.
            self.set_aside(update, 'unfinished')
        self._mark(update).write_text('being written, or being removed')
        return folder

    def finish(self, update: int, facts: Mapping[str, Any]) -> None:
        checksums.write(self._directory / str(update), facts)
        self._mark(update).unlink()

    def abandon(self, update: int) -> None:
        folder = self._directory / str(update)
        # What cannot be removed now keeps its mark, and is removed by a later start.
        with contextlib.suppress(OSError):
            if not checksums.exist(folder):
                remove_folder(folder)
            self._mark(update).unlink(missing_ok=True)

    def set_aside(self, update: int, why: str) -> None:
        move_folder(
            self._directory / str(update), self._directory / _aside(update, why)
        )

    def remove(self, update: int) -> None:
        folder = self._directory / str(update)
        self._mark(update).write_text('being written, or being removed')
        (folder / checksums.NAME).unlink()
        self.abandon(update)

    def clear_leftovers(self) -> None:
        if self._directory.is_dir():
            for path in list(self._directory.iterdir()):
                number = path.name.removeprefix('.').removesuffix(_MARK)
                if path.name == f'.{number}{_MARK}' and number.isdecimal():
                    self.abandon(int(number))

    def _mark(self, update: int) -> epath.Path:
        return self._directory / f'.{update}{_MARK}'


_MARK = '.unfinished'


def _aside(update: int, why: str) -> str:
    return f'{update}.{why}-{datetime.datetime.now():%Y%m%dT%H%M%S}'
