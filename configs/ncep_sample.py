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
    """Returns the experiment."""
    config = ConfigDict()

    config.data = ConfigDict()
    config.data.store = 'ncep_r1_20220101_5d_73x144.zarr'
    config.data.storage_options = ConfigDict()
    config.data.variables = ConfigDict(
        {
            'geopotential': LEVELS,
            # The source has no humidity above 300 hPa, no vertical velocity at 50 hPa.
            'specific_humidity': LEVELS[5:],
            'temperature': LEVELS,
            'u_component_of_wind': LEVELS,
            'v_component_of_wind': LEVELS,
            'vertical_velocity': LEVELS[1:],
        }
    )
    config.data.statics = ('geopotential_at_surface', 'land_sea_mask')
    config.data.train = ('2022-01-01', '2022-01-05')
    config.data.validation = ('2022-01-01', '2022-01-05')
    config.data.test = ('2022-01-01', '2022-01-05')
    config.data.cache_gb = 0.5
    config.data.prefetch_gb = 0.2

    config.grid = ConfigDict(
        {'kind': 'equiangular_with_poles', 'num_lat': 73, 'num_lon': 144}
    )

    config.model = ConfigDict()
    config.model.latent = ConfigDict({'kind': 'gauss', 'num_lat': 36, 'num_lon': 72})
    config.model.scalar_channels = 48
    config.model.vector_channels = 24
    config.model.num_blocks = 3
    config.model.num_knots = 8
    config.model.skips = 'input'
    config.model.precision = 'float32'
    config.model.remat = 'step'

    config.loss = ConfigDict()
    config.loss.variable_weights = ConfigDict()
    config.loss.level_weights = ConfigDict()

    config.training = ConfigDict()
    config.training.seed = 0
    config.training.num_updates = 300
    config.training.batch_size = 2
    config.training.curriculum = ((0, 1), (200, 3))
    config.training.learning_rate = 4e-3
    config.training.warmup_updates = 20
    config.training.weight_decay = 0.0
    config.training.clip_norm = 1.0
    config.training.ema_decay = 0.95
    config.training.log_every = 10
    config.training.validate_every = 100
    config.training.validation_batches = 1
    config.training.checkpoint_every = 100
    config.training.keep_checkpoints = 2

    config.forecast = ConfigDict()
    config.forecast.init_every_hours = 24
    config.forecast.lead_hours = 72
    config.forecast.batch_size = 2

    config.climatology = ConfigDict({'window_days': 61})
    return config.lock()
