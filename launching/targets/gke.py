"""TPU node pools of Kubernetes Engine, by a JobSet that `kubectl` applies.

One pod a host; the JobSet gives them names that reach each other, Kubernetes Engine
tells them who they are, and JAX recognises both. A pod that ends badly, or whose node
is taken away, makes the JobSet begin anew, with all pods, `restarts` times at most. The
program is the container's first process: SIGTERM reaches it.
"""

from __future__ import annotations

from typing import Annotated, Any

import yaml
from pydantic import Field

from launching import code, shell
from launching.accelerators import Slice, find_slice
from launching.job import Job
from launching.submission import Step, Submission
from learning.schema import Config

_Label = Annotated[str, Field(pattern=r'^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')]
_Quantity = Annotated[str, Field(pattern=r'^(\d+(\.\d+)?(m|[KMGT]i?)?)?$')]
_CONFIG = '/etc/spherecast'
# The name in logs and of pods, and so in the selectors of `kubectl`.
_WORKERS = 'workers'


class Options(Config):
    """What is asked of the cluster.

    Attributes:
      accelerator: slice by its name, as the node pool has it: v5e-256.
      namespace: of the JobSet.
      context: of `kubectl`; empty: the present one.
      node_pool: name; empty: any of this accelerator and topology.
      spot: `yes` for pods on nodes that may be taken away.
      queue: of Kueue; empty: none.
      service_account: of Kubernetes, which may read and write the buckets; empty: the
        namespace's default.
      memory, cpu: what a pod asks for; empty: nothing is said.
    """

    accelerator: Annotated[str, Field(min_length=1)]
    namespace: _Label = 'default'
    context: Annotated[str, Field(pattern=r'^[\w.@:/-]*$')] = ''
    node_pool: Annotated[str, Field(pattern=r'^[-a-z0-9]*$')] = ''
    spot: Annotated[str, Field(pattern='^(yes|no)$')] = 'no'
    queue: Annotated[str, Field(pattern=r'^[-a-z0-9.]*$')] = ''
    service_account: Annotated[str, Field(pattern=r'^[-a-z0-9.]*$')] = ''
    memory: _Quantity = ''
    cpu: _Quantity = ''


def prepare(job: Job, options: Options) -> Submission:
    """Works out a launch.

    Raises:
      LaunchError: no such slice, no image, or a run directory that would be lost.
    """
    slice_ = find_slice(options.accelerator)
    code.needs_image(job, 'Kubernetes')
    code.needs_address(job, 'Kubernetes')
    manifest = yaml.dump_all(
        [_config_map(job, options), _job_set(job, options, slice_)],
        Dumper=_Dumper,
        sort_keys=False,
    )
    kubectl = shell.command(_kubectl(options)).replace(' \\\n    ', ' ')
    follow = shell.filled(
        _FOLLOW,
        values=shell.assignments(
            {'name': job.name, 'folder': job.folder, 'pods': slice_.num_hosts}
        ),
        kubectl=shell.array('kubectl', _kubectl(options)),
        say=shell.SAY.strip(),
    )
    apply = (*_kubectl(options), 'apply', f'--filename={job.folder}/jobset.yaml')
    return Submission(
        job.folder,
        {'jobset.yaml': manifest, 'follow.sh': follow},
        [
            *code.build_steps(job, extra='tpu'),
            Step(f'{slice_.num_hosts} pods, and again after failures.', apply),
            Step('Its logs, to its end.', ('bash', f'{job.folder}/follow.sh')),
        ],
        _AFTERWARDS.format(kubectl=kubectl, name=job.name, folder=job.folder),
    )


_AFTERWARDS = """
# {kubectl} describe jobset {name}    where it stands
# bash {folder}/follow.sh                 its logs, once more
# {kubectl} delete jobset {name}      saves, and ends for good
"""


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such: the config is meant to be read."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '|' if '\n' in text else None
    return dumper.represent_scalar('tag:yaml.org,2002:str', text, style=style)


_Dumper.add_representer(str, _text)


def _kubectl(options: Options) -> list[str]:
    context = [f'--context={options.context}'] if options.context else []
    return ['kubectl', *context, f'--namespace={options.namespace}']


def _config_map(job: Job, options: Options) -> dict[str, Any]:
    return {
        'apiVersion': 'v1',
        'kind': 'ConfigMap',
        'metadata': {'name': f'{job.name}-config', 'namespace': options.namespace},
        'data': {'config.json': job.config},
    }


