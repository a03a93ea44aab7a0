"""Worker: reads stores, with the loader, with bare loops, and with other readers.

Cases, by `measure`; all have `store`, the path of one of `benchmarks.stores`:

- `'readers'`: a window of 13 times of every variable, slab by slab, by two threads.
- `'loader'`: batches of one window of `num_steps` steps, beside bare loops over the
  same chunks with the same `num_threads`. Windows do not overlap, so that both read
  the same. Operations take `facts['samples']` samples a call.
- `'memory'`: resident memory while batches are read with `cache_bytes`, above that
  before the first, and the loader's bound. In a fresh process.
- `'overlap'`: bytes read in an epoch of windows that overlap.

Bare loops open, read and decode a chunk into its place in an array, no more: `'bare'`
into new arrays for each sample, `'bare, used again'` into the same ones always.
`'disk'` only reads the files, into the same buffer.
"""

from __future__ import annotations

import concurrent.futures
import importlib.metadata
import itertools
import math
import pathlib
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import numcodecs
import numpy as np
import tensorstore
import zarr

from benchmarks import stores
from benchmarks.peers import Prepared
from weather.data.chunk_files import ChunkFiles
from weather.data.loader import Loader
from weather.data.store import Atmosphere, open_atmosphere
from weather.data.windows import WindowIndex

_PACKAGES = ('numcodecs', 'numpy', 'tensorstore', 'xarray', 'zarr', 'zarrs')
_ZARR = 'zarr.core.codec_pipeline.BatchedCodecPipeline'
_ZARRS = 'zarrs.ZarrsCodecPipeline'
_THREADS = 2
_EPOCHS = 3

Job = tuple[str, int]


def versions() -> dict[str, str]:
    """What was measured."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def prepare(case: dict[str, Any]) -> Prepared:
    """Sets a case of the module's docstring up."""
    measures: dict[str, Callable[..., Prepared]] = {
        'readers': prepare_readers,
        'loader': prepare_loader,
        'memory': measure_memory,
        'overlap': measure_overlap,
    }
    options = {k: v for k, v in case.items() if k not in ('measure', 'store')}
    return measures[case['measure']](pathlib.Path(case['store']), **options)


def prepare_readers(store: pathlib.Path) -> Prepared:
    """Readers of single slabs, all by the same threads."""
    pool = concurrent.futures.ThreadPoolExecutor(_THREADS)
    jobs = list(itertools.product(stores.VARIABLES, range(13)))

    def operation(read: Callable[[str, int], Any]) -> Callable[[], object]:
        return lambda: list(pool.map(lambda job: read(*job), jobs))

    readers = {
        'chunk files': _chunk_files(store),
        'zarr': _zarr(store, _ZARR),
        'zarr + zarrs': _zarr(store, _ZARRS),
        'tensorstore': _tensorstore(store),
    }
    array = zarr.open_group(store, mode='r')['temperature']
    slab = math.prod(array.chunks) * array.dtype.itemsize
    return Prepared(
        {name: operation(read) for name, read in readers.items()},
        {'bytes': len(jobs) * slab},
    )


def _chunk_files(store: pathlib.Path) -> Callable[[str, int], Any]:
    group = zarr.open_group(store, mode='r')
    readers: dict[str, Any] = {v: ChunkFiles.of(group[v]) for v in stores.VARIABLES}
    # As the loader does: the window has its place before it is read.
    shape = group['temperature'].shape[1:]
    out = {v: np.empty((13, *shape), readers[v].dtype) for v in readers}

    def read(name: str, time: int) -> None:
        box = slice(time, time + 1), *(slice(0, size) for size in shape)
        readers[name].read_into(out[name][time : time + 1], box)

    return read


def _zarr(store: pathlib.Path, pipeline: str) -> Callable[[str, int], Any]:
    with zarr.config.set({'codec_pipeline.path': pipeline}):
        group = zarr.open_group(store, mode='r')
        arrays: dict[str, Any] = {name: group[name] for name in stores.VARIABLES}
    return lambda name, time: arrays[name][time : time + 1]


