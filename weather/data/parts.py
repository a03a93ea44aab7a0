"""What one store holds: decoded, in our names, axis by axis."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from weather.data.axes import (
    canonical_axes,
    decode_coordinate,
    expected_coordinate,
    read_coordinate,
)
from weather.data.composed import MergedVersions, Stacked
from weather.data.decoding import AnyVariable, DecodedVariable
from weather.data.names import Meaning, read_names, scalar_level
from weather.data.sources import RawStore, RawVariable
from weather.data.stored_field import DIMS
from weather.data.units import conversion
from weather.variables import VARIABLES

_LOGGER = logging.getLogger(__name__)

_HORIZONTAL = {'latitude', 'longitude'}
# Where a forecast of one start says when it started; the first that is there.
_STARTS = ('forecast_reference_time', 'time', 'init_time')
# Where a file of one time says when that is.
_ONE_TIME = ('valid_time', 'time')
# ERA5 and its first release, ERA5T, side by side.
_VERSIONS = 'expver'


@dataclasses.dataclass(frozen=True)
class Part:
    """Variables that share their axes: of one store, or of several joined.

    Attributes:
      variables: by name, with canonical dims in stored order.
      coordinates: by canonical dim, decoded, in stored order.
      refused: the reason, by name, of what is no field: foreign axes, units that do not
        convert, a damaged packing.
    """

    address: str
    attributes: Mapping[str, Any]
    variables: Mapping[str, AnyVariable]
    coordinates: Mapping[str, np.ndarray]
    time_attributes: Mapping[str, Any]
    stores: tuple[RawStore, ...]
    refused: Mapping[str, str]

    def close(self) -> None:
        """Lets go of open files."""
        for store in self.stores:
            store.close()


class Reading(NamedTuple):
    """How stores are read.

    Attributes:
      keep: names of the variables to be read; None for all that are fields.
      strict: whether a variable that cannot be read is an error, or is left out.
      forecasts: whether the time axis is that of the starts, which a store of one start
        may lack.
      several: whether there are other stores, to be joined along time: then a store may
        hold one time, as a number beside its fields.
    """

    keep: Collection[str] | None
    strict: bool = False
    forecasts: bool = False
    several: bool = False


def read_parts(store: RawStore, how: Reading) -> list[Part]:
    """Reads a store: a part, one more for each variable whose levels have own names.

    There is none where nothing is there of what is to be kept.

    Raises:
      ValueError: nothing that is a field, an axis without its coordinate, or, if
        strict, what stands in the way of a variable.
    """
    refused: dict[str, str] = {}
    meanings = dict(read_names(store, how.keep).meanings)
    if how.keep is None:
        meanings = _fields(store, meanings, refused)
        if not _any_horizontal(store, meanings):
            _tell_of_nothing(store, how, refused)
            return []
    families = {name: of for name, of in meanings.items() if of.levels}
    others = {name: of for name, of in meanings.items() if not of.levels}
    groups = [others] if others else []
    groups += [{name: of} for name, of in families.items()]
    parts = [_read_part(store, group, refused, how) for group in groups]
    held = [part for part in parts if part.variables]
    if parts and not held:
        raise ValueError('; '.join(refused.values()))
    return held


def _read_part(
    store: RawStore,
    meanings: Mapping[str, Meaning],
    refused: dict[str, str],
    how: Reading,
) -> Part:
    raws = {name: _raws(store, meaning) for name, meaning in meanings.items()}
    every = [raw for of_name in raws.values() for raw in of_name]
    found = canonical_axes({dim for raw in every for dim in raw.dims}, store)
    names, beside = _one_start(store, found) if how.forecasts else (found, {})
    if how.several and not how.forecasts:
        beside = _one_time(store, names)
    sizes = {d: n for raw in every for d, n in zip(raw.dims, raw.shape, strict=True)}
    coordinates = {
        dim: read_coordinate(dim, stored, sizes[stored], store)
        for stored, dim in names.items()
        if dim in DIMS and dim not in beside
    }
    variables = {}
    for name, of_name in raws.items():
        try:
            variable = _decode(store, name, meanings[name], of_name, names, beside)
            if 'level' in variable.dims and 'level' not in coordinates:
                coordinates['level'] = _levels(store, meanings[name], of_name[0])
            variables[name] = variable
        except ValueError as error:
            # One bad variable stops nobody who asks for what there is.
            if how.strict:
                raise
            refused[name] = str(error)
    part = Part(
        store.address,
        store.attributes,
        variables,
        {**beside, **coordinates},
        _time_attributes(store, names),
        (store,),
        refused,
    )
    _check_sizes(part)
    return part


def _raws(store: RawStore, meaning: Meaning) -> list[RawVariable]:
    found = [store.variable(stored) for stored in meaning.stored]
    return [raw for raw in found if raw is not None]


def _decode(
    store: RawStore,
    name: str,
    meaning: Meaning,
    raws: list[RawVariable],
    names: Mapping[str, str],
    beside: Mapping[str, np.ndarray],
) -> AnyVariable:
    known = VARIABLES.get(name)
    static = known is not None and known.role == 'static'
    added: tuple[str, ...] = ()
    if 'time' in beside and not static:
        added += ('time',)
    by_alias = meaning.stored != (name,)
    # A canonical name at one level may be meant without an axis: it was so before.
    if known and known.on_levels and by_alias and not meaning.levels:
        added += ('level',) if scalar_level(store, raws[0]) else ()
    levels: list[AnyVariable] = []
    for raw in raws:
        dims = (*added, *(names[dim] for dim in raw.dims))
        variable: AnyVariable = DecodedVariable(
            name, raw, dims, store.address, assumed_units=meaning.units
        )
        if raw.dims.count(_VERSIONS):
            variable = MergedVersions(variable, _VERSIONS, store.address)
        levels.append(variable)
    decoded = Stacked(levels) if meaning.levels else levels[0]
    if static and by_alias:
        _check_constant(decoded, meaning.stored[0], store.address)
    return decoded


def _check_constant(variable: AnyVariable, stored: str, source: str) -> None:
    """Refuses for a static what changes in time: a level that the file does not name.

    The old Climate Data Store gave `z` at one pressure level without saying which.
    """
    if 'time' not in variable.dims:
        return
    axis = variable.dims.index('time')
    whole = [slice(0, size) for size in variable.shape]
    ends = []
    for time in (0, variable.shape[axis] - 1):
        box = (*whole[:axis], slice(time, time + 1), *whole[axis + 1 :])
        ends.append(variable.read(box))
    changes = np.isfinite(ends[0]) & np.isfinite(ends[1]) & (ends[0] != ends[1])
    if changes.any():
        raise ValueError(
            f'expected {stored!r} without levels in {source} to be {variable.name}, '
            'which never changes, found other values at another time; if it is a '
            f'pressure level, say which: ds.expand_dims(level=[500])'
        )


def _levels(store: RawStore, meaning: Meaning, raw: RawVariable) -> np.ndarray:
    """Levels in hPa that are part of names, or the one that stands beside a field."""
    if meaning.levels:
        return np.array(meaning.levels)
    name = scalar_level(store, raw)
    assert name is not None
    variable = expected_coordinate('level', name, store)
    return decode_coordinate('level', name, variable, store.address).reshape(1)


def _one_time(store: RawStore, names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The one time of a store without an axis of times; nothing where it says none."""
    if 'time' in names.values():
        return {}
    held = set(store.names())
    for name in _ONE_TIME:
        variable = store.variable(name) if name in held else None
        if variable is not None and np.prod(variable.shape) == 1:
            time = decode_coordinate('time', name, variable, store.address)
            return {'time': time.reshape(1)}
    return {}


