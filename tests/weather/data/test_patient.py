"""What fails for a while at an address is read in the end, the rest said at once."""

import asyncio
import functools
import http.server
import shutil
import time
import uuid

import aiohttp
import gcsfs.retry
import numpy as np
import pytest
import requests.exceptions
import zarr

from tests import emulator, faulty_proxy
from weather.data import patient, store
from weather.data.loader import Loader
from weather.data.patient import GaveUpError, PatientStore
from weather.data.sources import zarr_store
from weather.data.windows import WindowIndex, invalid_times

LEVELS = {'geopotential': (500, 850), 'temperature': (850, 300), '2m_temperature': ()}
PERIOD = ('2000-01-01', '2000-01-05')
# So many that three faults in ten requests never use them up (0.3 ** 12).
QUICK = patient.Patience(
    attempts=12, first_wait_s=0.005, longest_wait_s=0.05, stall_s=0.3, total_s=10
)
LAYOUTS = {
    'v2': {'zarr_format': 2},
    'v3': {'zarr_format': 3},
    'v3, sharded': {
        'zarr_format': 3,
        'encoding': {
            'temperature': {'chunks': (1, 1, 6, 8), 'shards': (4, 3, 6, 8)},
            'geopotential': {'chunks': (1, 3, 6, 4), 'shards': (2, 3, 6, 8)},
            '2m_temperature': {'chunks': (1, 6, 8), 'shards': (5, 6, 8)},
        },
    },
}


@pytest.fixture(scope='module')
def cloud():
    with emulator.running() as url:
        yield url


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(patient, 'PATIENCE', QUICK)


def options(url):
    return {'token': 'anon', 'endpoint_url': url}


@pytest.fixture
def write(cloud, write_store, tmp_path):
    """Writes to the cloud, under a name of its own for each test."""

    def write_there(dataset, **layout):
        folder = write_store(dataset, **layout)
        return emulator.upload(folder, cloud, f'{uuid.uuid4().hex}.zarr')

    return write_there


def open_at(address, url, levels=LEVELS):
    return store.open_atmosphere(address, levels=levels, storage_options=options(url))


def read_all(atmosphere):
    """All fields, those of a batch, and the times that must not be used."""
    invalid = invalid_times(atmosphere.dataset, LEVELS)
    windows = WindowIndex(atmosphere.times, period=PERIOD, invalid=invalid)
    loader = Loader(
        atmosphere, windows, batch_size=3, seed=0, cache_bytes=0, prefetch_bytes=0
    )
    fields = {name: atmosphere.fields[name].read({}) for name in LEVELS}
    return fields, loader.batch(2, 4).fields, invalid


@pytest.mark.parametrize('layout', LAYOUTS)
def test_one_request_in_ten_failing_changes_not_one_bit(
    cloud, write, coded_dataset, layout
):
    coded_dataset['temperature'][7, 0, 2, 3] = np.nan
    address = write(coded_dataset, **LAYOUTS[layout])
    expected = read_all(store.open_atmosphere(coded_dataset, levels=LEVELS))
    with faulty_proxy.between(cloud, seed=3, rate=0.1) as faults:
        found = read_all(open_at(address, faults.url))
    for there, here in zip(found[:2], expected[:2], strict=True):
        for name in LEVELS:
            np.testing.assert_array_equal(there[name], here[name])
    np.testing.assert_array_equal(found[2], expected[2])
    assert found[2].size == 1
    assert set(faults.failed) == set(faulty_proxy.KINDS), 'each kind was there'


@pytest.mark.parametrize('kind', [*faulty_proxy.KINDS, 'shorten', '429'])
def test_every_kind_of_passing_fault_is_recognised(cloud, write, coded_dataset, kind):
    address = write(coded_dataset)
    with faulty_proxy.between(cloud, seed=1, rate=0.3, kinds=(kind,)) as faults:
        found = open_at(address, faults.url).fields['temperature'].read({})
    np.testing.assert_array_equal(found, coded_dataset['temperature'])
    assert faults.failed[kind] > 3


def test_so_it_is_over_plain_http(write_store, coded_dataset, tmp_path):
    write_store(coded_dataset)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    files = functools.partial(Quiet, directory=str(tmp_path))
    with (
        emulator.serving(files) as url,
        faulty_proxy.between(url, seed=1, rate=0.2) as faults,
    ):
        atmosphere = store.open_atmosphere(
            f'{faults.url}/atmosphere.zarr', levels=LEVELS
        )
        found = atmosphere.fields['temperature'].read({})
    np.testing.assert_array_equal(found, coded_dataset['temperature'])
    assert faults.failed.total() > 3


