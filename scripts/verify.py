r"""Says which checkpoints of a run are whole, and what was changed in it when.

Example:
  python scripts/verify.py --workdir=runs/demo
  python scripts/verify.py --workdir=gs://BUCKET/runs/demo

A line for every checkpoint: its update, whether it is whole, damaged (a file is missing
or has other bytes than when it was saved) or unfinished, its size, its digest, its
score, when it was saved, and which one the training goes on from. Exit status: 1 if one
is damaged. Nothing is changed.
"""

from absl import flags

from learning import command_line

_WORKDIR = flags.DEFINE_string('workdir', None, 'Run directory.', required=True)


def main() -> None:
    """Looks through the checkpoints of a run."""
    # Late, so that --help answers at once.
    from learning import inventory
    from learning.checkpoint import Checkpoints
    from weather.workdir import Workdir

    run = Workdir(_WORKDIR.value)
    with Checkpoints(run.checkpoints) as saved:
        entries = inventory.take(saved)
    for entry in entries:
        print(entry)
    if not entries:
        print(f'no checkpoints in {run.checkpoints}')
    for line in run.history() if run.config.exists() else ():
        print(f'changed {line}')
    inventory.check(entries)


if __name__ == '__main__':
    command_line.execute(main)
