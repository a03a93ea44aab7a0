"""Reading chunks directly gives what zarr gives, or is left to zarr."""

import numcodecs
import numpy as np
import pytest
import zarr

from weather.data.chunk_files import ChunkFiles

BOXES = (
    (slice(0, 7), slice(0, 5), slice(0, 9)),
    (slice(3, 4), slice(1, 2), slice(8, 9)),
    (slice(1, 6), slice(2, 5), slice(3, 8)),
)
PLAIN = {
    'v2, default': dict(zarr_format=2),
    'v2, uncompressed': dict(zarr_format=2, compressors=None),
    'v2, blosc': dict(zarr_format=2, compressors=numcodecs.Blosc('zstd', shuffle=2)),
    'v2, zlib': dict(zarr_format=2, compressors=numcodecs.Zlib()),
    'v2, big endian': dict(zarr_format=2, dtype='>f4'),
    'v2, integers': dict(zarr_format=2, dtype='int16', fill_value=-1),
    'v2, slashes': dict(
        zarr_format=2, chunk_key_encoding={'name': 'v2', 'separator': '/'}
    ),
    'v3, default': dict(),
    'v3, uncompressed': dict(compressors=None),
    'v3, blosc': dict(compressors=zarr.codecs.BloscCodec(cname='lz4')),
    'v3, gzip': dict(compressors=zarr.codecs.GzipCodec()),
    'v3, big endian': dict(serializer=zarr.codecs.BytesCodec(endian='big')),
    'v3, float64': dict(dtype='float64', fill_value=np.nan),
    'v3, bytes': dict(dtype='uint8'),
    'v3, sharded': dict(shards=(4, 4, 8)),
    'v3, sharded, uncompressed': dict(shards=(2, 4, 4), compressors=None),
    'v3, sharded, blosc': dict(
        shards=(8, 2, 4), compressors=zarr.codecs.BloscCodec(cname='zstd')
    ),
    'v3, sharded, index first': dict(
        shards={'shape': (4, 4, 8), 'index_location': 'start'}
    ),
}
NOT_PLAIN = {
    'v2, filters': dict(zarr_format=2, filters=[numcodecs.Delta('f4')]),
    'v2, Fortran order': dict(zarr_format=2, order='F'),
    'v3, check sums': dict(
        compressors=[zarr.codecs.ZstdCodec(), zarr.codecs.Crc32cCodec()]
    ),
    'v3, transposed': dict(filters=[zarr.codecs.TransposeCodec(order=(2, 1, 0))]),
}


def make_array(store, *, dtype='float32', **options):
    """Seven, five and nine entries, which chunks of 2, 2, 4 do not divide."""
    array = zarr.create_array(
        store, name='field', shape=(7, 5, 9), chunks=(2, 2, 4), dtype=dtype, **options
    )
    array[1:5] = np.arange(4 * 5 * 9).reshape(4, 5, 9)  # and some chunks are absent
    return zarr.open_group(store, mode='r')['field']


@pytest.mark.parametrize('kind', PLAIN)
@pytest.mark.parametrize('box', BOXES)
def test_plain_arrays_read_as_zarr_reads_them(tmp_path, kind, box):
    array = make_array(tmp_path, **PLAIN[kind])
    direct = ChunkFiles.of(array)
    assert direct is not None
    np.testing.assert_array_equal(direct[box], array[box])


@pytest.mark.parametrize('kind', NOT_PLAIN)
def test_other_arrays_are_left_to_zarr(tmp_path, kind):
    assert ChunkFiles.of(make_array(tmp_path, **NOT_PLAIN[kind])) is None


def test_other_stores_are_left_to_zarr():
    assert ChunkFiles.of(make_array(zarr.storage.MemoryStore())) is None


def test_truncated_files_are_errors(tmp_path):
    array = make_array(tmp_path, compressors=None)
    file = tmp_path / 'field' / 'c' / '0' / '0' / '0'
    file.write_bytes(file.read_bytes()[:8])
    with pytest.raises(ValueError):
        ChunkFiles.of(array)[BOXES[0]]
