"""What is wrong with a store, and which times no training may touch because of it.

A check (`weather.doctor`) writes the list beside the store, STORE.faults.json, and
`preparation` obeys it. It says of every variable which version of the data was checked.
Where they have changed since, the list is named and still obeyed until the store is
checked again: to leave out a time that was repaired meanwhile costs a few windows, to
train on one that was not costs the training.
"""

from __future__ import annotations

import datetime
import glob
import json
import logging
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import fsspec
import numpy as np

from learning.files import MARK, Output
from learning.provenance import code_version
from weather.data.identity import version
from weather.data.shelf import digest, preparation_folder
from weather.data.store import Atmosphere
from weather.experiment import Experiment
from weather.outputs import FAULTS
from weather.variables import Channel, as_level

_LOGGER = logging.getLogger(__name__)


class Kind(NamedTuple):
    """A kind of fault.

    Attributes:
      is_unusable: whether a time that has it is kept from training.
      reason: why, or why not.
    """

    is_unusable: bool
    reason: str


KINDS: dict[str, Kind] = {
    'missing chunk': Kind(True, 'nothing was ever written there'),
    'unreadable': Kind(True, 'reading it would end the training'),
    'NaN': Kind(True, 'one NaN makes every parameter NaN'),
    'implausible': Kind(True, 'no atmosphere has such values: units or bits are wrong'),
    'constant': Kind(True, 'a placeholder, and a field without a pattern has no use'),
    'frozen': Kind(True, 'a copy of the time before teaches that nothing changes'),
    'jump': Kind(
        True, 'not of this series: the changes to and from it are far too large'
    ),
    'checksum': Kind(True, 'it is not what was written: nobody knows what it is'),
    'units': Kind(False, 'of all times alike: the store is refused as a whole'),
    'absent': Kind(False, 'of all times alike: the store is refused as a whole'),
    'below ground': Kind(False, 'of all times alike: nothing would be left'),
    'axes': Kind(False, 'of all times alike: the store is refused as a whole'),
    'grid': Kind(False, 'of all times alike: the store is refused as a whole'),
    'calendar': Kind(False, 'of all times alike: the store is refused as a whole'),
    'doubled time': Kind(False, 'the store is refused as a whole'),
    'decreasing time': Kind(False, 'the store is refused as a whole'),
    'uneven time': Kind(False, 'the store is refused as a whole'),
    'gap': Kind(False, 'windows across it are left out in any case'),
}
# In place of a variable: faults of the time axis, and of all fields.
TIME, ALL = 'time', 'all'


class Fault(NamedTuple):
    """One thing that is wrong.

    Attributes:
      variable: its name, `TIME` or `ALL`.
      level: hPa; None for a variable without levels, or all of its levels alike.
      time: None for all times alike.
      fault: one of `KINDS`.
      detail: what was found, for the eye.
    """

    variable: str
    level: float | None
    time: np.datetime64 | None
    fault: str
    detail: str


class FaultList(NamedTuple):
    """What a check found.

    Attributes:
      store: path or address that was checked.
      versions: `identity.version` by variable checked, as it was then.
      faults: in no particular order.
    """

    store: str
    versions: Mapping[str, str | None]
    faults: Sequence[Fault]

    def unusable(
        self, levels: Mapping[str, Sequence[float]]
    ) -> dict[Channel, np.ndarray]:
        """Times that training must not touch, ascending, by channel among `levels`."""
        found: dict[Channel, set[np.datetime64]] = {}
        for fault in self.faults:
            known = fault.fault not in KINDS or KINDS[fault.fault].is_unusable
            if fault.time is None or fault.variable not in levels or not known:
                continue
            in_use = levels[fault.variable] or (None,)
            for level in in_use if fault.level is None else {fault.level} & set(in_use):
                channel = Channel(fault.variable, level)
                found.setdefault(channel, set()).add(fault.time)
        return {
            channel: np.array(sorted(times), 'datetime64[ns]')
            for channel, times in found.items()
        }

    def stale(self, atmosphere: Atmosphere) -> list[str]:
        """Variables with faults whose data changed since the check, as far as seen."""
        faulty = {fault.variable for fault in self.faults} & set(atmosphere.fields)
        return sorted(
            name
            for name in faulty
            if version(atmosphere.fields[name]) != self.versions.get(name)
        )


def unusable_times(
    setup: Experiment, atmosphere: Atmosphere
) -> dict[Channel, np.ndarray]:
    """Times by channel that the list of the store's faults keeps from training.

    Raises:
      ValueError: there is a list, and it cannot be read.
    """
    listed = read_faults(
        atmosphere.source, setup, storage_options=setup.data.storage_options
    )
    if listed is None:
        return {}
    found = listed.unusable(setup.data.stored.levels)
    if found and (stale := listed.stale(atmosphere)):
        _LOGGER.warning(
            '%s changed since %s was checked: the times that were faulty then are left '
            'out until scripts/check_data.py has looked again',
            ', '.join(stale),
            atmosphere.source,
        )
    times = {time for of in found.values() for time in of.tolist()}
    if times:
        _LOGGER.info(
            '%d times of %s are left out: scripts/check_data.py found faults in '
            'channels in use',
            len(times),
            atmosphere.source,
        )
    return found


