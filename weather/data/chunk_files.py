"""Chunks on a local disk, read and decoded straight into the reader's array.

zarr hands each chunk to an event loop and from there twice to threads, half a
millisecond or more, and every reader but this one makes a new array for what it reads:
to fault its pages in takes longer than to copy them, and threads wait for each other
while they do. Measured with `benchmarks.loader` (its docstring has the figures), zarr,
zarr with the codecs of zarrs, and tensorstore took 1.3 to 3.4 times the processor time
for slabs of 256x256x13, and more for small ones.

Arrays of the plain kinds (below) are read so, Zarr v2 and v3, sharded or not; all
others, and all addresses, by zarr.
"""

from __future__ import annotations

import io
import itertools
import math
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cachetools
import google_crc32c
import numcodecs
import numpy as np
import zarr

# Larger buffers are not kept for the next chunk: a thread may live for long.
_KEPT_BYTES = 2**25
# Shards of which it is remembered where their chunks are.
_KEPT_INDICES = 256
# Where an index says that a chunk was never written.
_ABSENT = 2**64 - 1

_Decode = Callable[[Any], Any]
_CODECS: dict[str, Any] = {
    'blosc': numcodecs.Blosc(),
    'gzip': numcodecs.GZip(),
    'zstd': numcodecs.Zstd(),
}


