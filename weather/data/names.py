"""What the arrays of a store are: its names against the aliases of the variables.

The aliases stand with the variables (`weather.variables`), and are compared whatever
their case. A name is recognised only where units and levels agree: `z` is geopotential
along an axis of levels, and that of the surface without one; `H` in W m-2 is no height.
What is not recognised stays under its own name. A canonical name wins over aliases.
`z_500`, `z500` and `geopotential_500hPa` are levels of one variable.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from weather.data.axes import ALIASES, canonical_axes
from weather.data.sources import RawStore, RawVariable
from weather.data.units import to_canonical
from weather.variables import VARIABLES, Variable, as_level

# Heights by convention, also where a file says no units.
_HEIGHTS = (
    'gh', 'zg', 'hgt', 'h', 'z3', 'hgtprs', 'geopotential_height', 'orography', 'orog',
    'hgtsfc',
)  # fmt: skip
# Levels of reanalyses and forecasts in hPa. Others after a name are numbers of model
# levels, or heights.
_LEVELS = frozenset(
    (1, 2, 3, 5, 7, 10, 20, 30, 40, 50, 60, 70, 80, 90, *range(100, 1051, 25))
)
_WITH_LEVEL = re.compile(r'(?P<name>.*?[^\d_])(?P<apart>_?)(?P<level>\d{1,4})(_?hpa)?')


class Meaning(NamedTuple):
    """Which arrays are one variable.

    Attributes:
      stored: their names: one, or one for each level.
      levels: hPa, where the level is part of the name; else empty.
      units: what is meant where a file says none.
    """

    stored: tuple[str, ...]
    levels: tuple[float, ...] = ()
    units: str | None = None


@dataclasses.dataclass(frozen=True)
class Names:
    """What a store holds.

    Attributes:
      meanings: by canonical name, or the own name of what nobody knows.
      passed_over: the reason, by stored name, why an alias was not taken for one.
    """

    meanings: Mapping[str, Meaning]
    passed_over: Mapping[str, str]


def read_names(store: RawStore, wanted: Collection[str] | None) -> Names:
    """Finds the variables of a store.

    Args:
      store: its arrays are looked at only where their names may be of use.
      wanted: canonical (or a store's own) names; None for all that is there.

    Raises:
      ValueError: two aliases of one variable.
    """
    reading = _Reading(store, wanted)
    meanings = {name: Meaning((name,)) for name in reading.plain()}
    passed_over: dict[str, str] = {}
    found: dict[str, list[Meaning]] = {}
    recognised = (reading.aliases(passed_over), reading.families(passed_over))
    for name, meaning in itertools.chain(*recognised):
        found.setdefault(name, []).append(meaning)
    for name, several in found.items():
        if len(several) > 1:
            both = ' and '.join(meaning.stored[0] for meaning in several[:2])
            raise ValueError(
                f'expected one array for {name} in {store.address}, found {both}, '
                f'which mean the same: rename one of them to {name}, or drop it'
            )
        meanings[name] = several[0]
    taken = {stored for each in found.values() for stored in each[0].stored}
    return Names(
        {name: of for name, of in meanings.items() if name not in taken}, passed_over
    )


def known_with_aliases() -> str:
    """The variables of the table and what else they may be called, for messages."""
    return ', '.join(
        f'{name} ({", ".join(of.aliases)})' if of.aliases else name
        for name, of in VARIABLES.items()
    )


class _Reading:
    """One store's names, and who may be meant by them."""

    def __init__(self, store: RawStore, wanted: Collection[str] | None):
        self._store = store
        self._wanted = wanted
        self._names = self._looked_up(wanted) if wanted else list(store.names())
        known = VARIABLES.keys() if wanted is None else VARIABLES.keys() & wanted
        # What stands there under its own name needs no alias.
        self._open = [VARIABLES[name] for name in known if name not in self._names]
        self._open.sort(key=lambda of: list(VARIABLES).index(of.name))

    def _looked_up(self, wanted: Collection[str]) -> list[str]:
        """Names of use: no list is asked for where all go by what is wanted."""
        found = [name for name in wanted if self._store.variable(name) is not None]
        if len(found) == len(wanted):
            return found
        listed = list(self._store.names())
        if listed:
            return listed
        # Plain web servers cannot list; so ask for every alias.
        aliases = {
            alias
            for name in wanted
            if name in VARIABLES and name not in found
            for alias in VARIABLES[name].aliases
        }
        there = (alias for alias in sorted(aliases) if self._store.variable(alias))
        return [*found, *there]

    def plain(self) -> list[str]:
        """Names that stand for themselves."""
        return [n for n in self._names if self._wanted is None or n in self._wanted]

    def aliases(self, passed_over: dict[str, str]) -> Iterator[tuple[str, Meaning]]:
        """Variables under another name."""
        by_alias = _by_alias(self._open)
        for stored in self._names:
            if stored in VARIABLES:
                continue
            meant = by_alias.get(stored.casefold(), ())
            for variable in meant:
                raw = self._store.variable(stored)
                height = 'm' if stored.casefold() in _HEIGHTS else None
                reason = self._mismatch(variable, raw, height, has_level=None)
                if not reason:
                    passed_over.pop(stored, None)
                    yield variable.name, Meaning((stored,), units=height)
                    break
                passed_over[stored] = f'{stored!r} is not taken for {reason}'

    def families(self, passed_over: dict[str, str]) -> Iterator[tuple[str, Meaning]]:
        """Variables of which every level has a name of its own."""
        by_alias = _by_alias([of for of in self._open if of.on_levels is not False])
        surface = _by_alias(VARIABLES.values())
        families: dict[str, dict[float, str]] = {}
        for stored in self._names:
            match = _WITH_LEVEL.fullmatch(stored.casefold())
            if match is None or stored in VARIABLES or match[0] in surface:
                continue
            if match['name'] in by_alias:
                of_family = families.setdefault(match['name'] + match['apart'], {})
                of_family[as_level(float(match['level']))] = stored
        for prefix, by_level in families.items():
            if set(by_level) <= {10, 100} and prefix[-1] != '_':
                continue  # ERA5's u100 and v100 are winds at 100 m.
            base = prefix.rstrip('_')
            variable = by_alias[base][0]
            height = 'm' if base in _HEIGHTS else None
            members = tuple(by_level[level] for level in sorted(by_level))
            reason = self._family_mismatch(variable, by_level, height)
            if reason:
                passed_over |= {n: f'{n!r} is not taken for {reason}' for n in members}
            else:
                yield variable.name, Meaning(members, tuple(sorted(by_level)), height)

    def _family_mismatch(
        self, variable: Variable, by_level: Mapping[float, str], height: str | None
    ) -> str:
        if not set(by_level) <= _LEVELS or max(by_level) < 10:
            odd = sorted(set(by_level) - _LEVELS) or sorted(by_level)
            return f'{variable.name}: {odd[0]} is no usual level in hPa'
        for stored in by_level.values():
            raw = self._store.variable(stored)
            reason = self._mismatch(variable, raw, height, has_level=True)
            if reason:
                return reason
        return ''

    def _mismatch(
        self,
        variable: Variable,
        raw: RawVariable | None,
        height: str | None,
        *,
        has_level: bool | None,
    ) -> str:
        """Why an array is not the variable that its name may mean; empty if it is."""
        if raw is None or raw.dtype.kind not in 'iufb':
            return f'{variable.name}: it holds no numbers'
        axes = set(canonical_axes(set(raw.dims), self._store).values())
        if not {'latitude', 'longitude'} <= axes:
            return f'{variable.name}: its dims are {raw.dims}'
        if has_level is None:
            has_level = 'level' in axes or scalar_level(self._store, raw) is not None
        elif 'level' in axes:
            return f'{variable.name}: it has an axis of levels, and one in its name'
        if variable.on_levels is not None and variable.on_levels != has_level:
            wanted = 'an axis' if variable.on_levels else 'no axis'
            return f'{variable.name}: that has {wanted} of levels, dims are {raw.dims}'
        try:
            to_canonical(variable.name, raw.attributes.get('units') or height, 'it')
        except ValueError:
            return f'{variable.name}: its units are {raw.attributes.get("units")!r}'
        return ''


def scalar_level(store: RawStore, raw: RawVariable) -> str | None:
    """The name of a level that stands beside an array without an axis of levels."""
    if 'level' in canonical_axes(set(raw.dims), store).values():
        return None
    held = set(store.names())
    for name in ('level', *ALIASES['level']):
        found = store.variable(name) if name in held else None
        if found is not None and found.shape in ((), (1,)) and name not in raw.dims:
            return name
    return None


def _by_alias(variables: Collection[Variable]) -> dict[str, list[Variable]]:
    found: dict[str, list[Variable]] = {}
    for variable in variables:
        for name in (variable.name, *variable.aliases):
            found.setdefault(name.casefold(), []).append(variable)
    return found
