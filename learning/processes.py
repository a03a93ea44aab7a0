"""Several processes that train together: who they are, and what they agree on.

One process is the same code with nothing to wait for: every function here then answers
at once. Of several, all call `agree`, `from_first`, `gather` and `barrier` in the same
order. They talk over connections of their own (`learning.hub`), not over the devices:
these go on with what they were given, and where one process has died no collective of
the others has to end first.

How processes end:
- all of them by the last update or by a signal that all have agreed on: as one would;
- one with an error: the others end within seconds, with its error and its status;
- one by a signal before training, while the others wait for it: they end as it does;
- one is killed, or its machine lost: the others end with a line that says which, and
  status 75 (`LOST`): the same command, started for all, goes on.
Launchers start again after 75, 137 (killed) and 143 (SIGTERM); status 1 is an error
that would come again.

JAX has `multihost_utils.reached_preemption_sync_point`. It is not used: it knows
SIGTERM alone, for which it takes over the handler, and one question, which `agree` asks
with the others that every update has. Its service is switched off.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, TextIO, TypeVar
from unittest import mock

import jax
from absl import logging as absl_logging
from jax._src import distributed
from jaxlib import utils as jaxlib_utils

from learning import hub
from learning.clusters import Place
from learning.hub import LOST, Hub, Timeouts
from learning.seat import AbsentError, Seat
from learning.signals import Interrupted

_JSON = TypeVar('_JSON')

# For the others to hear why this one ends, and for this one to hear why they did.
_GRACE = 3.0
# For the others to finish what all do at the end: process 0 has files to close.
_LAST_WAIT = 120.0
# What collectives raise where another process has gone: no cause, but a consequence.
_CONSEQUENCE = re.compile(
    '^(UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|CANCELLED)|gloo|nccl|coordination service',
    re.IGNORECASE,
)
_AGAIN = (
    'this one stops too; start all processes again with the same command: they go on '
    'from the newest checkpoint'
)


class _Company:
    """This process among several, from `connected` to its end."""

    def __init__(self, place: Place, timeouts: Timeouts):
        self.place, self.timeouts = place, timeouts
        # Of this process, once it is about to end by itself.
        self.status: int | None = None
        # Line and status of a process that has ended with an error.
        self.followed: tuple[str, int] | None = None
        if place.index == 0:
            _hub(place, timeouts)
        self.seat = Seat(
            place.coordinator,
            place.index,
            place.count,
            timeouts,
            at_end=self._at_end,
        )

    def lost(self, text: str, status: int = LOST) -> NoReturn:
        """Ends this process, wherever it is, with one line."""
        if self.status is not None:
            _end(self.status)
        with contextlib.suppress(Exception):
            print(text, file=sys.stderr)
        _end(status)

    def _at_end(self, message: Mapping[str, Any]) -> BaseException | None:
        """What another process's end means for this one."""
        if self.place.index == 0:
            time.sleep(_GRACE / 6)  # The hub ends with this process: others first.
        if 'gone' in message:
            if self.followed is not None:  # It has said why, and kept its word.
                self.lost(*self.followed)
            self.lost(f'{message["name"]} is gone: {message["why"]}; {_AGAIN}')
        if 'stalled' in message:
            self.lost(f'{message["stalled"]}; {_AGAIN}')
        name = self.seat.names[message['left']]
        if 'signal' in message:
            # Where this one waits for that one: else it will hear of it by `agree`.
            number = message['signal']
            which = signal.Signals(number).name
            return Interrupted(number, f'stopped, as {name} was by {which}')
        text = f'{name} has ended with an error: {message["text"]}; this one stops too'
        if self.followed is None:
            self.followed = text, message['status']
            threading.Thread(target=self._follow, daemon=True).start()
        return None

    def _follow(self) -> None:
        """Ends after another one's error, unless this one is about to by its own."""
        time.sleep(_GRACE)
        if self.status is None and self.followed is not None:
            self.lost(*self.followed)


