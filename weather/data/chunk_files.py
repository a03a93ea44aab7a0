"""Chunks on a local disk, read without zarr's event loop.

zarr hands each chunk to an event loop and from there twice to threads, half a
millisecond or more; directly, a batch of small chunks (64 x 32 x 13) took a third of
the processor time. For large chunks (256 x 256 x 13) two runs on a busy machine
disagreed: 0.8 and 1.5 times that of zarr. Arrays of the plain kinds (below) are read
so; all others, and all addresses, by zarr.
"""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
from collections.abc import Callable
from typing import Any

import numcodecs
import numpy as np
import zarr

_DECODERS: dict[str, Callable[[bytes], Any]] = {
    'blosc': numcodecs.Blosc().decode,
    'gzip': numcodecs.GZip().decode,
    'zstd': numcodecs.Zstd().decode,
}


@dataclasses.dataclass(frozen=True)
class ChunkFiles:
    """An array whose chunks are files: bytes in C order, compressed once or not.

    Attributes:
      folder: where the chunks are.
      dtype: of the stored numbers, with their byte order.
      decode: decompresses a chunk.
    """

    folder: pathlib.Path
    array: zarr.Array
    dtype: np.dtype
    decode: Callable[[bytes], Any]

    @classmethod
    def of(cls, array: zarr.Array) -> ChunkFiles | None:
        """Returns a reader of `array`, or None if it is not of this plain kind."""
        if not isinstance(array.store, zarr.storage.LocalStore):
            return None
        metadata: Any = array.metadata
        plain = _version_2(metadata) if metadata.zarr_format == 2 else _plain(metadata)
        if plain is None:
            return None
        dtype, decode = plain
        return cls(array.store.root / array.path, array, dtype, decode)

    def __getitem__(self, box: tuple[slice, ...]) -> np.ndarray:
        """Reads a box, slices of step 1 within the array along every axis."""
        out = np.empty([along.stop - along.start for along in box], self.dtype)
        sizes = self.array.chunks
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
            target = tuple(
                slice(first - along.start, stop - along.start)
                for (first, stop), along in zip(shared, box, strict=True)
            )
            source = tuple(
                slice(first - start, stop - start)
                for (first, stop), start in zip(shared, starts, strict=True)
            )
            out[target] = self._read(chunk)[source]
        return out

    def _read(self, chunk: tuple[int, ...]) -> np.ndarray:
        file = self.folder / self.array.metadata.encode_chunk_key(chunk)
        try:
            encoded = file.read_bytes()
        except FileNotFoundError:
            # Zarr leaves out chunks that hold the fill value only.
            fill = self.array.fill_value
            return np.full(self.array.chunks, 0 if fill is None else fill, self.dtype)
        # A chunk is whole even where it reaches beyond the end of an axis.
        return np.frombuffer(self.decode(encoded), self.dtype).reshape(
            self.array.chunks
        )


_Plain = tuple[np.dtype, Callable[[bytes], Any]]


def _version_2(metadata: Any) -> _Plain | None:
    if metadata.filters or metadata.order != 'C':
        return None
    compressor = metadata.compressor
    decode = bytes if compressor is None else compressor.decode
    return metadata.dtype.to_native_dtype(), decode


def _plain(metadata: Any) -> _Plain | None:
    """Zarr v3: the codecs must be 'bytes' and at most one known compressor."""
    first, *others = (codec.to_dict() for codec in metadata.codecs)
    names = [str(codec['name']) for codec in others]
    if first['name'] != 'bytes' or names not in ([], *([name] for name in _DECODERS)):
        return None
    # Not said of numbers of one byte, which have no order.
    endian = first.get('configuration', {}).get('endian', 'little')
    dtype = metadata.data_type.to_native_dtype()
    decode = _DECODERS[names[0]] if names else bytes
    return dtype.newbyteorder({'little': '<', 'big': '>'}[endian]), decode