class ChunkFiles:
    """An array whose chunks are files, or parts of shards: bytes in C order."""

    def __init__(
        self, folder: str, array: zarr.Array, codec: Any, dtype: np.dtype, shards: Any
    ):
        """Use `of`.

        Args:
          folder: where the files are.
          array: what they belong to.
          codec: decompresses a chunk; None where nothing is compressed.
          dtype: of the stored numbers, with their byte order.
          shards: where chunks are within a file; None for files of one chunk.
        """
        self.dtype = dtype
        self._folder = folder
        self._codec = codec
        self._shards: _Shards | None = shards
        self._chunks: tuple[int, ...] = array.chunks
        self._num_bytes = math.prod(array.chunks) * dtype.itemsize
        self._key_of = array.metadata.encode_chunk_key
        # Zarr leaves out chunks that hold the fill value only.
        self._fill = 0 if array.fill_value is None else array.fill_value

    @classmethod
    def of(cls, array: zarr.Array) -> ChunkFiles | None:
        """Returns a reader of `array`, or None if it is not of these plain kinds."""
        if not isinstance(array.store, zarr.storage.LocalStore):
            return None
        metadata: Any = array.metadata
        plain = _version_2(metadata) if metadata.zarr_format == 2 else _version_3(array)
        if plain is None:
            return None
        return cls(os.fspath(array.store.root / array.path), array, *plain)

    def __getitem__(self, box: tuple[slice, ...]) -> np.ndarray:
        """Reads a box, slices of step 1 within the array along every axis."""
        out = np.empty([along.stop - along.start for along in box], self.dtype)
        self.read_into(out, box)
        return out

    def read_into(self, out: np.ndarray, box: tuple[slice, ...]) -> None:
        """Reads a box into `out`, which may be a view and of another dtype.

        Raises:
          ValueError, OSError, RuntimeError: a chunk that is damaged.
        """
        sizes = self._chunks
        numbers = [
            range(along.start // size, (along.stop - 1) // size + 1)
            for along, size in zip(box, sizes, strict=True)
        ]
        for chunk in itertools.product(*numbers):
            starts = [number * size for number, size in zip(chunk, sizes, strict=True)]
            shared = [
                (max(along.start, start), min(along.stop, start + size))
                for along, start, size in zip(box, starts, sizes, strict=True)
            ]
            # With an ellipsis it is a view even where there are no axes.
            part: Any = (
                *(
                    slice(first - along.start, stop - along.start)
                    for (first, stop), along in zip(shared, box, strict=True)
                ),
                ...,
            )
            target = out[part]
            if (
                target.shape == sizes
                and target.flags.c_contiguous
                and target.dtype == self.dtype
            ):
                self._read(chunk, target)
                continue
            # A chunk is whole even where it reaches beyond the end of an axis.
            whole = _SCRATCH.decoded(self._num_bytes)
            whole = whole.view(self.dtype).reshape(sizes)
            self._read(chunk, whole)
            target[...] = whole[
                tuple(
                    slice(first - start, stop - start)
                    for (first, stop), start in zip(shared, starts, strict=True)
                )
            ]

    def _read(self, chunk: tuple[int, ...], out: np.ndarray) -> None:
        """Fills `out`, contiguous and of the size of a chunk."""
        place: tuple[int, ...] = chunk
        within: tuple[int, ...] = ()
        if self._shards is not None:
            place, within = self._shards.split(chunk)
        try:
            file = open(f'{self._folder}/{self._key_of(place)}', 'rb', buffering=0)
        except FileNotFoundError:
            out[...] = self._fill
            return
        with file:
            size = os.fstat(file.fileno()).st_size
            if self._shards is not None:
                found = self._shards.find(file, place, within)
                if found is None:
                    out[...] = self._fill
                    return
                file.seek(found.start)
                size = found.stop - found.start
            self._decode(file, size, out)

    def _decode(self, file: io.FileIO, size: int, out: np.ndarray) -> None:
        into = out.reshape(-1).view(np.uint8).data
        if self._codec is None:
            _expect(size, self._num_bytes)
            _fill(file, into)
            return
        encoded = _SCRATCH.encoded(size).data
        _fill(file, encoded)
        size_of = _SIZES.get(self._codec.codec_id)
        # These can decode in place, and would leave the end of `out` as it was where
        # less is in the chunk.
        if size_of is not None and size_of(encoded) == self._num_bytes:
            self._codec.decode(encoded, out=into)
            return
        decoded = np.frombuffer(self._codec.decode(encoded), np.uint8).data
        _expect(len(decoded), self._num_bytes)
        into[:] = decoded


def _fill(file: io.FileIO, into: memoryview) -> None:
    """Reads as many bytes as `into` has."""
    done = 0
    while done < len(into):
        count = file.readinto(into[done:])  # At most 2 GiB at a time on Linux.
        if not count:
            raise ValueError(f'expected {len(into)} bytes, the file ends after {done}')
        done += count


def _expect(found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(f'expected a chunk of {expected} bytes, found {found}')


class _Scratch(threading.local):
    """Buffers of a thread that the next chunk uses again."""

    def __init__(self) -> None:
        self._buffers = {'encoded': np.empty(0, np.uint8)}

    def encoded(self, size: int) -> np.ndarray:
        return self._buffer('encoded', size)

    def decoded(self, size: int) -> np.ndarray:
        return self._buffer('decoded', size)

    def _buffer(self, name: str, size: int) -> np.ndarray:
        kept = self._buffers.get(name)
        if kept is None or kept.size < size:
            # A quarter more: compressed chunks differ a little in size.
            kept = np.empty(size + size // 4, np.uint8)
            if size <= _KEPT_BYTES:
                self._buffers[name] = kept
        return kept[:size]


# One for all arrays: what was used last is in the processor's cache.
_SCRATCH = _Scratch()


class _Shards:
    """Where the chunks of a sharded array are: Zarr v3, codec `sharding_indexed`."""

    def __init__(self, chunks_per_shard: Sequence[int], *, at_end: bool, crc: bool):
        """Indices stand at the end of each file or its beginning, summed up or not."""
        self._counts = tuple(chunks_per_shard)
        self._at_end = at_end
        self._crc = crc
        self._indices: cachetools.LRUCache[Any, np.ndarray]
        self._indices = cachetools.LRUCache(_KEPT_INDICES)
        self._lock = threading.Lock()

    def split(self, chunk: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Returns the shard of a chunk, and where in that it is."""
        pairs = [divmod(n, count) for n, count in zip(chunk, self._counts, strict=True)]
        return tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)

    def find(
        self, file: io.FileIO, shard: tuple[int, ...], within: tuple[int, ...]
    ) -> slice | None:
        """Returns which bytes of a shard are a chunk; None if it was never written."""
        status = os.fstat(file.fileno())
        # A shard that is written anew is another file, or younger.
        key = shard, status.st_ino, status.st_mtime_ns, status.st_size
        with self._lock:
            index = self._indices.get(key)
        if index is None:
            index = self._read_index(file, status.st_size)
            with self._lock:
                self._indices[key] = index
        offset, size = (int(number) for number in index[within])
        if offset == size == _ABSENT:
            return None
        if offset + size > status.st_size:
            raise ValueError(
                f'expected a shard of {offset + size} bytes, found {status.st_size}'
            )
        return slice(offset, offset + size)

    def _read_index(self, file: io.FileIO, size: int) -> np.ndarray:
        num_bytes = 16 * math.prod(self._counts)
        length = num_bytes + 4 * self._crc
        if size < length:
            raise ValueError(f'expected a shard with an index of {length} bytes')
        file.seek(size - length if self._at_end else 0)
        content = bytearray(length)
        _fill(file, memoryview(content))
        checksum = int.from_bytes(content[num_bytes:], 'little')
        if self._crc and google_crc32c.value(bytes(content[:num_bytes])) != checksum:
            raise ValueError('the index of a shard does not have its check sum')
        return np.frombuffer(content, '<u8', num_bytes // 8).reshape(*self._counts, 2)


class _Plain(NamedTuple):
    """What `ChunkFiles` needs to know of an array: see there."""

    codec: Any
    dtype: np.dtype
    shards: _Shards | None


def _version_2(metadata: Any) -> _Plain | None:
    if metadata.filters or metadata.order != 'C':
        return None
    return _Plain(metadata.compressor, metadata.dtype.to_native_dtype(), None)


def _version_3(array: zarr.Array) -> _Plain | None:
    """Plain: 'bytes' and at most one known compressor, in shards or not."""
    metadata: Any = array.metadata
    codecs, shards = [codec.to_dict() for codec in metadata.codecs], None
    if codecs[0]['name'] == 'sharding_indexed' and len(codecs) == 1:
        configuration = codecs[0]['configuration']
        index = [codec['name'] for codec in configuration['index_codecs']]
        endian = configuration['index_codecs'][0].get('configuration', {}).get('endian')
        if index not in (['bytes'], ['bytes', 'crc32c']) or endian != 'little':
            return None
        location = str(configuration['index_location'])
        pairs = zip(array.shards or (), array.chunks, strict=True)
        counts = [shard // chunk for shard, chunk in pairs]
        shards = _Shards(counts, at_end=location == 'end', crc='crc32c' in index)
        codecs = list(configuration['codecs'])
    first, *others = codecs
    names = [str(codec['name']) for codec in others]
    if first['name'] != 'bytes' or names not in ([], *([name] for name in _CODECS)):
        return None
    # Not said of numbers of one byte, which have no order.
    endian = first.get('configuration', {}).get('endian', 'little')
    dtype = metadata.data_type.to_native_dtype()
    codec = _CODECS[names[0]] if names else None
    return _Plain(
        codec, dtype.newbyteorder({'little': '<', 'big': '>'}[str(endian)]), shards
    )


def _blosc_size(encoded: memoryview) -> int | None:
    """Bytes that a chunk decodes to: README_CHUNK_FORMAT.rst of c-blosc."""
    # Its decoder believes what the header says, and would read on beyond the end.
    said = int.from_bytes(encoded[12:16], 'little') if len(encoded) >= 16 else 16
    if said != len(encoded):
        raise ValueError(f'expected {said} compressed bytes, found {len(encoded)}')
    return int.from_bytes(encoded[4:8], 'little')


def _zstd_size(encoded: memoryview) -> int | None:
    """Bytes that the first frame decodes to: RFC 8878, 3.1.1.1; None if not said."""
    if len(encoded) < 5 or bytes(encoded[:4]) != b'\x28\xb5\x2f\xfd':
        return None
    descriptor = encoded[4]
    single, flag = bool(descriptor & 0x20), descriptor >> 6
    length = (int(single), 2, 4, 8)[flag]
    # After the window (not of a single segment) and the name of a dictionary.
    start = 5 + (not single) + (0, 1, 2, 4)[descriptor & 3]
    number = int.from_bytes(encoded[start : start + length], 'little')
    return number + 256 * (flag == 1) if length else None


_SIZES: dict[str, Callable[[memoryview], int | None]] = {
    'blosc': _blosc_size,
    'zstd': _zstd_size,
}
