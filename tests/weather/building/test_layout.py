"""Metadata in place as bytes: by them, a store is one for every reader."""

import json

import numpy as np
import pytest
import xarray as xr

from sphere_ops import LatLonGrid
from weather.building import layout
from weather.building.packing import Packing

GRID = LatLonGrid('gauss', num_lat=4, num_lon=8)


@pytest.fixture
def place(tmp_path) -> layout.Place:
    return layout.Place(str(tmp_path / 'store'), {})


def test_times_are_whole_numbers_of_the_coarsest_unit():
    start = np.datetime64('2001-02-03T06:00', 'ns')
    for step, unit in (('h', 'hours'), ('m', 'minutes'), ('s', 'seconds')):
        times = start + np.arange(3) * np.timedelta64(1, step)
        units, numbers = layout.encode_times(times)
        assert units == f'{unit} since 2001-02-03' and numbers.dtype == np.int64
        encoded = xr.Variable('time', numbers, {'units': units})
        decoded = xr.conventions.decode_cf_variable('time', encoded)
        np.testing.assert_array_equal(decoded.values, times)


def test_what_is_put_twice_is_written_once(place):
    place.put(b'one', 'a', 'file')
    path = place.inside('a', 'file')
    before = place.files.modified(path)
    place.put(b'one', 'a', 'file')
    assert place.files.modified(path) == before
    place.put(b'other', 'a', 'file')
    assert place.read('a', 'file') == b'other' and place.entries() == {'a'}
    assert place.read('a', 'nothing') is None


@pytest.mark.parametrize('num_times, shard_times', [(5, 0), (5, 2), (4, 4)])
def test_the_files_expected_are_those_that_zarr_writes(place, num_times, shard_times):
    shape = (num_times, 2, *GRID.shape)
    content = layout.field_metadata(
        'temperature', shape, compression='lz4', shard_times=shard_times
    )
    place.put(content, 'temperature', layout.METADATA)
    # NaN throughout: written all the same.
    array = place.array('temperature')
    array[:] = np.full(shape, np.nan, np.float32)
    expected = layout.chunk_keys(num_times, shard_times, len(shape))
    assert place.find('temperature') == {*expected, layout.METADATA}
    assert array.chunks == (1, 2, *GRID.shape)


def test_a_store_is_none_before_its_root_and_one_afterwards(place):
    times = np.datetime64('2001-01-01', 'ns') + np.arange(2) * np.timedelta64(6, 'h')
    layout.write_coordinates(place, times, (500, 850), GRID)
    packing = Packing.of('temperature', 'int16')
    content = layout.field_metadata(
        'temperature', (2, 2, 4, 8), packing=packing, compression='zstd'
    )
    place.put(content, 'temperature', layout.METADATA)
    values = 250 + np.arange(128.0, dtype=np.float32).reshape(2, 2, 4, 8) / 2
    values[0, 0, 0, 0] = np.nan
    place.array('temperature')[:] = packing.pack(values)
    with pytest.raises(FileNotFoundError):
        xr.open_zarr(place.address)
    names = ['time', 'level', 'latitude', 'longitude', 'temperature']
    root = layout.root_metadata(place, names, {'title': 'of a test'})
    place.put(root, layout.METADATA)
    found = xr.open_zarr(place.address, consolidated=True, chunks=None)
    np.testing.assert_array_equal(found.time.values, times)
    np.testing.assert_array_equal(found.level.values, [500, 850])
    np.testing.assert_allclose(found.temperature.values, values, atol=2e-3)
    assert found.attrs == {'title': 'of a test'}
    consolidated = json.loads(root)['consolidated_metadata']['metadata']
    assert set(consolidated) == set(names)


def test_an_address_takes_options_and_a_path_takes_none():
    assert layout.Place('memory://x/y', {}).root == '/x/y'
    assert layout.Place('file:///tmp/x', {'token': 'anon'}).options == {}
    assert not layout.Place('memory://x/y', {}).is_local
