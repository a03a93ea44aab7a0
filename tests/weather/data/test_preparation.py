"""What is computed from data is found again for the same data, and only for them."""

import json
import logging
import os
import shutil

import fsspec
import numpy as np
import pytest
import xarray as xr
import zarr

from learning.files import OutputError
from tests.weather import tiny
from weather.data import preparation, statistics, windows
from weather.data.faults import Fault, FaultList, write_faults
from weather.data.identity import version
from weather.data.preparation import prepare, prepare_run
from weather.data.prepared_climatology import prepare_climatology
from weather.data.record import RecordWriter
from weather.data.shelf import KEY
from weather.data.store import open_atmosphere
from weather.data.summary import summarise
from weather.experiment import Experiment
from weather.workdir import Workdir

READING = 'reading'


@pytest.fixture(autouse=True)
def shelf(tmp_path, monkeypatch, caplog):
    """A folder of its own for each test."""
    caplog.set_level(logging.INFO, logger='weather')
    monkeypatch.setenv('SPHERECAST_PREPARATION', str(tmp_path / 'shelf'))
    return tmp_path / 'shelf'


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp('written') / 'store.zarr'
    tiny.write_store(path)
    return path


@pytest.fixture
def store(written, tmp_path):
    return shutil.copytree(written, tmp_path / 'store.zarr')


def experiment(store, **data):
    entries = tiny.entries(store)
    entries['data'].update(data)
    return Experiment.from_config(entries)


def opened(setup):
    return open_atmosphere(setup.data.store, levels=setup.data.channels.levels)


def prepared(setup):
    return prepare(setup, opened(setup))


def is_read(caplog, setup):
    """Whether preparing reads the data through."""
    caplog.clear()
    prepared(setup)
    return READING in caplog.text


def spoil(store, *, time, value=np.nan):
    """Puts one value into the store at a time (of one chunk)."""
    zarr.open_group(store, mode='r+')['temperature'][time, 0, 2, 3] = value


def assert_same(one, other):
    for name in one.statistics:
        np.testing.assert_array_equal(one.statistics[name], other.statistics[name])
    np.testing.assert_array_equal(one.invalid_times, other.invalid_times)


def test_one_pass_finds_what_two_passes_found(store):
    spoil(store, time=3)  # Training.
    spoil(store, time=29, value=np.inf)  # Validation.
    spoil(store, time=36)  # Neither.
    setup = experiment(store)
    atmosphere, levels = opened(setup), setup.data.channels.levels
    found = prepare(setup, atmosphere)
    first, last = setup.data.train
    alone = statistics.compute_statistics(
        atmosphere.dataset, setup.data.channels, start=first, end=last
    )
    for name in alone:
        np.testing.assert_array_equal(found.statistics[name], alone[name])
    for period, places in ((setup.data.train, [3]), (setup.data.validation, [29])):
        of_period = atmosphere.dataset.sel(time=slice(*period))
        searched = windows.invalid_times(of_period, levels)
        assert searched.tolist() == atmosphere.times[places].tolist()
    assert found.invalid_times.tolist() == atmosphere.times[[3, 29]].tolist()


def test_every_run_but_the_first_finds_it(store, caplog):
    setup = experiment(store)
    first = prepared(setup)
    assert READING in caplog.text
    assert not is_read(caplog, setup)
    assert_same(prepared(setup), first)


def test_keys_of_the_machine_and_of_the_model_make_no_difference(store, caplog):
    prepared(experiment(store))
    entries = tiny.entries(store)
    entries['data']['cache_gb'] = 0.5
    entries['training']['seed'] = 7
    entries['model']['num_blocks'] = 4
    assert not is_read(caplog, Experiment.from_config(entries))


@pytest.mark.parametrize(
    'other',
    [
        {'train': ('2001-01-01', '2001-01-06')},
        {'validation': ('2001-01-08', '2001-01-09')},
        {'variables': {'temperature': (850,), 'geopotential': (500,)}},
        {'variables': tiny.entries('')['data']['variables'] | {'temperature': (850,)}},
    ],
)
def test_other_periods_and_channels_are_computed_anew(store, caplog, other):
    prepared(experiment(store))
    setup = experiment(store, **other)
    assert is_read(caplog, setup)
    assert prepared(setup).statistics.sizes['channel'] == len(setup.data.channels)


