"""Writes an atmosphere as ArrayRecord with TensorFlow Datasets metadata.

One example per time, in order: `time` (int64, seconds since 1970-01-01T00 UTC) and
every variable with a time axis, `[level, latitude, longitude]` float32, SI, canonical
order, NaN kept bit for bit (the encoding is raw bytes). Beside the examples:
`coordinates.nc` with the coordinates and the fields that never change, `metadata.json`
(`builder.info.metadata`) with dims and attributes. TensorFlow is never imported.

    builder = tfds.builder_from_directory(FOLDER)
    examples = builder.as_data_source('train')  # len(), examples[5]['temperature']

All times are in the one split `train`; which of them are a config's periods stands in
`builder.info.metadata['periods']`, as the API of splits spells it: `train[0:2920]`.
A folder called `DIR/NAME/1.0.0` is what `tfds.data_source(NAME, data_dir=DIR)` finds.
"""

from __future__ import annotations

import os
import pathlib
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from tqdm import tqdm

from learning.files import MARK, Output
from learning.provenance import code_version
from weather.data.blocks import stored_chunk, time_blocks
from weather.data.sources.array_record import SPLIT, import_tfds
from weather.data.store import open_dataset, open_store, refused
from weather.experiment import Experiment
from weather.outputs import COORDINATES_FILE, EXAMPLES

VERSION = '1.0.0'
DIMS = ('time', 'level', 'latitude', 'longitude')
_TIME_UNITS = 'seconds since 1970-01-01'
# Values read at once, and most of a file of records.
_READ_BYTES = 2**25
_FILE_BYTES = 2**30
# A reader keeps a file open: more of them than this would meet limits of systems.
_MAX_FILES = 500


def export(
    dataset: xr.Dataset,
    path: str | os.PathLike[str],
    *,
    name: str = 'atmosphere',
    start: str | None = None,
    end: str | None = None,
    periods: Mapping[str, tuple[str, str]] | None = None,
    source: str | None = None,
    overwrite: bool = False,
    max_bytes: int = _READ_BYTES,
) -> str:
    """Writes the times between two dates as examples, whole or not at all.

    Args:
      dataset: `[time, level, latitude, longitude]`, from `store.open_dataset`.
      path: folder to write.
      name: of the data set, in the names of files.
      start: first date, included; None for the first of the store.
      end: last date, included (all hours of it); None for the last of the store.
      periods: by name, first and last date, for `metadata['periods']`.
      source: path or address of the store, for the record; never written to.
      overwrite: whether examples of this project at `path` may be replaced.
      max_bytes: of values that are held at once, one time (or stored chunk of one
        variable) at least.

    Returns:
      What was written, in words.

    Raises:
      OutputError: something is at `path` that must stay.
      ValueError: no times in the period, a name that no file can have, or the extra
        `tfds` is not installed.
    """
    output = Output(path, EXAMPLES, overwrite, (source,) if source else ())
    output.check()
    import_tfds()
    if not re.fullmatch(r'[a-z][a-z0-9_]*', name):
        raise ValueError(
            'expected a name of small letters, digits and _, as TensorFlow Datasets '
            f'have them, got {name!r}'
        )
    plan = _Plan.create(dataset, start, end)
    metadata = plan.metadata(source, periods or {})
    with output.replacing() as temporary:
        temporary.mkdir()
        _write_examples(plan, temporary, name, metadata, max_bytes)
        plan.beside().to_netcdf(temporary / COORDINATES_FILE)
    return plan.summary()


def export_store(
    source: str,
    path: str | os.PathLike[str],
    *,
    setup: Experiment | None = None,
    start: str | None = None,
    end: str | None = None,
    **options: Any,
) -> str:
    """Opens a store and exports it; see `export`.

    Args:
      source: path or address of the store.
      path: folder to write.
      setup: whose variables, levels, statics, grid and periods are meant; None for all
        that the store holds.
      start: first date, included; None for the first of the periods, or of the store.
      end: last date, included; None as for `start`.
      **options: of `export`.
    """
    if setup is None:
        dataset = open_dataset(source, what='atmosphere')
        return export(dataset, path, start=start, end=end, source=source, **options)
    data = setup.data
    dataset = open_store(
        source,
        levels=data.stored.levels,
        statics=data.statics,
        grid=setup.grid,
        storage_options=data.storage_options,
    )
    periods = {name: getattr(data, name) for name in ('train', 'validation', 'test')}
    # Dates in ISO 8601 sort as they stand.
    first = min(period[0] for period in periods.values())
    last = max(period[1] for period in periods.values())
    return export(
        dataset,
        path,
        start=start or first,
        end=end or last,
        periods=periods,
        source=source,
        **options,
    )