_company: _Company | None = None


def index() -> int:
    """Number of this process, from 0; does not touch the devices."""
    return 0 if _company is None else _company.place.index


def count() -> int:
    """How many processes there are; does not touch the devices."""
    return 1 if _company is None else _company.place.count


def is_first() -> bool:
    """Whether this is process 0, which writes files and speaks to the user."""
    return index() == 0


def agree(flags: Sequence[bool]) -> list[bool]:
    """Whether any process says yes, for each of several questions.

    To be called after every update, with all that this process wants: `[stop, save]`.
    All processes get the same answers for the same update: whoever is told to stop
    stops after the same one. Whether a signal has come (`signals.postponed`) differs
    between processes, and its number is known to those alone that got one: the others
    say SIGTERM.

    It costs a fraction of a millisecond and does not look at the devices, which go on
    with the update meanwhile. It does wait for the slowest process to get there; so
    would the next collective. If it waits too long (`Timeouts.stall`), all end.
    """
    answers = gather([bool(flag) for flag in flags], channel=hub.AGREE)
    return [any(column) for column in zip(*answers, strict=True)]


def from_first(value: _JSON, *, channel: str = '') -> _JSON:
    """The value (JSON types) of process 0; what the others give is ignored.

    Args:
      value: what process 0 has found or decided.
      channel: of the question, where several threads ask: they need not come in order.
    """
    mine = value if is_first() else None
    return gather(mine, channel=f'first {channel}')[0]


def gather(value: Any, *, channel: str = '') -> list[Any]:
    """The values (JSON types) of all processes, in their order."""
    return [value] if _company is None else _company.seat.gather(channel, value)


def barrier(name: str) -> None:
    """Waits for all processes, however long it takes, to come to this place."""
    gather(None, channel=f'barrier {name}')


@contextlib.contextmanager
def connected(place: Place | None, timeouts: Timeouts | None = None) -> Iterator[None]:
    """Joins the other processes; JAX then sees the devices of all.

    To be entered before anything asks for devices. For `None`, which is what a machine
    of its own is, there is nothing to do. Within it only process 0 writes on the
    console; the others do where something goes wrong, with their number.

    Raises:
      AbsentError: not all processes have come in time; says which.
    """
    global _company
    if place is None:
        yield
        return
    assert _company is None, 'connected twice'
    if place.index:
        _speak_with_a_number(place.index)
    _company = company = _Company(place, timeouts or Timeouts())
    try:
        _connect_jax(company)
        yield
    except BaseException as error:
        _leave(company, error)
        raise
    else:
        _close(company, None)
    finally:
        _company = None


def _hub(place: Place, timeouts: Timeouts) -> None:
    """Starts the hub, as soon as a process that had its port has gone."""
    port = int(place.coordinator.rpartition(':')[2])
    deadline = time.monotonic() + timeouts.connect
    while True:
        try:
            Hub(port, place.count, timeouts)
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise AbsentError(
                    f'process 0 cannot listen at port {port}: {error.strerror}; end '
                    'what does, or give another port to all (--coordinator)'
                ) from error
        time.sleep(0.5)


def _connect_jax(company: _Company) -> None:
    """Makes one set of devices of those of all processes."""
    place, patience = company.place, company.timeouts
    # Python's handler for SIGTERM is the one that saves.
    jax.config.update('jax_enable_preemption_service', False)
    jax.config.update('jax_cpu_collectives_implementation', 'gloo')
    # What its service logs of a process that has gone: one line of ours says it.
    jaxlib_utils.absl_set_min_log_level(3)
    make_client = distributed._jax.get_distributed_runtime_client

    def client(*arguments: Any, **options: Any) -> Any:
        # Without a callback JAX aborts with a trace where its service reports an error,
        # and there is no other way in. Jaxlib cannot hand over the error, and by that
        # ends in C++'s terminate handler, which is ours as well.
        options |= {'missed_heartbeat_callback': lambda *_: _on_terminate(company)}
        return make_client(*arguments, **options, shutdown_on_destruction=False)

    _set_terminate_handler(lambda: _on_terminate(company))
    with mock.patch.object(distributed._jax, 'get_distributed_runtime_client', client):
        # Ours notices first: its own timeouts are the longer ones.
        jax.distributed.initialize(
            place.coordinator,
            place.count,
            place.index,
            list(place.devices) if place.devices is not None else None,
            cluster_detection_method='deactivate',
            initialization_timeout=int(patience.connect) + 1,
            heartbeat_timeout_seconds=3 * int(patience.heartbeat) + 30,
            shutdown_timeout_seconds=int(_LAST_WAIT),
        )


