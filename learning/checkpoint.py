"""Checkpoints: everything that a run needs to go on as if it had never stopped.

A checkpoint is written under a hidden name and gets its own (the number of its update)
when it is whole and its checksums stand beside its files. What is read has been
verified before: disks, copies and people change bits, and a network with one changed
bit still computes something.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import datetime
import json
import logging
import os
import pathlib
import shutil
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp

from learning import checksums
from learning.files import numbered, remove, temporary_name

_LOGGER = logging.getLogger(__name__)

_METADATA = 'metadata'
_FULL = ('No space left on device', 'Disk quota exceeded')


class CheckpointError(ValueError):
    """Checkpoints that are there but damaged; says what is wrong with them."""


class SaveError(OSError):
    """A checkpoint that could not be written; those before it are whole."""


class Checkpoints:
    """Checkpoints of a run, one folder per saved update; a context manager.

    Each holds pytrees of arrays (items), so that who needs one reads no more than it,
    and JSON under the name `metadata`. Saving goes on in the background.
    """

    def __init__(
        self,
        directory: pathlib.Path | str,
        *,
        keep: int | None = None,
        keep_best: int = 0,
    ):
        """Looks at a directory of checkpoints; nothing is written before `save`.

        Args:
          directory: where they are, or will be.
          keep: how many of the newest are kept; all by default.
          keep_best: how many of those with the smallest score are kept beside them.
        """
        self.directory = pathlib.Path(directory).absolute()
        self._keep = keep
        self._keep_best = keep_best
        self._damaged: set[int] = set()
        self._orbax: ocp.AsyncCheckpointer | None = None
        # One thread: checkpoints become whole, and old ones go, in the order of
        # updates.
        self._pool = concurrent.futures.ThreadPoolExecutor(1, 'checkpoint')
        self._pending: concurrent.futures.Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.wait()
        finally:
            self._pool.shutdown()
            if self._orbax is not None:
                self._orbax.close()

    @property
    def updates(self) -> list[int]:
        """Update numbers of all checkpoints, whole or damaged, ascending."""
        return numbered(self.directory)

    def verify(self, update: int) -> list[str]:
        """Reads a checkpoint through and says what is wrong with it: nothing, if empty.

        One that the first version saved, without checksums, is whole if every item of
        it can be read.
        """
        folder = self._folder(update)
        if checksums.exist(folder):
            return checksums.verify(folder)
        # The first version's are a run's oldest: a later one has lost them.
        if any(checksums.exist(self._folder(n)) for n in self.updates if n < update):
            return [f'{checksums.NAME} is missing']
        return _unreadable(folder)

    def newest_whole(self) -> int | None:
        """Update number of the newest checkpoint that is not damaged; none if no other.

        Damaged ones above it are named by a warning and left where they are.

        Raises:
          CheckpointError: there are checkpoints, and all are damaged.
        """
        found = self.updates
        problems = ''
        for update in reversed(found):
            wrong = self.verify(update)
            if not wrong:
                if problems:
                    _LOGGER.warning(
                        'warning: %s; it stays as it is, %s is used instead',
                        problems,
                        self._folder(update),
                    )
                if not self.digest(update):
                    _LOGGER.info(
                        '%s was saved without checksums: that its numbers are those '
                        'that were saved cannot be verified',
                        self._folder(update),
                    )
                return update
            self._damaged.add(update)
            problems += '; ' * bool(problems) + self._describe(update, wrong)
        if found:
            raise CheckpointError(
                f'expected a whole checkpoint, found none: {problems}; put back a copy '
                f'of one, or move {self.directory} away to train from the beginning'
            )
        return None

    def resolve(self, update: int | None) -> int:
        """Returns `update`, or the newest whole one for `None`; either is verified.

        Raises:
          FileNotFoundError: there is no such checkpoint, or none at all.
          CheckpointError: it, or every one, is damaged.
        """
        found = self.updates
        if not found:
            raise FileNotFoundError(
                f'no complete checkpoint in {self.directory}; train first'
            )
        if update is None:
            newest = self.newest_whole()
            assert newest is not None  # There are some: all damaged has raised.
            return newest
        if update not in found:
            raise FileNotFoundError(
                f'no checkpoint of update {update} in {self.directory}; there are '
                f'{found}'
            )
        if wrong := self.verify(update):
            raise CheckpointError(
                f'{self._describe(update, wrong)}; name another one, or none to use '
                'the newest that is whole'
            )
        return update

    def digest(self, update: int) -> str:
        """First 12 hexadecimal digits of the SHA-256 of a checkpoint's checksums.

        Empty for one that the first version saved, without.
        """
        return checksums.digest(self._folder(update))

    def metadata(self, update: int) -> dict[str, Any]:
        """Reads the metadata of a checkpoint."""
        return json.loads((self._folder(update) / _METADATA / _METADATA).read_text())

    def restore(self, item: str, template: Any, update: int) -> Any:
        """Reads an item into the shapes and shardings of `template`."""
        # A target with shardings: restoring on other devices fails without one.
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        args = ocp.args.Composite(**{item: ocp.args.StandardRestore(target)})
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as orbax:
            return orbax.restore(self._folder(update), args=args)[item]

    def save(
        self,
        update: int,
        items: Mapping[str, Any],
        metadata: Mapping[str, Any],
        *,
        score: float | None = None,
    ) -> None:
        """Saves in the background; a whole one of this number is left as it is.

        Args:
          update: its number.
          items: pytrees of arrays, by name.
          metadata: JSON types.
          score: by which the best are kept; the smaller the better.

        Raises:
          SaveError: this one, or the one before, cannot be written.
        """
        self.wait()
        if update in self.updates and update not in self._damaged:
            return
        staging = temporary_name(self._folder(update))
        try:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
            if self._orbax is None:  # Who only reads starts no threads of it.
                handler = ocp.CompositeCheckpointHandler()
                self._orbax = ocp.AsyncCheckpointer(handler)
            arguments = {n: ocp.args.StandardSave(tree) for n, tree in items.items()}
            arguments[_METADATA] = ocp.args.JsonSave(dict(metadata))
            args = ocp.args.Composite(**arguments)
            # In a hidden folder of its own: Orbax has temporary names too, beside its
            # target.
            self._orbax.save(staging / str(update), args=args)
        # Whatever Orbax and the libraries below it make of a disk that is full.
        except Exception as error:
            shutil.rmtree(staging, ignore_errors=True)
            raise self._save_error(update, error) from error
        self._pending = self._pool.submit(
            self._finish, self._orbax, staging, update, score
        )

    def wait(self) -> None:
        """Waits for the checkpoint that is being written, if any.

        Raises:
          SaveError: it cannot be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def check(self) -> None:
        """Raises `SaveError` if the writing has failed by now; does not wait."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def clear_leftovers(self) -> None:
        """Removes what was left unfinished; only for who holds the run's lock."""
        if self.directory.is_dir():
            for path in list(self.directory.iterdir()):
                # The first version's were Orbax's own.
                if path.name.endswith('.tmp') or 'orbax-checkpoint-tmp' in path.name:
                    remove(path)

    def _finish(
        self,
        orbax: ocp.AsyncCheckpointer,
        staging: pathlib.Path,
        update: int,
        score: float | None,
    ) -> None:
        """Waits for the files, adds their checksums, gives them their name; a thread's.

        Checksums come from what was written, read again: Orbax compresses, so that
        there is nothing to compute them of before.
        """
        whole = staging / str(update)
        try:
            orbax.wait_until_finished()
            checksums.write(whole, {'update': update, 'score': score})
            self._move_damaged_away(update)
            os.rename(whole, self._folder(update))
            self._rotate()
        except Exception as error:
            raise self._save_error(update, error) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _move_damaged_away(self, update: int) -> None:
        """Gives damaged ones that training has passed again a name of no update."""
        now = f'{datetime.datetime.now():%Y%m%dT%H%M%S}'
        for damaged in sorted(n for n in self._damaged if n <= update):
            folder = self._folder(damaged)
            os.rename(folder, folder.with_name(f'{damaged}.damaged-{now}'))
            self._damaged.discard(damaged)

    def _rotate(self) -> None:
        """Removes all but the newest and the best; damaged ones stay."""
        if self._keep is None:
            return
        found = [n for n in self.updates if n not in self._damaged]
        scores = {n: score for n in found if (score := self._score(n)) is not None}
        # Of equal scores the oldest: later ones repeat it until they have their own.
        best = sorted(scores, key=lambda n: (scores[n], n))[: self._keep_best]
        for update in found[: -self._keep]:
            if update not in best:
                # Half removed it would look damaged.
                aside = temporary_name(self._folder(update))
                os.rename(self._folder(update), aside)
                shutil.rmtree(aside, ignore_errors=True)

    def _score(self, update: int) -> float | None:
        try:
            return checksums.read(self._folder(update))['score']
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def _folder(self, update: int) -> pathlib.Path:
        return self.directory / str(update)

    def _describe(self, update: int, problems: list[str]) -> str:
        more = f' (and {len(problems) - 1} more)' if problems[1:] else ''
        return f'checkpoint {self._folder(update)} is damaged: {problems[0]}{more}'

    def _save_error(self, update: int, error: Exception) -> SaveError:
        # TensorStore says it somewhere in the middle of several lines.
        known = [words for words in _FULL if words in str(error)]
        reason = known[0] if known else checksums.first_line(error)
        return SaveError(
            f'checkpoint {self._folder(update)} cannot be written ({reason}); those '
            'before it are whole: once there is room, the same command goes on from '
            'the newest'
        )


def _unreadable(folder: pathlib.Path) -> list[str]:
    """Which items of a checkpoint without checksums cannot be read, and why."""
    try:
        text = (folder / '_CHECKPOINT_METADATA').read_text('utf-8')
        items = sorted(json.loads(text)['item_handlers'])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f'_CHECKPOINT_METADATA cannot be read ({checksums.first_line(error)})']
    problems = []
    for item in items:
        try:
            if item == _METADATA:
                json.loads((folder / item / item).read_text('utf-8'))
            else:
                _read_arrays(folder / item)
        # What Orbax and TensorStore raise for damaged files has no common class.
        except Exception as error:
            problems.append(f'{item} cannot be read ({checksums.first_line(error)})')
    return problems


def _read_arrays(folder: pathlib.Path) -> Any:
    """Reads an item without knowing its shapes."""
    with contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler:
        tree = handler.metadata(folder).tree
        # As NumPy's: the devices of the training need not be here.
        kinds = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        return handler.restore(folder, args=ocp.args.PyTreeRestore(restore_args=kinds))
