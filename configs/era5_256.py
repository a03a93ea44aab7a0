"""ERA5 on 256x256 points, 78 channels: the flagship, as in the paper.

The residual blocks have 256 channels at 128x128: 128 scalars and 128 vectors. A store
on this grid has to be made first (the public stores have 512x256 points, cell centres;
the 256x256 grid here has rows at the poles).

Launch:
  python scripts/train.py --config=configs/era5_256.py --workdir=runs/era5_256 \
      --config.data.store=gs://BUCKET/era5_256x256_with_poles.zarr

Hardware: meant for a TPU slice or several GPUs. Duration and scores: not yet run.
Memory: every step of a rollout is rematerialised, so that an update with 12 steps holds
1.25 times what one with four holds (2.3 and 1.8 GiB, one sample, compiled for CPUs).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns what differs from the defaults of `weather.experiment`."""
    config = ConfigDict()
    config.data = ConfigDict(
        {
            'store': 'era5_256x256_with_poles.zarr',
            'train': ('1979-01-01', '2017-12-31'),
            'validation': ('2018-01-01', '2018-12-31'),
            'test': ('2020-01-01', '2020-12-31'),
            'cache_gb': 0.0,
            'prefetch_gb': 8.0,
        }
    )
    config.grid = ConfigDict(
        {'kind': 'equiangular_with_poles', 'num_lat': 256, 'num_lon': 256}
    )
    config.model = ConfigDict(
        {
            'latent': {
                'kind': 'equiangular_with_poles',
                'num_lat': 128,
                'num_lon': 128,
            },
            'num_knots': 32,
        }
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
    return config
