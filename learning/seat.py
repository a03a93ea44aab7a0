"""A process's seat at the table of `learning.hub`."""

from __future__ import annotations

import os
import pathlib
import platform
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from learning.hub import Lines, Timeouts, listed

_ROOT = str(pathlib.Path(__file__).resolve().parents[1])


class AbsentError(OSError):
    """Not all processes have come; says which."""


class Seat:
    """A connection to the hub, which says what all others say."""

    def __init__(
        self,
        address: str,
        index: int,
        count: int,
        timeouts: Timeouts,
        *,
        at_end: Callable[[Mapping[str, Any]], BaseException | None],
    ):
        """Waits for all processes to come.

        Args:
          address: `HOST:PORT` of the hub.
          index: number of this process, from 0.
          count: of the processes.
          timeouts: how long.
          at_end: what to do when another process is gone (`gone`), has left before
            the end (`left`) or all stand still (`stalled`), in another thread; the
            exception that it returns is raised where this process waits for others.

        Raises:
          AbsentError: not all have come; says which.
        """
        self._count, self._timeouts, self._at_end = count, timeouts, at_end
        self._address, self._index = address, index
        self._changed = threading.Condition()
        self._heard: dict[str, list[Any]] = {}
        self._error: BaseException | None = None
        self._leaving = self._closed = self._alone = False
        self._lines, self.names = self._take()
        self._lines.socket.settimeout(timeouts.heartbeat)
        for run in (self._listen, self._beat):
            threading.Thread(target=run, name='seat', daemon=True).start()

    def gather(self, topic: str, value: Any) -> list[Any]:
        """Says a value on a topic, and waits for those of all, in their order."""
        self._lines.send({'topic': topic, 'value': value})
        with self._changed:
            # Signals are heard meanwhile.
            self._changed.wait_for(lambda: topic in self._heard or self._error)
            if topic in self._heard:
                return self._heard.pop(topic)
            assert self._error is not None
            raise self._error

    def leave(self, reason: Mapping[str, Any] | None, *, wait: float) -> bool:
        """Says goodbye, and waits for all others to do so; whether they have.

        Args:
          reason: `text` and `status` or `signal`, for the others; none at the end.
          wait: seconds, at most.
        """
        self._leaving = True
        self._lines.send({'leave': dict(reason) if reason else None})
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._alone, wait)
            return self._closed

    def _take(self) -> tuple[Lines, list[str]]:
        """Connects, tries again where that fails, and waits for all."""
        host, _, port = self._address.rpartition(':')
        # The hub has a deadline of its own, and its answer is the better one.
        deadline = time.monotonic() + self._timeouts.connect + 5
        state: dict[str, Any] = {}
        while time.monotonic() < deadline:
            try:
                connection = socket.create_connection((host.strip('[]'), int(port)), 2)
            # Not up yet, or a name that is not known yet.
            except OSError as error:
                state.setdefault('why', str(error))
                time.sleep(0.2)
                continue
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            lines = Lines(connection)
            name = f'process {self._index} (pid {os.getpid()} on {platform.node()})'
            lines.send({'process': self._index, 'of': self._count, 'name': name})
            if names := self._wait_for_all(lines, deadline, state):
                return lines, names
            connection.close()
            time.sleep(0.2)
        raise self._absent(state)

    def _wait_for_all(
        self, lines: Lines, deadline: float, state: dict[str, Any]
    ) -> list[str] | None:
        """The names of all; none if the hub has gone away, or is something else."""
        lines.socket.settimeout(0.5)
        while time.monotonic() < deadline:
            try:
                messages = lines.receive()
            except TimeoutError:
                continue
            except EOFError:
                state.pop('missing', None)
                return None
            for message in messages:
                if not isinstance(message, dict):
                    return None
                if 'all' in message:
                    return message['all']
                # Perhaps one that died a moment ago, and is started anew.
                if 'refused' in message:
                    state['refused'] = message['refused']
                    return None
                state.update(message)
                if message.get('final'):
                    raise self._absent(state)
        return None

    def _absent(self, state: Mapping[str, Any]) -> AbsentError:
        after = f'after {self._timeouts.connect:g} s (--connect_timeout)'
        if state.get('missing'):
            return AbsentError(
                f'expected {self._count} processes, {listed(state["missing"])} did not '
                f'come to {self._address} {after}; start every one of them with the '
                'same --coordinator and --num_processes, each with its own --process'
            )
        if 'refused' in state:
            return AbsentError(f'{state["refused"]} {after}')
        why = state.get('why', 'no answer')
        return AbsentError(
            f'process 0 did not answer at {self._address} {after} ({why}); it has to '
            'run there, and the port to be open between the machines'
        )

    def _listen(self) -> None:
        while True:
            try:
                for message in self._lines.receive():
                    self._hear(message)
            # The hub ends with process 0.
            except TimeoutError:
                silence = f'no sign of life for {self._timeouts.heartbeat:g} s'
                return self._hear(self._gone(silence))
            except EOFError:
                return self._hear(self._gone('its connection has ended'))

    def _gone(self, why: str) -> dict[str, Any]:
        return {'gone': 0, 'name': self.names[0], 'why': why}

    def _hear(self, message: Mapping[str, Any]) -> None:
        if 'beat' in message:
            return
        if 'closed' in message:
            with self._changed:
                self._closed = True
                self._changed.notify_all()
        elif 'topic' in message:
            with self._changed:
                self._heard[message['topic']] = message['values']
                self._changed.notify_all()
        elif self._leaving:
            # This one ends by itself, with its own words; who has gone is no loss now.
            with self._changed:
                self._alone = self._alone or 'left' not in message
                self._changed.notify_all()
        elif message.get('left') != self._index:
            error = self._at_end(message)
            with self._changed:
                self._error = self._error or error
                self._changed.notify_all()

    def _beat(self) -> None:
        while not self._closed:
            self._lines.send({'at': _place()})
            time.sleep(self._timeouts.beat)


def _place() -> str:
    """Where the main thread is: the innermost function of this project's."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    here = __name__, 'learning.processes'
    while frame is not None:
        name = frame.f_globals.get('__name__', '')
        if frame.f_code.co_filename.startswith(_ROOT) and name not in here:
            if '.venv' not in frame.f_code.co_filename:
                return f'{name}.{frame.f_code.co_name} line {frame.f_lineno}'
        frame = frame.f_back
    return ''
