"""What a forecast writer promises, what all of them check, and one that overlaps."""

from __future__ import annotations

import abc
import collections
import concurrent.futures
import types

import numpy as np

from learning import signals
from weather.forecasting.layout import ForecastLayout


class ForecastWriter(abc.ABC):
    """Takes forecasts one lead time at a time; a context manager.

    Leaving the context closes the writer, or, when an exception passes, aborts it.
    """

    @abc.abstractmethod
    def write(
        self, lead: int, states: np.ndarray, *, starts: slice | None = None
    ) -> None:
        """Writes one lead time of some starts.

        Args:
          lead: position in `layout.lead_times`.
          states: `[start, lat, lon, channel]` float32, SI units, members after the
            start where there are; an array on a device is fetched here.
          starts: which of `layout.init_times` the states belong to; all by default.

        Raises:
          ValueError: wrong shape, or a lead time that was written before.
          FloatingPointError: a value is implausible; the message names its channel.
          OSError: the disk is full.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Finishes; `ValueError` if a lead time of a start was never written.

        Where it raises, `abort` has still to be called; leaving the context does.
        """

    @abc.abstractmethod
    def abort(self) -> None:
        """Removes what is not complete."""

    def __enter__(self) -> ForecastWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        is_whole = False
        try:
            if error is None:
                self.close()
                is_whole = True
        finally:
            if not is_whole:
                # A signal in the midst of it would leave the rest where it is.
                with signals.postponed():
                    self.abort()


class StoreWriter(ForecastWriter):
    """Checks states and keeps account of what was written; a format completes it."""

    def __init__(self, layout: ForecastLayout):
        self.layout = layout
        self._written = np.zeros((len(layout.init_times), len(layout.lead_times)), bool)

    def write(
        self, lead: int, states: np.ndarray, *, starts: slice | None = None
    ) -> None:
        """Checks and stores; see `ForecastWriter.write`."""
        positions = range(len(self.layout.init_times))[starts or slice(None)]
        states = np.asarray(states)
        expected = (len(positions), *self.layout.state_shape)
        if states.shape != expected:
            raise ValueError(
                f'expected states [start, (member,) lat, lon, channel] of shape '
                f'{expected}, got {states.shape}'
            )
        # Here for every format, and before anything of them is on the disk.
        self.layout.check_values(lead, states, starts=starts)
        for start, state in zip(positions, states, strict=True):
            if self._written[start, lead]:
                raise ValueError(
                    f'{self.layout.describe(start, lead)} was written before'
                )
            for variable, values in self.layout.fields(state):
                self._put(variable, start, lead, values)
            self._written[start, lead] = True
            if self._written[start].all():
                self._finish(start)

    def close(self) -> None:
        """Finishes; see `ForecastWriter.close`."""
        missing = np.argwhere(~self._written)
        if missing.size:
            first = self.layout.describe(*missing[0])
            raise ValueError(
                f'{len(missing)} of {self._written.size} fields were never written, '
                f'the first is {first}'
            )
        self._publish()

    @abc.abstractmethod
    def _put(self, variable: str, start: int, lead: int, values: np.ndarray) -> None:
        """Stores `[level, lat, lon]` or `[lat, lon]`, members first."""

    @abc.abstractmethod
    def _finish(self, start: int) -> None:
        """Called when every lead time of a start has been stored."""

    @abc.abstractmethod
    def _publish(self) -> None:
        """Called when everything has been stored."""


class ThreadedWriter(ForecastWriter):
    """Writes in a thread of its own, while the model makes the next lead time.

    At most `max_pending` lead times wait (each holds its states in memory); then
    `write` blocks. An error of the thread is raised by the next `write` or by `close`.
    States must not be changed, nor a device array donated, after they were given away.
    """

    def __init__(self, writer: ForecastWriter, *, max_pending: int = 1):
        """Wraps `writer`, which nobody else may use from now on."""
        if max_pending < 1:
            raise ValueError(f'expected max_pending >= 1, got {max_pending}')
        self._writer = writer
        self._max_pending = max_pending
        self._thread = concurrent.futures.ThreadPoolExecutor(1, 'forecast-writer')
        self._pending: collections.deque[concurrent.futures.Future] = (
            collections.deque()
        )

    def write(
        self, lead: int, states: np.ndarray, *, starts: slice | None = None
    ) -> None:
        """Hands the states to the thread; see `ForecastWriter.write`."""
        self._wait_until_pending(self._max_pending - 1)  # Room for this one.
        self._pending.append(
            self._thread.submit(self._writer.write, lead, states, starts=starts)
        )

    def close(self) -> None:
        """Waits for the thread and finishes; raises what it raised."""
        self._wait_until_pending(0)
        self._thread.shutdown()
        self._writer.close()

    def abort(self) -> None:
        """Forgets what waits and removes what is not complete."""
        # What is being written must end: its files are removed next.
        self._thread.shutdown(cancel_futures=True)
        self._writer.abort()

    def _wait_until_pending(self, count: int) -> None:
        while len(self._pending) > count:
            self._pending.popleft().result()