def _fields(
    store: RawStore, meanings: Mapping[str, Meaning], refused: dict[str, str]
) -> dict[str, Meaning]:
    """Keeps what holds numbers along axes that the project knows."""
    found = {name: _raws(store, of) for name, of in meanings.items()}
    return {
        name: meanings[name]
        for name, raws in found.items()
        if raws and _is_field(store, name, meanings[name], raws[0], refused)
    }


def _any_horizontal(store: RawStore, meanings: Mapping[str, Meaning]) -> bool:
    return any(
        _HORIZONTAL <= set(canonical_axes(set(raw.dims), store).values())
        for meaning in meanings.values()
        for raw in _raws(store, meaning)
    )


def _tell_of_nothing(store: RawStore, how: Reading, refused: Mapping[str, str]) -> None:
    """Says what a store without fields holds: an error, unless there are others."""
    if how.several and refused:
        for name, reason in refused.items():
            _LOGGER.warning('%s of %s is left out: %s', name, store.address, reason)
        return
    raws = {name: store.variable(name) for name in store.names()}
    held = (f'{name} {raw.dims}' for name, raw in raws.items() if raw is not None)
    message = (
        f'expected fields with dims latitude and longitude in {store.address}, '
        f'found {", ".join(held) or "nothing"}; rename its dims or regrid it'
    )
    if not how.several:
        raise ValueError(message)
    _LOGGER.warning('%s (the other stores are read)', message)


