"""A flag that names a config, and one for every key of it: --config.a.b=VALUE.

The keys are those of a schema that only the program knows (`learning.schema`), so that
also those can be set which the file does not mention. What the text of a value means is
the schema's to say.
"""

from __future__ import annotations

import importlib.util
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

# Flags defined here are the calling script's, and shown by its --help.
flags.disclaim_key_flags()


class ConfigFileError(ValueError):
    """A file that is no config; says what was expected and found."""


class ConfigFlag:
    """What the command line says of a config, once the flags are parsed."""

    def __init__(self, name: str, flag: flags.FlagHolder):
        self._name = name
        self._flag = flag

    @property
    def is_given(self) -> bool:
        """Whether there is one, where it is not required."""
        return self._flag.value is not None

    @property
    def path(self) -> str:
        """Where the file is, with what its get_config is told."""
        return self._flag.value

    @property
    def entries(self) -> Mapping[str, Any]:
        """What the file says."""
        return read_config_file(self._flag.value)

    @property
    def overrides(self) -> dict[str, str]:
        """What further flags set, as text by dotted key."""
        prefix = f'{self._name}.'
        found = {}
        for name in flags.FLAGS:
            text = flags.FLAGS[name].value
            if name.startswith(prefix) and text is not None:
                found[name.removeprefix(prefix)] = text
        return found


# Which flags are configs: `declare` reads the command line before absl does.
_NAMES: list[str] = []


def define(name: str, text: str, *, required: bool = True) -> ConfigFlag:
    """Defines the flag of a config, which is required unless it is said not to be."""
    flag = flags.DEFINE_string(name, None, text, required=required)
    _NAMES.append(name)
    return ConfigFlag(name, flag)


def declare(argv: Sequence[str]) -> list[str]:
    """Defines a flag for every key that is set in `argv`, also in its flag files.

    absl knows only flags that were defined before it parses.

    Returns:
      `argv` with the contents of its flag files.
    """
    program, *arguments = argv
    arguments = flags.FLAGS.read_flags_from_files(arguments, force_gnu=False)
    for argument in arguments:
        match = re.match(r'--?(([^.=]+)\.[^=]+)', argument)
        if match and match[2] in _NAMES and match[1] not in flags.FLAGS:
            flags.DEFINE_string(match[1], None, 'A key of the config.')
    return [program, *arguments]


def read_config_file(path: str) -> Mapping[str, Any]:
    """Reads a config: PATH.py, PATH.py:ARGUMENT of its get_config, or PATH.json.

    Raises:
      ConfigFileError: there is no such file, or it is no config.
    """
    name, _, argument = path.partition('.py:')
    file = pathlib.Path(f'{name}.py' if argument else path).expanduser()
    if not file.is_file():
        raise ConfigFileError(
            f'expected a config, found no file {file} (seen from {pathlib.Path.cwd()})'
        )
    if file.suffix == '.json':
        return _read_json(file)
    if file.suffix != '.py':
        raise ConfigFileError(
            f'expected a Python file with get_config(), or the config.json of a run, '
            f'got {file}'
        )
    return _run_python(file, *([argument] if argument else []))


def _read_json(file: pathlib.Path) -> Mapping[str, Any]:
    try:
        entries = json.loads(file.read_bytes())
    except ValueError as error:
        raise ConfigFileError(f'expected JSON in {file}: {error}') from error
    if not isinstance(entries, dict):
        raise ConfigFileError(f'expected keys and values in {file}')
    # Runs of the first version wrote no number of their format.
    return {'format': 1, **entries}


def _run_python(file: pathlib.Path, *arguments: str) -> Mapping[str, Any]:
    spec = importlib.util.spec_from_file_location('config', file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config(*arguments)
    # A config is a program: it may fail in any way, and is then the one to be mended.
    except Exception as error:
        raise ConfigFileError(
            f'expected a get_config() in {file} that returns a config, got '
            f'{type(error).__name__}: {error}'
        ) from error
    return config
