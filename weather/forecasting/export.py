"""Forecasts to disk while they are being made: netCDF-4 (CF-1.11) or one Zarr (WB2).

A writer takes one lead time of some starts at a time, so memory does not grow with the
length of the forecast, and what carries a final name is always whole: files are written
under `*.tmp` names, renamed when complete and removed when an exception passes.

    layout = ForecastLayout(channels=..., grid=..., init_times=..., lead_times=...)
    with ThreadedWriter(open_writer('forecasts', layout)) as writer:
        for lead in range(len(layout.lead_times)):
            writer.write(lead, states)  # [start, lat, lon, channel], SI units

`weather.data.forecasts.open_forecasts` opens both forms in one schema.
"""

from __future__ import annotations

import os
import pathlib
import shutil
from typing import Literal

import netCDF4
import numcodecs
import numpy as np
import xarray as xr
import zarr

# netCDF-C is not safe to call from two threads; xarray guards its own calls with this.
from xarray.backends.netCDF4_ import NETCDF4_PYTHON_LOCK

from weather.forecasting.layout import (
    COORDINATES,
    EPOCH,
    ForecastLayout,
    coordinates,
    spatial_coordinates,
    time_unit,
    to_dataset,
    variable_attributes,
)
from weather.forecasting.writer import ForecastWriter, StoreWriter, ThreadedWriter

__all__ = [
    'ForecastLayout',
    'ForecastWriter',
    'NetcdfWriter',
    'ThreadedWriter',
    'ZarrWriter',
    'open_writer',
    'to_dataset',
]

IfExists = Literal['error', 'overwrite']
_TEMPORARY = '.tmp'  # Appended to the final name; `*.nc` must not match it.


def open_writer(
    path: str | os.PathLike, layout: ForecastLayout, *, if_exists: IfExists = 'error'
) -> ForecastWriter:
    """Returns a `ZarrWriter` for a path that ends in .zarr, else a `NetcdfWriter`."""
    if pathlib.Path(path).suffix == '.zarr':
        return ZarrWriter(path, layout, if_exists=if_exists)
    return NetcdfWriter(path, layout, if_exists=if_exists)


