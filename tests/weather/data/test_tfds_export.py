"""Examples hold the store's numbers bit for bit, for this project and for others."""

import concurrent.futures
import json
import os
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
import xarray as xr

with warnings.catch_warnings():
    # protobuf, as it builds its messages.
    warnings.simplefilter('ignore', DeprecationWarning)
    import tensorflow_datasets as tfds

from learning.files import OutputError, read_mark
from weather.data import store, tfds_export
from weather.data.loader import Loader
from weather.data.sources import array_record, open_stores
from weather.data.windows import WindowIndex

LEVELS = {
    'geopotential': (850, 500),
    'temperature': (300,),
    '2m_temperature': (),
    'u_component_of_wind': (300,),
    'v_component_of_wind': (300,),
}
STATICS = ('geopotential_at_surface', 'land_sea_mask')


@pytest.fixture
def stored(coded_dataset, write_store):
    """South first and with two NaN, one of them not the usual one."""
    stored = coded_dataset.isel(latitude=slice(None, None, -1))
    stored['temperature'][3, 1, 2, 3] = np.nan
    stored['geopotential'][4] = np.uint32(0x7FC00123).view(np.float32)
    stored.attrs['institution'] = 'Nowhere'
    stored['temperature'].attrs['cell_methods'] = 'time: point'
    return write_store(stored)


@pytest.fixture
def folder(stored, tmp_path):
    tfds_export.export_store(stored, tmp_path / 'examples', max_bytes=5000)
    return str(tmp_path / 'examples')


def bits(values):
    return np.ascontiguousarray(values).view(np.uint32)


def test_the_loader_sees_the_same_batches_bit_for_bit(coded_dataset, write_store):
    path = write_store(coded_dataset)
    folder = f'{path}.examples'
    tfds_export.export_store(path, folder)
    loaders = []
    for source in (path, folder):
        atmosphere = store.open_atmosphere(source, levels=LEVELS, statics=STATICS)
        windows = WindowIndex(atmosphere.times, period=('2000-01-01', '2000-01-05'))
        loaders.append(Loader(atmosphere, windows, batch_size=3, seed=1))
    for update in range(8):
        batches = [loader.batch(update, 2) for loader in loaders]
        np.testing.assert_array_equal(*(batch.valid_times for batch in batches))
        for name, values in batches[0].fields.items():
            np.testing.assert_array_equal(bits(values), bits(batches[1].fields[name]))


def test_a_store_and_its_examples_are_one_dataset(stored, folder):
    options = dict(levels=LEVELS, statics=STATICS)
    first, second = (store.open_store(of, **options) for of in (stored, folder))
    xr.testing.assert_identical(first, second)
    assert second.attrs['institution'] == 'Nowhere'
    assert second.temperature.attrs['cell_methods'] == 'time: point'
    for name in second:
        np.testing.assert_array_equal(bits(first[name]), bits(second[name]))
    assert np.isnan(second.geopotential[4]).all()
    assert np.isnan(second.temperature).sum() == 1


def test_others_read_them_with_tensorflow_datasets(stored, folder):
    builder = tfds.builder_from_directory(folder)
    examples = builder.as_data_source('train')
    expected = store.open_dataset(stored, what='atmosphere')
    assert len(examples) == expected.sizes['time'] == 20
    for i in (0, 7, 19):
        when = np.datetime64(int(examples[i]['time']), 's')
        assert when == expected.time.values[i]
        for name in LEVELS:
            found = examples[i][name]
            assert found.shape == expected[name].shape[1:]
            np.testing.assert_array_equal(bits(found), bits(expected[name][i]))
    assert builder.info.features['temperature'].doc.desc == (
        'K, [level, latitude, longitude]'
    )
    assert builder.info.metadata['variables']['2m_temperature']['dims'] == [
        'time',
        'latitude',
        'longitude',
    ]
    with xr.open_dataset(os.path.join(folder, 'coordinates.nc')) as beside:
        xr.testing.assert_equal(beside.time, expected.time)
        xr.testing.assert_equal(beside.land_sea_mask, expected.land_sea_mask)


def test_a_folder_of_the_usual_name_is_loaded_by_name(stored, tmp_path):
    tfds_export.export_store(stored, tmp_path / 'era5' / '1.0.0', name='era5')
    found = tfds.data_source('era5', data_dir=tmp_path, split='train[2:5]')
    assert len(found) == 3


