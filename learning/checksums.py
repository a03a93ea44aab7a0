"""Checksums of the files of a folder, kept beside them: whether a bit has changed."""

from __future__ import annotations

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

# Beside the files that it lists; what is not in it (nor it) is not looked at.
NAME = 'checksums.json'


def write(folder: pathlib.Path, facts: Mapping[str, Any]) -> None:
    """Writes size and SHA-256 of every file below a folder, and `facts` above them."""
    paths = sorted(path for path in folder.rglob('*') if path.is_file())
    files = {
        path.relative_to(folder).as_posix(): _fingerprint(path)
        for path in paths
        if path.name != NAME
    }
    text = json.dumps({**facts, 'files': files}, indent=1)
    (folder / NAME).write_text(text + '\n', 'utf-8')


def verify(folder: pathlib.Path) -> list[str]:
    """Reads a folder through and says how it differs from its checksums, if it does."""
    try:
        expected = read(folder)['files']
        found = {name: _fingerprint(folder / name) for name in expected}
        return [
            f'{name} {_difference(entry, found[name])}'
            for name, entry in expected.items()
            if entry != found[name]
        ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return [f'{NAME} cannot be read ({first_line(error)})']


def exist(folder: pathlib.Path) -> bool:
    """Whether a folder has checksums."""
    return (folder / NAME).exists()


def read(folder: pathlib.Path) -> dict[str, Any]:
    """What `write` wrote."""
    return json.loads((folder / NAME).read_text('utf-8'))


def digest(folder: pathlib.Path) -> str:
    """First 12 hexadecimal digits of the SHA-256 of the checksums; empty without."""
    if not exist(folder):
        return ''
    return hashlib.sha256((folder / NAME).read_bytes()).hexdigest()[:12]


def first_line(error: BaseException) -> str:
    """What an error of a library says, in one line of readable length."""
    text = ' '.join((str(error) or type(error).__name__).split())
    return text if len(text) <= 200 else f'{text[:200]}...'


def _fingerprint(path: pathlib.Path) -> dict[str, Any] | None:
    """Size and SHA-256 of a file; none where there is no file."""
    try:
        with path.open('rb') as file:
            sha256 = hashlib.file_digest(file, 'sha256').hexdigest()
            return {'bytes': file.tell(), 'sha256': sha256}
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def _difference(expected: Mapping[str, Any], found: Mapping[str, Any] | None) -> str:
    if found is None:
        return 'is missing'
    if expected['bytes'] != found['bytes']:
        return f'has {found["bytes"]} bytes instead of {expected["bytes"]}'
    return 'has other bytes than when it was saved (SHA-256)'
