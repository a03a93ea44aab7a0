"""TPU clusters of xpk: `xpk workload create` makes the JobSet.

xpk starts a new attempt on statuses from 127 to 255, which are signals, and, with
`--restart-on-user-code-failure`, on any other: a worker that lost another one ends with
an error too.
"""

from __future__ import annotations

import base64
from typing import Annotated, Literal

from pydantic import Field

from launching import code, shell
from launching.accelerators import find_slice
from launching.job import Job
from launching.submission import Step, Submission
from learning.schema import Config

_Word = Annotated[str, Field(pattern=r'^[\w.:-]*$')]
_CONFIG = '/tmp/config.json'


class Options(Config):
    """What is asked of the cluster.

    Attributes:
      accelerator: slice by its name: v5e-256.
      cluster: as xpk made it.
      zone: of the cluster.
      project: of the bill; empty: that of `gcloud`.
      priority: in the queue.
    """

    accelerator: Annotated[str, Field(min_length=1)]
    cluster: Annotated[str, Field(pattern=r'^[a-z][-a-z0-9]*$')]
    zone: Annotated[str, Field(pattern=r'^[a-z]+-[a-z]+\d+-[a-z]$')]
    project: _Word = ''
    priority: Literal['very-low', 'low', 'medium', 'high', 'very-high'] = 'medium'


def prepare(job: Job, options: Options) -> Submission:
    """Works out a launch.

    Raises:
      LaunchError: no such slice, no image, or a run directory that would be lost.
    """
    slice_ = find_slice(options.accelerator)
    code.needs_image(job, 'xpk')
    code.needs_address(job, 'xpk')
    wanted = {
        'workload': job.name,
        'cluster': options.cluster,
        'tpu-type': slice_.accelerator_type,
        'num-slices': 1,
        'docker-image': job.image,
        'priority': options.priority,
        'max-restarts': job.restarts,
        'termination-grace-period-seconds': job.grace_seconds,
        'command': _command(job),
    }
    create = [f'--{key}={value}' for key, value in wanted.items()]
    command = ('xpk', 'workload', 'create', *create, '--restart-on-user-code-failure')
    where = _where(options)
    return Submission(
        job.folder,
        {'config.json': job.config},
        [
            *code.build_steps(job, extra='tpu'),
            Step(f'{slice_.num_hosts} pods.', (*command, *where)),
        ],
        _AFTERWARDS.format(
            name=job.name, cluster=options.cluster, where=' '.join(where)
        ),
    )


_AFTERWARDS = """
# xpk workload list --cluster={cluster} --filter-by-job={name} {where}
# xpk workload delete --cluster={cluster} --workload={name} {where}
# kubectl logs --follow --selector=jobset.sigs.k8s.io/jobset-name={name} --prefix
"""


def _where(options: Options) -> list[str]:
    project = [f'--project={options.project}'] if options.project else []
    return [f'--zone={options.zone}', *project]


def _command(job: Job) -> str:
    # xpk writes it into YAML and lets a shell run it in the background, whose signals
    # it passes on: one line, and nothing between that shell and the program.
    config = base64.b64encode(job.config.encode()).decode()
    words = ['python', '/app/scripts/train.py', *job.arguments(_CONFIG)]
    train = ' '.join(map(shell.quoted, words))
    return f'echo {config} | base64 -d > {_CONFIG} && exec {train}'
