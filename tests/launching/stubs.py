"""Programs on the PATH that write down their calls, and do what a test says."""

import json
import os
import pathlib
import stat
import sys

from launching.job import Job
from launching.launch import CHECKOUT

_RECORD = """#!{python}
import json, sys
with open({calls!r}, 'a') as file:
    file.write(json.dumps([{name!r}, *sys.argv[1:]]) + '\\n')
"""


class Programs:
    """A folder of stubs, and the calls of them."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self._calls = folder / 'calls.jsonl'
        folder.mkdir(parents=True)

    def add(self, name: str, body: str = '') -> None:
        """Adds a program in Python."""
        head = _RECORD.format(python=sys.executable, calls=str(self._calls), name=name)
        self._write(name, head + body)

    def add_shell(self, name: str, body: str) -> None:
        """Adds one of bash, whose calls are not written down."""
        self._write(name, f'#!/bin/bash\n{body}')

    def calls(self, *names: str) -> list[list[str]]:
        """The calls of some programs, or of all, in order."""
        lines = self._calls.read_text().splitlines() if self._calls.exists() else []
        calls = [json.loads(line) for line in lines]
        return [call for call in calls if not names or call[0] in names]

    @property
    def environment(self) -> dict[str, str]:
        """With these programs first on the PATH."""
        return {**os.environ, 'PATH': f'{self.folder}:{os.environ["PATH"]}'}

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)


def make_job(folder: pathlib.Path | str, **changes) -> Job:
    """A job with a short config."""
    entries = {
        'name': 'run',
        'config': '{"format": 2}\n',
        'workdir': 'gs://bucket/runs/run',
        'checkout': str(CHECKOUT),
        'folder': str(folder),
    }
    return Job(**(entries | changes))
