"""An atmosphere whose every value is a known function of where it is."""

import pathlib
from collections.abc import Mapping

import numpy as np
import xarray as xr

from sphere_ops import LatLonGrid
from weather.experiment import Experiment

GRID = LatLonGrid(kind='gauss', num_lat=8, num_lon=16)
LEVELS = (500, 850)
START = np.datetime64('2001-01-01', 'ns')
HOUR = np.timedelta64(1, 'h')
_BASE = {
    'geopotential': 20000.0,
    'temperature': 250.0,
    'u_component_of_wind': 5.0,
    'v_component_of_wind': -5.0,
    'specific_humidity': 0.002,
    'toa_incident_solar_radiation': 1e6,
}
_SCALE = {'specific_humidity': 1e-5, 'toa_incident_solar_radiation': 1e3}
SURFACE = ('toa_incident_solar_radiation',)
UPPER = ('geopotential', 'temperature', 'u_component_of_wind', 'v_component_of_wind')


def value(name: str, times: np.ndarray, level: int = 0) -> np.ndarray:
    """`[time, lat, lon]` float32: every place, time and level has its own."""
    hours = ((times - START) / HOUR)[:, None, None]
    rows, columns = np.arange(8)[:, None], np.arange(16)
    pattern = hours / 10 * (1 + columns / 50) + rows + columns / 100 + level / 1000
    #
    lift = {500: 34000.0, 850: -6000.0}.get(level, 0) * (name == 'geopotential')
    return (_BASE[name] + lift + _SCALE.get(name, 1) * pattern).astype(np.float32)


def dataset(
    times: np.ndarray, names=(*UPPER, *SURFACE), statics: bool = True
) -> xr.Dataset:
    """The atmosphere at the given times."""
    made = xr.Dataset(
        coords={
            'time': times,
            'level': list(LEVELS),
            'latitude': GRID.latitudes,
            'longitude': GRID.longitudes,
        }
    )
    for name in names:
        if name in SURFACE:
            dims, values = ('time', 'latitude', 'longitude'), value(name, times)
        else:
            dims = ('time', 'level', 'latitude', 'longitude')
            values = np.stack([value(name, times, of) for of in LEVELS], axis=1)
        made[name] = (dims, values)
    if statics:
        hill = np.arange(128, dtype=np.float32).reshape(GRID.shape)
        made['geopotential_at_surface'] = (('latitude', 'longitude'), 10 * hill)
        made['land_sea_mask'] = (('latitude', 'longitude'), hill / 128)
    return made


def hours(number: int, step: int = 1, start: np.datetime64 = START) -> np.ndarray:
    return start + step * np.arange(number) * HOUR


def write(made: xr.Dataset, path: pathlib.Path) -> str:
    encoding = {
        name: {'chunks': (1, *field.shape[1:])}
        for name, field in made.data_vars.items()
        if 'time' in field.dims
    }
    made.to_zarr(path, encoding=encoding, zarr_format=2, consolidated=True)
    return str(path)


def experiment(
    *,
    prepare: Mapping | None = None,
    data: Mapping | None = None,
    grid: Mapping | None = None,
) -> Experiment:
    """Two days of training, and a day each for the others; 6-hourly, no climatology."""
    return Experiment.from_config(
        {
            'data': {
                'store': 'prepared.zarr',
                'variables': {
                    **dict.fromkeys(UPPER, LEVELS),
                    'toa_incident_solar_radiation': (),
                },
                'train': ('2001-01-01', '2001-01-02'),
                'validation': ('2001-01-03', '2001-01-03'),
                'test': ('2001-01-05', '2001-01-05'),
                **(data or {}),
            },
            'grid': grid or {'kind': 'gauss', 'num_lat': 8, 'num_lon': 16},
            'model': {'latent': {'kind': 'gauss', 'num_lat': 8, 'num_lon': 16}},
            'training': {'num_updates': 1},
            'prepare': {'timestep_hours': 6, 'climatology': 'no', **(prepare or {})},
        }
    )
