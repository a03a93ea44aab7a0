"""Forecasts to disk while they are being made: netCDF-4 (CF-1.11) or one Zarr (WB2).

A writer takes one lead time of some starts at a time, so memory does not grow with the
length of the forecast, and what carries a final name is always whole: it gets it when
complete, and what is not is removed when an exception passes, or, where the process was
killed, by the next one.

    layout = ForecastLayout(channels=..., grid=..., init_times=..., lead_times=...)
    with ThreadedWriter(open_writer('forecasts', layout)) as writer:
        for lead in range(len(layout.lead_times)):
            writer.write(lead, states)  # [start, lat, lon, channel], SI units

`weather.data.forecasts.open_forecasts` opens both forms in one schema.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shutil
from collections.abc import Iterator

import netCDF4
import numcodecs
import numpy as np
import xarray as xr
import zarr

# netCDF-C is not safe to call from two threads; xarray guards its own calls with this.
from xarray.backends.netCDF4_ import NETCDF4_PYTHON_LOCK

from learning import files
from learning.files import MARK, Output, OutputError, Path
from weather.forecasting.layout import (
    ForecastLayout,
    to_dataset,
    variable_attributes,
)
from weather.forecasting.writer import ForecastWriter, StoreWriter, ThreadedWriter
from weather.outputs import FORECAST, FORECASTS, TIES

__all__ = [
    'ForecastLayout',
    'ForecastWriter',
    'NetcdfWriter',
    'ThreadedWriter',
    'ZarrWriter',
    'finished_starts',
    'open_writer',
    'to_dataset',
]

# What the first version left where it was killed, beside what it was to become.
_LEGACY_LEFTOVER = re.compile(r'forecast_\d{8}T\d{4,6}\.nc\.tmp')


def open_writer(
    path: Path,
    layout: ForecastLayout,
    *,
    overwrite: bool = False,
    sources: tuple[Path, ...] = (),
) -> ForecastWriter:
    """Returns a `ZarrWriter` for a path that ends in .zarr, else a `NetcdfWriter`."""
    # By the name alone: nothing is there yet that could tell.
    kind = ZarrWriter if _is_zarr(path) else NetcdfWriter
    return kind(path, layout, overwrite=overwrite, sources=sources)


def finished_starts(
    path: Path, layout: ForecastLayout, *, overwrite: bool = False
) -> np.ndarray:
    """Finds the starts that need not be made again.

    Args:
      path: as for `open_writer`.
      layout: what is wanted.
      overwrite: whether what does not fit is to be replaced.

    Returns:
      `[start]` bool: which stand there, whole, of the same run, checkpoint, initial
      states, lead times and channels.

    Raises:
      OutputError: something that does not fit stands there, and `overwrite` is false.
    """
    if _is_zarr(path):
        # A store gets its name when all of it is there: there is no half of it.
        whole = _fits(files.local(path), layout, layout.coordinates(), overwrite)
        return np.full(len(layout.init_times), whole)
    return np.array(
        [
            _fits(file, layout, layout.netcdf_coordinates(start), overwrite)
            for start, file in enumerate(_netcdf_paths(path, layout))
        ]
    )


class NetcdfWriter(StoreWriter):
    """One netCDF-4 file per start, CF-1.11, named `forecast_YYYYMMDDTHHMM.nc`.

    Dimensions, see `weather.forecasting.layout`. A file gets its final name as soon as
    its last lead time is in it: an exception later leaves the finished starts in place.
    """

    def __init__(
        self,
        directory: Path,
        layout: ForecastLayout,
        *,
        overwrite: bool = False,
        sources: tuple[Path, ...] = (),
    ):
        """Checks the names of all files; writes nothing yet.

        Args:
          directory: where the files will be.
          layout: what will be written.
          overwrite: whether forecasts of the same starts may be replaced.
          sources: what is read meanwhile, never to be replaced.

        Raises:
          OutputError: a file that must stay is there, or forecasts that cannot stand
            beside these.
          ValueError: `directory` looks like one file.
        """
        super().__init__(layout)
        self.directory = files.local(directory)
        if self.directory.suffix == '.nc':
            raise ValueError(
                f'{directory}: expected a directory (each start becomes one file in '
                f'it), got the name of a file; say {self.directory.with_suffix("")}'
            )
        self.paths = _netcdf_paths(directory, layout)
        for path in self.paths:
            Output(path, FORECAST, overwrite=overwrite, sources=sources).check()
        _check_folder(self.directory, self.paths, layout)
        # A folder that was there already stays, even if nothing comes of it.
        self._made_directory = not self.directory.exists()
        self._open: dict[int, netCDF4.Dataset] = {}

    def abort(self) -> None:
        """Removes the files of starts that are not complete."""
        with NETCDF4_PYTHON_LOCK:
            for file in self._open.values():
                # On a full disk closing fails as well; the file goes in any case.
                with contextlib.suppress(RuntimeError, OSError):
                    file.close()
            self._open.clear()
        for path in self.paths:
            files.remove(files.temporary_name(path))
        if self._made_directory and self.directory.is_dir():
            with contextlib.suppress(OSError):  # Finished starts are in it.
                self.directory.rmdir()

    def _put(self, variable: str, start: int, lead: int, values: np.ndarray) -> None:
        with _explained(self.paths[start], self.layout):
            if start not in self._open:
                self._create(start)
            members = () if self.layout.num_members is None else (slice(None),)
            with NETCDF4_PYTHON_LOCK:
                self._open[start][variable][*members, lead] = values

    def _create(self, start: int) -> None:
        """Writes everything but the fields."""
        self.directory.mkdir(parents=True, exist_ok=True)
        temporary = files.temporary_name(self.paths[start])
        coordinates = self.layout.netcdf_coordinates(start)
        coordinates.attrs[MARK] = FORECAST.name
        coordinates.to_netcdf(temporary, unlimited_dims=['time'], engine='netcdf4')
        with NETCDF4_PYTHON_LOCK:
            # By netCDF4 itself: xarray writes whole variables, these come lead by lead.
            self._open[start] = file = netCDF4.Dataset(temporary, 'a')
            for name in self.layout.channels.variables:
                dims = self.layout.netcdf_dims(name)
                variable = file.createVariable(
                    name,
                    'f4',
                    dims,
                    fill_value=np.float32(np.nan),
                    compression='zlib',
                    complevel=1,
                    shuffle=True,
                    # As it comes: a lead time that is written is a chunk.
                    chunksizes=[
                        1
                        if dim in ('realization', 'time')
                        else file.dimensions[dim].size
                        for dim in dims
                    ],
                )
                # Values go as they are: NaN is the fill value, nothing is scaled.
                variable.set_auto_maskandscale(False)
                variable.setncatts(variable_attributes(name))

    def _finish(self, start: int) -> None:
        with _explained(self.paths[start], self.layout):
            with NETCDF4_PYTHON_LOCK:
                self._open[start].close()
                del self._open[start]
            path = self.paths[start]
            files.put_in_place(files.temporary_name(path), path)

    def _publish(self) -> None:
        """Nothing left to do: every file has its name."""


class ZarrWriter(StoreWriter):
    """One Zarr (format 2, which every reader of WeatherBench 2 data takes).

    A chunk is one start, one lead time, one member, all levels: no chunk is ever
    written twice. The store gets its name when it is complete.
    """

    def __init__(
        self,
        path: Path,
        layout: ForecastLayout,
        *,
        overwrite: bool = False,
        sources: tuple[Path, ...] = (),
    ):
        """Creates the store under its temporary name.

        Raises:
          OutputError: `path` holds something that must stay, or is a URL.
        """
        super().__init__(layout)
        self._output = Output(path, FORECASTS, overwrite=overwrite, sources=sources)
        self._output.check()
        self.path = files.local(path)
        leftover = self.path.with_name(self.path.name + '.tmp')
        if leftover.is_dir() and FORECASTS.is_legacy(leftover):
            files.remove(leftover)
        self._temporary = files.temporary_name(path)
        self._arrays: dict[str, zarr.Array] = {}
        try:
            with _explained(self.path, layout):
                self._create()
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Removes the store."""
        files.remove(self._temporary)

    def _create(self) -> None:
        """Writes everything but the fields."""
        layout = self.layout
        self._temporary.parent.mkdir(parents=True, exist_ok=True)
        coordinates = layout.coordinates()
        coordinates.attrs[MARK] = FORECASTS.name
        coordinates.to_zarr(
            self._temporary, mode='w', zarr_format=2, consolidated=False
        )
        group = zarr.open_group(self._temporary, mode='r+', zarr_format=2)
        single = ('time', 'prediction_timedelta', 'number')
        for name in layout.channels.variables:
            dims = layout.dims(name)
            shape = tuple(coordinates.sizes[dim] for dim in dims)
            self._arrays[name] = group.create_array(
                name,
                shape=shape,
                chunks=tuple(
                    1 if dim in single else size
                    for dim, size in zip(dims, shape, strict=True)
                ),
                dtype='f4',
                fill_value=np.nan,
                compressors=numcodecs.Blosc('zstd', 1, numcodecs.Blosc.SHUFFLE),
                attributes={
                    **variable_attributes(name),
                    '_ARRAY_DIMENSIONS': list(dims),
                },
            )

    def _put(self, variable: str, start: int, lead: int, values: np.ndarray) -> None:
        with _explained(self.path, self.layout):
            self._arrays[variable][start, lead] = values

    def _finish(self, start: int) -> None:
        """Nothing to do: the store is complete when every start is."""

    def _publish(self) -> None:
        with _explained(self.path, self.layout):
            zarr.consolidate_metadata(str(self._temporary), zarr_format=2)
            self._output.check()  # Somebody may have written there in the meantime.
            files.put_in_place(self._temporary, self.path)