def test_another_validation_period_leaves_the_statistics(store, caplog):
    prepared(experiment(store))
    assert is_read(caplog, experiment(store, validation=('2001-01-08', '2001-01-09')))
    assert 'for missing values' in caplog.text
    assert 'for statistics' not in caplog.text


def test_a_value_that_changes_in_either_period_is_seen(store, caplog):
    setup = experiment(store)
    before = prepared(setup)
    spoil(store, time=5, value=300.0)
    after = prepared(setup)
    assert (before.statistics['mean'] != after.statistics['mean']).sum() == 1
    spoil(store, time=28)
    assert prepared(setup).invalid_times.tolist() == opened(setup).times[[28]].tolist()


def test_a_value_of_the_same_size_and_time_stamp_is_beyond_what_is_seen(store, caplog):
    # The limit that `identity` documents: whoever sets the time stamp back is believed.
    file = store / 'temperature' / '5.0.0.0'
    setup = experiment(store)
    prepared(setup)
    times = os.stat(file)
    file.write_bytes(file.read_bytes())
    assert is_read(caplog, setup)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert not is_read(caplog, setup)


def test_a_chunk_that_is_removed_is_seen(store):
    setup = experiment(store)
    assert prepared(setup).invalid_times.size == 0
    (store / 'temperature' / '6.0.0.0').unlink()
    assert prepared(setup).invalid_times.size == 1


@pytest.mark.parametrize('name', ['scale_factor', 'units'])
def test_a_change_of_the_packing_is_seen(store, caplog, name):
    setup = experiment(store)
    prepared(setup)
    changed = {'scale_factor': 1.001, 'units': 'degC'}[name]
    attributes = zarr.open_group(store, mode='r+')['v_component_of_wind'].attrs
    if name == 'units':
        attributes['units'] = 'cm s-1'
    else:
        attributes[name] = changed
    assert is_read(caplog, setup)


def test_axes_that_are_turned_round_are_seen(store, caplog):
    setup = experiment(store)
    before = prepared(setup)
    latitude = zarr.open_group(store, mode='r+')['latitude']
    latitude[:] = latitude[:][::-1]
    after = prepared(setup)
    # The same numbers at mirrored places have the same mean: only the key differs.
    assert before.statistics.attrs[KEY] != after.statistics.attrs[KEY]


def test_a_store_that_moves_is_found_again_under_its_new_name(store, caplog):
    prepared(experiment(store))
    moved = store.rename(store.with_name('moved.zarr'))
    assert not is_read(caplog, experiment(moved))
    assert prepared(experiment(moved)).statistics.attrs['store'] == str(moved)


def test_later_times_make_no_difference_to_a_period(store, caplog):
    prepared(experiment(store))
    longer = xr.open_zarr(store, chunks=None).load()
    shutil.rmtree(store / 'time')
    whole = longer.isel(time=slice(32))  # The test period is not read.
    before = sorted(p for p in (store / 'temperature').iterdir())
    group = zarr.open_group(store, mode='r+')
    for name in ('geopotential', 'temperature', *tiny_winds()):
        group[name].resize((32, *group[name].shape[1:]))
    whole[['time']].to_zarr(store, mode='a', zarr_format=2)
    assert len(before) > len(list((store / 'temperature').iterdir()))
    assert not is_read(caplog, experiment(store))


def tiny_winds():
    return ('u_component_of_wind', 'v_component_of_wind')


def test_an_address_is_told_from_another_and_samples_are_compared(store, caplog):
    setups = []
    for name in ('one', 'other'):
        address = f'memory://test_preparation/{name}.zarr'
        xr.open_zarr(store).to_zarr(address, zarr_format=2, mode='w')
        setups.append(experiment(address))
    assert is_read(caplog, setups[0])
    assert not is_read(caplog, setups[0])
    assert is_read(caplog, setups[1])
    group = zarr.open_group(setups[0].data.store, mode='r+')
    group['temperature'][0, 0, 0, 0] += 1.0
    assert is_read(caplog, setups[0])


@pytest.mark.parametrize('file', ['statistics.nc', 'invalid_times.json'])
@pytest.mark.parametrize('left', [b'', b'CDF\x01cut short', None])
def test_what_a_crash_left_on_the_shelf_is_made_again(store, shelf, caplog, file, left):
    setup = experiment(store)
    first = prepared(setup)
    for damaged in shelf.glob(f'*/{file}'):
        damaged.unlink() if left is None else damaged.write_bytes(left)
    assert is_read(caplog, setup)
    assert_same(prepared(setup), first)
    assert not is_read(caplog, setup)


