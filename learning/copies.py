"""Files that grow, of a place to which nothing can be added: a bucket.

They grow on this machine, and are sent as a whole. What already lies on this machine is
written where it lies.
"""

from __future__ import annotations

import contextlib
import logging
import pathlib
import tempfile
import time

from learning.addresses import Place, reading, send

_LOGGER = logging.getLogger(__name__)

# A bucket takes an object once a second; a log of weeks has tens of megabytes.
SEND_SECONDS = 60.0


class Copies:
    """Local files that stand for those at addresses, until `close`."""

    def __init__(self) -> None:
        self._closing = contextlib.ExitStack()
        self._places: dict[pathlib.Path, Place] = {}
        self._sent: dict[pathlib.Path, int] = {}
        self._last = time.monotonic()

    def file(self, path: Place) -> pathlib.Path:
        """Where to write to a file that may be there already."""
        if isinstance(path, pathlib.Path):
            return path
        copy = self.folder(path.parent) / path.name
        with reading(path) as content:
            copy.write_bytes(content.read_bytes())
        self._sent[copy] = copy.stat().st_size
        return copy

    def folder(self, path: Place) -> pathlib.Path:
        """Where to write new files of a folder."""
        if isinstance(path, pathlib.Path):
            path.mkdir(parents=True, exist_ok=True)
            return path
        temporary = tempfile.TemporaryDirectory(prefix='spherecast-')
        copy = pathlib.Path(self._closing.enter_context(temporary))
        self._places[copy] = path
        return copy

    def send(self) -> None:
        """Sends every file that has grown.

        Raises:
          OSError: one of them cannot be sent.
        """
        self._last = time.monotonic()
        for folder, target in self._places.items():
            for path in folder.iterdir():
                size = path.stat().st_size
                if size != self._sent.get(path):
                    send(path, target / path.name)
                    self._sent[path] = size

    def send_now_and_then(self) -> None:
        """Sends, if the last time is long ago; a failure may mend until the next."""
        if time.monotonic() - self._last < SEND_SECONDS:
            return
        try:
            self.send()
        except OSError as error:
            _LOGGER.warning('warning: cannot send the log, later again: %s', error)

    def close(self) -> None:
        """Sends what has not been sent, and removes the files here.

        Raises:
          OSError: one of them cannot be sent.
        """
        with self._closing:
            self.send()