def _is_zarr(path: Path) -> bool:
    return os.fspath(path).endswith('.zarr')


def _netcdf_paths(directory: Path, layout: ForecastLayout) -> list[pathlib.Path]:
    """Returns e.g. `forecast_20200101T0600.nc` for every start."""
    folder = files.local(directory)
    times = np.datetime_as_string(layout.init_times, unit='s')
    return [
        folder / f'forecast_{re.sub("[-:]", "", time.removesuffix(":00"))}.nc'
        for time in times
    ]


def _fits(
    path: pathlib.Path, layout: ForecastLayout, expected: xr.Dataset, overwrite: bool
) -> bool:
    """Whether `path` is there and holds what it should; see `finished_starts`."""
    if not path.exists():
        return False
    wrong = _difference(path, layout, expected)
    if wrong and not overwrite:
        is_ours = (FORECASTS if _is_zarr(path) else FORECAST).wrote(path)
        fix = 'say --overwrite to make it again' if is_ours else 'remove it yourself'
        raise OutputError(
            f'{path} is there and not what is to be made: {wrong}; choose another '
            f'path, or {fix}'
        )
    return not wrong


def _difference(
    path: pathlib.Path, layout: ForecastLayout, expected: xr.Dataset
) -> str:
    """What of a file or store is not as it should be; nothing where it fits."""
    engine = 'zarr' if path.is_dir() else 'netcdf4'
    try:
        found = xr.open_dataset(path, engine=engine, decode_timedelta=True)
    # Damaged bytes raise what they like.
    except Exception as error:
        return f'it cannot be read ({error})'
    with found:
        for tie in TIES:
            there, here = (of.attrs.get(tie, '') for of in (found, expected))
            if there != here:
                return f'{tie} is {there!r} there and {here!r} here'
        for name, variable in expected.variables.items():
            if name not in found or not found[name].variable.equals(variable):
                return f'{name} is another'
        dims = layout.dims if engine == 'zarr' else layout.netcdf_dims
        wanted = {name: dims(name) for name in layout.channels.variables}
        if {name: of.dims for name, of in found.data_vars.items()} != wanted:
            return 'it holds other variables, or has other dimensions'
    return ''


