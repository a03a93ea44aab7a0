"""SLURM clusters: a batch script that queues itself again until training is done.

One process a GPU, as JAX has it: where it recognises SLURM, process `SLURM_LOCALID` of
a node takes the device of that number, so that every task must see all GPUs of its node
(no `--gpu-bind`, no `--gpus-per-task`). A node without GPUs runs one process.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from launching import code, shell
from launching.job import Address, Job, LaunchError
from launching.submission import Step, Submission
from learning.schema import Config, Count, Integer

_Word = Annotated[str, Field(pattern=r'^[\w.,:@%+=/-]*$')]
# `sbatch` knows minutes, hours:minutes:seconds, days-hours:minutes:seconds and others.
_Duration = Annotated[str, Field(pattern=r'^(\d+-)?\d+(:\d+){0,2}$')]


class Options(Config):
    """What is asked of the cluster.

    Attributes:
      nodes: machines.
      gpus_per_node: GPUs of each, and so processes; 0: one process on CPUs.
      cpus_per_task: cores of each process; 0: what the cluster gives.
      memory: of each node, such as 480G; empty: what the cluster gives; 0: all.
      time: longest time in one go; the job then saves, and is queued again.
      partition, account, qos, constraint: as `sbatch` knows them; empty: none.
      python: Python 3.11 or later, on the nodes, that makes the environment.
      environment: a virtual environment that has all already; nothing is installed.
      setup: shell commands before all others, such as `module load cuda`.
      container: what runs an image: `apptainer`, or the plug-in `pyxis` of `srun`.
    """

    nodes: Count
    gpus_per_node: Annotated[Integer, Field(ge=0)] = 8
    cpus_per_task: Annotated[Integer, Field(ge=0)] = 0
    memory: _Word = ''
    time: _Duration = '24:00:00'
    partition: _Word = ''
    account: _Word = ''
    qos: _Word = ''
    constraint: Annotated[str, Field(pattern=r'^[\w&|*\[\]().-]*$')] = ''
    python: Address = 'python3'
    environment: Annotated[str, Field(pattern=r'^[^\s"\'\\`$]*$')] = ''
    setup: str = ''
    container: Literal['apptainer', 'pyxis'] = 'apptainer'


def prepare(job: Job, options: Options) -> Submission:
    """Works out a launch; `job.folder` is one that all nodes see.

    Raises:
      LaunchError: paths that other nodes would not find.
    """
    for what, path in (('folder', job.folder), ('workdir', job.workdir)):
        if not path.startswith('/') and '://' not in path:
            raise LaunchError(
                f'expected --{what} as a whole path that all nodes see, got {path}'
            )
    files = {'config.json': job.config, 'job.sh': _script(job, options)}
    steps: list[Step] = []
    if not job.image:
        files['train.py'] = code.train_script(job)
    if job.image or not options.environment:
        steps = code.build_steps(job, extra=_extra(options))
    script = f'{job.folder}/job.sh'
    return Submission(
        job.folder,
        files,
        [*steps, Step('Into the queue.', ('sbatch', '--parsable', script))],
        _AFTERWARDS.format(folder=job.folder, name=job.name),
    )


_AFTERWARDS = """
# squeue --name={name}               where it stands
# tail -F {folder}/log-*.txt         what it says, each line with its process
# scancel --signal=TERM JOB          saves, and is queued again
# touch {folder}/stop                with the line above: saves, and ends for good
"""


def _extra(options: Options) -> str:
    return 'cuda' if options.gpus_per_node else ''


def _directives(job: Job, options: Options) -> str:
    tasks = max(1, options.gpus_per_node)
    wanted = {
        'job-name': job.name,
        'nodes': options.nodes,
        'ntasks-per-node': tasks,
        'gpus-per-node': options.gpus_per_node,
        'cpus-per-task': options.cpus_per_task,
        'mem': options.memory,
        'time': options.time,
        'partition': options.partition,
        'account': options.account,
        'qos': options.qos,
        'constraint': options.constraint,
        # To the processes of the step, this long before the time is up: the batch
        # shell, which B: would mean, could not pass it on without killing `srun`.
        'signal': f'TERM@{job.grace_seconds}',
        'output': f'{job.folder}/log-%j.txt',
        'open-mode': 'append',
    }
    lines = [f'#SBATCH --{key}={value}' for key, value in wanted.items() if value]
    return '\n'.join([*lines, '#SBATCH --requeue'])


def _script(job: Job, options: Options) -> str:
    extra = _extra(options)
    values = {
        'folder': job.folder,
        'max_restarts': job.restarts,
        'settled_seconds': 60 * job.settled_minutes,
        # Longer than clusters wait between SIGTERM and SIGKILL.
        'linger_seconds': 600,
        'python': options.python,
        'environment': options.environment or f'{job.folder}/environment',
        'extra': f'[{extra}]' if extra else '',
    }
    return shell.filled(
        _BATCH,
        directives=_directives(job, options),
        setup=options.setup or ': # nothing to set up',
        values=shell.assignments(values),
        say=shell.SAY.strip(),
        judge=shell.JUDGE.strip(),
        install='' if job.image or options.environment else _INSTALL,
        train=_train(job, options),
    )


def _train(job: Job, options: Options) -> str:
    # One process that fails first must not take with it others that are saving:
    # they notice by themselves, say so, and have five minutes for it.
    step = ['srun', '--label', '--kill-on-bad-exit=0', '--wait=300']
    if options.gpus_per_node:
        step += ['--gpu-bind=none']
    if options.cpus_per_task:
        # `srun` does not take it over from the job.
        step += [f'--cpus-per-task={options.cpus_per_task}']
    config = f'{job.folder}/config.json'
    if not job.image:
        words = [f'{job.folder}/train.py', *job.arguments(config)]
        run = shell.command([*step, 'PYTHON', *words])
        return run.replace('PYTHON', '"$environment/bin/python"', 1)
    binds = [job.folder] + ([] if job.has_address else [job.workdir])
    inside = ['python', '/app/scripts/train.py', *job.arguments(config)]
    if options.container == 'pyxis':
        mounts = ','.join(f'{path}:{path}' for path in binds)
        here = [f'--container-image={job.image}', f'--container-mounts={mounts}']
        return shell.command([*step, *here, *inside])
    graphics = ['--nv'] if options.gpus_per_node else []
    mounted = [f'--bind={path}' for path in binds]
    outside = ['apptainer', 'exec', *graphics, *mounted, f'docker://{job.image}']
    return shell.command([*step, *outside, *inside])


_INSTALL = r"""
# Once, on the first node, into the folder that all share.
wheels=("$folder"/*.whl)
if ! cmp --silent "${wheels[0]}" "$environment/wheel"; then
  say "installing into $environment"
  rm -rf "$environment"
  "$python" -m venv "$environment" \
    && "$environment/bin/pip" install --quiet "${wheels[0]}$extra" \
    && cp "${wheels[0]}" "$environment/wheel" \
    || { say 'the code could not be installed'; exit 1; }
fi
"""

_BATCH = r"""#!/bin/bash
@DIRECTIVES@

# A training that is queued again until it is done. What it has learnt lies in its run
# directory; what counts the attempts lies beside this script, by the number of the job.
@SETUP@
set -u
@VALUES@
export PYTHONUNBUFFERED=1

@SAY@

@JUDGE@

state=$folder/state-$SLURM_JOB_ID
mkdir -p "$state"
# Every start counts, also after a node that took this script with it.
restarts=$(find "$state" -name 'start-*' | wc -l)
errors=$(cat "$state/errors" 2>/dev/null || echo 0)
if [ "$restarts" -gt "$max_restarts" ]; then
  say "no more than $max_restarts restarts are allowed"
  exit 1
fi
touch "$state/start-$restarts"
# What comes here was sent to the whole job: by `scancel`, or because it is preempted.
# The processes have it too, and save; whether the job is queued again is not for us.
asked=
trap 'asked=1' TERM
@INSTALL@
say "attempt $restarts on ${SLURM_JOB_NODELIST:-this machine}"
started=$SECONDS
@TRAIN@ &
step=$!
wait "$step"
status=$?
# A signal ends `wait`, not the step.
if [ -n "$asked" ]; then
  wait "$step"
  status=$?
fi
if [ -n "$asked" ] && [ "$status" -ne 0 ]; then
  say "the job was asked to end, and training has ended with $status"
  # A preempted job that ends by itself would not be queued again.
  sleep "$linger_seconds"
  exit "$status"
fi
judge "$status" $((SECONDS - started))
echo "$errors" >"$state/errors"
case $verdict in
  done)
    say 'training is done'
    exit 0
    ;;
  again)
    say "ended with $status; queued again"
    scontrol requeue "$SLURM_JOB_ID"
    ;;
esac
exit "$status"
"""
