"""What is wrong with a config, in one line: where, expected and found.

Beside it the walk through the types of a schema, from a key to what stands under it.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import Annotated, Any

import pydantic

from learning.spelling import did_you_mean

Place = tuple[str | int, ...]


def is_group(kind: Any) -> bool:
    """Whether a type is a pydantic model: a group of keys."""
    return isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)


def type_inside(kind: Any, name: str | int) -> Any:
    """The type of what is called `name` in a value of type `kind`; None for nothing."""
    if typing.get_origin(kind) is Annotated:
        kind = typing.get_args(kind)[0]
    if is_group(kind):
        return kind.model_fields[name].annotation if name in kind.model_fields else None
    if dataclasses.is_dataclass(kind):
        return typing.get_type_hints(kind).get(str(name))
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is dict:
        return inner[1]
    if origin is tuple and isinstance(name, int):
        return inner[0] if inner[-1] is Ellipsis else (*inner, None)[name]
    return None


# What pydantic calls a wrong type, in the words of these messages.
_EXPECTED = {
    'int_type': 'of type int',
    'int_parsing': 'of type int',
    'int_from_float': 'of type int',
    'float_type': 'of type float',
    'finite_number': 'finite',
    'string_type': 'of type str',
    'string_too_short': 'a text that is not empty',
    'tuple_type': 'a sequence',
    'dict_type': 'a group of keys',
    'model_type': 'a group of keys',
    'dataclass_type': 'a group of keys',
}
_LIMITS = {
    'greater_than_equal': ('at least', 'ge'),
    'greater_than': ('more than', 'gt'),
    'less_than_equal': ('at most', 'le'),
    'less_than': ('less than', 'lt'),
}


def explain(cls: Any, error: pydantic.ValidationError) -> str:
    """Lists the problems of a config of the model `cls`."""
    # By place, so that of the members of a union the last one speaks.
    lines, missing = dict[Place, str](), dict[str, list[str]]()
    for entry in error.errors(include_url=False):
        place = _keys(cls, entry['loc'])
        # All that a group lacks in one sentence; a tuple's entry is one of its size.
        if entry['type'] == 'missing' and isinstance(place[-1], str):
            missing.setdefault(_dotted(place[:-1]), []).append(place[-1])
        else:
            lines[place] = _problem(cls, place, entry)
    lacking = [f'{group} lacks {", ".join(keys)}' for group, keys in missing.items()]
    return '; '.join([*lines.values(), *lacking])


def _keys(cls: Any, place: Place) -> Place:
    """The place without the names that pydantic gives to members of a union."""
    for i, name in enumerate(place):
        kind = _kind_at(cls, place[:i])
        # A text where no key can stand is pydantic's name of a member.
        holds_keys = is_group(kind) or dataclasses.is_dataclass(kind)
        if (
            isinstance(name, str)
            and not holds_keys
            and typing.get_origin(kind) is not dict
        ):
            return place[:i]
    return place


def _problem(cls: Any, place: Place, entry: Any) -> str:
    where, found, what = _dotted(place), entry['input'], entry['type']
    if what in ('extra_forbidden', 'unexpected_keyword_argument'):
        names = _names(_kind_at(cls, place[:-1]))
        return (
            f'unknown key {where}{did_you_mean(place[-1], names)}; '
            f'{_dotted(place[:-1])} has {", ".join(names)}'
        )
    if what == 'value_error':
        message = str(entry['ctx']['error'])
        # Of the config as a whole: such a message says itself where.
        return message if not place else f'{where} {message}'
    if what == 'literal_error':
        choices = typing.get_args(_kind_at(cls, place))
        return (
            f'{where} must be one of {", ".join(choices)}, got {found!r}'
            f'{did_you_mean(found, choices)}'
        )
    if what in ('missing', 'too_long') and _sizes(cls, place):
        sizes, where = _sizes(cls, place)
        return f'{where} must have {sizes} entries, got {found!r}'
    if what in _LIMITS:
        words, limit = _LIMITS[what]
        bound = entry['ctx'][limit]
        wanted = (
            'positive' if (words, bound) == ('more than', 0) else f'{words} {bound}'
        )
        return f'{where} must be {wanted}, got {found!r}'
    known = _EXPECTED.get(what)
    message = f'must be {known}' if known else f'is wrong: {entry["msg"]}'
    return f'{where} {message}, got {found!r}'


def _sizes(cls: Any, place: Place) -> Any:
    """Number of entries and place of the sequence of fixed length around `place`."""
    for end in (len(place), len(place) - 1):
        kind = _kind_at(cls, place[:end])
        if typing.get_origin(kind) is tuple and Ellipsis not in typing.get_args(kind):
            return len(typing.get_args(kind)), _dotted(place[:end])
    return None


def _kind_at(kind: Any, place: Place) -> Any:
    for name in place:
        kind = type_inside(kind, name)
    return typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind


def _names(kind: Any) -> list[str]:
    if is_group(kind):
        return list(kind.model_fields)
    return [field.name for field in dataclasses.fields(kind) if field.init]


def _dotted(place: Place) -> str:
    parts = (f'[{name}]' if isinstance(name, int) else f'.{name}' for name in place)
    return 'config' + ''.join(parts)
