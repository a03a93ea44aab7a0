"""A tiny atmosphere and an experiment on it: seconds, not minutes."""

import pathlib

import numpy as np
import xarray as xr

from sphere_ops import LatLonGrid
from weather.experiment import Experiment

GRID = LatLonGrid(kind='gauss', num_lat=8, num_lon=16)
LEVELS = (500, 850)


def write_store(path: pathlib.Path, *, num_times: int = 40) -> None:
    """A wave that travels eastward: smooth, learnable, within plausible ranges."""
    times = np.datetime64('2001-01-01', 'ns') + np.arange(num_times) * np.timedelta64(
        6, 'h'
    )
    latitude = np.radians(GRID.latitudes)[:, None]
    longitude = np.radians(GRID.longitudes)
    phase = 2 * np.pi * np.arange(num_times)[:, None, None] / 20
    wave = np.cos(latitude) ** 2 * np.cos(2 * longitude - phase)
    wave += 0.1 * np.cos(latitude) * np.cos(longitude + 3 * phase)

    def at_levels(means, amplitude):
        return np.stack([mean + amplitude * wave for mean in means], axis=1)

    fields = {
        'geopotential': at_levels((55000.0, 14000.0), 800.0),
        'temperature': at_levels((255.0, 280.0), 6.0),
        'u_component_of_wind': at_levels((10.0, 5.0), 8.0) * np.cos(latitude),
        'v_component_of_wind': at_levels((0.0, 0.0), 8.0) * np.cos(latitude),
    }
    dims = ('time', 'level', 'latitude', 'longitude')
    dataset = xr.Dataset(
        {name: (dims, values.astype(np.float32)) for name, values in fields.items()},
        coords={
            'time': times,
            'level': list(LEVELS),
            'latitude': GRID.latitudes,
            'longitude': GRID.longitudes,
        },
    )
    hill = 5000 * np.exp(-((latitude - 0.6) ** 2) * 8) * np.cos(longitude / 2) ** 4
    horizontal = ('latitude', 'longitude')
    dataset['geopotential_at_surface'] = (horizontal, hill.astype(np.float32))
    dataset['land_sea_mask'] = (horizontal, (hill > 1000).astype(np.float32))
    encoding = {name: {'chunks': (1, 2, *GRID.shape)} for name in fields}
    dataset.to_zarr(path, encoding=encoding, zarr_format=2, consolidated=True)


def entries(store: pathlib.Path) -> dict:
    """The experiment's entries, free to be changed before `setup`."""
    return {
        'data': {
            'store': str(store),
            'storage_options': {},
            'variables': {
                'geopotential': LEVELS,
                'temperature': LEVELS,
                'u_component_of_wind': LEVELS,
                'v_component_of_wind': LEVELS,
            },
            'statics': ('geopotential_at_surface', 'land_sea_mask'),
            'train': ('2001-01-01', '2001-01-07'),
            'validation': ('2001-01-08', '2001-01-08'),
            'test': ('2001-01-09', '2001-01-10'),
            'cache_gb': 0.01,
            'prefetch_gb': 0.01,
        },
        'grid': {'kind': 'gauss', 'num_lat': 8, 'num_lon': 16},
        'model': {
            'latent': {'kind': 'gauss', 'num_lat': 8, 'num_lon': 16},
            'scalar_channels': 6,
            'vector_channels': 4,
            'num_blocks': 1,
            'num_knots': 3,
            'skips': 'input',
            'precision': 'float32',
            'remat': 'step',
        },
        'loss': {'variable_weights': {}, 'level_weights': {}},
        'training': {
            'seed': 0,
            'num_updates': 9,
            'batch_size': 8,
            'curriculum': ((0, 1), (4, 2)),
            'learning_rate': 1e-2,
            'warmup_updates': 2,
            'weight_decay': 0.01,
            'clip_norm': 1.0,
            'ema_decay': 0.9,
            'log_every': 3,
            'validate_every': 5,
            'validation_batches': 1,
            'checkpoint_every': 2,
            'keep_checkpoints': 2,
        },
        'forecast': {'init_every_hours': 6, 'lead_hours': 24, 'batch_size': 2},
        'climatology': {'window_days': 61},
    }


def setup(store: pathlib.Path, **training) -> Experiment:
    """The experiment, with some entries of `training` changed."""
    config = entries(store)
    config['training'].update(training)
    return Experiment.from_config(config)
