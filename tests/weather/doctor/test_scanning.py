"""A scan sees every time once, in any blocks and threads, within its bound."""

import threading
import tracemalloc

import numpy as np
import pytest

from sphere_ops.grid import LatLonGrid
from tests.weather.doctor.conftest import GRID, made
from weather.data.store import open_atmosphere
from weather.data.stored_field import StoredField
from weather.data.summary import summarise
from weather.doctor import scanning
from weather.doctor.scanning import Place, Selection, scan


def opened(path, name='temperature'):
    return open_atmosphere(path, levels={name: (50, 300, 500, 850)}).fields[name]


def whole(field):
    return Selection(np.arange(field.shape[0]), np.arange(field.shape[1]))


@pytest.mark.parametrize('max_bytes', [1, 20_000, 2**24])
@pytest.mark.parametrize('num_threads', [1, 3])
def test_the_summary_is_that_of_all_at_once(clean, write, max_bytes, num_threads):
    field = opened(write(clean, times_per_chunk=3))
    seen = []
    found = scan(
        field,
        whole(field),
        GRID.area_weights,
        max_bytes=max_bytes,
        num_threads=num_threads,
        progress=seen.append,
    )
    values = clean['temperature'].values
    before = np.concatenate([np.full_like(values[:1], np.nan), values[:-1]])
    expected = summarise(values, before, GRID.area_weights)
    for one, other in zip(found.summary, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    assert sum(seen) == 40 and not found.unreadable and not found.is_hole.any()


def test_every_chunk_is_read_once(clean, write, monkeypatch):
    field = opened(write(clean, times_per_chunk=3))
    read, lock = [], threading.Lock()

    def counted(self, out, selection):
        with lock:
            read.append(selection['time'].tolist())
        return original(self, out, selection)

    original = StoredField.read_into
    monkeypatch.setattr(StoredField, 'read_into', counted)
    slab = 4 * 4 * GRID.num_lat * GRID.num_lon
    scan(field, whole(field), GRID.area_weights, max_bytes=7 * slab)
    assert sorted(time for times in read for time in times) == list(range(40))
    # Six times are two chunks of three.
    assert {times[0] % 6 for times in read} == {0}


def test_only_what_is_asked_for_is_read(clean, write):
    field = opened(write(clean))
    selection = Selection(np.array([3, 4, 9]), np.array([1, 3]))
    found = scan(field, selection, GRID.area_weights)
    values = clean['temperature'].values[[3, 4, 9]][:, [1, 3]]
    np.testing.assert_array_equal(found.summary.maximum, values.max(axis=(-2, -1)))
    # The change is that from the time before, however long before.
    change = np.diff(values.astype(float), axis=0).mean(axis=-1) @ GRID.area_weights
    np.testing.assert_allclose(
        found.summary.tendency_mean[1:], change / GRID.num_lat, rtol=1e-12
    )


def test_memory_stays_within_the_bound_that_is_stated(write):
    grid = LatLonGrid('equiangular', num_lat=60, num_lon=90)
    path = write(made(150, grid)[['temperature']])
    field = open_atmosphere(path, levels={'temperature': (50, 300, 500, 850)}).fields[
        'temperature'
    ]
    max_bytes, num_threads = 2**20, 2
    tracemalloc.start()
    scan(
        field,
        whole(field),
        grid.area_weights,
        max_bytes=max_bytes,
        num_threads=num_threads,
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Beside blocks, what summarising works on: see `test_summary`.
    working = num_threads * 6 * 8 * 2**16
    one_time = 4 * 4 * 60 * 90
    buffers = (2 * num_threads + 1) * (max_bytes + one_time)
    assert peak < buffers + num_threads * one_time + 50 * 150 * 4 + working


def test_a_part_of_a_scan_has_its_own_places():
    summary = summarise(
        np.zeros((4, 3, *GRID.shape), np.float32),
        np.zeros((4, 3, *GRID.shape), np.float32),
        GRID.area_weights,
    )
    scanned = scanning.from_summary(summary)
    scanned.unreadable.update({Place(2, 1): 'bad', Place(0, 2): 'early'})
    part = scanning.select(scanned, slice(1, 4), [2, 1])
    assert part.summary.mean.shape == (3, 2) and part.is_hole.shape == (3, 2)
    assert part.summary.checksum.shape == (3,)
    assert part.unreadable == {Place(1, 1): 'bad'}
