"""Stores that belong together, as one: along time, levels, or side by side.

A variable is joined from the stores that hold it. Axes are the union of theirs: where a
variable lacks a time or a level that others have, it reads NaN. What has no time (an
orography in a file of its own) stands beside. Where two stores hold the same field, it
has to be the same.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from learning.spelling import did_you_mean
from sphere_ops.grid import COORDINATE_TOLERANCE_DEGREES
from weather.data import sources
from weather.data.axes import eastward
from weather.data.composed import Joined, OneTime, Squeezed, Tile, sizes_of
from weather.data.decoding import AnyVariable
from weather.data.names import known_with_aliases, read_names
from weather.data.parts import Part, Reading, read_parts
from weather.data.repetitions import GROWING, without_repetitions
from weather.data.sources import RawStore
from weather.data.sources.dataset import IN_MEMORY
from weather.data.stored_field import DIMS
from weather.data.times import check_increasing
from weather.outputs import TIES
from weather.variables import VARIABLES

_LOGGER = logging.getLogger(__name__)
# What an axis of one entry is kept of.
_OF_AN_ATMOSPHERE = set(DIMS) - {'member', 'prediction_timedelta'}

Wanted = Mapping[str, tuple[str, str]]


def open_parts(
    source: Any,
    options: sources.Options,
    wanted: Wanted | None,
    *,
    names: Collection[str] | None = None,
    forecasts: bool = False,
) -> Part:
    """Opens the stores that `source` stands for and joins them.

    Args:
      source: see `sources.open_stores`.
      options: passed on to fsspec for an address.
      wanted: by name of the variables wanted, what each is and how to mend its absence;
        None for all that are fields.
      names: without `wanted`, the only variables to look at; absent ones are left out.
      forecasts: whether the time axis is that of the starts, which a store of one start
        may lack.

    Raises:
      ValueError: nothing there, unreadable, a wanted variable is absent, nothing that
        is a field, or stores that do not belong together.
    """
    opened = sources.open_stores(source, options)
    stores = [sources.Remembering(store) for store in opened]
    keep = names if wanted is None else tuple(wanted)
    how = Reading(keep, wanted is not None, forecasts, len(stores) > 1)
    parts = [part for store in stores for part in read_parts(store, how)]
    for name, (what, fix) in (wanted or {}).items():
        if not any(name in part.variables for part in parts):
            raise ValueError(_absent(name, what, fix, stores))
    if not parts:
        held = ', '.join(_held(stores)) or 'nothing'
        what = f'some of {", ".join(names)}' if names else 'fields'
        raise ValueError(
            f'expected {what} in {_address(source, stores)}, '
            f'found {held}; known names and their aliases are {known_with_aliases()}'
        )
    if len(parts) == 1:
        return dataclasses.replace(parts[0], stores=tuple(stores))
    joined = join(_address(source, stores), parts, forecasts=forecasts)
    return dataclasses.replace(joined, stores=tuple(stores))


def _address(source: Any, stores: Sequence[RawStore]) -> str:
    if len(stores) == 1:
        return stores[0].address
    several = isinstance(source, list | tuple)
    return f'{len(stores)} stores' if several else str(source)


def _held(stores: Sequence[RawStore]) -> list[str]:
    return sorted({name for store in stores for name in store.names()} - set(DIMS))


def _absent(name: str, what: str, fix: str, stores: Sequence[RawStore]) -> str:
    held = _held(stores)
    reasons = [
        reason
        for store in stores
        for reason in read_names(store, (name,)).passed_over.values()
    ]
    of = VARIABLES.get(name)
    aliases = f', also not as {", ".join(of.aliases)}' if of and of.aliases else ''
    where = stores[0].address if len(stores) == 1 else f'{len(stores)} stores'
    return (
        f'expected {what} {name!r} in {where}, found none'
        f'{did_you_mean(name, held)}{aliases}; {fix}; the store holds '
        f'{", ".join(held) or "nothing"}' + ''.join(f'; {r}' for r in reasons[:3])
    )


def join(address: str, parts: Sequence[Part], *, forecasts: bool) -> Part:
    """Joins parts of one or several stores.

    Raises:
      ValueError: parts of other forecasts, grids or dims, or two that hold different
        values of the same field.
    """
    for part in parts[1:]:
        _check_ties(part, parts[0])
    if forecasts:
        _check_alike(parts)
    else:
        parts = [_as_atmosphere(part) for part in parts]
        for part in parts:
            if 'time' in part.coordinates:
                check_increasing(part.coordinates['time'], part.address)
    refused = {name: why for part in parts for name, why in part.refused.items()}
    coordinates = _union(parts)
    held: dict[str, list[Part]] = {}
    for part in parts:
        for name in part.variables:
            held.setdefault(name, []).append(part)
    variables = {
        name: _joined(name, of_name, coordinates, address)
        for name, of_name in held.items()
        if name not in refused
    }
    if not variables:
        raise ValueError('; '.join(refused.values()))
    first = next((part for part in parts if 'time' in part.coordinates), parts[0])
    return dataclasses.replace(
        first,
        address=address,
        variables=variables,
        coordinates=coordinates,
        refused=refused,
    )


def _check_ties(part: Part, first: Part) -> None:
    for name in TIES:
        of_first, of_part = first.attributes.get(name), part.attributes.get(name)
        if of_part != of_first:
            raise ValueError(
                f'{part.address}: {name} {of_part} differs from {of_first} of '
                f'{first.address}; keep the forecasts of each run and checkpoint in '
                'their own directory'
            )


def _check_alike(parts: Sequence[Part]) -> None:
    """Forecasts of one start each hold the same, or one of them is another model's."""
    files: dict[object, list[Part]] = {}
    for part in parts:
        # A file of GRIB is several stores at one address.
        in_memory = part.address == IN_MEMORY
        key = id(part.stores[0]) if in_memory else part.address
        files.setdefault(key, []).append(part)
    first, *others = files.values()
    for other in others:
        found, expected = _variables(other), _variables(first)
        if found != expected:
            raise ValueError(
                f'{other[0].address}: expected the variables of {first[0].address}, '
                f'{sorted(expected)}, got {sorted(found)}'
            )
        if _levels(other) != _levels(first):
            raise ValueError(
                f'{other[0].address}: level differs from that of {first[0].address}; '
                'keep the forecasts of each experiment in their own directory'
            )