def test_the_periods_of_a_config_are_splits(tiny_setup, tmp_path):
    path, setup = tiny_setup
    said = tfds_export.export_store(path, tmp_path / 'examples', setup=setup)
    assert said.startswith('40 examples, 2001-01-01 00:00:00 to 2001-01-10 18:00:00')
    builder = tfds.builder_from_directory(tmp_path / 'examples')
    periods = builder.info.metadata['periods']
    test = builder.as_data_source(periods['test'])
    times = [np.datetime64(int(example['time']), 's') for example in test]
    assert times == list(
        np.arange('2001-01-09', '2001-01-11', 6, dtype='datetime64[h]').astype(
            'datetime64[s]'
        )
    )


@pytest.fixture
def tiny_setup(tmp_path):
    from tests.weather import tiny

    tiny.write_store(tmp_path / 'tiny.zarr')
    return str(tmp_path / 'tiny.zarr'), tiny.setup(tmp_path / 'tiny.zarr')


def test_dates_choose_times_and_nothing_chosen_is_an_error(stored, tmp_path):
    path = tmp_path / 'examples'
    said = tfds_export.export_store(stored, path, start='2000-01-02', end='2000-01-02')
    assert '4 examples' in said
    found = store.open_store(str(path), levels={'2m_temperature': ()})
    assert found.time.values[0] == np.datetime64('2000-01-02')
    with pytest.raises(ValueError, match='no times from 1999-01-01'):
        tfds_export.export_store(
            stored, tmp_path / 'none', start='1999-01-01', end='1999-01-02'
        )
    assert not (tmp_path / 'none').exists()


def test_a_name_that_no_file_could_have_is_refused(stored, tmp_path):
    with pytest.raises(ValueError, match="small letters, digits and _, .* 'ERA 5'"):
        tfds_export.export_store(stored, tmp_path / 'x', name='ERA 5')


def test_what_has_other_axes_is_left_out_and_named(coded_dataset, tmp_path):
    coded_dataset['counts'] = 'time', np.arange(20.0)
    said = tfds_export.export(coded_dataset, tmp_path / 'examples')
    assert "left out: counts (has the dims ('time',))" in said


def test_an_export_that_fails_leaves_what_was_there(
    stored, folder, tmp_path, monkeypatch
):
    with pytest.raises(OutputError, match='say --overwrite'):
        tfds_export.export_store(stored, folder)
    before = sorted(os.listdir(folder))

    def fail(*args):
        raise OSError('the disk broke')

    monkeypatch.setattr(tfds_export, '_verify', fail)
    with pytest.raises(OSError, match='the disk broke'):
        tfds_export.export_store(stored, folder, overwrite=True)
    assert sorted(os.listdir(folder)) == before
    assert sorted(os.listdir(tmp_path)) == ['atmosphere.zarr', 'examples']
    monkeypatch.undo()
    tfds_export.export_store(stored, folder, overwrite=True, end='2000-01-01')
    assert store.open_dataset(folder, what='truth').sizes['time'] == 4


def test_a_folder_with_something_else_in_it_is_never_replaced(stored, folder):
    assert read_mark(folder) == 'examples'
    with open(os.path.join(folder, 'notes.txt'), 'w') as file:
        file.write('mine')
    with pytest.raises(OutputError, match='notes.txt, which is no part of a Tensor'):
        tfds_export.export_store(stored, folder, overwrite=True)


