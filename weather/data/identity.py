"""Which data these are: a fingerprint that changes when the numbers may have changed.

What is computed from a store is found again under it, so it must not depend on where
the store lies nor on times outside of the period, and must change with what is read:

- The coordinates and the way the axes are turned round; how numbers are packed.
- On a local disk, size and time of change (in nanoseconds) of every file within the
  period, or that it is not there. A store that is moved, or copied with its times
  (`cp -a`, `rsync -t`), is found again, and so is one that later times were added to.
- Of a prepared store: the digest of its record, that is, of checksums of all fields. It
  is believed (`believed_record`) while no file of a field is newer than the record.
- At an address and in memory: the address, and the values at a few times of the period.
  A chunk between them that is replaced in place goes unnoticed there; say `--overwrite`
  to compute_statistics.py after such a repair.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from weather.data.record import Record
from weather.data.store import Atmosphere
from weather.data.stored_field import StoredField
from weather.data.summary import summarise

_LOGGER = logging.getLogger(__name__)

# Times whose values stand for all of them where files cannot be looked at.
_SAMPLES = 5


def fingerprint(
    atmosphere: Atmosphere,
    levels: Mapping[str, Sequence[float]],
    period: slice,
    *,
    record: Record | None = None,
) -> str:
    """Returns 64 hexadecimal digits for the data of a period.

    `levels` are those in use, in hPa, by variable; `period` the positions in time;
    `record` what the store says of its fields, if that is to be believed.
    """
    traits = _traits if record is None else _recorded_traits(record)
    digest = hashlib.sha256()
    for trait in traits(atmosphere, levels, period):
        digest.update(trait.encode() + b'\n')
    return digest.hexdigest()


def believed_record(
    atmosphere: Atmosphere, storage_options: Mapping[str, Any] | None = None
) -> Record | None:
    """Returns the record of the store, if it has one that is still true.

    On a local disk no file of a field may have changed after the record; elsewhere,
    where time stamps say nothing, the fields are compared at a few times.
    """
    record = Record.open(atmosphere.source, storage_options)
    if record is None or not record.holds(atmosphere.levels):
        return None
    if not np.array_equal(record.times, atmosphere.times):
        return None
    if record.is_older_than_its_fields():
        problem = 'files of the fields changed after it was written'
    elif not os.path.isdir(atmosphere.source) and not _agrees(record, atmosphere):
        problem = 'it does not agree with the fields'
    else:
        return record
    _LOGGER.warning(
        'the record of %s is not used, and the fields are read: %s; '
        'scripts/check_data.py compares all of them, and renews it if they are right',
        atmosphere.source,
        problem,
    )
    return None


def _agrees(record: Record, atmosphere: Atmosphere) -> bool:
    """Whether mean and extremes at a few times are those of the record."""
    times = np.arange(record.times.size)
    weights = record.grid.area_weights
    for name, levels in atmosphere.levels.items():
        field, stored = atmosphere.fields[name], record.levels[name]
        held = atmosphere.dataset['level'].values.tolist() if levels else ()
        # The axis of the atmosphere holds all that some variable wants.
        common = [i for i, level in enumerate(held) if level in stored]
        places = [stored.index(held[i]) for i in common] if levels else [0]
        for time in times[:: max(1, times.size // _SAMPLES)]:
            values = field.read({'time': np.array([time])})
            values = values.reshape(1, -1, *values.shape[-2:])
            values = values[:, common] if levels else values
            nothing = np.full_like(values, np.nan)
            found = summarise(values, nothing, weights)
            expected = record.summary(name, slice(time, time + 1))
            for column in ('mean', 'minimum', 'maximum', 'num_missing'):
                one, other = getattr(found, column), getattr(expected, column)
                # Sums of the same numbers: only round-off remains.
                if not np.allclose(one, other[:, places], 1e-9, 1e-9, equal_nan=True):
                    return False
    return True


def version(field: StoredField) -> str | None:
    """What changes whenever a value of a variable may have, at any time and level.

    None where nobody can tell without reading: at an address.
    """
    found = field.variable.version(tuple(slice(0, n) for n in field.variable.shape))
    if found is None:
        return None
    digest = hashlib.sha256()
    for trait in found:
        digest.update(trait.encode() + b'\n')
    return digest.hexdigest()


def _recorded_traits(record: Record) -> Callable[..., Iterator[str]]:
    def traits(
        atmosphere: Atmosphere, levels: Mapping[str, Sequence[float]], period: slice
    ) -> Iterator[str]:
        yield record.digest
        yield _text(atmosphere.times[period])
        yield str({name: list(levels[name]) for name in sorted(levels)})

    return traits


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
