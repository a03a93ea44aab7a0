"""TPU slices: a stub of gcloud has one of two workers, where scripts really run."""

import json
import pathlib
import subprocess

import pytest

from launching.job import LaunchError
from launching.targets import tpu
from learning.schema import ConfigError
from tests.launching.stubs import Programs, make_job

WHERE = ['--zone=us-west4-a', '--project=p', '--quiet']
QR = ['gcloud', 'compute', 'tpus', 'queued-resources']
# A slice is a file with its state and a folder for each worker, which are its homes.
GCLOUD = """
import os, pathlib, shutil, subprocess
cloud = pathlib.Path(os.environ['CLOUD'])
state = cloud / 'state'
verb, *words = sys.argv[4:]
flags = dict(word[2:].partition('=')[::2] for word in words if word.startswith('--'))
if verb == 'create':
    if state.exists():
        sys.exit('ALREADY_EXISTS')
    state.write_text('WAITING_FOR_RESOURCES')
    for worker in '01':
        (cloud / worker).mkdir()
    sys.exit()
if not state.exists():
    sys.exit('ERROR: NOT_FOUND: Resource was not found')
if verb == 'describe':
    print(state.read_text())
    if state.read_text() == 'WAITING_FOR_RESOURCES':
        state.write_text('ACTIVE')
    sys.exit()
if verb == 'delete':
    state.unlink()
    for worker in '01':
        shutil.rmtree(cloud / worker)
    sys.exit()
if state.read_text() != 'ACTIVE':
    sys.exit('ERROR: not active')
workers = '01' if flags['worker'] == 'all' else flags['worker']
if verb == 'scp':
    *sources, there = [word for word in words if not word.startswith('--')]
    for worker in workers:
        for source in sources:
            shutil.copy(source, cloud / worker / there.partition(':')[2])
    sys.exit()
for worker in workers:
    home = str(cloud / worker)
    out = None
    if 'output-directory' in flags:
        out = open(f"{flags['output-directory']}/{worker}.log", 'w')
    done = subprocess.run(
        ['bash', '-c', flags['command']],
        cwd=home, env={**os.environ, 'HOME': home, 'WORKER': worker}, stdout=out,
    )
    if done.returncode:
        sys.exit(done.returncode)
"""
INSTALL = """
cd "$(dirname "$0")"
mkdir -p environment/bin
echo 'exec bash "$@"' >environment/bin/python
chmod +x environment/bin/python
"""
# Both workers end with the next of the statuses that lie in the cloud; 'taken' is a
# slice that is taken away under them.
TRAIN = """
number=$(cat "$CLOUD/attempt")
read -r -a statuses <"$CLOUD/statuses"
status=${statuses[$number]}
echo "worker $WORKER: attempt $number $*"
if [ "$WORKER" = 0 ]; then
  # All workers have read it by then.
  /bin/sleep 0.3
  echo $((number + 1)) >"$CLOUD/attempt"
  if [ "$status" = taken ]; then
    echo SUSPENDED >"$CLOUD/state"
    exit 143
  fi
fi
exit "$status"
"""


def options(**changes) -> tpu.Options:
    asked = {'accelerator': 'v5e-256', 'zone': 'us-west4-a', 'project': 'p'}
    return tpu.Options.from_config(asked | changes)


