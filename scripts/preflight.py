r"""Opens every store of a config and says what it holds, before a job is launched.

Prints how a store was reached, its grid, times and variables, whether the config's
periods lie within, how it is laid out, and what one has to read for a window, an update
and an epoch. Everything that is missing is listed at once, with exit status 1.

Examples:
  python scripts/preflight.py --config=configs/era5_64x32.py
  python scripts/preflight.py --config=configs/era5_256.py \
      --config.data.store=gs://BUCKET/era5.zarr --climatology=gs://BUCKET/normals.zarr
"""

from absl import flags

from learning import command_line, config_flags

_CONFIG = config_flags.define('config', 'configs/*.py, or the config.json of a run.')
_CLIMATOLOGY = flags.DEFINE_string('climatology', None, 'A climatology to be opened.')
_TRUTH = flags.DEFINE_string('truth', None, 'An atmosphere that scores are made with.')


def main() -> None:
    """Opens, prints and sums up."""
    # Late, so that --help answers at once.
    from weather.data.preflight import preflight
    from weather.experiment import Experiment

    setup = Experiment.from_config(_CONFIG.entries, _CONFIG.overrides)
    named = {'climatology': _CLIMATOLOGY.value, 'truth': _TRUTH.value}
    report = preflight(setup, others={k: v for k, v in named.items() if v})
    print('\n'.join(report.lines))
    if report.problems:
        raise ValueError('\n  '.join(['a job would stop at', *report.problems]))
    print('ready')


if __name__ == '__main__':
    command_line.execute(main)
