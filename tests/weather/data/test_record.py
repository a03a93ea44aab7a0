"""A record gives what reading gives, is written in any order, and is whole or none."""

import concurrent.futures
import os
import pathlib
import shutil

import numpy as np
import pytest
import xarray as xr
import zarr

from sphere_ops.grid import LatLonGrid
from tests.weather import tiny
from weather.data import statistics, windows
from weather.data.record import Record, RecordWriter
from weather.data.store import open_store
from weather.data.summary import summarise
from weather.variables import Channel, ChannelIndex

# The same moments, merged in another order; the mean of v is 0 but for rounding.
SAME = dict(rtol=1e-10, atol=1e-12)
CHANNELS = ChannelIndex(
    {
        'temperature': (850, 500),
        'u_component_of_wind': (500,),
        'v_component_of_wind': (500,),
    }
)
NAMES = ('geopotential', 'temperature', 'u_component_of_wind', 'v_component_of_wind')
BLOCK, TIMES = 7, 40


def summaries(path):
    """Of every variable, by the start of each block."""
    dataset = open_store(path)
    weights = tiny.GRID.area_weights
    for name in NAMES:
        values = dataset[name].values
        before = np.full_like(values, np.nan)
        before[1:] = values[:-1]
        for start in range(0, TIMES, BLOCK):
            part = slice(start, start + BLOCK)
            yield name, start, summarise(values[part], before[part], weights)


def write_store(path):
    """The tiny atmosphere as Zarr v3, as prepared stores are."""
    old = path.with_name(f'old_{path.name}')
    tiny.write_store(old, num_times=TIMES)
    dataset = xr.open_zarr(old, chunks=None).load()
    encoding = {name: {'chunks': (1, 2, *tiny.GRID.shape)} for name in NAMES}
    for name in dataset.variables:
        dataset[name].encoding = {}
    dataset.to_zarr(path, encoding=encoding, zarr_format=3, consolidated=False)


def create(path, **options):
    return RecordWriter.create(
        str(path), variables=dict.fromkeys(NAMES, 2), num_times=TIMES, **options
    )


@pytest.fixture
def store(tmp_path):
    """A store with a hole at time 9, and its record."""
    path = tmp_path / 'store.zarr'
    write_store(path)
    zarr.open_group(path, mode='r+')['temperature'][9, 1, 2, 3] = np.nan
    add_record(path)
    return path


def add_record(path):
    writer = create(path, block=BLOCK)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda task: writer.write(*task), summaries(path)))
    return writer


@pytest.fixture(params=['blocks', 'joined'])
def record(store, request):
    if request.param == 'joined':
        create(store, block=BLOCK).finish()
        columns = store / 'summary' / 'temperature'
        assert [p.name for p in columns.iterdir() if p.is_dir()] == ['joined']
    found = Record.open(str(store))
    assert found is not None
    return found


@pytest.mark.parametrize('period', [None, ('2001-01-02', '2001-01-06')])
def test_statistics_are_those_of_reading(store, record, period):
    first, last = period or (None, None)
    dataset = open_store(store)
    read = statistics.scan(dataset, CHANNELS, start=first, end=last, source=str(store))
    found = record.statistics(CHANNELS, period)
    for name in ('mean', 'std', 'tendency_std', 'num_times', 'num_pairs'):
        np.testing.assert_allclose(found[name], read.statistics[name], **SAME)
    for name in ('store', 'first_time', 'last_time', 'timestep_hours', 'grid'):
        assert found.attrs[name] == read.statistics.attrs[name]
    np.testing.assert_array_equal(
        record.invalid_times(CHANNELS.levels, period), read.invalid_times
    )
    assert read.invalid_times.size == 1


def test_invalid_times_are_those_of_the_levels_in_use(store, record):
    assert record.invalid_times({'temperature': (500,)}).size == 0
    found = record.invalid_times({'temperature': (850,)})
    dataset = open_store(store)
    searched = windows.invalid_times(dataset, {'temperature': (850,)})
    assert found.tolist() == searched.tolist() == dataset.time.values[[9]].tolist()


def test_unusable_times_are_left_out_with_their_changes(store, record):
    dataset = open_store(store)
    bad = {Channel('temperature', 500): dataset.time.values[[20, 21, 30]]}
    found = record.scan(CHANNELS, unusable=bad)
    read = statistics.scan(dataset, CHANNELS, unusable=bad)
    for name in ('mean', 'std', 'tendency_std'):
        np.testing.assert_allclose(
            found.statistics[name], read.statistics[name], **SAME
        )
    assert found.statistics['num_times'].values.tolist() == [39, 37, 40, 40]
    # Those into and out of a time: 19-20, 20-21, 21-22, 29-30, 30-31.
    assert found.statistics['num_pairs'].values.tolist() == [37, 34, 39, 39]
    expected = dataset.time.values[[9, 20, 21, 30]].tolist()
    assert found.invalid_times.tolist() == read.invalid_times.tolist() == expected


def test_another_step_or_channel_is_not_held(record, caplog):
    with caplog.at_level('INFO', logger='weather'):
        assert record.statistics(CHANNELS, None, np.timedelta64(12, 'h')) is None
    assert 'not over the model step 12 h' in caplog.text
    for levels in ({'2m_temperature': ()}, {'temperature': (700,)}):
        assert record.statistics(ChannelIndex(levels)) is None
        with pytest.raises(ValueError, match='expected channels among'):
            record.invalid_times(levels)


