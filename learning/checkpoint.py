"""Checkpoints: everything that a run needs to go on as if it had never stopped.

A checkpoint has the number of its update for a name, and is whole when its checksums
stand beside its files (`commit`). What is read has been verified before: disks, copies
and people change bits, and a network with one changed bit still computes something.

Several processes write one checkpoint together. What is there, what is whole and what
is removed the first of them decides for all (`once`).
"""

from __future__ import annotations

import concurrent.futures
import json
import logging
import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import jax
import orbax.checkpoint as ocp

from learning import checksums, once, processes
from learning.addresses import PathLike, Place, is_address, numbered, place
from learning.commit import commit_in
from learning.unsigned import METADATA, unreadable

_LOGGER = logging.getLogger(__name__)

_FULL = ('No space left on device', 'Disk quota exceeded', 'File too large')
UNFINISHED = f'{checksums.NAME}, which is written last, is missing'


class CheckpointError(ValueError):
    """Checkpoints that are there, but none is whole; says what is wrong with them."""


class SaveError(OSError):
    """A checkpoint that could not be written; those before it are whole."""


class Checkpoints:
    """Checkpoints of a run, one folder per saved update; a context manager.

    Each holds pytrees of arrays (items), so that who needs one reads no more than it,
    and JSON under the name `metadata`. Saving goes on in the background.
    """

    def __init__(
        self,
        directory: PathLike,
        *,
        keep: int | None = None,
        keep_best: int = 0,
        keep_every: int = 0,
    ):
        """Looks at a directory of checkpoints; nothing is written before `save`.

        Args:
          directory: where they are, or will be: a path, which several processes must
            share, or an address `gs://`.
          keep: how many of the newest are kept; all by default.
          keep_best: how many of those with the smallest score are kept beside them.
          keep_every: those whose number is a multiple of it are kept for good; none
            where it is 0.
        """
        found = place(directory)
        self.directory = found if is_address(found) else found.absolute()
        self._keep = keep
        self._keep_best = keep_best
        self._keep_every = keep_every
        self._commit = commit_in(self.directory)
        self._damaged: set[int] = set()
        # Of those that are whole: in a bucket it takes a request to read one.
        self._scores: dict[int, float | None] = {}
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
            if error is None:
                self.wait()
            else:  # Others may be elsewhere: nothing is agreed upon with them.
                self._own_result()
        finally:
            self._pool.shutdown()
            if self._orbax is not None:
                self._orbax.close()

    @property
    def updates(self) -> list[int]:
        """Update numbers of all checkpoints, whole or damaged, ascending."""
        return numbered(self.directory)

    def verify(self, update: int) -> list[str]:
        """Looks through a checkpoint and says what is wrong with it: nothing, if empty.

        One that the first version saved, without checksums, is whole if every item of
        it can be read. In a bucket, where that version never wrote, it is unfinished.
        """
        folder = self._folder(update)
        if checksums.exist(folder):
            return checksums.verify(folder)
        if is_address(folder):
            return [UNFINISHED]
        # The first version's are a run's oldest: a later one has lost them.
        if any(checksums.exist(self._folder(n)) for n in self.updates if n < update):
            return [f'{checksums.NAME} is missing']
        return unreadable(folder)

    def newest_whole(self) -> int | None:
        """Update number of the newest checkpoint that is not damaged; none if no other.

        Damaged ones above it are named by a warning and left where they are.

        Raises:
          CheckpointError: there are checkpoints, and all are damaged.
        """
        return once.for_all(self._newest_whole)

    def _newest_whole(self) -> int | None:
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
        return once.for_all(lambda: self._resolve(update))

    def _resolve(self, update: int | None) -> int:
        found = self.updates
        if not found:
            raise FileNotFoundError(
                f'no complete checkpoint in {self.directory}; train first'
            )
        if update is None:
            newest = self._newest_whole()
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
        return json.loads((self._folder(update) / METADATA / METADATA).read_bytes())

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
        if once.for_all(lambda: self._has(update)):
            return
        try:
            target = place(once.for_all(lambda: self._stage(update)))
            _check_shared(target)
            if self._orbax is None:  # Who only reads starts no threads of it.
                handler = ocp.CompositeCheckpointHandler()
                self._orbax = ocp.AsyncCheckpointer(handler)
            arguments = {n: ocp.args.StandardSave(tree) for n, tree in items.items()}
            arguments[METADATA] = ocp.args.JsonSave(dict(metadata))
            args = ocp.args.Composite(**arguments)
            self._orbax.save(target, args=args)
        # Whatever Orbax and the libraries below it make of a disk that is full.
        except Exception as error:
            if processes.is_first():
                self._commit.abandon(update)
            raise self._save_error(update, error) from error
        self._pending = self._pool.submit(self._finish, self._orbax, update, score)

    def wait(self) -> None:
        """Waits for the checkpoint that is being written, if any.

        Raises:
          SaveError: it cannot be written; in each of several processes, whichever of
            them could not.
        """
        if self._pending is None:
            return
        error: Exception | None = None
        try:
            self._own_result()
        except SaveError as failure:
            error = failure
        (failed,) = processes.agree([error is not None])
        if failed:
            raise error or SaveError('another process could not write its part')

    def check(self) -> None:
        """Raises `SaveError` if this process has failed by now; does not wait.

        Of several processes the others are not asked: an error of one ends all.
        """
        if self._pending is not None and self._pending.done():
            if self._pending.exception() is not None:
                self._own_result()

    def clear_leftovers(self) -> None:
        """Removes what was left unfinished; only for who holds the run's lock."""
        once.for_all(self._commit.clear_leftovers)

    def _own_result(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _has(self, update: int) -> bool:
        """Whether there is one of this number that need not be written again."""
        if update in self._damaged or update not in self.updates:
            return False
        if not is_address(self.directory) or update in self._scores:
            return True
        return checksums.exist(self._folder(update))

    def _stage(self, update: int) -> str:
        # In a bucket the place itself is needed.
        if is_address(self.directory) and update in self._damaged:
            self._set_damaged_aside(update)
        return os.fspath(self._commit.stage(update))

    def _finish(
        self, orbax: ocp.AsyncCheckpointer, update: int, score: float | None
    ) -> None:
        """Waits for the files, and makes them a checkpoint; a thread's.

        Checksums come from what was written, read again (or stated by a bucket): Orbax
        compresses, so that there is nothing to compute them of before.
        """
        try:
            orbax.wait_until_finished()  # For the files of all processes.
            if processes.is_first():
                self._set_damaged_aside(update)
                self._commit.finish(update, {'update': update, 'score': score})
                self._rotate()
        except Exception as error:
            if processes.is_first():
                self._commit.abandon(update)
            raise self._save_error(update, error) from error

    def _set_damaged_aside(self, update: int) -> None:
        """Gives damaged ones that training has passed again a name of no update."""
        for damaged in sorted(n for n in self._damaged if n <= update):
            self._commit.set_aside(damaged, 'damaged')
            self._damaged.discard(damaged)

    def _rotate(self) -> None:
        """Removes all that need not be kept; damaged ones stay."""
        if self._keep is None:
            return
        found = [n for n in self.updates if self._has(n)]
        kept = set(found[-self._keep :])
        if self._keep_every:
            kept |= {n for n in found if n % self._keep_every == 0}
        scores = {n: score for n in found if (score := self._score(n)) is not None}
        # Of equal scores the oldest: later ones repeat it until they have their own.
        kept |= set(sorted(scores, key=lambda n: (scores[n], n))[: self._keep_best])
        for update in sorted(set(found) - kept):
            self._commit.remove(update)

    def _score(self, update: int) -> float | None:
        if update not in self._scores:
            try:
                self._scores[update] = checksums.read(self._folder(update))['score']
            except (OSError, ValueError, LookupError, TypeError):
                return None
        return self._scores[update]

    def _folder(self, update: int) -> Place:
        return self.directory / str(update)

    def _describe(self, update: int, problems: Sequence[str]) -> str:
        more = f' (and {len(problems) - 1} more)' if problems[1:] else ''
        state = 'unfinished' if problems[0] == UNFINISHED else 'damaged'
        return f'checkpoint {self._folder(update)} is {state}: {problems[0]}{more}'

    def _save_error(self, update: int, error: Exception) -> SaveError:
        # TensorStore says it somewhere in the middle of several lines.
        known = [words for words in _FULL if words in str(error)]
        reason = known[0] if known else checksums.first_line(error)
        return SaveError(
            f'checkpoint {self._folder(update)} cannot be written ({reason}); those '
            'before it are whole: once there is room, the same command goes on from '
            'the newest'
        )


def _check_shared(target: Place) -> None:
    """Refuses a folder that not all processes see: each would write on its own disk.

    Raises:
      OSError: it is another one for some process.
    """
    if is_address(target):
        return  # There are no folders, and no disks.
    (apart,) = processes.agree([not target.parent.is_dir()])
    if apart:
        raise OSError(
            f'expected a directory that all processes share, found {target.parent} '
            'missing for some; name one on a file system that is mounted everywhere, '
            'or an address gs://'
        )
