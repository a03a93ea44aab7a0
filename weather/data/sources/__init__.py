"""Where stored numbers come from: the protocol of a source, and who answers for what.

Every module of this package is one kind of source and has two functions:
`claims(source)`, whether a path, address or object is of its kind, and
`open_raw(source, options)`, which returns a store or a list of them. They are found by
looking into the package, so that another kind (ArrayRecord) is one new file here and no
change elsewhere. A source gives numbers as they are stored, in the order in which they
are stored; what they mean is settled above, once for all kinds: `decoding`, `axes`,
`units`.
"""

from __future__ import annotations

import contextlib
import difflib
import glob
import importlib
import os
import pathlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import numpy as np


# Of both: for who looks for a file, and for who expects input to be bad.
class StoreNotFoundError(ValueError, FileNotFoundError):
    """No store at the path."""


@contextlib.contextmanager
def named_by(flag: str) -> Iterator[None]:
    """Adds to a `StoreNotFoundError` with which flag another store is named."""
    try:
        yield
    except StoreNotFoundError as error:
        raise StoreNotFoundError(f'{error}, or name the store with {flag}') from None


def is_file(source: Any, suffixes: tuple[str, ...], begins: tuple[bytes, ...]) -> bool:
    """Whether `source` is called like a file of a kind, or is one whatever its name.

    Args:
      source: anything.
      suffixes: how names of the kind end, in lower case.
      begins: first four bytes of such files.
    """
    if not isinstance(source, str):
        return False
    path = pathlib.Path(source)
    # A pattern stands for files; but a file may be called a[1].nc.
    if glob.has_magic(source) and not path.exists():
        return False
    if source.lower().endswith(suffixes):
        return not path.is_dir()
    if '://' in source or source.endswith('.tmp') or not path.is_file():
        return False
    with path.open('rb') as file:
        return file.read(4) in begins


class RawVariable(Protocol):
    """One stored array.

    Attributes:
      dims, shape: names and sizes of the axes.
      dtype: of the stored numbers.
      chunks: sizes of what is stored together.
      attributes: as stored, CF packing (`_FillValue`, `scale_factor`...) included.
      fill_value: the stored number that stands where nothing was written.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    chunks: tuple[int, ...]
    attributes: Mapping[str, Any]
    fill_value: Any

    def read(self, box: tuple[slice, ...]) -> np.ndarray:
        """Returns stored numbers; slices of step 1 within the array on every axis."""

    def never_written(self, box: tuple[slice, ...]) -> np.ndarray:
        """Returns where in the box nothing was ever written; as slow as it must be."""

    def version(self, box: tuple[slice, ...]) -> Iterator[str] | None:
        """Returns what changes whenever the stored numbers of the box may have changed.

        Names of places are not among it: what is moved is the same. None where nobody
        can tell without reading.
        """


@runtime_checkable
class DirectVariable(RawVariable, Protocol):
    """One that can also read without an array of its own in between."""

    def read_into(self, out: np.ndarray, box: tuple[slice, ...]) -> None:
        """Like `read`, into `out`, which may be a view."""


class RawStore(Protocol):
    """Named arrays.

    Attributes:
      address: where they are, for messages.
      attributes: of the whole.
    """

    address: str
    attributes: Mapping[str, Any]

    def names(self) -> Sequence[str]:
        """Returns the names of the arrays; none where the source cannot list them."""

    def variable(self, name: str) -> RawVariable | None:
        """Returns the array called `name`; None where there is none."""

    def close(self) -> None:
        """Lets go of open files."""


class Remembering:
    """A store that is asked for each array once: at an address that takes a while."""

    def __init__(self, store: RawStore):
        self.address = store.address
        self.attributes = store.attributes
        self._store = store
        self._variables: dict[str, RawVariable | None] = {}
        self._names: Sequence[str] | None = None

    def names(self) -> Sequence[str]:
        """See `RawStore`."""
        if self._names is None:
            self._names = self._store.names()
        return self._names

    def variable(self, name: str) -> RawVariable | None:
        """See `RawStore`."""
        if name not in self._variables:
            self._variables[name] = self._store.variable(name)
        return self._variables[name]

    def close(self) -> None:
        """See `RawStore`."""
        self._store.close()


Options = Mapping[str, Any] | None


def open_stores(source: Any, options: Options) -> list[RawStore]:
    """Opens everything that `source` stands for: one store, or several to be joined.

    Args:
      source: an object, path, address, glob pattern, list of these, or a directory of
        files, within further directories too.
      options: passed on to fsspec for an address.

    Raises:
      StoreNotFoundError: nothing is there.
      ValueError: something else is there, or it cannot be read.
    """
    if isinstance(source, list | tuple):
        return [store for each in source for store in open_stores(each, options)]
    source = os.fspath(source) if isinstance(source, os.PathLike) else source
    if isinstance(source, str):
        # No shell does it behind the equals sign of a flag.
        source = os.path.expanduser(source)
    kind = _kind(source)
    if kind is not None:
        opened = kind.open_raw(source, options)
        return opened if isinstance(opened, list) else [opened]
    return [
        store for path in _expand(str(source)) for store in open_stores(path, options)
    ]


def _kinds() -> list[ModuleType]:
    # When asked, and not above: these modules import this package.
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return [importlib.import_module(f'{__name__}.{name}') for name in names]


def _kind(source: Any) -> ModuleType | None:
    return next((kind for kind in _kinds() if kind.claims(source)), None)


def _expand(source: str) -> list[str]:
    """Returns the files of a directory or glob pattern; an error where there are none.

    Hidden files and those of other kinds (`.tmp`: unfinished) are left out of a
    directory.
    """
    path = pathlib.Path(source)
    if path.is_dir():
        found = _inside(path)
    elif glob.has_magic(source):
        found = sorted(glob.glob(source, recursive=True))
    else:
        found = []
    if found:
        return found
    if path.exists():
        # A folder without any lacks a store; a file is there, and is something else.
        kind = StoreNotFoundError if path.is_dir() else ValueError
        raise kind(
            f'expected a Zarr group (v2 or v3), a netCDF or GRIB file or a directory '
            f'of these at {source}, found none (unfinished files end in .tmp); check '
            'the path, and convert other formats with xarray.Dataset.to_zarr'
        )
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=1)
    hint = f', did you mean {str(path.parent / near[0])!r}?' if near else ''
    raise StoreNotFoundError(
        f'expected a Zarr store, netCDF or GRIB files at {path.absolute()}, found '
        f'nothing there{hint}; check the path'
    )


def _inside(folder: pathlib.Path) -> list[str]:
    """Stores and files in a directory, and in those within it."""
    found: list[str] = []
    for each in sorted(folder.iterdir()):
        # What was downloaded as an archive is unpacked beside it.
        is_archive = each.suffix == '.zip' and not each.stem.endswith('.zarr')
        if each.name.startswith('.') or is_archive:
            continue
        if _kind(str(each)) is not None:
            found.append(str(each))
        elif each.is_dir():
            found += _inside(each)
    return found
