"""A schema says what is wrong, leaves defaults out of digests, and can change."""

from typing import Annotated, ClassVar, Literal

import pytest

from learning.schema import (
    EXTENDABLE,
    MACHINE,
    Config,
    ConfigError,
    Count,
    Group,
    Integer,
    Number,
    Role,
    differences,
)


class Size(Group):
    width: Count
    kind: Literal['round', 'square'] = 'round'
    pair: tuple[Integer, Number] = (1, 2.0)


class Before(Config):
    size: Size
    weights: dict[str, Number] = {'a': 1.0}
    name: str = ''


def _renamed(entries):
    """Format 2 calls `length` what format 1 called `name`."""
    entries = dict(entries)
    if 'name' in entries:
        entries['label'] = entries.pop('name')
    return entries


class After(Config):
    """The same, three changes later: a name, a new key, a new group."""

    UPGRADES: ClassVar = (_renamed,)

    size: Size
    weights: dict[str, Number] = {'a': 1.0}
    label: str = ''
    novelty: Number = 0.5
    steps: Annotated[Count, EXTENDABLE] = 10
    machine: Annotated[Size, MACHINE] = Size(width=1)


ENTRIES = {'size': {'width': 3}, 'name': 'x'}


def problem(overrides=None, **entries) -> str:
    with pytest.raises(ConfigError) as refused:
        Before.from_config({**ENTRIES, **entries}, overrides)
    return str(refused.value)


def test_a_new_key_leaves_the_digest_of_those_who_do_not_set_it():
    entries = {'size': {'width': 3}}
    assert After.from_config(entries).digest == Before.from_config(entries).digest
    for key, value in {'novelty': 0.6, 'steps': 11, 'size.width': 4}.items():
        changed = After.from_config(entries).with_changes({key: value})
        assert changed.digest != Before.from_config(entries).digest


def test_a_default_that_is_written_down_is_the_default():
    one, other = {'size': {'width': 3}}, {'size': {'width': 3, 'pair': [1, 2]}}
    assert Before.from_config(one).digest == Before.from_config(other).digest


def test_keys_of_the_machine_are_not_in_the_digest():
    setup = After.from_config({'size': {'width': 3}})
    assert setup.with_changes({'machine.width': 9}).digest == setup.digest
    assert After.role('machine.width') is Role.MACHINE
    assert After.role('steps') is Role.EXTENDABLE
    assert After.role('size.width') is After.role('weights.a') is Role.SCIENCE


def test_an_older_format_is_upgraded_and_a_newer_one_refused():
    old = Before.from_config(ENTRIES).to_dict()
    assert old['format'] == 1
    new = After.from_config(old)
    assert new.label == 'x'
    assert After.from_config(new.to_dict()) == new
    with pytest.raises(ConfigError, match='format 2.*up to 1'):
        Before.from_config(new.to_dict())


def test_a_file_without_a_number_is_of_the_present_format():
    with pytest.raises(ConfigError, match='unknown key config.name'):
        After.from_config(ENTRIES)


@pytest.mark.parametrize(
    ('key', 'text', 'value'),
    [
        ('size.width', '7', 7),
        ('size.width', '1e3', 1000),
        ('size.kind', 'square', 'square'),
        ('size.kind', '"square"', 'square'),
        ('size.pair', '(3, 4)', (3, 4.0)),
        ('name', '2001', '2001'),
        ('name', 'None', 'None'),
        ('weights.b', '2', {'a': 1.0, 'b': 2.0}),
        ('weights', "{'b': 2}", {'b': 2.0}),
    ],
)
def test_the_schema_decides_what_a_text_means(key, text, value):
    setup = Before.from_config(ENTRIES, {key: text})
    group, _, last = key.rpartition('.')
    found = setup.weights if 'weights' in key else getattr(setup.size, last, setup.name)
    assert found == value


@pytest.mark.parametrize(
    ('key', 'text', 'message'),
    [
        ('size.widht', '3', "unknown key config.size.widht, did you mean 'width'"),
        ('siez.width', '3', "unknown key config.siez, did you mean 'size'"),
        ('size.width', 'ten', "config.size.width must be of type int, got 'ten'"),
        ('size.width', '2.5', 'config.size.width must be of type int, got 2.5'),
        ('size.width', 'True', 'config.size.width must be of type int, got True'),
        ('size.width', '0', 'config.size.width must be at least 1, got 0'),
        ('size.kind', 'sqare', "round, square, got 'sqare', did you mean 'square'"),
        ('size.pair', '3', 'config.size.pair must be a sequence, got 3'),
        ('size.pair', '(3,)', 'config.size.pair must have 2 entries, got (3,)'),
        ('size.pair', '(3,4,5)', 'config.size.pair must have 2 entries'),
        ('size', '3', 'config.size must be a group of keys, got 3'),
        ('weights.b', 'x', "config.weights.b must be of type float, got 'x'"),
        ('weights.b', '1e999', 'config.weights.b must be finite, got inf'),
        ('name.x', '3', "config.name is 'x' and has no keys"),
    ],
)
def test_what_is_wrong_is_said_with_expected_and_found(key, text, message):
    assert message in problem({key: text})


def test_every_problem_is_listed_in_one_line():
    text = problem({'size.width': '0', 'size.kind': 'x', 'nme': '1'})
    assert text.count(';') >= 2
    assert '\n' not in text
    assert 'config.size lacks width' in problem(size={})


def test_differences_name_keys_and_both_values():
    found = differences({'a': {'b': 1}, 'c': 2}, {'a': {'b': 3}})
    assert {key: str(change) for key, change in found.items()} == {
        'a.b': '1 -> 3',
        'c': '2 -> (absent)',
    }
