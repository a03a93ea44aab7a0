"""Places: local paths, and addresses in a bucket (`gs://`), under the same methods.

A local place is a pathlib.Path, an address an `etils.epath.Path`: it comes with Orbax,
which writes with it too, so that one set of credentials serves both. What the two do
not have in common is here. A bucket has no folders, cannot rename, and cannot append;
its objects appear whole, and it states the size and the checksums of each.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import fsspec
from etils import epath

# Where places are only read or written, either will do.
Place: TypeAlias = pathlib.Path | epath.Path
PathLike: TypeAlias = str | os.PathLike[str]

_BUCKETS = ('gs://', 'gcs://')


class AddressError(ValueError):
    """An address of a kind in which no run can lie; says which can."""


@dataclasses.dataclass(frozen=True)
class Stated:
    """What is known of a file or an object without reading it.

    Attributes:
      bytes: its size.
      sums: checksums in hexadecimal that a bucket states, by name (`md5`, `crc32c`).
      written: when; UTC.
    """

    bytes: int
    sums: Mapping[str, str]
    written: datetime.datetime


def is_address(path: PathLike) -> bool:
    """Whether a path is not on this machine."""
    text = os.fspath(path)
    return '://' in text and not text.startswith('file://')


def place(path: PathLike) -> Place:
    """The place that a path or an address names.

    Raises:
      AddressError: it is an address in no bucket of Google's.
    """
    text = os.fspath(path)
    if not is_address(text):
        return pathlib.Path(text.removeprefix('file://')).expanduser()
    if not text.startswith(_BUCKETS):
        raise AddressError(
            f'expected a local path or an address gs://BUCKET/NAME, found {text}; copy '
            'what is there to one of these'
        )
    _prepare()
    return epath.Path('gs://' + text.partition('://')[2].rstrip('/'))


def bucket_files() -> fsspec.AbstractFileSystem:
    """The file system of addresses, for what a place's methods do not know."""
    _prepare()
    return fsspec.filesystem('gs')


def _prepare() -> None:
    # gcsfs remembers what a bucket held, and would not see what TensorStore or another
    # process has written since.
    options = fsspec.config.conf.setdefault('gs', {})
    options.setdefault('use_listings_cache', False)
    if emulated := os.environ.get('STORAGE_EMULATOR_HOST'):
        # TensorStore has a name of its own for it, and wants a token in any case.
        os.environ.setdefault('TENSORSTORE_GCS_HTTP_URL', emulated)
        os.environ.setdefault('GOOGLE_AUTH_TOKEN_FOR_TESTING', 'none')
        options.setdefault('token', 'anon')
        # The emulator knows nothing of the kinds of buckets that gcsfs asks for.
        os.environ.setdefault('GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT', 'false')


def contents(folder: PathLike) -> dict[str, Stated]:
    """All files below a folder, by their names in it; one request where in a bucket."""
    found = place(folder)
    if isinstance(found, pathlib.Path):
        paths = sorted(path for path in found.rglob('*') if path.is_file())
        return {path.relative_to(found).as_posix(): look(path) for path in paths}
    entries = bucket_files().find(os.fspath(found), detail=True)
    start = len(os.fspath(found).removeprefix('gs://')) + 1
    return {name[start:]: _stated(entry) for name, entry in sorted(entries.items())}


def look(path: PathLike) -> Stated:
    """What is known of one file or object.

    Raises:
      FileNotFoundError: there is none.
    """
    found = place(path)
    if not isinstance(found, pathlib.Path):
        return _stated(bucket_files().info(os.fspath(found)))
    known = found.stat()
    written = datetime.datetime.fromtimestamp(known.st_mtime, datetime.UTC)
    return Stated(known.st_size, {}, written)


def _stated(entry: Mapping[str, Any]) -> Stated:
    names = {'md5': entry.get('md5Hash'), 'crc32c': entry.get('crc32c')}
    sums = {k: base64.b64decode(text).hex() for k, text in names.items() if text}
    when = entry.get('mtime') or entry['updated']
    if isinstance(when, str):
        when = datetime.datetime.fromisoformat(when)
    return Stated(int(entry['size']), sums, when)


def numbered(folder: PathLike) -> list[int]:
    """Numbers, ascending, of the folders in a folder that a number is the name of."""
    found = place(folder)
    entries = found.iterdir() if found.is_dir() else ()
    names = (entry.name for entry in entries if entry.is_dir())
    # Not 060, whose number is another name.
    return sorted(int(n) for n in names if n.isdecimal() and n == str(int(n)))


def remove_folder(folder: PathLike) -> None:
    """Removes a folder with all that is in it, if it is there.

    Raises:
      OSError: a bucket refuses; on a disk, what cannot be removed stays.
    """
    found = place(folder)
    if isinstance(found, pathlib.Path):
        shutil.rmtree(found, ignore_errors=True)
    elif contents(found):
        bucket_files().rm(os.fspath(found), recursive=True)


def create(path: epath.Path, content: bytes) -> None:
    """Makes an object that must not be there yet, by a condition that the bucket keeps.

    Raises:
      FileExistsError: it is there.
    """
    bucket_files().pipe_file(os.fspath(path), content, mode='create')


@contextlib.contextmanager
def sending(address: PathLike) -> Iterator[pathlib.Path]:
    """Yields a file to write here, which is then sent to an address as a whole."""
    with tempfile.TemporaryDirectory(prefix='spherecast-') as folder:
        temporary = pathlib.Path(folder) / place(address).name
        yield temporary
        send(temporary, address)


def send(path: pathlib.Path, address: PathLike) -> None:
    """Sends a file to an address, where it appears as a whole."""
    bucket_files().put_file(os.fspath(path), os.fspath(place(address)))


@contextlib.contextmanager
def reading(path: PathLike) -> Iterator[pathlib.Path]:
    """Yields a file to read here, for libraries that read no addresses: a copy of one.

    Raises:
      FileNotFoundError: it is an address of nothing.
    """
    found = place(path)
    if isinstance(found, pathlib.Path):
        yield found
        return
    with tempfile.TemporaryDirectory(prefix='spherecast-') as folder:
        copy = pathlib.Path(folder) / found.name
        copy.write_bytes(found.read_bytes())
        yield copy


def move_folder(folder: epath.Path, target: epath.Path) -> None:
    """Gives the objects below a folder other names, one by one, without reading them.

    Copies first: a process that dies in between leaves all of them under one name.
    """
    files = bucket_files()
    for name in contents(folder):
        files.cp_file(os.fspath(folder / name), os.fspath(target / name))
    remove_folder(folder)
