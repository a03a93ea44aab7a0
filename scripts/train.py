"""Trains an experiment; started again with the same workdir, it goes on.

Example:
  python scripts/train.py --config=configs/demo.py --workdir=runs/demo

Any key of the config can be set on the command line:
  python scripts/train.py --config=configs/ncep_sample.py --workdir=runs/ncep \
      --config.data.store=ncep.zarr --config.training.num_updates=100
"""

from absl import flags
from ml_collections import config_flags

from learning import command_line

_CONFIG = config_flags.DEFINE_config_file('config', None, 'Experiment, configs/*.py.')
_WORKDIR = flags.DEFINE_string('workdir', None, 'Run directory.', required=True)
flags.mark_flag_as_required('config')


def main() -> None:
    """Runs the training that the flags describe."""
    # Imported here, so that --help answers at once.
    from weather.experiment import Experiment
    from weather.training.trainer import train

    train(Experiment.from_config(_CONFIG.value), _WORKDIR.value)


if __name__ == '__main__':
    command_line.execute(main)