def test_a_shelf_that_cannot_be_written_stops_nothing(store, shelf, caplog):
    shelf.write_text('a file where a folder should be')
    setup = experiment(store)
    found = prepared(setup)
    assert found.statistics.sizes['channel'] == 8
    assert 'cannot be kept in' in caplog.text
    assert shelf.read_text() == 'a file where a folder should be'


def test_data_that_change_while_they_are_read_are_not_kept(
    store, shelf, caplog, monkeypatch
):
    scan = preparation.scan

    def slow_scan(*arguments, **options):
        found = scan(*arguments, **options)
        spoil(store, time=2, value=290.0)
        return found

    monkeypatch.setattr(preparation, 'scan', slow_scan)
    prepared(experiment(store))
    assert 'changed while it was read' in caplog.text
    assert not list(shelf.glob('*/statistics.nc'))


def test_forgetting_computes_anew(store, caplog):
    setup = experiment(store)
    prepared(setup)
    preparation.forget(setup, opened(setup))
    assert is_read(caplog, setup)


@pytest.fixture
def run(store, tmp_path):
    """A run directory that is claimed, and its experiment."""
    files, setup = Workdir(tmp_path / 'run'), experiment(store)
    files.claim(setup)
    return files, setup


def prepared_run(run):
    files, setup = run
    return prepare_run(setup, opened(setup), files)


def start(files):
    (files.checkpoints / '5').mkdir(parents=True)


def test_a_run_directory_has_copies_for_the_record(run):
    files, setup = run
    found = prepared_run(run)
    kept = statistics.load_statistics(files.statistics, setup.data.channels)
    xr.testing.assert_identical(kept, found.statistics)
    assert json.loads(files.invalid_times.read_text()) == []
    assert_same(prepared_run(run), found)


@pytest.mark.parametrize('started', [False, True])
@pytest.mark.parametrize('name', ['statistics', 'invalid_times'])
@pytest.mark.parametrize('left', [b'', b'[\x00'])
def test_a_copy_that_a_crash_left_damaged_is_made_again(
    run, caplog, name, started, left
):
    files, _ = run
    found = prepared_run(run)
    if started:
        start(files)
    whole = getattr(files, name).read_bytes()
    getattr(files, name).write_bytes(left)
    assert_same(prepared_run(run), found)
    assert f'{getattr(files, name)} is empty, cut short or damaged' in caplog.text
    if name == 'invalid_times':
        assert files.invalid_times.read_bytes() == whole


def test_a_run_that_began_keeps_what_it_began_with(run, store, caplog):
    files, _ = run
    found = prepared_run(run)
    start(files)
    spoil(store, time=5)
    caplog.clear()
    assert_same(prepared_run(run), found)
    assert READING not in caplog.text


def test_a_run_that_did_not_begin_takes_what_the_data_are_now(run, store):
    files, setup = run
    prepared_run(run)
    spoil(store, time=5)
    found = prepared_run(run)
    assert found.invalid_times.size == 1
    kept = statistics.load_statistics(files.statistics, setup.data.channels)
    assert kept.attrs[KEY] == found.statistics.attrs[KEY]


def first_version(run, source=None):
    """Leaves what version 0.1 left: no key, no mark."""
    files, setup = run
    found = prepared_run(run).statistics
    del found.attrs[KEY]
    found.attrs['store'] = source or setup.data.store
    statistics.save_statistics(found, files.statistics)


def test_a_run_of_the_first_version_uses_its_own_files(run, caplog):
    files, _ = run
    first_version(run)
    times = ['2001-01-02T06:00:00.000000000']
    files.invalid_times.write_text(json.dumps(times))
    caplog.clear()
    found = prepared_run(run)
    assert found.invalid_times.tolist() == np.array(times, 'M8[ns]').tolist()
    assert READING not in caplog.text


def test_statistics_of_another_store_are_refused_unless_the_run_began(run):
    first_version(run, source='elsewhere.zarr')
    with pytest.raises(ValueError, match='found those of elsewhere.zarr'):
        prepared_run(run)
    # The scales are those of the checkpoint, and the store may have been moved.
    start(run[0])
    assert prepared_run(run).statistics.attrs['store'] == 'elsewhere.zarr'


