"""Batches are the store's values at the right places, whoever reads them and when."""

import contextlib
import gc
import json
import pathlib
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
import zarr

from weather.data.loader import Loader, Part
from weather.data.store import open_atmosphere
from weather.data.windows import WindowIndex

LEVELS = {'geopotential': (850, 500), 'temperature': (300,), '2m_temperature': ()}
FIRST_VERSION = [
    [13, 8, 14, 0, 9],
    [12, 5, 3, 7, 1],
    [10, 2, 15, 4, 16],
    [11, 17, 6, 0, 14],
]
PERIOD = ('2000-01-01', '2000-01-05')
HOUR = np.timedelta64(1, 'h')
# Seconds after which a loader that hangs is given up; it needs a fraction of one.
PATIENCE = 60


@pytest.fixture
def atmosphere(coded_dataset, write_store):
    # South first and longitudes first: the loader turns them round.
    stored = coded_dataset.isel(latitude=slice(None, None, -1))
    stored = stored.transpose('time', 'level', 'longitude', 'latitude')
    return open_atmosphere(write_store(stored), levels=LEVELS)


def make_loader(atmosphere, *, period=PERIOD, batch_size=3, seed=0, **options):
    windows = WindowIndex(atmosphere.times, period=period)
    return Loader(atmosphere, windows, batch_size=batch_size, seed=seed, **options)


def assert_equal(batch, other):
    np.testing.assert_array_equal(batch.valid_times, other.valid_times)
    assert list(batch.fields) == list(other.fields)
    for name, values in batch.fields.items():
        np.testing.assert_array_equal(values, other.fields[name])


@pytest.mark.parametrize('cache_bytes', [0, 2000, 10**8])
def test_every_value_is_that_of_its_time_level_and_place(
    atmosphere, coded_dataset, cache_bytes
):
    loader = make_loader(atmosphere, cache_bytes=cache_bytes)
    for update in range(12):
        batch = loader.batch(update, num_steps=2)
        assert batch.valid_times.shape == (3, 3)
        assert batch.valid_times.dtype == np.int64
        times = batch.valid_times.astype('datetime64[h]').astype('datetime64[ns]')
        for name, levels in LEVELS.items():
            values = batch.fields[name]
            assert values.shape == (3, 3, max(len(levels), 1), 6, 8)
            assert values.dtype == np.float32 and values.flags.c_contiguous
            field = coded_dataset[name]
            for row in range(3):
                expected = field.sel(time=times[row])
                if levels:
                    expected = expected.sel(level=list(levels)).values
                else:
                    expected = expected.values[:, None]
                np.testing.assert_array_equal(values[row], expected)


def test_each_epoch_holds_every_window_once(atmosphere):
    loader = make_loader(atmosphere, batch_size=6)  # 18 windows of 2 steps
    epochs = [
        np.concatenate(
            [loader.batch(epoch * 3 + i, 2).valid_times[:, 0] for i in range(3)]
        )
        for epoch in range(2)
    ]
    first_hours = loader.windows.times[:18].astype('datetime64[h]').astype(np.int64)
    for epoch in epochs:
        assert sorted(epoch) == first_hours.tolist()
    assert epochs[0].tolist() != epochs[1].tolist()


def test_fewer_windows_than_the_batch_holds_are_repeated(atmosphere):
    loader = make_loader(
        atmosphere, period=('2000-01-01', '2000-01-01T18'), batch_size=8
    )
    starts = loader.batch(5, num_steps=2).valid_times[:, 0]  # 2 windows
    assert np.unique(starts, return_counts=True)[1].tolist() == [4, 4]


def test_seeds_give_other_orders(atmosphere):
    times = [make_loader(atmosphere, seed=s).batch(0, 1).valid_times for s in range(4)]
    assert len({t.tobytes() for t in times}) == 4


@pytest.mark.parametrize('num_threads', [1, 2, 7])
@pytest.mark.parametrize('prefetch_bytes', [0, 20_000, 10**9])
def test_batches_do_not_depend_on_threads_memory_or_where_reading_begins(
    atmosphere, num_threads, prefetch_bytes
):
    def steps(update):
        return 1 if update < 4 else 3

    reference = [make_loader(atmosphere).batch(u, steps(u)) for u in range(9)]
    loader = make_loader(
        atmosphere,
        num_threads=num_threads,
        prefetch_bytes=prefetch_bytes,
        cache_bytes=30_000,
    )
    for first in (0, 3, 6):
        batches = list(loader.batches(first, 9, steps))
        assert len(batches) == 9 - first
        for batch, expected in zip(batches, reference[first:], strict=True):
            assert_equal(batch, expected)


