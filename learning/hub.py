"""A table that several processes sit at: what each says, all hear; an empty chair too.

Process 0 has a thread, the hub, to which every process (process 0 as well) holds a TCP
connection, over which lines of JSON go. Before the table is full it says who is
missing. Then whoever says a value on a topic gets the values of all once all have said
theirs. A connection that ends without a goodbye is a process that died, which the
others hear of within a moment; one that goes silent is a machine that is lost or a
process that was stopped.

Why not JAX's own service, which has heartbeats and barriers: it ends a process whose
neighbour has died by an abort, with a trace of C++, and says in the log of process 0
alone which one that was; it notices a death by its heartbeats only, and says nothing of
a process that is alive but stands still.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import selectors
import socket
import threading
import time
from collections.abc import Iterable
from typing import Any

# The topic on which all speak again and again: silence on it is a standstill. On any
# other topic they may wait for each other as long as it takes.
AGREE = 'agree'
_BACKLOG = 1024
# Exit status of a process that another one has left alone: nothing is wrong with the
# command, which goes on from the newest checkpoint when all processes start it again.
# (EX_TEMPFAIL of sysexits.h.)
LOST = 75
# Somebody else's program may connect to the port: nothing of ours is that long before
# the table is full.
_LONGEST_HELLO = 2000


@dataclasses.dataclass(frozen=True)
class Timeouts:
    """What is waited for, and how long, in seconds.

    Attributes:
      connect: for all processes to come.
      heartbeat: for a sign of life of any of them.
      stall: for an update of all; 0 for ever.
    """

    connect: float = 300
    heartbeat: float = 60
    stall: float = 1800

    @property
    def beat(self) -> float:
        """How often a sign of life is given."""
        return min(5.0, self.heartbeat / 5)


class Lines:
    """JSON values over a socket, one a line; any thread may send."""

    def __init__(self, connection: socket.socket):
        self.socket = connection
        self._rest = b''
        self._lock = threading.Lock()

    def send(self, message: Any) -> None:
        """Sends; a connection that has ended is found by who reads."""
        data = json.dumps(message).encode() + b'\n'
        with self._lock, contextlib.suppress(OSError):
            self.socket.sendall(data)

    def receive(self, longest: int | None = None) -> list[Any]:
        """Waits for something, and returns what is complete by then.

        Raises:
          EOFError: the connection has ended, or does not speak JSON.
          TimeoutError: of the socket.
        """
        try:
            data = self.socket.recv(2**16)
        except TimeoutError:
            raise
        except OSError as error:
            raise EOFError from error
        *lines, self._rest = (self._rest + data).split(b'\n')
        if not data or (longest and len(self._rest) > longest):
            raise EOFError
        try:
            return [json.loads(line) for line in lines]
        except ValueError as error:
            raise EOFError from error


@dataclasses.dataclass
class _Chair:
    """A process, as the hub sees it."""

    lines: Lines
    name: str
    heard: float
    at: str = ''
    left: bool = False


class Hub:
    """The thread of process 0 that hears all."""

    def __init__(self, port: int, count: int, timeouts: Timeouts):
        """Listens, and starts the thread.

        Raises:
          OSError: the port is taken.
        """
        self._count, self._timeouts = count, timeouts
        self._listener = _listen(port)
        self._chairs: dict[int, _Chair] = {}
        self._said: dict[str, dict[int, Any]] = {}
        self._selector = selectors.DefaultSelector()
        # When all last agreed; none while nothing is expected soon.
        self._agreed: float | None = None
        threading.Thread(target=self._run, name='hub', daemon=True).start()

    def _run(self) -> None:
        with contextlib.closing(self._selector):
            if self._fill():
                self._serve()

    def _fill(self) -> bool:
        """Waits for all to come; whether they have."""
        deadline = time.monotonic() + self._timeouts.connect
        strangers: dict[socket.socket, Lines] = {}
        with self._listener:
            self._selector.register(self._listener, selectors.EVENT_READ)
            while len(self._chairs) < self._count:
                if time.monotonic() > deadline:
                    self._tell({'missing': self._missing, 'final': True})
                    return False
                for key, _ in self._selector.select(0.2):
                    if key.fileobj is self._listener:
                        connection, _ = self._listener.accept()
                        # Who does not read is no reason to tell the others nothing.
                        connection.settimeout(self._timeouts.heartbeat)
                        strangers[connection] = Lines(connection)
                        self._selector.register(connection, selectors.EVENT_READ)
                    else:
                        self._greet(key.fileobj, strangers)
            # JAX's own service listens there next.
            self._selector.unregister(self._listener)
        self._tell({'all': [self._chairs[n].name for n in range(self._count)]})
        return True

    @property
    def _missing(self) -> list[int]:
        return [n for n in range(self._count) if n not in self._chairs]

    def _greet(self, connection: Any, strangers: dict[socket.socket, Lines]) -> None:
        """Hears who somebody is, or that somebody has gone again."""
        lines = strangers[connection]
        try:
            messages = lines.receive(_LONGEST_HELLO)
            for hello in messages:
                process, of = int(hello['process']), int(hello['of'])
                name = str(hello['name'])
                if of != self._count or not 0 <= process < of:
                    refusal = (
                        f'process {process} of {of} has come to a training of '
                        f'{self._count} processes'
                    )
                elif process in self._chairs:
                    there = self._chairs[process].name
                    refusal = f'process {process} has come twice: {there} and {name}'
                else:
                    self._chairs[process] = _Chair(lines, name, time.monotonic())
                    self._tell({'missing': self._missing})
                    continue
                lines.send({'refused': refusal})
        except (EOFError, LookupError, TypeError, ValueError):
            self._selector.unregister(connection)
            connection.close()
            del strangers[connection]
            for process, chair in list(self._chairs.items()):
                if chair.lines is lines:
                    del self._chairs[process]

    def _serve(self) -> None:
        whose = {chair.lines.socket: n for n, chair in self._chairs.items()}
        next_beat = time.monotonic()
        while not all(chair.left for chair in self._chairs.values()):
            for key, _ in self._selector.select(self._timeouts.beat / 2):
                if key.fileobj in whose:
                    self._hear(whose[key.fileobj])  # type: ignore[index]
                else:
                    self._selector.unregister(key.fileobj)  # One that was refused.
            now = time.monotonic()
            if now >= next_beat:
                next_beat = now + self._timeouts.beat
                self._tell({'beat': True})
                self._look(now)
        self._tell({'closed': True})

    def _hear(self, process: int) -> None:
        chair = self._chairs[process]
        try:
            messages = chair.lines.receive()
        except EOFError:
            self._selector.unregister(chair.lines.socket)
            if not chair.left:
                chair.left = True
                self._tell_gone(process, 'its connection has ended')
            return
        chair.heard = time.monotonic()
        for message in messages:
            if 'topic' in message:
                self._collect(process, message['topic'], message['value'])
            elif 'leave' in message:
                chair.left = True
                if message['leave']:
                    self._tell({'left': process, **message['leave']})
            else:
                chair.at = message['at']

    def _collect(self, process: int, topic: str, value: Any) -> None:
        said = self._said.setdefault(topic, {})
        said[process] = value
        if topic != AGREE:
            self._agreed = None
        if len(said) == self._count:
            del self._said[topic]
            values = [said[n] for n in range(self._count)]
            if topic == AGREE:
                self._agreed = time.monotonic()
            self._tell({'topic': topic, 'values': values})

    def _look(self, now: float) -> None:
        """Who has been silent for too long, or keeps all from going on."""
        for process, chair in self._chairs.items():
            silent = now - chair.heard
            if not chair.left and silent > self._timeouts.heartbeat:
                chair.left = True
                self._tell_gone(process, f'no sign of life for {silent:.0f} s')
        stalled = self._agreed is not None and self._timeouts.stall > 0
        if stalled and now - (self._agreed or now) > self._timeouts.stall:
            self._tell({'stalled': self._standstill(now)})
            self._agreed = None

    def _standstill(self, now: float) -> str:
        there = self._said.get(AGREE, {})
        late = [n for n in self._chairs if n not in there]
        where = '; '.join(
            f'{self._chairs[n].name} is at {self._chairs[n].at or "a place unknown"}'
            for n in sorted(late)[:8]
        )
        return f'no update has ended for {now - (self._agreed or now):.0f} s: {where}'

    def _tell_gone(self, process: int, why: str) -> None:
        self._tell({'gone': process, 'name': self._chairs[process].name, 'why': why})

    def _tell(self, message: Any) -> None:
        for chair in self._chairs.values():
            chair.lines.send(message)


def _listen(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(
            ('', port),
            family=socket.AF_INET6,
            dualstack_ipv6=True,
            backlog=_BACKLOG,
        )
    return socket.create_server(('', port), backlog=_BACKLOG)


def listed(numbers: Iterable[int]) -> str:
    """`process 3`, or `processes 1, 2 and 5`."""
    texts = [str(number) for number in numbers]
    if len(texts) == 1:
        return f'process {texts[0]}'
    return f'processes {", ".join(texts[:-1])} and {texts[-1]}'
