"""A trace of some updates: what the devices and the host did when, for TensorBoard."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import tempfile
from collections.abc import Callable
from typing import Any, Self

import jax

from learning import processes
from learning.addresses import PathLike, is_address, place, send


@dataclasses.dataclass(frozen=True)
class Profile:
    """Which updates are traced, and where the trace goes.

    Attributes:
      first: number of the first update, from 1.
      last: of the last one.
    """

    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `FIRST:LAST`.

        Raises:
          ValueError: it is something else.
        """
        found = re.fullmatch(r'(\d+):(\d+)', text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ValueError(
                f'expected --profile=FIRST:LAST, updates from 1 on, got {text!r}; '
                '--profile=101:103 traces three'
            )
        return cls(int(found[1]), int(found[2]))

    def around(
        self, update: Callable[..., Any], folder: PathLike
    ) -> Callable[..., Any]:
        """The function `update(number, ...)`, numbers from 0, which traces as well.

        Of several processes the first does: the others' devices do the same.
        """
        if not processes.is_first():
            return update
        recorder = _Recorder(folder)

        def traced(number: int, *arguments: Any) -> Any:
            if number == self.first - 1:
                # What was begun before belongs to no traced update.
                jax.block_until_ready(arguments)
                recorder.start()
            if not recorder.runs:
                return update(number, *arguments)
            with jax.profiler.StepTraceAnnotation('update', step_num=number + 1):
                result = update(number, *arguments)
            if number == self.last - 1:
                jax.block_until_ready(result)
                recorder.stop()
            return result

        return traced


class _Recorder:
    def __init__(self, folder: PathLike):
        self._folder = folder
        self.runs = False

    def start(self) -> None:
        # JAX writes on a disk only.
        if is_address(self._folder):
            self._here = pathlib.Path(tempfile.mkdtemp(prefix='profile-'))
        else:
            self._here = pathlib.Path(self._folder)
        jax.profiler.start_trace(self._here)
        self.runs = True

    def stop(self) -> None:
        jax.profiler.stop_trace()
        self.runs = False
        if is_address(self._folder):
            for file in self._here.rglob('*'):
                if file.is_file():
                    target = place(self._folder) / str(file.relative_to(self._here))
                    send(file, target)
        print(
            f'traced: tensorboard --logdir={self._folder} (pip install tensorboard '
            'xprof) shows it under PROFILE',
            flush=True,
        )
