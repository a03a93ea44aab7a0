"""SLURM: the batch script really runs, its processes too, and is queued again."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from launching.job import LaunchError
from launching.launch import CHECKOUT
from launching.targets import slurm
from learning.schema import ConfigError
from tests.launching.stubs import Programs, make_job
from tests.weather import tiny
from weather.experiment import Experiment

# What Slurm does with a batch script: it runs, and again whenever it was queued again.
SBATCH = """
import os, pathlib, subprocess
queued = pathlib.Path(os.environ['QUEUED'])
queued.touch()
while queued.exists():
    queued.unlink()
    status = subprocess.run(['bash', sys.argv[-1]]).returncode
sys.exit(status)
"""
SCONTROL = """
import os, pathlib
pathlib.Path(os.environ['QUEUED']).touch()
"""
# And with a step: so many processes on this machine, each told who it is. The status is
# the highest.
SRUN = """
import os, subprocess
words = [word for word in sys.argv[1:] if not word.startswith('--')]
words = sys.argv[sys.argv.index(words[0]):]
count = os.environ['SLURM_NTASKS']
def start(i):
    place = {'SLURM_PROCID': str(i), 'SLURM_LOCALID': '0', 'SLURM_NTASKS': count}
    here = {'SLURM_STEP_NODELIST': '127.0.0.1', 'SLURM_STEP_NUM_NODES': '1'}
    return subprocess.Popen(words, env={**os.environ, **place, **here})
processes = [start(i) for i in range(int(count))]
sys.exit(max(process.wait() for process in processes))
"""
# A training that a signal ends once, after it has saved, and that then goes on; JAX
# finds out by itself that there are two processes.
TRAINING = """
import os, pathlib, sys
saved = pathlib.Path(os.environ['SAVED'])
first = os.environ['SLURM_PROCID'] == '0'
if not saved.exists():
    import time
    time.sleep(0.5)
    if first:
        saved.write_text('1')
    sys.exit(143)
import jax
jax.distributed.initialize(initialization_timeout=60)
from jax.experimental import multihost_utils
ids = multihost_utils.process_allgather(jax.numpy.array(jax.process_index()))
if first:
    print('processes', ids.tolist(), 'devices', jax.device_count(), sys.argv[1:])
    saved.write_text('2')
