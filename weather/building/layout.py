"""Where things lie in a prepared store, and the metadata that say so.

A chunk is one time with all levels, the unit in which a training reads; `shard_times`
of them may share a file. The metadata are made in memory and put in place as bytes:
doing so once more changes nothing, which lets a build that was killed begin again at
the beginning. Those of the root come last: without them a store is no Zarr group.
"""

from __future__ import annotations

import posixpath
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import fsspec
import numpy as np
import zarr
import zarr.codecs

from learning.files import replacing
from sphere_ops.grid import LatLonGrid
from weather.building.packing import Packing
from weather.data.axes import CF_ATTRIBUTES
from weather.variables import VARIABLES

DIMS = ('time', 'level', 'latitude', 'longitude')
SUMMARY = 'summary'
METADATA = 'zarr.json'
_TIME = {'standard_name': 'time', 'long_name': 'time', 'axis': 'T'}
_AS_THEY_ARE = Packing()
_LEVELS = {'lz4': 5, 'zstd': 3}


class Place:
    """A store at a path or an address: nothing but fsspec and Zarr touches it."""

    def __init__(self, address: str, options: Mapping[str, Any]):
        """Options are fsspec's, for an address."""
        self.address = address.removeprefix('file://')
        self.options = dict(options) if '://' in self.address else {}
        self.files, self.root = fsspec.core.url_to_fs(self.address, **self.options)

    @property
    def is_local(self) -> bool:
        """Whether it is a path of this machine."""
        return '://' not in self.address

    def inside(self, *names: str) -> str:
        """Path of something within the store, for `files`."""
        return posixpath.join(self.root, *names)

    def read(self, *names: str) -> bytes | None:
        """The bytes of a file; None where there is none."""
        try:
            return bytes(self.files.cat_file(self.inside(*names)))
        except FileNotFoundError:
            return None

    def entries(self) -> set[str]:
        """Names of what is in the store; none where there is no store."""
        self.files.invalidate_cache()
        try:
            found = self.files.ls(self.root, detail=False)
        except FileNotFoundError:
            return set()
        return {posixpath.basename(path.rstrip('/')) for path in found} - {''}

    def find(self, name: str) -> set[str]:
        """All files of an array or a group, as paths within it."""
        self.files.invalidate_cache()
        base = self.inside(name).rstrip('/') + '/'
        return {path.removeprefix(base) for path in self.files.find(base)}

    def remove(self, *names: str) -> None:
        """Removes a file or a folder, if it is there."""
        self.files.invalidate_cache()
        if self.files.exists(self.inside(*names)):
            self.files.rm(self.inside(*names), recursive=True)

    def put(self, content: bytes, *names: str) -> None:
        """Writes a file, whole or not at all, unless it holds these bytes already."""
        if self.read(*names) == content:
            return
        path = self.inside(*names)
        if self.is_local:
            with replacing(path) as temporary:
                temporary.write_bytes(content)
        else:
            self.files.pipe_file(path, content)

    def array(self, name: str) -> zarr.Array:
        """An array of the store, for reading and writing whole chunks."""
        array = zarr.open_array(
            posixpath.join(self.address, name),
            mode='r+',
            zarr_format=3,
            storage_options=self.options or None,
        )
        return with_empty_chunks(array)

    def group(self, name: str = '', mode: Any = 'r') -> zarr.Group:
        """A group of the store."""
        return zarr.open_group(
            posixpath.join(self.address, name) if name else self.address,
            mode=mode,
            storage_options=self.options or None,
            use_consolidated=False,
        )


def with_empty_chunks(array: zarr.Array) -> zarr.Array:
    """The array, which also writes chunks that are NaN throughout.

    One that is absent is a hole, which nobody can tell from a chunk that was lost.
    """
    return array.with_config({'write_empty_chunks': True})


def compressors(compression: str, dtype: np.dtype) -> Any:
    """Codecs of a chunk."""
    if compression == 'none':
        return None
    # Bytes of equal weight lie together: exponents repeat where mantissas do not.
    return zarr.codecs.BloscCodec(
        cname=zarr.codecs.BloscCname(compression),
        clevel=_LEVELS[compression],
        shuffle='shuffle',
        typesize=dtype.itemsize,
    )


