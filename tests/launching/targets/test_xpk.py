"""xpk: the exact command, and the line that its shells run."""

import base64
import shlex
import subprocess

import pytest

from launching.job import LaunchError
from launching.targets import xpk
from learning.schema import ConfigError
from tests.launching.stubs import Programs, make_job

IMAGE = 'us-docker.pkg.dev/p/r/spherecast:1'
CONFIG = '{"name": "it\'s {x}: $HOME # y"}\n'


def options(**changes) -> xpk.Options:
    asked = {'accelerator': 'v5e-256', 'cluster': 'pods', 'zone': 'us-west4-a'}
    return xpk.Options.from_config(asked | changes)


def test_a_workload_is_created_with_all_that_xpk_wants(tmp_path, monkeypatch):
    programs = Programs(tmp_path / 'bin')
    programs.add('xpk')
    monkeypatch.setenv('PATH', programs.environment['PATH'])
    job = make_job(tmp_path / 'f', image=IMAGE, config=CONFIG)
    xpk.prepare(job, options(project='p')).submit()
    config = base64.b64encode(CONFIG.encode()).decode()
    assert programs.calls() == [
        [
            'xpk',
            'workload',
            'create',
            '--workload=run',
            '--cluster=pods',
            '--tpu-type=v5litepod-256',
            '--num-slices=1',
            f'--docker-image={IMAGE}',
            '--priority=medium',
            '--max-restarts=20',
            '--termination-grace-period-seconds=120',
            f'--command=echo {config} | base64 -d > /tmp/config.json && exec python '
            '/app/scripts/train.py --config=/tmp/config.json '
            '--workdir=gs://bucket/runs/run',
            '--restart-on-user-code-failure',
            '--zone=us-west4-a',
            '--project=p',
        ]
    ]


def test_the_line_brings_the_config_and_becomes_the_program(tmp_path):
    # As xpk runs it: in the background of a shell, which passes SIGTERM on to `$!`.
    programs = Programs(tmp_path / 'bin')
    body = 'echo $$; cat "${2#--config=}"; sleep 60'
    programs.add_shell('python', f'trap "exit 143" TERM\n{body} & wait')
    job = make_job('/f', image=IMAGE, config=CONFIG)
    create = xpk.prepare(job, options()).steps[-1].command
    (line,) = (w.partition('=')[2] for w in create if w.startswith('--command='))
    assert '\n' not in line
    place = tmp_path / 'config.json'
    line = line.replace('/tmp/config.json', shlex.quote(str(place)))
    script = f'({line}) & pid=$!; sleep 1; kill -TERM $pid; wait $pid; echo end $?'
    with (tmp_path / 'out').open('w') as out:
        subprocess.run(
            ['bash', '-c', script],
            env=programs.environment,
            stdout=out,
            check=True,
            timeout=30,
        )
    assert place.read_text() == CONFIG
    assert 'end 143' in (tmp_path / 'out').read_text()


def test_what_cannot_run_there_is_refused():
    with pytest.raises(LaunchError, match='an image of the code for xpk'):
        xpk.prepare(make_job('/f'), options())
    with pytest.raises(LaunchError, match='outlives the machines of xpk'):
        xpk.prepare(make_job('/f', image=IMAGE, workdir='runs/x'), options())
    with pytest.raises(ConfigError, match='lacks cluster'):
        xpk.Options.from_config({'accelerator': 'v5e-256', 'zone': 'us-west4-a'})