def _variables(parts: Sequence[Part]) -> set[str]:
    return {name for part in parts for name in (*part.variables, *part.refused)}


def _levels(parts: Sequence[Part]) -> set[float]:
    levels = (part.coordinates.get('level', np.empty(0)) for part in parts)
    return {level for of_part in levels for level in of_part.tolist()}


def has_leads(part: Part) -> bool:
    """Whether times are those of starts, and not those at which fields are valid."""
    leads = part.coordinates.get('prediction_timedelta', np.zeros(1))
    return leads.size > 1 or leads[0].astype(np.int64) != 0


def _as_atmosphere(part: Part) -> Part:
    """Takes the time from what never changes, and leaves forecasts out.

    Their axes would add times to the union at which nothing else is there.
    """
    refused = dict(part.refused)
    variables: dict[str, AnyVariable] = {}
    for name, variable in part.variables.items():
        known = VARIABLES.get(name)
        if 'prediction_timedelta' in variable.dims and has_leads(part):
            refused[name] = (
                f'{name} has an axis of lead times in {part.address}, and other '
                'variables have none: open forecasts by themselves'
            )
            continue
        # Of one member, or beside the fields in one file and not in another.
        sizes = sizes_of(variable)
        axes = [d for d, n in sizes.items() if n == 1 and d not in _OF_AN_ATMOSPHERE]
        variable = Squeezed(variable, axes) if axes else variable
        if known and known.role == 'static' and 'time' in variable.dims:
            variable = OneTime(variable)
        variables[name] = variable
    used = {dim for variable in variables.values() for dim in variable.dims}
    coordinates = {dim: of for dim, of in part.coordinates.items() if dim in used}
    return dataclasses.replace(
        part, variables=variables, refused=refused, coordinates=coordinates
    )