@pytest.mark.parametrize(
    'address', ['zip://::{folder}/z.zip', 'file://{folder}/a.zarr']
)
def test_any_address_that_fsspec_knows_is_read(
    write_store, coded_dataset, tmp_path, address
):
    folder = write_store(coded_dataset, name='a.zarr')
    shutil.make_archive(str(tmp_path / 'z'), 'zip', folder)
    found = store.open_store(address.format(folder=tmp_path), levels=LEVELS)
    np.testing.assert_array_equal(found['temperature'], coded_dataset['temperature'])


def test_a_library_that_is_not_there_is_named(monkeypatch):
    def lacking(source, options):
        raise ImportError('Install s3fs to access S3')

    monkeypatch.setattr(zarr_store, '_open_group', lacking)
    with pytest.raises(ValueError, match='cannot open s3://b/x.zarr: Install s3fs'):
        store.open_store('s3://b/x.zarr')


def test_what_is_not_there_is_asked_for_once(cloud, write, coded_dataset):
    address = write(coded_dataset)
    with faulty_proxy.between(cloud, always={'geopotential/3.': '404'}) as faults:
        atmosphere = open_at(address, faults.url)
        faults.asked.clear()
        values = atmosphere.fields['geopotential'].read({'time': np.array([3])})
    assert np.isnan(values).all(), 'a hole, not a number'
    assert len(faults.asked) == 1


def test_a_chunk_that_goes_is_named_by_the_loader_with_store_variable_and_time(
    cloud, write, coded_dataset
):
    address = write(coded_dataset)
    with faulty_proxy.between(cloud) as faults:
        atmosphere = open_at(address, faults.url)
        windows = WindowIndex(atmosphere.times, period=PERIOD)
        loader = Loader(
            atmosphere, windows, batch_size=20, seed=0, cache_bytes=0, prefetch_bytes=0
        )
        loader.batch(0, 0)
        faults.always['geopotential/3.'] = '404'
        with pytest.raises(
            ValueError, match=rf'geopotential@\d+ at 2000-01-01T18:00:00 of {address}'
        ):
            loader.batch(0, 0)


def test_a_chunk_that_is_gone_or_nan_leaves_its_windows_out(
    cloud, write, coded_dataset, caplog
):
    coded_dataset['temperature'][12] = np.nan
    address = write(coded_dataset)
    with faulty_proxy.between(cloud, always={'geopotential/3.': '404'}) as faults:
        atmosphere = open_at(address, faults.url)
        invalid = invalid_times(atmosphere.dataset, LEVELS)
        np.testing.assert_array_equal(invalid, atmosphere.times[[3, 12]])
        windows = WindowIndex(atmosphere.times, period=PERIOD, invalid=invalid)
        with caplog.at_level('INFO'):
            starts = windows.starts(1)
    # Each of both is in two of the 19 windows of two times.
    assert starts.size == 19 - 4
    assert '4 with invalid (NaN) times' in caplog.text


def test_what_never_comes_is_given_up_and_named(cloud, write, coded_dataset):
    address = write(coded_dataset)
    with faulty_proxy.between(cloud, always={'temperature/5.': '503'}) as faults:
        atmosphere = open_at(address, faults.url)
        faults.asked.clear()
        start = time.monotonic()
        with pytest.raises(ValueError) as raised:
            atmosphere.fields['temperature'].read({'time': np.array([4, 5, 6])})
    assert time.monotonic() - start < QUICK.total_s
    message = str(raised.value)
    for part in (
        'temperature at 2000-01-02T06:00:00',
        f'{address}/temperature/5.0.0.0 did not come in {QUICK.attempts} attempts',
        'anonymously',
        'HTTP 503',
    ):
        assert part in message
    asked = [name for _, name in faults.asked if 'temperature/5.' in name]
    # Asked again to find out at which time: answered from memory.
    assert len(asked) == QUICK.attempts


def test_a_store_that_is_always_busy_is_given_up_when_opened(
    cloud, write, coded_dataset
):
    address = write(coded_dataset)
    with faulty_proxy.between(cloud, always={'': '503'}) as faults:
        start = time.monotonic()
        with pytest.raises(ValueError, match=f'cannot open {address}: .*did not come'):
            # Without a token: anonymously it would not be less busy.
            store.open_store(address, storage_options={'endpoint_url': faults.url})
    assert time.monotonic() - start < QUICK.total_s


def test_a_stall_is_cut_and_a_slow_line_is_given_twice_the_time(monkeypatch):
    monkeypatch.setattr(patient, 'PATIENCE', QUICK._replace(stall_s=0.1))
    begun = []

    async def slow():
        begun.append(None)
        await asyncio.sleep(0.3)
        return 'came'

    slow_store = PatientStore(zarr.storage.MemoryStore(), 'mem://x', 'anonymously')
    assert asyncio.run(slow_store.patiently('key', slow)) == 'came'
    # Of 0.1, 0.2 and 0.4 s the last was enough, however busy the machine is.
    assert len(begun) == 3


