"""ERA5 on 256x256 points, 78 channels: the flagship, as in the paper.

The residual blocks have 256 channels at 128x128: 128 scalars and 128 vectors. The
grid has rows at the poles, and no public store is on it: the first command makes one,
of ERA5 at 0.25 degrees, six-hourly, with the 13 levels that are needed.

Prepare:
  ERA5=gs://weatherbench2/datasets/era5
  python scripts/prepare_data.py --config=configs/era5_256.py \
      --source=$ERA5/1959-2023_01_10-wb13-6h-1440x721_with_derived_variables.zarr \
      --output=gs://BUCKET/era5_256x256_with_poles.zarr

or of ARCO-ERA5, hourly, of which every sixth hour is taken, with 37 levels that are all
downloaded:
      --source=gs://gcp-public-data-arco-era5/ar/full_37-1h-0p25deg-chunk-1.zarr-v3

On many machines at once: --engine=beam, see weather/building/engine.py. A run that was
ended goes on with the same command. The periods have 59,900 times of 20.4 MB: 1.2 TB of
float32 before compression; not yet run.

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
    # Every sixth hour of an hourly source; the same of one that has no others.
    config.prepare = ConfigDict({'timestep_hours': 6, 'num_threads': 8, 'max_gb': 16.0})
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
