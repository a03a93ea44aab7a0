"""The place of a prepared store: what is there, what may go, who is at work there."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import zarr

from learning.files import MARK, OutputError, check_sources, local, remove
from learning.lock import hold
from learning.schema import differences
from weather.building import layout
from weather.building.layout import METADATA, SUMMARY, Place
from weather.building.plan import Plan
from weather.data.prepared_climatology import CLIMATOLOGY_GROUP
from weather.outputs import PREPARED

_LOGGER = logging.getLogger(__name__)

# Attribute under which a store keeps its plan.
PLAN = 'preparation'


def check_apart(output: str, sources: Sequence[str]) -> None:
    """Refuses to write into what is read."""
    if '://' not in output:
        check_sources(local(output), tuple(sources))
        if local(output).is_file():
            raise OutputError(
                f'expected nothing, or {PREPARED.words} of this project, at {output}; '
                'found a file, which stays as it is: choose another path'
            )
        return
    for source in sources:
        mine, other = (f'{place.rstrip("/")}/' for place in (output, source))
        if mine.startswith(other) or other.startswith(mine):
            raise OutputError(
                f'{output} is, holds, or lies inside of {source}, which is read: '
                'choose another address to write to'
            )


def whole_path(source: str) -> str:
    """A source that is the same wherever one stands: of paths that from the root."""
    # `zip::` and the like begin no path.
    if '://' in source or '::' in source:
        return source
    return os.path.abspath(os.path.expanduser(source))


@contextlib.contextmanager
def locked(output: str) -> Iterator[pathlib.Path | None]:
    """Holds the lock of a local store, and yields a folder for what is in the making.

    It lies beside the store: what is inside of one is part of it for every reader.
    """
    if '://' in output:
        yield None
        return
    path = local(output)
    folder = path.with_name(f'.{path.name}.preparing')
    with hold(folder, work='preparation'):
        yield folder
        remove(folder)


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A plan, and what there is at its output already."""

    plan: Plan
    overwrite: bool

    @property
    def _root(self) -> dict[str, Any] | None:
        return attributes_of(self.plan.place, METADATA)

    def is_finished(self) -> bool:
        """Whether the very same is there already, and may stay.

        Raises:
          OutputError: something else is there, which stays.
        """
        place, root = self.plan.place, self._root
        if root is None:
            return False
        if root.get(MARK) != PREPARED.name:
            raise OutputError(_foreign(place, 'another Zarr store'))
        changed = self._changes(json.loads(root.get(PLAN, '{}')))
        if self.overwrite:
            return False
        if changed:
            raise OutputError(
                f'{place.address} is a prepared store of another plan: {changed}; say '
                '--overwrite to replace it, or choose another path'
            )
        return True

    def begin(self) -> Plan:
        """Makes room where that is allowed; returns the plan, with the blocks found.

        Raises:
          OutputError: something is there that must stay.
        """
        plan, place = self.plan, self.plan.place
        entries = place.entries()
        if not entries:
            return plan
        found = attributes_of(place, SUMMARY, METADATA) or {}
        if self._root is None:
            if found.get(MARK) != PREPARED.name:
                what = f'a folder with {len(entries)} entries'
                raise OutputError(_foreign(place, what))
            changed = self._changes(found[PLAN])
            if not changed:
                _LOGGER.info('going on with %s', place.address)
                return dataclasses.replace(plan, block=found['block'])
            if not self.overwrite:
                raise OutputError(
                    f'{place.address} is unfinished, and of another plan: {changed}; '
                    'go on with that, or say --overwrite to begin anew'
                )
        _remove(place, entries, found.get(PLAN, {}))
        return plan

    def _changes(self, found: Mapping[str, Any]) -> str:
        return ', '.join(
            f'{key}: {change}'
            for key, change in differences(found, self.plan.describe()).items()
        )


def _foreign(place: Place, what: str) -> str:
    return (
        f'expected nothing, or {PREPARED.words} of this project, at {place.address}; '
        f'found {what}, which stays as it is: choose another path'
    )


def attributes_of(place: Place, *names: str) -> dict[str, Any] | None:
    """Attributes of a group; None where it has no metadata."""
    content = place.read(*names)
    if content is None:
        return None
    try:
        return dict(json.loads(content).get('attributes', {}))
    except ValueError:
        return {}


def _remove(place: Place, entries: set[str], found: Mapping[str, Any]) -> None:
    """Removes a prepared store, from its root downward.

    Raises:
      OutputError: something in it is not of this project.
    """
    known = {*found.get('variables', ()), *found.get('statics', ()), *layout.DIMS}
    known |= {SUMMARY, CLIMATOLOGY_GROUP, METADATA}
    if foreign := sorted(entries - known):
        raise OutputError(
            f'{place.address} holds {foreign[0]}, which is no part of '
            f'{PREPARED.words} and would be lost: move it elsewhere, or choose another '
            'path'
        )
    # First of all it becomes an unfinished store of no plan: if this is interrupted,
    # nobody takes what is left of it for part of his own.
    place.put(summary_metadata({**found, 'sources': []}, 1), SUMMARY, METADATA)
    place.remove(METADATA)
    for name in sorted(entries - {SUMMARY, METADATA}):
        place.remove(name)
    place.remove(SUMMARY)


def summary_metadata(plan: Mapping[str, Any], block: int) -> bytes:
    """Metadata of the group that is there first, and tells whose the rest is."""
    memory = zarr.storage.MemoryStore()
    attributes = {MARK: PREPARED.name, PLAN: dict(plan), 'block': block}
    zarr.create_group(memory, attributes=attributes)
    return layout.content_of(memory, METADATA)
