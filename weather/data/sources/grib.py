"""A GRIB file as a source (editions 1 and 2), read by cfgrib.

A file may hold any mixture of levels, steps and times: every quantity on every kind of
level is a store of its own here, and they are joined above as files are. Times are
those at which fields are valid, except where a field has several lead times: these are
kept, but for the hourly sums of ERA5, which are short forecasts in its archive and in
no other sense. cfgrib's index is not left beside the file; that of a large one is kept
in the folder of preparations (`weather.data.shelf`), so that it is made once.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import pathlib
import shutil
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray

from weather.data.sources import Options, StoreNotFoundError, is_file
from weather.data.sources.dataset import DatasetStore, DatasetVariable

_LOGGER = logging.getLogger(__name__)

_SUFFIXES = ('.grib', '.grib1', '.grib2', '.grb', '.grb1', '.grb2')
# Bytes of a file whose index is kept.
_LARGE = 2**24
_PRESSURE = ('isobaricInhPa', 'isobaricInPa')
# ecCodes keeps state of its own: one reader at a time.
_LOCK = threading.Lock()


def claims(source: Any) -> bool:
    """Whether `source` is called like a GRIB file, or is one whatever its name."""
    return is_file(source, _SUFFIXES, (b'GRIB',))


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
    # Absolute, since the index knows the file by its path.
    source = os.path.abspath(source)
    with _LOCK:
        datasets = _open_datasets(source)
    names = _Names()
    stores = []
    for dataset in datasets:
        dataset.attrs.pop('history', None)  # When it was opened.
        dataset = _by_valid_time(dataset).rename(names.of(dataset))
        stores.append(GribStore(dataset, source, _hours_of_era5(dataset)))
    return stores


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

    # It would print a traceback beside the error that it raises.
    logging.getLogger('cfgrib').setLevel(logging.CRITICAL)
    # Read once for all quantities, and gone when they are open.
    with _index_of(source) as index:
        settings = {
            'indexpath': index,
            'squeeze': False,
            # A truncated message would be left out otherwise.
            'errors': 'raise',
            'read_keys': ('class',),
        }
        try:
            doubtful = _doubtful(source, index)
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
    return [dataset for dataset in found if not doubtful & _kinds(dataset)]


@contextlib.contextmanager
def _index_of(source: str) -> Iterator[str]:
    """Where cfgrib finds or leaves the index of a file, which takes 1 ms per message.

    It is never read half written: what is kept is moved to its place when it is done.
    """
    stat = os.stat(source)
    traits = f'{os.path.abspath(source)} {stat.st_size} {stat.st_mtime_ns}'
    name = hashlib.sha256(traits.encode()).hexdigest()[:24]
    caches = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    folder = os.environ.get('SPHERECAST_PREPARATION') or f'{caches}/spherecast'
    kept = pathlib.Path(folder).expanduser() / 'grib' / f'{name}.idx'
    with tempfile.TemporaryDirectory() as scratch:
        index = os.path.join(scratch, 'idx')
        is_kept = kept.is_file()
        if is_kept:
            shutil.copyfile(kept, index)
        yield index
        if is_kept or stat.st_size < _LARGE or not os.path.exists(index):
            return
        # Who cannot write there waits again the next time.
        with contextlib.suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            part = kept.with_suffix(f'.{os.getpid()}.tmp')
            shutil.copyfile(index, part)
            os.replace(part, kept)


def _kinds(dataset: xarray.Dataset) -> set[tuple[Any, ...]]:
    """Number of the quantity and kind of level of what a dataset holds."""
    return {
        (of.attrs.get('GRIB_paramId'), of.attrs.get('GRIB_typeOfLevel'))
        for of in dataset.data_vars.values()
    }


def _doubtful(source: str, indexpath: str) -> set[tuple[Any, ...]]:
    """Quantities of which two messages say the same time and level, and differ.

    Sums over several spans of time that end together are such; cfgrib would take the
    first of them.
    """
    from cfgrib.dataset import open_fileindex
    from cfgrib.messages import FileStream

    index = open_fileindex(FileStream(source, errors='raise'), indexpath=indexpath)
    found = set()
    for header, messages in index.iter_index():
        keys = dict(zip(index.index_keys, header, strict=True))
        kind = keys.get('paramId'), keys.get('typeOfLevel')
        if len(messages) == 1 or kind in found:
            continue
        first, *others = (index.get_field(place)['values'] for place in messages)
        if not all(np.array_equal(first, other) for other in others):
            found.add(kind)
            _LOGGER.warning(
                '%s is left out of %s: it holds %d fields of one time and level, which '
                'differ; keep one of them, e.g. with grib_copy',
                index.get_field(messages[0])['shortName'], source, len(messages),
            )  # fmt: skip
    return found


def _by_valid_time(dataset: xarray.Dataset) -> xarray.Dataset:
    """The time at which fields are valid is the axis, where one lead time is there.

    So analyses, and fluxes that are stored as short forecasts, are an atmosphere.
    """
    if dataset.sizes.get('step') != 1 or 'valid_time' not in dataset.variables:
        return dataset
    valid = dataset['valid_time'].isel(step=0)
    alone = dataset.isel(step=0).drop_vars(['step', 'valid_time'])
    return alone.assign_coords(time=('time', valid.values))


def _hours_of_era5(dataset: xarray.Dataset) -> np.ndarray | None:
    """Start and step of each hour of ERA5's sums, `[hour, 2]`, by the hour.

    These are forecasts from 06 and 18 UTC of up to 12 h in its archive. None for
    everything else: of other models such fields are sums since the start.
    """
    of_era5 = {of.attrs.get('GRIB_class') for of in dataset.data_vars.values()}
    if of_era5 != {'ea'} or dataset.sizes.get('step', 1) == 1:
        return None
    valid = dataset['valid_time'].transpose('time', 'step').values
    order = np.argsort(valid, axis=None, kind='stable')
    if (np.diff(valid.ravel()[order]) == np.timedelta64(0)).any():
        return None
    places = np.stack(np.unravel_index(order, valid.shape), axis=1)
    # A request of whole days ends within such forecasts: the rest is not there.
    variable = next(iter(dataset.data_vars.values()))

    def is_there(place: np.ndarray) -> bool:
        with _LOCK:
            field = variable.isel(time=place[0], step=place[1]).values
        return bool(np.isfinite(field).any())

    first = next((i for i, place in enumerate(places) if is_there(place)), 0)
    last = next((i for i, place in enumerate(places[::-1]) if is_there(place)), 0)
    return places[first : len(places) - last]


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
    """See `RawStore`; `hours` as `_hours_of_era5` gives them."""

    def __init__(
        self, dataset: xarray.Dataset, address: str, hours: np.ndarray | None = None
    ):
        if hours is not None:
            valid = dataset['valid_time'].transpose('time', 'step').values
            times = ('hour_of_era5', valid[tuple(hours.T)])
            dataset = dataset.drop_vars(['valid_time', 'step', 'time'])
            dataset = dataset.assign_coords(hour_of_era5=times)
        super().__init__(dataset, address)
        self._hours = hours

    def names(self) -> list[str]:
        """See `RawStore`."""
        return ['time' if n == 'hour_of_era5' else n for n in super().names()]

    def variable(self, name: str) -> GribVariable | None:
        """See `RawStore`."""
        if self._hours is not None and name == 'time':
            times = self.dataset['hour_of_era5'].values
            return GribVariable(xarray.Variable(('time',), times), self.address)
        if name not in self.dataset.variables:
            return None
        variable = self.dataset.variables[name]
        if self._hours is not None and {'time', 'step'} <= set(variable.dims):
            return HourlyVariable(variable, self.address, self._hours)
        return GribVariable(variable, self.address)

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


class HourlyVariable(GribVariable):
    """A variable by start and step as one by hour: axis `time` stands for both."""

    def __init__(self, variable: xarray.Variable, path: str, hours: np.ndarray):
        super().__init__(variable, path)
        self._hours = hours
        self._start, self._step = (self.dims.index(dim) for dim in ('time', 'step'))
        sizes = {**variable.sizes, 'time': len(hours)}
        chunks = dict(zip(self.dims, self.chunks, strict=True)) | {'time': 1}
        self.dims = tuple(dim for dim in self.dims if dim != 'step')
        self.shape = tuple(sizes[dim] for dim in self.dims)
        self.chunks = tuple(chunks[dim] for dim in self.dims)

    def read(self, box: tuple[slice, ...]) -> np.ndarray:
        """See `RawVariable`: each hour is a message of its own."""
        fields = []
        for start, step in self._hours[box[self._start]].tolist():
            one = list(box)
            one[self._start] = slice(start, start + 1)
            one.insert(self._step, slice(step, step + 1))
            fields.append(super().read(tuple(one)).squeeze(self._step))
        return np.concatenate(fields, self._start)
