"""The worker process: `python -m benchmarks.workers NAME [--path=FOLDER]`.

NAME is a module of `benchmarks.peers`, or any other with dots in its name; its
contract is in `benchmarks/peers/__init__.py`. Requests come as lines of JSON on stdin
and are answered on stdout; between them the process sleeps in a read. Whatever a
library prints goes to stderr. It ends when stdin does.

    {"command": "hello"}                              -> {"versions": {...}}
    {"command": "prepare", "key": K, "case": {...}}   -> {"facts": {...}}
    {"command": "probe", "key": K}                    -> {"facts": {...}}
    {"command": "time", "key": K, "operation": NAME,
     "calls": 5, "warm_ups": 1}                       -> {"seconds": per call}
    {"command": "release", "key": K}                  -> {}

Errors are `{"error": TRACEBACK}`; a library that is not installed is
`{"not_installed": MODULE}`, in answer to anything.
"""

import argparse
import gc
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any

from benchmarks.peers import Prepared


class Session:
    """Answers requests with one peer; holds what was prepared, by key."""

    def __init__(self, peer: ModuleType):
        self._peer = peer
        self._prepared: dict[str, Prepared] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request of the module's docstring."""
        commands: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            'hello': lambda _: {'versions': self._peer.versions()},
            'prepare': lambda r: self._keep(r, self._peer.prepare(r['case'])),
            'probe': lambda r: self._keep(r, self._peer.probe()),
            'time': self._time,
            'release': self._release,
        }
        return commands[request['command']](request)

    def _keep(self, request: dict[str, Any], prepared: Prepared) -> dict[str, Any]:
        self._prepared[request['key']] = prepared
        return {'facts': dict(prepared.facts)}

    def _time(self, request: dict[str, Any]) -> dict[str, Any]:
        operation = self._prepared[request['key']].operations[request['operation']]
        for _ in range(request['warm_ups']):
            operation()
        return {'seconds': seconds_per_call(operation, calls=request['calls'])}

    def _release(self, request: dict[str, Any]) -> dict[str, Any]:
        self._prepared.pop(request['key'], None)
        gc.collect()  # Now, and not in a turn that is timed.
        return {}


def seconds_per_call(operation: Callable[[], object], *, calls: int) -> float:
    """Mean wall time of `calls` calls, with garbage collection held back."""
    gc.disable()
    try:
        start = time.perf_counter()
        for _ in range(calls):
            operation()
        return (time.perf_counter() - start) / calls
    finally:
        gc.enable()


def answer_or_error(session: Session, line: str) -> dict[str, Any]:
    """The answer to one line; an error becomes an answer, so the worker goes on."""
    try:
        return session.answer(json.loads(line))
    except Exception:
        return {'error': traceback.format_exc()}


def load_peer(name: str) -> ModuleType:
    """The module NAME, or NAME in `benchmarks.peers` where it has no dots."""
    return importlib.import_module(name if '.' in name else f'benchmarks.peers.{name}')


def missing_module(error: ModuleNotFoundError) -> dict[str, Any]:
    """Whether a library is not installed, or a name of this repository is wrong."""
    package = (error.name or '').split('.')[0]
    if package in ('benchmarks', 'configs', 'learning', 'sphere_ops', 'weather'):
        return {'error': str(error)}
    return {'not_installed': error.name}


def serve(name: str) -> None:
    """Answers requests until stdin ends."""
    # Descriptor 1 becomes stderr: a library that prints must not break the protocol.
    channel = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    # Ctrl-C is for the parent, who then ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    failure, session = None, None
    try:
        session = Session(load_peer(name))
    except ModuleNotFoundError as error:
        failure = missing_module(error)
    except Exception:
        failure = {'error': traceback.format_exc()}
    for line in sys.stdin:
        reply = answer_or_error(session, line) if session else failure
        channel.write(json.dumps(reply) + '\n')
        channel.flush()


def main() -> None:
    """Serves the peer that the command line names."""
    parser = argparse.ArgumentParser(
        description='Worker of the benchmarks; not for use by hand.'
    )
    parser.add_argument('name', help='module of benchmarks.peers')
    parser.add_argument(
        '--path', action='append', default=[], help='folder to import from first'
    )
    arguments = parser.parse_args()
    # In front: a checkout goes before what is installed under the same name.
    sys.path[:0] = arguments.path
    serve(arguments.name)


if __name__ == '__main__':
    main()
