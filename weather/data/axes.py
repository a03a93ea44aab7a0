"""The axes of a store: how it is opened, its coordinates, their canonical order."""

from __future__ import annotations

import difflib
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray
import zarr

from learning.spelling import did_you_mean
from sphere_ops.grid import LatLonGrid
from weather.data.stored_field import DIMS
from weather.data.times import check_times


class StoreNotFoundError(ValueError, FileNotFoundError):
    """No store at the path."""


class Axes(NamedTuple):
    """Canonical coordinates of a store and where each entry stands on disk.

    Attributes:
      grid: where the fields are sampled.
      coordinates: canonical coordinate by dim; times as datetime64[ns].
      positions: by dim, the place on the stored axis of each canonical entry.
      sizes: lengths of the stored axes.
    """

    grid: LatLonGrid
    coordinates: Mapping[str, np.ndarray]
    positions: Mapping[str, np.ndarray]
    sizes: Mapping[str, int]

    def with_levels(self, levels: Mapping[str, Sequence[int]], source: str) -> Axes:
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
                raise ValueError(
                    f'expected {name} at levels {tuple(of_name)} hPa, {source} lacks '
                    f'{tuple(absent)}; it has {tuple(found.tolist())}: correct '
                    f'config.data.variables'
                )
        keep = np.isin(found, sorted({p for of in levels.values() for p in of}))
        if not keep.any():
            return self
        return self._replace(
            coordinates={**self.coordinates, 'level': found[keep]},
            positions={**self.positions, 'level': self.positions['level'][keep]},
        )


def open_group(source: str, options: Mapping[str, Any] | None) -> zarr.Group:
    """Opens the Zarr group at `source`; without credentials, anonymously."""
    if '://' not in source:
        _check_local(source)
        attempts: list[dict[str, Any] | None] = [None]
    else:
        attempts = [dict(options or {})]
    if source.startswith(('gs://', 'gcs://')):
        if 'STORAGE_EMULATOR_HOST' in os.environ:
            # gcsfs would open gRPC over TLS to the emulator, and hang.
            os.environ.setdefault('GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT', 'false')
        if 'token' not in (options or {}):
            attempts.append({**(options or {}), 'token': 'anon'})
    failure: Exception | None = None
    for attempt in attempts:
        try:
            return zarr.open_group(source, mode='r', storage_options=attempt)
        # File systems and the network raise whatever they like.
        except Exception as error:
            failure = failure or error
    kind = StoreNotFoundError if isinstance(failure, FileNotFoundError) else ValueError
    raise kind(
        f'expected a Zarr group (v2 or v3) at {source}, found none: '
        f'{type(failure).__name__}: {failure}; check the path and the permissions, and '
        'convert other formats with xarray.Dataset.to_zarr'
    ) from failure


def _check_local(source: str) -> None:
    path = pathlib.Path(source)
    if path.exists():
        return
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=1)
    hint = f', did you mean {str(path.parent / near[0])!r}?' if near else ''
    raise StoreNotFoundError(
        f'expected a Zarr store at {source}, found nothing there{hint}; check the path'
    )


def read_axes(group: zarr.Group, source: str, grid: LatLonGrid | None) -> Axes:
    """Reads the coordinates and finds their canonical order."""
    latitude = _coordinate(group, 'latitude', source)
    longitude = _coordinate(group, 'longitude', source)
    rows = np.argsort(-latitude, kind='stable')
    # Shifted by the tolerance, so that -1e-7 degrees counts as 0 and not as 360.
    eastward = np.mod(longitude + 1e-3, 360) - 1e-3
    columns = np.argsort(eastward, kind='stable')
    found = _recognise(latitude[rows], eastward[columns], source, grid)
    coordinates = {'latitude': found.latitudes, 'longitude': found.longitudes}
    positions = {'latitude': rows, 'longitude': columns}
    if 'level' in group:
        level = _coordinate(group, 'level', source)
        positions['level'] = np.argsort(level, kind='stable')
        whole = np.all(level == np.round(level))
        level = level[positions['level']]
        coordinates['level'] = level.astype(np.int64) if whole else level
    if 'time' in group:
        coordinates['time'] = _times(group, source)
        positions['time'] = np.arange(coordinates['time'].size)
    sizes = {dim: places.size for dim, places in positions.items()}
    return Axes(found, coordinates, positions, sizes)


def _recognise(
    latitude: np.ndarray, longitude: np.ndarray, source: str, grid: LatLonGrid | None
) -> LatLonGrid:
    """Returns the store's grid; `ValueError` if unknown or not the one expected."""
    try:
        found = LatLonGrid.from_latitudes_longitudes(latitude, longitude)
    except ValueError as error:
        expected = f'expected {grid} in' if grid else 'unknown grid in'
        raise ValueError(f'{expected} {source}: {error}') from None
    if grid is not None and found != grid:
        raise ValueError(
            f'expected {grid}, found {found} in {source}; set config.grid to the '
            "store's grid, or regrid the store"
        )
    return found


def get_array(
    group: zarr.Group, name: str, source: str, *, what: str, fix: str
) -> zarr.Array:
    """Returns the array `name` of an opened store.

    Raises:
      ValueError: it is not there (`what` says what it is, `fix` what to do; the nearest
        name is given), or its metadata cannot be read.
    """
    try:
        array = group.get(name)
    # As in StoredField: damaged bytes raise anything.
    except Exception as error:
        raise ValueError(
            f'cannot read the metadata of {name} in {source}: {error}; copy them again '
            'from their source'
        ) from error
    if isinstance(array, zarr.Array):
        return array
    names = sorted(key for key in group.array_keys() if key not in DIMS)
    raise ValueError(
        f'expected {what} {name!r} in {source}, found none'
        f'{did_you_mean(name, names)}; {fix}; the store holds '
        f'{", ".join(names) or "nothing"}'
    )


def _coordinate(group: zarr.Group, name: str, source: str) -> np.ndarray:
    array = get_array(
        group, name, source, what='the coordinate', fix='rename the coordinates'
    )
    try:
        values = np.asarray(array[:])
    # As in StoredField: damaged bytes raise anything.
    except Exception as error:
        raise ValueError(
            f'cannot read the coordinate {name} of {source}: {error}; the chunk is '
            'truncated or damaged: copy it again from its source'
        ) from error
    if name == 'time':
        return values
    return values.astype(np.float64)


def _times(group: zarr.Group, source: str) -> np.ndarray:
    """Returns the decoded, checked times, datetime64[ns]."""
    stored = _coordinate(group, 'time', source)
    attributes = {
        key: group['time'].attrs[key]
        for key in ('units', 'calendar')
        if key in group['time'].attrs
    }
    encoded = xarray.Dataset(coords={'time': ('time', stored, attributes)})
    times = xarray.decode_cf(encoded)['time'].values
    if not np.issubdtype(times.dtype, np.datetime64):
        raise ValueError(
            'expected times with units such as "hours since 1959-01-01" in the '
            f'standard calendar, found {attributes} in {source}; write the store with '
            'xarray, which encodes times so'
        )
    times = times.astype('datetime64[ns]')
    check_times(times, source)
    return times
