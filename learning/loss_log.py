"""Losses of a training as it goes: a CSV, TensorBoard, and lines on the console.

To what lies in a bucket nothing can be added: there both files are kept on this machine
and sent as a whole, now and then and with every checkpoint. Of several processes the
first writes, and alone.
"""

from __future__ import annotations

import contextlib
import csv
import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Self, TypeVar

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar
from tqdm import tqdm

from learning import processes
from learning.addresses import Place, reading
from learning.copies import Copies
from learning.files import replacing

# `num_steps`: how many parts a loss has, in weather one for every step of a rollout.
_Item = TypeVar('_Item')
COLUMNS = ('update', 'num_steps', 'name', 'value')
# What is of the machine, and not of the training.
TIMINGS = (
    'updates_per_second',
    'tflops_per_second',
    'peak_share',
    'data_wait_share',
)


class Stopwatch:
    """Throughput of updates, over the time that only updates took."""

    def __init__(self, update: int):
        self.start(update)

    def start(self, update: int) -> None:
        """Starts anew, after something that is no update."""
        self._update, self._time = update, time.perf_counter()
        self._waited = 0.0

    def waited_for(self, items: Iterable[_Item]) -> Iterator[_Item]:
        """Yields `items`, and measures how long each of them was waited for."""
        iterator = iter(items)
        while True:
            before = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self._waited += time.perf_counter() - before
            yield item

    def waiting(self, update: int) -> float:
        """Share of the time since the start spent waiting; NaN if none has passed."""
        if update == self._update:
            return math.nan
        return self._waited / (time.perf_counter() - self._time)

    def rate(self, update: int) -> float:
        """Updates per second since the start; NaN if there was none."""
        updates = update - self._update
        return updates / (time.perf_counter() - self._time) if updates else math.nan


class LossLog:
    """Writes named values of updates; a context manager.

    A resumed run drops what an earlier one wrote past the update it goes on from, so
    that every update is there once.
    """

    def __init__(
        self,
        table: Place,
        tensorboard: Place,
        *,
        first_update: int,
        num_updates: int,
    ):
        """Opens the files.

        Args:
          table: the CSV.
          tensorboard: folder of event files.
          first_update: updates already done.
          num_updates: updates in all.
        """
        self._closing = contextlib.ExitStack()
        self._writes = processes.is_first()
        if self._writes:
            self._open(table, tensorboard, first_update)
        # No bar where nobody watches: a log file would fill with its frames.
        self._bar = tqdm(
            total=num_updates,
            initial=first_update,
            unit='update',
            disable=not (self._writes and sys.stderr.isatty()),
        )

    def _open(self, table: Place, tensorboard: Place, first_update: int) -> None:
        self._copies = Copies()
        self._closing.callback(self._copies.close)
        _drop_from(table, first_update)
        # Not the SummaryWriter: a thread of it does the writing, and where that fails
        # (a full disk) dies with a traceback and lets the training wait for ever.
        # The name tells starts within a second apart.
        prefix = self._copies.folder(tensorboard) / 'events'
        self._events = EventsWriter(str(prefix), f'.from_{first_update}')
        self._closing.callback(self._events.close)
        # TensorBoard forgets what it has of the step of such a start and beyond: of the
        # updates that the interrupted run did and this one does again.
        purge = first_update + 1
        start = SessionLog(status=SessionLog.START)
        self._events.write_event(Event(step=purge, file_version='brain.Event:2'))
        self._events.write_event(Event(step=purge, session_log=start))
        self._table = self._copies.file(table).open('a', newline='')
        self._closing.callback(self._table.close)
        self._rows = csv.writer(self._table)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
        self._closing.close()

    def advance(self) -> None:
        """Moves the progress bar by one update."""
        self._bar.update()

    def write(self, update: int, num_parts: int, values: Mapping[str, float]) -> None:
        """Writes named values after `update` updates."""
        if not self._writes:
            return
        for name, value in values.items():
            self._rows.writerow((update, num_parts, name, f'{value:.8g}'))
            summary = scalar(name, value)
            event = Event(wall_time=time.time(), step=update, summary=summary)
            self._events.write_event(event)
        # What was logged is there even where the run dies in the next update.
        self._table.flush()
        self._events.flush()
        self._copies.send_now_and_then()

    def flush(self) -> None:
        """Sends what is not yet where it belongs: before a checkpoint says it is there.

        Raises:
          OSError: a bucket does not take it.
        """
        if self._writes:
            self._copies.send()

    def say(self, line: str) -> None:
        """Prints a line above the progress bar."""
        if self._writes:
            tqdm.write(line, file=sys.stdout)
            sys.stdout.flush()


def _drop_from(table: Place, first_update: int) -> None:
    """Rewrites the CSV with the rows up to `first_update`, header included."""
    rows = []
    if table.exists():
        with reading(table) as copy, copy.open(newline='') as file:
            rows = [
                [row[name] for name in COLUMNS]
                for row in csv.DictReader(file)
                # Where a crash cut a row short it has no value.
                if row['value'] and int(row['update']) <= first_update
            ]
    with replacing(table) as temporary:
        with temporary.open('w', newline='') as file:
            csv.writer(file).writerows([COLUMNS, *rows])
