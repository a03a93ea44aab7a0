"""The embedded default: a simulated planet, trained and scored on two CPU cores.

Launch: `make demo`, or step by step as in the README.
Hardware: two CPU cores; training held 4.1 GB of memory. Duration: five minutes with
simulation and report, of which the 480 updates take half. Scores, 36 starts in 2003,
four seeds (RMSE at 24 / 72 / 120 h): Z500 65 to 70 / 215 to 244 / 365 to 405 m2 s-2,
T850 0.57 to 0.64 / 1.48 to 1.71 / 2.32 to 2.64 K, Q700 0.33 to 0.39 / 0.65 to 0.78 /
0.87 to 1.01 g kg-1, wind vector 850 0.96 to 1.10 / 2.71 to 3.16 / 4.06 to 4.62 m s-1;
README.md has the baselines.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns what differs from the defaults of `weather.experiment`."""
    config = ConfigDict()
    config.data = ConfigDict(
        {
            'store': 'runs/demo/planet.zarr',
            'train': ('2001-01-01', '2002-12-31'),
            'validation': ('2003-01-03', '2003-01-07'),
            'test': ('2003-01-10', '2003-02-19'),
            'prefetch_gb': 0.25,
        }
    )
    config.grid = ConfigDict({'kind': 'gauss', 'num_lat': 32, 'num_lon': 64})
    config.model = ConfigDict(
        {
            # The planet is simulated up to degree 21; this grid carries degree 23.
            'latent': {'kind': 'gauss', 'num_lat': 24, 'num_lon': 48},
            'scalar_channels': 48,
            'vector_channels': 24,
            'num_knots': 8,
        }
    )
    config.training = ConfigDict(
        {
            'num_updates': 480,
            'batch_size': 8,
            'curriculum': ((0, 1), (420, 2)),
            'learning_rate': 4e-3,
            'warmup_updates': 50,
            'ema_decay': 0.98,
            'log_every': 20,
            'validate_every': 120,
            'validation_batches': 2,
            'checkpoint_every': 120,
            'keep_checkpoints': 2,
        }
    )
    config.forecast = ConfigDict({'init_every_hours': 24, 'batch_size': 6})
    # No seasons: the widest window averages the most, which makes the best baseline.
    config.climatology = ConfigDict({'window_days': 365})
    return config