def test_fields_are_shown_without_the_record(store):
    with xr.open_zarr(store, chunks=None, consolidated=False) as dataset:
        assert set(NAMES) < set(dataset) and 'mean' not in dataset


def test_a_store_without_a_whole_record_has_none(store, tmp_path, caplog):
    write_store(tmp_path / 'bare.zarr')
    assert Record.open(str(tmp_path / 'bare.zarr')) is None
    assert not caplog.text
    assert Record.open(str(tmp_path / 'nothing.zarr')) is None
    done = zarr.open_group(store / 'summary')['geopotential/done']
    done[14:21] = 0
    assert Record.open(str(store)) is None
    assert '7 times of geopotential are not written' in caplog.text


def test_a_store_that_times_were_added_to_has_none(store, caplog):
    with xr.open_zarr(store, chunks=None, consolidated=False) as dataset:
        later = dataset.isel(time=[-1]).load()
    later['time'] = later.time + np.timedelta64(6, 'h')
    later = later.drop_vars(['geopotential_at_surface', 'land_sea_mask'])
    later.to_zarr(store, append_dim='time', zarr_format=3, consolidated=False)
    assert Record.open(str(store)) is None
    assert 'of shape (41, 2), found (40, 2)' in caplog.text


def test_a_damaged_record_is_none(store, caplog):
    path = store / 'summary' / 'temperature' / 'done' / 'c' / '2'
    path.write_bytes(b'cut')
    assert Record.open(str(store)) is None
    assert 'cannot be read' in caplog.text


def test_writing_goes_on_where_it_was(tmp_path):
    path = tmp_path / 'store.zarr'
    write_store(path)
    tasks = list(summaries(path))
    first = create(path, block=BLOCK)
    for task in tasks[:9]:
        first.write(*task)
    second = create(path, block=BLOCK)
    left = [t for t in tasks if not second.is_done(t[0], t[1], t[1] + BLOCK)]
    assert [t[:2] for t in left] == [t[:2] for t in tasks[9:]]
    with pytest.raises(ValueError, match='found none of 19, the first at position 21'):
        second.finish()
    for task in left:
        second.write(*task)
    second.finish()
    # Whoever comes late finds nothing to do.
    third = create(path, block=BLOCK)
    assert all(third.is_done(name, 0, TIMES) for name in NAMES)
    third.finish()
    found = Record.open(str(path))
    whole = found.summary('temperature', slice(7, 14))
    expected = next(s for n, t, s in tasks if (n, t) == ('temperature', 7))
    for one, other in zip(whole, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize('killed_after', range(0, 40, 3))
def test_joining_that_is_killed_loses_nothing(store, killed_after, monkeypatch):
    digest, calls = Record.open(str(store)).digest, iter(range(1000))

    def killed(*arguments, **options):
        if next(calls) >= killed_after:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    original = zarr.Array.__setitem__
    monkeypatch.setattr(zarr.Array, '__setitem__', killed)
    try:
        create(store, block=BLOCK).finish()
    except KeyboardInterrupt:
        pass
    monkeypatch.undo()
    assert Record.open(str(store)).digest == digest
    create(store, block=BLOCK).finish()
    assert Record.open(str(store)).digest == digest


def test_parts_of_blocks_are_refused(store):
    writer = create(store, block=BLOCK)
    (name, _, summary), *_ = summaries(store)
    with pytest.raises(ValueError, match='whole blocks of 7 of 40 times, got 3 to 10'):
        writer.write(name, 3, summary)
    with pytest.raises(ValueError, match='in blocks of 8 times, found 7 in'):
        create(store, block=8)
    with pytest.raises(ValueError, match='of another store'):
        RecordWriter.create(
            str(store), variables={'geopotential': 3}, num_times=TIMES, block=BLOCK
        )


def test_the_digest_is_that_of_the_data_wherever_they_lie(store, tmp_path):
    digest = Record.open(str(store)).digest
    moved = shutil.copytree(store, tmp_path / 'moved.zarr')
    assert Record.open(str(moved)).digest == digest
    group = zarr.open_group(moved, mode='r+')
    group['temperature'].attrs['units'] = 'degC'
    assert Record.open(str(moved)).digest != digest
    del group['temperature'].attrs['units']
    checksums = group['summary/geopotential/checksum']
    checksums[3] = checksums[3] + 1
    assert Record.open(str(moved)).digest != digest


def test_a_chunk_that_changes_later_is_newer_than_the_record(store):
    assert not Record.open(str(store)).is_older_than_its_fields()
    chunk = pathlib.Path(store, 'temperature', 'c', '3', '0', '0', '0')
    os.utime(chunk)
    assert Record.open(str(store)).is_older_than_its_fields()
    add_again = zarr.open_group(store / 'summary', mode='r+')
    add_again['temperature/done'][:] = 1
    assert not Record.open(str(store)).is_older_than_its_fields()
    chunk.unlink()
    assert Record.open(str(store)).is_older_than_its_fields()


def test_levels_of_its_own_may_be_stated(tmp_path):
    path = tmp_path / 'store.zarr'
    write_store(path)
    writer = create(
        path, block=BLOCK, attributes={'levels': {n: [5, 9] for n in NAMES}}
    )
    for task in summaries(path):
        writer.write(*task)
    found = Record.open(str(path))
    assert found.levels['temperature'] == (5, 9)
    assert isinstance(found.grid, LatLonGrid)
