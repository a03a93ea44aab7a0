import threading

import numpy as np
import pytest
import xarray as xr

from weather.evaluation import sources


def dataset(latitudes, longitudes):
    """A field whose values name their own row and column."""
    latitudes, longitudes = np.asarray(latitudes), np.asarray(longitudes)
    field = 1000 * latitudes[:, None] + np.mod(np.round(longitudes), 360)
    return xr.Dataset(
        {'field': (('latitude', 'longitude'), field)},
        coords={'latitude': latitudes, 'longitude': longitudes},
    )


@pytest.mark.parametrize('latitudes', [[60.0, 0, -45], [-45.0, 0, 60]])
@pytest.mark.parametrize(
    'longitudes',
    [
        [0.0, 90, 180, 270],
        [-180.0, -90, 0, 90],
        [-1e-6, 90, 180, 270],
        [90.0, 0, 270, 180],
    ],
)
def test_canonical_order_is_from_north_and_from_greenwich(latitudes, longitudes):
    found = sources.canonical(dataset(latitudes, longitudes), 'truth')
    np.testing.assert_allclose(found.latitude, [60, 0, -45], atol=1e-12)
    np.testing.assert_allclose(found.longitude, [0, 90, 180, 270], atol=1e-5)
    expected = dataset([60.0, 0, -45], [0.0, 90, 180, 270])
    np.testing.assert_array_equal(found.field, expected.field)


def test_latitudes_in_no_order_are_an_error():
    with pytest.raises(ValueError, match='truth: expected latitudes in ascending or'):
        sources.canonical(dataset([0.0, 60, -45], [0.0, 180]), 'truth')


def test_coordinates_may_differ_by_their_rounding():
    exact = sources.canonical(dataset([60.0, 0.3, -45], [0.0, 120, 240]), 'a')
    rounded = sources.canonical(dataset([60.0, 0.3004, -45], [0.0, 119.9996, 240]), 'b')
    sources.check_same_grid(rounded, exact, 'forecast')
    shifted = sources.canonical(dataset([60.0, 0.302, -45], [0.0, 120, 240]), 'b')
    with pytest.raises(ValueError, match='position 1: expected 0.3, found 0.302'):
        sources.check_same_grid(shifted, exact, 'forecast')


def test_cache_reads_once_and_stays_within_its_bytes():
    cache, reads = sources.BlockCache(3 * 800), []

    def read(key):
        reads.append(key)
        return np.full(100, key, np.float64)

    for key in (1, 2, 1, 3, 1, 2):
        assert cache.get(key, lambda key=key: read(key))[0] == key
    assert reads == [1, 2, 3]
    # A fourth block pushes out 3, used longest ago.
    for key in (4, 1, 2, 3):
        cache.get(key, lambda key=key: read(key))
    assert reads == [1, 2, 3, 4, 3]


def test_levels_are_read_as_asked_and_nan_where_missing():
    variable = xr.DataArray(
        np.arange(24.0).reshape(2, 3, 2, 2),
        dims=('latitude', 'level', 'longitude', 'time'),
        coords={'level': [850, 500, 250]},
    )
    array = sources.LevelArray(variable, (500, 700, 850))
    found = array.read('time', time=slice(0, 2))
    assert found.shape == (2, 3, 2, 2)
    np.testing.assert_array_equal(found[1, 0], variable[:, 1, :, 1])
    np.testing.assert_array_equal(found[1, 2], variable[:, 0, :, 1])
    assert np.isnan(found[:, 1]).all()


def test_blocks_follow_the_chunks_of_the_store():
    values = np.arange(10 * 4, dtype=np.float32).reshape(10, 2, 2)
    variable = xr.DataArray(values, dims=('time', 'latitude', 'longitude'))
    variable.encoding['preferred_chunks'] = {'time': 4}
    blocks = []

    class Cache(sources.BlockCache):
        def get(self, key, read):
            blocks.append(key[1])
            return super().get(key, read)

    reader = sources.FieldReader(variable, 'time', levels=(None,), cache=Cache(10**6))
    for position in (9, 0, 3, 4):
        np.testing.assert_array_equal(reader(position), values[position][None])
    assert blocks == [2, 0, 0, 1]


def test_read_ahead_keeps_order_and_holds_two_results():
    under_way, most, lock = 0, 0, threading.Lock()

    def read(i):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        return i

    for expected, found in enumerate(
        sources.read_ahead([lambda i=i: read(i) for i in range(20)])
    ):
        assert found == expected
        with lock:
            under_way -= 1
    assert most <= 2
    assert list(sources.read_ahead([])) == []


def test_read_ahead_raises_what_the_reader_raises():
    def fail():
        raise OSError('chunk truncated')

    results = sources.read_ahead([lambda: 1, fail])
    with pytest.raises(OSError, match='chunk truncated'):
        list(results)