def _tensorstore(store: pathlib.Path) -> Callable[[str, int], Any]:
    driver = 'zarr3' if (store / 'zarr.json').exists() else 'zarr'
    context = tensorstore.Context({'data_copy_concurrency': {'limit': _THREADS}})

    def opened(name: str) -> Any:
        place = {'driver': 'file', 'path': str(store / name)}
        spec = {'driver': driver, 'kvstore': place}
        return tensorstore.open(spec, read=True, context=context).result()

    arrays = {name: opened(name) for name in stores.VARIABLES}
    return lambda name, time: arrays[name][time : time + 1].read().result()


class _Apart(WindowIndex):
    """Windows none of which shares a time with another."""

    def starts(self, num_steps: int) -> np.ndarray:
        return super().starts(num_steps)[:: num_steps + 1]


def _open(store: pathlib.Path) -> Atmosphere:
    levels = dict.fromkeys(stores.VARIABLES, stores.LEVELS)
    return open_atmosphere(store, levels=levels)


def prepare_loader(
    store: pathlib.Path, num_steps: int, num_threads: int, prefetch_bytes: int
) -> Prepared:
    """The loader and the bare loops, over the windows of an epoch."""
    atmosphere = _open(store)
    windows = _Apart(atmosphere.times, period=('2001', '2001'))
    # Several times: the first batches' memory is new, as only a training's first are.
    starts = np.tile(windows.starts(num_steps), _EPOCHS)
    loader = Loader(
        atmosphere,
        windows,
        batch_size=1,
        seed=0,
        prefetch_bytes=prefetch_bytes,
        num_threads=num_threads,
    )

    def load() -> None:
        for _ in loader.batches(0, starts.size, lambda _: num_steps):
            pass

    bare = Bare(store, atmosphere, num_threads, num_steps + 1)
    operations: dict[str, Callable[[], object]] = {
        'loader': load,
        'bare': lambda: [bare.decode(start, bare.new()) for start in starts],
        'bare, used again': lambda: [bare.decode(start, bare.same) for start in starts],
        'disk': lambda: [bare.read(start) for start in starts],
    }
    facts = {
        'samples': int(starts.size),
        'sample_bytes': loader.batch_bytes(num_steps),
        'stored_bytes': sum(bare.size(name, 0) for name in stores.VARIABLES)
        * (num_steps + 1),
    }
    return Prepared(operations, facts)


class Bare:
    """Reads the chunks of a window, and does nothing else."""

    def __init__(
        self,
        store: pathlib.Path,
        atmosphere: Atmosphere,
        num_threads: int,
        num_times: int,
    ):
        group = zarr.open_group(store, mode='r')
        self._arrays: dict[str, Any] = {name: group[name] for name in stores.VARIABLES}
        self._folder = store
        self._pool = concurrent.futures.ThreadPoolExecutor(num_threads)
        self._jobs = list(itertools.product(range(num_times), stores.VARIABLES))
        self._scratch = bytearray(2**26)
        self.same = self.new()
        for values in self.same.values():
            values[...] = 0

    def new(self) -> dict[str, np.ndarray]:
        """New arrays of a window, float32."""
        length = 1 + max(time for time, _ in self._jobs)
        return {
            name: np.empty((length, *array.shape[1:]), np.float32)
            for name, array in self._arrays.items()
        }

    def size(self, name: str, time: int) -> int:
        """Bytes of a chunk as stored."""
        return self._path(name, time).stat().st_size

    def decode(self, start: int, out: Mapping[str, np.ndarray]) -> None:
        """Reads and decodes the window, each chunk into its place."""
        list(
            self._pool.map(
                lambda job: self._decode(job[1], start + job[0], out[job[1]][job[0]]),
                self._jobs,
            )
        )

    def read(self, start: int) -> None:
        """Reads the files of the window."""
        list(self._pool.map(lambda job: self._read(job[1], start + job[0]), self._jobs))

    def _path(self, name: str, time: int) -> pathlib.Path:
        key = self._arrays[name].metadata.encode_chunk_key((time, 0, 0, 0))
        return self._folder / name / key

    def _read(self, name: str, time: int) -> None:
        with open(self._path(name, time), 'rb', buffering=0) as file:
            file.readinto(self._scratch)

    def _decode(self, name: str, time: int, out: np.ndarray) -> None:
        array = self._arrays[name]
        plain = array.dtype == np.float32
        into = out if plain else np.empty(out.shape, array.dtype)
        with open(self._path(name, time), 'rb', buffering=0) as file:
            codec = _numcodec(array)
            if codec is None:
                file.readinto(into.reshape(-1).view(np.uint8).data)
            else:
                codec.decode(file.read(), out=into)
        if not plain:
            # As the conventions want it: in float64 beside a large offset.
            scale, offset = array.attrs['scale_factor'], array.attrs['add_offset']
            values = into * np.float64(scale) + offset
            values[into == array.fill_value] = np.nan
            out[...] = values