def _check_folder(
    folder: pathlib.Path, paths: list[pathlib.Path], layout: ForecastLayout
) -> None:
    """Refuses a folder whose forecasts could not be read together with these."""
    if files.is_zarr(folder):
        raise OutputError(f'{folder} is a Zarr store: choose a folder for netCDF files')
    for leftover in folder.glob('forecast_*.nc.tmp'):
        if _LEGACY_LEFTOVER.fullmatch(leftover.name):
            files.remove(leftover)
    # Each file has times of its own; all else must be the same to be read together.
    expected = layout.netcdf_coordinates(0).drop_vars(
        ['time', 'forecast_reference_time']
    )
    for other in sorted(set(folder.glob('*.nc')) - set(paths)):
        wrong = FORECAST.wrote(other) and _difference(other, layout, expected)
        if wrong:
            raise OutputError(
                f'{other} cannot stand in one folder with what is to be made: {wrong}; '
                'choose another folder'
            )


@contextlib.contextmanager
def _explained(path: pathlib.Path, layout: ForecastLayout) -> Iterator[None]:
    """Says which path could not be written, and why.

    Raises:
      OSError: in place of what netCDF, HDF5 and Zarr raise where a disk is full.
    """
    try:
        yield
    except OutputError:
        raise
    except (OSError, RuntimeError) as error:
        folder = next(parent for parent in path.parents if parent.exists())
        free = shutil.disk_usage(folder).free
        is_full = files.is_full(error, path, 4.0 * np.prod(layout.state_shape))
        reason = 'no space is left on its disk' if is_full else str(error)
        raise OSError(
            f'cannot write {path}: {reason}; {free / 2**20:.1f} MiB are free. What '
            'was finished stays, what was not is removed: make room, and run the same '
            'command with --skip_existing'
        ) from error
