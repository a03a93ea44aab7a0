"""Google Cloud Storage on this machine, for tests: gcp-storage-emulator, repaired.

Four things of it differ from the real one (seen with 2026.7.19): it serves one request
at a time, it ignores ranges from the end (`bytes=-N`, with which the reading of a shard
of Zarr v3 begins), it sends no `x-goog-generation`, and it keeps no conditions on what
is written (`ifGenerationMatch=0`: there must be no such object yet). And whatever is
written, it writes the metadata of all objects again, which here are only kept in
memory.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import io
import json
import logging
import os
import pathlib
import re
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import gcsfs
import pytest
from etils.epath import backend as epath_backends
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import buckets
from gcp_storage_emulator.server import RequestHandler
from gcp_storage_emulator.storage import Storage

BUCKET = 'test-bucket'
_NAMED = re.compile(rb'"name": ("[^"]*")')
_OBJECT = re.compile(r'/b/([^/]+)/o/([^?]+).*[?&]alt=media')
# What the emulator keeps are plain dictionaries.
_ONE_AT_A_TIME = threading.RLock()


class _Storage(Storage):
    def _write_config_to_file(self) -> None:
        """Nobody would read it."""


class _Handler(RequestHandler):
    """The emulator's, with what it lacks."""

    def do_GET(self) -> None:
        with _ONE_AT_A_TIME:
            suffix = re.fullmatch(r'bytes=-(\d+)', self.headers.get('Range', ''))
            found = self._object()
            if suffix and found is not None:
                start = max(int(found['size']) - int(suffix[1]), 0)
                self.headers.replace_header('Range', f'bytes={start}-')
            super().do_GET()

    def do_POST(self) -> None:
        with _ONE_AT_A_TIME:
            if 'ifGenerationMatch=0' in self.path:
                self._create()
            else:
                super().do_POST()

    def _create(self) -> None:
        """Writes an object that must be new."""
        length, stream = int(self.headers['Content-Length']), self.rfile
        body = stream.read(length)
        named = _NAMED.search(body)
        bucket = self.path.partition('/b/')[2].partition('/')[0]
        try:
            self.storage.get_file_obj(bucket, json.loads(named[1]) if named else '')
        except NotFound:
            self.rfile = io.BytesIO(body)
            super().do_POST()
            self.rfile = stream
        else:
            self.send_error(412)

    def do_PUT(self) -> None:
        with _ONE_AT_A_TIME:
            super().do_PUT()

    def do_DELETE(self) -> None:
        with _ONE_AT_A_TIME:
            super().do_DELETE()

    def end_headers(self) -> None:
        found = self._object()
        if found is not None:
            self.send_header('x-goog-generation', found['generation'])
        super().end_headers()

    def _object(self) -> dict[str, Any] | None:
        """What is known of the object whose bytes are asked for."""
        place = _OBJECT.search(self.path)
        if place is None or self.command != 'GET':
            return None
        try:
            return self.storage.get_file_obj(place[1], urllib.parse.unquote(place[2]))
        except Exception:  # Not there: so the emulator answers.
            return None


@contextlib.contextmanager
def running(bucket: str = BUCKET) -> Iterator[str]:
    """Runs an empty store with one bucket; yields its URL."""
    for name in ('api', 'gcp_storage_emulator'):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    storage = _Storage(use_memory_fs=True)
    buckets.create_bucket(bucket, storage)
    handler = functools.partial(_Handler, storage)
    with serving(handler) as url:
        yield url


@contextlib.contextmanager
def standing_in() -> Iterator[str]:
    """Runs an empty store in the place of Google's, for all that knows `gs://`."""
    names = 'STORAGE_EMULATOR_HOST', 'TENSORSTORE_GCS_HTTP_URL'
    with running() as url, pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setenv(name, url)
        # gcsfs, and Orbax's paths, keep what they have connected to once.
        _forget_connections()
        yield url
    _forget_connections()


def _forget_connections() -> None:
    gcsfs.GCSFileSystem.clear_instance_cache()
    epath_backends.fsspec_backend._get_filesystem.cache_clear()


def upload(folder: str | os.PathLike[str], url: str, name: str) -> str:
    """Copies a folder into the bucket, faster than gcsfs; returns its address."""
    for path in pathlib.Path(folder).rglob('*'):
        if path.is_file():
            key = urllib.parse.quote(
                f'{name}/{path.relative_to(folder).as_posix()}', safe=''
            )
            place = f'{url}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={key}'
            headers = {'Content-Type': 'application/octet-stream'}
            sent = urllib.request.Request(place, path.read_bytes(), headers)
            urllib.request.urlopen(sent).close()
    return f'gs://{BUCKET}/{name}'


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *args: Any) -> None:
        """Says nothing of clients that went away."""


@contextlib.contextmanager
def serving(handler: Any) -> Iterator[str]:
    """Runs an HTTP server at a free port of this machine; yields its URL."""
    server = _Server(('127.0.0.1', 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f'http://127.0.0.1:{server.server_address[1]}'
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
