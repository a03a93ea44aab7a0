"""The climatology of a run: computed once per data set and period, like statistics."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import fsspec
import zarr

from learning.files import Output, read_attributes, remove, replacing
from weather.data.climatology import write_climatology
from weather.data.identity import believed_record, fingerprint
from weather.data.shelf import KEY, digest, keeping, preparation_folder
from weather.data.sources import named_by
from weather.data.store import Atmosphere, open_atmosphere
from weather.experiment import Experiment
from weather.outputs import CLIMATOLOGY

# Where a prepared store has its own.
CLIMATOLOGY_GROUP = 'climatology'


def prepare_climatology(
    setup: Experiment,
    path: str | os.PathLike[str],
    *,
    store: str | None = None,
    start: str | None = None,
    end: str | None = None,
    window_days: int | None = None,
    overwrite: bool = False,
) -> str:
    """Writes the climatology of an experiment's variables to `path`, or finds it.

    It is too large to be kept beside the statistics; where it was written last is noted
    there, and the next run that wants the same takes it from that place.

    Store, first and last date (those of the training period) and width of the window
    are the experiment's where they are None. To `overwrite` is to compute it even if it
    is there, and to replace a climatology at `path`.

    Returns:
      What was done, for the reader.

    Raises:
      OutputError: something else is at `path`.
    """
    wanted = _Wanted.of(setup, store, (start, end), window_days)
    key = wanted.key
    if not overwrite and _is_climatology(path, key):
        return f'{os.fspath(path)} is that of the same data already'
    inside = f'{wanted.atmosphere.source.rstrip("/")}/{CLIMATOLOGY_GROUP}'
    if not overwrite and _attributes_at(inside, wanted.options).get(KEY) == key:
        output = Output(path, CLIMATOLOGY, sources=(wanted.atmosphere.source,))
        with output.replacing() as temporary:
            _fetch(inside, temporary, wanted.options)
        return f'found in {inside} and put into {os.fspath(path)}'
    note = preparation_folder(setup) / key / 'climatology.json'
    elsewhere = None if overwrite else _noted(note)
    # Looked at: since the note it may have gone, or become another.
    if elsewhere is not None and _is_climatology(elsewhere, key):
        output = Output(path, CLIMATOLOGY, sources=(wanted.atmosphere.source,))
        with output.replacing() as temporary:
            shutil.copytree(elsewhere, temporary, copy_function=_link)
        return f'found in {elsewhere} and put into {os.fspath(path)}'
    write_climatology(
        wanted.atmosphere.dataset,
        path,
        start=wanted.period[0],
        end=wanted.period[1],
        window_days=wanted.window_days,
        source=wanted.atmosphere.source,
        overwrite=overwrite,
        attributes={KEY: key},
    )
    if '://' not in os.fspath(path):
        with keeping(preparation_folder(setup)), replacing(note) as temporary:
            temporary.write_text(
                json.dumps({'path': str(pathlib.Path(path).resolve())})
            )
    return f'written to {os.fspath(path)}'


def write_into_store(setup: Experiment, *, scratch: pathlib.Path | None = None) -> str:
    """Writes the climatology of a prepared store into it, as its group `climatology`.

    Args:
      setup: `data.store` is the store; its training period counts.
      scratch: for a local store, a folder on the same disk for what is in the making.

    Returns:
      What was done, for the reader.
    """
    wanted = _Wanted.of(setup, None, (None, None), None)
    store = wanted.atmosphere.source.rstrip('/')
    inside = f'{store}/{CLIMATOLOGY_GROUP}'
    if not wanted.num_times:
        return f'no climatology: {store} has no times from {" to ".join(wanted.period)}'
    if _attributes_at(inside, wanted.options).get(KEY) == wanted.key:
        return f'climatology: {inside}'
    files, place = fsspec.core.url_to_fs(inside, **wanted.options)
    if files.exists(place):
        # Of a run that was killed; or of what the store was before.
        files.rm(place, recursive=True)
    target = inside if scratch is None else str(scratch / CLIMATOLOGY_GROUP)
    if scratch is not None:
        remove(target)
    write_climatology(
        wanted.atmosphere.dataset,
        target,
        start=wanted.period[0],
        end=wanted.period[1],
        window_days=wanted.window_days,
        attributes={'source': store, KEY: wanted.key},
        zarr_format=3,
        storage_options=wanted.options,
    )
    if scratch is not None:
        os.rename(target, inside)
    return f'climatology: {inside}, {wanted.num_times} times'


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """The climatology of some data: of a period, with a window."""

    atmosphere: Atmosphere
    period: tuple[str, str]
    window_days: int
    options: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        setup: Experiment,
        store: str | None,
        period: tuple[str | None, str | None],
        window_days: int | None,
    ) -> _Wanted:
        """That of an experiment where nothing else is said."""
        data = setup.data
        with named_by('--store'):
            atmosphere = open_atmosphere(
                store or data.store,
                levels=data.channels.levels,
                storage_options=data.options,
            )
        return cls(
            atmosphere,
            (period[0] or data.train[0], period[1] or data.train[1]),
            window_days or setup.climatology.window_days,
            data.storage_options if '://' in atmosphere.source else {},
        )

    @property
    def _positions(self) -> slice:
        return self.atmosphere.dataset.indexes['time'].slice_indexer(*self.period)

    @property
    def num_times(self) -> int:
        """Times of the store within the period."""
        return len(self.atmosphere.times[self._positions])

    @functools.cached_property
    def key(self) -> str:
        """Name of what is computed, of the data, the period and the window."""
        atmosphere = self.atmosphere
        record = believed_record(atmosphere, self.options)
        of_data = fingerprint(
            atmosphere, atmosphere.levels, self._positions, record=record
        )
        return digest(['climatology', of_data, self.window_days])


def _attributes_at(address: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Attributes of a climatology within a store, if it is there and whole."""
    try:
        group = zarr.open_group(
            address, mode='r', storage_options=dict(options) or None
        )
    # Nothing there, or no permission to look.
    except (OSError, ValueError):
        return {}
    # Which come last.
    whole = group.metadata.consolidated_metadata is not None
    return dict(group.attrs) if whole else {}


def _fetch(source: str, target: pathlib.Path, options: Mapping[str, Any]) -> None:
    """Copies a folder from wherever it is."""
    if '://' not in source:
        shutil.copytree(source, target, copy_function=_link)
        return
    files, place = fsspec.core.url_to_fs(source, **options)
    files.get(place, str(target), recursive=True)


def _is_climatology(path: str | os.PathLike[str], key: str) -> bool:
    return read_attributes(path).get(KEY) == key and CLIMATOLOGY.wrote(
        pathlib.Path(path)
    )


def _noted(note: pathlib.Path) -> str | None:
    try:
        return str(json.loads(note.read_text('utf-8'))['path'])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _link(source: str, target: str) -> None:
    """Puts a file in a second place; chunks are replaced, never changed in place."""
    try:
        os.link(source, target)
    except OSError:  # Another disk, or one that knows no links.
        shutil.copy2(source, target)
