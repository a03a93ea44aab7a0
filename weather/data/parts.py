"""What a source holds: its stores opened, decoded, in our names, joined along time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from learning.spelling import did_you_mean
from weather.data import sources
from weather.data.axes import canonical_names, decode_coordinate, read_coordinate
from weather.data.decoding import AnyVariable, DecodedVariable, join
from weather.data.sources import RawStore, RawVariable
from weather.data.stored_field import DIMS
from weather.data.units import conversion
from weather.outputs import TIES
from weather.variables import VARIABLES

_HORIZONTAL = {'latitude', 'longitude'}
# Where a forecast of one start says when it started; the first that is there.
_STARTS = ('forecast_reference_time', 'time', 'init_time')


@dataclasses.dataclass(frozen=True)
class Part:
    """Variables of one store, or of several joined along time.

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


Wanted = Mapping[str, tuple[str, str]]


def open_parts(
    source: Any,
    options: sources.Options,
    wanted: Wanted | None,
    *,
    forecasts: bool = False,
) -> Part:
    """Opens the stores that `source` stands for and joins them along time.

    Args:
      source: see `sources.open_stores`.
      options: passed on to fsspec for an address.
      wanted: by name of the variables wanted, what each is and how to mend its absence;
        None for all that are fields.
      forecasts: whether the time axis is that of the starts, which a store of one start
        may lack.

    Raises:
      ValueError: nothing there, unreadable, a wanted variable is absent, nothing that
        is a field, or stores that do not belong together.
    """
    stores = sources.open_stores(source, options)
    parts = [_read_part(store, wanted, forecasts) for store in stores]
    if len(parts) == 1:
        return parts[0]
    several = isinstance(source, list | tuple)
    return _join(f'{len(parts)} stores' if several else str(source), parts)


def _read_part(store: RawStore, wanted: Wanted | None, forecasts: bool) -> Part:
    refused: dict[str, str] = {}
    if wanted is None:
        raws = _all_fields(store, refused)
    else:
        raws = _wanted_fields(store, wanted)
    found = canonical_names({dim for raw in raws.values() for dim in raw.dims})
    names, start = _one_start(store, found) if forecasts else (found, {})
    added = ('time',) if 'time' in start else ()
    sizes = {d: n for r in raws.values() for d, n in zip(r.dims, r.shape, strict=True)}
    coordinates = {
        dim: read_coordinate(dim, stored, sizes[stored], store)
        for stored, dim in names.items()
        if dim in DIMS and dim not in start
    }
    variables = {}
    for name, raw in raws.items():
        dims = (*added, *(names[dim] for dim in raw.dims))
        try:
            variables[name] = DecodedVariable(name, raw, dims, store.address)
        except ValueError as error:
            # One bad variable stops nobody who asks for what there is.
            if wanted is not None:
                raise
            refused[name] = str(error)
    if not variables:
        raise ValueError('; '.join(refused.values()))
    part = Part(
        store.address,
        store.attributes,
        variables,
        {**start, **coordinates},
        _time_attributes(store, names),
        (store,),
        refused,
    )
    _check_sizes(part)
    return part


def _all_fields(store: RawStore, refused: dict[str, str]) -> dict[str, RawVariable]:
    """Every variable that holds numbers along axes that the project knows."""
    found = {name: store.variable(name) for name in store.names()}
    fields = {
        name: variable
        for name, variable in found.items()
        if variable is not None and _is_field(name, variable, refused)
    }
    if any(_HORIZONTAL <= _canonical(variable) for variable in fields.values()):
        return fields
    held = (f'{n} {v.dims}' for n, v in found.items() if v is not None)
    raise ValueError(
        f'expected fields with dims latitude and longitude in {store.address}, found '
        f'{", ".join(held) or "nothing"}; rename its dims or regrid it'
    )


def _canonical(variable: RawVariable) -> set[str]:
    return set(canonical_names(set(variable.dims)).values())