def test_the_folder_is_the_environments_the_configs_or_the_users(
    store, monkeypatch, tmp_path
):
    setup = experiment(store, preparation=str(tmp_path / 'of_config'))
    assert preparation.preparation_folder(setup) == tmp_path / 'shelf'
    monkeypatch.delenv('SPHERECAST_PREPARATION')
    assert preparation.preparation_folder(setup) == tmp_path / 'of_config'
    setup = experiment(store)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert preparation.preparation_folder(setup) == tmp_path / 'spherecast'
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setenv('HOME', str(tmp_path))
    assert preparation.preparation_folder(setup) == tmp_path / '.cache/spherecast'


def test_a_climatology_is_computed_once_for_all_runs(store, tmp_path, monkeypatch):
    setup, paths = experiment(store), [tmp_path / f'{i}.zarr' for i in range(2)]
    assert 'written to' in prepare_climatology(setup, paths[0])
    monkeypatch.setattr(xr.DataArray, 'isel', None)  # Nothing is read after this.
    assert 'of the same data already' in prepare_climatology(setup, paths[0])
    assert f'found in {paths[0]}' in prepare_climatology(setup, paths[1])
    one, other = (xr.open_zarr(path, chunks=None).load() for path in paths)
    xr.testing.assert_identical(one, other)


def test_a_climatology_of_other_data_is_replaced_only_when_asked_for(store, tmp_path):
    setup, path = experiment(store), tmp_path / 'climatology.zarr'
    prepare_climatology(setup, path)
    spoil(store, time=3, value=300.0)
    with pytest.raises(OutputError, match='say --overwrite'):
        prepare_climatology(setup, path)
    with pytest.raises(OutputError, match='say --overwrite'):
        prepare_climatology(setup, path, end='2001-01-05')
    assert 'written to' in prepare_climatology(setup, path, overwrite=True)
    assert 'of the same data already' in prepare_climatology(setup, path)


def test_a_climatology_that_was_removed_is_computed_again(store, tmp_path):
    setup = experiment(store)
    prepare_climatology(setup, tmp_path / 'one.zarr')
    shutil.rmtree(tmp_path / 'one.zarr')
    assert 'written to' in prepare_climatology(setup, tmp_path / 'other.zarr')


def with_record(store, num_times=40):
    """The tiny atmosphere as a prepared store: Zarr v3 and a record."""
    path = store.with_name('prepared.zarr')
    dataset = xr.open_zarr(store, chunks=None).load()
    for name in dataset.variables:
        dataset[name].encoding = {}
    fields = tuple(experiment(store).data.stored.levels)
    encoding = {name: {'chunks': (1, 2, *tiny.GRID.shape)} for name in fields}
    dataset.to_zarr(path, encoding=encoding, zarr_format=3, consolidated=False)
    writer = RecordWriter.create(
        path, variables=dict.fromkeys(fields, 2), num_times=num_times, block=num_times
    )
    for name in fields:
        values = dataset[name].values
        before = np.full_like(values, np.nan)
        before[1:] = values[:-1]
        writer.write(name, 0, summarise(values, before, tiny.GRID.area_weights))
    writer.finish()
    return path


def spoil_prepared(path, *, time, value=np.nan):
    array = zarr.open_group(path, mode='r+')['temperature']
    array[time, 0, 2, 3] = value


def test_a_prepared_store_is_not_read(store, caplog, monkeypatch):
    spoil(store, time=3)
    spoil(store, time=29)
    prepared_store = with_record(store)
    read = prepared(experiment(store))
    setup = experiment(prepared_store)
    monkeypatch.setattr(preparation, 'scan', None)
    monkeypatch.setattr(preparation, 'invalid_times', None)
    assert not is_read(caplog, setup)
    found = prepared(setup)
    for name in read.statistics:
        # The same moments, merged in another order; the mean of v is 0.
        np.testing.assert_allclose(
            found.statistics[name], read.statistics[name], rtol=1e-10, atol=1e-12
        )
    assert found.invalid_times.tolist() == read.invalid_times.tolist()
    assert found.invalid_times.size == 2


def test_a_prepared_store_is_read_where_the_model_step_is_another(store, caplog):
    setup = experiment(with_record(store))
    caplog.clear()
    found = prepare(setup, opened(setup), timestep=np.timedelta64(12, 'h'))
    assert 'not over the model step 12 h' in caplog.text
    assert 'for statistics and missing values' in caplog.text
    assert found.statistics.attrs['timestep_hours'] == 12
    assert (found.statistics['num_pairs'] == 26).all()
    shorter = prepare(setup, opened(setup))
    assert found.statistics.attrs[KEY] != shorter.statistics.attrs[KEY]


