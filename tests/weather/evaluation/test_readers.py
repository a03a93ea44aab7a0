import threading

import numpy as np
import pytest
import xarray as xr

from weather.evaluation import readers


def dataset(latitudes, longitudes):
    return xr.Dataset(coords={'latitude': latitudes, 'longitude': longitudes})


def test_coordinates_may_differ_by_their_rounding():
    exact = dataset([60.0, 0.3, -45], [0.0, 120, 240])
    rounded = dataset([60.0, 0.3004, -45], [0.0, 119.9996, 240])
    readers.check_same_grid(rounded, exact, 'forecast')
    shifted = dataset([60.0, 0.302, -45], [0.0, 120, 240])
    with pytest.raises(ValueError, match='position 1: expected 0.3, found 0.302'):
        readers.check_same_grid(shifted, exact, 'forecast')


def test_levels_are_read_as_asked_and_nan_where_missing():
    variable = xr.DataArray(
        np.arange(24.0).reshape(2, 3, 2, 2),
        dims=('latitude', 'level', 'longitude', 'time'),
        coords={'level': [850, 500, 250]},
    )
    array = readers.LevelArray(variable, (500, 700, 850))
    found = array.read('time', time=slice(0, 2))
    assert found.shape == (2, 3, 2, 2)
    np.testing.assert_array_equal(found[1, 0], variable[:, 1, :, 1])
    np.testing.assert_array_equal(found[1, 2], variable[:, 0, :, 1])
    assert np.isnan(found[:, 1]).all()
    # An axis that is not there has length 1.
    assert array.read('member', time=0).shape == (1, 3, 2, 2)


def reader_of(values, *, chunk, max_bytes):
    """A reader of fields, and the list of what it reads from the store."""
    variable = xr.DataArray(values, dims=('time', 'latitude', 'longitude'))
    variable.encoding['preferred_chunks'] = {'time': chunk}
    cache = readers.BlockCache(max_bytes)
    reader = readers.FieldReader(variable, 'time', levels=(None,), cache=cache)
    reads, read = [], reader._array.read

    def counted(*axes, time):
        reads.append(time.start)
        return read(*axes, time=time)

    reader._array.read = counted
    return reader, reads


def test_blocks_follow_the_chunks_of_the_store_and_are_read_once():
    values = np.arange(10 * 4, dtype=np.float32).reshape(10, 2, 2)
    reader, reads = reader_of(values, chunk=4, max_bytes=10**6)
    for position in (9, 0, 3, 4, 8):
        np.testing.assert_array_equal(reader(position), values[position][None])
    assert reads == [8, 0, 4]


def test_cache_stays_within_its_bytes():
    values = np.arange(5 * 4, dtype=np.float64).reshape(5, 2, 2)
    # Three fields of 32 bytes fit: the fourth pushes out the one used longest ago.
    reader, reads = reader_of(values, chunk=1, max_bytes=3 * 32)
    for position in (1, 2, 1, 3, 1, 2, 4, 1, 2, 3):
        np.testing.assert_array_equal(reader(position), values[position][None])
    assert reads == [1, 2, 3, 4, 3]


def test_a_block_larger_than_the_cache_is_read_again():
    values = np.ones((2, 2, 2))
    reader, reads = reader_of(values, chunk=2, max_bytes=1)
    for position in (0, 1):
        np.testing.assert_array_equal(reader(position), values[position][None])
    assert reads == [0, 0]


@pytest.mark.parametrize(
    ('found', 'wanted', 'expected'),
    [
        ('mm', 'm', 0.002),
        ('degF', 'K', 256.483333),
        ('%', '1', 0.02),
        ('m', 'm', 2.0),
        (None, 'm', 2.0),
        ('m', None, 2.0),
        ('furlong fortnight-1', 'furlong fortnight-1', 2.0),
    ],
)
def test_fields_are_read_in_the_units_wanted(found, wanted, expected):
    variable = xr.DataArray([[2.0]], dims=('latitude', 'longitude'))
    variable.attrs = {} if found is None else {'units': found}
    values = readers.LevelArray(variable, (None,), wanted).read()
    np.testing.assert_allclose(values, expected, rtol=1e-7)


def test_units_that_measure_something_else_have_no_conversion():
    variable = xr.DataArray(0, attrs={'units': 'kg m-2'})
    assert readers.conversion(variable, 'm') is None


@pytest.mark.parametrize(
    ('source', 'expected'),
    [
        ('a.zarr', 'a.zarr'),
        (['a.nc', 'b.nc'], 'a.nc, b.nc'),
        (xr.Dataset(), 'in memory'),
        (None, None),
    ],
)
def test_a_source_says_where_it_comes_from(source, expected):
    assert readers.address(source) == expected


def test_a_climatology_without_days_of_the_year_is_refused(sources):
    with pytest.raises(ValueError, match=r"by dayofyear .*found \('time', "):
        readers.resolve(sources.truth, 'climatology')


def test_read_ahead_keeps_order_and_holds_two_results():
    under_way, most, lock = 0, 0, threading.Lock()

    def read(i):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        return i

    for expected, found in enumerate(
        readers.read_ahead([lambda i=i: read(i) for i in range(20)])
    ):
        assert found == expected
        with lock:
            under_way -= 1
    assert most <= 2
    assert list(readers.read_ahead([])) == []


def test_read_ahead_raises_what_the_reader_raises():
    def fail():
        raise OSError('chunk truncated')

    results = readers.read_ahead([lambda: 1, fail])
    with pytest.raises(OSError, match='chunk truncated'):
        list(results)
