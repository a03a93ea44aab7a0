"""TPU slices of Compute Engine, as queued resources; `gcloud` does all of it.

A script runs here, on any machine that stays: it asks for the slice, installs the code
on every worker, starts all of them, follows the first one's log, and begins anew when
the slice is taken away. Workers go on where this script is ended, and it finds them
again when it is started again. JAX recognises the slice by its metadata.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from launching import code, shell, tpu_scripts
from launching.accelerators import Slice, find_slice
from launching.job import Job
from launching.submission import Step, Submission
from learning.schema import Config, Count

_Word = Annotated[str, Field(pattern=r'^[\w.@:/-]*$')]


class Options(Config):
    """What is asked of Compute Engine.

    Attributes:
      accelerator: slice by its name: v5e-256.
      zone: of the slice.
      project: of the bill; empty: that of `gcloud`.
      tier: `spot` may be taken away at any time and is cheap; `on_demand`; `reserved`
        uses a reservation.
      wait_hours: how long to stand in the queue; 0: for ever.
      runtime: software version of the machines; empty: that of the accelerator.
      network, subnetwork, service_account: empty: the project's own.
      internal_ips: `yes`: machines without outer addresses, reached through IAP.
      keep: `yes` keeps the slice, and its cost, when training is over.
      poll_seconds: between two looks at it.
    """

    accelerator: Annotated[str, Field(min_length=1)]
    zone: Annotated[str, Field(pattern=r'^[a-z]+-[a-z]+\d+-[a-z]$')]
    project: _Word = ''
    tier: Literal['spot', 'on_demand', 'reserved'] = 'spot'
    wait_hours: Annotated[int, Field(ge=0)] = 0
    runtime: _Word = ''
    network: _Word = ''
    subnetwork: _Word = ''
    service_account: _Word = ''
    internal_ips: Literal['yes', 'no'] = 'no'
    keep: Literal['yes', 'no'] = 'no'
    poll_seconds: Count = 60


def prepare(job: Job, options: Options) -> Submission:
    """Works out a launch.

    Raises:
      LaunchError: no such slice, or a run directory that would be lost with it.
    """
    slice_ = find_slice(options.accelerator)
    code.needs_address(job, 'a TPU slice')
    files = {
        'config.json': job.config,
        'install.sh': tpu_scripts.install(job),
        'run.sh': tpu_scripts.run(job),
        'start.sh': tpu_scripts.START,
        'status.sh': tpu_scripts.STATUS,
        'supervise.sh': _supervise(job, options, slice_),
        'stop.sh': _stop(job, options),
    }
    if not job.image:
        files['train.py'] = code.train_script(job)
    supervise = ('bash', f'{job.folder}/supervise.sh')
    return Submission(
        job.folder,
        files,
        [
            *code.build_steps(job, extra='tpu'),
            Step(
                f'{slice_.num_hosts} workers of {slice_.chips_per_host} chips, to the '
                'end of training.',
                supervise,
            ),
        ],
        _AFTERWARDS.format(folder=job.folder),
    )


_AFTERWARDS = """
# Logs: {folder}/logs, a folder an attempt. This command may be ended and given again.
# bash {folder}/stop.sh    saves, ends, and gives the slice back
"""


def _flags(options: Options) -> list[str]:
    project = [f'--project={options.project}'] if options.project else []
    return [f'--zone={options.zone}', *project, '--quiet']


def _create(job: Job, options: Options, slice_: Slice) -> list[str]:
    wanted = {
        'accelerator-type': slice_.accelerator_type,
        'runtime-version': options.runtime or slice_.runtime,
        'node-id': job.name,
        'valid-until-duration': f'{options.wait_hours}h' if options.wait_hours else '',
        'network': options.network,
        'subnetwork': options.subnetwork,
        'service-account': options.service_account,
        # To read and write buckets; the account's own roles say which.
        'scopes': 'https://www.googleapis.com/auth/cloud-platform',
    }
    flags = [f'--{key}={value}' for key, value in wanted.items() if value]
    tier = {'spot': ['--spot'], 'reserved': ['--reserved'], 'on_demand': []}
    inner = ['--internal-ips'] if options.internal_ips == 'yes' else []
    return [*flags, *tier[options.tier], *inner]


def _values(job: Job, options: Options) -> str:
    tunnel = ['--tunnel-through-iap'] if options.internal_ips == 'yes' else []
    lines = shell.assignments(
        {'name': job.name, 'folder': job.folder, 'remote': tpu_scripts.remote(job)}
    )
    arrays = (shell.array('where', _flags(options)), shell.array('reach', tunnel))
    return '\n'.join([lines, *arrays])


def _supervise(job: Job, options: Options, slice_: Slice) -> str:
    limits = {
        'max_restarts': job.restarts,
        'settled_seconds': 60 * job.settled_minutes,
        'poll_seconds': options.poll_seconds,
        'keep': options.keep,
    }
    brought = ['config.json', 'install.sh', 'run.sh', 'start.sh', 'status.sh']
    if not job.image:
        brought += ['train.py']
    return shell.filled(
        tpu_scripts.SUPERVISE,
        values='\n'.join([_values(job, options), shell.assignments(limits)]),
        create=shell.array('create', _create(job, options, slice_)),
        brought=shell.array('brought', brought),
        say=shell.SAY.strip(),
        judge=shell.JUDGE.strip(),
    )


def _stop(job: Job, options: Options) -> str:
    return shell.filled(tpu_scripts.STOP, values=_values(job, options))
