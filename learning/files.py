"""Files and folders that appear whole, and the one rule of what may be replaced.

Everything is written under a hidden name beside its own and renamed when it is whole:
what was there stays until then, and stays for good where the writing fails. `Output` is
the rule for what a command is told to write: it replaces only what this project wrote
there before, of the very same kind, and only when asked to.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import glob
import itertools
import json
import os
import pathlib
import platform
import re
import shutil
from collections.abc import Callable, Iterator

from learning.addresses import PathLike as Path
from learning.addresses import is_address, sending

# How files say what they are: a root attribute of a Zarr store, a global attribute of a
# netCDF file, a key of a JSON file, a <meta> of a page. A CSV, which has no place for
# it, has a JSON file beside it (`sidecar`); any other folder has one inside, under the
# name that TensorFlow Datasets give it.
MARK = 'spherecast_kind'
FOLDER_METADATA = 'metadata.json'
_ZARR_METADATA = ('zarr.json', '.zattrs', '.zgroup', '.zarray')
_META = re.compile(rf'<meta name="{MARK}" content="([^"]*)"')
# Hidden names: .NAME.HOST-PROCESS.tmp while it is written, .old while it is replaced.
# Hosts share folders, and a process number means something on its own host alone.
_HOST = re.sub(r'\W', '_', platform.node()) or 'host'
_HIDDEN = re.compile(
    rf'\.(?P<name>.+)\.{_HOST}-(?P<process>\d+)\.(?P<what>tmp|old)', re.DOTALL
)

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class OutputError(FileExistsError):
    """A place that a command must not write to; says what is there instead."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a command writes.

    Attributes:
      name: the mark that such things carry.
      words: its name in messages, with its article.
      is_legacy: recognises one that the first version wrote, which carries no mark.
      is_part: recognises what is a part of it, where it is a folder; None for a Zarr
        store, whose parts are known.
    """

    name: str
    words: str
    is_legacy: Callable[[pathlib.Path], bool] = lambda path: False
    is_part: Callable[[pathlib.Path], bool] | None = None

    def wrote(self, path: pathlib.Path) -> bool:
        """Whether what stands at `path` is of this kind, and this project's."""
        mark = read_mark(path)
        # A mark is believed, however much the thing resembles an old one of another
        # kind.
        return mark == self.name if mark else self.is_legacy(path)


