"""Examples in ArrayRecord with TensorFlow Datasets metadata, read without TensorFlow.

What `tfds_export` writes: a folder with one example per time, every variable in it, and
a netCDF file of coordinates, static fields and attributes beside them. Others read the
same folder with `tfds.builder_from_directory(FOLDER).as_data_source('train')`.

An example is one record and is decoded whole, while readers ask variable by variable:
so the last examples are remembered, within a bound in bytes.
"""

from __future__ import annotations

import json
import os
import pathlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, SupportsIndex

import cachetools
import numpy as np
import xarray

from learning.files import FOLDER_METADATA
from weather.data.sources import Options
from weather.data.sources.dataset import DatasetStore, DatasetVariable
from weather.outputs import COORDINATES_FILE, RECORDS

INFO_FILE = 'dataset_info.json'
SPLIT = 'train'  # As the world calls the only one that there is.
INSTALL = "pip install -e '.[tfds]'"
CACHE_BYTES = 2**30
# Key of the storage options with which another number of bytes is chosen.
CACHE_OPTION = 'example_cache_bytes'
_NUM_LOCKS = 64


def claims(source: Any) -> bool:
    """Whether `source` is a folder of TensorFlow Datasets in the format ArrayRecord."""
    if not isinstance(source, str) or '://' in source:
        return False
    info = pathlib.Path(source, INFO_FILE)
    if not info.is_file():
        return False
    try:
        found = json.loads(info.read_text('utf-8'))
    except ValueError:
        return False
    return isinstance(found, dict) and found.get('fileFormat') == 'array_record'


def open_raw(source: str, options: Options) -> ArrayRecordStore:
    """Opens a folder.

    Args:
      source: the folder that holds `dataset_info.json`.
      options: `example_cache_bytes`, the most that decoded examples may occupy; others
        are for addresses.

    Raises:
      ValueError: the extra `tfds` is not installed, the examples are not those of an
        atmosphere, or something is damaged.
    """
    metadata, coordinates = _read_side_files(source)
    examples = _open_examples(source)
    num_times = coordinates.sizes.get('time', 0)
    if len(examples) != num_times:
        raise ValueError(
            f'expected {num_times} examples in {source}, as many as {COORDINATES_FILE} '
            f'has times, found {len(examples)}; export the store again'
        )
    cache_bytes = int((options or {}).get(CACHE_OPTION, CACHE_BYTES))
    return ArrayRecordStore(
        source, metadata, coordinates, Examples(examples, cache_bytes)
    )


def import_tfds() -> Any:
    """Returns the module `tensorflow_datasets`; `ValueError` where it is missing."""
    try:
        # Late: seconds, for those alone who have such a folder.
        import array_record.python.array_record_data_source  # noqa: F401
        import tensorflow_datasets
    except ImportError as error:
        raise ValueError(
            f'expected the packages tensorflow-datasets and array-record (the extra '
            f'tfds), found none: {error}; {INSTALL}'
        ) from error
    return tensorflow_datasets


def _read_side_files(source: str) -> tuple[dict[str, Any], xarray.Dataset]:
    """What `tfds_export` writes beside examples: `metadata.json` and coordinates."""
    path = pathlib.Path(source, COORDINATES_FILE)
    if not path.exists():
        raise ValueError(
            f'expected {COORDINATES_FILE} with coordinates beside the examples in '
            f'{source}, found none: not examples of an atmosphere; write them with '
            'scripts/export_tfds.py'
        )
    try:
        metadata = json.loads(pathlib.Path(source, FOLDER_METADATA).read_text('utf-8'))
        # The one decoder is ours; small, and in memory no thread disturbs another.
        return metadata, xarray.load_dataset(path, decode_cf=False)
    # The libraries below raise whatever they like on damaged bytes.
    except Exception as error:
        raise ValueError(
            f'cannot read {COORDINATES_FILE} and {FOLDER_METADATA} in {source}: '
            f'{type(error).__name__}: {error}; copy them again from their source'
        ) from error


