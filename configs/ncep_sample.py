"""Five daily means of the NCEP reanalysis at 2.5 degrees: a check on real data.

Five days are enough to see every part of the pipeline work on a real atmosphere, and
far too few to learn from: the model memorises them (training, validation and test are
the same days), and its scores say nothing about skill.

Launch:
  python scripts/train.py --config=configs/ncep_sample.py --workdir=runs/ncep \
      --config.data.store=PATH/ncep_r1_20220101_5d_73x144.zarr

Hardware: two CPU cores; training held 1.2 GB of memory. Duration: 3 minutes
and 20 seconds for 300 updates.
Scores: the loss of one step falls from 1 to 0.074; RMSE of the memorised Z500 at 24 /
48 / 72 h 46 / 48 / 49 m2 s-2 (persistence 497 / 789 / 976), two starts, global.
"""

from ml_collections import ConfigDict

LEVELS = (50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000)


def get_config() -> ConfigDict:
    """Returns what differs from the defaults of `weather.experiment`."""
    config = ConfigDict()
    config.data = ConfigDict(
        {
            'store': 'ncep_r1_20220101_5d_73x144.zarr',
            'variables': {
                'geopotential': LEVELS,
                # The source has no humidity above 300 hPa
                'specific_humidity': LEVELS[5:],
                'temperature': LEVELS,
                'u_component_of_wind': LEVELS,
                'v_component_of_wind': LEVELS,
                # and no vertical velocity at 50 hPa.
                'vertical_velocity': LEVELS[1:],
            },
            'train': ('2022-01-01', '2022-01-05'),
            'validation': ('2022-01-01', '2022-01-05'),
            'test': ('2022-01-01', '2022-01-05'),
            'cache_gb': 0.5,
            'prefetch_gb': 0.2,
        }
    )
    config.grid = ConfigDict(
        {'kind': 'equiangular_with_poles', 'num_lat': 73, 'num_lon': 144}
    )
    config.model = ConfigDict(
        {
            'latent': {'kind': 'gauss', 'num_lat': 36, 'num_lon': 72},
            'scalar_channels': 48,
            'vector_channels': 24,
            'num_knots': 8,
        }
    )
    config.training = ConfigDict(
        {
            'num_updates': 300,
            'batch_size': 2,
            'curriculum': ((0, 1), (200, 3)),
            'learning_rate': 4e-3,
            'warmup_updates': 20,
            'weight_decay': 0.0,
            'ema_decay': 0.95,
            'log_every': 10,
            'validate_every': 100,
            'validation_batches': 1,
            'checkpoint_every': 100,
            'keep_checkpoints': 2,
        }
    )
    config.forecast = ConfigDict(
        {'init_every_hours': 24, 'lead_hours': 72, 'batch_size': 2}
    )
    return config