class _Plan(NamedTuple):
    """What is written.

    Attributes:
      dataset: as given.
      moving, fixed: names of the variables with a time axis, and of those without.
      positions: places in time, ascending, without gaps.
    """

    dataset: xr.Dataset
    moving: list[str]
    fixed: list[str]
    positions: np.ndarray

    @classmethod
    def create(cls, dataset: xr.Dataset, start: str | None, end: str | None) -> _Plan:
        """Chooses the variables, and the times between two dates, both included."""
        fields = {str(n): of for n, of in dataset.data_vars.items() if _fits(of)}
        moving = [name for name, field in fields.items() if 'time' in field.dims]
        if not moving:
            raise ValueError(
                'expected variables with a time axis, found '
                f'{", ".join(map(str, dataset.data_vars)) or "none"}'
            )
        times = pd.DatetimeIndex(dataset['time'].values)
        positions = np.arange(len(times))[times.slice_indexer(start, end)]
        if not positions.size:
            raise ValueError(
                f'no times from {start} to {end}: the store has {times[0]} to '
                f'{times[-1]}'
            )
        return cls(dataset, moving, [n for n in fields if n not in moving], positions)

    @property
    def times(self) -> pd.DatetimeIndex:
        """The times that are written."""
        return pd.DatetimeIndex(self.dataset['time'].values[self.positions])

    def dims(self, name: str) -> tuple[str, ...]:
        """Axes of a variable in canonical order."""
        return tuple(dim for dim in DIMS if dim in self.dataset[name].dims)

    def shape(self, name: str) -> tuple[int, ...]:
        """Sizes of a variable in one example."""
        return tuple(self.dataset.sizes[dim] for dim in self.dims(name)[1:])

    @property
    def example_bytes(self) -> int:
        """Of all variables of one time."""
        return sum(4 * int(np.prod(self.shape(name))) for name in self.moving)

    def beside(self) -> xr.Dataset:
        """Coordinates and fields that never change, for a netCDF file."""
        attributes = self.dataset['time'].attrs | {'units': _TIME_UNITS}
        coordinates = {
            dim: (dim, self.dataset[dim].values, self.dataset[dim].attrs)
            for dim in DIMS[1:]
            if dim in self.dataset.coords
        }
        fixed = {
            name: (self.dims(name), self.dataset[name].values, self.dataset[name].attrs)
            for name in self.fixed
        }
        return xr.Dataset(
            fixed,
            {'time': ('time', _seconds(self.times.values), attributes), **coordinates},
            {'title': 'Coordinates of the examples beside this file'},
        )

    def metadata(
        self, source: str | None, periods: Mapping[str, tuple[str, str]]
    ) -> dict[str, Any]:
        """Provenance, periods, dims and attributes."""
        return {
            MARK: EXAMPLES.name,
            'title': 'Examples of an atmosphere, one per time',
            'source': source or 'a dataset in memory',
            'software': f'spherecast {code_version()}',
            'first_time': str(self.times[0]),
            'last_time': str(self.times[-1]),
            'num_times': len(self.times),
            'coordinates': COORDINATES_FILE,
            'periods': {name: self._split(*of) for name, of in periods.items()},
            'attributes': _plain(self.dataset.attrs),
            'variables': {
                name: {
                    'dims': self.dims(name),
                    'attributes': _plain(self.dataset[name].attrs),
                }
                for name in self.moving
            },
        }

    def _split(self, first: str, last: str) -> str:
        found = self.times.slice_indexer(first, last)
        return f'{SPLIT}[{found.start}:{found.stop}]'

    def summary(self) -> str:
        """What is written, and what not."""
        left_out = refused(self.dataset) | {
            str(name): f'has the dims {field.dims}'
            for name, field in self.dataset.data_vars.items()
            if name not in (*self.moving, *self.fixed)
        }
        reasons = [f'{name} ({why})' for name, why in left_out.items()]
        return (
            f'{len(self.times)} examples, {self.times[0]} to {self.times[-1]}, of '
            f'{", ".join(self.moving)}; beside them {", ".join(self.fixed) or "none"}; '
            f'left out: {", ".join(reasons) or "none"}'
        )

    def blocks(self, max_bytes: int) -> Iterator[np.ndarray]:
        """Positions that are read together: whole chunks, within `max_bytes`."""
        # The variable with the longest chunks stands for all: none is read twice.
        longest = max(self.moving, key=lambda name: stored_chunk(self.dataset[name]))
        points = int(np.prod(self.shape(longest)))
        yield from time_blocks(
            self.dataset[longest],
            self.positions,
            max_bytes=max_bytes,
            bytes_per_value=-(-self.example_bytes // points),
        )


def _fits(field: xr.DataArray) -> bool:
    return {'latitude', 'longitude'} <= set(field.dims) <= set(DIMS)


def _plain(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """Attributes as JSON has them."""
    return {
        str(name): value.tolist()
        if isinstance(value, np.ndarray | np.generic)
        else value
        for name, value in attributes.items()
    }


def _write_examples(
    plan: _Plan,
    folder: pathlib.Path,
    name: str,
    metadata: Mapping[str, Any],
    max_bytes: int,
) -> None:
    num_times = len(plan.positions)
    per_file = max(1, _FILE_BYTES // plan.example_bytes, -(-num_times // _MAX_FILES))
    tfds = import_tfds()
    writer = tfds.core.SequentialWriter(
        _info(plan, folder, name, metadata),
        max_examples_per_shard=per_file,
        file_format='array_record',
    )
    writer.initialize_splits([SPLIT])
    with tqdm(total=num_times, unit='time', disable=not sys.stderr.isatty()) as bar:
        for block in plan.blocks(max_bytes):
            writer.add_examples({SPLIT: _examples(plan, block)})
            bar.update(block.size)
    writer.close_all()
    _verify(folder, num_times)


def _info(
    plan: _Plan, folder: pathlib.Path, name: str, metadata: Mapping[str, Any]
) -> Any:
    """The `DatasetInfo` of the examples."""
    tfds = import_tfds()
    from tensorflow_datasets.core.dataset_info import DatasetIdentity

    def described(text: str) -> Any:
        return tfds.features.Documentation(desc=text)

    fields = {
        name: tfds.features.Tensor(
            shape=plan.shape(name),
            dtype=np.float32,
            # Bits as they are, and a hundred times faster than lists of numbers.
            encoding=tfds.features.Encoding.BYTES,
            doc=described(
                f'{plan.dataset[name].attrs.get("units", "unknown units")}, '
                f'[{", ".join(plan.dims(name)[1:])}]'
            ),
        )
        for name in plan.moving
    }
    time = tfds.features.Scalar(np.int64, doc=described(_TIME_UNITS))
    identity = DatasetIdentity(
        name=name,
        version=tfds.core.Version(VERSION),
        data_dir=os.fspath(folder),
        module_name='weather.data.tfds_export',
    )
    return tfds.core.DatasetInfo(
        builder=identity,
        features=tfds.features.FeaturesDict({'time': time, **fields}),
        description=f'{metadata["title"]}: {metadata["source"]}',
        metadata=tfds.core.MetadataDict(metadata),
    )


def _examples(plan: _Plan, block: np.ndarray) -> Iterator[dict[str, Any]]:
    """Reads the times of a block and yields them one by one."""
    fields = {
        name: plan.dataset[name].isel(time=block).transpose(*plan.dims(name)).values
        for name in plan.moving
    }
    for i, second in enumerate(_seconds(plan.dataset['time'].values[block])):
        yield {'time': second, **{name: field[i] for name, field in fields.items()}}


def _seconds(times: np.ndarray) -> np.ndarray:
    """Since 1970."""
    return times.astype('datetime64[s]').astype(np.int64)


def _verify(folder: pathlib.Path, num_times: int) -> None:
    """Raises `OSError` unless the files hold as many examples as were written."""
    from array_record.python.array_record_module import ArrayRecordReader

    split = import_tfds().builder_from_directory(folder).info.splits[SPLIT]
    found = 0
    for file, length in zip(split.filepaths, split.shard_lengths, strict=True):
        reader = ArrayRecordReader(os.fspath(file))
        if reader.num_records() != length:
            raise OSError(
                f'expected {length} examples in {file}, found {reader.num_records()}: '
                'the disk did not keep what was written; make room and try again'
            )
        found += length
        reader.close()
    if found != num_times:
        raise OSError(f'expected {num_times} examples in {folder}, found {found}')
