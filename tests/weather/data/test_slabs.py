"""Every slab is read once, whoever needs it and when."""

import collections
import threading
import time

import numpy as np
import pytest

from weather.data.loader import Loader
from weather.data.slabs import SlabReader
from weather.data.store import open_atmosphere
from weather.data.windows import WindowIndex

LEVELS = {'geopotential': (850, 500), 'temperature': (300,), '2m_temperature': ()}
PERIOD = ('2000-01-01', '2000-01-05')
# Seconds after which threads that hang are given up; they need a fraction of one.
PATIENCE = 60
LONG_ENOUGH = 0.02  # For the other threads to ask for the same.


class Counting:
    """A field that counts how often each time of it is read, slowly."""

    def __init__(self, field, *, broken=()):
        self.field = field
        self.counts = collections.Counter()
        self.broken = set(broken)

    def __getattr__(self, name):
        return getattr(self.field, name)

    def read_into(self, out, selection):
        for time_ in selection['time'].tolist():
            self.counts[time_] += 1
        time.sleep(LONG_ENOUGH)
        if self.broken & set(selection['time'].tolist()):
            raise ValueError(f'{self.field.name} is broken')
        self.field.read_into(out, selection)


@pytest.fixture
def atmosphere(coded_dataset, write_store):
    return open_atmosphere(write_store(coded_dataset), levels=LEVELS)


@pytest.fixture
def counting(atmosphere):
    """The fields of the atmosphere, which count from now on."""
    for name, field in atmosphere.fields.items():
        atmosphere.fields[name] = Counting(field)
    return atmosphere.fields


def in_threads(number, function):
    """Runs `function(i)` in threads at the same time; what they returned or raised."""
    results = [None] * number
    barrier = threading.Barrier(number)

    def run(i):
        barrier.wait()
        try:
            results[i] = function(i)
        except ValueError as error:
            results[i] = error

    threads = [
        threading.Thread(target=run, args=(i,), daemon=True) for i in range(number)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), f'no answer in {PATIENCE} s'
    return results


def test_threads_that_need_the_same_slabs_read_them_once(
    atmosphere, counting, coded_dataset
):
    reader = SlabReader(atmosphere, cache_bytes=0)
    windows = [[0, 1, 2, 3], [2, 3, 4], [3, 4, 5, 6], [1, 3]]
    outs = [
        np.empty((len(w), *reader.shape('geopotential')), np.float32) for w in windows
    ]
    held = in_threads(4, lambda i: reader.fill(outs[i], 'geopotential', windows[i]))
    assert all(isinstance(slabs, list) for slabs in held)
    assert counting['geopotential'].counts == dict.fromkeys(range(7), 1)
    assert reader.num_read == 7
    stored = coded_dataset['geopotential'].sel(level=[850, 500]).values
    for out, window in zip(outs, windows, strict=True):
        np.testing.assert_array_equal(out, stored[window])


def test_slabs_are_forgotten_with_the_batch_that_held_them(atmosphere, counting):
    reader = SlabReader(atmosphere, cache_bytes=0)
    out = np.empty((2, *reader.shape('temperature')), np.float32)
    held = reader.fill(out, 'temperature', [4, 5])
    reader.fill(out.copy(), 'temperature', [5, 4])
    assert reader.num_read == 2
    del held
    reader.fill(out.copy(), 'temperature', [4, 5])
    assert counting['temperature'].counts == {4: 2, 5: 2}


def test_all_who_need_a_slab_that_cannot_be_read_are_told_and_the_next_tries_again(
    atmosphere, counting
):
    field = counting['temperature']
    field.broken = {3}
    reader = SlabReader(atmosphere, cache_bytes=10**6)
    shape = reader.shape('temperature')

    def read(_):
        return reader.fill(np.empty((2, *shape), np.float32), 'temperature', [3, 4])

    for result in in_threads(3, read):
        assert isinstance(result, ValueError) and 'temperature is broken' in str(result)
    field.broken = set()
    assert len(read(0)) == 2


@pytest.mark.parametrize('chunk, expected', [(1, 3), (4, 2), (20, 1)])
def test_times_of_a_stored_chunk_are_read_together(
    coded_dataset, write_store, chunk, expected
):
    encoding = {'temperature': {'chunks': (chunk, 3, 6, 8)}}
    store = write_store(coded_dataset[['temperature']], encoding=encoding)
    reader = SlabReader(open_atmosphere(store, levels={'temperature': (300,)}), 0)
    portions = reader.portions('temperature', np.array([2, 3, 4]), least=1)
    assert len(portions) == expected
    assert portions[0][0] == 0 and portions[-1][1] == 3
    assert all(a[1] == b[0] for a, b in zip(portions, portions[1:], strict=False))
    (together,) = reader.portions('temperature', np.array([2, 3, 4]), least=10**6)
    assert together == (0, 3)


@pytest.mark.parametrize('num_threads', [1, 4])
def test_a_loader_with_room_reads_every_slab_of_an_epoch_once(
    atmosphere, counting, num_threads
):
    windows = WindowIndex(atmosphere.times, period=PERIOD)
    loader = Loader(
        atmosphere,
        windows,
        batch_size=3,
        seed=0,
        cache_bytes=10**7,
        num_threads=num_threads,
    )
    for _ in loader.batches(0, 5, lambda update: 4):
        pass
    for field in counting.values():
        assert set(field.counts.values()) == {1}


def test_batches_that_are_read_at_the_same_time_share_what_they_have_in_common(
    atmosphere, counting
):
    # Two windows of four in a period of five: a batch needs every time, without cache.
    windows = WindowIndex(atmosphere.times, period=('2000-01-01T00', '2000-01-02T00'))
    loader = Loader(atmosphere, windows, batch_size=2, seed=0, num_threads=4)
    assert len(list(loader.batches(0, 1, lambda update: 3))) == 1
    for field in counting.values():
        assert field.counts == dict.fromkeys(range(5), 1)