class Cloud:
    """A launch whose supervisor runs against the stub of a cloud."""

    def __init__(self, tmp_path: pathlib.Path):
        self.programs = Programs(tmp_path / 'bin')
        self.programs.add('gcloud', GCLOUD)
        # The supervisor waits a tenth of what it is told.
        self.programs.add_shell('sleep', 'exec /usr/bin/env -S /bin/sleep 0.1')
        self.folder = tmp_path / 'folder'
        self.cloud = tmp_path / 'cloud'
        for folder in (self.folder, self.cloud):
            folder.mkdir()
        made = tpu.prepare(make_job(self.folder, restarts=3), options())
        for name, text in made.files.items():
            (self.folder / name).write_text(text)
        (self.folder / 'install.sh').write_text(INSTALL)
        (self.folder / 'train.py').write_text(TRAIN)
        (self.folder / 'code.whl').touch()

    def run(self, *statuses: object) -> subprocess.CompletedProcess:
        (self.cloud / 'statuses').write_text(' '.join(map(str, statuses)))
        (self.cloud / 'attempt').write_text('0')
        return self.supervise()

    def supervise(self) -> subprocess.CompletedProcess:
        return subprocess.run(
            ['bash', str(self.folder / 'supervise.sh')],
            env=self.programs.environment | {'CLOUD': str(self.cloud)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def attempts(self) -> int:
        return int((self.cloud / 'attempt').read_text())

    def verbs(self) -> list[str]:
        return [call[4] for call in self.programs.calls()]


@pytest.fixture
def cloud(tmp_path) -> Cloud:
    return Cloud(tmp_path)


def test_a_slice_is_asked_for_made_ready_started_followed_and_given_back(cloud):
    done = cloud.run(0)
    assert done.returncode == 0, done.stdout + done.stderr
    first = [call for call in cloud.programs.calls() if call[4] != 'describe'][:6]
    create, look, mkdir, scp, install, start = first
    assert create == [
        *QR,
        'create',
        'run',
        '--accelerator-type=v5litepod-256',
        '--runtime-version=v2-alpha-tpuv5-lite',
        '--node-id=run',
        '--scopes=https://www.googleapis.com/auth/cloud-platform',
        '--spot',
        *WHERE,
    ]
    ssh = [*QR, 'ssh', 'run']
    remote = 'spherecast/run'
    assert look == [*ssh, '--worker=0', f'--command=bash {remote}/status.sh 1', *WHERE]
    assert mkdir == [*ssh, '--worker=all', f'--command=mkdir -p {remote}', *WHERE]
    names = ['config.json', 'install.sh', 'run.sh', 'start.sh', 'status.sh', 'train.py']
    sources = [f'{cloud.folder}/{name}' for name in [*names, 'code.whl']]
    assert scp == [*QR, 'scp', *sources, f'run:{remote}', '--worker=all', *WHERE]
    command = f'--command=bash {remote}/install.sh'
    assert install == [*ssh, '--worker=all', command, *WHERE]
    assert start == [*ssh, '--worker=all', f'--command=bash {remote}/start.sh', *WHERE]
    assert cloud.verbs()[-1] == 'delete'
    assert not (cloud.cloud / 'state').exists()


def test_workers_are_told_where_to_train_and_their_logs_are_kept(cloud):
    done = cloud.run(0)
    line = 'worker 0: attempt 0 --config=config.json --workdir=gs://bucket/runs/run'
    assert line in done.stdout
    (logs,) = (cloud.folder / 'logs').iterdir()
    assert (logs / '0.log').read_text().strip() == line
    assert (logs / '1.log').read_text().startswith('worker 1: attempt 0')


def test_a_slice_that_is_taken_away_is_asked_for_again_and_training_goes_on(cloud):
    done = cloud.run('taken', 0)
    assert done.returncode == 0, done.stdout + done.stderr
    assert cloud.attempts == 2
    assert cloud.verbs().count('create') == 2
    assert 'slice run: SUSPENDED' in done.stdout


def test_a_training_that_a_signal_stopped_is_started_on_the_same_slice(cloud):
    done = cloud.run(143, 0)
    assert (done.returncode, cloud.attempts) == (0, 2)
    assert cloud.verbs().count('create') == 1


def test_restarts_are_bounded_and_the_slice_is_given_back(cloud):
    done = cloud.run(*[143] * 9)
    assert (done.returncode, cloud.attempts) == (143, 4)
    assert 'after 3 restarts' in done.stdout
    assert not (cloud.cloud / 'state').exists()


def test_an_error_that_repeats_is_the_end(cloud):
    done = cloud.run(1, 1, 0)
    assert (done.returncode, cloud.attempts) == (1, 2)
    assert 'the error repeats' in done.stdout


def test_a_supervisor_that_is_started_again_finds_its_workers(cloud):
    # Somebody started them already, and they take their time.
    (cloud.cloud / 'statuses').write_text('0')
    (cloud.cloud / 'attempt').write_text('0')
    slow = TRAIN.replace('/bin/sleep 0.3', '/bin/sleep 3')
    (cloud.folder / 'train.py').write_text(slow)
    env = cloud.programs.environment | {'CLOUD': str(cloud.cloud)}
    script = str(cloud.folder / 'supervise.sh')
    first = subprocess.Popen(['bash', script], env=env, stdout=subprocess.PIPE)
    for line in first.stdout:
        if b'attempt 0' in line:
            break
    first.kill()
    first.communicate()
    done = cloud.supervise()
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'training runs already' in done.stdout
    assert cloud.verbs().count('create') == 1
    assert cloud.attempts == 1


def test_a_signal_reaches_the_training_whose_status_is_kept(tmp_path):
    # run.sh is what a machine that is taken away sends SIGTERM to.
    made = tpu.prepare(make_job(tmp_path), options())
    (tmp_path / 'run.sh').write_text(made.files['run.sh'])
    (tmp_path / 'environment/bin').mkdir(parents=True)
    python = tmp_path / 'environment/bin/python'
    saving = 'trap "sleep 0.5; echo saved; exit 143" TERM; echo ready; sleep 60 & wait'
    python.write_text(f'#!/bin/bash\n{saving}\n')
    python.chmod(0o755)
    with subprocess.Popen(
        ['bash', str(tmp_path / 'run.sh')], stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout.readline() == 'ready\n'
        running.terminate()
        assert running.stdout.readline() == 'saved\n'
        # The sleep that was left holds the pipe.
        running.stdout.close()
    assert (tmp_path / 'status').read_text() == '143\n'


def test_stopping_for_good_tells_workers_and_the_supervisor(cloud):
    cloud.run(0)
    script = str(cloud.folder / 'stop.sh')
    env = cloud.programs.environment | {'CLOUD': str(cloud.cloud)}
    subprocess.run(['bash', script], env=env, check=False, capture_output=True)
    assert (cloud.folder / 'stop').exists()
    kill = '--command=kill -TERM $(cat spherecast/run/pid)'
    assert cloud.programs.calls()[-1] == [
        *QR,
        'ssh',
        'run',
        '--worker=all',
        kill,
        *WHERE,
    ]


def test_every_wish_is_a_flag_of_gcloud():
    wishes = options(
        tier='reserved',
        wait_hours=6,
        network='n',
        subnetwork='s',
        service_account='a@p.iam',
        internal_ips='yes',
        runtime='r',
    )
    script = tpu.prepare(make_job('/f'), wishes).files['supervise.sh']
    for flag in (
        '--reserved',
        '--valid-until-duration=6h',
        '--network=n',
        '--subnetwork=s',
        '--service-account=a@p.iam',
        '--internal-ips',
        '--runtime-version=r',
    ):
        assert flag in script
    assert 'reach=(--tunnel-through-iap)' in script


@pytest.mark.parametrize('image', ['', 'us-docker.pkg.dev/p/r/spherecast:1'])
def test_scripts_are_bash(image):
    made = tpu.prepare(make_job("/a'b".replace("'", '-'), image=image), options())
    scripts = [text for name, text in made.files.items() if name.endswith('.sh')]
    assert len(scripts) == 6
    for text in scripts:
        assert '@' not in text.replace('${where[@]}', '').replace('[@]', '').replace(
            '$@', ''
        )
        subprocess.run(['bash', '-n'], input=text, text=True, check=True)


def test_an_image_is_pulled_and_its_process_gets_signals():
    made = tpu.prepare(make_job('/f', image='host.dev/p:1'), options())
    assert 'docker pull --quiet host.dev/p:1' in made.files['install.sh']
    assert 'docker kill --signal=TERM run' in made.files['run.sh']
    assert 'train.py' not in made.files
    assert [step.command[0] for step in made.steps] == ['bash']


def test_the_config_is_brought_as_it_was_checked():
    job = make_job('/f', config=json.dumps({'a': "it's"}))
    assert tpu.prepare(job, options()).files['config.json'] == job.config


def test_a_run_directory_on_a_worker_is_refused():
    with pytest.raises(LaunchError, match='outlives the machines.*got runs/x'):
        tpu.prepare(make_job('/f', workdir='runs/x'), options())


@pytest.mark.parametrize(
    'wrong', [{'zone': 'here'}, {'tier': 'free'}, {'accelerator': ''}, {'zones': 'x'}]
)
def test_impossible_wishes_are_refused(wrong):
    with pytest.raises(ConfigError):
        options(**wrong)
