"""The one rule of outputs, for every command that writes: nothing is ever lost."""

import contextlib
import dataclasses
import pathlib
import runpy
import shutil

import netCDF4
import pytest
import xarray as xr
from absl import flags

from learning import config_flags
from learning.files import MARK, OutputError, read_mark

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE = 'atmosphere.zarr'
FORECAST = ('--workdir=run', '--init_times=2001-01-09T00', '--lead_hours=6')


@dataclasses.dataclass(frozen=True)
class Command:
    """A command that writes.

    Attributes:
      script: its file.
      flags: what it reads.
      suffix: of what it writes.
      breaks: what is made to fail in the middle of the writing.
      again: flags of the second time, where the same thing would be left as it is.
      file: what is replaced inside a folder that holds other things too, if so.
    """

    script: str
    flags: tuple[str, ...]
    suffix: str
    breaks: str
    again: tuple[str, ...] = ()
    file: str = ''


COMMANDS = {
    'climatology': Command(
        'compute_climatology.py',
        (f'--store={SOURCE}',),
        '.zarr',
        'weather.data.climatology.zarr.consolidate_metadata',
    ),
    'statistics': Command(
        'compute_statistics.py',
        ('--config=run/config.json',),
        '.nc',
        'xarray.Dataset.to_netcdf',
    ),
    'examples': Command(
        'export_tfds.py',
        (f'--store={SOURCE}',),
        '',
        'weather.data.tfds_export._verify',
    ),
    'scores': Command(
        'evaluate.py',
        ('--forecast=run/forecasts', f'--truth={SOURCE}', '--regions=global'),
        '.csv',
        'weather.evaluation.score_file._record',
    ),
    'report': Command(
        'report.py',
        ('--workdir=run', '--scores='),
        '.html',
        'weather.report.report.render_report',
    ),
    'forecast': Command(
        'forecast.py',
        FORECAST,
        '',
        'weather.forecasting.export.NetcdfWriter._put',
        file='forecast_20010109T0000.nc',
    ),
    'forecasts': Command(
        'forecast.py', FORECAST, '.zarr', 'weather.forecasting.export.ZarrWriter._put'
    ),
    'planet': Command(
        'simulate.py',
        ('--days=1', '--spin_up_days=0'),
        '.zarr',
        'weather.data.simulation.planet_store.zarr.consolidate_metadata',
        again=('--seed=1',),
    ),
}


def call(command, output, *others):
    """Runs a command in this process, as its script does after the flags are read."""
    with contextlib.suppress(ImportError):
        # Declares flags when it is first imported, which must not go with the script's.
        import array_record.python.array_record_data_source  # noqa: F401
    known = set(flags.FLAGS)
    try:
        main = runpy.run_path(str(ROOT / 'scripts' / command.script))['main']
        given = [*command.flags, f'--output={output}', *others]
        flags.FLAGS(config_flags.declare([command.script, *given]))
        main()
    finally:
        for name in set(flags.FLAGS) - known:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What the kept run of version 0.1 reads and made, and things of other people."""
    path = tmp_path / 'v1'
    shutil.copytree(ROOT / 'tests/old_runs/v1', path)
    monkeypatch.chdir(path)
    monkeypatch.setenv('SPHERECAST_PREPARATION', str(tmp_path / 'shelf'))
    for module in ('fields', 'scores'):  # Pictures take long.
        monkeypatch.setattr(f'weather.report.{module}.to_image', lambda *_: 'data:,')
    monkeypatch.setattr('weather.report.fields.draw_maps', lambda *_: None)
    (path / 'page').write_text('do not lose me')
    xr.Dataset({'precious': 1.0}).to_zarr(path / 'theirs.zarr', zarr_format=2)
    with netCDF4.Dataset(path / 'other.nc', 'w') as file:
        file.setncattr(MARK, 'other')
    return path


def contents(folder):
    files = (path for path in sorted(folder.rglob('*')) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def fail(*_, **__):
    raise OSError('disk full')


@pytest.mark.parametrize('kind', COMMANDS)
def test_only_its_own_is_replaced_when_told_and_by_what_is_whole(
    folder, monkeypatch, kind
):
    command = COMMANDS[kind]
    output = folder / f'new{command.suffix}'
    call(command, output)
    assert read_mark(output / command.file) == kind
    before = contents(folder)
    with pytest.raises(OutputError, match='--overwrite'):
        call(command, output, *command.again)
    assert contents(folder) == before
    with monkeypatch.context() as patched:
        patched.setattr(command.breaks, fail)
        with pytest.raises(OSError, match='disk full'):
            call(command, output, '--overwrite', *command.again)
    assert contents(folder) == before
    call(command, output, '--overwrite', *command.again)
    assert read_mark(output / command.file) == kind
    assert not [path for path in folder.rglob('.*') if '.tmp' in path.name]


@pytest.mark.parametrize('kind', COMMANDS)
def test_what_is_not_its_own_stays(folder, kind):
    command = COMMANDS[kind]
    notes = folder / f'notes{command.suffix}'
    notes.mkdir()
    (notes / (command.file or 'thesis.txt')).write_text('do not lose me')
    targets = ['page', 'other.nc', 'theirs.zarr', SOURCE, 'run/config.json', 'run', '.']
    if command.script == 'forecast.py' and command.suffix:
        # Any other name would be that of a folder of netCDF files.
        targets = [target for target in targets if target.endswith(command.suffix)]
    elif command.file:
        targets.remove('.')  # Files of its own beside others lose nothing.
    before = contents(folder)
    for target in (*targets, notes):
        with pytest.raises((OutputError, ValueError)):
            call(command, folder / target, '--overwrite', *command.again)
            pytest.fail(f'{target} was written to')
        assert contents(folder) == before
