"""Opening an atmosphere: a Zarr store, checked, lazily in canonical order.

A store is a local path or an address (`gs://`, any fsspec protocol), Zarr v2 or v3,
consolidated or not, dims in any order, either latitude direction, longitudes from 0 or
from -180, levels in any order. What `open_store` returns is always the same: dims
(time, level, latitude, longitude), rows from north to south, columns eastward from
Greenwich, levels ascending, float32, SI. Nothing but coordinates and one sample time of
each variable is read until values are asked for.

A chunk that the store lacks reads as its fill value: write stores with `fill_value`
NaN, so that a hole is seen.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray
import zarr
from xarray.core import indexing

from sphere_ops.grid import LatLonGrid
from weather.data import checks
from weather.data.axes import Axes, get_array, open_group, read_axes
from weather.data.stored_field import DIMS, LazyField, Packing, StoredField
from weather.data.times import common_timestep
from weather.variables import VARIABLES

_COORDINATE_ATTRIBUTES = {
    'time': {'standard_name': 'time'},
    'level': {'standard_name': 'air_pressure', 'units': 'hPa', 'positive': 'down'},
    'latitude': {'standard_name': 'latitude', 'units': 'degrees_north'},
    'longitude': {'standard_name': 'longitude', 'units': 'degrees_east'},
}


@dataclasses.dataclass(frozen=True, eq=False)
class Atmosphere:
    """An opened store, for those who read many fields fast.

    Attributes:
      source: path or address.
      dataset: the lazy Dataset that `open_store` returns, statics included.
      fields: the variables, readable without xarray's overhead.
      levels: levels in hPa of each variable; empty for one without levels.
      grid: where the fields are sampled.
    """

    source: str
    dataset: xarray.Dataset
    fields: Mapping[str, StoredField]
    levels: Mapping[str, tuple[int, ...]]
    grid: LatLonGrid

    @property
    def times(self) -> np.ndarray:
        """`[time]` datetime64[ns]."""
        return self.dataset['time'].values


def open_store(
    path: str | os.PathLike[str],
    *,
    levels: Mapping[str, Sequence[int]] | None = None,
    statics: Sequence[str] = (),
    grid: LatLonGrid | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> xarray.Dataset:
    """Opens a store as a lazy Dataset in canonical order, checked.

    Args:
      path: local path or address of a Zarr group.
      levels: variables wanted, with their levels in hPa; an empty sequence marks a
        variable without levels. None: every variable the project knows, all levels,
        where a level may be NaN throughout. The `level` axis holds, ascending, every
        level that some variable wants.
      statics: fields that never change, without a time axis in the result (a store may
        repeat them for every time; the first is taken).
      grid: the grid expected; None accepts any that `LatLonGrid` recognises.
      storage_options: passed on to fsspec for an address.

    Returns:
      Dataset with dims (time, level, latitude, longitude), float32.

    Raises:
      ValueError: the store is unreadable or not Zarr, lacks a variable or level, lies
        on another grid, has times that do not fit one step, holds other units, or NaN
        everywhere in a channel asked for. `StoreNotFoundError` where nothing is there.
    """
    return open_atmosphere(
        path,
        levels=levels,
        statics=statics,
        grid=grid,
        storage_options=storage_options,
    ).dataset


def open_atmosphere(
    path: str | os.PathLike[str],
    *,
    levels: Mapping[str, Sequence[int]] | None = None,
    statics: Sequence[str] = (),
    grid: LatLonGrid | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Atmosphere:
    """Like `open_store`, with the fast readers that `Loader` needs beside the Dataset.

    Arguments and errors are those of `open_store`.
    """
    source = os.fspath(path)
    group = open_group(source, storage_options)
    axes = read_axes(group, source, grid)
    check_nan = levels is not None
    if levels is None:
        levels = _known_levels(group, axes, exclude=statics)
    wanted = {name: tuple(int(p) for p in of_name) for name, of_name in levels.items()}
    axes = axes.with_levels(wanted, source)
    fields = {name: _stored_field(group, name, axes, source) for name in wanted}
    fixed = {name: _static_field(group, name, axes, source) for name in statics}
    for name, field in fields.items():
        _check_level_axis(field, wanted[name])
        checks.check_sample(field, wanted[name], axes, check_nan=check_nan)
    for field in fixed.values():
        checks.check_sample(field, (), axes, check_nan=True)
    dataset = _dataset(group, fields, fixed, axes)
    return Atmosphere(source, dataset, fields, wanted, axes.grid)


def timestep(dataset: xarray.Dataset) -> np.timedelta64:
    """Returns the time step of a store: the most common difference between times.

    Raises:
      ValueError: the store holds fewer than two times.
    """
    return common_timestep(dataset['time'].values)


def _dimension_names(array: zarr.Array) -> tuple[str, ...]:
    """Returns the names of the axes: v3 metadata, or xarray's attribute in v2."""
    attributes: dict[str, Any] = dict(array.attrs)
    named = getattr(array.metadata, 'dimension_names', None)
    return tuple(named or attributes.get('_ARRAY_DIMENSIONS') or ())