"""
QUICK = """
import os, pathlib, sys
outcomes = pathlib.Path(os.environ['OUTCOMES'])
status, *rest = outcomes.read_text().split()
outcomes.write_text(' '.join(rest))
sys.exit(int(status))
"""
# The whole job is asked to end, batch script and all, as in a preemption.
PREEMPTED = """
import os, signal, sys, time
# This process is of srun's, and that of the batch script.
batch = open(f'/proc/{os.getppid()}/stat').read().rpartition(')')[2].split()[1]
os.kill(int(batch), signal.SIGTERM)
time.sleep(1)  # It saves.
sys.exit(143)
"""


def options(**changes) -> slurm.Options:
    return slurm.Options.from_config({'nodes': 4, **changes})


@pytest.fixture
def programs(tmp_path) -> Programs:
    found = Programs(tmp_path / 'bin')
    found.add('sbatch', SBATCH)
    found.add('scontrol', SCONTROL)
    found.add('srun', SRUN)
    return found


def run(tmp_path, programs, training, *, ntasks=1, **environment):
    """Submits a job of a stub of a training to the stub of a cluster."""
    job = make_job(tmp_path, restarts=3)
    made = slurm.prepare(job, options(gpus_per_node=0, environment=sys.prefix))
    for name, text in made.files.items():
        # Nobody waits here for Slurm to end the script.
        text = text.replace('linger_seconds=600', 'linger_seconds=0')
        (tmp_path / name).write_text(text)
    (tmp_path / 'train.py').write_text(training)
    told = {'SLURM_JOB_ID': '7', 'SLURM_NTASKS': str(ntasks)}
    told |= {'QUEUED': str(tmp_path / 'queued'), 'SAVED': str(tmp_path / 'saved')}
    return subprocess.run(
        made.steps[-1].command,
        env=programs.environment | told | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def outcomes(tmp_path, programs, *statuses):
    """Runs a training whose attempts end with these statuses."""
    (tmp_path / 'outcomes').write_text(' '.join(map(str, statuses)))
    done = run(tmp_path, programs, QUICK, OUTCOMES=str(tmp_path / 'outcomes'))
    return done, len((tmp_path / 'outcomes').read_text().split())


def test_two_processes_are_stopped_queued_again_and_go_on(tmp_path, programs):
    done = run(tmp_path, programs, TRAINING, ntasks=2)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / 'saved').read_text() == '2'
    assert 'processes [0, 1] devices 2' in done.stdout
    assert '--workdir=gs://bucket/runs/run' in done.stdout
    assert programs.calls('scontrol') == [['scontrol', 'requeue', '7']]
    assert len(programs.calls('srun')) == 2


def test_a_job_that_is_asked_to_end_as_a_whole_leaves_the_queue_to_slurm(
    tmp_path, programs
):
    done = run(tmp_path, programs, PREEMPTED)
    # The status is the training's, for which the script has waited.
    assert done.returncode == 143
    assert 'training has ended with 143' in done.stdout
    assert programs.calls('scontrol') == []


def test_a_training_that_is_done_is_not_queued_again(tmp_path, programs):
    done, left = outcomes(tmp_path, programs, 0, 0)
    assert (done.returncode, left) == (0, 1)
    assert 'training is done' in done.stdout


def test_signals_begin_a_new_attempt_a_bounded_number_of_times(tmp_path, programs):
    done, left = outcomes(tmp_path, programs, 143, 137, 130, 143, 0)
    assert (done.returncode, left) == (143, 1)
    assert 'ended with 143 after 3 restarts, and no more are allowed' in done.stdout


def test_an_error_is_tried_once_more_and_then_stops(tmp_path, programs):
    done, left = outcomes(tmp_path, programs, 1, 1, 0)
    assert (done.returncode, left) == (1, 1)
    assert 'the error repeats (status 1' in done.stdout


def test_an_error_between_signals_does_not_stop(tmp_path, programs):
    done, left = outcomes(tmp_path, programs, 1, 143, 1, 0)
    assert (done.returncode, left) == (0, 0)


def test_processes_that_did_not_come_are_waited_for_again(tmp_path, programs):
    done, left = outcomes(tmp_path, programs, 75, 75, 75, 0)
    assert (done.returncode, left) == (0, 0)


def test_a_file_asks_for_no_further_attempt(tmp_path, programs):
    (tmp_path / 'stop').touch()
    done, left = outcomes(tmp_path, programs, 143, 0)
    assert (done.returncode, left) == (143, 1)


def test_four_nodes_of_eight_gpus_are_32_processes_that_see_all_gpus_of_a_node():
    made = slurm.prepare(make_job('/shared/run'), options(memory='0', partition='gpu'))
    script = made.files['job.sh']
    directives = re.findall(r'^#SBATCH --(.*)$', script, re.MULTILINE)
    assert directives == [
        'job-name=run',
        'nodes=4',
        'ntasks-per-node=8',
        'gpus-per-node=8',
        'mem=0',
        'time=24:00:00',
        'partition=gpu',
        'signal=TERM@120',
        'output=/shared/run/log-%j.txt',
        'open-mode=append',
        'requeue',
    ]
    srun = re.search(r'^srun .*?&$', script, re.MULTILINE | re.DOTALL)[0]
    assert srun.replace('\\\n    ', '').split() == [
        'srun',
        '--label',
        '--kill-on-bad-exit=0',
        '--wait=300',
        '--gpu-bind=none',
        '"$environment/bin/python"',
        '/shared/run/train.py',
        '--config=/shared/run/config.json',
        '--workdir=gs://bucket/runs/run',
        '&',
    ]
    wheel, queue = made.steps
    assert wheel.command[1:4] == ('-m', 'pip', '--quiet')
    assert queue.command == ('sbatch', '--parsable', '/shared/run/job.sh')


@pytest.mark.parametrize(
    ('container', 'words'),
    [
        (
            'apptainer',
            'apptainer exec --nv --bind=/shared/run --bind=/shared/w docker://a/b:1 '
            'python /app/scripts/train.py',
        ),
        (
            'pyxis',
            '--container-image=a/b:1 '
            '--container-mounts=/shared/run:/shared/run,/shared/w:/shared/w '
            'python /app/scripts/train.py',
        ),
    ],
)
def test_an_image_is_run_with_the_folders_that_it_needs(container, words):
    job = make_job('/shared/run', image='a/b:1', workdir='/shared/w')
    script = slurm.prepare(job, options(container=container)).files['job.sh']
    assert words in script.replace(' \\\n    ', ' ')
    assert 'venv' not in script


@pytest.mark.parametrize('container', ['apptainer', 'pyxis'])
@pytest.mark.parametrize('image', ['', 'a/b:1'])
def test_scripts_are_bash(tmp_path, image, container):
    job = make_job('/shared/run', image=image)
    script = slurm.prepare(job, options(container=container)).files['job.sh']
    subprocess.run(['bash', '-n'], input=script, text=True, check=True)


def test_a_workdir_that_depends_on_where_one_stands_is_refused():
    with pytest.raises(LaunchError, match='--workdir as a whole path.*got runs/x'):
        slurm.prepare(make_job('/shared/run', workdir='runs/x'), options())


@pytest.mark.parametrize(
    'wrong',
    [
        {'time': 'tomorrow'},
        {'partition': 'a b'},
        {'account': 'x\n#SBATCH --nodes=99'},
        {'nodes': 0},
        {'gpus': 8},
    ],
)
def test_impossible_wishes_are_refused(wrong):
    with pytest.raises(ConfigError):
        options(**wrong)


def processes_of(script: str) -> list[int]:
    """The processes of Python that run a script themselves."""
    found = []
    for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
        with contextlib.suppress(OSError):  # One that has just ended.
            if path.read_bytes().split(b'\0')[1:2] == [script.encode()]:
                found.append(int(path.parent.name))
    return found


@pytest.mark.slow
def test_real_training_of_two_processes_is_stopped_queued_again_and_done(tmp_path):
    # All of it: launch.py, sbatch, the script, srun, train.py, SIGTERM, and once more.
    programs = Programs(tmp_path / 'bin')
    for name, body in {'sbatch': SBATCH, 'scontrol': SCONTROL, 'srun': SRUN}.items():
        programs.add(name, body)
    store = tmp_path / 'tiny.zarr'
    tiny.write_store(store)
    entries = tiny.entries(store)
    entries['training'] |= {
        'num_updates': 400,
        'checkpoint_every': 1000,
        'validate_every': 1000,
    }
    config = tmp_path / 'config.json'
    config.write_text(Experiment.from_config(entries).to_json())
    told = {'SLURM_JOB_ID': '7', 'SLURM_NTASKS': '2', 'JAX_PLATFORMS': 'cpu'}
    told |= {'QUEUED': str(tmp_path / 'queued'), 'PYTHONPATH': str(CHECKOUT)}
    flags = [
        *(f'--config={config}', '--target=slurm', '--name=run', '--launch.nodes=2'),
        *(f'--workdir={tmp_path}/run', f'--folder={tmp_path}/launch'),
        *('--launch.gpus_per_node=0', f'--launch.environment={sys.prefix}'),
    ]
    out = tmp_path / 'out.txt'
    with out.open('w') as file:
        launched = subprocess.Popen(
            [sys.executable, str(CHECKOUT / 'scripts/launch.py'), *flags],
            env=programs.environment | told,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    while launched.poll() is None and 'update 3/400' not in out.read_text():
        time.sleep(0.2)
    trainings = processes_of(f'{tmp_path}/launch/train.py')
    assert len(trainings) == 2, out.read_text()
    for process in trainings:
        os.kill(process, signal.SIGTERM)
    assert launched.wait() == 0, out.read_text()
    text = out.read_text()
    for part in (
        'stopped by SIGTERM',
        'ended with 143',
        'resuming',
        'training is done',
    ):
        assert part in text
    assert programs.calls('scontrol') == [['scontrol', 'requeue', '7']]
