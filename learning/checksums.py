"""Checksums of the files of a folder, kept beside them: whether a bit has changed.

Of files on a disk they are made, and verified, by reading them. Of objects in a bucket
those are kept that the bucket itself states: it computes them of what has arrived, and
states them again in a listing, so that nothing need be read. MD5 above all: the files
that Orbax writes end with their own CRC-32C, and that of such a file as a whole is the
same number for every file.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import google_crc32c

from learning.addresses import Place, Stated, contents, is_address

# Beside the files that it lists; what is not in it (nor it) is not looked at.
NAME = 'checksums.json'
_OWN = 'sha256_of_the_rest'
_WORDS = {'sha256': 'SHA-256', 'md5': 'MD5', 'crc32c': 'CRC-32C'}
_BLOCK = 2**20


def write(folder: Place, facts: Mapping[str, Any]) -> None:
    """Writes size and checksums of all files below a folder, `facts` above them."""
    files = {
        name: _stated(known) if known.sums else _fingerprint(folder / name, ['sha256'])
        for name, known in contents(folder).items()
        if name != NAME
    }
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
    content = {**facts, 'saved': now, 'files': files}
    content[_OWN] = hashlib.sha256(_written(content)).hexdigest()
    (folder / NAME).write_bytes(_written(content))


def verify(folder: Place) -> list[str]:
    """Says how a folder differs from its checksums, if it does."""
    try:
        expected = _read_verified(folder)['files']
        known = contents(folder) if is_address(folder) else {}
        found = {n: _find(folder, n, entry, known) for n, entry in expected.items()}
        return [
            f'{name} {wrong}'
            for name, entry in expected.items()
            if (wrong := _difference(entry, found[name]))
        ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return [f'{NAME} cannot be read ({first_line(error)})']


def exist(folder: Place) -> bool:
    """Whether a folder has checksums."""
    return (folder / NAME).exists()


def read(folder: Place) -> dict[str, Any]:
    """What `write` wrote."""
    return json.loads((folder / NAME).read_bytes())


def digest(folder: Place) -> str:
    """First 12 hexadecimal digits of the SHA-256 of the checksums; empty without."""
    if not exist(folder):
        return ''
    return hashlib.sha256((folder / NAME).read_bytes()).hexdigest()[:12]


def first_line(error: BaseException) -> str:
    """What an error of a library says, in one line of readable length."""
    text = ' '.join((str(error) or type(error).__name__).split())
    return text if len(text) <= 200 else f'{text[:200]}...'


def _read_verified(folder: Place) -> dict[str, Any]:
    """What `write` wrote, bit for bit; earlier versions had no sum of their own."""
    content = read(folder)
    if 'saved' in content or _OWN in content:
        rest = {name: value for name, value in content.items() if name != _OWN}
        is_own = content[_OWN] == hashlib.sha256(_written(rest)).hexdigest()
        if not is_own or _written(content) != (folder / NAME).read_bytes():
            raise ValueError('it has other bytes than when it was saved')
    return content


def _written(content: Mapping[str, Any]) -> bytes:
    # Bytes, not text: a line ends with LF on every system.
    return (json.dumps(content, indent=1) + '\n').encode()


def _find(
    folder: Place, name: str, expected: Mapping[str, Any], known: Mapping[str, Stated]
) -> dict[str, Any] | None:
    """What is there now, told in a way that can be compared with what is expected."""
    wanted = sorted(_WORDS.keys() & expected.keys())
    if is_address(folder):
        if name not in known:
            return None
        # A copy may have lost one of the sums (MD5 in a parallel upload): any will do.
        if wanted and known[name].sums.keys() & set(wanted):
            return _stated(known[name])
    return _fingerprint(folder / name, wanted)


def _stated(known: Stated) -> dict[str, Any]:
    return {'bytes': known.bytes, **known.sums}


def _fingerprint(path: Place, algorithms: list[str]) -> dict[str, Any] | None:
    """Size and checksums of a file, read; none where there is no file."""
    sums = {
        name: google_crc32c.Checksum() if name == 'crc32c' else hashlib.new(name)
        for name in algorithms
    }
    size = 0
    try:
        with path.open('rb') as file:
            while block := file.read(_BLOCK):
                size += len(block)
                for one in sums.values():
                    one.update(block)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    return {'bytes': size, **{n: one.digest().hex() for n, one in sums.items()}}


def _difference(expected: Mapping[str, Any], found: Mapping[str, Any] | None) -> str:
    if found is None:
        return 'is missing'
    if expected['bytes'] != found['bytes']:
        return f'has {found["bytes"]} bytes instead of {expected["bytes"]}'
    common = _WORDS.keys() & expected.keys() & found.keys()
    if not common:
        raise ValueError(f'no checksum of {sorted(expected)}')
    for name in sorted(common):
        if expected[name] != found[name]:
            return f'has other bytes than when it was saved ({_WORDS[name]})'
    return ''