class NetcdfWriter(StoreWriter):
    """One netCDF-4 file per start, CF-1.11, named `forecast_YYYYMMDDTHHMM.nc`.

    Dimensions `time` (valid time), `level`, `latitude`, `longitude`; scalar
    `forecast_reference_time` (initialisation) and `forecast_period(time)` beside them,
    as in example 5.11 of the CF conventions. A file gets its final name as soon as its
    last lead time is in it: an exception later leaves the finished starts in place.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        layout: ForecastLayout,
        *,
        if_exists: IfExists = 'error',
    ):
        """Checks the names of all files; writes nothing yet.

        Raises:
          FileExistsError: a file is there and `if_exists` is not `'overwrite'`.
          ValueError: `directory` looks like one file or a URL.
        """
        super().__init__(layout)
        self.directory = _local(directory)
        if self.directory.suffix == '.nc':
            raise ValueError(
                f'{directory}: expected a directory (each start becomes one file in '
                f'it), got the name of a file; say {self.directory.with_suffix("")}'
            )
        self.paths = [self.directory / _file_name(t) for t in layout.init_times]
        for path in self.paths:
            _check_absent(path, if_exists)
        self._open: dict[int, netCDF4.Dataset] = {}

    def abort(self) -> None:
        """Removes the files of starts that are not complete."""
        with NETCDF4_PYTHON_LOCK:
            for start, file in self._open.items():
                file.close()
                _temporary(self.paths[start]).unlink(missing_ok=True)
            self._open.clear()
        if self.directory.is_dir() and not any(self.directory.iterdir()):
            self.directory.rmdir()

    def _put(self, variable: str, start: int, lead: int, values: np.ndarray) -> None:
        with NETCDF4_PYTHON_LOCK:
            if start not in self._open:
                self.directory.mkdir(parents=True, exist_ok=True)
                file = netCDF4.Dataset(_temporary(self.paths[start]), 'w')
                self._open[start] = file
                _define(file, self.layout, start)
            self._open[start].variables[variable][lead] = values

    def _finish(self, start: int) -> None:
        with NETCDF4_PYTHON_LOCK:
            self._open.pop(start).close()
        _temporary(self.paths[start]).replace(self.paths[start])

    def _publish(self) -> None:
        """Nothing left to do: every file has its name."""


def _define(file: netCDF4.Dataset, layout: ForecastLayout, start: int) -> None:
    """Writes everything but the fields into an empty file."""
    file.setncatts(layout.attributes())
    described = _netcdf_coordinates(layout, start)
    for name, (dims, values, attributes) in described.items():
        if dims == (name,):
            file.createDimension(name, len(values))
        variable = file.createVariable(name, values.dtype, dims)
        variable.setncatts(attributes)
        variable[...] = values
    for name in layout.channels.variables:
        shape = layout.shape(name)[2:]
        variable = file.createVariable(
            name,
            'f4',
            ('time', *layout.dims(name)[2:]),
            fill_value=np.float32(np.nan),
            compression='zlib',
            complevel=1,
            shuffle=True,
            chunksizes=(1, *shape),
        )
        variable.set_auto_maskandscale(False)
        variable.setncatts(variable_attributes(name))
        variable.coordinates = 'forecast_reference_time forecast_period'


def _netcdf_coordinates(
    layout: ForecastLayout, start: int
) -> dict[str, tuple[tuple[str, ...], np.ndarray, dict[str, str]]]:
    """Returns dims, values and attributes of every coordinate of one file."""
    init_time = layout.init_times[start]
    unit, name = time_unit(layout)
    since = {
        'units': f'{name} since {EPOCH}',
        'calendar': 'proleptic_gregorian',
        'units_metadata': 'leap_seconds: none',
    }
    epoch = np.datetime64(EPOCH.replace(' ', 'T'), 'ns')

    def described(standard_name: str, long_name: str, **more: str) -> dict[str, str]:
        return {'standard_name': standard_name, 'long_name': long_name, **more}

    return {
        'time': (
            ('time',),
            (init_time + layout.lead_times - epoch) / unit,
            described('time', 'valid time', axis='T', **since),
        ),
        **{
            name: ((name,), values, dict(COORDINATES[name]))
            for name, values in spatial_coordinates(layout).items()
        },
        'forecast_reference_time': (
            (),
            np.asarray((init_time - epoch) / unit),
            described('forecast_reference_time', 'initialisation time', **since),
        ),
        'forecast_period': (
            ('time',),
            (layout.lead_times // unit).astype(np.int32),
            # With `dtype`, xarray decodes to timedelta64 without being asked.
            described(
                'forecast_period', 'lead time', units=name, dtype='timedelta64[ns]'
            ),
        ),
    }


class ZarrWriter(StoreWriter):
    """One Zarr (format 2, which every reader of WeatherBench 2 data takes).

    A chunk is one start, one lead time, all levels: what one `write` holds, so that no
    chunk is ever written twice. The store gets its name when it is complete.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        layout: ForecastLayout,
        *,
        if_exists: IfExists = 'error',
    ):
        """Creates the store under its temporary name.

        Raises:
          FileExistsError: `path` is there and `if_exists` is not `'overwrite'`.
          ValueError: `path` is a URL.
        """
        super().__init__(layout)
        self.path = _local(path)
        _check_absent(self.path, if_exists)
        self._temporary = _temporary(self.path)
        shutil.rmtree(self._temporary, ignore_errors=True)
        _coordinates_with_encoding(layout).to_zarr(
            self._temporary, mode='w', zarr_format=2, consolidated=False
        )
        group = zarr.open_group(self._temporary, mode='r+', zarr_format=2)
        self._arrays = {
            name: group.create_array(
                name,
                shape=layout.shape(name),
                chunks=(1, 1, *layout.shape(name)[2:]),
                dtype='f4',
                fill_value=np.nan,
                compressors=numcodecs.Blosc('zstd', 1, numcodecs.Blosc.SHUFFLE),
                attributes={
                    **variable_attributes(name),
                    '_ARRAY_DIMENSIONS': list(layout.dims(name)),
                },
            )
            for name in layout.channels.variables
        }

    def abort(self) -> None:
        """Removes the store."""
        shutil.rmtree(self._temporary, ignore_errors=True)

    def _put(self, variable: str, start: int, lead: int, values: np.ndarray) -> None:
        self._arrays[variable][start, lead] = values

    def _finish(self, start: int) -> None:
        """Nothing to do: the store is complete when every start is."""

    def _publish(self) -> None:
        zarr.consolidate_metadata(str(self._temporary), zarr_format=2)
        if self.path.exists():
            shutil.rmtree(self.path)
        self._temporary.rename(self.path)


def _coordinates_with_encoding(layout: ForecastLayout) -> xr.Dataset:
    """Returns the schema without its fields; integers on disk, decoded on opening."""
    dataset = xr.Dataset(coords=coordinates(layout), attrs=layout.attributes())
    _, name = time_unit(layout)
    dataset.time.encoding = {'units': f'{name} since {EPOCH}', 'dtype': 'int64'}
    # xarray adds dtype='timedelta64[ns]' to the attributes, which is what makes readers
    # (and WeatherBench 2) see a time and not a number.
    dataset.prediction_timedelta.encoding = {'units': name, 'dtype': 'int64'}
    return dataset


def _local(path: str | os.PathLike) -> pathlib.Path:
    if '://' in os.fspath(path):
        raise ValueError(
            f'{os.fspath(path)}: expected a local path, because a bucket cannot rename '
            'a finished store; write locally and copy it'
        )
    return pathlib.Path(path)


def _temporary(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(path.name + _TEMPORARY)


def _file_name(init_time: np.datetime64) -> str:
    """Returns e.g. `forecast_20200101T0600.nc`."""
    minutes = np.datetime_as_string(init_time, unit='m')
    return f'forecast_{minutes.replace("-", "").replace(":", "")}.nc'


def _check_absent(path: pathlib.Path, if_exists: IfExists) -> None:
    if if_exists not in ('error', 'overwrite'):
        raise ValueError(
            f"expected if_exists 'error' or 'overwrite', got {if_exists!r}"
        )
    if path.exists() and if_exists == 'error':
        raise FileExistsError(
            f'{path} exists: remove it, choose another, or say --overwrite '
            "(if_exists='overwrite')"
        )
