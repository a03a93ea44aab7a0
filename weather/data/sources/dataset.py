"""An xarray.Dataset in memory, or lazily read by xarray, as a source."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray

from weather.data.sources import Options

IN_MEMORY = 'the dataset in memory'


def claims(source: Any) -> bool:
    """Whether `source` is a Dataset."""
    return isinstance(source, xarray.Dataset)


def open_raw(source: xarray.Dataset, options: Options) -> DatasetStore:
    """Presents a Dataset as stored arrays."""
    del options
    return DatasetStore(source, IN_MEMORY)


class DatasetVariable:
    """See `RawVariable`; `fill_value` None: nothing is known of what was written."""

    def __init__(self, variable: xarray.Variable, fill_value: Any = None):
        self._variable = variable
        self.dims = tuple(map(str, variable.dims))
        self.shape = variable.shape
        self.dtype = variable.dtype
        self.attributes = {str(name): value for name, value in variable.attrs.items()}
        self.fill_value = fill_value
        # Where nothing is known, one field at a time.
        chunks: dict[Any, Any] = dict.fromkeys(self.dims, 1)
        chunks |= dict(list(variable.sizes.items())[-2:])
        chunks |= variable.encoding.get('preferred_chunks') or {}
        chunks |= {dim: of_dim for dim, of_dim in variable.chunksizes.items()}
        self.chunks = tuple(int(np.max(chunks[dim])) for dim in variable.dims)

    def read(self, box: tuple[slice, ...]) -> np.ndarray:
        """See `RawVariable`."""
        # A part of its own, so that what is read is not kept with the variable.
        return np.asarray(self._variable[box].values)

    def never_written(self, box: tuple[slice, ...]) -> np.ndarray:
        """See `RawVariable`."""
        return np.asarray(self.read(box) == self.fill_value)

    def version(self, box: tuple[slice, ...]) -> Iterator[str] | None:
        """See `RawVariable`: a file is one whole; nobody can tell of an array."""
        del box
        file = self._variable.encoding.get('source', '')
        if not os.path.isfile(file):
            return None
        found = os.stat(file)
        return iter([f'{found.st_size} {found.st_mtime_ns}'])


class DatasetStore:
    """See `RawStore`."""

    def __init__(self, dataset: xarray.Dataset, address: str):
        self.dataset = dataset
        self.address = address
        self.attributes = {str(name): value for name, value in dataset.attrs.items()}

    def names(self) -> list[str]:
        """See `RawStore`."""
        return list(map(str, self.dataset.variables))

    def variable(self, name: str) -> DatasetVariable | None:
        """See `RawStore`."""
        if name not in self.dataset.variables:
            return None
        return DatasetVariable(self.dataset.variables[name])

    def close(self) -> None:
        """Leaves the Dataset open: it is its owner's to close."""
