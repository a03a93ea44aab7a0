"""Lists of faults: where they are, whole or not at all, and what they keep out."""

import json
import pathlib

import fsspec
import numpy as np
import pytest

from learning.files import OutputError
from weather.data import faults
from weather.data.faults import Fault, FaultList, read_faults, write_faults
from weather.variables import Channel

NOON, NIGHT = (np.datetime64(f'2020-01-01T{hour}', 'ns') for hour in ('12', '18'))
FOUND = [
    Fault('temperature', 850, NIGHT, 'NaN', '3 of 128 values'),
    Fault('temperature', None, NOON, 'frozen', 'as the time before'),
    Fault('2m_temperature', None, NOON, 'implausible', '1e20'),
    Fault('geopotential', 0.5, NOON, 'jump', '9 times the usual change'),
    Fault('temperature', 500, None, 'units', 'degrees Celsius'),
    Fault('time', None, NIGHT, 'doubled time', '2 times'),
]


@pytest.fixture(autouse=True)
def shelf(tmp_path, monkeypatch):
    monkeypatch.setenv('SPHERECAST_PREPARATION', str(tmp_path / 'shelf'))
    return tmp_path / 'shelf'


def listed(store, found=FOUND):
    return FaultList(str(store), {'temperature': 'abc', 'geopotential': None}, found)


@pytest.mark.parametrize('found', [FOUND, []])
@pytest.mark.parametrize('end', ['', '/'])
def test_a_list_is_found_beside_its_store(tmp_path, found, end):
    store = f'{tmp_path}/era5.zarr'
    assert read_faults(store) is None
    path = write_faults(listed(store, found))
    assert path == f'{store}.faults.json'
    assert read_faults(store + end) == listed(store, found)
    assert [p.name for p in tmp_path.iterdir()] == ['era5.zarr.faults.json']
    content = json.loads(pathlib.Path(path).read_text())
    assert len(content['faults']) == len(found)
    if found:
        assert content['faults'][0] == {
            'variable': 'temperature',
            'level': 850,
            'time': '2020-01-01T18:00:00',
            'fault': 'NaN',
            'detail': '3 of 128 values',
        }


def test_at_an_address_it_is_an_object_beside_it():
    store = 'memory://test_faults/era5.zarr'
    assert read_faults(store) is None
    path = write_faults(listed(store))
    assert path == f'{store}.faults.json'
    assert read_faults(store) == listed(store)
    assert fsspec.filesystem('memory').exists('/test_faults/era5.zarr.faults.json')


class Forbidden(OSError):
    code = 403


@pytest.mark.parametrize('error', [Forbidden('no'), PermissionError('no')])
def test_where_one_may_not_look_there_is_none(monkeypatch, error):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(faults.fsspec, 'open', fail)
    assert read_faults('memory://test_faults/forbidden.zarr') is None


def test_where_the_connection_breaks_nobody_takes_the_list_for_absent(monkeypatch):
    def fail(*arguments, **options):
        raise TimeoutError('stalled')

    monkeypatch.setattr(faults.fsspec, 'open', fail)
    with pytest.raises(ValueError, match='cannot look for .*: stalled; try again'):
        read_faults('memory://test_faults/far.zarr')


@pytest.mark.parametrize('store', ['nowhere://bucket/era5.zarr', 'data/*.nc'])
def test_where_it_cannot_be_put_beside_the_store_it_is_on_the_shelf(shelf, store):
    path = write_faults(listed(store))
    assert path.startswith(str(shelf))
    assert read_faults(store) == listed(store)
    assert read_faults(store.replace('era5', 'era6').replace('data', 'other')) is None


def test_the_next_check_replaces_it_and_nothing_else(tmp_path):
    store = tmp_path / 'era5.zarr'
    write_faults(listed(store))
    write_faults(listed(store, FOUND[:1]))
    assert read_faults(str(store)).faults == FOUND[:1]
    place = tmp_path / 'era5.zarr.faults.json'
    for foreign in ('{"mine": 1}', 'notes'):
        place.write_text(foreign)
        with pytest.raises(OutputError, match='found another file, which stays'):
            write_faults(listed(store))
        assert place.read_text() == foreign


def test_another_place_may_be_named(tmp_path):
    store, place = tmp_path / 'era5.zarr', tmp_path / 'lists' / 'found.json'
    assert write_faults(listed(store), output=str(place)) == str(place)
    assert place.exists() and read_faults(str(store)) is None


def test_unusable_times_are_those_of_channels_and_kinds_that_matter(tmp_path):
    found = listed(tmp_path).unusable({'temperature': (850, 500), 'geopotential': ()})
    assert {k: v.tolist() for k, v in found.items()} == {
        Channel('temperature', 850): np.array([NOON, NIGHT]).tolist(),
        Channel('temperature', 500): np.array([NOON]).tolist(),
    }
    found = listed(tmp_path).unusable({'2m_temperature': (), 'geopotential': (0.5,)})
    assert set(found) == {
        Channel('2m_temperature', None),
        Channel('geopotential', 0.5),
    }


def test_a_kind_of_a_later_version_is_obeyed(tmp_path):
    # Of what nobody here understands, only the cautious reading is safe.
    later = [Fault('temperature', 850, NOON, 'haunted', '')]
    assert listed(tmp_path, later).unusable({'temperature': (850,)})


def test_every_kind_says_why():
    assert all(kind.reason for kind in faults.KINDS.values())
