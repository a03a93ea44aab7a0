"""Kubernetes Engine: the manifest by the schema of JobSets, kubectl by a stub."""

import subprocess

import pytest
import yaml

from launching.job import LaunchError
from launching.targets import gke
from learning.schema import ConfigError
from tests.launching.stubs import Programs, make_job

IMAGE = 'us-docker.pkg.dev/p/r/spherecast:1'

# The part of jobset.x-k8s.io/v1alpha2, batch/v1 and core/v1 that the manifest uses, by
# the API references: a type, [a type] for lists, a dictionary for objects. Names that
# end with ! are required; nothing but these names may be there.
TEXTS = {'*': str}
CONTAINER = {
    'name!': str,
    'image!': str,
    'command': [str],
    'args': [str],
    'env': [{'name!': str, 'value': str}],
    'ports': [{'containerPort!': int}],
    'securityContext': {'privileged': bool},
    # Quantities are texts or whole numbers.
    'resources': {'limits': {'*': (str, int)}, 'requests': {'*': (str, int)}},
    'volumeMounts': [{'name!': str, 'mountPath!': str, 'readOnly': bool}],
}
POD = {
    'restartPolicy!': ('Never', 'OnFailure'),
    'terminationGracePeriodSeconds': int,
    'serviceAccountName': str,
    'nodeSelector': TEXTS,
    'tolerations': [
        {
            'key': str,
            'operator': ('Exists', 'Equal'),
            'value': str,
            'effect': ('NoSchedule', 'PreferNoSchedule', 'NoExecute'),
        }
    ],
    'containers!': [CONTAINER],
    'volumes': [{'name!': str, 'configMap': {'name!': str}}],
}
META = {'name!': str, 'namespace': str, 'labels': TEXTS, 'annotations': TEXTS}
JOB = {
    'parallelism': int,
    'completions': int,
    'completionMode': ('Indexed', 'NonIndexed'),
    'backoffLimit': int,
    'template!': {'metadata': {'labels': TEXTS}, 'spec!': POD},
}
JOB_SET = {
    'apiVersion!': ('jobset.x-k8s.io/v1alpha2',),
    'kind!': ('JobSet',),
    'metadata!': META,
    'spec!': {
        'failurePolicy': {'maxRestarts': int},
        'network': {'enableDNSHostnames': bool, 'publishNotReadyAddresses': bool},
        'replicatedJobs!': [
            {'name!': str, 'replicas': int, 'template!': {'spec!': JOB}}
        ],
    },
}
CONFIG_MAP = {
    'apiVersion!': ('v1',),
    'kind!': ('ConfigMap',),
    'metadata!': META,
    'data': TEXTS,
}


def check(value, schema, place='') -> None:
    """Asserts that a value is what the schema describes."""
    if isinstance(schema, type):
        # True is an int to Python, and not to Kubernetes.
        assert type(value) is schema, f'{place}: {value!r}'
    elif isinstance(schema, tuple):
        kinds = tuple(one for one in schema if isinstance(one, type))
        assert value in schema or isinstance(value, kinds), f'{place}: {value!r}'
    elif isinstance(schema, list):
        assert isinstance(value, list) and value, f'{place}: {value!r}'
        for i, entry in enumerate(value):
            check(entry, schema[0], f'{place}[{i}]')
    else:
        assert isinstance(value, dict), f'{place}: {value!r}'
        names = {name.rstrip('!'): kind for name, kind in schema.items()}
        for name in schema:
            assert not name.endswith('!') or name[:-1] in value, f'{place} lacks {name}'
        for name, entry in value.items():
            assert name in names or '*' in names, f'{place} has no {name}'
            check(entry, names.get(name, names.get('*')), f'{place}.{name}')


def options(**changes) -> gke.Options:
    return gke.Options.from_config({'accelerator': 'v5e-256', **changes})


def manifest(job=None, **changes):
    job = job or make_job('/f', image=IMAGE)
    text = gke.prepare(job, options(**changes)).files['jobset.yaml']
    return list(yaml.safe_load_all(text))


EVERYTHING = {
    'node_pool': 'pool',
    'spot': 'yes',
    'queue': 'q',
    'service_account': 'trainer',
    'memory': '100Gi',
    'cpu': '24',
    'namespace': 'weather',
}


@pytest.mark.parametrize('changes', [{}, EVERYTHING, {'accelerator': 'v5e-8'}])
def test_manifests_are_by_the_schema(changes):
    config_map, job_set = manifest(**changes)
    check(config_map, CONFIG_MAP)
    check(job_set, JOB_SET)


def test_a_v5e_256_is_64_pods_with_all_chips_of_their_nodes():
    _, job_set = manifest()
    (workers,) = job_set['spec']['replicatedJobs']
    job = workers['template']['spec']
    assert (job['parallelism'], job['completions']) == (64, 64)
    # JAX, or the TPU's webhook, could not number pods otherwise.
    assert job['completionMode'] == 'Indexed'
    pod = job['template']['spec']
    assert pod['nodeSelector'] == {
        'cloud.google.com/gke-tpu-accelerator': 'tpu-v5-lite-podslice',
        'cloud.google.com/gke-tpu-topology': '16x16',
    }
    tpu = {'google.com/tpu': 4}
    assert pod['containers'][0]['resources'] == {'limits': tpu, 'requests': tpu}


