"""The axes of a store: what they are called, their coordinates, their canonical order.

Orientation is fixed here and nowhere else: rows from north to south, columns eastward
from Greenwich, levels ascending in hPa, times ascending.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sphere_ops.grid import COORDINATE_TOLERANCE_DEGREES, LatLonGrid, is_global
from weather.data import units
from weather.data.decoding import Packing
from weather.data.sources import RawStore, RawVariable
from weather.data.stored_field import DIMS
from weather.data.times import decode_lead_times, decode_times
from weather.variables import as_level

_LOGGER = logging.getLogger(__name__)

# What others call the axes: the Climate Data Store, cfgrib, CMIP, WeatherBench 2's
# ensembles, GraphCast. Between two that mean the same, the earlier is the axis.
ALIASES: dict[str, tuple[str, ...]] = {
    'time': ('valid_time', 'init_time', 'initial_time', 'forecast_reference_time'),
    'prediction_timedelta': ('step', 'lead_time', 'leadtime', 'forecast_period'),
    'member': ('number', 'realization', 'ensemble_member', 'ensemble'),
    'level': (
        'pressure_level',
        'isobaricInhPa',
        'isobaricInPa',
        'plev',
        'pressure',
        'lev',
        'levels',
        'isobaric',
        'air_pressure',
    ),
    'latitude': ('lat',),
    'longitude': ('lon',),
}
_PREPARE = 'prepare it with scripts/prepare_data.py, which regrids'
# Names that models give to levels of their own too.
_OTHER_LEVELS = ('lev', 'levels')
# What files say of the axes, by the CF conventions.
CF_ATTRIBUTES: Mapping[str, Mapping[str, str]] = {
    'level': {
        'standard_name': 'air_pressure',
        'long_name': 'pressure level',
        'units': 'hPa',
        'positive': 'down',
        'axis': 'Z',
    },
    'latitude': {
        'standard_name': 'latitude',
        'long_name': 'latitude',
        'units': 'degrees_north',
        'axis': 'Y',
    },
    'longitude': {
        'standard_name': 'longitude',
        'long_name': 'longitude',
        'units': 'degrees_east',
        'axis': 'X',
    },
}
# No pressure of a terrestrial atmosphere exceeds this, hPa.
_MAX_PRESSURE_HPA = 1100.0


class Axes(NamedTuple):
    """Canonical coordinates of a store and where each entry stands on disk.

    Attributes:
      grid: where the fields are sampled; None where it is none of the global grids.
      coordinates: canonical coordinate by dim; times as datetime64[ns].
      positions: by dim, the place on the stored axis of each canonical entry.
      sizes: lengths of the stored axes.
    """

    grid: LatLonGrid | None
    coordinates: Mapping[str, np.ndarray]
    positions: Mapping[str, np.ndarray]
    sizes: Mapping[str, int]

    def with_levels(self, levels: Mapping[str, Sequence[float]], source: str) -> Axes:
        """Keeps the levels that some variable wants; `ValueError` for one not there."""
        if 'level' not in self.coordinates:
            if any(levels.values()):
                raise ValueError(
                    f'expected levels, found no level axis in {source}; give its '
                    'variables an empty sequence of levels'
                )
            return self
        found = self.coordinates['level']
        for name, of_name in levels.items():
            absent = sorted(set(of_name) - set(found.tolist()))
            if absent:
                in_pascal = {level / 100 for level in absent} <= set(found.tolist())
                hint = ' (they are counted in hPa here)' if in_pascal else ''
                raise ValueError(
                    f'expected {name} at levels {tuple(of_name)} hPa, {source} lacks '
                    f'{tuple(absent)}; it has {tuple(found.tolist())}{hint}: correct '
                    f'config.data.variables'
                )
        keep = np.isin(found, sorted({p for of in levels.values() for p in of}))
        if not keep.any():
            return self  # None is wanted, and an axis has to have an entry.
        return self._replace(
            coordinates={**self.coordinates, 'level': _as_levels(found[keep])},
            positions={**self.positions, 'level': self.positions['level'][keep]},
        )


def canonical_names(dims: Collection[str]) -> dict[str, str]:
    """Returns what the axes found are called here, by their stored names.

    Names are compared whatever their case. An axis that nobody knows, or that means the
    same as another one, keeps its name.
    """
    names = {dim: dim for dim in dims}
    # Of two that differ in case only, the one spelt as here.
    spelt = {dim.casefold(): dim for dim in sorted(dims)} | {dim: dim for dim in dims}
    for canonical, others in ALIASES.items():
        aliases = (name.casefold() for name in others)
        found = next((spelt[n] for n in (canonical, *aliases) if n in spelt), None)
        if found is not None:
            names[found] = canonical
    return names


def canonical_axes(dims: Collection[str], store: RawStore) -> dict[str, str]:
    """Like `canonical_names`; levels of a model keep their name, as foreign axes do."""
    names = canonical_names(dims)
    for name in _OTHER_LEVELS:
        if names.get(name) == 'level' and not _is_pressure(store.variable(name)):
            names[name] = name
    return names


def _is_pressure(coordinate: RawVariable | None) -> bool:
    if coordinate is None:
        return False
    attributes = coordinate.attributes
    words = ' '.join(map(str, attributes.values())).lower()
    in_pressure = units.conversion(str(attributes.get('units', '')), 'hPa') is not None
    model_levels = (
        'formula_terms' in attributes or 'hybrid' in words or 'sigma' in words
    )
    return in_pressure and not model_levels


def read_coordinate(dim: str, name: str, size: int, store: RawStore) -> np.ndarray:
    """Returns the coordinate `name` of the axis `dim`, decoded, in stored order.

    Members of which nothing is said are counted, `size` of them.

    Raises:
      ValueError: it is not there, unreadable, not of one axis or in other units.
    """
    if dim == 'member' and store.variable(name) is None:
        return np.arange(size)
    variable = expected_coordinate(dim, name, store)
    if dim == 'time' and not _is_time(variable):
        # GraphCast's data sets: time since the first, and `datetime` beside it.
        beside = store.variable('datetime')
        if beside is not None and name in beside.dims and _is_time(beside):
            if np.prod(beside.shape) == size:
                return decode_coordinate(dim, 'datetime', beside, store.address)
    if len(variable.shape) != 1:
        raise ValueError(
            f'expected the coordinate {name} with one axis in {store.address}, found '
            f'dims {variable.dims}; regrid to rows of latitude and columns of longitude'
        )
    return decode_coordinate(dim, name, variable, store.address)


def _is_time(variable: RawVariable) -> bool:
    is_decoded = variable.dtype.kind in 'MO'
    return is_decoded or ' since ' in str(variable.attributes.get('units', ''))


def expected_coordinate(dim: str, name: str, store: RawStore) -> RawVariable:
    """Returns the coordinate as stored; `ValueError` where it is not there."""
    variable = store.variable(name)
    if variable is None:
        raise ValueError(
            f'expected the coordinate {name!r} of the axis {dim} in {store.address}, '
            'found none; add it to the store: without it nobody knows what the entries '
            'of the axis are'
        )
    return variable


def decode_coordinate(
    dim: str, name: str, variable: RawVariable, source: str
) -> np.ndarray:
    """Returns a coordinate's values, decoded by the axis that it belongs to."""
    try:
        stored = variable.read(tuple(slice(0, size) for size in variable.shape))
    # Damaged bytes raise anything.
    except Exception as error:
        raise ValueError(
            f'cannot read the coordinate {name} of {source}: {error}; the chunk is '
            'truncated or damaged: copy it again from its source'
        ) from error
    stored = stored.ravel() if stored.ndim > 1 else stored
    attributes = variable.attributes
    if dim == 'time':
        return decode_times(stored, attributes, source)
    if dim == 'prediction_timedelta':
        return decode_lead_times(stored, attributes, source)
    if stored.dtype.kind not in 'iuf':
        if dim == 'member':
            return np.arange(stored.size)  # Named, as r1i1p1: counted.
        raise ValueError(f'expected numbers in {name} of {source}, got {stored.dtype}')
    values = Packing.of(stored.dtype, attributes).unpack(stored).astype(np.float64)
    if dim == 'level':
        return _pressures(values, name, attributes, source)
    if not np.isfinite(values).all():
        raise ValueError(f'expected numbers in {name} of {source}, found missing ones')
    return _as_levels(values) if dim in ('member', 'hour', 'dayofyear') else values