def test_files_that_lack_examples_are_an_error(folder):
    (records,) = [name for name in os.listdir(folder) if 'array_record-' in name]
    with pytest.raises(OSError, match='expected 21 examples in'):
        tfds_export._verify(folder, 21)
    path = os.path.join(folder, records)
    with open(path, 'r+b') as file:
        file.truncate(os.path.getsize(path) // 2)
    with pytest.raises(Exception):  # noqa: B017  (its library raises what it likes)
        tfds_export._verify(folder, 20)


def test_no_tensorflow_is_imported(stored, tmp_path):
    program = (
        'import sys\n'
        'from weather.data import store, tfds_export\n'
        f'tfds_export.export_store({stored!r}, {str(tmp_path / "examples")!r})\n'
        f'found = store.open_dataset({str(tmp_path / "examples")!r}, what="truth")\n'
        'assert float(found["2m_temperature"].mean()) > 0\n'
        'assert "tensorflow" not in sys.modules\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_without_the_extra_the_error_names_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, 'tensorflow_datasets', None)
    with pytest.raises(ValueError, match=r'the extra tfds.*pip install -e .\.\[tfds\]'):
        store.open_dataset(folder, what='truth')


class CountingSource:
    """Examples of two variables that count how often they are decoded."""

    def __init__(self, num_times):
        self.num_times = num_times
        self.decoded = []

    def __len__(self):
        return self.num_times

    def __getitem__(self, time):
        self.decoded.append(time)
        values = np.full((1, 2, 2), time, np.float32)
        return {'time': time, 'a': values, 'b': values}


def test_an_example_is_decoded_once_for_all_variables_and_threads():
    source = CountingSource(20)
    examples = array_record.Examples(source, cache_bytes=10**6)

    def read(place):
        return examples[place % 20]['ab'[place % 2]][0, 0, 0]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, range(200)))
    assert found == [place % 20 for place in range(200)]
    assert sorted(source.decoded) == list(range(20))


def test_what_is_remembered_is_bounded_in_bytes():
    source = CountingSource(20)
    examples = array_record.Examples(source, cache_bytes=3 * 32)
    for time in (0, 1, 2, 0, 3, 0, 1):
        examples[time]
    # One of 32 bytes had to go for time 3, the one that was used longest ago.
    assert source.decoded == [0, 1, 2, 3, 1]
    small = array_record.Examples(CountingSource(2), cache_bytes=31)
    assert small[1]['a'][0, 0, 0] == 1


def test_the_bound_is_an_option_of_the_store(folder):
    (opened,) = open_stores(folder, {array_record.CACHE_OPTION: 12345})
    assert opened._examples._cache.maxsize == 12345


def test_a_folder_is_the_same_data_until_a_file_changes(folder, tmp_path):
    (opened,) = open_stores(folder, None)
    box = (slice(0, 1), slice(0, 6), slice(0, 8))
    before = list(opened.variable('2m_temperature').version(box))
    moved = shutil.copytree(folder, tmp_path / 'moved', copy_function=shutil.copy2)
    (elsewhere,) = open_stores(str(moved), None)
    assert list(elsewhere.variable('2m_temperature').version(box)) == before
    (records,) = [name for name in os.listdir(folder) if 'array_record-' in name]
    os.utime(os.path.join(folder, records), ns=(1, 1))
    assert list(opened.variable('2m_temperature').version(box)) != before


@pytest.mark.parametrize('damage', ['coordinates', 'metadata', 'records', 'fewer'])
def test_damage_is_an_error_that_names_the_folder(folder, damage):
    if damage == 'coordinates':
        os.remove(os.path.join(folder, 'coordinates.nc'))
        expected = 'expected coordinates.nc with coordinates .*export_tfds.py'
    elif damage == 'metadata':
        with open(os.path.join(folder, 'metadata.json'), 'w') as file:
            file.write('{')
        expected = 'cannot read coordinates.nc and metadata.json'
    elif damage == 'records':
        (records,) = [name for name in os.listdir(folder) if 'array_record-' in name]
        with open(os.path.join(folder, records), 'r+b') as file:
            file.truncate(1000)
        expected = 'cannot read 2m_temperature'
    else:
        path = os.path.join(folder, 'dataset_info.json')
        with open(path) as file:
            info = json.load(file)
        info['splits'][0]['shardLengths'] = ['19']
        with open(path, 'w') as file:
            json.dump(info, file)
        expected = 'expected 20 examples .* found 19'
    with pytest.raises(ValueError, match=expected):
        store.open_dataset(folder, what='truth')['2m_temperature'].load()


def test_only_such_folders_are_claimed(folder, tmp_path):
    assert array_record.claims(folder)
    assert not array_record.claims(str(tmp_path))
    assert not array_record.claims('gs://bucket/examples')
    (tmp_path / 'dataset_info.json').write_text('[]')
    assert not array_record.claims(str(tmp_path))
    (tmp_path / 'dataset_info.json').write_text('{"fileFormat": "tfrecord"}')
    assert not array_record.claims(str(tmp_path))