def _is_field(
    store: RawStore,
    name: str,
    meaning: Meaning,
    variable: RawVariable,
    refused: dict[str, str],
) -> bool:
    """Whether a variable is neither a coordinate nor a time nor along foreign axes.

    The last is put down in `refused`.
    """
    stated = str(variable.attributes.get('units', ''))
    is_time = ' since ' in stated or conversion(stated, 's') is not None
    is_axis = meaning.stored[0] in variable.dims
    if variable.dtype.kind not in 'iufb' or is_time or is_axis:
        return False
    if name in VARIABLES:
        return True  # Its axes are judged where it is used.
    names = canonical_axes(set(variable.dims), store)
    pairs = zip(variable.dims, variable.shape, strict=True)
    foreign = {
        dim: size
        for dim, size in pairs
        if names[dim] not in (*DIMS, _VERSIONS) and size > 1
    }
    if foreign and _HORIZONTAL <= set(names.values()):
        axes = ', '.join(f'{dim} ({size})' for dim, size in foreign.items())
        refused[name] = f'has the foreign axis {axes}: select along it'
    return bool(variable.dims) and not foreign


def _one_start(
    store: RawStore, names: Mapping[str, str]
) -> tuple[Mapping[str, str], Mapping[str, np.ndarray]]:
    """What axes and coordinates mean in a store of one start; as they are in others.

    Its start is a number beside the fields: of `forecast_reference_time` where `time`
    is the valid time (CF), or of `time` beside an axis of lead times (cfgrib).
    """
    if {'time', 'prediction_timedelta'} <= set(names.values()):
        return names, {}
    address = store.address
    for name in _STARTS:
        variable = None if name in names else store.variable(name)
        if variable is None or np.prod(variable.shape) != 1:
            continue
        start = decode_coordinate('time', name, variable, address).reshape(1)
        if 'prediction_timedelta' in names.values():
            return names, {'time': start}
        if 'time' not in names.values():
            return names, {}
        stored = next(name for name, dim in names.items() if dim == 'time')
        period = store.variable('forecast_period')
        # The lead times that the file states, or else those that its times imply.
        if period is None or period.dims != (stored,):
            # The size, 0 here, serves to count members only.
            valid = read_coordinate('time', stored, 0, store)
            leads = valid - start
        else:
            dim = 'prediction_timedelta'
            leads = decode_coordinate(dim, 'forecast_period', period, address)
        names = {**names, stored: 'prediction_timedelta'}
        return names, {'time': start, 'prediction_timedelta': leads}
    return names, {}


def _time_attributes(store: RawStore, names: Mapping[str, str]) -> dict[str, Any]:
    stored = next((name for name, dim in names.items() if dim == 'time'), None)
    variable = store.variable(stored) if stored else None
    attributes = {} if variable is None else variable.attributes
    # What says how times are stored: they are decoded by now.
    encoding = ('units', 'calendar', 'dtype', '_FillValue', '_ARRAY_DIMENSIONS')
    return {k: v for k, v in attributes.items() if k not in encoding}


def _check_sizes(part: Part) -> None:
    for name, variable in part.variables.items():
        sizes = {
            dim: part.coordinates[dim].size if dim in part.coordinates else size
            for dim, size in zip(variable.dims, variable.shape, strict=True)
        }
        if variable.shape != tuple(sizes.values()) or 0 in variable.shape:
            raise ValueError(
                f'expected {name} with sizes {sizes} as the coordinates have, and none '
                f'of them 0, found {variable.shape} in {part.address}; the store was '
                'not written to its end'
            )
