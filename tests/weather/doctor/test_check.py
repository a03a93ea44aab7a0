"""Every planted fault is found with its variable, level and time, and nothing else is.

`found` are tuples (variable, level, position in time or None, kind).
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tracemalloc
import warnings

import fsspec
import numpy as np
import pytest
import xarray as xr
import zarr

from sphere_ops.grid import LatLonGrid
from tests.weather import tiny
from tests.weather.doctor.conftest import GRID, LEVELS, TIMES, UPPER_AIR, made
from weather.data.faults import read_faults, write_faults
from weather.data.preparation import prepare
from weather.data.record import Record, RecordWriter
from weather.data.store import open_atmosphere
from weather.data.summary import summarise
from weather.data.windows import WindowIndex
from weather.doctor.check import Scope, check_store
from weather.experiment import Experiment


@pytest.fixture(autouse=True)
def shelf(tmp_path, monkeypatch):
    monkeypatch.setenv('SPHERECAST_PREPARATION', str(tmp_path / 'shelf'))


def found(path, scope=None):
    report = check_store(path, scope)
    times = np.unique(made().time.values).tolist()
    return {
        (
            fault.variable,
            fault.level,
            None if fault.time is None else times.index(fault.time.item()),
            fault.fault,
        )
        for fault in report.listed.faults
    }


@pytest.mark.parametrize('start', ['2030-01-01', 'soon'])
def test_a_period_of_nothing_is_not_sound(clean, write, start):
    with pytest.raises(ValueError, match=f'expected .*{start}'):
        check_store(write(clean), Scope(start=start))


@pytest.mark.parametrize('options', [{}, {'zarr_format': 2}, {'times_per_chunk': 7}])
def test_a_clean_store_has_no_fault(clean, write, options):
    path = write(clean, **options)
    report = check_store(path)
    assert report.listed.faults == []
    said = {(note.variable, note.level) for note in report.notes}
    assert said == {('specific_humidity', 50), ('sea_surface_temperature', None)}
    assert len(report.levels) == 12 and report.times.size == TIMES


def test_a_reanalysis_has_no_fault(shared_data):
    report = check_store(str(shared_data / 'ncep_r1_20220101_5d_73x144.zarr'))
    assert report.listed.faults == []
    absent = {(note.variable, note.level) for note in report.notes}
    humidity = {('specific_humidity', p) for p in (50, 100, 150, 200, 250)}
    assert absent == humidity | {('vertical_velocity', 50)}


def test_a_snapshot_of_era5_lacks_nothing_but_times(shared_data):
    report = check_store(str(shared_data / 'era5_19590102T00_tl31_37levels.nc'))
    assert [(f.fault, f.detail) for f in report.listed.faults] == [
        ('axes', 'there is no axis of times')
    ]


@pytest.mark.parametrize('spin_up_days', [0, 10])
def test_a_simulated_planet_has_no_fault(tmp_path, spin_up_days):
    # From rest too: shocks while the model finds its balance are no jumps.
    simulation = pytest.importorskip('weather.data.simulation')
    config = simulation.SimulationConfig(num_days=15, spin_up_days=spin_up_days)
    path = simulation.simulate(config, tmp_path / 'planet.zarr')
    assert check_store(str(path)).listed.faults == []


def nan(values):
    values[...] = np.nan


def one_nan(values):
    values[..., 3, 4] = np.nan


def huge(values):
    values[..., 3, 4] = 1e20


def celsius(values):
    values -= np.float32(273.15)


def constant(values):
    values[...] = 250


def rolled(values):
    values[...] = np.roll(values, 4, axis=-1)[..., ::-1, :]


@pytest.mark.parametrize(
    'spoil, kind',
    [
        (nan, 'NaN'),
        (one_nan, 'NaN'),
        (huge, 'implausible'),
        (celsius, 'implausible'),
        (constant, 'constant'),
        (rolled, 'jump'),
    ],
)
@pytest.mark.parametrize('max_bytes', [1, 2**24])
@pytest.mark.parametrize('level', [None, 300, 850])
def test_a_spoilt_field_is_found_where_it_is(
    clean, write, spoil, kind, max_bytes, level
):
    name = '2m_temperature' if level is None else 'temperature'
    values = clean[name].values
    for time in (11, 17):
        spoil(values[time] if level is None else values[time, LEVELS.index(level)])
    if (spoil, level) == (nan, None):
        kind = 'missing chunk'  # Zarr leaves it out: nobody can tell the two apart.
    expected = {(name, level, time, kind) for time in (11, 17)}
    assert found(write(clean), Scope(max_bytes=max_bytes)) == expected


@pytest.mark.parametrize('max_bytes', [1, 2**24])
def test_a_field_that_is_repeated_is_frozen_from_the_second_on(clean, write, max_bytes):
    clean['geopotential'][12:15] = clean['geopotential'][11].values
    clean['temperature'][21, 2] = clean['temperature'][20, 2].values
    assert found(write(clean), Scope(max_bytes=max_bytes)) == {
        *(('geopotential', None, time, 'frozen') for time in (12, 13, 14)),
        ('temperature', 500, 21, 'frozen'),
    }


def test_a_frozen_field_with_values_missing_is_found(clean, write):
    clean['specific_humidity'][12] = clean['specific_humidity'][11].values
    kinds = {('specific_humidity', level, 12, 'frozen') for level in (300, 500, 850)}
    assert found(write(clean)) == kinds


def chunk(path, name, time, *, zarr_format=3):
    dims = 4 if name in UPPER_AIR else 3
    numbers = [str(time), *['0'] * (dims - 1)]
    if zarr_format == 2:
        return pathlib.Path(path, name, '.'.join(numbers))
    return pathlib.Path(path, name, 'c', *numbers)


@pytest.mark.parametrize('zarr_format', [2, 3])
@pytest.mark.parametrize('fill', [0, 7, np.nan])
def test_a_chunk_left_out_is_missing_whatever_the_fill_value(
    clean, write, zarr_format, fill
):
    path = write(clean, zarr_format=zarr_format)
    for name in ('temperature', '2m_temperature'):
        file = pathlib.Path(path, name, '.zarray' if zarr_format == 2 else 'zarr.json')
        metadata = json.loads(file.read_text())
        metadata['fill_value'] = 'NaN' if fill != fill else fill
        metadata.get('attributes', {}).pop('_FillValue', None)
        file.write_text(json.dumps(metadata))
        if zarr_format == 2:
            attributes = pathlib.Path(path, name, '.zattrs')
            others = json.loads(attributes.read_text())
            others.pop('_FillValue', None)
            attributes.write_text(json.dumps(others))
        chunk(path, name, 9, zarr_format=zarr_format).unlink()
    assert found(path) == {
        ('temperature', None, 9, 'missing chunk'),
        ('2m_temperature', None, 9, 'missing chunk'),
    }


@pytest.mark.parametrize('left', [b'', b'\x28\xb5\x2f\xfdcut'])
def test_a_damaged_chunk_is_named_and_the_scan_goes_on(clean, write, left):
    clean['geopotential'][20, 1] = np.nan
    path = write(clean)
    for time in (5, 6):
        chunk(path, 'geopotential', time).write_bytes(left)
    assert found(path) == {
        ('geopotential', None, 5, 'unreadable'),
        ('geopotential', None, 6, 'unreadable'),
        ('geopotential', 300, 20, 'NaN'),
    }


def test_a_damaged_chunk_of_one_level_is_of_that_level(clean, write):
    path = write(clean)
    shutil.rmtree(pathlib.Path(path, 'temperature'))
    clean[['temperature']].to_zarr(
        path,
        mode='a',
        zarr_format=3,
        consolidated=False,
        encoding={'temperature': {'chunks': (4, 1, *GRID.shape)}},
    )
    pathlib.Path(path, 'temperature', 'c', '2', '3', '0', '0').write_bytes(b'bad')
    pathlib.Path(path, 'temperature', 'c', '4', '1', '0', '0').unlink()
    assert found(path) == {
        *(('temperature', 850, time, 'unreadable') for time in range(8, 12)),
        *(('temperature', 300, time, 'missing chunk') for time in range(16, 20)),
    }


def test_the_axis_of_times_is_judged_although_no_other_command_opens_it(clean, write):
    times = clean.time.values
    order = [*range(10), 9, *range(10, 20), *range(23, TIMES)]
    doubled = clean.isel(time=order)
    assert found(write(doubled)) == {
        ('time', None, 9, 'doubled time'),
        ('time', None, 19, 'gap'),
    }
    swapped = clean.isel(time=[*range(10), 11, 10, *range(12, TIMES)])
    assert found(write(swapped, name='swapped.zarr')) == {
        ('time', None, 10, 'decreasing time')
    }
    uneven = clean.assign_coords(time=np.where(times == times[15], times + 1, times))
    uneven = uneven.assign_coords(
        time=np.where(times == times[15], times + np.timedelta64(90, 'm'), times)
    )
    report = check_store(write(uneven, name='uneven.zarr'))
    (fault,) = report.listed.faults
    assert (fault.fault, str(fault.time)[:16]) == ('uneven time', '2020-01-04T19:30')
    assert fault.detail.startswith('1.5 h after a multiple of the step of 6 h')


def test_units_grid_and_calendar_are_judged(clean, write):
    clean['temperature'].attrs['units'] = 'Pa'
    assert found(write(clean)) == {('temperature', None, None, 'units')}
    with_calendar = made().convert_calendar('noleap')
    path = write(with_calendar, name='noleap.zarr')
    assert found(path) == {('all', None, None, 'calendar')}
    setup = experiment(write(made(), name='good.zarr'), kind='gauss')
    (fault,) = check_store(setup.data.store, Scope(setup)).listed.faults
    assert (fault.variable, fault.fault) == ('all', 'grid')
    assert 'gauss' in fault.detail and 'equiangular' in fault.detail


def test_values_in_other_units_at_all_times_are_one_fault(clean, write):
    clean['temperature'] -= 273.15
    clean['geopotential'] /= 9.80665
    report = check_store(write(clean))
    assert {(f.variable, f.time, f.fault) for f in report.listed.faults} == {
        ('temperature', None, 'units'),
        ('geopotential', None, 'units'),
    }
    details = ' '.join(fault.detail for fault in report.listed.faults)
    assert 'degrees Celsius' in details and 'metres (heights)' in details


def test_what_is_nan_below_the_ground_is_one_fault_with_its_remedy(clean, write):
    ground = (clean.latitude > 20) & (clean.longitude < 90) & (clean.level > 600)
    masked = clean['temperature'].where(~ground)
    clean['temperature'] = masked.transpose(*clean['temperature'].dims)
    (fault,) = check_store(write(clean)).listed.faults
    assert fault[:4] == ('temperature', 850, None, 'below ground')
    assert "prepare.below_ground='fill'" in fault.detail


def experiment(path, *, kind='equiangular', variables=None, **data):
    entries = tiny.entries(path)
    grid = {'kind': kind, 'num_lat': GRID.num_lat, 'num_lon': GRID.num_lon}
    wanted = {name: (500, 850) for name in UPPER_AIR if name != 'specific_humidity'}
    entries['grid'] = grid
    entries['data'].update(
        variables=variables or wanted,
        statics=('land_sea_mask',),
        train=('2020-01-01', '2020-01-07'),
        validation=('2020-01-08', '2020-01-08'),
        test=('2020-01-09', '2020-01-10'),
    )
    entries['data'].update(data)
    return Experiment.from_config(entries)


def test_a_config_says_what_is_looked_at_and_what_is_lacking(clean, write):
    clean['temperature'][3, 0] = np.nan  # 50 hPa, not wanted.
    clean['temperature'][3, 2] = np.nan
    clean['2m_temperature'][4] = np.nan
    path = write(clean)
    wanted = {'temperature': (500, 700), 'specific_humidity': (50, 850)}
    setup = experiment(path, variables={**wanted, 'surface_pressure': ()})
    assert found(path, Scope(setup)) == {
        ('temperature', 500, 3, 'NaN'),
        ('temperature', 700, None, 'absent'),
        ('specific_humidity', 50, None, 'absent'),
        ('surface_pressure', None, None, 'absent'),
    }


def test_training_skips_exactly_the_faulty_times_of_its_channels(clean, write):
    clean['temperature'][5, 2] = 1e20
    clean['geopotential'][12] = clean['geopotential'][11].values
    clean['2m_temperature'][20] = np.nan  # Not in use.
    clean['temperature'][33, 3, 2, 2] = np.nan  # Of the test period.
    path = write(clean)
    for time in (17, 29):
        chunk(path, 'vertical_velocity', time).write_bytes(b'bad')
    setup = experiment(path)
    atmosphere = open_atmosphere(path, levels=setup.data.stored.levels)
    with pytest.raises(ValueError, match='cannot read vertical_velocity'):
        prepare(setup, atmosphere)
    write_faults(check_store(path).listed)
    prepared = prepare(setup, atmosphere)
    expected = clean.time.values[[5, 12, 17, 29]]
    assert prepared.invalid_times.tolist() == expected.tolist()
    windows = WindowIndex(
        clean.time.values, period=setup.data.train, invalid=prepared.invalid_times
    )
    skipped = set(range(27)) - set(windows.starts(1).tolist())
    assert skipped == {4, 5, 11, 12, 16, 17}
    assert prepared.statistics['std'].max() < 1e4


def test_a_part_of_a_store_leaves_what_was_found_elsewhere(clean, write):
    clean['temperature'][[5, 25], 2] = np.nan
    clean['2m_temperature'][7] = np.nan
    path = write(clean)
    whole = found(path)
    write_faults(check_store(path).listed)
    zarr.open_group(path, mode='r+')['temperature'][5] = made()['temperature'].values[5]
    part = Scope(experiment(path), start='2020-01-01', end='2020-01-04')
    assert found(path, part) == whole - {('temperature', 500, 5, 'NaN')}
    write_faults(check_store(path, part).listed)
    assert read_faults(path).versions['temperature'] is not None
    assert found(path) == whole - {('temperature', 500, 5, 'NaN')}


@pytest.fixture
def prepared_store(clean, write):
    """A store with a record of everything that moves."""
    path = write(clean)
    add_record(path)
    return path


def add_record(path):
    with xr.open_zarr(path, chunks=None, consolidated=False) as dataset:
        moving = {n: f.load() for n, f in dataset.items() if 'time' in f.dims}
    writer = RecordWriter.create(
        path,
        variables={name: f.sizes.get('level', 1) for name, f in moving.items()},
        num_times=TIMES,
        block=TIMES,
    )
    for name, field in moving.items():
        values = field.values.reshape(TIMES, -1, *GRID.shape)
        before = np.full_like(values, np.nan)
        before[1:] = values[:-1]
        writer.write(name, 0, summarise(values, before, GRID.area_weights))
    writer.finish()


def test_a_prepared_store_is_compared_with_its_checksums(prepared_store):
    assert found(prepared_store) == set()
    field = zarr.open_group(prepared_store, mode='r+')['temperature']
    field[8, 1, 2, 2] = np.nextafter(field[8, 1, 2, 2], np.float32(1e9))
    assert found(prepared_store) == {('temperature', None, 8, 'checksum')}
    # With a config too, though it wants some levels only.
    setup = experiment(prepared_store)
    assert found(prepared_store, Scope(setup)) == {('temperature', None, 8, 'checksum')}
    chunk(prepared_store, 'temperature', 8).unlink()
    assert found(prepared_store) == {
        ('temperature', None, 8, 'checksum'),
        ('temperature', None, 8, 'missing chunk'),
    }


def test_a_gap_of_a_prepared_store_was_made_on_purpose(clean, write):
    path = write(clean.isel(time=[*range(10), *range(14, TIMES)]))
    assert found(path) == {('time', None, 9, 'gap')}
    setup = experiment(path, train=('2020-01-01', '2020-01-03'))
    assert found(path, Scope(setup)) == set()


def test_the_record_alone_shows_what_was_wrong_when_it_was_written(clean, write):
    clean['temperature'][6, 1, 0, 0] = np.nan
    clean['geopotential'][7] = clean['geopotential'][6].values
    clean['2m_temperature'][9, 3, 3] = 1e20
    path = write(clean)
    with pytest.raises(ValueError, match='expected the record .* without --quick'):
        check_store(path, Scope(quick=True))
    add_record(path)
    for name in UPPER_AIR:
        shutil.rmtree(pathlib.Path(path, name, 'c'))  # Nothing is read.
    assert found(path, Scope(quick=True)) == {
        ('temperature', 300, 6, 'NaN'),
        ('geopotential', None, 7, 'frozen'),
        ('2m_temperature', None, 9, 'implausible'),
    }


def test_a_copy_that_agrees_has_its_record_in_use_again(prepared_store):
    for name in UPPER_AIR:
        file = chunk(prepared_store, name, 3)
        file.write_bytes(file.read_bytes())
    assert Record.open(prepared_store).is_older_than_its_fields()
    part = Scope(start='2020-01-01', end='2020-01-05')
    check_store(prepared_store, part)
    assert Record.open(prepared_store).is_older_than_its_fields()
    check_store(prepared_store)
    assert not Record.open(prepared_store).is_older_than_its_fields()


def test_nothing_known_is_an_error_that_lists_what_is_there(clean, write):
    path = write(clean[['2m_temperature']].rename({'2m_temperature': 'unheard_of'}))
    with pytest.raises(ValueError, match='found unheard_of; known are geopotential'):
        check_store(path)
    with pytest.raises(ValueError, match='found nothing there'):
        check_store(path.replace('store.zarr', 'nowhere.zarr'))


def test_memory_does_not_grow_with_the_number_of_times(write):
    grid, peaks = LatLonGrid('equiangular', num_lat=60, num_lon=90), []
    for num_times in (100, 1000):
        dataset = made(num_times, grid)[['temperature', '2m_temperature']]
        path = write(dataset, name=f'{num_times}.zarr')
        del dataset
        tracemalloc.start()
        check_store(path, Scope(max_bytes=2**20))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        shutil.rmtree(path)
    assert peaks[1] < 1.1 * peaks[0]


def test_a_store_at_an_address_has_its_list_beside_it(clean, write):
    clean['temperature'][5, 2] = np.nan
    path, address = write(clean), 'memory://test_check/store.zarr'
    memory = fsspec.filesystem('memory')
    memory.put(path, '/test_check/store.zarr', recursive=True)
    memory.rm('/test_check/store.zarr/geopotential/c/8', recursive=True)
    memory.pipe_file('/test_check/store.zarr/geopotential/c/9/0/0/0', b'cut')
    assert found(address) == {
        ('temperature', 500, 5, 'NaN'),
        ('geopotential', None, 8, 'missing chunk'),
        ('geopotential', None, 9, 'unreadable'),
    }
    write_faults(check_store(address).listed)
    setup = experiment(address)
    atmosphere = open_atmosphere(address, levels=setup.data.stored.levels)
    expected = clean.time.values[[5, 8, 9]].tolist()
    assert prepare(setup, atmosphere).invalid_times.tolist() == expected


def test_files_of_months_are_checked_as_one(clean, tmp_path):
    clean['temperature'][25, 1, 2, 3] = np.nan
    for part, times in enumerate((slice(0, 16), slice(16, 40))):
        clean.isel(time=times).to_netcdf(tmp_path / f'{part}.nc')
    assert found(f'{tmp_path}/*.nc') == {('temperature', 300, 25, 'NaN')}


def command(*arguments):
    return subprocess.run(
        [sys.executable, 'scripts/check_data.py', *arguments],
        capture_output=True,
        text=True,
    )


def test_the_command_ends_with_status_1_on_a_fault(clean, write):
    path = write(clean)
    sound = command(f'--store={path}')
    assert sound.returncode == 0, sound.stderr
    assert 'sound: no fault in 12 variables' in sound.stdout
    assert read_faults(path).faults == []
    zarr.open_group(path, mode='r+')['temperature'][9, 1, 2, 3] = np.nan
    faulty = command(f'--store={path}')
    assert faulty.returncode == 1, faulty.stderr
    assert 'temperature  300    2020-01-03T06:00  NaN' in faulty.stdout
    assert len(read_faults(path).faults) == 1
    assert command('--help').returncode == 0
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        nothing = command()
    assert nothing.returncode == 1 and 'say what to check' in nothing.stderr
