"""Metrics of a training run: TensorBoard, a CSV, and one line on the console."""

from __future__ import annotations

import csv
import math
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import tensorboardX
from tqdm import tqdm

from learning.files import replacing
from weather.workdir import Workdir

COLUMNS = ('update', 'num_steps', 'name', 'value')


class Stopwatch:
    """Throughput of updates, over the time that only updates took."""

    def __init__(self, update: int):
        self.start(update)

    def start(self, update: int) -> None:
        """Starts anew, after something that is no update."""
        self._update, self._time = update, time.perf_counter()

    def rate(self, update: int) -> float:
        """Updates per second since the start; NaN if there was none."""
        updates = update - self._update
        return updates / (time.perf_counter() - self._time) if updates else math.nan


class MetricsWriter:
    """Writes metrics of updates; a context manager.

    A resumed run drops what an earlier one wrote past the update it goes on from, so
    that every update is there once.
    """

    def __init__(self, workdir: Workdir, *, first_update: int, num_updates: int):
        """Opens the files of `workdir`.

        Args:
          workdir: the run directory.
          first_update: updates already done.
          num_updates: updates in all.
        """
        _drop_from(workdir, first_update)
        self._tensorboard = tensorboardX.SummaryWriter(
            str(workdir.tensorboard), purge_step=first_update + 1
        )
        self._csv = workdir.metrics.open('a', newline='')
        self._rows = csv.writer(self._csv)
        # No bar where nobody watches: a log file would fill with its frames.
        self._bar = tqdm(
            total=num_updates,
            initial=first_update,
            unit='update',
            disable=not sys.stderr.isatty(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
        self._csv.close()
        self._tensorboard.close()

    def advance(self) -> None:
        """Moves the progress bar by one update."""
        self._bar.update()

    def write(self, update: int, num_steps: int, values: Mapping[str, float]) -> None:
        """Writes named values after `update` updates."""
        for name, value in values.items():
            self._tensorboard.add_scalar(name, value, update)
            self._rows.writerow((update, num_steps, name, f'{value:.8g}'))
        self._csv.flush()
        self._tensorboard.flush()

    def say(self, line: str) -> None:
        """Prints a line above the progress bar."""
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()


def _drop_from(workdir: Workdir, first_update: int) -> None:
    """Rewrites the CSV with the rows up to `first_update`, header included."""
    rows = []
    if workdir.metrics.exists():
        with workdir.metrics.open(newline='') as file:
            rows = [
                [row[name] for name in COLUMNS]
                for row in csv.DictReader(file)
                if row['value'] and int(row['update']) <= first_update
            ]
    with replacing(workdir.metrics) as temporary:
        with temporary.open('w', newline='') as file:
            csv.writer(file).writerows([COLUMNS, *rows])