def test_the_time_in_all_is_bounded(monkeypatch):
    monkeypatch.setattr(
        patient, 'PATIENCE', QUICK._replace(attempts=100, stall_s=0.2, total_s=0.5)
    )
    silent = PatientStore(zarr.storage.MemoryStore(), 'mem://x', 'anonymously')
    start = time.monotonic()
    with pytest.raises(GaveUpError, match=r'mem://x/key did not come .*a stall'):
        asyncio.run(silent.patiently('key', lambda: asyncio.sleep(60)))
    assert time.monotonic() - start < 10.0


def test_a_server_that_refuses_connections_is_not_waited_for(monkeypatch):
    # With all the patience there is.
    monkeypatch.setattr(patient, 'PATIENCE', patient.Patience())
    with emulator.serving(http.server.BaseHTTPRequestHandler) as gone:
        pass
    start = time.monotonic()
    with pytest.raises(ValueError, match='nobody answers there'):
        store.open_store('gs://bucket/x.zarr', storage_options=options(gone))
    assert time.monotonic() - start < 15.0


@pytest.mark.parametrize('status', ['401', '403'])
def test_what_is_forbidden_is_said_at_once_with_how_it_was_asked(
    cloud, write, coded_dataset, status
):
    address = write(coded_dataset)
    with faulty_proxy.between(cloud, always={'temperature/5.': status}) as faults:
        atmosphere = open_at(address, faults.url)
        faults.asked.clear()
        with pytest.raises(ValueError, match='may not be read anonymously .*: log in'):
            atmosphere.fields['temperature'].read({'time': np.array([5])})
        # Once for the values, once for the time in the message.
        assert len(faults.asked) == 2
        faults.always['.zmetadata'] = faults.always['zarr.json'] = status
        with pytest.raises(ValueError, match=f'cannot open {address}: .*gcloud auth'):
            open_at(address, faults.url)


@pytest.mark.parametrize(
    ('error', 'passing', 'forbidden'),
    [
        (TimeoutError(), True, False),
        (ConnectionResetError(), True, False),
        (OSError(5, 'as s3fs says InternalError'), True, False),
        (aiohttp.ClientPayloadError(), True, False),
        (requests.exceptions.ProxyError(), True, False),
        (gcsfs.retry.HttpError({'code': 503, 'message': 'busy'}), True, False),
        (gcsfs.retry.HttpError({'code': '429', 'message': 'slow'}), True, False),
        (gcsfs.retry.HttpError({'code': 401, 'message': 'expired'}), False, True),
        (
            gcsfs.retry.HttpError({'code': 400, 'message': 'is a requester pays'}),
            False,
            True,
        ),
        (OSError('Forbidden: bucket/object'), False, True),
        (PermissionError(13, 'no'), False, True),
        (gcsfs.retry.HttpError({'code': 400, 'message': 'bad'}), False, False),
        (ValueError('a mistake'), False, False),
        (FileNotFoundError(2, 'no'), False, False),
    ],
    ids=str,
)
def test_errors_are_told_apart(error, passing, forbidden):
    assert patient.is_passing(error) is passing
    assert patient.is_forbidden(error) is forbidden


@pytest.mark.parametrize(
    ('message', 'access', 'advice'),
    [
        ('Bucket is a requester pays bucket', 'with credentials', 'requester_pays'),
        ('Invalid Credentials', 'with credentials', 'have expired or lack the right'),
        ('Anonymous caller', 'anonymously', 'give credentials'),
    ],
)
def test_a_refusal_says_what_to_do(message, access, advice):
    async def refuse():
        raise gcsfs.retry.HttpError({'code': 401, 'message': message})

    closed = PatientStore(zarr.storage.MemoryStore(), 'gs://b/x.zarr', access)
    with pytest.raises(patient.ForbiddenError, match=advice):
        asyncio.run(closed.patiently('key', refuse))


@pytest.mark.parametrize('layout', LAYOUTS)
def test_what_is_written_to_the_cloud_is_there(
    cloud, write_store, coded_dataset, layout
):
    few = coded_dataset.isel(time=slice(0, 4))
    address = f'gs://{emulator.BUCKET}/{uuid.uuid4().hex}.zarr'
    write_store(few, name=address, storage_options=options(cloud), **LAYOUTS[layout])
    group = zarr.open_group(address, mode='r+', storage_options=options(cloud))
    group['2m_temperature'][0] = 250.0
    with open_at(address, cloud).dataset as found:
        np.testing.assert_array_equal(found['temperature'], few['temperature'])
        assert (found['2m_temperature'][0] == 250.0).all()
        np.testing.assert_array_equal(
            found['2m_temperature'][1:], few['2m_temperature'][1:]
        )