def _stored_dims(array: zarr.Array, name: str, source: str) -> tuple[str, ...]:
    dims = _dimension_names(array)
    if not {'latitude', 'longitude'} <= set(dims) <= set(DIMS):
        raise ValueError(
            f'expected {name} with dims latitude, longitude and optionally time and '
            f'level, found {dims} in {source}; rename its dims or select along others'
        )
    return dims


def _stored_field(group: zarr.Group, name: str, axes: Axes, source: str) -> StoredField:
    array = get_array(
        group, name, source, what='the variable', fix='correct config.data.variables'
    )
    dims = _stored_dims(array, name, source)
    if 'time' not in dims:
        raise ValueError(
            f'expected a time axis in {name}, found dims {dims} in {source}; a field '
            'that never changes belongs to the statics'
        )
    return _field(array, name, dims, axes, source)


def _static_field(group: zarr.Group, name: str, axes: Axes, source: str) -> StoredField:
    array = get_array(
        group,
        name,
        source,
        what='the static field',
        fix='add it to the store, or take it out of config.data.statics if the model '
        'shall do without',
    )
    dims = _stored_dims(array, name, source)
    if 'level' in dims:
        raise ValueError(
            f'expected the static {name} without levels, found dims {dims} in '
            f'{source}; select one level'
        )
    return _field(array, name, dims, axes, source)


def _field(
    array: zarr.Array, name: str, dims: tuple[str, ...], axes: Axes, source: str
) -> StoredField:
    """Joins array and axes; checks the sizes and the units attribute."""
    expected = tuple(axes.sizes.get(dim) for dim in dims)
    if array.shape != expected:
        raise ValueError(
            f'expected {name} with sizes {dict(zip(dims, expected, strict=True))} as '
            f'the coordinates have, found {array.shape} in {source}; the store was not '
            'written to its end'
        )
    attributes: dict[str, Any] = dict(array.attrs)
    checks.check_units(name, attributes.get('units'), source)
    return StoredField(
        name=name,
        source=source,
        array=array,
        stored_dims=dims,
        positions={dim: axes.positions[dim] for dim in dims},
        times=axes.coordinates.get('time', np.empty(0, 'datetime64[ns]')),
        packing=Packing.of(array),
    )


def _known_levels(
    group: zarr.Group, axes: Axes, *, exclude: Sequence[str]
) -> dict[str, tuple[int, ...]]:
    """Every known variable with a time axis, at all levels of the store."""
    levels: dict[str, tuple[int, ...]] = {}
    for name in sorted(set(group.array_keys()) & set(VARIABLES) - set(exclude)):
        array = group[name]
        dims = _dimension_names(array) if isinstance(array, zarr.Array) else ()
        if 'time' in dims:
            vertical = axes.coordinates['level'].tolist() if 'level' in dims else ()
            levels[name] = tuple(vertical)
    return levels


def _check_level_axis(field: StoredField, levels: Sequence[int]) -> None:
    if bool(levels) != ('level' in field.dims):
        expected = 'a level axis' if levels else 'no level axis'
        raise ValueError(
            f'expected {expected} in {field.name}, found dims {field.dims} in '
            f'{field.source}; correct its levels in config.data.variables'
        )


def _dataset(
    group: zarr.Group,
    fields: Mapping[str, StoredField],
    fixed: Mapping[str, StoredField],
    axes: Axes,
) -> xarray.Dataset:
    variables = {name: _lazy_variable(field) for name, field in fields.items()}
    for name, field in fixed.items():
        variable = _lazy_variable(field)
        variables[name] = variable.isel(time=0) if 'time' in field.dims else variable
    coordinates = {
        dim: (dim, axes.coordinates[dim], _COORDINATE_ATTRIBUTES[dim])
        for dim in DIMS
        if dim in axes.coordinates
        and any(dim in variable.dims for variable in variables.values())
    }
    attributes = {k: v for k, v in group.attrs.items() if not k.startswith('_')}
    return xarray.Dataset(variables, coordinates, attributes)


def _lazy_variable(field: StoredField) -> xarray.Variable:
    attributes = {}
    if field.name in VARIABLES:
        known = VARIABLES[field.name]
        attributes = {
            'units': known.units,
            'standard_name': known.standard_name,
            'long_name': known.long_name,
        }
    data = indexing.LazilyIndexedArray(LazyField(field))
    encoding = {'preferred_chunks': field.chunks}
    return xarray.Variable(field.dims, data, attributes, encoding)
