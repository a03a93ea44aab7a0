"""Stores to read from: six variables on 13 levels, one time to a chunk, made up.

Fields are smooth with a little noise, so that they compress about as reanalysis does:
to 60 to 70 % by what is in use.
"""

from __future__ import annotations

import concurrent.futures
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import numcodecs
import numpy as np
import xarray
import zarr

from sphere_ops.grid import LatLonGrid
from weather.data.checks import standard_geopotential
from weather.variables import WEATHERBENCH_LEVELS, get_variable

LEVELS = WEATHERBENCH_LEVELS
# Mean and spread that are plausible at every level; of geopotential see `_mean`.
VARIABLES: dict[str, tuple[float, float]] = {
    'geopotential': (0.0, 500.0),
    'specific_humidity': (2e-3, 2e-4),
    'temperature': (250.0, 10.0),
    'u_component_of_wind': (5.0, 8.0),
    'v_component_of_wind': (0.0, 8.0),
    'vertical_velocity': (0.0, 0.1),
}
_BLOSC = zarr.codecs.BloscCodec(cname='lz4', clevel=5, shuffle='shuffle')
_ZSTD = zarr.codecs.ZstdCodec(level=3)
_NOISE = 3e-4
_SHARD = 8  # Times.

# How a store may be laid out: options of `zarr.create_array`.
KINDS: dict[str, dict[str, Any]] = {
    'v3 raw': {'compressors': None},
    'v3 lz4': {'compressors': _BLOSC},
    'v3 zstd': {'compressors': _ZSTD},
    'v2 raw': {'zarr_format': 2, 'compressors': None},
    'v2 lz4': {'zarr_format': 2, 'compressors': numcodecs.Blosc('lz4', 5, 1)},
    'v2 zstd': {'zarr_format': 2, 'compressors': numcodecs.Zstd(3)},
    'v3 sharded raw': {'compressors': None, 'shards': _SHARD},
    'v3 sharded lz4': {'compressors': _BLOSC, 'shards': _SHARD},
    'v3 sharded zstd': {'compressors': _ZSTD, 'shards': _SHARD},
    'v3 int16 raw': {'compressors': None, 'dtype': 'int16'},
    'v3 int16 zstd': {'compressors': _ZSTD, 'dtype': 'int16'},
}


def size_of(name: str) -> LatLonGrid:
    """The grid of a size such as `'256x256'`."""
    num_lat, num_lon = map(int, name.split('x'))
    kind = 'equiangular_with_poles' if num_lat == num_lon else 'equiangular'
    return LatLonGrid(kind, num_lat=num_lat, num_lon=num_lon)


def write(
    folder: pathlib.Path, kind: str, grid: LatLonGrid, *, num_times: int
) -> pathlib.Path:
    """Writes a store, unless it is there; whole or not at all. Returns its path."""
    name = f'{kind} {grid.num_lat}x{grid.num_lon} {num_times}'.replace(' ', '_')
    path = folder / f'{name}.zarr'
    if path.exists():
        return path
    unfinished = path.with_suffix('.tmp')
    shutil.rmtree(unfinished, ignore_errors=True)
    options = dict(KINDS[kind])
    zarr_format = options.pop('zarr_format', 3)
    _coordinates(grid, num_times).to_zarr(
        unfinished, zarr_format=zarr_format, consolidated=False
    )
    group = zarr.open_group(unfinished, mode='r+')
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(
            pool.map(
                lambda name: _write_field(group, name, grid, num_times, options),
                VARIABLES,
            )
        )
    unfinished.rename(path)
    return path


def _coordinates(grid: LatLonGrid, num_times: int) -> xarray.Dataset:
    start = np.datetime64('2001-01-01', 'ns')
    return xarray.Dataset(
        coords={
            'time': start + np.arange(num_times) * np.timedelta64(6, 'h'),
            'level': list(LEVELS),
            'latitude': grid.latitudes,
            'longitude': grid.longitudes,
        }
    )


def _write_field(
    group: zarr.Group,
    name: str,
    grid: LatLonGrid,
    num_times: int,
    options: Mapping[str, Any],
) -> None:
    shape = (num_times, len(LEVELS), *grid.shape)
    attributes: dict[str, Any] = {'units': get_variable(name).units}
    packed = options.get('dtype') == 'int16'
    middle = (_mean(name).max() + _mean(name).min()) / 2
    offset, scale = middle, 0.0
    if packed:
        # Half the range of the integers for the spread over levels and points.
        scale = (np.ptp(_mean(name)) + 20 * VARIABLES[name][1]) / 2**16
        attributes |= {'scale_factor': float(scale), 'add_offset': float(offset)}
    dims = ['time', 'level', 'latitude', 'longitude']
    others = {k: v for k, v in options.items() if k not in ('dtype', 'shards')}
    if group.metadata.zarr_format == 2:
        attributes['_ARRAY_DIMENSIONS'] = dims
    else:
        others['dimension_names'] = dims
    if 'shards' in options:
        others['shards'] = (options['shards'], *shape[1:])
    array = group.create_array(
        name,
        shape=shape,
        chunks=(1, *shape[1:]),
        dtype='int16' if packed else 'float32',
        fill_value=-(2**15) if packed else np.nan,
        attributes=attributes,
        **others,
    )
    step = options.get('shards', 1)
    fields = _Fields(name, grid)
    for first in range(0, num_times, step):
        values = np.stack([fields(t) for t in range(first, first + step)])
        if packed:
            values = np.round((values - offset) / scale).astype(np.int16)
        array[first : first + step] = values[: num_times - first]


class _Fields:
    """Waves that travel eastward, `[level, lat, lon]`."""

    def __init__(self, name: str, grid: LatLonGrid):
        self._random = np.random.default_rng(list(VARIABLES).index(name))
        shape = (len(LEVELS), *grid.shape)
        noise = np.fft.rfft2(self._random.standard_normal(shape))
        rows = np.fft.fftfreq(shape[1])[:, None] * shape[1]
        columns = np.fft.rfftfreq(shape[2]) * shape[2]
        smooth = np.fft.irfft2(
            noise / (1 + (rows**2 + columns**2) / 9) ** 1.5, shape[1:]
        )
        self._wave = (smooth / smooth.std()).astype(np.float32)
        self._mean = _mean(name)[:, None, None].astype(np.float32)
        self._spread = np.float32(VARIABLES[name][1])

    def __call__(self, time: int) -> np.ndarray:
        noise = self._random.standard_normal(self._wave.shape, np.float32)
        wave = np.roll(self._wave, time, axis=-1) + np.float32(_NOISE) * noise
        return self._mean + self._spread * np.clip(wave, -4, 4)


def _mean(name: str) -> np.ndarray:
    if name == 'geopotential':
        return np.array([standard_geopotential(level) for level in LEVELS])
    return np.full(len(LEVELS), VARIABLES[name][0])
