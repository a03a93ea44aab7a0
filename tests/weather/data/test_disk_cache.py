"""What was read at an address is read again from the disk, within a bound, or not."""

import contextlib
import logging
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time
import uuid

import numpy as np
import pytest
import zarr

from tests import emulator, faulty_proxy
from weather.data import disk_cache, store
from weather.data.disk_cache import DiskCache
from weather.experiment import Data

LEVELS = {'geopotential': (500, 850), 'temperature': (850, 300)}
ROOT = pathlib.Path(__file__).resolve().parents[3]


def size_of(folder):
    total = 0
    for path in pathlib.Path(folder).glob('chunks/*/*'):
        with contextlib.suppress(FileNotFoundError):  # Renamed meanwhile.
            total += path.stat().st_size
    return total


@pytest.fixture
def cloud():
    with emulator.running() as url, faulty_proxy.between(url) as seen:
        yield seen


@pytest.fixture
def open_cached(cloud, tmp_path):
    """Opens a store through the cache, as another process would: counted anew."""

    def open_there(address, gigabytes=1.0, **options):
        disk_cache._shared.cache_clear()
        return store.open_atmosphere(
            address,
            levels=LEVELS,
            storage_options={
                'token': 'anon',
                'endpoint_url': cloud.url,
                'disk_cache': tmp_path / 'kept',
                'disk_cache_gb': gigabytes,
                **options,
            },
        )

    return open_there


def upload(cloud, folder, name=None):
    return emulator.upload(folder, cloud.url, name or f'{uuid.uuid4().hex}.zarr')


SHARDED = {
    'temperature': {'chunks': (1, 1, 6, 8), 'shards': (4, 3, 6, 8)},
    'geopotential': {'chunks': (1, 3, 6, 4), 'shards': (2, 3, 6, 8)},
}


@pytest.mark.parametrize(
    'layout',
    [{'zarr_format': 2}, {'zarr_format': 3}, {'zarr_format': 3, 'encoding': SHARDED}],
    ids=['v2', 'v3', 'v3, sharded'],
)
def test_the_second_time_no_chunk_is_asked_for(
    cloud, open_cached, write_store, coded_dataset, layout
):
    address = upload(cloud, write_store(coded_dataset, **layout))
    for _ in range(2):
        cloud.asked.clear()
        fields = open_cached(address).fields
        for name in LEVELS:
            np.testing.assert_array_equal(fields[name].read({}), coded_dataset[name])
    chunks = [name for name in cloud.chunks_read() if any(n in name for n in LEVELS)]
    assert chunks == []


@pytest.mark.parametrize('zarr_format', [2, 3])
def test_a_store_that_was_written_anew_is_read_anew(
    cloud, open_cached, write_store, coded_dataset, zarr_format
):
    name = 'changing.zarr'
    path = write_store(coded_dataset, zarr_format=zarr_format)
    address = upload(cloud, path, name)
    before = open_cached(address).fields['temperature'].read({})
    changed = coded_dataset.assign(temperature=coded_dataset['temperature'] + 1)
    # The same metadata to the letter, written anew.
    upload(cloud, write_store(changed, zarr_format=zarr_format), name)
    after = open_cached(address).fields['temperature'].read({})
    np.testing.assert_array_equal(after, before + 1)


def test_a_hole_is_not_remembered(cloud, open_cached, write_store, coded_dataset):
    address = upload(cloud, write_store(coded_dataset))
    cloud.always['temperature/3.'] = '404'
    here = {'time': np.array([3])}
    assert np.isnan(open_cached(address).fields['temperature'].read(here)).all()
    cloud.always.clear()
    found = open_cached(address).fields['temperature'].read(here)
    np.testing.assert_array_equal(found[0], coded_dataset['temperature'][3])


def test_options_of_the_cache_do_not_reach_the_file_system(tmp_path):
    found = disk_cache.split({'token': 'anon', 'disk_cache': tmp_path})
    assert found == ({'token': 'anon'}, str(tmp_path), 100_000_000_000)
    with pytest.raises(ValueError, match='positive disk_cache_gb, got 0'):
        disk_cache.split({'disk_cache': tmp_path, 'disk_cache_gb': 0})


def test_the_config_says_where(tmp_path):
    periods = dict.fromkeys(('train', 'validation', 'test'), ('2000', '2001'))
    data = Data(store='gs://b/x.zarr', storage_options={'token': 'anon'}, **periods)
    assert data.options == {'token': 'anon'}
    data = data.model_copy(update={'disk_cache': '/x', 'disk_cache_gb': 2.0})
    assert data.options == {'token': 'anon', 'disk_cache': '/x', 'disk_cache_gb': 2.0}


def test_a_folder_that_cannot_be_made_is_said(cloud, open_cached, tmp_path):
    (tmp_path / 'kept').write_text('a file')
    with pytest.raises(ValueError, match=r'can be written to as data\.disk_cache'):
        open_cached(f'gs://{emulator.BUCKET}/x.zarr')


