"""Schemas of configs: frozen pydantic models that say what is wrong in one line.

A model's fields are the keys, with type, range and default: the one place where a key
is declared. What a key is for is declared beside it: `MACHINE` marks those that say
where and how a run is done and not what comes out of it.
"""

from __future__ import annotations

import ast
import enum
import hashlib
import json
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, NamedTuple, Self

import pydantic
from pydantic.fields import FieldInfo

from learning.problems import explain, is_group, type_inside

ABSENT = '(absent)'


class ConfigError(ValueError):
    """A config whose keys or values are not those of the schema."""


class Role(enum.Enum):
    """What a key is for.

    `SCIENCE`: decides what is learnt, and so belongs to the digest; the default.
    `EXTENDABLE`: the same, but a run may change it on its way, which is recorded.
    `MACHINE`: paths, memory, threads, how often to log and to save: may change freely.
    """

    SCIENCE = 'science'
    EXTENDABLE = 'extendable'
    MACHINE = 'machine'


MACHINE = Role.MACHINE
EXTENDABLE = Role.EXTENDABLE


def _integral(value: Any) -> Any:
    """1e3 is how people write a thousand; 2.5 and True stay what they are: wrong."""
    is_whole = isinstance(value, float) and value.is_integer()
    return int(value) if is_whole else value


# Strict: True is not 1 and '8' is not 8.
Integer = Annotated[int, pydantic.BeforeValidator(_integral), pydantic.Strict()]
Number = Annotated[float, pydantic.Strict()]
Count = Annotated[Integer, pydantic.Field(ge=1)]
Fraction = Annotated[Number, pydantic.Field(ge=0, lt=1)]
# Pressure levels as keys: 500 is '500', as JSON has it.
Key = Annotated[str, pydantic.BeforeValidator(str)]


class Group(pydantic.BaseModel):
    """Keys that belong together."""

    model_config = pydantic.ConfigDict(
        frozen=True, extra='forbid', allow_inf_nan=False, protected_namespaces=()
    )


class Change(NamedTuple):
    """Two values of a key."""

    before: Any
    after: Any

    def __str__(self) -> str:
        return f'{self.before} -> {self.after}'


