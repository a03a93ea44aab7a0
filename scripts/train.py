r"""Trains an experiment; started again with the same workdir, it goes on.

Example:
  python scripts/train.py --config=configs/demo.py --workdir=runs/demo

Any key of the config can be set on the command line, also one that the file does not
mention (--print_config shows them all):
  python scripts/train.py --config=configs/ncep_sample.py --workdir=runs/ncep \
      --config.data.store=ncep.zarr --config.loss.variable_weights.temperature=2

Several processes train together where a cluster starts them (docs/training.md), or
where each is started with its number:
  python scripts/train.py --config=... --workdir=... \
      --coordinator=node1:8476 --num_processes=4 --process=2
"""

from absl import flags

from learning import command_line, config_flags, process_flags

_CONFIG = config_flags.define('config', 'configs/*.py, or the config.json of a run.')
_WORKDIR = flags.DEFINE_string('workdir', None, 'Run directory.')
_PRINT_CONFIG = flags.DEFINE_bool(
    'print_config', False, 'Print the whole config, with its defaults, and exit.'
)
_PROFILE = flags.DEFINE_string(
    'profile', None, 'FIRST:LAST: updates to trace, into the folder profile of the run.'
)
flags.register_multi_flags_validator(
    ['workdir', 'print_config'],
    lambda values: any(values.values()),
    message='say where to train: --workdir=DIR',
)


def main() -> None:
    """Runs the training that the flags describe."""
    # Imported here, so that --help answers at once.
    from weather.experiment import Experiment

    setup = Experiment.from_config(_CONFIG.entries, _CONFIG.overrides)
    if _PRINT_CONFIG.value:
        print(setup.to_json(), end='')
        return
    from learning.profiling import Profile
    from weather.training.trainer import train

    profile = Profile.parse(_PROFILE.value) if _PROFILE.value else None
    with process_flags.connected():
        train(setup, _WORKDIR.value, profile=profile)


if __name__ == '__main__':
    command_line.execute(main)
