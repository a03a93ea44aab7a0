"""The climatology of a run: computed once per data set and period, like statistics."""

from __future__ import annotations

import json
import os
import pathlib
import shutil

from learning.files import Output, read_attributes, replacing
from weather.data.climatology import write_climatology
from weather.data.identity import believed_record, fingerprint
from weather.data.shelf import KEY, digest, keeping, preparation_folder
from weather.data.sources import named_by
from weather.data.store import open_atmosphere
from weather.experiment import Experiment
from weather.outputs import CLIMATOLOGY


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
    data = setup.data
    with named_by('--store'):
        atmosphere = open_atmosphere(
            store or data.store,
            levels=data.channels.levels,
            storage_options=data.storage_options,
        )
    period = (start or data.train[0], end or data.train[1])
    window = window_days or setup.climatology.window_days
    positions = atmosphere.dataset.indexes['time'].slice_indexer(*period)
    record = believed_record(atmosphere, data.storage_options)
    of_data = fingerprint(atmosphere, atmosphere.levels, positions, record=record)
    key = digest(['climatology', of_data, window])
    if not overwrite and _is_climatology(path, key):
        return f'{os.fspath(path)} is that of the same data already'
    note = preparation_folder(setup) / key / 'climatology.json'
    elsewhere = None if overwrite else _noted(note)
    # Looked at: since the note it may have gone, or become another.
    if elsewhere is not None and _is_climatology(elsewhere, key):
        output = Output(path, CLIMATOLOGY, sources=(atmosphere.source,))
        with output.replacing() as temporary:
            shutil.copytree(elsewhere, temporary, copy_function=_link)
        return f'found in {elsewhere} and put into {os.fspath(path)}'
    write_climatology(
        atmosphere.dataset,
        path,
        start=period[0],
        end=period[1],
        window_days=window,
        source=atmosphere.source,
        overwrite=overwrite,
        attributes={KEY: key},
    )
    if '://' not in os.fspath(path):
        with keeping(preparation_folder(setup)), replacing(note) as temporary:
            temporary.write_text(
                json.dumps({'path': str(pathlib.Path(path).resolve())})
            )
    return f'written to {os.fspath(path)}'


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
