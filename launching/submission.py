"""Files and commands of a launch: shown whole, or written and run."""

from __future__ import annotations

import dataclasses
import pathlib
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from launching.job import LaunchError

# Blank lines of a shown command would end it for whoever copies it.
_FENCE = '-' * 72


@dataclasses.dataclass(frozen=True)
class Step:
    """A command of a launch.

    Attributes:
      why: what it does, in a line.
      command: program and arguments.
    """

    why: str
    command: tuple[str, ...]

    def __str__(self) -> str:
        return f'# {self.why}\n{shlex.join(self.command)}'


@dataclasses.dataclass(frozen=True)
class Submission:
    """A launch that was worked out.

    Attributes:
      folder: where the files go.
      files: their text, by name.
      steps: the commands, in order.
      afterwards: what to know and to do then.
    """

    folder: str
    files: Mapping[str, str]
    steps: Sequence[Step]
    afterwards: str

    def shown(self) -> str:
        """All of it as text."""
        files = [
            f'{_FENCE}\n# {self.folder}/{name}\n{_FENCE}\n{text}'
            for name, text in self.files.items()
        ]
        steps = '\n\n'.join(map(str, self.steps))
        title = f'{_FENCE}\n# Commands\n{_FENCE}'
        return '\n'.join([*files, title, steps, '', self.afterwards.strip(), ''])

    def submit(self) -> None:
        """Writes the files and runs the commands.

        Raises:
          LaunchError: a program is missing, or a command has failed.
        """
        self._check_programs()
        folder = pathlib.Path(self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in self.files.items():
            (folder / name).write_text(text)
        for step in self.steps:
            print(step, flush=True)
            status = subprocess.run(step.command, check=False).returncode
            if status:
                raise LaunchError(
                    f'expected this command to succeed, it ended with {status}: '
                    f'{shlex.join(step.command)}; the same launch goes on from here'
                )
        print(self.afterwards.strip())

    def _check_programs(self) -> None:
        """Before anything is begun: half a launch costs money and does nothing."""
        missing = {step.command[0] for step in self.steps} - {'bash'}
        missing = {name for name in missing if shutil.which(name) is None}
        if missing:
            raise LaunchError(
                f'expected {", ".join(sorted(missing))} on the PATH, found none; '
                'install it, or see with --dry_run what would be run'
            )
