"""A prepared store is what its sources say, on the grid and at the times wanted."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr

from learning.files import OutputError
from learning.lock import LockedError, hold
from sphere_ops import LatLonGrid
from sphere_ops.regridding import ConservativeRegridder
from tests.weather.building import made
from weather.building import layout, tasks
from weather.building.build import build_store
from weather.data import preparation, store
from weather.data.prepared_climatology import prepare_climatology
from weather.data.record import Record
from weather.data.statistics import scan
from weather.data.summary import checksum

ROOT = pathlib.Path(__file__).resolve().parents[3]
NUM_HOURS = 5 * 24 + 1


@pytest.fixture(scope='module')
def source(tmp_path_factory) -> str:
    """Five days of an hourly atmosphere."""
    path = tmp_path_factory.mktemp('source') / 'hourly.zarr'
    return made.write(made.dataset(made.hours(NUM_HOURS)), path)


def build(setup, sources, path, **options) -> xr.Dataset:
    """The store, as anybody opens it."""
    build_store(setup, [sources] if isinstance(sources, str) else sources, str(path))
    return xr.open_zarr(path, chunks=None)


def files(path: pathlib.Path) -> dict[str, bytes]:
    """All files of a store but for the moment at which it was made."""
    found = {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob('*'))
        if file.is_file()
    }
    root = json.loads(found['zarr.json'])
    del root['attributes']['created']
    found['zarr.json'] = json.dumps(root).encode()
    return found


WANTED = np.concatenate(
    [made.hours(12, 6), made.hours(4, 6, np.datetime64('2001-01-05', 'ns'))]
)


def test_values_are_those_of_the_source_at_every_time_level_and_place(source, tmp_path):
    found = build(made.experiment(), source, tmp_path / 'out.zarr')
    # The day between validation and test is left out.
    np.testing.assert_array_equal(found.time.values, WANTED)
    np.testing.assert_array_equal(found.level.values, made.LEVELS)
    np.testing.assert_array_equal(found.latitude.values, made.GRID.latitudes)
    for name in made.UPPER:
        assert found[name].dims == ('time', 'level', 'latitude', 'longitude')
        for level in made.LEVELS:
            np.testing.assert_array_equal(
                found[name].sel(level=level).values, made.value(name, WANTED, level)
            )
    hill = 10 * np.arange(128).reshape(8, 16)
    np.testing.assert_array_equal(found.geopotential_at_surface.values, hill)
    assert found.temperature.attrs['units'] == 'K'
    assert found.temperature.attrs['standard_name'] == 'air_temperature'
    assert found.attrs['source'] == source


def test_what_is_accumulated_is_summed_over_the_step_that_ends_at_its_time(
    source, tmp_path
):
    name = 'toa_incident_solar_radiation'
    found = build(made.experiment(), source, tmp_path / 'out.zarr')[name].values
    # Five of the six hours before the first time are before the source begins.
    assert np.isnan(found[0]).all()
    for i, time_ in enumerate(WANTED[1:], start=1):
        parts = made.value(name, time_ - made.HOUR * np.arange(6))
        expected = parts.sum(axis=0, dtype=np.float64).astype(np.float32)
        np.testing.assert_array_equal(found[i], expected)


def test_a_source_that_has_the_wanted_step_is_not_summed(tmp_path):
    name = 'toa_incident_solar_radiation'
    times = made.hours(20, 6)
    source = made.write(made.dataset(times), tmp_path / 'in.zarr')
    for hours in (0, 6):
        setup = made.experiment(prepare={'timestep_hours': hours})
        found = build(setup, source, tmp_path / f'{hours}.zarr')
        np.testing.assert_array_equal(found[name][3], made.value(name, times[3:4])[0])


def test_of_a_mask_spectral_regridding_takes_averages(tmp_path):
    """Harmonics overshoot at coasts: a store of its own would not pass the check."""
    fields = made.dataset(made.hours(NUM_HOURS))
    mask = (np.arange(128).reshape(8, 16) % 16 < 5).astype(np.float32)
    fields['land_sea_mask'] = ('latitude', 'longitude'), mask
    source = made.write(fields, tmp_path / 'in.zarr')
    grid = {'kind': 'gauss', 'num_lat': 6, 'num_lon': 12}
    setup = made.experiment(prepare={'regridding': 'spectral'}, grid=grid)
    found = build(setup, source, tmp_path / 'out.zarr').land_sea_mask.values
    regridder = ConservativeRegridder.create(
        made.GRID.latitudes, made.GRID.longitudes, setup.grid
    )
    np.testing.assert_array_equal(found, regridder(mask))
    assert found.min() >= 0 and found.max() <= 1 + 1e-6


def test_a_period_that_no_source_has_is_said_at_the_end(source, tmp_path):
    setup = made.experiment(data={'train': ('1999-01-01', '1999-01-02')})
    said = build_store(setup, [source], str(tmp_path / 'out.zarr'))
    assert 'no source has any time of data.train (1999-01-01 to 1999-01-02)' in said
    assert 'scripts/train.py' not in said


def test_a_source_is_the_same_from_wherever_it_is_named(source, tmp_path, monkeypatch):
    out = str(tmp_path / 'out.zarr')
    build_store(made.experiment(), [source], out)
    path = pathlib.Path(source)
    monkeypatch.chdir(path.parent)
    said = build_store(made.experiment(), [f'./{path.name}/'], out)
    assert 'nothing to do' in said
    # The same words from elsewhere are another source, here one that is not there.
    (tmp_path / 'elsewhere').mkdir()
    monkeypatch.chdir(tmp_path / 'elsewhere')
    with pytest.raises(ValueError, match='nothing there|no such|elsewhere'):
        build_store(made.experiment(), [path.name], out)


def test_an_output_that_is_a_file_stays(source, tmp_path):
    (tmp_path / 'notes').write_text('mine')
    with pytest.raises(OutputError, match='found a file, which stays'):
        build_store(made.experiment(), [source], str(tmp_path / 'notes'))
    assert (tmp_path / 'notes').read_text() == 'mine'


def test_times_that_no_source_has_are_left_out_and_counted(tmp_path):
    hours = np.delete(made.hours(NUM_HOURS), [24, 25])
    source = made.write(made.dataset(hours), tmp_path / 'in.zarr')
    out = tmp_path / 'out.zarr'
    said = build_store(made.experiment(), [source], str(out))
    found = xr.open_zarr(out, chunks=None)
    np.testing.assert_array_equal(found.time.values, np.delete(WANTED, 4))
    assert '1 left out' in said
    # Of the sum over the hours 25 to 30 the first is missing.
    radiation = found.toa_incident_solar_radiation
    assert np.isnan(radiation.sel(time='2001-01-02T06')).all()
    assert np.isfinite(radiation.sel(time='2001-01-02T12')).all()
    # No change over a step is known across the gap.
    record = Record.open(str(out))
    missing = np.isnan(record.summary('temperature').tendency_mean[:, 0])
    np.testing.assert_array_equal(np.flatnonzero(missing), [0, 4, 11])


def test_nan_of_the_source_stays_and_is_counted(tmp_path):
    holes = made.dataset(made.hours(NUM_HOURS))
    holes['temperature'][12, 1, 3, 4] = np.nan
    holes['temperature'][18] = np.nan
    source = made.write(holes, tmp_path / 'in.zarr')
    said = build_store(made.experiment(), [source], str(tmp_path / 'out.zarr'))
    found = xr.open_zarr(tmp_path / 'out.zarr', chunks=None).temperature
    assert np.isnan(found[2, 1, 3, 4]) and np.isnan(found[2]).sum() == 1
    assert np.isnan(found[3]).all() and np.isnan(found).sum() == 1 + 2 * 128
    assert f'temperature 2 times ({1 + 2 * 128} values)' in said
    # It is written, and no hole.
    assert (tmp_path / 'out.zarr/temperature/c/3/0/0/0').is_file()


def test_variables_come_from_wherever_they_are(source, tmp_path):
    hourly = made.hours(NUM_HOURS)
    winds = ('u_component_of_wind', 'v_component_of_wind')
    parts = [
        made.dataset(hourly, ('geopotential', 'temperature'), statics=False),
        made.dataset(hourly[:50], winds, statics=False),
        made.dataset(hourly[50:], winds, statics=False),
        made.dataset(hourly[:60], made.SURFACE),
        made.dataset(hourly[60:], made.SURFACE),
    ]
    paths = [made.write(part, tmp_path / f'{i}.zarr') for i, part in enumerate(parts)]
    found = build(made.experiment(), paths, tmp_path / 'out.zarr')
    whole = build(made.experiment(), source, tmp_path / 'whole.zarr')
    for name in made.UPPER:
        np.testing.assert_array_equal(found[name].values, whole[name].values)
    # A sum over hours of two sources is none.
    same = found.toa_incident_solar_radiation == whole.toa_incident_solar_radiation
    lost = np.flatnonzero(~same.all(('latitude', 'longitude')))
    assert lost.tolist() == [0, 10]


def test_what_is_nowhere_is_named_with_where_it_was_looked_for(source, tmp_path):
    setup = made.experiment(
        data={'variables': {'temperature': (500, 850, 1000), 'geopotential': (500,)}}
    )
    with pytest.raises(ValueError, match=r'temperature at all of .*1000.*hourly.zarr'):
        build_store(setup, [source], str(tmp_path / 'out.zarr'))
    setup = made.experiment(data={'variables': {'specific_humidity': (500,)}})
    with pytest.raises(ValueError, match='specific_humidity'):
        build_store(setup, [source], str(tmp_path / 'out.zarr'))
    assert not (tmp_path / 'out.zarr').exists()


def test_periods_without_a_time_are_an_error_that_says_what_there_is(source, tmp_path):
    periods = dict.fromkeys(('train', 'validation', 'test'), ('1990-01-01', '1990'))
    with pytest.raises(ValueError, match='2001-01-01T00:00 to 2001-01-06T00:00'):
        build_store(made.experiment(data=periods), [source], str(tmp_path / 'o.zarr'))


def test_the_record_is_that_of_a_scan(source, tmp_path):
    setup = made.experiment()
    build(setup, source, tmp_path / 'out.zarr')
    atmosphere = store.open_atmosphere(
        str(tmp_path / 'out.zarr'), levels=setup.data.channels.levels
    )
    record = Record.open(str(tmp_path / 'out.zarr'))
    period = ('2001-01-01', '2001-01-03')
    found = record.statistics(setup.data.channels, period)
    expected = scan(
        atmosphere.dataset, setup.data.channels, start=period[0], end=period[1]
    ).statistics
    # Sums of the same float64 in another order.
    xr.testing.assert_allclose(found, expected, rtol=1e-12)


def test_training_reads_no_field_for_its_statistics(source, tmp_path, monkeypatch):
    setup = made.experiment(data={'store': str(tmp_path / 'out.zarr')})
    build(setup, source, tmp_path / 'out.zarr')
    monkeypatch.setattr(preparation, 'scan', None)
    levels = setup.data.stored.levels
    atmosphere = store.open_atmosphere(setup.data.store, levels=levels)
    prepared = preparation.prepare(setup, atmosphere)
    # The first sum has hours before the source.
    np.testing.assert_array_equal(prepared.invalid_times, WANTED[:1])


def test_prepared_again_there_is_nothing_to_do(source, tmp_path):
    out = tmp_path / 'out.zarr'
    build(made.experiment(), source, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob('*')}
    assert 'nothing to do' in build_store(made.experiment(), [source], str(out))
    assert {path: path.stat().st_mtime_ns for path in out.rglob('*')} == before
    assert os.listdir(tmp_path) == ['out.zarr']


def test_a_finished_store_that_lost_a_file_is_not_taken_for_whole(source, tmp_path):
    path = tmp_path / 'store.zarr'
    build(made.experiment(), source, path)
    (path / 'temperature' / 'c' / '3' / '0' / '0' / '0').unlink()
    with pytest.raises(ValueError, match='1 missing, the first temperature/c/3/0/0/0'):
        build_store(made.experiment(), [source], str(path))
    build_store(made.experiment(), [source], str(path), overwrite=True)
    build_store(made.experiment(), [source], str(path))


def test_an_unfinished_store_says_that_it_is(source, tmp_path):
    path = tmp_path / 'store.zarr'
    build(made.experiment(), source, path)
    (path / 'zarr.json').unlink()
    with pytest.raises(ValueError, match='is not finished: .* it goes on'):
        store.open_store(path)


def test_the_home_folder_may_be_written_as_a_tilde(source, tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(pathlib.Path(source).parent))
    opened = store.open_store(f'~/{pathlib.Path(source).name}')
    assert opened.sizes['time'] == NUM_HOURS


def test_another_plan_is_refused_by_what_differs_and_replaced_when_asked(
    source, tmp_path
):
    out = tmp_path / 'out.zarr'
    build(made.experiment(), source, out)
    other = made.experiment(prepare={'timestep_hours': 12})
    with pytest.raises(OutputError, match=r'timestep_hours: 6 -> 12.*--overwrite'):
        build_store(other, [source], str(out))
    assert xr.open_zarr(out).sizes['time'] == 16
    build_store(other, [source], str(out), overwrite=True)
    assert xr.open_zarr(out).sizes['time'] == 8
    build(other, source, tmp_path / 'new.zarr')
    assert files(out) == files(tmp_path / 'new.zarr')


def test_an_unfinished_store_of_another_plan_is_refused(source, tmp_path, monkeypatch):
    out = tmp_path / 'out.zarr'
    _stop_after(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        build(made.experiment(), source, out)
    monkeypatch.undo()
    assert not (out / 'zarr.json').exists()
    with pytest.raises(ValueError, match='is not finished'):
        store.open_dataset(str(out), what='atmosphere')
    other = made.experiment(prepare={'compression': 'zstd'})
    with pytest.raises(OutputError, match=r'unfinished.*compression: lz4 -> zstd'):
        build_store(other, [source], str(out))
    build_store(other, [source], str(out), overwrite=True)


def _stop_after(number: int, monkeypatch) -> list:
    """Ends the work, as Ctrl-C does, when some tasks are done."""
    run, done = tasks.run, []

    def stopping(plan, task):
        if len(done) >= number:
            raise KeyboardInterrupt
        done.append(task)
        return run(plan, task)

    monkeypatch.setattr(tasks, 'run', stopping)
    return done


def test_what_is_done_is_kept_and_not_done_again(source, tmp_path, monkeypatch):
    setup = made.experiment(prepare={'num_threads': 1})
    out = tmp_path / 'out.zarr'
    first = _stop_after(3, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        build(setup, source, out)
    monkeypatch.undo()
    second = _stop_after(999, monkeypatch)
    build(setup, source, out)
    assert len(first) == 3 and not set(first) & set(second)
    monkeypatch.undo()
    build(setup, source, tmp_path / 'at_once.zarr')
    assert files(out) == files(tmp_path / 'at_once.zarr')


def test_foreign_things_stay(source, tmp_path):
    taken = tmp_path / 'mine'
    taken.mkdir()
    (taken / 'thesis.txt').write_text('years of work')
    foreign = made.write(made.dataset(made.hours(3)), tmp_path / 'foreign.zarr')
    for path in (taken, foreign):
        with pytest.raises(OutputError, match='stays as it is'):
            build_store(made.experiment(), [source], str(path), overwrite=True)
    out = tmp_path / 'out.zarr'
    build(made.experiment(), source, out)
    (out / 'notes.txt').write_text('mine')
    other = made.experiment(prepare={'timestep_hours': 12})
    with pytest.raises(OutputError, match=r'notes.txt'):
        build_store(other, [source], str(out), overwrite=True)
    assert xr.open_zarr(out).sizes['time'] == 16


def test_a_source_is_never_written_to(source):
    for path in (source, f'{source}/inside', os.path.dirname(source)):
        with pytest.raises(OutputError, match='read'):
            build_store(made.experiment(), [source], path, overwrite=True)
    with pytest.raises(OutputError, match='read'):
        build_store(made.experiment(), ['memory://a/b'], 'memory://a/b/c')


def test_a_second_process_in_the_same_store_is_refused(source, tmp_path):
    out = tmp_path / 'out.zarr'
    with hold(tmp_path / '.out.zarr.preparing', work='preparation'):
        with pytest.raises(LockedError, match='another preparation'):
            build_store(made.experiment(), [source], str(out))
    build_store(made.experiment(), [source], str(out))


def test_a_chunk_that_vanished_meanwhile_is_made_again(source, tmp_path, monkeypatch):
    out = tmp_path / 'out.zarr'
    run = tasks.run

    def losing(plan, task):
        done = run(plan, task)
        if task == tasks.all_tasks(plan)[-1]:
            (out / 'temperature/c/1/0/0/0').unlink(missing_ok=True)
        return done

    monkeypatch.setattr(tasks, 'run', losing)
    found = build(made.experiment(prepare={'num_threads': 1}), source, out)
    expected = made.value('temperature', WANTED[1:2], 500)[0]
    np.testing.assert_array_equal(found.temperature[1, 0], expected)


def test_a_damaged_chunk_of_the_source_is_named_and_the_rest_is_kept(tmp_path):
    source = made.write(made.dataset(made.hours(NUM_HOURS)), tmp_path / 'in.zarr')
    chunk = tmp_path / 'in.zarr/temperature/36.0.0.0'
    content = chunk.read_bytes()
    chunk.write_bytes(content[:20])
    out = tmp_path / 'out.zarr'
    with pytest.raises(ValueError, match='temperature at 2001-01-02T12:00:00'):
        build(made.experiment(), source, out)
    assert Record.open(str(out)) is None
    kept = list(out.rglob('c/*'))
    assert kept
    chunk.write_bytes(content)
    build(made.experiment(), source, out)
    assert Record.open(str(out)) is not None


def test_a_full_disk_is_one_line_and_resumable(source, tmp_path, monkeypatch):
    out = tmp_path / 'out.zarr'

    def full(plan, task):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(tasks, 'run', full)
    with pytest.raises(OSError, match='no space is left.*run the same command'):
        build(made.experiment(), source, out)
    monkeypatch.undo()
    build(made.experiment(), source, out)


def test_what_is_missing_at_every_time_is_refused_before_anything_is_written(tmp_path):
    ground = made.dataset(made.hours(NUM_HOURS))
    ground['temperature'][:, 1, :, :4] = np.nan
    source = made.write(ground, tmp_path / 'in.zarr')
    with pytest.raises(
        ValueError, match=r'temperature@850 \(25.0%\).*prepare.below_ground=fill'
    ):
        build(made.experiment(), source, tmp_path / 'out.zarr')
    assert not (tmp_path / 'out.zarr').exists()
    ground['temperature'][:, 1] = np.nan
    source = made.write(ground, tmp_path / 'none.zarr')
    with pytest.raises(ValueError, match=r'temperature@850 \(100.0%\).*leave what has'):
        build(made.experiment(), source, tmp_path / 'out.zarr')


@pytest.mark.parametrize('regridding', ['conservative', 'spectral'])
def test_columns_are_continued_below_the_ground_before_harmonics_meet_a_hole(
    tmp_path, regridding
):
    ground = made.dataset(made.hours(NUM_HOURS))
    for name in made.UPPER:
        ground[name][:, 1, 3:5, :4] = np.nan
    source = made.write(ground, tmp_path / 'in.zarr')
    grid = {'kind': 'gauss', 'num_lat': 6, 'num_lon': 12}
    how = {'regridding': regridding}
    if regridding == 'spectral':
        with pytest.raises(ValueError, match='prepare.below_ground=fill'):
            build(made.experiment(prepare=how, grid=grid), source, tmp_path / 'no.zarr')
    setup = made.experiment(prepare={**how, 'below_ground': 'fill'}, grid=grid)
    found = build(setup, source, tmp_path / 'out.zarr')
    for name in made.UPPER:
        assert np.isfinite(found[name].values).all()
    # Downward along 6.5 K/km from the warmth above, for which 500 hPa stands.
    assert float(found.temperature.sel(level=850).max()) > 260


def test_a_hole_in_an_hour_makes_one_field_a_hole_for_harmonics(tmp_path):
    holes = made.dataset(made.hours(NUM_HOURS))
    holes['u_component_of_wind'][12, 1, 3, 4] = np.nan
    source = made.write(holes, tmp_path / 'in.zarr')
    grid = {'kind': 'gauss', 'num_lat': 6, 'num_lon': 12}
    setup = made.experiment(prepare={'regridding': 'spectral'}, grid=grid)
    found = build(setup, source, tmp_path / 'out.zarr')
    for name in ('u_component_of_wind', 'v_component_of_wind'):
        missing = np.isnan(found[name].values)
        assert missing[2, 1].all() and missing.sum() == 6 * 12
    assert np.isfinite(found.temperature.values).all()


def test_wrong_units_are_refused(tmp_path):
    celsius = made.dataset(made.hours(NUM_HOURS))
    celsius['temperature'] -= 273.15
    source = made.write(celsius, tmp_path / 'in.zarr')
    with pytest.raises(ValueError, match='global mean of temperature@500'):
        build(made.experiment(), source, tmp_path / 'out.zarr')


@pytest.mark.parametrize('shard_times', [0, 3])
@pytest.mark.parametrize('compression', ['none', 'lz4', 'zstd'])
def test_shards_and_codecs_change_no_value(source, tmp_path, shard_times, compression):
    setup = made.experiment(
        prepare={'shard_times': shard_times, 'compression': compression}
    )
    build(setup, source, tmp_path / 'out.zarr')
    found = store.open_store(str(tmp_path / 'out.zarr'))
    for level in made.LEVELS:
        np.testing.assert_array_equal(
            found.temperature.sel(level=level).values,
            made.value('temperature', WANTED, level),
        )
    num_files = len(list((tmp_path / 'out.zarr/temperature/c').glob('*')))
    assert num_files == (-(-16 // 3) if shard_times else 16)


def test_packed_fields_are_read_alike_by_everybody_within_the_error_stated(
    source, tmp_path
):
    setup = made.experiment(prepare={'dtype': 'int16'})
    said = build_store(setup, [source], str(tmp_path / 'out.zarr'))
    by_xarray = xr.open_zarr(tmp_path / 'out.zarr', chunks=None).temperature
    by_us = store.open_store(str(tmp_path / 'out.zarr')).temperature
    step = (350.0 - 130.0) / 65534
    for i, level in enumerate(made.LEVELS):
        expected = made.value('temperature', WANTED, level)
        # Half a step of the packing, and float32 at 300 K.
        np.testing.assert_allclose(
            by_us[:, i].values, expected, rtol=0, atol=step / 2 + 3e-5
        )
        np.testing.assert_allclose(
            by_xarray[:, i].values, by_us[:, i].values, rtol=2e-7
        )
    assert 'temperature as int16: RMS error' in said
    attributes = xr.open_zarr(tmp_path / 'out.zarr').attrs
    stated = json.loads(attributes['packing_error'])['temperature']
    assert 0 < stated['rms'] < stated['max'] <= step / 2 + 3e-5
    # What is recorded is what is read.
    record, values = Record.open(str(tmp_path / 'out.zarr')), by_us.values
    assert record.checksums('temperature')[3] == checksum(values[3])


def test_an_address_is_as_good_as_a_path(source):
    setup = made.experiment(prepare={'climatology': 'yes'})
    said = build_store(setup, [source], 'memory://prepared/out.zarr')
    assert 'climatology: memory://prepared/out.zarr/climatology' in said
    found = store.open_store('memory://prepared/out.zarr')
    np.testing.assert_array_equal(
        found.temperature[3, 0].values, made.value('temperature', WANTED[3:4], 500)[0]
    )
    again = build_store(setup, [source], 'memory://prepared/out.zarr')
    assert 'nothing to do' in again
    place = layout.Place('memory://prepared/out.zarr', {})
    place.remove('climatology', 'zarr.json')
    build_store(setup, [source], 'memory://prepared/out.zarr')
    assert place.read('climatology', 'zarr.json') is not None
    place.remove()


def test_a_run_finds_the_climatology_of_its_store(source, tmp_path):
    out = tmp_path / 'out.zarr'
    setup = made.experiment(prepare={'climatology': 'yes'}, data={'store': str(out)})
    build(setup, source, out)
    said = prepare_climatology(setup, tmp_path / 'run/climatology.zarr')
    assert said.startswith(f'found in {out}/climatology')
    found = xr.open_zarr(tmp_path / 'run/climatology.zarr', chunks=None)
    # One day of the year and no other: its mean is a window's.
    at_six = found.temperature.sel(hour=6, dayofyear=1, level=500).values
    assert np.isfinite(at_six).all()
    other = prepare_climatology(
        setup, tmp_path / 'other.zarr', window_days=3, end='2001-01-01'
    )
    assert other.startswith('written to')


def test_another_grid_is_regridded(source, tmp_path):
    grid = {'kind': 'equiangular', 'num_lat': 4, 'num_lon': 8}
    found = build(made.experiment(grid=grid), source, tmp_path / 'out.zarr')
    expected = LatLonGrid(**grid)
    np.testing.assert_allclose(found.latitude.values, expected.latitudes)
    assert found.temperature.shape == (16, 2, 4, 8)
    assert np.isfinite(found.temperature.values).all()


_COMMAND = """
import sys
from tests.weather.building import made
from weather.building.build import build_store
setup = made.experiment(prepare={'climatology': 'yes', 'max_gb': 1e-3})
build_store(setup, [sys.argv[1]], sys.argv[2])
"""


def kill_when(num_files: int, source: str, out: pathlib.Path) -> bool:
    """Kills a build when there are so many files; whether it was still at work."""
    process = subprocess.Popen(
        [sys.executable, '-c', _COMMAND, source, str(out)],
        cwd=ROOT,
        env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None:
        if sum(len(names) for _, _, names in os.walk(out)) >= num_files:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.001)
    return False


def check_kills(numbers, source: str, tmp_path: pathlib.Path) -> None:
    out, whole = tmp_path / 'killed.zarr', tmp_path / 'whole.zarr'
    killed = [kill_when(number, source, out) for number in numbers]
    assert any(killed)
    setup = made.experiment(prepare={'climatology': 'yes', 'max_gb': 1e-3})
    for path in (out, whole):
        build_store(setup, [source], str(path))
    one, other = files(out), files(whole)
    for found in (one, other):  # Whose name is in it.
        for name in [name for name in found if name.startswith('climatology')]:
            found[name] = found[name].replace(b'killed.zarr', b'whole.zarr')
    assert one == other
    assert sorted(os.listdir(tmp_path)) == ['killed.zarr', 'whole.zarr']


def test_killed_twice_it_becomes_what_it_would_have_been(source, tmp_path):
    check_kills([40, 110], source, tmp_path)


@pytest.mark.slow
def test_killed_at_ten_random_moments_it_becomes_what_it_would_have_been(
    source, tmp_path
):
    chance = random.Random()
    check_kills(sorted(chance.randint(1, 260) for _ in range(10)), source, tmp_path)