def test_a_record_older_than_a_repair_is_not_believed(store, caplog):
    path = with_record(store)
    setup = experiment(path)
    before = prepared(setup)
    spoil_prepared(path, time=5)
    assert is_read(caplog, setup)
    assert 'files of the fields changed after it was written' in caplog.text
    after = prepared(setup)
    assert after.invalid_times.size == 1
    assert after.statistics.attrs[KEY] != before.statistics.attrs[KEY]


def test_at_an_address_a_record_is_compared_at_a_few_times(store, caplog):
    path = with_record(store)
    address = 'memory://test_preparation/prepared.zarr'
    memory = fsspec.filesystem('memory')
    memory.put(str(path), address.removeprefix('memory:/'), recursive=True)
    setup = experiment(address)
    assert not is_read(caplog, setup)
    local = prepared(experiment(path))
    # What the data are does not depend on where they lie.
    assert prepared(setup).statistics.attrs[KEY] == local.statistics.attrs[KEY]
    spoil_prepared(address, time=8, value=400.0)  # One of the five that are compared.
    assert is_read(caplog, setup)
    assert 'does not agree with the fields' in caplog.text


def list_faults(store, *faults, versions=None):
    versions = versions or {
        name: version(field) for name, field in opened(experiment(store)).fields.items()
    }
    write_faults(FaultList(str(store), versions, faults))


def fault(variable, level, time, kind='implausible'):
    time = None if time is None else np.datetime64(time, 'ns')
    return Fault(variable, level, time, kind, 'planted')


def at(place):
    return np.datetime64('2001-01-01') + place * np.timedelta64(6, 'h')


@pytest.mark.parametrize('with_a_record', [False, True])
def test_faulty_times_are_left_out_of_windows_and_statistics(
    store, caplog, with_a_record
):
    clean = prepared(experiment(store)).statistics
    spoil(store, time=3, value=1e20)
    path = with_record(store) if with_a_record else store
    setup = experiment(path)
    spoilt = prepared(setup).statistics
    assert spoilt['std'].max() > 1e15
    list_faults(
        path,
        fault('temperature', 500, at(3)),
        fault('geopotential', None, at(30), 'frozen'),
        # Not of this period, channel or kind.
        fault('temperature', 500, at(36)),
        fault('temperature', 700, at(5)),
        fault('temperature', 500, at(6), 'gap'),
        fault('2m_temperature', None, at(7)),
        fault('temperature', 500, None, 'units'),
    )
    found = prepared(setup)
    assert found.invalid_times.tolist() == opened(setup).times[[3, 30]].tolist()
    assert '3 times' in caplog.text
    np.testing.assert_allclose(found.statistics['std'], clean['std'], rtol=0.02)
    assert sorted(found.statistics['num_times'].values) == [27] + 7 * [28]
    assert sorted(found.statistics['num_pairs'].values) == [25] + 7 * [27]
    loaded = windows.WindowIndex(
        opened(setup).times, period=setup.data.train, invalid=found.invalid_times
    )
    assert set(range(27)) - set(loaded.starts(1).tolist()) == {2, 3}


def test_a_list_of_data_that_changed_is_named_and_obeyed(store, caplog):
    list_faults(store, fault('temperature', 850, at(4), 'NaN'))
    setup = experiment(store)
    prepared(setup)
    assert 'changed since' not in caplog.text
    spoil(store, time=10, value=281.0)
    found = prepared(setup)
    assert 'temperature changed since' in caplog.text
    assert found.invalid_times.tolist() == opened(setup).times[[4]].tolist()


def test_a_list_that_cannot_be_read_stops_the_run(store):
    place = store.with_name('store.zarr.faults.json')
    for left in ('', '{"spherecast_kind": "faults"', '{"spherecast_kind": "faults"}'):
        place.write_text(left)
        with pytest.raises(ValueError, match='expected a list of faults in .*again by'):
            prepared(experiment(store))


@pytest.mark.parametrize('time', [4, 29])
def test_a_run_that_did_not_begin_leaves_out_what_a_check_found_since(run, store, time):
    assert prepared_run(run).invalid_times.size == 0
    list_faults(store, fault('temperature', 850, at(time)))
    found = prepared_run(run)
    assert found.invalid_times.tolist() == opened(run[1]).times[[time]].tolist()
    start(run[0])
    list_faults(store, fault('temperature', 850, at(5)))
    assert_same(prepared_run(run), found)
