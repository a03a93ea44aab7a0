"""A config is read from Python or JSON; any key may be set by a flag."""

import pathlib

import pytest
from absl import flags

from learning import config_flags
from learning.config_flags import ConfigFileError, read_config_file

PYTHON = 'def get_config(size="3"):\n    return {"size": int(size)}\n'


@pytest.fixture
def flag(monkeypatch):
    """A config's flag among flags of their own."""
    monkeypatch.setattr(flags, 'FLAGS', flags.FlagValues())
    monkeypatch.setattr(config_flags, '_NAMES', [])
    values = flags.FLAGS

    def define_string(name, default, text, required=False):
        return flags._defines.DEFINE_string(
            name, default, text, flag_values=values, required=required
        )

    monkeypatch.setattr(flags, 'DEFINE_string', define_string)
    return config_flags.define('config', 'A config.')


def parse(*arguments: str) -> None:
    flags.FLAGS(config_flags.declare(['program', *arguments]))


def test_a_key_that_no_file_mentions_is_a_flag(flag, tmp_path):
    file = tmp_path / 'config.py'
    file.write_text(PYTHON)
    parse(f'--config={file}', '--config.a.b=1', '-config.c', 'x=y', '--config.a.b=2')
    assert flag.entries == {'size': 3}
    assert flag.overrides == {'a.b': '2', 'c': 'x=y'}


def test_flags_of_a_file_count(flag, tmp_path):
    (tmp_path / 'flags').write_text('--config=x.py\n--config.a=1\n')
    parse(f'--flagfile={tmp_path / "flags"}')
    assert flag.overrides == {'a': '1'}


def test_keys_of_what_is_no_config_stay_unknown(flag):
    with pytest.raises(flags.UnrecognizedFlagError, match='confg.a'):
        parse('--config=x.py', '--confg.a=1')


def test_python_with_an_argument_and_json(tmp_path: pathlib.Path):
    (tmp_path / 'c.py').write_text(PYTHON)
    assert read_config_file(f'{tmp_path}/c.py:7') == {'size': 7}
    (tmp_path / 'c.json').write_text('{"size": 4}')
    assert read_config_file(str(tmp_path / 'c.json')) == {'format': 1, 'size': 4}
    (tmp_path / 'c.json').write_text('{"size": 4, "format": 2}')
    assert read_config_file(str(tmp_path / 'c.json'))['format'] == 2


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('none.py', None, 'found no file .*none.py .seen from'),
        ('README.md', 'text', 'expected a Python file with get_config'),
        ('c.py', 'x = 1', "AttributeError.*'get_config'"),
        ('c.py', 'def f(:', 'SyntaxError'),
        ('c.py', 'def get_config(): 1 / 0', 'ZeroDivisionError'),
        ('c.json', '', 'expected JSON'),
        ('c.json', '[]', 'expected keys and values'),
    ],
)
def test_what_is_no_config_is_refused_in_one_line(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ConfigFileError, match=message):
        read_config_file(str(tmp_path / name))
