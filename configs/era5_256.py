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

LEVELS = (50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000)


def get_config() -> ConfigDict:
    """Returns the experiment."""
    config = ConfigDict()

    config.data = ConfigDict()
    config.data.store = 'era5_256x256_with_poles.zarr'
    config.data.storage_options = ConfigDict()
    config.data.variables = ConfigDict(
        {
            'geopotential': LEVELS,
            'specific_humidity': LEVELS,
            'temperature': LEVELS,
            'u_component_of_wind': LEVELS,
            'v_component_of_wind': LEVELS,
            'vertical_velocity': LEVELS,
        }
    )
    config.data.statics = ('geopotential_at_surface', 'land_sea_mask')
    config.data.train = ('1979-01-01', '2017-12-31')
    config.data.validation = ('2018-01-01', '2018-12-31')
    config.data.test = ('2020-01-01', '2020-12-31')
    config.data.cache_gb = 0.0
    config.data.prefetch_gb = 8.0

    config.grid = ConfigDict(
        {'kind': 'equiangular_with_poles', 'num_lat': 256, 'num_lon': 256}
    )

    config.model = ConfigDict()
    config.model.latent = ConfigDict(
        {'kind': 'equiangular_with_poles', 'num_lat': 128, 'num_lon': 128}
    )
    config.model.scalar_channels = 128
    config.model.vector_channels = 128
    config.model.num_blocks = 3
    config.model.num_knots = 32
    config.model.skips = 'input'
    config.model.precision = 'float32'
    config.model.remat = 'step'

    config.loss = ConfigDict()
    config.loss.variable_weights = ConfigDict({'vertical_velocity': 0.2})
    config.loss.level_weights = ConfigDict()

    config.training = ConfigDict()
    config.training.seed = 0
    config.training.num_updates = 100_000
    config.training.batch_size = 32
    config.training.curriculum = (
        (0, 1),
        (60_000, 2),
        (70_000, 4),
        (80_000, 8),
        (90_000, 12),
    )
    config.training.learning_rate = 1e-3
    config.training.warmup_updates = 1000
    config.training.weight_decay = 0.01
    config.training.clip_norm = 1.0
    config.training.ema_decay = 0.999
    config.training.log_every = 100
    config.training.validate_every = 2000
    config.training.validation_batches = 8
    config.training.checkpoint_every = 1000
    config.training.keep_checkpoints = 3

    config.forecast = ConfigDict()
    config.forecast.init_every_hours = 12
    config.forecast.lead_hours = 120
    config.forecast.batch_size = 4

    config.climatology = ConfigDict({'window_days': 61})
    return config.lock()
