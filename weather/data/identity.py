"""Which data these are: a fingerprint that changes when the numbers may have changed.

What is computed from a store is found again under it, so it must not depend on where
the store lies nor on times outside of the period, and must change with what is read:

- The coordinates, the metadata of every array (packing, units, fill value, codecs) and
  the way both are turned round.
- On a local disk, size and time of change (in nanoseconds) of every chunk within the
  period, or that it is not there. A store that is moved, or copied with its times
  (`cp -a`, `rsync -t`), is found again, and so is one that later times were added to.
- Anywhere else, where listing a hundred thousand chunks would take minutes: the address
  and the values at a few times of the period. A chunk between them that is replaced in
  place goes unnoticed there: say `--overwrite` to compute_statistics.py.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import zarr

from weather.data.store import Atmosphere
from weather.data.stored_field import StoredField

# Times whose values stand for all of them where chunks cannot be listed cheaply.
_SAMPLES = 5


def fingerprint(
    atmosphere: Atmosphere,
    levels: Mapping[str, Sequence[float]],
    period: slice,
) -> str:
    """Returns 64 hexadecimal digits for the data of a period.

    Args:
      atmosphere: the opened store.
      levels: the variables in use, with their levels in hPa.
      period: positions of the times in use.
    """
    digest = hashlib.sha256()
    for trait in _traits(atmosphere, levels, period):
        digest.update(trait.encode() + b'\n')
    return digest.hexdigest()


def _traits(
    atmosphere: Atmosphere, levels: Mapping[str, Sequence[float]], period: slice
) -> Iterator[str]:
    yield _text(atmosphere.times[period])
    yield _text(atmosphere.dataset['latitude'].values)
    yield _text(atmosphere.dataset['longitude'].values)
    for name in sorted(levels):
        yield f'{name} at {list(levels[name])}'
        field = atmosphere.fields[name]
        times = field.positions['time'][period]
        yield _metadata(field)
        for dim in field.dims:
            # Where the rows stand on disk: a coordinate turned round is other data.
            yield _text(times - times[:1] if dim == 'time' else field.positions[dim])
        store = field.array.store
        if isinstance(store, zarr.storage.LocalStore):
            yield from _files(store, field.array, field.stored_dims, times)
        else:
            yield atmosphere.source
            yield from _samples(field, np.arange(len(atmosphere.times))[period])


def _metadata(field: StoredField) -> str:
    """Metadata of the array, without its length in time, which may grow."""
    metadata: dict[str, Any] = field.array.metadata.to_dict()
    shape = dict(zip(field.stored_dims, field.array.shape, strict=True))
    shape.pop('time')
    return json.dumps(metadata | {'shape': shape}, sort_keys=True, default=str)


def _files(
    store: zarr.storage.LocalStore,
    array: zarr.Array,
    dims: tuple[str, ...],
    times: np.ndarray,
) -> Iterator[str]:
    """Size and time of change of every file that holds some of `times`."""
    sizes = array.shards or array.chunks
    chunks = [
        np.unique(times // size).tolist()
        if dim == 'time'
        else range(-(-length // size))
        for dim, length, size in zip(dims, array.shape, sizes, strict=True)
    ]
    folder = os.fspath(store.root / array.path)
    for place in itertools.product(*chunks):
        key = array.metadata.encode_chunk_key(place)
        try:
            found = os.stat(f'{folder}/{key}')
        except FileNotFoundError:
            yield f'{key} -'
        else:
            yield f'{key} {found.st_size} {found.st_mtime_ns}'


def _samples(field: StoredField, times: np.ndarray) -> Iterator[str]:
    """Values at a few of `times`, which are positions in the opened store."""
    for time in times[:: max(1, times.size // _SAMPLES)]:
        yield _text(field.read({'time': np.array([time])}))


def _text(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
