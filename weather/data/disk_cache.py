"""A folder on the local disk that keeps what was read at addresses, within a bound.

Several processes may share the folder. The bound holds for all of them together and
across restarts: what is there is counted in one file, under a lock, before anything is
written, and counted anew by looking whenever room has to be made. What was used longest
ago goes first. An entry appears whole or not at all (written aside, then renamed), and
says its length and CRC-32C: what a crash or the disk damaged is read again, not served.

What is kept belongs to one version of a store: the name of an entry includes what the
server says of the store's metadata and of those of the array (generation, ETag, time of
change), asked when the store is opened. Whoever writes a store or appends to it writes
these, and so nothing old is served for it. A chunk that is replaced in place by a tool
that touches no metadata is not seen: empty the folder after such a repair. Where a
server says nothing of versions, nothing is kept. Metadata themselves are never kept,
nor that something is missing.

Own code, because what exists does less: `zarr.experimental.cache_store.CacheStore`
(3.1) counts in memory, so that neither other processes nor a restart know the bound,
and keeps parts of shards in memory only; fsspec's `filecache` and `blockcache` have no
bound in bytes; `diskcache` has had no release since 2023.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import hashlib
import logging
import os
import pathlib
import struct
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Self

import google_crc32c
from zarr.abc.buffer import Buffer
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import BufferPrototype
from zarr.storage import WrapperStore

from weather.data.patient import PatientStore

_LOGGER = logging.getLogger(__name__)
_GIGABYTE = 1e9
_HEADER = struct.Struct('<4sIQ')  # Magic, CRC-32C, length.
_MAGIC = b'sph1'
# Room is made for more than one entry at a time.
_AFTER_MAKING_ROOM = 0.9
_ABANDONED_S = 3600  # No entry takes an hour to write.
_METADATA = ('zarr.json', '.zgroup', '.zattrs', '.zarray', '.zmetadata')
# What file systems call that which changes when an object does.
_VERSIONS = (
    'generation', 'etag', 'ETag', 'md5Hash', 'Content-MD5', 'updated', 'mtime',
    'LastModified', 'Last-Modified', 'last_modified', 'VersionId', 'created',
)  # fmt: skip


class Settings(NamedTuple):
    """Options of ours, and those for fsspec."""

    fsspec_options: dict[str, Any]
    folder: str
    max_bytes: int


def split(options: Mapping[str, Any]) -> Settings:
    """Separates `disk_cache` and `disk_cache_gb` from the options for fsspec."""
    others = dict(options)
    folder = str(others.pop('disk_cache', '') or '')
    gigabytes = float(others.pop('disk_cache_gb', 100.0))
    if folder and not gigabytes > 0:
        raise ValueError(f'expected a positive disk_cache_gb, got {gigabytes:g}')
    return Settings(others, os.path.expanduser(folder), int(gigabytes * _GIGABYTE))


class DiskCache:
    """Bytes by name in a folder, within a bound.

    Attributes:
      folder: of the entries; nothing else in it is touched.
      max_bytes: of all files together, unfinished ones included.
    """

    def __init__(self, folder: str | os.PathLike[str], max_bytes: int):
        """Makes the folder where it is missing, and counts what is in it."""
        # Below: whoever names a folder with files of their own loses none.
        self.folder = pathlib.Path(folder) / 'chunks'
        self.max_bytes = max_bytes
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            self._make_room(0)

    def get(self, name: str) -> bytes | None:
        """Returns what was put under a name; None if nothing (whole) is there."""
        path = self._path(name)
        try:
            stored = path.read_bytes()
            os.utime(path)  # The time of the last use.
        except OSError:
            return None
        value = stored[_HEADER.size :]
        if stored[: _HEADER.size] == _header(value):
            return value
        _LOGGER.warning('warning: %s is damaged: read again', path)
        path.unlink(missing_ok=True)
        return None

    def put(self, name: str, value: bytes) -> None:
        """Keeps a value, unless it is larger than everything may be.

        A disk that is full or cannot be written to is logged: nothing depends on it.
        """
        path, size = self._path(name), _HEADER.size + len(value)
        if size > self.max_bytes:
            return
        try:
            # One at a time: to write a chunk is short beside fetching it, and nobody
            # counts files that another is about to make.
            with self._locked():
                total = self._total()
                if total + size > self.max_bytes:
                    total = self._make_room(size)
                if total + size > self.max_bytes:
                    return  # Less than one entry would be left.
                # Noted first: a crash in between counts too much, never too little.
                self._note(total + size)
                self._write(path, value)
        except OSError as error:
            _LOGGER.warning('warning: nothing kept in %s: %s', self.folder, error)

    def _write(self, path: pathlib.Path, value: bytes) -> None:
        path.parent.mkdir(exist_ok=True)
        part = path.with_name(f'{path.name}.{uuid.uuid4().hex}.part')
        with part.open('xb') as file:
            file.write(_header(value))
            file.write(value)
        os.replace(part, path)

    def _path(self, name: str) -> pathlib.Path:
        return self.folder / name[:2] / name

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # Opened each time: threads exclude one another as well.
        with (self.folder / 'lock').open('ab') as file:
            with contextlib.suppress(OSError):  # Of a file system without locks.
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _total(self) -> int:
        try:
            return int((self.folder / 'bytes').read_text())
        except (OSError, ValueError):  # Cut short by a crash.
            return self._make_room(0)

    def _note(self, total: int) -> None:
        (self.folder / 'bytes').write_text(str(total))

    def _make_room(self, size: int) -> int:
        """Removes what was used longest ago; returns the bytes that remain."""
        entries = sorted(self._entries())
        total = sum(entry.size for entry in entries)
        if total + size > self.max_bytes:
            wanted = _AFTER_MAKING_ROOM * self.max_bytes - size
            for entry in entries:
                if total <= max(wanted, 0):
                    break
                if entry.path.endswith('.part'):
                    continue  # Somebody is writing it.
                pathlib.Path(entry.path).unlink(missing_ok=True)
                total -= entry.size
        self._note(total)
        return total

    def _entries(self) -> Iterator[_Entry]:
        now = time.time()
        for folder in os.scandir(self.folder):
            if not folder.is_dir():
                continue
            for file in os.scandir(folder):
                with contextlib.suppress(FileNotFoundError):  # Renamed meanwhile.
                    found = file.stat()
                    abandoned = now - found.st_mtime > _ABANDONED_S
                    if file.name.endswith('.part') and abandoned:
                        os.unlink(file)
                        continue
                    yield _Entry(found.st_mtime_ns, found.st_size, file.path)


class _Entry(NamedTuple):
    used_ns: int
    size: int
    path: str


def _header(value: bytes) -> bytes:
    return _HEADER.pack(_MAGIC, google_crc32c.value(value), len(value))


@functools.cache
def _shared(folder: str, max_bytes: int) -> DiskCache:
    """One for all stores: to count what is there once."""
    return DiskCache(folder, max_bytes)


class CachedStore(WrapperStore[PatientStore]):
    """A store of which chunks are kept in a `DiskCache`.

    Attributes:
      inner: the store itself.
    """

    def __init__(self, store: PatientStore, cache: DiskCache):
        super().__init__(store)
        self.inner = store
        self._cache = cache
        self._versions: dict[str, asyncio.Task[str]] = {}

    @classmethod
    def of(cls, store: PatientStore, folder: str, max_bytes: int) -> CachedStore:
        """Returns `store` read through `folder`.

        Raises:
          ValueError: the folder cannot be made.
        """
        try:
            return cls(store, _shared(os.path.abspath(folder), max_bytes))
        except OSError as error:
            raise ValueError(
                f'expected a folder that can be written to as data.disk_cache, found '
                f'{folder}: {error}; name another one'
            ) from error

    def _with_store(self, store: PatientStore) -> Self:
        return type(self)(store, self._cache)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """See `PatientStore.get`: chunks from the cache where they are there."""
        version = '' if key.endswith(_METADATA) else await self._version(key)
        if not version:
            return await self._store.get(key, prototype, byte_range)
        said = f'{self._store.address}\n{version}\n{key}\n{byte_range}'
        name = hashlib.sha256(said.encode()).hexdigest()
        known = await asyncio.to_thread(self._cache.get, name)
        if known is not None:
            return prototype.buffer.from_bytes(known)
        value = await self._store.get(key, prototype, byte_range)
        if value is not None:
            await asyncio.to_thread(self._cache.put, name, value.to_bytes())
        return value

    async def _get_many(self, requests: Any) -> Any:
        async for found in Store._get_many(self, requests):
            yield found

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Any
    ) -> list[Buffer | None]:
        """See `get`."""
        each = (self.get(key, prototype, part) for key, part in key_ranges)
        return list(await asyncio.gather(*each))

    async def _version(self, key: str) -> str:
        """What is said of the metadata above an object; '' where nothing is."""
        top = key.split('/', 1)[0]
        if top not in self._versions:
            # A task: of many chunks that are asked for at a time, one finds out.
            self._versions[top] = asyncio.create_task(self._find_version(top))
        try:
            return await asyncio.shield(self._versions[top])
        except Exception:
            self._versions.pop(top, None)  # Not forever.
            raise

    async def _find_version(self, top: str) -> str:
        keys = [*_METADATA, f'{top}/zarr.json', f'{top}/.zarray']
        told = [
            {name: str(of[name]) for name in _VERSIONS if name in of}
            for of in [await self._store.info(key) for key in keys]
        ]
        if not any(told):
            _LOGGER.warning(
                'warning: the server of %s says nothing of versions: data.disk_cache '
                'keeps nothing of it',
                self._store.address,
            )
            return ''
        return repr(told)