def test_a_server_that_tells_no_versions_keeps_nothing(
    write_store, coded_dataset, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(disk_cache, '_VERSIONS', ())
    path = write_store(coded_dataset)
    zarr_store = zarr.storage.FsspecStore.from_url(f'file://{path}')
    patient_store = disk_cache.PatientStore(zarr_store, 'x', 'anonymously')
    cached = disk_cache.CachedStore.of(patient_store, tmp_path / 'kept', 10**6)
    found = zarr.open_group(cached, mode='r')['temperature'][:]
    np.testing.assert_array_equal(found, coded_dataset['temperature'])
    assert 'says nothing of versions' in caplog.text
    assert size_of(tmp_path / 'kept') == 0


def name_of(number):
    return f'{number:064x}'[::-1]


def test_the_bound_holds_and_what_was_used_last_stays(tmp_path):
    cache = DiskCache(tmp_path, 10_000)
    for number in range(50):
        cache.put(name_of(number), bytes(900))
        assert size_of(tmp_path) <= 10_000
        assert cache.get(name_of(0)) is not None, 'used again and again'
    assert cache.get(name_of(49)) is not None
    assert cache.get(name_of(1)) is None


def test_the_bound_holds_after_a_restart_and_for_a_smaller_one(tmp_path):
    for number in range(8):
        DiskCache(tmp_path, 10_000).put(name_of(number), bytes(900))
    (tmp_path / 'chunks' / 'bytes').write_text('')  # As a crash may leave it.
    cache = DiskCache(tmp_path, 10_000)
    for number in range(8, 20):
        cache.put(name_of(number), bytes(900))
        assert size_of(tmp_path) <= 10_000
    DiskCache(tmp_path, 3_000)
    assert 0 < size_of(tmp_path) <= 3_000


def test_what_is_larger_than_everything_is_not_kept(tmp_path):
    cache = DiskCache(tmp_path, 1000)
    cache.put(name_of(1), bytes(500))
    cache.put(name_of(2), bytes(1000))
    assert cache.get(name_of(1)) is not None
    assert cache.get(name_of(2)) is None


def test_files_of_others_in_the_folder_stay(tmp_path):
    mine = tmp_path / 'thesis.tex'
    mine.write_text('years of work')
    cache = DiskCache(tmp_path, 100)
    cache.put(name_of(1), bytes(50))
    assert mine.read_text() == 'years of work'


@pytest.mark.parametrize('damage', ['short', 'flipped', 'empty'])
def test_a_damaged_entry_is_not_served(tmp_path, damage, caplog):
    cache = DiskCache(tmp_path, 10_000)
    cache.put(name_of(1), bytes(range(100)))
    path = cache._path(name_of(1))
    whole = bytearray(path.read_bytes())
    whole[50] ^= 1
    path.write_bytes({'short': whole[:60], 'flipped': whole, 'empty': b''}[damage])
    assert cache.get(name_of(1)) is None
    assert 'is damaged' in caplog.text
    assert not path.exists()


def test_a_full_disk_stops_nothing(tmp_path, caplog, monkeypatch):
    cache = DiskCache(tmp_path, 10_000)

    def full(*args):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'replace', full)
    with caplog.at_level(logging.WARNING):
        cache.put(name_of(1), bytes(100))
    assert 'No space left' in caplog.text
    assert cache.get(name_of(1)) is None


_WRITER = """
    import sys
    sys.path.insert(0, {root!r})
    from weather.data.disk_cache import DiskCache
    cache = DiskCache({folder!r}, {bound})
    print('ready', flush=True)
    for number in range({first}, {last}):
        name = f'{{number:064x}}'[::-1]
        cache.put(name, number.to_bytes(4, 'big') * 5000)
"""


def start_writer(folder, *, bound, first, last):
    code = textwrap.dedent(_WRITER).format(
        root=str(ROOT), folder=str(folder), bound=bound, first=first, last=last
    )
    process = subprocess.Popen(
        [sys.executable, '-c', code], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == 'ready\n'
    return process


def assert_only_whole_entries(cache, numbers):
    found = 0
    for number in numbers:
        value = cache.get(name_of(number))
        if value is not None:
            assert value == number.to_bytes(4, 'big') * 5000
            found += 1
    return found


def test_a_kill_while_writing_leaves_no_half_entry(tmp_path, caplog):
    for attempt in range(3):
        process = start_writer(tmp_path, bound=10**8, first=0, last=10**6)
        time.sleep(0.05 + 0.05 * attempt)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    cache = DiskCache(tmp_path, 10**8)
    assert assert_only_whole_entries(cache, range(2000)) > 10
    assert 'damaged' not in caplog.text
    # What a killed one left unfinished goes when nobody can be writing it any more.
    left = cache.folder / 'ab' / f'{name_of(1)}.x.part'
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(bytes(100))
    os.utime(left, (1, 1))
    DiskCache(tmp_path, 10**8)
    assert not left.exists()


def test_processes_share_a_folder_and_its_bound(tmp_path):
    bound = 1_000_000  # 50 entries of 20 kB; four times as many are written.
    writers = [
        start_writer(tmp_path, bound=bound, first=100 * i, last=100 * i + 100)
        for i in range(2)
    ]
    cache = DiskCache(tmp_path, bound)
    while any(writer.poll() is None for writer in writers):
        with cache._locked():  # Or files come and go while they are counted.
            assert size_of(tmp_path) <= bound
    for writer in writers:
        assert writer.returncode == 0
        writer.stdout.close()
    assert size_of(tmp_path) <= bound
    assert assert_only_whole_entries(cache, range(200)) > 20