def field_metadata(
    name: str,
    shape: Sequence[int],
    *,
    packing: Packing = _AS_THEY_ARE,
    compression: str,
    shard_times: int = 0,
) -> bytes:
    """Metadata of a field: `[time, (level,) lat, lon]`, or `[lat, lon]` of a static."""
    of_time = len(shape) > 2
    dims = {4: DIMS, 3: (DIMS[0], *DIMS[2:]), 2: DIMS[2:]}[len(shape)]
    known = VARIABLES[name]
    # A chunk as long as the shard that it is the only one of would be no shard.
    sharded = of_time and shard_times > 1
    return _metadata(
        name,
        shape=tuple(shape),
        chunks=(1, *shape[1:]) if of_time else tuple(shape),
        shards=(shard_times, *shape[1:]) if sharded else None,
        dtype=packing.dtype,
        fill_value=packing.fill_value,
        compressors=compressors(compression, packing.dtype),
        dimension_names=dims,
        attributes={
            'units': known.units,
            'standard_name': known.standard_name,
            'long_name': known.long_name,
            **packing.attributes,
        },
    )


def column_metadata(name: str, shape: tuple[int, int], block: int) -> bytes:
    """Metadata of a further column `[time, level]` of the record."""
    return _metadata(
        name,
        shape=shape,
        chunks=(block, shape[1]),
        dtype=np.float64,
        fill_value=np.nan,
    )


def _metadata(name: str, **options: Any) -> bytes:
    """Bytes of `zarr.json` of an array."""
    memory = zarr.storage.MemoryStore()
    zarr.create_array(memory, name=name, **options)
    return content_of(memory, f'{name}/{METADATA}')


def content_of(store: zarr.storage.MemoryStore, key: str) -> bytes:
    """The bytes of a file of a store."""
    prototype = zarr.core.buffer.default_buffer_prototype()
    found = zarr.core.sync.sync(store.get(key, prototype))
    assert found is not None
    return found.to_bytes()


def write_coordinates(
    place: Place, times: np.ndarray, levels: Sequence[float], grid: LatLonGrid
) -> None:
    """Writes the coordinates, each one chunk; once more changes nothing."""
    units, numbers = encode_times(times)
    _COORDINATE_VALUES = {
        'time': numbers,
        'level': np.array(levels),
        'latitude': grid.latitudes,
        'longitude': grid.longitudes,
    }
    for name, values in _COORDINATE_VALUES.items():
        if not values.size:
            continue
        attributes: dict[str, Any] = dict(CF_ATTRIBUTES.get(name, _TIME))
        if name == 'time':
            attributes |= {'units': units, 'calendar': 'proleptic_gregorian'}
        memory = zarr.storage.MemoryStore()
        zarr.create_array(
            memory,
            name=name,
            data=values,
            chunks=values.shape,
            compressors=None,
            fill_value=np.nan if values.dtype.kind == 'f' else 0,
            dimension_names=(name,),
            attributes=attributes,
            config={'write_empty_chunks': True},
        )
        for key in ('c/0', METADATA):
            place.put(content_of(memory, f'{name}/{key}'), name, *key.split('/'))


def encode_times(times: np.ndarray) -> tuple[str, np.ndarray]:
    """CF units and whole numbers `[time]` int64 that times are stored as."""
    origin = times[0].astype('datetime64[D]')
    since = times - origin
    units = {
        'hours': np.timedelta64(1, 'h'),
        'minutes': np.timedelta64(1, 'm'),
        'seconds': np.timedelta64(1, 's'),
    }
    for word, step in units.items():
        if not (since % step).astype(np.int64).any():
            return f'{word} since {origin}', (since // step).astype(np.int64)
    raise ValueError('expected times in whole seconds')


def root_metadata(
    place: Place, names: Sequence[str], attributes: Mapping[str, Any]
) -> bytes:
    """Metadata of the root, with a copy of those of all arrays and groups in it."""
    memory = zarr.storage.MemoryStore()
    zarr.create_group(memory, attributes=dict(attributes))
    for name in names:
        content = place.read(name, METADATA)
        assert content is not None
        _put(memory, f'{name}/{METADATA}', content)
    for path in sorted(place.find(SUMMARY)):
        if path.endswith(METADATA):
            content = place.read(SUMMARY, *path.split('/'))
            assert content is not None
            _put(memory, f'{SUMMARY}/{path}', content)
    with warnings.catch_warnings():
        # That Zarr's specification does not have it yet: readers without it ignore it.
        warnings.simplefilter('ignore')
        zarr.consolidate_metadata(memory)
    return content_of(memory, METADATA)


def _put(store: zarr.storage.MemoryStore, key: str, content: bytes) -> None:
    buffer = zarr.core.buffer.cpu.Buffer.from_bytes(content)
    zarr.core.sync.sync(store.set(key, buffer))


def chunk_keys(num_times: int, shard_times: int, rank: int) -> list[str]:
    """Files of a field, by the number of the first time in each."""
    rest = '/0' * (rank - 1)
    return [f'c/{i}{rest}' for i in range(-(-num_times // max(shard_times, 1)))]
