"""The parent's side of the worker processes.

    with harness.start_workers(['spherecast', 'torch_harmonics']) as team:
        for worker in team.workers.values():
            facts[worker.name] = worker.prepare('64x64', {'num_lat': 64, ...})
        samples = timing.take_turns(
            {
                (worker.name, operation): worker.clock('64x64', operation)
                for operation in ('forward', 'inverse')
                for worker in team.workers.values()
            },
            rounds=15,
        )
    ratio = timing.ratio(
        samples['torch_harmonics', 'forward'], samples['spherecast', 'forward']
    )
    ratio.median, ratio.spread

What a worker does with a case is up to its module in `benchmarks/peers`, whose
contract is in that package's docstring. A library that is not installed is in
`team.missing`, with the reason. A worker that fails at a request raises `WorkerError`
with its traceback and goes on living; one that dies or does not answer in time raises
it too, and `worker.alive` is then false. All workers are ended when the block is left,
whatever the cause.
"""

import contextlib
import json
import os
import pathlib
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.timing import Clock

ROOT = pathlib.Path(__file__).resolve().parents[1]
TIMEOUT_S = 900.0
GRACE_S = 5.0  # For a worker to end by itself.
LARGE_PAGES = 'glibc.malloc.hugetlb=1'
INSTALL = "pip install -e '.[benchmarks]'"


class WorkerError(RuntimeError):
    """A worker failed, died or took too long.

    Attributes:
      worker: Its name.
      reason: What happened.
    """

    def __init__(self, worker: str, reason: str):
        super().__init__(f'{worker}: {reason}')
        self.worker, self.reason = worker, reason


class NotInstalledError(WorkerError):
    """The library of a worker is not installed."""


class Team(NamedTuple):
    """The workers that run.

    Attributes:
      workers: `{name: worker}`, in the order asked for.
      missing: `{name: reason}` of those that could not be started.
    """

    workers: dict[str, 'Worker']
    missing: dict[str, str]


class Worker:
    """A process that runs one library, idle unless asked.

    Args:
      name: Module of `benchmarks.peers`, or any other with dots in its name.
      paths: Folders to import from first.
      timeout_s: Longest wait for an answer; then the process is ended.

    Attributes:
      name: As given.
      timeout_s: As given; may be changed.
      versions: `{package: version}`.

    Raises:
      NotInstalledError: If the library is not installed.
      WorkerError: If the module cannot be imported.
    """

    def __init__(
        self, name: str, *, paths: Sequence[str] = (), timeout_s: float = TIMEOUT_S
    ):
        self.name = name
        self.timeout_s = timeout_s
        command = [sys.executable, '-m', 'benchmarks.workers', name]
        self._process = subprocess.Popen(
            [*command, *(f'--path={path}' for path in paths)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment(),
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        # A thread reads, because a read from a pipe cannot be given up after a while.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.versions: dict[str, str] = self._ask(command='hello')['versions']
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def prepare(self, key: str, case: Mapping[str, Any]) -> dict[str, Any]:
        """Sets a case up under `key`, warmed up and compiled; returns its facts."""
        return self._ask(command='prepare', key=key, case=dict(case))['facts']

    def probe(self, key: str) -> dict[str, Any]:
        """Sets the machine's own operations up: see `benchmarks.machine`."""
        return self._ask(command='probe', key=key)['facts']

    def time(self, key: str, operation: str, *, calls: int, warm_ups: int) -> float:
        """Seconds per call of an operation of a case that was prepared."""
        return self._ask(
            command='time',
            key=key,
            operation=operation,
            calls=calls,
            warm_ups=warm_ups,
        )['seconds']

    def clock(self, key: str, operation: str) -> Clock:
        """`time` of one operation, for `timing.take_turns`."""

        def clock(*, calls: int, warm_ups: int) -> float:
            return self.time(key, operation, calls=calls, warm_ups=warm_ups)

        return clock

    def release(self, key: str) -> None:
        """Forgets a case and its arrays."""
        self._ask(command='release', key=key)

    def close(self) -> None:
        """Ends the process: kindly where it is idle, surely in any case."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._kill()
        self._reader.join()
        self._process.stdout.close()  # type: ignore[union-attr]

    def _ask(self, **request) -> dict[str, Any]:
        self._send(request)
        try:
            line = self._lines.get(timeout=self.timeout_s)
        except queue.Empty:
            # A late answer would be taken for that to the next question.
            self._kill()
            raise WorkerError(
                self.name,
                f'no answer within {self.timeout_s:g} s to {request}; the worker was '
                'ended',
            ) from None
        if line is None:  # The end of its output.
            raise self._death(request)
        return self._checked(json.loads(line), request)

    def _send(self, request: dict[str, Any]) -> None:
        try:
            self._process.stdin.write(json.dumps(request) + '\n')  # type: ignore
            self._process.stdin.flush()  # type: ignore[union-attr]
        except (OSError, ValueError):
            raise self._death(request) from None

    def _checked(self, answer: dict[str, Any], request: dict[str, Any]):
        if 'not_installed' in answer:
            raise NotInstalledError(
                self.name, f'{answer["not_installed"]} is not installed ({INSTALL})'
            )
        if 'error' in answer:
            raise WorkerError(self.name, f'{request} failed\n{answer["error"]}')
        return answer

    def _death(self, request: dict[str, Any]) -> WorkerError:
        # It has closed its output and may still be dying: the status comes after that.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_S)
        return WorkerError(
            self.name,
            f'the worker ended at {request}, exit status {self._process.returncode}; '
            'its messages are above',
        )

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _read(self) -> None:
        for line in self._process.stdout:  # type: ignore[union-attr]
            self._lines.put(line)
        self._lines.put(None)


@contextlib.contextmanager
def start_workers(
    names: Sequence[str],
    *,
    paths: Mapping[str, Sequence[str]] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Iterator[Team]:
    """Starts workers, and ends them when the block is left.

    Args:
      names: Modules of `benchmarks.peers`.
      paths: `{name: folders}` to import from first.
      timeout_s: Longest wait for an answer.

    Yields:
      Those that run and those whose library is not installed.
    """
    team = Team({}, {})
    try:
        for name in names:
            try:
                folders = (paths or {}).get(name, ())
                team.workers[name] = Worker(name, paths=folders, timeout_s=timeout_s)
            except NotInstalledError as error:
                team.missing[name] = error.reason
        yield team
    except BaseException:
        for worker in team.workers.values():
            worker._kill()  # One that computes would not hear a request to end.
        raise
    finally:
        for worker in team.workers.values():
            worker.close()


def environment() -> dict[str, str]:
    """The same for all workers.

    Every core; and, unless they are set already, the CPU for JAX, and large pages, as
    NumPy asks for itself: otherwise each fresh array costs a page fault per 4 KiB, more
    than filling it.
    """
    cores = str(num_cores())
    threads = ('OMP', 'MKL', 'OPENBLAS', 'DUCC0', 'NUMEXPR')
    return {
        'GLIBC_TUNABLES': LARGE_PAGES,
        'JAX_PLATFORMS': 'cpu',
        **os.environ,
        **{f'{library}_NUM_THREADS': cores for library in threads},
    }


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))