@dataclasses.dataclass(frozen=True)
class Output:
    """A place that a command is told to write to.

    Attributes:
      path: file or folder.
      kind: what will stand there.
      overwrite: whether one of the same kind may be replaced.
      sources: what the command reads; never replaced, nor a folder that holds one.
    """

    path: Path
    kind: Kind
    overwrite: bool = False
    sources: tuple[Path, ...] = ()

    def check(self) -> None:
        """Finds out, before any work is done, whether the place may be written to.

        Raises:
          OutputError: something is there that must stay; says what, and what to do.
        """
        path = local(self.path)
        check_sources(path, self.sources)
        # First: what a process died in the middle of replacing is then back in its
        # place.
        clear_leftovers(path.parent)
        if not path.exists() or _is_empty_folder(path):
            _check_parents(path)
            return
        if not self.kind.wrote(path):
            raise OutputError(
                f'expected nothing, or {self.kind.words} of this project, at {path}; '
                f'found {_describe(path)}, which stays as it is: choose another path'
            )
        if path.is_dir() and (foreign := _foreign(path, self.kind)):
            raise OutputError(
                f'{path} holds {foreign.name}, which is no part of {self.kind.words} '
                'and would be lost: move it elsewhere, or choose another path'
            )
        if not self.overwrite:
            raise OutputError(
                f'{path} exists ({self.kind.words}): say --overwrite to replace it '
                '(overwrite=True), or choose another path'
            )

    @contextlib.contextmanager
    def replacing(self) -> Iterator[pathlib.Path]:
        """Yields a temporary name to write to, which gets its own at the end.

        Raises:
          OutputError: as `check`, which is asked again.
        """
        self.check()
        with replacing(self.path) as temporary:
            yield temporary
            # Somebody may have written there in the meantime.
            self.check()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[pathlib.Path]:
    """Yields a temporary name, of a file or a folder, which becomes `path` at the end.

    When an exception passes, what was written is removed and `path` stays as it was.
    Missing folders are made. Nothing is asked: for a run directory's own files. One
    file may have an address: it is written here, and sent there as a whole.

    Raises:
      OSError: among others, for whatever libraries raise where the disk is full.
    """
    if is_address(path):
        with sending(path) as temporary:
            yield temporary
        return
    target = local(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(target)
    # Of a killed process that had this one's number: in containers, every process may.
    remove(temporary)
    try:
        yield temporary
        put_in_place(temporary, target)
    except (OSError, RuntimeError) as error:
        if not is_full(error, target):
            raise
        raise OSError(
            f'cannot write {target}: no space is left on its disk; nothing of it '
            'stays: make room, and run the same command'
        ) from error
    finally:
        remove(temporary)


def write_text(path: Path, text: str) -> None:
    """Writes a small file, whole or not at all, also at an address."""
    with replacing(path) as temporary:
        temporary.write_text(text, 'utf-8')


def is_full(error: OSError | RuntimeError, path: Path, room: float = 2**20) -> bool:
    """Whether an error of writing is that of a disk without space.

    netCDF has one error for everything: then less than `room` bytes free decide.
    """
    number = getattr(error, 'errno', None)
    folder = next(parent for parent in local(path).parents if parent.exists())
    says_nothing = isinstance(error, RuntimeError) or (number or 0) < 0
    is_short = says_nothing and shutil.disk_usage(folder).free < room
    return is_short or number in _FULL


def temporary_name(path: Path) -> pathlib.Path:
    """Returns the hidden name beside `path` that this process writes under."""
    return _hidden(local(path), 'tmp')


def put_in_place(temporary: Path, path: Path) -> None:
    """Renames `temporary`, now whole, to `path`; what was there goes only then."""
    temporary, path = pathlib.Path(temporary), local(path)
    if not path.is_dir():
        os.replace(temporary, path)
        return
    # No system call swaps folders everywhere: the old one steps aside for a moment, and
    # `clear_leftovers` puts it back where a process died in that moment.
    aside = _hidden(path, 'old')
    remove(aside)
    os.rename(path, aside)
    try:
        os.rename(temporary, path)
    except BaseException:
        os.rename(aside, path)
        raise
    remove(aside)


def remove(path: Path) -> None:
    """Removes a file or a folder, if it is there."""
    path = pathlib.Path(path)
    # Of a link the link goes, never what it points to.
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def clear_leftovers(folder: Path) -> None:
    """Removes what dead processes of this machine left unfinished in a folder."""
    folder = pathlib.Path(folder)
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        return
    for entry in list(folder.iterdir()):
        match = _HIDDEN.fullmatch(entry.name)
        if match is None or _is_alive(int(match['process'])):
            continue
        home = folder / match['name']
        if match['what'] == 'old' and not home.exists():
            os.rename(entry, home)
        else:
            remove(entry)


def sidecar(path: Path) -> pathlib.Path:
    """The JSON file that says where a table comes from: NAME.provenance.json."""
    path = pathlib.Path(path)
    name = path.stem if path.suffix == '.csv' else path.name
    return path.with_name(f'{name}.provenance.json')


def read_mark(path: Path) -> str | None:
    """What a file or folder says it is; None for what carries no mark.

    Never raises for what stands there: a damaged or foreign thing carries no mark.
    """
    path = pathlib.Path(path)
    try:
        found = _mark(path)
    # Foreign bytes under a known suffix: every library has its own errors for them.
    except Exception:
        return None
    return found if isinstance(found, str) else None


def _mark(path: pathlib.Path) -> object:
    if path.is_dir() and is_zarr(path):
        return _zarr_attributes(path).get(MARK)
    if path.is_dir():
        path = path / FOLDER_METADATA
    if path.suffix == '.csv':
        path = sidecar(path)
    if path.suffix == '.json':
        return json.loads(path.read_text('utf-8')).get(MARK)
    if path.suffix == '.nc':
        return netcdf_attributes(path).get(MARK)
    # The head of a page: what follows may be large, of a foreign file above all.
    with path.open('rb') as file:
        match = _META.search(file.read(4096).decode('utf-8', 'replace'))
    return match[1] if match else None


def _zarr_attributes(path: pathlib.Path) -> dict[str, object]:
    """Root attributes of a Zarr store of either version, without opening it."""
    version_3 = path / 'zarr.json'
    if version_3.exists():
        return json.loads(version_3.read_text('utf-8')).get('attributes', {})
    return json.loads((path / '.zattrs').read_text('utf-8'))


def read_attributes(path: Path) -> dict[str, object]:
    """Global attributes of a Zarr store or netCDF file; empty where there are none."""
    path = pathlib.Path(path)
    try:
        return _zarr_attributes(path) if path.is_dir() else netcdf_attributes(path)
    # As in `read_mark`.
    except Exception:
        return {}


def netcdf_attributes(path: pathlib.Path) -> dict[str, object]:
    """Global attributes of a netCDF file."""
    import netCDF4  # Late: most files that are looked at are none.

    with netCDF4.Dataset(path) as file:
        return {name: file.getncattr(name) for name in file.ncattrs()}


def check_sources(path: pathlib.Path, sources: tuple[Path, ...]) -> None:
    """Refuses to write where something is read.

    Raises:
      OutputError: `path` is a source, holds one, or would become part of one.
    """
    for resolved in itertools.chain.from_iterable(map(_local_sources, sources)):
        if path == resolved:
            raise OutputError(f'{path} is what is read: choose another path to write')
        if path in resolved.parents:
            raise OutputError(
                f'{path} holds {resolved}, which is read: choose a path of its own for '
                'what is written'
            )
        # A file beside those of a folder that is read would be one of them. Any other
        # folder may be shared: a run directory has all of a run side by side.
        joins = path.parent == resolved and path.suffix == '.nc'
        if joins or (resolved in path.parents and is_zarr(resolved)):
            raise OutputError(
                f'{path} lies inside of the {"folder" if joins else "store"} '
                f'{resolved}, which is read: choose a path outside of it'
            )


def _local_sources(source: Path) -> list[pathlib.Path]:
    """Where on this machine a source lies: several places for a glob pattern."""
    text = os.path.expanduser(os.fspath(source).removeprefix('file://'))
    if '://' in text:
        return []
    found = glob.glob(text) if glob.has_magic(text) else []
    return [pathlib.Path(place).resolve() for place in found or [text]]


def _foreign(folder: pathlib.Path, kind: Kind) -> pathlib.Path | None:
    """Something in a folder of a kind that is no part of it, if there is."""
    is_part = kind.is_part or _is_part_of_zarr
    return next((entry for entry in folder.iterdir() if not is_part(entry)), None)


def _is_part_of_zarr(entry: pathlib.Path) -> bool:
    is_metadata = entry.name.startswith('.') or entry.name in _ZARR_METADATA
    return is_zarr(entry) if entry.is_dir() else is_metadata


def is_zarr(path: pathlib.Path) -> bool:
    """Whether a folder is a Zarr store or group."""
    return any((path / name).exists() for name in _ZARR_METADATA)


def _check_parents(path: pathlib.Path) -> None:
    for parent in path.parents:
        if parent.is_dir():
            return
        if parent.exists():
            raise OutputError(
                f'expected a folder at {parent}, found a file: nothing can be written '
                f'to {path}; choose another path'
            )


def _describe(path: pathlib.Path) -> str:
    mark = read_mark(path)
    if mark:
        return f'a file of this project of another kind, {mark!r}'
    if not path.is_dir():
        return 'another file'
    if is_zarr(path):
        return 'another Zarr store'
    return f'a folder with {len(list(path.iterdir()))} entries'


def _is_empty_folder(path: pathlib.Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def local(path: Path) -> pathlib.Path:
    """A path that can be written to: absolute, and the target where it is a link.

    Raises:
      OutputError: it is an address.
    """
    if '://' in os.fspath(path):
        raise OutputError(
            f'{os.fspath(path)}: expected a local path, because a bucket cannot rename '
            'what is finished; write locally and copy it'
        )
    return pathlib.Path(path).expanduser().resolve()


def _hidden(path: pathlib.Path, what: str) -> pathlib.Path:
    return path.with_name(f'.{path.name}.{_HOST}-{os.getpid()}.{what}')


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # Another user's, and alive.
        pass
    return True
