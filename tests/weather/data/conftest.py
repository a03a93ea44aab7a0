"""A store whose values are their coordinates, so that any misplacement shows."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from sphere_ops.grid import LatLonGrid
from weather.data.checks import standard_geopotential

GRID = LatLonGrid('equiangular', num_lat=6, num_lon=8)
LEVELS = {
    'geopotential': (500, 850),
    'temperature': (850, 300),
    '2m_temperature': (),
    'u_component_of_wind': (300,),
    'v_component_of_wind': (300,),
}
STATICS = ('geopotential_at_surface', 'land_sea_mask')
STORED_LEVELS = (300, 500, 850)


def coded(name, *, time, level, latitude, longitude):
    """A plausible value that differs for every variable, time, level and place."""
    place = latitude / 90 + longitude / 3600
    if name == 'geopotential':
        return standard_geopotential(level) + 10 * time + place
    if name == 'temperature':
        return 200 + level / 20 + time / 10 + place
    if name == '2m_temperature':
        return 290 + time / 10 + place
    sign = {'u_component_of_wind': 1, 'v_component_of_wind': -1}[name]
    return sign * (10 + level / 100 + time / 10 + place)


def _field(name, times):
    levels = [0] if name == '2m_temperature' else STORED_LEVELS
    latitude, longitude = np.meshgrid(GRID.latitudes, GRID.longitudes, indexing='ij')
    values = [
        [
            coded(name, time=t, level=p, latitude=latitude, longitude=longitude)
            for p in levels
        ]
        for t in range(times)
    ]
    stacked = np.array(values, np.float32)
    if name == '2m_temperature':
        return ('time', 'latitude', 'longitude'), stacked[:, 0]
    return ('time', 'level', 'latitude', 'longitude'), stacked


@pytest.fixture
def coded_dataset() -> xr.Dataset:
    """Twenty times, six hours apart, canonical."""
    times = 20
    mask = np.zeros(GRID.shape, np.float32)
    mask[1, 2] = 1.0
    variables = {name: _field(name, times) for name in LEVELS}
    variables['land_sea_mask'] = ('latitude', 'longitude'), mask
    variables['geopotential_at_surface'] = ('latitude', 'longitude'), 1e4 * mask
    start = np.datetime64('2000-01-01T00', 'ns')
    return xr.Dataset(
        variables,
        coords={
            'time': start + np.arange(times) * np.timedelta64(6, 'h'),
            'level': list(STORED_LEVELS),
            'latitude': GRID.latitudes,
            'longitude': GRID.longitudes,
        },
    )


@pytest.fixture
def write_store(tmp_path) -> Callable[..., str]:
    """Writes a Dataset as Zarr, one time per chunk, and returns the path."""

    def write(dataset, *, name='atmosphere.zarr', zarr_format=2, **options):
        encoding = {
            key: {
                'chunks': tuple(
                    1 if dim == 'time' else size
                    for dim, size in zip(field.dims, field.shape, strict=True)
                )
            }
            for key, field in dataset.data_vars.items()
        }
        path = name if '://' in name else str(tmp_path / name)
        with warnings.catch_warnings():
            # Zarr v3 has no consolidated metadata in its specification yet.
            warnings.filterwarnings('ignore', message='Consolidated metadata')
            dataset.to_zarr(
                path,
                mode='w',
                zarr_format=zarr_format,
                encoding=options.pop('encoding', encoding),
                **options,
            )
        return path

    return write