def test_pods_that_fail_begin_all_anew_so_many_times_and_have_time_to_save():
    job = make_job('/f', image=IMAGE, restarts=5, grace_seconds=90)
    _, job_set = manifest(job)
    assert job_set['spec']['failurePolicy'] == {'maxRestarts': 5}
    template = job_set['spec']['replicatedJobs'][0]['template']['spec']
    assert template['backoffLimit'] == 0
    pod = template['template']['spec']
    assert pod['restartPolicy'] == 'Never'
    assert pod['terminationGracePeriodSeconds'] == 90


def test_the_program_is_the_first_process_and_reads_the_config_that_was_checked():
    config = '{"a": "b: c # d"}\n'
    config_map, job_set = manifest(make_job('/f', image=IMAGE, config=config))
    assert config_map['data'] == {'config.json': config}
    template = job_set['spec']['replicatedJobs'][0]['template']['spec']['template']
    container = template['spec']['containers'][0]
    # No shell, which would keep signals for itself.
    assert container['command'] == ['python', '/app/scripts/train.py']
    assert container['args'] == [
        '--config=/etc/spherecast/config.json',
        '--workdir=gs://bucket/runs/run',
    ]
    (volume,) = template['spec']['volumes']
    assert volume['configMap']['name'] == config_map['metadata']['name']


def test_names_of_pods_are_not_too_long():
    # JOBSET-workers-0-63-xxxxx, of at most 63 characters.
    assert len('a' * 40 + '-workers-0-255-xxxxx') <= 63


KUBECTL = """
import os, pathlib
cloud = pathlib.Path(os.environ['CLOUD'])
verb = sys.argv[2]
if verb == 'get' and 'restarts' in sys.argv[-1]:
    print((cloud / 'attempt').read_text(), end='')
elif verb == 'get':
    attempt = int((cloud / 'attempt').read_text())
    if attempt == 1:
        print(os.environ['END'], end='')
    (cloud / 'attempt').write_text('1')
elif verb == 'logs':
    print('log of', (cloud / 'attempt').read_text(), '--prefix' in sys.argv)
"""


@pytest.mark.parametrize(('end', 'status'), [('Completed', 0), ('Failed', 1)])
def test_a_job_set_is_applied_and_followed_over_its_attempts(tmp_path, end, status):
    programs = Programs(tmp_path / 'bin')
    programs.add('kubectl', KUBECTL)
    programs.add_shell('sleep', 'exit 0')
    (tmp_path / 'attempt').write_text('0')
    made = gke.prepare(make_job(tmp_path, image=IMAGE), options())
    for name, text in made.files.items():
        (tmp_path / name).write_text(text)
    apply, follow = (step.command for step in made.steps)
    env = programs.environment | {'CLOUD': str(tmp_path), 'END': end}
    subprocess.run(apply, env=env, check=True)
    assert programs.calls() == [
        [
            'kubectl',
            '--namespace=default',
            'apply',
            f'--filename={tmp_path}/jobset.yaml',
        ]
    ]
    done = subprocess.run(follow, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert 'log of 0 False' in done.stdout and 'log of 1 False' in done.stdout
    for attempt in '01':
        text = (tmp_path / f'logs/attempt-{attempt}.txt').read_text()
        assert text == f'log of {attempt} True\n'
    logs = [call for call in programs.calls() if call[2] == 'logs'][:2]
    name = '--selector=jobset.sigs.k8s.io/jobset-name=run'
    wanted = ['kubectl', '--namespace=default', 'logs', name]
    everyone = [*wanted, '--prefix', '--follow', '--tail=-1', '--max-log-requests=64']
    assert everyone in logs


def test_an_image_is_built_of_this_checkout_when_that_is_asked_for():
    job = make_job('/f', image=IMAGE, build=True)
    build, push, *_ = gke.prepare(job, options()).steps
    assert build.command == (
        'docker',
        'build',
        f'--file={job.checkout}/launching/Dockerfile',
        '--build-arg=EXTRA=tpu',
        '--platform=linux/amd64',
        f'--tag={IMAGE}',
        job.checkout,
    )
    assert push.command == ('docker', 'push', IMAGE)


def test_scripts_are_bash():
    script = gke.prepare(make_job('/f', image=IMAGE), options()).files['follow.sh']
    subprocess.run(['bash', '-n'], input=script, text=True, check=True)


def test_what_cannot_run_there_is_refused():
    with pytest.raises(LaunchError, match='--image=REGISTRY/NAME:TAG'):
        gke.prepare(make_job('/f'), options())
    with pytest.raises(LaunchError, match='outlives the machines of Kubernetes'):
        gke.prepare(make_job('/f', image=IMAGE, workdir='runs/x'), options())


@pytest.mark.parametrize(
    'wrong',
    [{'namespace': 'A b'}, {'spot': 'maybe'}, {'memory': 'much'}, {'pool': 'x'}],
)
def test_impossible_wishes_are_refused(wrong):
    with pytest.raises(ConfigError):
        options(**wrong)
