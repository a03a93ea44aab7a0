r"""Launches a training: TPU slices, Kubernetes, SLURM; starts it anew after preemption.

Example:
  python scripts/launch.py --config=configs/era5_256.py --target=tpu --dry_run \
      --workdir=gs://BUCKET/runs/era5 --name=era5 \
      --launch.accelerator=v5e-256 --launch.zone=us-west4-a

With --dry_run all files and commands are printed, and nothing is done. What a target
wants to know are keys of --launch, which docs/training.md lists.
"""

from absl import flags

from learning import command_line, config_flags

_CONFIG = config_flags.define('config', 'configs/*.py, or the config.json of a run.')
_LAUNCH = config_flags.define(
    'launch', 'A file with the keys of --launch.*, if any.', required=False
)
_TARGET = flags.DEFINE_string('target', None, 'tpu, gke, xpk, slurm.', required=True)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Run directory.', required=True)
_NAME = flags.DEFINE_string('name', None, 'Name of the job.', required=True)
_IMAGE = flags.DEFINE_string(
    'image', '', 'Container image of the code; default: a wheel of this checkout.'
)
_BUILD_IMAGE = flags.DEFINE_bool(
    'build_image', False, 'Build that image of this checkout, and push it, before.'
)
_TRAIN_FLAGS = flags.DEFINE_multi_string(
    'train_flag', [], 'A further flag of train.py, such as --traceback; repeatable.'
)
_RESTARTS = flags.DEFINE_integer('restarts', 20, 'How often to start anew, at most.')
_GRACE = flags.DEFINE_integer(
    'grace_seconds', 120, 'From SIGTERM to the end, where it can be chosen.'
)
_FOLDER = flags.DEFINE_string(
    'folder',
    None,
    'For the files of the launch; on SLURM one that all nodes see. '
    'Default: launches/NAME.',
)
_DRY_RUN = flags.DEFINE_bool('dry_run', False, 'Print all of it, and do nothing.')


def main() -> None:
    """Launches what the flags describe."""
    # Imported here, so that --help answers at once.
    from launching import launch

    submission = launch.prepare(
        _TARGET.value,
        _LAUNCH.entries if _LAUNCH.is_given else {},
        _LAUNCH.overrides,
        config=launch.check_config(_CONFIG.path, _CONFIG.overrides),
        name=_NAME.value,
        workdir=_WORKDIR.value,
        flags=_TRAIN_FLAGS.value,
        image=_IMAGE.value,
        build=_BUILD_IMAGE.value,
        restarts=_RESTARTS.value,
        grace_seconds=_GRACE.value,
        folder=_FOLDER.value,
    )
    launch.launch(submission, dry_run=_DRY_RUN.value)


if __name__ == '__main__':
    command_line.execute(main)