_keep_alive: list[Any] = []


def _set_terminate_handler(handler: Callable[[], None]) -> None:
    """Calls a function where C++ would abort because of an exception."""
    callback = ctypes.CFUNCTYPE(None)(handler)
    _keep_alive.append(callback)
    try:
        set_terminate = ctypes.CDLL('libstdc++.so.6')['_ZSt13set_terminatePFvvE']
    except (OSError, AttributeError):
        return  # Another C++ library: its trace comes beside our line.
    set_terminate.restype = ctypes.c_void_p
    set_terminate(callback)


def _on_terminate(company: _Company) -> None:
    """JAX's service has reported an error: as a rule process 0 is gone."""
    time.sleep(_GRACE / 2)  # Our own word for it comes at about the same time.
    company.lost(f'the connection of JAX to the other processes has ended; {_AGAIN}')


def _leave(company: _Company, error: BaseException) -> None:
    """Tells the others why this process ends, and sees to it that it does."""
    if isinstance(error, Interrupted):
        _close(company, {'text': error.message, 'signal': error.number})
        return
    if isinstance(error, Exception) and _CONSEQUENCE.search(str(error)):
        # In a moment it will be known which process is gone, and this one end.
        time.sleep(company.timeouts.heartbeat + 2 * company.timeouts.beat)
        company.status = LOST
    else:
        company.status = 1
    text = ' '.join(str(error).split()) or type(error).__name__
    company.seat.leave({'text': text, 'status': company.status}, wait=2 * _GRACE)
    _end_without_jax(company.status)


def _close(company: _Company, reason: Mapping[str, Any] | None) -> None:
    """Ends together with all others."""
    company.status = 128 + reason['signal'] if reason else 0
    if company.seat.leave(reason, wait=_LAST_WAIT):
        jax.distributed.shutdown()
    else:
        _end_without_jax(company.status)


def _end_without_jax(status: int) -> None:
    """Lets this process end as it will, but not wait for all others as JAX would."""
    atexit.register(_end, status)
    # Nor for threads that wait for the others.
    timer = threading.Timer(10 * _GRACE, _end, [status])
    timer.daemon = True
    timer.start()


def _end(status: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(status)


class _Numbered:
    """A stream that begins every line with the number of the process."""

    def __init__(self, stream: TextIO, number: int):
        self._stream, self._prefix = stream, f'process {number}: '
        self._begins = True

    def write(self, text: str) -> int:
        """Writes; the number in front of each line."""
        for line in text.splitlines(keepends=True):
            self._stream.write(self._prefix * self._begins + line)
            self._begins = line.endswith('\n')
        return len(text)

    def flush(self) -> None:
        """Flushes."""
        self._stream.flush()

    def isatty(self) -> bool:
        """No: progress bars are process 0's."""
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _speak_with_a_number(number: int) -> None:
    """Lets a process that is not the first say only what goes wrong.

    For good: what is said at the very end has a number too.
    """
    numbered: Any = _Numbered(sys.stderr, number)
    sys.stdout, sys.stderr = open(os.devnull, 'w'), numbered
    handler = absl_logging.get_absl_handler()
    handler.python_handler.setStream(numbered)
    handler.setLevel(logging.WARNING)
