"""A made atmosphere with everything that real ones have and that is no fault."""

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from sphere_ops.grid import LatLonGrid
from weather.data.checks import standard_geopotential

GRID = LatLonGrid('equiangular', num_lat=12, num_lon=16)
LEVELS = (50, 300, 500, 850)
TIMES = 40
UPPER_AIR = (
    'geopotential',
    'temperature',
    'specific_humidity',
    'u_component_of_wind',
    'v_component_of_wind',
    'vertical_velocity',
)


def made(num_times: int = TIMES, grid: LatLonGrid = GRID) -> xr.Dataset:
    """Waves that travel and wobble, a storm that passes, and what is constant by right.

    Sea surface temperature is NaN over land, humidity at 50 hPa too, sea ice and
    precipitation are 0 everywhere at most times, the sea does not change overnight.
    """
    rng = np.random.default_rng(0)
    phi = np.radians(grid.latitudes)[:, None]
    lam = np.radians(grid.longitudes)
    hours = 6.0 * np.arange(num_times)[:, None, None]
    wave = np.cos(phi) ** 2 * np.cos(3 * lam - hours / 24)
    wave = wave + 0.05 * rng.standard_normal(wave.shape)
    storm = np.exp(-(((hours - 120) / 20) ** 2)) * np.cos(phi) ** 4 * np.cos(lam)
    wave = wave + 2 * storm
    means = {
        'geopotential': ([standard_geopotential(p) for p in LEVELS], 600.0),
        'temperature': ([210.0, 230.0, 255.0, 280.0], 5.0),
        'specific_humidity': ([3e-6, 2e-4, 1e-3, 6e-3], 1e-6),
        'u_component_of_wind': ([10.0, 20.0, 10.0, 5.0], 6.0),
        'v_component_of_wind': ([0.0, 0.0, 0.0, 0.0], 6.0),
        'vertical_velocity': ([0.0, 0.0, 0.0, 0.0], 0.1),
    }
    upper, surface = ('time', 'level', 'latitude', 'longitude'), ('time', 'latitude')
    surface = (*surface, 'longitude')
    fields = {
        name: (upper, np.stack([m + amplitude * wave for m in mean], axis=1))
        for name, (mean, amplitude) in means.items()
    }
    fields['specific_humidity'][1][:, 0] = np.nan
    land = np.cos(2 * lam) + 0 * phi > 0.3
    daily = np.repeat(wave[::4], 4, axis=0)[:num_times]
    rain = np.where(np.arange(num_times)[:, None, None] % 5, 0.0, np.abs(wave) * 1e-3)
    sun = 1e6 * np.maximum(np.cos(phi) * np.cos(lam + np.pi * hours / 12), 0)
    fields['2m_temperature'] = (surface, 280 + 5 * wave)
    fields['sea_surface_temperature'] = (surface, np.where(land, np.nan, 285 + daily))
    fields['sea_ice_cover'] = (surface, np.zeros_like(wave))
    fields['total_precipitation_6hr'] = (surface, rain)
    fields['toa_incident_solar_radiation'] = (surface, sun)
    fields['land_sea_mask'] = (surface[1:], land.astype(float))
    start = np.datetime64('2020-01-01', 'ns')
    return xr.Dataset(
        {
            name: (dims, values.astype(np.float32))
            for name, (dims, values) in fields.items()
        },
        coords={
            'time': start + np.arange(num_times) * np.timedelta64(6, 'h'),
            'level': list(LEVELS),
            'latitude': grid.latitudes,
            'longitude': grid.longitudes,
        },
    )


@pytest.fixture
def clean() -> xr.Dataset:
    return made()


@pytest.fixture
def write(tmp_path) -> Callable[..., str]:
    """Writes a store, one time with all levels in a chunk, and returns its path."""

    def write_store(dataset, *, name='store.zarr', times_per_chunk=1, **options):
        encoding = {
            key: {
                'chunks': tuple(
                    times_per_chunk if dim == 'time' else size
                    for dim, size in zip(field.dims, field.shape, strict=True)
                )
            }
            for key, field in dataset.data_vars.items()
        }
        path = str(tmp_path / name)
        options = {'zarr_format': 3, 'consolidated': False, 'mode': 'w'} | options
        dataset.to_zarr(path, encoding=encoding, **options)
        return path

    return write_store
