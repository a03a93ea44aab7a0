"""From flags to launches: what is wrong is said before anything is begun."""

import json
import pathlib
import subprocess
import sys

import pytest

from launching import launch, targets
from launching.job import LaunchError

SCRIPT = str(launch.CHECKOUT / 'scripts/launch.py')
DEMO = str(launch.CHECKOUT / 'configs/demo.py')


def prepare(target='tpu', options=None, overrides=None, **changes):
    asked = {'accelerator': 'v5e-256', 'zone': 'us-west4-a'}
    job = {'name': 'run', 'workdir': 'gs://b/run', 'config': '{}', **changes}
    return launch.prepare(
        target, asked if options is None else options, overrides or {}, **job
    )


def test_every_file_of_the_folder_is_a_target_with_options_and_a_plan():
    assert targets.names() == ('gke', 'slurm', 'tpu', 'xpk')
    for name in targets.names():
        module = targets.load(name)
        assert module.Options and module.prepare


def test_the_nearest_target_is_named():
    with pytest.raises(LaunchError, match='gke, slurm, tpu, xpk, got .slurn.*slurm'):
        prepare('slurn')


def test_the_config_is_that_of_the_command_that_trains():
    text = launch.check_config(DEMO, {'training.batch_size': '16'})
    assert json.loads(text)['training']['batch_size'] == 16


def test_a_config_that_training_refuses_is_refused_in_its_words():
    with pytest.raises(LaunchError, match='^unknown key config.training.batchsize'):
        launch.check_config(DEMO, {'training.batchsize': '16'})


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'overrides': {'zon': 'x'}}, 'unknown key --launch.zon.*zone'),
        ({'options': {}}, '--launch of tpu lacks accelerator, zone'),
        ({'overrides': {'poll_seconds': '0'}}, '--launch.poll_seconds.*at least 1'),
        ({'name': 'Run_1'}, '--name.*lower-case letters, digits and hyphens'),
        ({'workdir': 'gs://a b'}, '--workdir.*without blanks'),
        ({'restarts': -1}, '--restarts.*at least 0'),
    ],
)
def test_impossible_wishes_are_refused_by_their_flags(changes, message):
    with pytest.raises(LaunchError, match=message):
        prepare(**changes)


def test_keys_of_the_command_line_are_stronger_than_those_of_a_file():
    made = prepare(overrides={'accelerator': 'v6e-64', 'tier': 'on_demand'})
    script = made.files['supervise.sh']
    assert '--accelerator-type=v6e-64' in script and '--spot' not in script


def test_the_folder_is_named_after_the_job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert prepare().folder == str(tmp_path / 'launches/run')
    assert prepare(folder='x').folder == str(tmp_path / 'x')


@pytest.mark.parametrize(
    ('target', 'flags'),
    [
        ('tpu', ['--launch.accelerator=v5e-256', '--launch.zone=us-west4-a']),
        ('slurm', ['--launch.nodes=4', '--folder=/shared/x']),
    ],
)
def test_a_dry_run_prints_everything_and_does_nothing(tmp_path, target, flags):
    done = subprocess.run(
        [
            *(sys.executable, SCRIPT, f'--config={DEMO}', f'--target={target}'),
            *('--dry_run', '--name=run', '--workdir=gs://b/run', *flags),
            '--config.training.batch_size=16',
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"batch_size": 16' in done.stdout
    assert '# Commands' in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_wrong_flags_end_in_one_line(tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, SCRIPT, f'--config={DEMO}', '--target=tpu', '--dry_run'),
            *('--name=run', '--workdir=runs/x', '--launch.accelerator=v5e-256'),
            '--launch.zone=us-west4-a',
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert done.stderr.startswith('error: expected a workdir that outlives')
    assert done.stderr.count('\n') == 1


def test_the_image_holds_all_that_the_wheel_and_the_command_need():
    text = (launch.CHECKOUT / 'launching/Dockerfile').read_text()
    copied = {
        word
        for line in text.splitlines()
        if line.startswith('COPY')
        for word in line.split()[1:-1]
    }
    rooms = {'learning', 'sphere_ops', 'weather'}
    assert rooms | {'scripts', 'setup.py', 'pyproject.toml', 'README.md'} <= copied
    for name in copied:
        assert (pathlib.Path(launch.CHECKOUT) / name).exists()
