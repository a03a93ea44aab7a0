"""ERA5 at 5.6 degrees, the public 64x32 store of WeatherBench 2.

Launch (the store is read anonymously from its bucket; a local copy is faster):
  python scripts/train.py --config=configs/era5_64x32.py --workdir=runs/era5_64x32

Hardware: meant for one GPU or TPU. Duration and scores: not yet run.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns what differs from the defaults of `weather.experiment`."""
    config = ConfigDict()
    config.data = ConfigDict(
        {
            'store': (
                'gs://weatherbench2/datasets/era5/'
                '1959-2022-6h-64x32_equiangular_conservative.zarr'
            ),
            'storage_options': {'token': 'anon'},
            'train': ('1979-01-01', '2017-12-31'),
            'validation': ('2018-01-01', '2018-12-31'),
            'test': ('2020-01-01', '2020-12-31'),
            'cache_gb': 8.0,
            'prefetch_gb': 1.0,
        }
    )
    # Cell centres: the quadrature is exact up to degree 15 only, half of what the
    # rows could carry. The residual blocks work on the same grid.
    config.grid = ConfigDict({'kind': 'equiangular', 'num_lat': 32, 'num_lon': 64})
    config.model = ConfigDict(
        {'latent': {'kind': 'gauss', 'num_lat': 32, 'num_lon': 64}}
    )
    config.loss = ConfigDict({'variable_weights': {'vertical_velocity': 0.2}})
    config.training = ConfigDict(
        {
            'num_updates': 100_000,
            'curriculum': (
                (0, 1),
                (60_000, 2),
                (70_000, 4),
                (80_000, 8),
                (90_000, 12),
            ),
        }
    )
    config.forecast = ConfigDict({'batch_size': 16})
    return config
