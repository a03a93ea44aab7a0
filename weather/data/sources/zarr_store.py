"""A Zarr group as a source: v2, v3, sharded, local, zipped, or at an address.

At an address all is read patiently (`patient`) and, where the options say so, through a
cache on the local disk (`disk_cache`).
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import itertools
import json
import logging
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store

from weather.data import disk_cache
from weather.data.chunk_files import ChunkFiles
from weather.data.patient import (
    ForbiddenError,
    GaveUpError,
    PatientStore,
    ask_once,
    refuses_connections,
)
from weather.data.sources import Options, StoreNotFoundError

_MARKERS = ('.zgroup', '.zmetadata', 'zarr.json')


def claims(source: Any) -> bool:
    """Whether `source` is an address, a zip, or a folder that looks like Zarr."""
    if not isinstance(source, str) or source.lower().endswith(('.nc', '.nc4')):
        return False
    if '://' in source:
        return True
    path = pathlib.Path(source)
    if path.suffix == '.zip':
        return path.is_file()
    return path.is_dir() and (
        path.suffix == '.zarr' or any((path / name).exists() for name in _MARKERS)
    )


def open_raw(source: str, options: Options) -> ZarrStore:
    """Opens a group; without credentials, anonymously.

    On a local disk the metadata are read array by array: a consolidated copy may be
    older than the arrays (appended to without consolidating). At an address the copy
    is used, since one may be unable to list, and its time axis is compared.

    Raises:
      ValueError: unreadable. `StoreNotFoundError` where nothing is there.
    """
    failure: Exception | None = None
    for attempt in _attempts(source, options):
        try:
            group = _open_group(source, attempt)
            _check_consolidated(group, source)
            return ZarrStore(group, source)
        except _StaleMetadataError:
            raise
        # File systems and the network raise whatever they like.
        except Exception as error:
            failure = failure or error  # The first has the user's own options.
            if isinstance(error, GaveUpError) or refuses_connections(error):
                break
    # The last where a library for such addresses is not installed; it says which.
    if isinstance(failure, GaveUpError | ForbiddenError | ImportError):
        raise ValueError(f'cannot open {source}: {failure}') from failure
    if refuses_connections(failure):
        raise ValueError(
            f'cannot open {source}: nobody answers there ({failure}); check the '
            'network and the address of the server'
        ) from failure
    if pathlib.Path(source, 'summary', 'zarr.json').is_file():
        raise ValueError(
            f'{source} is not finished: prepare_data.py was ended while it wrote '
            'there; run the same command again, and it goes on'
        ) from failure
    kind = StoreNotFoundError if isinstance(failure, FileNotFoundError) else ValueError
    raise kind(
        f'expected a Zarr group (v2 or v3) at {source}, found none: '
        f'{type(failure).__name__}: {failure}; check the path and the permissions, and '
        'convert other formats with xarray.Dataset.to_zarr'
    ) from failure


def _attempts(source: str, options: Options) -> list[dict[str, Any]]:
    if '://' not in source:
        return [{}]
    attempts = [dict(options or {})]
    if source.startswith(('gs://', 'gcs://')):
        if 'STORAGE_EMULATOR_HOST' in os.environ:
            # gcsfs would open gRPC over TLS to the emulator, and hang.
            os.environ.setdefault('GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT', 'false')
        # It would print a traceback beside the error that it raises.
        logging.getLogger('gcsfs').setLevel(logging.CRITICAL)
        if 'token' not in (options or {}):
            attempts.append({**(options or {}), 'token': 'anon'})
    return attempts


def _open_group(source: str, options: dict[str, Any]) -> zarr.Group:
    if '://' in source:
        local = source.startswith('file://')
        return zarr.open_group(
            _store_at(source, options),
            mode='r',
            use_consolidated=False if local else None,
        )
    if source.endswith('.zip'):
        return zarr.open_group(zarr.storage.ZipStore(source, mode='r'), mode='r')
    return zarr.open_group(source, mode='r', use_consolidated=False)


def _store_at(source: str, options: dict[str, Any]) -> Store:
    fsspec_options, folder, max_bytes = disk_cache.split(options)
    found = _fsspec_store(source, fsspec_options)
    found.fs.invalidate_cache()  # Whoever opens a store asks what is there now.
    store = PatientStore(found, source, _access(found.fs, fsspec_options))
    return disk_cache.CachedStore.of(store, folder, max_bytes) if folder else store


# As fsspec keeps file systems, but apart from those of others: ours do not retry.
_FSSPEC_STORES: dict[str, zarr.storage.FsspecStore] = {}


def _fsspec_store(source: str, options: dict[str, Any]) -> zarr.storage.FsspecStore:
    key = f'{source} {sorted(options.items())}'
    if key not in _FSSPEC_STORES:
        own = {'skip_instance_cache': True, **options}
        found = zarr.storage.FsspecStore.from_url(
            source, storage_options=own, read_only=True
        )
        ask_once(found.fs)
        _FSSPEC_STORES[key] = found
    return _FSSPEC_STORES[key]


def _access(fs: Any, options: Mapping[str, Any]) -> str:
    """How a file system asks, in words."""
    if not isinstance(fs.protocol, str) and 'gs' in fs.protocol:
        anonymous = fs.credentials.credentials is None
    else:
        # Whatever they are called: with none of them there are no credentials either,
        # except those that a library finds by itself.
        anonymous = bool(options.get('anon')) or 'http' in fs.protocol and not options
    return 'anonymously' if anonymous else 'with credentials'


class _StaleMetadataError(ValueError):
    pass


def _check_consolidated(group: zarr.Group, source: str) -> None:
    """Refuses a consolidated copy of the metadata that knows fewer times."""
    if group.metadata.consolidated_metadata is None:
        return
    for name in ('time', 'valid_time', 'init_time'):
        consolidated = group.get(name)
        if not isinstance(consolidated, zarr.Array):
            continue
        array = zarr.open_array(consolidated.store_path, mode='r')
        if array.shape != consolidated.shape:
            raise _StaleMetadataError(
                f'expected consolidated metadata that know all of {name} in {source}, '
                f'found {consolidated.shape[0]} of {array.shape[0]} times: the store '
                'was appended to since; consolidate again with '
                'zarr.consolidate_metadata'
            )


class ZarrStore:
    """See `RawStore`."""

    def __init__(self, group: zarr.Group, address: str):
        self.group = group
        self.address = address
        self.attributes: Mapping[str, Any] = {
            k: v for k, v in group.attrs.items() if not k.startswith('_')
        }

    @property
    def access(self) -> str:
        """How it was reached: `'anonymously'`, `'with credentials'`, `'on disk'`."""
        store = self.group.store
        if isinstance(store, disk_cache.CachedStore):
            store = store.inner
        return store.access if isinstance(store, PatientStore) else 'on disk'

    @functools.cached_property
    def _names(self) -> list[str]:
        return sorted(self.group.array_keys())

    def names(self) -> list[str]:
        """See `RawStore`."""
        try:
            return self._names
        # Damaged bytes raise anything.
        except Exception as error:
            if self.address.startswith(('http://', 'https://')):
                return []  # Plain web servers cannot list.
            raise ValueError(
                f'cannot read the metadata in {self.address}: {error}; copy them again '
                'from their source'
            ) from error

    def variable(self, name: str) -> ZarrVariable | None:
        """See `RawStore`."""
        try:
            array = self.group.get(name)
        # Damaged bytes raise anything.
        except Exception as error:
            raise ValueError(
                f'cannot read the metadata of {name} in {self.address}: {error}; copy '
                'them again from their source'
            ) from error
        return ZarrVariable(array) if isinstance(array, zarr.Array) else None

    def close(self) -> None:
        """Closes a zip; other stores keep nothing open."""
        self.group.store.close()


class ZarrVariable:
    """See `RawVariable`."""

    def __init__(self, array: zarr.Array):
        self.array = array
        attributes: dict[str, Any] = dict(array.attrs)
        # Names of the axes: v3 metadata, or xarray's attribute in v2.
        named = getattr(array.metadata, 'dimension_names', None)
        self.dims = tuple(map(str, named or attributes.get('_ARRAY_DIMENSIONS') or ()))
        self.shape = array.shape
        self.dtype = array.dtype
        self.chunks = array.chunks
        fill = array.fill_value
        self.fill_value = np.zeros((), self.dtype)[()] if fill is None else fill
        for name in ('_FillValue', 'missing_value'):
            if name in attributes:
                attributes[name] = _spelt_out(attributes[name])
        if array.metadata.zarr_format == 2:
            attributes = {**self._version_2_missing(attributes), **attributes}
        self.attributes: Mapping[str, Any] = attributes
        self._readable: Any = ChunkFiles.of(array) or array

    def _version_2_missing(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """In Zarr v2 `fill_value` doubles as the missing value (xarray's convention).

        Except a 0 of numbers that are not packed: that is what zarr writes when nobody
        chose, and to take it for missing would turn every exact zero (sea points of a
        land mask) into NaN.
        """
        fill = self.array.metadata.fill_value
        packed = {'scale_factor', 'add_offset'} & set(attributes)
        if fill is None or self.dtype.kind not in 'iuf' or (fill == 0 and not packed):
            return {}
        return {'_FillValue': fill}

    def read(self, box: tuple[slice, ...]) -> np.ndarray:
        """See `RawVariable`."""
        return np.asarray(self._readable[box])

    def read_into(self, out: np.ndarray, box: tuple[slice, ...]) -> None:
        """See `DirectVariable`."""
        if isinstance(self._readable, ChunkFiles):
            self._readable.read_into(out, box)
        else:
            out[...] = self._readable[box]

    def never_written(self, box: tuple[slice, ...]) -> np.ndarray:
        """Reads once more with another fill value: what differs is not in the store.

        So the chunks within a shard are judged too, and those behind an address.
        """
        ours = self.fill_value
        # Any number but ours.
        is_nan = ours != ours
        in_float = self.dtype.kind == 'f' and not is_nan
        other = np.nan if in_float else self.dtype.type(ours == 0)
        inner = self.array.async_array
        metadata = dataclasses.replace(
            inner.metadata, fill_value=self.dtype.type(other)
        )
        again = zarr.Array(
            zarr.AsyncArray(metadata, inner.store_path, config=inner.config)
        )
        one, another = self.read(box), np.asarray(again[box])
        if is_nan:
            return np.isnan(one) & ~np.isnan(another)
        return (one == ours) & (another != ours)

    def version(self, box: tuple[slice, ...]) -> Iterator[str] | None:
        """See `RawVariable`: on a local disk, size and time of change of every chunk.

        Elsewhere a hundred thousand chunks would take minutes to list.
        """
        store = self.array.store
        if not isinstance(store, zarr.storage.LocalStore):
            return None
        return self._files(os.fspath(store.root / self.array.path), box)

    def _files(self, folder: str, box: tuple[slice, ...]) -> Iterator[str]:
        # The codecs, but not the length in time, which may grow.
        metadata = self.array.metadata.to_dict() | {'shape': None}
        yield json.dumps(metadata, sort_keys=True, default=str)
        sizes = self.array.shards or self.array.chunks  # What is one file.
        chunks = [
            range(along.start // size, -(-along.stop // size))
            for along, size in zip(box, sizes, strict=True)
        ]
        for place in itertools.product(*chunks):
            key = self.array.metadata.encode_chunk_key(place)
            try:
                found = os.stat(f'{folder}/{key}')
            except FileNotFoundError:
                yield f'{place} is not there'
            else:
                yield f'{place} {found.st_size} {found.st_mtime_ns}'


def _spelt_out(value: Any) -> Any:
    """Xarray spells a float in Zarr v3 as base64 of its eight bytes."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return float(np.frombuffer(base64.standard_b64decode(value), '<f8')[0])