def _pressures(
    values: np.ndarray, name: str, attributes: Mapping[str, Any], source: str
) -> np.ndarray:
    """Returns levels in hPa; those in Pa are told by their units, name or size."""
    found = str(attributes.get('units') or '').strip()
    if found.lower() in ('', '1', 'level', 'levels'):
        in_pascal = name in ('plev', 'isobaricInPa') or np.max(values, initial=0) > (
            _MAX_PRESSURE_HPA
        )
        found = 'Pa' if in_pascal else 'hPa'
    converted = units.conversion(found, 'hPa')
    if converted is None:
        raise ValueError(
            f'expected levels in hPa, found {name} in {found!r} in {source}; '
            'interpolate to levels of pressure, or correct the attribute'
        )
    # 0.4 hPa in float32 is 0.4000000059604645.
    levels = np.round(values * converted.factor + converted.offset, 6)
    if not ((levels > 0) & (levels < _MAX_PRESSURE_HPA)).all():
        raise ValueError(
            f'expected levels between 0 and {_MAX_PRESSURE_HPA:g} hPa, found '
            f'{levels.tolist()} in {source}; correct the units of {name}'
        )
    return levels


def order_axes(stored: Mapping[str, np.ndarray], source: str) -> Axes:
    """Finds the canonical order of coordinates that are in stored order.

    Raises:
      ValueError: a coordinate that repeats a value.
    """
    positions = {
        dim: np.argsort(values, kind='stable')
        for dim, values in stored.items()
        if dim not in ('latitude', 'longitude')
    }
    columns = eastward(stored['longitude'])
    positions |= {
        'latitude': np.argsort(-stored['latitude'], kind='stable'),
        'longitude': _columns(columns, stored['longitude'], source),
    }
    by_dim = {**stored, 'longitude': columns}
    ordered = {dim: by_dim[dim][places] for dim, places in positions.items()}
    for dim, values in ordered.items():
        if dim != 'time':  # `times` says more of these.
            _check_distinct(dim, values, source)
    if 'level' in ordered:
        ordered['level'] = _as_levels(ordered['level'])
    try:
        grid = LatLonGrid.from_latitudes_longitudes(
            ordered['latitude'], ordered['longitude']
        )
        # The grid's own numbers: stores round theirs, each in its way.
        ordered |= {'latitude': grid.latitudes, 'longitude': grid.longitudes}
    except ValueError:  # To be scored all the same; `expect_grid` is for models.
        grid = None
    dims = [dim for dim in DIMS if dim in stored]
    return Axes(
        grid,
        {dim: ordered[dim] for dim in dims},
        {dim: positions[dim] for dim in dims},
        {dim: stored[dim].size for dim in dims},
    )


