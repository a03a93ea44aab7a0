"""Which data these are: a fingerprint that changes when the numbers may have changed.

What is computed from a store is found again under it, so it must not depend on where
the store lies nor on times outside of the period, and must change with what is read:

- The coordinates and the way the axes are turned round; how numbers are packed.
- On a local disk, size and time of change (in nanoseconds) of every file within the
  period, or that it is not there. A store that is moved, or copied with its times
  (`cp -a`, `rsync -t`), is found again, and so is one that later times were added to.
- At an address and in memory: the address, and the values at a few times of the period.
  A chunk between them that is replaced in place goes unnoticed there; say `--overwrite`
  to compute_statistics.py after such a repair.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from weather.data.store import Atmosphere
from weather.data.stored_field import StoredField

# Times whose values stand for all of them where files cannot be looked at.
_SAMPLES = 5


def fingerprint(
    atmosphere: Atmosphere, levels: Mapping[str, Sequence[float]], period: slice
) -> str:
    """Returns 64 hexadecimal digits for the data of a period.

    `levels` are those in use, in hPa, by variable; `period` the positions in time.
    """
    digest = hashlib.sha256()
    for trait in _traits(atmosphere, levels, period):
        digest.update(trait.encode() + b'\n')
    return digest.hexdigest()


def _traits(
    atmosphere: Atmosphere, levels: Mapping[str, Sequence[float]], period: slice
) -> Iterator[str]:
    for dim in ('latitude', 'longitude'):
        yield _text(atmosphere.dataset[dim].values)
    yield _text(atmosphere.times[period])
    times = np.arange(len(atmosphere.times))[period]
    for name in sorted(levels):
        field = atmosphere.fields[name]
        yield f'{name} at {list(levels[name])} in {field.variable.dims}'
        for dim in field.dims:
            if dim != 'time':  # Which may have grown at either end.
                yield _text(field.positions[dim])
        if times.size:
            yield from _version(field, times)


def _version(field: StoredField, times: np.ndarray) -> Iterable[str]:
    # From the first to the last in the stored order, which need not be that of time.
    stored = field.positions['time'][times]
    everything = zip(field.variable.dims, field.variable.shape, strict=True)
    box = tuple(
        slice(int(stored.min()), int(stored.max()) + 1)
        if dim == 'time'
        else slice(0, n)
        for dim, n in everything
    )
    version = field.variable.version(box)
    return _samples(field, times) if version is None else version


def _samples(field: StoredField, times: np.ndarray) -> Iterator[str]:
    """The address, and the values at a few times."""
    yield field.source
    for time in times[:: max(1, times.size // _SAMPLES)]:
        yield _text(field.read({'time': np.array([time])}))


def _text(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