def test_the_order_of_the_windows_is_that_of_the_first_version(atmosphere):
    # Drawn by commit a034862; a resumed run must go on with the same batches.
    loader = make_loader(atmosphere, batch_size=5, seed=3)
    first = loader.windows.times[0].astype('datetime64[h]').astype(np.int64)
    drawn = [(loader.batch(u, 2).valid_times[:, 0] - first) // 6 for u in range(4)]
    assert [batch.tolist() for batch in drawn] == FIRST_VERSION


def test_batch_bytes_is_the_size_of_the_fields(atmosphere):
    loader = make_loader(atmosphere)
    batch = loader.batch(0, 2)
    assert loader.batch_bytes(2) == sum(f.nbytes for f in batch.fields.values())


@pytest.mark.parametrize('room', [0, 1, 3])
def test_no_more_is_read_ahead_than_there_is_room_for(atmosphere, monkeypatch, room):
    size = make_loader(atmosphere).batch_bytes(1)
    loader = make_loader(atmosphere, prefetch_bytes=room * size, num_threads=4)
    started = []
    start = loader.start

    def counted(update, num_steps, **how):
        started.append(update)
        return start(update, num_steps, **how)

    monkeypatch.setattr(loader, 'start', counted)
    with contextlib.closing(loader.batches(0, 50, lambda update: 1)) as batches:
        for taken in range(1, 10):
            next(batches)
            assert len(started) <= taken + max(room, 1)


class Ledger:
    """Counts the bytes of batches that are alive, instead of `Buffers`."""

    def __init__(self):
        self.alive, self.most = 0, 0

    def empty(self, shapes):
        arrays = [np.empty(shape, np.float32) for shape in shapes]
        for array in arrays:
            self._change(array.nbytes)
            weakref.finalize(array, self._change, -array.nbytes)
        return arrays

    def _change(self, num_bytes):
        self.alive += num_bytes
        self.most = max(self.most, self.alive)


@pytest.mark.parametrize('room', [0, 0.5, 2.5, 100])
@pytest.mark.parametrize('cache_bytes', [0, 5000])
def test_batches_never_take_more_memory_than_is_stated(
    atmosphere, monkeypatch, room, cache_bytes
):
    ledger = Ledger()
    monkeypatch.setattr('weather.data.loader.Buffers', lambda: ledger)
    size = make_loader(atmosphere).batch_bytes(2)
    loader = make_loader(
        atmosphere,
        prefetch_bytes=int(room * size),
        cache_bytes=cache_bytes,
        num_threads=3,
    )
    for _batch in loader.batches(0, 30, lambda update: 2 if update > 5 else 1):
        cached = sum(slab.nbytes for slab in loader.slabs._cache.values())
        assert ledger.alive + cached <= loader.most_bytes(2)
    del _batch
    assert size <= ledger.most <= loader.most_bytes(2) - cache_bytes
    assert ledger.most <= (2 + max(room, 1)) * size
    gc.collect()
    assert ledger.alive == 0


def test_the_cache_stays_within_its_bytes(atmosphere):
    loader = make_loader(atmosphere, cache_bytes=5000)
    for update in range(10):
        loader.batch(update, 2)
        cached = sum(slab.nbytes for slab in loader.slabs._cache.values())
        assert cached <= 5000
    assert cached > 0


def test_nothing_is_read_twice_while_the_cache_has_room(atmosphere):
    loader = make_loader(atmosphere, cache_bytes=10**8)
    epoch = [loader.batch(update, 2) for update in range(6)]
    for file in pathlib.Path(atmosphere.source).glob('*/[0-9]*'):
        file.write_bytes(b'gone')
    for update, batch in enumerate(epoch):
        assert_equal(loader.batch(update, 2), batch)


def test_an_error_in_a_thread_is_raised_in_its_turn(atmosphere):
    loader = make_loader(atmosphere, batch_size=1)
    starts = loader.windows.starts(0)
    broken = loader.batch(2, 0).valid_times[0, 0] * HOUR + np.datetime64('1970-01-01')
    position = int(np.flatnonzero(atmosphere.times == broken)[0])
    assert position in starts
    pathlib.Path(atmosphere.source, 'temperature', f'{position}.0.0.0').write_bytes(b'')
    batches = loader.batches(0, 9, lambda update: 0)
    next(batches), next(batches)
    with pytest.raises(ValueError, match=f'temperature at {broken}.* truncated'):
        next(batches)
    assert not loader_threads()


def test_an_error_in_one_of_many_threads_is_no_hang(atmosphere):
    pathlib.Path(atmosphere.source, 'temperature', '4.0.0.0').write_bytes(b'')
    loader = make_loader(atmosphere, num_threads=5, batch_size=9)

    def read():
        with pytest.raises(ValueError, match='temperature at .* truncated'):
            list(loader.batches(0, 10**6, lambda update: 2))

    within_patience(read)
    assert not loader_threads()


@pytest.mark.parametrize('count', [1, 2, 3, 6])
def test_the_parts_of_a_batch_are_the_batch(atmosphere, count):
    whole = make_loader(atmosphere, batch_size=6, seed=2)
    parts = [
        make_loader(
            atmosphere, batch_size=6, seed=2, part=Part(i, count), cache_bytes=20_000
        )
        for i in range(count)
    ]
    for update in range(5):
        batches = [part.batch(update, 2) for part in parts]
        assert {len(batch.valid_times) for batch in batches} == {6 // count}
        assert sum(part.batch_bytes(2) for part in parts) == whole.batch_bytes(2)
        digests = [digest for batch in batches for digest in batch.digests()]
        assert digests == whole.batch(update, 2).digests()


@pytest.mark.parametrize('count', [2, 3])
@pytest.mark.parametrize('cache_bytes', [0, 20_000])
def test_processes_that_share_rows_read_each_its_latitudes(
    atmosphere, count, cache_bytes
):
    whole = make_loader(atmosphere, batch_size=6, seed=2)
    parts = [
        make_loader(
            atmosphere,
            batch_size=6,
            seed=2,
            part=Part(1, 2),
            latitudes=Part(i, count),
            cache_bytes=cache_bytes,
        )
        for i in range(count)
    ]
    for update in range(5):
        expected = whole.batch(update, 2)
        batches = [part.batch(update, 2) for part in parts]
        for batch in batches:
            np.testing.assert_array_equal(batch.valid_times, expected.valid_times[3:])
        for name, values in expected.fields.items():
            found = np.concatenate([b.fields[name] for b in batches], axis=-2)
            np.testing.assert_array_equal(found, values[3:])
    assert parts[0].batch_bytes(2) == whole.batch_bytes(2) // (2 * count)


def test_latitudes_that_cannot_be_shared_evenly_are_refused(atmosphere):
    with pytest.raises(ValueError, match='latitudes as a multiple of the 4 processes'):
        make_loader(atmosphere, latitudes=Part(0, 4))


def test_a_process_reads_only_its_part(atmosphere):
    loader = make_loader(atmosphere, batch_size=2, part=Part(1, 2))
    batch = loader.batch(0, 0)
    assert loader.slabs.num_read == len(LEVELS) == len(batch.fields)


@pytest.mark.parametrize('part', [Part(2, 2), Part(-1, 2), Part(0, 0), Part(0, 2)])
def test_impossible_parts_are_refused(atmosphere, part):
    with pytest.raises(ValueError, match='part from 0 to|multiple of the 2 processes'):
        make_loader(atmosphere, batch_size=3, part=part)


def test_a_digest_tells_any_other_content(atmosphere):
    batch = make_loader(atmosphere, batch_size=2).batch(0, 1)
    before = batch.digests()
    assert before == batch.digests() and before[0] != before[1]
    batch.fields['temperature'][1, 1, 0, 5, 7] += 1e-3
    assert batch.digests()[0] == before[0] and batch.digests()[1] != before[1]
    batch.valid_times[0, 0] += 1
    assert batch.digests()[0] != before[0]


READ = """
import json, sys
from weather.data.loader import Loader, Part
from weather.data.store import open_atmosphere
from weather.data.windows import WindowIndex

store, index, count, first = sys.argv[1], *map(int, sys.argv[2:])
levels = {'geopotential': (850, 500), 'temperature': (300,), '2m_temperature': ()}
atmosphere = open_atmosphere(store, levels=levels)
windows = WindowIndex(atmosphere.times, period=('2000-01-01', '2000-01-05'))
loader = Loader(
    atmosphere, windows, batch_size=4, seed=7, part=Part(index, count), num_threads=3
)
batches = loader.batches(first, 8, lambda update: 1 + update // 4)
print(json.dumps([batch.digests() for batch in batches]))
"""


def test_two_processes_and_one_that_begins_later_see_the_same_batches(atmosphere):
    def started(index, count, first):
        arguments = [atmosphere.source, *map(str, (index, count, first))]
        command = [sys.executable, '-c', READ, *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    processes = [started(0, 2, 0), started(1, 2, 0), started(0, 1, 0), started(0, 1, 5)]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    first, second, whole, later = map(json.loads, outputs)
    assert [a + b for a, b in zip(first, second, strict=True)] == whole
    assert whole[5:] == later


@pytest.mark.parametrize('hours', [12, 18, 30])
def test_a_step_of_several_steps_of_the_store_reads_the_times_between_never(
    atmosphere, coded_dataset, hours
):
    windows = WindowIndex(atmosphere.times, period=PERIOD, timestep=hours * HOUR)
    loader = Loader(atmosphere, windows, batch_size=4, seed=1, num_threads=2)
    starts = set()
    for batch in loader.batches(0, 8, lambda update: 2):
        assert (np.diff(batch.valid_times) == hours).all()
        starts |= set(batch.valid_times[:, 0].tolist())
        times = batch.valid_times.astype('datetime64[h]').astype('datetime64[ns]')
        for row in range(4):
            expected = coded_dataset['temperature'].sel(time=times[row], level=[300])
            found = batch.fields['temperature'][row]
            np.testing.assert_array_equal(found, expected.values)
    # At every time of the store, and not only at multiples of the step.
    assert len(starts) == len(windows.starts(2)) == 20 - 2 * hours // 6


def test_nan_is_named_by_channel_and_time(coded_dataset, write_store):
    coded_dataset['geopotential'][7, 2, 3, 1] = np.nan
    atmosphere = open_atmosphere(write_store(coded_dataset), levels=LEVELS)
    loader = make_loader(atmosphere, batch_size=20)
    with pytest.raises(
        ValueError, match='NaN or infinity in geopotential@850 at 2000-01-02T18:00:00'
    ):
        loader.batch(0, 0)


def loader_threads():
    return [t for t in threading.enumerate() if t.name.startswith('loader')]


def within_patience(function):
    """Runs `function` in a daemon thread, so that a hang fails instead of hanging."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive(), f'no answer in {PATIENCE} s'


def test_stopping_early_does_not_hang_and_leaves_no_threads(atmosphere):
    loader = make_loader(atmosphere, num_threads=4)

    def stop_early():
        for _ in range(20):
            with contextlib.closing(loader.batches(0, 10**9, lambda u: 2)) as batches:
                next(batches)
                next(batches)

    within_patience(stop_early)
    assert not loader_threads()


def test_two_consumers_share_a_loader(atmosphere):
    loader = make_loader(atmosphere, cache_bytes=20_000, num_threads=3)
    reference = [loader.batch(u, 1) for u in range(12)]

    def consume():
        for batch, expected in zip(
            loader.batches(0, 12, lambda u: 1), reference, strict=True
        ):
            assert_equal(batch, expected)

    others = [threading.Thread(target=consume, daemon=True) for _ in range(3)]
    for thread in others:
        thread.start()
    within_patience(lambda: [thread.join() for thread in others])


def test_too_short_a_period_is_raised_before_reading(atmosphere):
    loader = make_loader(atmosphere, period=('2000-01-01', '2000-01-01'))
    with pytest.raises(ValueError, match='for a rollout of 4 steps'):
        next(loader.batches(0, 1, lambda update: 4))


@pytest.mark.parametrize(
    'options, message',
    [
        ({'batch_size': 0}, 'positive batch_size'),
        ({'seed': -1}, 'seed >= 0'),
        ({'num_threads': 0}, 'num_threads >= 1'),
    ],
)
def test_impossible_sizes_are_refused(atmosphere, options, message):
    with pytest.raises(ValueError, match=message):
        make_loader(atmosphere, **options)


def test_times_between_hours_are_refused(coded_dataset, write_store):
    shifted = coded_dataset.assign_coords(
        time=coded_dataset['time'] + np.timedelta64(30, 'm')
    )
    atmosphere = open_atmosphere(write_store(shifted), levels=LEVELS)
    with pytest.raises(ValueError, match='full hours, found 2000-01-01T00:30'):
        make_loader(atmosphere)


def test_real_reanalysis_is_read_as_stored(shared_data):
    path = shared_data / 'ncep_r1_20220101_5d_73x144.zarr'
    atmosphere = open_atmosphere(
        path, levels={'specific_humidity': (1000, 300), 'geopotential': (500,)}
    )
    loader = make_loader(atmosphere, period=('2022', '2022'), batch_size=2)
    batch = loader.batch(0, num_steps=3)
    assert sorted(batch.valid_times[:, 0]) == [455832, 455856]
    raw = zarr.open_array(f'{atmosphere.source}/specific_humidity', mode='r')
    for hours, values in zip(
        batch.valid_times, batch.fields['specific_humidity'], strict=True
    ):
        days = (hours - 455832) // 24
        stored = raw.oindex[days, [12, 5]][:, :, ::-1]
        np.testing.assert_array_equal(values, stored)