def read_faults(
    source: str,
    setup: Experiment | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> FaultList | None:
    """Returns the list of a store, beside it or in the preparation folder.

    Raises:
      ValueError: there is one, and it cannot be read.
    """
    for path in (beside(source), _on_shelf(source, setup)):
        text = _read_text(path, storage_options) if path else None
        if text is None:
            continue
        try:
            return _parse(text)
        except (LookupError, TypeError, ValueError) as error:
            raise ValueError(
                f'expected a list of faults in {path}, cannot read it: {error}; remove '
                'it, or have it made again by scripts/check_data.py'
            ) from error
    return None


def write_faults(
    listed: FaultList,
    setup: Experiment | None = None,
    *,
    output: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> str:
    """Writes the list, whole or not at all, in place of the last of the same store.

    Args:
      listed: what was found.
      setup: experiment whose preparation folder is taken where the list cannot be put
        beside the store; None for the user's.
      output: another place, where nobody but you looks.
      storage_options: passed on to fsspec for an address.

    Returns:
      Where it is.

    Raises:
      OutputError: something else is at `output` or beside the store.
    """
    text = _to_text(listed)
    place = output or beside(listed.store)
    if place:
        try:
            _write_text(text, place, storage_options)
            return place
        except FileExistsError:  # Something of somebody else's.
            raise
        # A read-only disk, or a bucket of others: file systems raise what they like.
        except Exception as error:
            if output:
                raise
            _LOGGER.info('%s cannot be written: %s', place, error)
    shelf = _on_shelf(listed.store, setup)
    _write_text(text, shelf, None)
    return shelf


def beside(source: str) -> str | None:
    """Where the list of a store belongs; None for a pattern, which is no place."""
    return None if glob.has_magic(source) else f'{source.rstrip("/")}.faults.json'


def _on_shelf(source: str, setup: Experiment | None) -> str:
    place = source if '://' in source else os.path.abspath(source)
    return os.fspath(preparation_folder(setup) / digest([place]) / 'faults.json')


def _read_text(path: str, options: Mapping[str, Any] | None) -> str | None:
    if '://' not in path:
        return pathlib.Path(path).read_text('utf-8') if os.path.isfile(path) else None
    attempts = [dict(options or {})]
    if path.startswith(('gs://', 'gcs://')) and 'token' not in attempts[0]:
        attempts.append({**attempts[0], 'token': 'anon'})
    failure: Exception | None = None
    for attempt in attempts:
        try:
            with fsspec.open(path, 'rb', **attempt) as file:
                return file.read().decode('utf-8')
        except FileNotFoundError:
            return None
        except Exception as error:  # Whatever a file system raises.
            failure = failure or error
    if _is_for_nobody(failure):
        _LOGGER.info('cannot look for a list of faults at %s: %s', path, failure)
        return None
    # Not taken for absent: the times that it names would be trained on.
    raise ValueError(
        f'cannot look for a list of faults at {path}: {failure}; try again when the '
        'connection is back'
    ) from failure


def _is_for_nobody(error: Exception | None) -> bool:
    """Whether one may not look, as into a bucket that shows its objects alone."""
    forbidden = getattr(error, 'code', None) in (401, 403, '401', '403')
    # An address of a kind that fsspec does not know can have no list either.
    return forbidden or isinstance(error, PermissionError | ValueError | ImportError)


def _write_text(text: str, path: str, options: Mapping[str, Any] | None) -> None:
    if '://' in path:
        file_system, place = fsspec.url_to_fs(path, **(options or {}))
        # One object: it is there whole or not at all.
        file_system.pipe_file(place, text.encode('utf-8'))
        return
    with Output(path, FAULTS, overwrite=True).replacing() as temporary:
        temporary.write_text(text, 'utf-8')


def _to_text(listed: FaultList) -> str:
    entries = [
        {
            'variable': fault.variable,
            'level': fault.level,
            'time': None if fault.time is None else _time_text(fault.time),
            'fault': fault.fault,
            'detail': fault.detail,
        }
        for fault in listed.faults
    ]
    head = {
        MARK: FAULTS.name,
        'store': listed.store,
        'source': f'spherecast {code_version()}',
        'created': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
        'versions': dict(listed.versions),
    }
    lines = ',\n'.join(json.dumps(entry) for entry in entries)
    # A line for each fault, so that text tools can count and compare.
    return f'{json.dumps(head, indent=1)[:-2]},\n "faults": [\n{lines}\n]\n}}\n'


def _time_text(time: np.datetime64) -> str:
    return str(time.astype('datetime64[s]'))


def _parse(text: str) -> FaultList:
    content = json.loads(text)
    if content[MARK] != FAULTS.name:
        raise ValueError(f'it is marked {content[MARK]!r}')
    faults = [
        Fault(
            entry['variable'],
            None if entry['level'] is None else as_level(entry['level']),
            None if entry['time'] is None else np.datetime64(entry['time'], 'ns'),
            entry['fault'],
            entry['detail'],
        )
        for entry in content['faults']
    ]
    return FaultList(content['store'], content['versions'], faults)