def expect_grid(axes: Axes, source: str, grid: LatLonGrid | None) -> LatLonGrid:
    """Returns the store's grid; `ValueError` if unknown or not the one expected."""
    found = axes.grid
    if found is None:
        latitude, longitude = (
            axes.coordinates['latitude'],
            axes.coordinates['longitude'],
        )
        expected = f'expected {grid} in' if grid else 'unknown grid in'
        if not is_global(latitude, longitude):
            raise ValueError(
                f'{expected} {source}: found a limited area, latitude '
                f'{latitude.min():g} to {latitude.max():g}, longitude '
                f'{longitude.min():g} to {longitude.max():g} '
                f'({latitude.size} x {longitude.size})'
                f'{_missing_pole(latitude, longitude)}'
            )
        try:  # Once more, to say what is wrong with it.
            return LatLonGrid.from_latitudes_longitudes(latitude, longitude)
        except ValueError as error:
            raise ValueError(f'{expected} {source}: {error}; or {_PREPARE}') from None
    if grid is not None and found != grid:
        raise ValueError(
            f'expected {grid}, found {found} in {source}; set config.grid to the '
            f"store's grid, or {_PREPARE}"
        )
    return found


def _missing_pole(latitude: np.ndarray, longitude: np.ndarray) -> str:
    """What to do about a grid that is not global; 720 of 721 rows nearly are."""
    spacing = np.abs(np.diff(latitude))
    even = np.ptp(spacing) < COORDINATE_TOLERANCE_DEGREES
    ends = 90 - np.abs(latitude[[0, -1]])
    one_short = np.isclose(np.sort(ends), [0, spacing[0]], 0, 1e-3).all()
    if even and one_short and np.diff(longitude).max() < 1.5 * 360 / longitude.size:
        pole = 'south' if ends[1] > ends[0] else 'north'
        return f': only the row at the {pole} pole is missing; {_PREPARE}'
    return '; a model needs the whole globe, only scores can be had on less'


def eastward(longitude: np.ndarray) -> np.ndarray:
    """Returns longitudes in degrees from Greenwich, 0 up to 360."""
    # Shifted by the tolerance, so that -1e-7 degrees counts as 0 and not as 360.
    tolerance = COORDINATE_TOLERANCE_DEGREES
    return np.round(np.mod(longitude + tolerance, 360) - tolerance, 9)


def _columns(eastward: np.ndarray, longitude: np.ndarray, source: str) -> np.ndarray:
    columns = np.argsort(eastward, kind='stable')
    span = abs(longitude[-1] - longitude[0]) if longitude.size > 2 else 0.0
    if abs(span - 360) > COORDINATE_TOLERANCE_DEGREES:
        return columns
    _LOGGER.warning(
        'the last column of %s, longitude %g, repeats the first and is left out',
        source,
        longitude[-1],
    )
    return columns[columns != longitude.size - 1]


def _check_distinct(dim: str, values: np.ndarray, source: str) -> None:
    repeated = np.flatnonzero(values[1:] == values[:-1])
    if repeated.size:
        value = values[repeated[0]]
        if values.dtype.kind == 'm':
            found = f'{value / np.timedelta64(1, "h"):g} h'
        else:
            found = f'{value:g}'
        raise ValueError(
            f'expected each {dim} once, {dim} holds the same value twice, {found}, '
            f"in {source}; drop the repetition: ds.drop_duplicates('{dim}')"
        )


def _as_levels(values: np.ndarray) -> np.ndarray:
    """Whole numbers as integers, so that 500 hPa is 500 and 12.5 hPa is not cut."""
    whole = all(isinstance(as_level(value), int) for value in values)
    return values.astype(np.int64) if whole else values.astype(np.float64)
