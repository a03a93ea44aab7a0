"""Simulates the embedded default atmosphere into a WeatherBench 2 store (Zarr).

An idealised planet: primitive equations with Held-Suarez forcing, mountains and
moisture; perpetual equinox. A store that is already there with the same parameters is
left as it is, one with others is replaced where --overwrite is said.

Example:
  python scripts/simulate.py --output=data/planet.zarr --days=730
"""

from absl import flags

from learning import command_line

_OUTPUT = flags.DEFINE_string('output', None, 'Path of the store.', required=True)
_DAYS = flags.DEFINE_integer('days', 730, 'Days kept.', lower_bound=1)
_SPIN_UP = flags.DEFINE_integer(
    'spin_up_days', 100, 'Days simulated before and discarded.', lower_bound=0
)
_SEED = flags.DEFINE_integer('seed', 0, 'Of the initial noise.', lower_bound=0)
_WAVENUMBERS = flags.DEFINE_integer(
    'wavenumbers', 21, 'Spectral truncation: 21 (64x32 grid), 31 or 42 (128x64).'
)
_OVERWRITE = flags.DEFINE_bool(
    'overwrite', False, 'Replace a simulation with other parameters.'
)


def main() -> None:
    """Simulates as the flags say."""
    # Imported late: the dynamical core takes ten seconds, `--help` none.
    from weather.data import simulation

    config = simulation.SimulationConfig(
        num_days=_DAYS.value,
        spin_up_days=_SPIN_UP.value,
        seed=_SEED.value,
        max_wavenumber=_WAVENUMBERS.value,
    )
    print(simulation.simulate(config, _OUTPUT.value, overwrite=_OVERWRITE.value))


if __name__ == '__main__':
    command_line.execute(main)