class _DataSource(Protocol):
    """Of `tfds.data_sources`."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: SupportsIndex) -> Mapping[str, np.ndarray]: ...


def _open_examples(source: str) -> _DataSource:
    tfds = import_tfds()
    try:
        return tfds.builder_from_directory(source).as_data_source(SPLIT)
    # As above.
    except Exception as error:
        raise ValueError(
            f'expected examples that TensorFlow Datasets can read in {source}, found '
            f'{type(error).__name__}: {error}; copy them again from their source'
        ) from error


class Examples:
    """Decoded examples, the last of them remembered; for any number of threads."""

    def __init__(self, source: _DataSource, cache_bytes: int):
        """Reads from `source`; remembers at most `cache_bytes`."""
        self._source = source
        self._cache: cachetools.LRUCache[int, Mapping[str, np.ndarray]]
        self._cache = cachetools.LRUCache(cache_bytes, _size)
        self._lock = threading.Lock()
        # Who comes second to an example waits for the first instead of decoding too.
        self._decoding = [threading.Lock() for _ in range(_NUM_LOCKS)]

    def __getitem__(self, time: int) -> Mapping[str, np.ndarray]:
        """Returns the fields of a time by name, not to be written to."""
        with self._decoding[time % _NUM_LOCKS]:
            # Even to look changes the order of what was used last.
            with self._lock:
                found = self._cache.get(time)
            if found is not None:
                return found
            decoded = self._source[time]
            example = {k: v for k, v in decoded.items() if isinstance(v, np.ndarray)}
            if _size(example) <= self._cache.maxsize:  # The cache would raise.
                with self._lock:
                    self._cache[time] = example
            return example

    def forget(self) -> None:
        """Forgets what is remembered."""
        with self._lock:
            self._cache.clear()


def _size(example: Mapping[str, np.ndarray]) -> int:
    return sum(field.nbytes for field in example.values())


class ArrayRecordVariable:
    """See `RawVariable`: a feature of the examples, one time a chunk."""

    # NaN is written out: every number of an example was put there.
    fill_value = None
    dtype = np.dtype(np.float32)

    def __init__(
        self,
        name: str,
        folder: str,
        examples: Examples,
        *,
        sizes: Mapping[str, int],
        attributes: Mapping[str, Any],
    ):
        """Reads the feature `name` of examples, `sizes` by axis, time first."""
        self.dims = tuple(sizes)
        self.shape = tuple(sizes.values())
        self.chunks = (1, *self.shape[1:])
        self.attributes = attributes
        self._name = name
        self._folder = folder
        self._examples = examples

    def read(self, box: tuple[slice, ...]) -> np.ndarray:
        """See `RawVariable`; of one time a view, not to be written to."""
        if box[0].stop - box[0].start == 1:
            return self._examples[box[0].start][self._name][box[1:]][None]
        out = np.empty([along.stop - along.start for along in box], np.float32)
        self.read_into(out, box)
        return out

    def read_into(self, out: np.ndarray, box: tuple[slice, ...]) -> None:
        """Like `read`, into `out`, which may be a view."""
        times = range(box[0].start, box[0].stop)
        for field, time in zip(out, times, strict=True):
            field[...] = self._examples[time][self._name][box[1:]]

    def never_written(self, box: tuple[slice, ...]) -> np.ndarray:
        """See `RawVariable`: nothing is left out of an example."""
        return np.zeros([along.stop - along.start for along in box], bool)

    def version(self, box: tuple[slice, ...]) -> Iterator[str] | None:
        """See `RawVariable`: size and time of change of every file of examples."""
        del box
        names = sorted(name for name in os.listdir(self._folder) if RECORDS in name)
        found = [os.stat(os.path.join(self._folder, name)) for name in names]
        return (f'{file.st_size} {file.st_mtime_ns}' for file in found)


class ArrayRecordStore:
    """See `RawStore`."""

    def __init__(
        self,
        address: str,
        metadata: Mapping[str, Any],
        coordinates: xarray.Dataset,
        examples: Examples,
    ):
        """Joins examples and what stands beside them."""
        self.address = address
        self.attributes: Mapping[str, Any] = metadata['attributes']
        self._variables: Mapping[str, Any] = metadata['variables']
        self._beside = DatasetStore(coordinates, address)
        self._examples = examples

    def names(self) -> list[str]:
        """See `RawStore`."""
        return sorted({*self._beside.names(), *self._variables})

    def variable(self, name: str) -> ArrayRecordVariable | DatasetVariable | None:
        """See `RawStore`."""
        if name not in self._variables:
            return self._beside.variable(name)
        found = self._variables[name]
        return ArrayRecordVariable(
            name,
            self.address,
            self._examples,
            sizes={dim: self._beside.dataset.sizes[dim] for dim in found['dims']},
            attributes=found['attributes'],
        )

    def close(self) -> None:
        """Forgets the examples; their files close when nobody refers to them."""
        self._examples.forget()