class Config(Group):
    """A whole config: read, checked, written, compared.

    Attributes:
      UPGRADES: what makes format n + 1 of the entries from format n, beginning at 1.
      RECORD: the key under which a run keeps its own notes beside the entries.
    """

    UPGRADES: ClassVar[Sequence[Callable[[dict[str, Any]], dict[str, Any]]]] = ()
    RECORD: ClassVar[str] = 'run'

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], overrides: Mapping[str, str] | None = None
    ) -> Self:
        """Builds the config from a `ConfigDict`, or a dictionary read from JSON.

        Args:
          config: the entries; those that are absent have their defaults. Entries with
            a `format` are brought to the present one first.
          overrides: further values as text, by dotted key, as a command line has them.

        Raises:
          ConfigError: unknown, missing or impossible entries; says which and why.
        """
        entries = cls.upgrade(_plain(config))
        for key, text in (overrides or {}).items():
            _override(cls, entries, key, text)
        try:
            return cls.model_validate(entries)
        except pydantic.ValidationError as error:
            raise ConfigError(explain(cls, error)) from None

    @classmethod
    def newest_format(cls) -> int:
        """The format that `to_dict` writes."""
        return 1 + len(cls.UPGRADES)

    @classmethod
    def upgrade(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Brings entries of an older format to the newest; only entries are left.

        Raises:
          ConfigError: the format is newer than this code.
        """
        newest = cls.newest_format()
        # Configs name none: they are written for the code beside them.
        version = entries.get('format', newest)
        # Not isinstance: True is an int.
        if type(version) is not int or version < 1:
            raise ConfigError(
                f'expected a format from 1 to {newest} in the config, got {version!r}'
            )
        if version > newest:
            raise ConfigError(
                f'the config has format {version}, this version reads formats up to '
                f'{newest}: use the version that wrote it, or a newer one'
            )
        notes = ('format', cls.RECORD)
        entries = {key: value for key, value in entries.items() if key not in notes}
        for step in cls.UPGRADES[version - 1 :]:
            entries = step(entries)
        return entries

    def to_dict(self) -> dict[str, Any]:
        """The whole config as JSON types, with its format: see `from_config`."""
        return {'format': self.newest_format(), **self.model_dump(mode='json')}

    def to_json(self, **notes: Any) -> str:
        """The same as text, with `notes` of a run beside the entries."""
        entries = self.to_dict() | ({self.RECORD: notes} if notes else {})
        return json.dumps(entries, indent=2, ensure_ascii=False) + '\n'

    def with_changes(self, changes: Mapping[str, Any]) -> Self:
        """The config with other values, by dotted key, checked again."""
        entries = self.to_dict()
        for key, value in changes.items():
            *groups, last = _parts(type(self), key)
            place = entries
            for name in groups:
                place = place.setdefault(name, {})
            place[last] = value
        return self.from_config(entries)

    @property
    def digest(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of what is science.

        Values at their defaults are left out, so that a new key does not change the
        digest of experiments from before it. The price is a rule: the default of a
        science key never changes; an `UPGRADES` step can write the old one down.
        """
        decisive = {
            key: value
            for key, value, field, role in _leaves(self)
            if role is not MACHINE and value != _default(field)
        }
        # Sorted: a key that moved in the schema makes no other experiment.
        text = json.dumps(decisive, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @classmethod
    def role(cls, key: str) -> Role:
        """What a dotted key is for; that of the group it lies in where it is in one."""
        kind: Any = cls
        for name in key.split('.'):
            if not is_group(kind) or name not in kind.model_fields:
                break
            field = kind.model_fields[name]
            if role := _role(field):
                return role
            kind = field.annotation
        return Role.SCIENCE


def differences(
    before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = ''
) -> dict[str, Change]:
    """The dotted keys in which two configs differ, with both values."""
    found: dict[str, Change] = {}
    for key in sorted(set(before) | set(after)):
        one, other = before.get(key, ABSENT), after.get(key, ABSENT)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found |= differences(one, other, f'{prefix}{key}.')
        elif one != other:
            found[f'{prefix}{key}'] = Change(one, other)
    return found


def _role(field: FieldInfo) -> Role | None:
    return next((mark for mark in field.metadata if isinstance(mark, Role)), None)


def _leaves(
    group: pydantic.BaseModel, prefix: str = '', role: Role | None = None
) -> Iterator[tuple[str, Any, FieldInfo, Role]]:
    """Dotted key, JSON value, field and role of everything that is not a group."""
    as_json = group.model_dump(mode='json')
    for name, field in type(group).model_fields.items():
        # The mark of a group is that of all that is in it.
        value, of_field = getattr(group, name), role or _role(field)
        if isinstance(value, pydantic.BaseModel):
            yield from _leaves(value, f'{prefix}{name}.', of_field)
        else:
            yield f'{prefix}{name}', as_json[name], field, of_field or Role.SCIENCE


def _default(field: FieldInfo) -> Any:
    """The default of a field as JSON; of a required one something equal to nothing."""
    if field.is_required():
        return object()
    # Through JSON, as the values that it is compared with: there, tuples are lists.
    return json.loads(json.dumps(field.get_default(call_default_factory=True)))


def _plain(entries: Any) -> Any:
    """A copy in which every mapping is a dictionary, and references are resolved."""
    entries = entries.to_dict() if hasattr(entries, 'to_dict') else entries
    if not isinstance(entries, Mapping):
        raise ConfigError(f'expected a config of keys and values, got {entries!r:.80}')
    return {
        key: _plain(value) if isinstance(value, Mapping) else value
        for key, value in entries.items()
    }


def _parts(kind: Any, key: str) -> list[str]:
    """A dotted key in parts; a key of a group of numbers may hold dots: level 12.5."""
    parts = []
    while '.' in key and _bare(type_inside(kind, '')) is not float:
        name, key = key.split('.', 1)
        kind = type_inside(kind, name)
        parts.append(name)
    return [*parts, key]


def _bare(kind: Any) -> Any:
    return typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind


def _override(kind: Any, entries: dict[str, Any], key: str, text: str) -> None:
    """Puts the value that `text` means under a dotted key of `entries`."""
    place, where = entries, 'config'
    *groups, last = _parts(kind, key)
    for name in groups:
        if name not in place and is_group(kind) and name in kind.model_fields:
            # What is added to a group of the schema's is added to its default.
            default = kind.model_fields[name].get_default(call_default_factory=True)
            place[name] = dict(default) if isinstance(default, Mapping) else {}
        kind, place, where = (
            type_inside(kind, name),
            place.setdefault(name, {}),
            (f'{where}.{name}'),
        )
        if not isinstance(place, dict):
            raise ConfigError(
                f'{where} is {place!r} and has no keys: config.{key} is unknown'
            )
    place[last] = _meaning(text, type_inside(kind, last))


def _meaning(text: str, kind: Any) -> Any:
    """What a text on a command line stands for, in a place of type `kind`."""
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text  # No literal: paths and names need no quotes.
    kind = _bare(kind)
    wants_text = kind is str or typing.get_origin(kind) is typing.Literal
    return text if wants_text and not isinstance(value, str) else value
