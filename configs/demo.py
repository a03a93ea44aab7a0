"""The embedded default: a simulated planet, trained and scored on two CPU cores.

Launch: `make demo`, or step by step as in the README.
Hardware: two CPU cores; training held 2.6 GB of memory. Duration: 10 minutes with
installation, simulation and report, of which the 480 updates take four. Scores, 36
starts in 2003 (RMSE at 24 / 72 / 120 h): Z500 73 / 242 / 394 m2 s-2, T850 0.61 / 1.61 /
2.45 K, Q700 0.39 / 0.72 / 0.95 g kg-1, wind vector 850 1.14 / 3.00 / 4.30 m s-1;
README.md has the baselines.
"""

from ml_collections import ConfigDict

LEVELS = (50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000)


def get_config() -> ConfigDict:
    """Returns the experiment."""
    config = ConfigDict()

    config.data = ConfigDict()
    config.data.store = 'runs/demo/planet.zarr'
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
    config.data.train = ('2001-01-01', '2002-12-31')
    config.data.validation = ('2003-01-03', '2003-01-07')
    config.data.test = ('2003-01-10', '2003-02-19')
    config.data.cache_gb = 2.0
    config.data.prefetch_gb = 0.25

    config.grid = ConfigDict({'kind': 'gauss', 'num_lat': 32, 'num_lon': 64})

    config.model = ConfigDict()
    # The planet is simulated up to degree 21; this grid carries degree 23.
    config.model.latent = ConfigDict({'kind': 'gauss', 'num_lat': 24, 'num_lon': 48})
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
    config.training.num_updates = 480
    config.training.batch_size = 8
    config.training.curriculum = ((0, 1), (420, 2))
    config.training.learning_rate = 4e-3
    config.training.warmup_updates = 50
    config.training.weight_decay = 0.01
    config.training.clip_norm = 1.0
    config.training.ema_decay = 0.98
    config.training.log_every = 20
    config.training.validate_every = 120
    config.training.validation_batches = 2
    config.training.checkpoint_every = 120
    config.training.keep_checkpoints = 2

    config.forecast = ConfigDict()
    config.forecast.init_every_hours = 24
    config.forecast.lead_hours = 120
    config.forecast.batch_size = 6

    # No seasons: the widest window averages the most, which makes the best baseline.
    config.climatology = ConfigDict({'window_days': 365})
    return config.lock()