def _job_set(job: Job, options: Options, slice_: Slice) -> dict[str, Any]:
    queue = {'kueue.x-k8s.io/queue-name': options.queue} if options.queue else {}
    return {
        'apiVersion': 'jobset.x-k8s.io/v1alpha2',
        'kind': 'JobSet',
        'metadata': {
            'name': job.name,
            'namespace': options.namespace,
            'labels': queue,
            # All pods in one node pool, which is one slice, and nobody else's there.
            'annotations': {
                'alpha.jobset.sigs.k8s.io/exclusive-topology': (
                    'cloud.google.com/gke-nodepool'
                )
            },
        },
        'spec': {
            'failurePolicy': {'maxRestarts': job.restarts},
            'network': {'enableDNSHostnames': True, 'publishNotReadyAddresses': True},
            'replicatedJobs': [
                {
                    'name': _WORKERS,
                    'replicas': 1,
                    'template': {'spec': _workers(job, options, slice_)},
                }
            ],
        },
    }


def _workers(job: Job, options: Options, slice_: Slice) -> dict[str, Any]:
    return {
        'parallelism': slice_.num_hosts,
        'completions': slice_.num_hosts,
        'completionMode': 'Indexed',
        # One pod is of no use without the others: the JobSet starts all anew.
        'backoffLimit': 0,
        'template': {
            'metadata': {'labels': {'app': job.name}},
            'spec': _pod(job, options, slice_),
        },
    }


def _pod(job: Job, options: Options, slice_: Slice) -> dict[str, Any]:
    selector = {
        'cloud.google.com/gke-tpu-accelerator': slice_.node_label,
        'cloud.google.com/gke-tpu-topology': slice_.topology,
    }
    tolerations = [
        {'key': 'google.com/tpu', 'operator': 'Exists', 'effect': 'NoSchedule'}
    ]
    if options.node_pool:
        selector['cloud.google.com/gke-nodepool'] = options.node_pool
    if options.spot == 'yes':
        selector['cloud.google.com/gke-spot'] = 'true'
        spot = {'key': 'cloud.google.com/gke-spot', 'operator': 'Equal'}
        tolerations.append({**spot, 'value': 'true', 'effect': 'NoSchedule'})
    account = options.service_account
    return {
        'restartPolicy': 'Never',
        'terminationGracePeriodSeconds': job.grace_seconds,
        **({'serviceAccountName': account} if account else {}),
        'nodeSelector': selector,
        'tolerations': tolerations,
        'containers': [_container(job, options, slice_)],
        'volumes': [{'name': 'config', 'configMap': {'name': f'{job.name}-config'}}],
    }


def _container(job: Job, options: Options, slice_: Slice) -> dict[str, Any]:
    # Kubernetes Engine wants limits and requests of TPUs to be the same, and all of a
    # node's.
    tpu = {'google.com/tpu': slice_.chips_per_host}
    other = {'cpu': options.cpu, 'memory': options.memory}
    requests = {key: value for key, value in other.items() if value}
    return {
        'name': _WORKERS,
        'image': job.image,
        'command': ['python', '/app/scripts/train.py'],
        'args': job.arguments(f'{_CONFIG}/config.json'),
        'env': [{'name': 'PYTHONUNBUFFERED', 'value': '1'}],
        # Of the TPU runtime, and of jax.distributed.
        'ports': [{'containerPort': 8471}, {'containerPort': 8482}],
        'securityContext': {'privileged': True},
        'resources': {'limits': dict(tpu), 'requests': requests | tpu},
        'volumeMounts': [{'name': 'config', 'mountPath': _CONFIG, 'readOnly': True}],
    }


_FOLLOW = r"""#!/bin/bash
# Keeps the logs of all pods, shows the first one's, and waits for the JobSet to end.
# May be ended at any time: the pods go on.
set -u
@VALUES@
@KUBECTL@

@SAY@

selector=jobset.sigs.k8s.io/jobset-name=$name
first=$selector,batch.kubernetes.io/job-completion-index=0
mkdir -p "$folder/logs"

ask() {
  "${kubectl[@]}" get jobset "$name" --output=jsonpath="$1"
}

while :; do
  attempt=$(ask '{.status.restarts}') || exit 1
  attempt=${attempt:-0}
  if "${kubectl[@]}" wait pods --selector="$first" --for=condition=Ready \
      --timeout=60s >"$folder/errors.txt" 2>&1; then
    say "attempt $attempt"
    "${kubectl[@]}" logs --selector="$selector" --prefix --follow --tail=-1 \
      --max-log-requests="$pods" >>"$folder/logs/attempt-$attempt.txt" &
    all=$!
    "${kubectl[@]}" logs --selector="$first" --follow --tail=-1
    wait "$all"
  fi
  case $(ask '{.status.terminalState}') in
    Completed)
      say 'training is done'
      exit 0
      ;;
    Failed)
      say "it has failed for good: see $folder/logs"
      exit 1
      ;;
  esac
  sleep 5
done
"""
