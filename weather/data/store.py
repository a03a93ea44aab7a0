"""Opening atmospheres, forecasts and climatologies: checked, lazy, in canonical order.

A source is a local path or an address (`gs://`, any fsspec protocol) of a Zarr group,
v2 or v3, consolidated or not; a netCDF or GRIB file; a directory (of directories), glob
pattern or list of these, which are joined along time, levels and side by side; or an
`xarray.Dataset`. Variables may have the names that the Climate Data Store, CMIP, NCEP
and others give them, dims any order and such names, either latitude direction,
longitudes from 0 or from -180, levels in any order, hPa or Pa. What comes out is always
the same: see `names` for what is recognised, `joining` for several files, `axes` and
`stored_field` for the order, `decoding` for the values. Nothing but coordinates and, by
`open_store`, one sample time of each variable is read until values are asked for.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import xarray
from xarray.core import indexing

from sphere_ops.grid import LatLonGrid
from weather.data import checks
from weather.data.axes import Axes, expect_grid, order_axes
from weather.data.composed import OneTime
from weather.data.joining import has_leads, open_parts
from weather.data.names import known_with_aliases
from weather.data.parts import Part
from weather.data.stored_field import DIMS, LazyField, StoredField
from weather.data.times import check_increasing, check_times, common_timestep
from weather.variables import VARIABLES, as_level, stored_statics

_LOGGER = logging.getLogger(__name__)

_COORDINATE_ATTRIBUTES = {
    'time': {'standard_name': 'time'},
    'level': {'standard_name': 'air_pressure', 'units': 'hPa', 'positive': 'down'},
    'latitude': {'standard_name': 'latitude', 'units': 'degrees_north'},
    'longitude': {'standard_name': 'longitude', 'units': 'degrees_east'},
}
# Said of stored numbers, and no longer true of values.
_PACKING = (
    '_FillValue', 'missing_value', 'scale_factor', 'add_offset', '_Unsigned',
    'valid_min', 'valid_max', 'valid_range', '_ARRAY_DIMENSIONS', 'coordinates',
    'grid_mapping',
)  # fmt: skip
_ATMOSPHERE_DIMS = ('time', 'level', 'latitude', 'longitude')
_VARIABLE = ('the variable', 'correct config.data.variables')
_STATIC = (
    'the static field',
    'add it to the store, or take it out of config.data.statics if the model shall do '
    'without',
)

Source = str | os.PathLike[str] | xarray.Dataset | Sequence[str | os.PathLike[str]]


@dataclasses.dataclass(frozen=True, eq=False)
class Atmosphere:
    """An opened store, for those who read many fields fast.

    Attributes:
      dataset: the lazy Dataset that `open_store` returns, statics included.
      fields: the variables, readable without xarray's overhead.
      levels: levels in hPa of each variable, floats where they are not whole; empty
        for one without levels.
    """

    source: str
    dataset: xarray.Dataset
    fields: Mapping[str, StoredField]
    levels: Mapping[str, tuple[float, ...]]
    grid: LatLonGrid

    @property
    def times(self) -> np.ndarray:
        """`[time]` datetime64[ns]."""
        return self.dataset['time'].values


def open_store(
    path: Source,
    *,
    levels: Mapping[str, Sequence[float]] | None = None,
    statics: Sequence[str] = (),
    grid: LatLonGrid | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> xarray.Dataset:
    """Opens a store as a lazy Dataset in canonical order, checked.

    Args:
      path: path, address, glob pattern, directory, list of these, or a Dataset.
      levels: variables wanted, with their levels in hPa; an empty sequence marks a
        variable without levels. None: every variable the project knows, all levels,
        where a level may be NaN throughout. The `level` axis holds, ascending, every
        level that some variable wants.
      statics: fields that never change, without a time axis in the result (a store may
        repeat them for every time; one is taken that is there, see `OneTime`).
      grid: the grid expected; None accepts any that `LatLonGrid` recognises.
      storage_options: passed on to fsspec for an address.

    Returns:
      Dataset with dims (time, level, latitude, longitude), float32.

    Raises:
      ValueError: the store is unreadable, holds nothing known, lacks a variable or
        level, lies on another grid, has times that do not fit one step, units that do
        not convert, or NaN everywhere in a channel asked for. `StoreNotFoundError`
        where nothing is there.
    """
    return open_atmosphere(
        path,
        levels=levels,
        statics=statics,
        grid=grid,
        storage_options=storage_options,
    ).dataset


def open_atmosphere(
    path: Source,
    *,
    levels: Mapping[str, Sequence[float]] | None = None,
    statics: Sequence[str] = (),
    grid: LatLonGrid | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Atmosphere:
    """Like `open_store`, with the fast readers that `Loader` needs beside the Dataset.

    Arguments and errors are those of `open_store`.
    """
    wanted = None
    if levels is not None:
        wanted = dict.fromkeys(levels, _VARIABLE) | dict.fromkeys(statics, _STATIC)
    part = open_parts(path, storage_options, wanted)
    source = part.address
    if has_leads(part):
        leads = part.coordinates['prediction_timedelta'] / np.timedelta64(1, 'h')
        raise ValueError(
            f'expected times at which fields are valid in {source}, found times of '
            f'starts and lead times of {leads.tolist()} h: these are forecasts; '
            'select one lead time, drop its axis, and add it to the times'
        )
    if levels is None:
        for name in part.refused.keys() & VARIABLES:
            raise ValueError(part.refused[name])
        levels = _known_levels(part, exclude=statics)
    part = _at_one_time(part, statics)
    chosen = {name: tuple(map(as_level, of_name)) for name, of_name in levels.items()}
    axes = order_axes(part.coordinates, source).with_levels(chosen, source)
    axes = axes._replace(grid=expect_grid(axes, source, grid))
    if 'time' in axes.coordinates:
        check_times(part.coordinates['time'], source)
    fields = {name: _moving_field(part, name, axes) for name in chosen}
    fixed = {name: _static_field(part, name, axes) for name in statics}
    for name, field in fields.items():
        _check_level_axis(field, chosen[name])
        checks.check_sample(field, chosen[name], axes, check_nan=wanted is not None)
    for field in fixed.values():
        checks.check_sample(field, (), axes, check_nan=True)
    dataset = _dataset(part, {**fields, **fixed}, axes)
    assert axes.grid is not None
    return Atmosphere(source, dataset, fields, chosen, axes.grid)


def open_dataset(
    source: Any,
    *,
    what: str,
    storage_options: Mapping[str, Any] | None = None,
    names: Collection[str] | None = None,
) -> xarray.Dataset:
    """Opens fields of any kind as a lazy Dataset in canonical order.

    Unlike `open_store` this asks for no variables, grid or time step: what two stores
    share can be compared, on a limited area too.

    Args:
      source: path, address, glob pattern, directory, list of these, or a Dataset.
      what: `'forecast'` where `time` is the start, else a name for messages: `'truth'`,
        `'climatology'`.
      storage_options: passed on to fsspec for an address.
      names: the only variables to look at, by their canonical names (or the store's own
        where nobody knows them); absent ones are simply absent, and those that never
        change have no axis of times, see `OneTime`. None: all there are, as stored.

    Returns:
      Every variable that holds numbers, float32, dims among `DIMS` in that order; known
      variables under canonical names and in SI units, unknown ones as they are.
      `preferred_chunks` stand in the encoding. A member axis of one is kept for
      forecasts alone. What is no field, or in units that do not convert, is left out
      with a warning; `refused` says why.

    Raises:
      ValueError: unreadable, nothing that is a field, an axis without its coordinate,
        no variable in units that convert. `StoreNotFoundError` where nothing is there.
    """
    part = open_parts(
        source, storage_options, None, names=names, forecasts=what == 'forecast'
    )
    if names is not None:
        part = _at_one_time(part, stored_statics())
    axes = order_axes(part.coordinates, part.address)
    if 'time' in axes.coordinates:
        # Starts are put in order, and may only not repeat; of other times disorder on
        # disk is a mistake.
        times = (axes if what == 'forecast' else part).coordinates['time']
        check_increasing(times, part.address)
    elif what == 'truth':
        raise ValueError(
            f'expected a time axis in {part.address}, found dims '
            f'{tuple(part.coordinates)}; a time that is a number is no axis: '
            "ds.expand_dims('time') makes it one"
        )
    one_member = what != 'forecast' and axes.sizes.get('member') == 1
    dims = [dim for dim in DIMS if not (dim == 'member' and one_member)]
    fields, reasons = {}, dict(part.refused)
    for name in part.variables:
        try:
            fields[name] = _field(part, name, axes, dims)
        except ValueError as error:
            reasons[name] = str(error)
    if not fields:
        raise ValueError('; '.join(reasons.values()))
    for name, reason in reasons.items():
        _LOGGER.warning('%s of %s is left out: %s', name, part.address, reason)
    dataset = _dataset(part, fields, axes)
    dataset.encoding |= {'source': part.address, 'refused': reasons}
    dataset.set_close(part.close)
    return dataset


def refused(dataset: xarray.Dataset) -> dict[str, str]:
    """Why, by name, `open_dataset` left a variable out."""
    return dict(dataset.encoding.get('refused', {}))


def timestep(dataset: xarray.Dataset) -> np.timedelta64:
    """Returns the time step of a store: the most common difference between times.

    `ValueError` for fewer than two times.
    """
    return common_timestep(dataset['time'].values)


def _at_one_time(part: Part, statics: Collection[str]) -> Part:
    """Takes the time from fields that never change, if the store repeats them."""
    times = part.coordinates.get('time', np.empty(0, 'datetime64[ns]'))
    # ARCO-ERA5's axis of times is longer than its data; its attributes say where.
    said = [part.attributes.get(f'valid_time_{end}') for end in ('start', 'stop')]
    likely = [int(np.searchsorted(times, np.datetime64(date))) for date in said if date]
    variables = {
        name: OneTime(variable, likely)
        if name in statics and 'time' in variable.dims
        else variable
        for name, variable in part.variables.items()
    }
    return dataclasses.replace(part, variables=variables)


def _field(
    part: Part, name: str, axes: Axes, dims: Collection[str] = _ATMOSPHERE_DIMS
) -> StoredField:
    """Joins a variable and the axes; other axes than `dims` may have one entry."""
    variable = part.variables[name]
    sizes = dict(zip(variable.dims, variable.shape, strict=True))
    foreign = [dim for dim, size in sizes.items() if dim not in dims and size > 1]
    horizontal = {'latitude', 'longitude'} <= set(sizes)
    if foreign or not (horizontal or name not in VARIABLES):
        raise ValueError(
            f'expected {name} with dims latitude, longitude and optionally '
            f'{", ".join(dim for dim in dims if dim not in DIMS[-2:])}, found '
            f'{variable.dims} in {part.address}; rename its dims or select along others'
        )
    return StoredField(
        name=name,
        source=part.address,
        variable=variable,
        positions={dim: axes.positions[dim] for dim in dims if dim in axes.positions},
        times=part.coordinates.get('time', np.empty(0, 'datetime64[ns]')),
    )


def _moving_field(part: Part, name: str, axes: Axes) -> StoredField:
    field = _field(part, name, axes)
    if 'time' not in field.dims:
        raise ValueError(
            f'expected a time axis in {name}, found dims {field.dims} in '
            f'{field.source}; a field that never changes belongs to the statics, and a '
            "time that is a number is no axis: ds.expand_dims('time') makes it one"
        )
    return field


def _static_field(part: Part, name: str, axes: Axes) -> StoredField:
    if name not in part.variables:
        what, fix = _STATIC
        raise ValueError(f'expected {what} {name!r} in {part.address}; {fix}')
    field = _field(part, name, axes)
    if 'level' in field.dims:
        raise ValueError(
            f'expected the static {name} without levels, found dims {field.dims} in '
            f'{field.source}; select one level'
        )
    return field


def _known_levels(
    part: Part, *, exclude: Sequence[str]
) -> dict[str, tuple[float, ...]]:
    """Every known variable with a time axis, at all levels of the store."""
    # Ascending, as the axis will be; the store may have them the other way round.
    vertical = np.sort(part.coordinates.get('level', np.empty(0))).tolist()
    levels = {
        name: tuple(map(as_level, vertical)) if 'level' in variable.dims else ()
        for name, variable in part.variables.items()
        if name in VARIABLES and name not in exclude and 'time' in variable.dims
    }
    if not levels:
        held = (f'{name} {of.dims}' for name, of in part.variables.items())
        raise ValueError(
            f'expected variables that the project knows, with a time axis, in '
            f'{part.address}, found {", ".join(held)}; rename them, or define them in '
            f'config.data.definitions: known are {known_with_aliases()}'
        )
    return levels


def _check_level_axis(field: StoredField, levels: Sequence[float]) -> None:
    if bool(levels) != ('level' in field.dims):
        expected = 'a level axis' if levels else 'no level axis'
        raise ValueError(
            f'expected {expected} in {field.name}, found dims {field.dims} in '
            f'{field.source}; correct its levels in config.data.variables'
        )


def _dataset(
    part: Part,
    fields: Mapping[str, StoredField],
    axes: Axes,
) -> xarray.Dataset:
    variables = {name: _lazy_variable(field) for name, field in fields.items()}
    used = {dim for variable in variables.values() for dim in variable.dims}
    attributes = {**_COORDINATE_ATTRIBUTES}
    # Its own words tell starts from valid times: see `forecasts.open_forecasts`.
    if part.time_attributes:
        attributes['time'] = dict(part.time_attributes)
    coordinates = {
        dim: (dim, values, attributes.get(dim, {}))
        for dim, values in axes.coordinates.items()
        if dim in used
    }
    return xarray.Dataset(variables, coordinates, dict(part.attributes))


def _lazy_variable(field: StoredField) -> xarray.Variable:
    stored = field.variable.attributes
    attributes = {k: v for k, v in stored.items() if k not in _PACKING}
    if field.name in VARIABLES:
        known = VARIABLES[field.name]
        attributes |= {
            'units': known.units,
            'standard_name': known.standard_name,
            'long_name': known.long_name,
        }
    # So that xarray adds up selections, and reads what is left of them at the end.
    data = indexing.LazilyIndexedArray(LazyField(field))
    encoding = {'preferred_chunks': field.chunks}
    return xarray.Variable(field.dims, data, attributes, encoding)
