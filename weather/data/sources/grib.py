"""A GRIB file as a source (editions 1 and 2), read by cfgrib.

A file may hold any mixture of levels, steps and times: every quantity on every kind of
level is a store of its own here, and they are joined above as files are. Times are
those at which fields are valid, except where a field has several lead times for several
starts. cfgrib's index is made anew each time and left nowhere.
"""

from __future__ import annotations

import glob
import os
import pathlib
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray

from weather.data.sources import Options, StoreNotFoundError
from weather.data.sources.dataset import DatasetStore, DatasetVariable

_SUFFIXES = ('.grib', '.grib1', '.grib2', '.grb', '.grb1', '.grb2')
_PRESSURE = ('isobaricInhPa', 'isobaricInPa')
# ecCodes keeps state of its own: one reader at a time.
_LOCK = threading.Lock()


def claims(source: Any) -> bool:
    """Whether `source` is called like a GRIB file, or is one whatever its name."""
    if not isinstance(source, str):
        return False
    path = pathlib.Path(source)
    if glob.has_magic(source) and not path.exists():
        return False
    if source.lower().endswith(_SUFFIXES):
        return not path.is_dir()
    if '://' in source or source.endswith('.tmp') or not path.is_file():
        return False
    with path.open('rb') as file:
        return file.read(4) == b'GRIB'


def open_raw(source: str, options: Options) -> list[GribStore]:
    """Opens one file: a store for each quantity and kind of level.

    Raises:
      ValueError: the file cannot be read, or the packages that do are not installed.
        `StoreNotFoundError` where it is not there.
    """
    del options
    if '://' in source:
        raise ValueError(
            f'expected a GRIB file on a local disk, got {source}; copy it first, e.g. '
            'with gcloud storage cp'
        )
    if not pathlib.Path(source).exists():
        raise StoreNotFoundError(
            f'expected a GRIB file at {os.path.abspath(source)}, found nothing there; '
            'check the path'
        )
    _check_installed(source)
    with _LOCK:
        datasets = _open_datasets(source)
    names = _Names()
    return [
        GribStore(_by_valid_time(dataset).rename(names.of(dataset)), source)
        for dataset in datasets
    ]


def _check_installed(source: str) -> None:
    try:
        import cfgrib  # noqa: F401
    # Without the library, eccodes raises RuntimeError.
    except Exception as error:
        raise ValueError(
            f'expected the packages cfgrib and eccodes to read {source}, got '
            f'{type(error).__name__}: {error}; install them: pip install '
            "'spherecast[grib]'"
        ) from error


def _open_datasets(source: str) -> list[xarray.Dataset]:
    from cfgrib.xarray_store import open_variable_datasets

    # Read once for all quantities, and gone when they are open.
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            'indexpath': os.path.join(folder, '{short_hash}.idx'),
            'squeeze': False,
            # A truncated message would be left out otherwise.
            'errors': 'raise',
        }
        try:
            found = open_variable_datasets(
                source, backend_kwargs=settings, cache=False, decode_timedelta=True
            )
        # The libraries below raise whatever they like on damaged bytes.
        except Exception as error:
            raise ValueError(
                f'expected a GRIB file at {source}, cannot read it: '
                f'{type(error).__name__}: {str(error)[:200]}; it is none, or damaged: '
                'copy it again from its source'
            ) from error
    if not found:
        raise ValueError(
            f'expected GRIB messages in {source}, found none; copy it again'
        )
    return found


def _by_valid_time(dataset: xarray.Dataset) -> xarray.Dataset:
    """The time at which fields are valid is the axis, where one lead time is there.

    So analyses, and fluxes that are stored as short forecasts, are an atmosphere.
    """
    dataset.attrs.pop('history', None)  # When it was opened.
    if dataset.sizes.get('step') != 1 or 'valid_time' not in dataset.variables:
        return dataset
    valid = dataset['valid_time'].isel(step=0)
    alone = dataset.isel(step=0).drop_vars(['step', 'valid_time'])
    return alone.assign_coords(time=('time', valid.values))


class _Names:
    """Gives each quantity a name of its own: many are there on several kinds of levels.

    Fields of pressure levels and the first on another kind keep theirs.
    """

    def __init__(self):
        self._taken = set()

    def of(self, dataset: xarray.Dataset) -> dict[str, str]:
        """Returns new names by the old ones."""
        new = {}
        for name, variable in dataset.data_vars.items():
            kind = variable.attrs.get('GRIB_typeOfLevel', '')
            if kind in _PRESSURE:
                continue
            step = variable.attrs.get('GRIB_stepType', '')
            spelt = [str(name), f'{name}_{kind}', f'{name}_{kind}_{step}']
            spelt += [f'{name}_{kind}_{step}_{n}' for n in range(len(self._taken) + 1)]
            new[str(name)] = next(each for each in spelt if each not in self._taken)
            self._taken.add(new[str(name)])
        return {old: name for old, name in new.items() if old != name}


class GribStore(DatasetStore):
    """See `RawStore`."""

    def variable(self, name: str) -> GribVariable | None:
        """See `RawStore`."""
        if name not in self.dataset.variables:
            return None
        return GribVariable(self.dataset.variables[name], self.address)

    def close(self) -> None:
        """Closes the file."""
        self.dataset.close()


class GribVariable(DatasetVariable):
    """See `RawVariable`; one reader at a time."""

    def __init__(self, variable: xarray.Variable, path: str):
        super().__init__(variable)
        self._path = path

    def read(self, box: tuple[slice, ...]) -> np.ndarray:
        """See `RawVariable`."""
        with _LOCK:
            return super().read(box)

    def version(self, box: tuple[slice, ...]) -> Iterator[str] | None:
        """See `RawVariable`: a file is one whole."""
        del box
        found = os.stat(self._path)
        return iter([f'{found.st_size} {found.st_mtime_ns}'])