def _numcodec(array: Any) -> Any:
    """What decodes a chunk; None where there is nothing to decode."""
    if array.metadata.zarr_format == 2:
        return array.metadata.compressor
    return {'BloscCodec': numcodecs.Blosc(), 'ZstdCodec': numcodecs.Zstd()}.get(
        type(array.compressors[0]).__name__ if array.compressors else ''
    )


def measure_memory(
    store: pathlib.Path,
    num_steps: int,
    num_threads: int,
    cache_bytes: int,
    prefetch_bytes: int,
    batch_size: int,
) -> Prepared:
    """Peak of resident memory over the windows of an epoch, above what was before."""
    atmosphere = _open(store)
    loader = Loader(
        atmosphere,
        WindowIndex(atmosphere.times, period=('2001', '2001')),
        batch_size=batch_size,
        seed=0,
        cache_bytes=cache_bytes,
        prefetch_bytes=prefetch_bytes,
        num_threads=num_threads,
    )
    before = _start_peak()
    epoch = loader.windows.starts(num_steps).size // batch_size
    for batch in loader.batches(0, epoch, lambda _: num_steps):
        assert batch.valid_times.size  # It is in use until the next one is there.
    return Prepared(
        {},
        {
            'bytes_before': before,
            'bytes_more': _peak() - before,
            'bytes_bound': loader.most_bytes(num_steps),
            'batch_bytes': loader.batch_bytes(num_steps),
            'batches': epoch,
        },
    )


def _start_peak() -> int:
    """Forgets the peak of resident memory so far; the present value, bytes."""
    pathlib.Path('/proc/self/clear_refs').write_text('5')
    return _peak()


def _peak() -> int:
    status = pathlib.Path('/proc/self/status').read_text()
    return 1024 * int(re.search(r'VmHWM:\s+(\d+)', status)[1])  # type: ignore[index]


def measure_overlap(
    store: pathlib.Path,
    num_steps: int,
    num_threads: int,
    cache_bytes: int,
    prefetch_bytes: int,
) -> Prepared:
    """An epoch of all windows: slabs read, slabs there are, slabs handed out."""
    atmosphere = _open(store)
    loader = Loader(
        atmosphere,
        WindowIndex(atmosphere.times, period=('2001', '2001')),
        batch_size=1,
        seed=0,
        cache_bytes=cache_bytes,
        prefetch_bytes=prefetch_bytes,
        num_threads=num_threads,
    )
    windows = loader.windows.starts(num_steps).size
    began = time.perf_counter()
    for _ in loader.batches(0, windows, lambda _: num_steps):
        pass
    seconds = time.perf_counter() - began
    slabs = len(atmosphere.times) * len(stores.VARIABLES)
    return Prepared(
        {},
        {
            'slabs_read': loader.slabs.num_read,
            'slabs_used': slabs,
            'slabs_handed_out': windows * (num_steps + 1) * len(stores.VARIABLES),
            'amplification': loader.slabs.num_read / slabs,
            'samples_per_second': windows / seconds,
        },
    )
