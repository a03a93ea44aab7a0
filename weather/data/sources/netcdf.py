"""A netCDF file as a source (netCDF-3, netCDF-4), read by xarray without decoding."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import netCDF4
import xarray

from weather.data.sources import Options, StoreNotFoundError, is_file
from weather.data.sources.dataset import DatasetStore, DatasetVariable

_SUFFIXES = ('.nc', '.nc4', '.cdf', '.netcdf')
_MAGIC = (b'CDF\x01', b'CDF\x02', b'CDF\x05', b'\x89HDF')


def claims(source: Any) -> bool:
    """Whether `source` is called like a netCDF file, or is one whatever its name."""
    return is_file(source, _SUFFIXES, _MAGIC)


def open_raw(source: str, options: Options) -> NetcdfStore:
    """Opens one file.

    xarray keeps at most 128 files open at a time, so a directory may hold any number.

    Raises:
      ValueError: the file cannot be read. `StoreNotFoundError` where it is not there.
    """
    del options
    if '://' not in source and not pathlib.Path(source).exists():
        raise StoreNotFoundError(
            f'expected a netCDF file at {os.path.abspath(source)}, found nothing '
            'there; check the path'
        )
    try:
        # The one decoder is ours; and a cache would keep every field that was read.
        dataset = xarray.open_dataset(source, decode_cf=False, cache=False)
    # The libraries below raise whatever they like on damaged bytes.
    except Exception as error:
        reason = f'{type(error).__name__}: {error}'.splitlines()[0]
        raise ValueError(
            f'expected a netCDF file at {source}, cannot read it: {reason[:200]}; it '
            'is none, or damaged: copy it again from its source, or move it elsewhere'
        ) from error
    return NetcdfStore(dataset, source)


class NetcdfStore(DatasetStore):
    """See `RawStore`."""

    def variable(self, name: str) -> DatasetVariable | None:
        """Returns the variable; never written is what holds the library's own fill."""
        found = super().variable(name)
        # Bytes have none unless one is given (netCDF library, default fill values).
        if found is not None and found.dtype.itemsize > 1:
            if '_FillValue' not in found.attributes:
                found.fill_value = netCDF4.default_fillvals.get(found.dtype.str[1:])
        return found

    def close(self) -> None:
        """Closes the file."""
        self.dataset.close()