def _union(parts: Sequence[Part]) -> dict[str, np.ndarray]:
    """Coordinates of all: times and levels of any of them, others as in the first."""
    found: dict[str, list[np.ndarray]] = {}
    for part in parts:
        for dim, values in part.coordinates.items():
            found.setdefault(dim, []).append(values)
    return {
        dim: np.unique(np.concatenate(several))
        if dim in GROWING and any(not np.array_equal(a, several[0]) for a in several)
        else several[0]
        for dim, several in found.items()
    }


def _joined(
    name: str,
    parts: Sequence[Part],
    coordinates: Mapping[str, np.ndarray],
    address: str,
) -> AnyVariable:
    first = parts[0].variables[name]
    tiles = []
    for part in parts:
        variable = part.variables[name]
        if set(variable.dims) != set(first.dims):
            raise ValueError(
                f'{part.address}: {name} has the dims {variable.dims}, in '
                f'{parts[0].address} {first.dims}; select or expand the axis that one '
                'of them lacks'
            )
        places = {
            dim: _places(dim, size, part, coordinates, parts[0].address)
            for dim, size in sizes_of(variable).items()
        }
        tiles.append(Tile(variable, places, part.address))
    sizes = {d: coordinates[d].size if d in coordinates else n
             for d, n in sizes_of(first).items()}  # fmt: skip
    if len(tiles) == 1 and _is_whole(tiles[0], sizes):
        return first
    tiles = without_repetitions(name, tiles, sizes, coordinates)
    joined = Joined(tiles, sizes)
    _tell_of_gaps(name, tiles, coordinates, address)
    return joined


def _places(
    dim: str,
    size: int,
    part: Part,
    coordinates: Mapping[str, np.ndarray],
    reference: str,
) -> np.ndarray:
    """Where the entries of a part's axis stand in the whole."""
    if dim not in part.coordinates:
        return np.arange(size)  # A foreign axis of one.
    mine, whole = part.coordinates[dim], coordinates[dim]
    if mine is whole or np.array_equal(mine, whole):
        return np.arange(size)
    if dim in GROWING:
        order = np.argsort(whole, kind='stable')
        return order[np.searchsorted(whole, mine, sorter=order)]
    ours, theirs = mine, whole
    if dim == 'longitude':
        ours, theirs = eastward(mine), eastward(whole)
    by_value, order = np.argsort(ours, kind='stable'), np.argsort(theirs, kind='stable')
    same = ours.shape == theirs.shape and (
        np.allclose(ours[by_value], theirs[order], 0, COORDINATE_TOLERANCE_DEGREES)
        if ours.dtype.kind == 'f'
        else np.array_equal(ours[by_value], theirs[order])
    )
    if not same:
        raise ValueError(
            f'{part.address}: {dim} differs from that of {reference}; '
            'keep the stores of each grid and experiment in their own directory'
        )
    places = np.empty(size, int)
    places[by_value] = order
    return places


def _is_whole(tile: Tile, sizes: Mapping[str, int]) -> bool:
    return all(
        np.array_equal(places, np.arange(sizes[dim]))
        for dim, places in tile.places.items()
    )


def _tell_of_gaps(
    name: str,
    tiles: Sequence[Tile],
    coordinates: Mapping[str, np.ndarray],
    address: str,
) -> None:
    if 'time' not in tiles[0].places:
        return
    times = coordinates['time']
    there = np.zeros(times.size, bool)
    for tile in tiles:
        there[tile.places['time']] = True
    if not there.all():
        absent = times[~there].astype('datetime64[s]')
        _LOGGER.warning(
            '%s of %s lacks %d of %d times that other variables have, %s to %s: it is '
            'NaN there', name, address, absent.size, times.size, absent[0], absent[-1],
        )  # fmt: skip