def _is_field(name: str, variable: RawVariable, refused: dict[str, str]) -> bool:
    """Whether a variable is neither a coordinate nor a time nor along foreign axes.

    The last is put down in `refused`.
    """
    stated = str(variable.attributes.get('units', ''))
    is_time = ' since ' in stated or conversion(stated, 's') is not None
    if variable.dtype.kind not in 'iufb' or is_time or name in variable.dims:
        return False
    if name in VARIABLES:
        return True  # Its axes are judged where it is used.
    names = canonical_names(set(variable.dims))
    pairs = zip(variable.dims, variable.shape, strict=True)
    foreign = {dim: size for dim, size in pairs if names[dim] not in DIMS and size > 1}
    if foreign and _HORIZONTAL <= _canonical(variable):
        axes = ', '.join(f'{dim} ({size})' for dim, size in foreign.items())
        refused[name] = f'has the foreign axis {axes}: select along it'
    return bool(variable.dims) and not foreign


def _wanted_fields(store: RawStore, wanted: Wanted) -> dict[str, RawVariable]:
    found = {}
    for name, (what, fix) in wanted.items():
        variable = store.variable(name)
        if variable is None:
            names = sorted(set(store.names()) - set(DIMS))
            raise ValueError(
                f'expected {what} {name!r} in {store.address}, found none'
                f'{did_you_mean(name, names)}; {fix}; the store holds '
                f'{", ".join(names) or "nothing"}'
            )
        found[name] = variable
    return found


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


def _join(address: str, parts: Sequence[Part]) -> Part:
    first = parts[0]
    for part in parts[1:]:
        _check_together(part, first)
    if any('time' not in part.coordinates for part in parts):
        raise ValueError(
            f'expected a time axis in each of the {len(parts)} stores of {address}, to '
            'join them along; open one of them'
        )
    # By time, whatever their names or the order in which they were given.
    ordered = sorted(parts, key=lambda part: part.coordinates['time'][0])
    times = np.concatenate([part.coordinates['time'] for part in ordered])
    refused = {name: why for part in parts for name, why in part.refused.items()}
    variables = {
        name: join([_decoded(part, name) for part in ordered], 'time')
        for name in first.variables
        if name not in refused
    }
    if not variables:
        raise ValueError('; '.join(refused.values()))
    return dataclasses.replace(
        first,
        address=address,
        variables=variables,
        coordinates={**first.coordinates, 'time': times},
        stores=tuple(store for part in parts for store in part.stores),
        refused=refused,
    )


def _decoded(part: Part, name: str) -> DecodedVariable:
    variable = part.variables[name]
    assert isinstance(variable, DecodedVariable)  # Only what is joined is not.
    return variable


def _check_together(part: Part, first: Part) -> None:
    """Raises `ValueError` unless `part` can stand beside `first`."""
    address, other = part.address, first.address
    found, expected = ({*of.variables, *of.refused} for of in (part, first))
    if found != expected:
        raise ValueError(
            f'{address}: expected the variables of {other}, {sorted(expected)}, '
            f'got {sorted(found)}'
        )
    for name in TIES:
        of_first, of_part = first.attributes.get(name), part.attributes.get(name)
        if of_part != of_first:
            raise ValueError(
                f'{address}: {name} {of_part} differs from {of_first} of {other}; keep '
                'the forecasts of each run and checkpoint in their own directory'
            )
    for dim in first.coordinates.keys() | part.coordinates.keys() - {'time'}:
        if dim != 'time' and not np.array_equal(
            part.coordinates.get(dim, ()), first.coordinates.get(dim, ())
        ):
            raise ValueError(
                f'{address}: {dim} differs from that of {other}; '
                'keep the forecasts of each experiment in their own directory'
            )
    for name in part.variables.keys() & first.variables.keys():
        variable = part.variables[name]
        if variable.dims != first.variables[name].dims:
            raise ValueError(
                f'{address}: {name} has the dims {variable.dims}, in {other} '
                f'{first.variables[name].dims}; transpose one of them'
            )
