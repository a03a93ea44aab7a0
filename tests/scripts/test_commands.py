"""Every command explains itself at once and refuses what it does not know."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path.name for path in (ROOT / 'scripts').glob('*.py'))


def run(script, *flags):
    return subprocess.run(
        [sys.executable, f'scripts/{script}', *flags],
        cwd=ROOT,
        env={'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize('script', SCRIPTS)
def test_help_has_an_example(script):
    done = run(script, '--help')
    assert done.returncode == 0
    assert 'Example' in done.stdout
    assert f'scripts/{script}' in done.stdout


@pytest.mark.parametrize('script', SCRIPTS)
def test_an_unknown_flag_is_refused(script):
    done = run(script, '--workdirr=x', '--outputt=x')
    assert done.returncode == 1
    assert 'Unknown command line flag' in done.stderr
    assert 'Traceback' not in done.stderr


def test_a_misspelt_flag_names_the_nearest():
    done = run('forecast.py', '--workdri=x')
    assert 'Did you mean: workdir' in done.stderr


def test_a_misspelt_config_key_names_the_nearest():
    done = run(
        'train.py',
        '--config=configs/demo.py',
        '--workdir=x',
        '--config.training.batchsize=3',
    )
    assert done.returncode == 1
    assert done.stderr.startswith('error: unknown key config.training.batchsize')
    assert "did you mean 'batch_size'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_whole_config_is_printed_and_is_a_config(tmp_path):
    flags = ('--print_config', '--config.loss.variable_weights.temperature=2')
    done = run('train.py', '--config=configs/demo.py', *flags)
    assert done.returncode == 0
    printed = tmp_path / 'printed.json'
    printed.write_text(done.stdout)
    assert json.loads(done.stdout)['training']['beta2'] == 0.98
    again = run('train.py', f'--config={printed}', '--print_config')
    assert again.stdout == done.stdout


def test_an_error_is_one_line_unless_its_origin_is_asked_for(tmp_path):
    flags = (f'--workdir={tmp_path}', f'--output={tmp_path / "out"}')
    done = run('forecast.py', *flags)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith('error: no run in')
    assert 'Traceback' not in done.stderr
    assert 'Traceback' in run('forecast.py', *flags, '--traceback').stderr


def test_a_missing_store_is_named_before_anything_is_written(tmp_path):
    workdir = tmp_path / 'run'
    done = run(
        'train.py',
        '--config=configs/demo.py',
        f'--workdir={workdir}',
        '--config.data.store=nowhere.zarr',
    )
    assert done.returncode == 1
    assert 'nowhere.zarr' in done.stderr
    assert not workdir.exists()
