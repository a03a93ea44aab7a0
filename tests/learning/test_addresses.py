"""Places here and in a bucket, by the same names."""

import datetime

import pytest

from learning import addresses
from learning.addresses import AddressError, contents, place
from tests import emulator


@pytest.fixture(scope='module', autouse=True)
def cloud():
    with emulator.standing_in() as url:
        yield url


@pytest.fixture(params=['here', 'there'])
def folder(request, tmp_path):
    here = request.param == 'here'
    name = request.node.name.replace('[', '_').rstrip(']')
    return place(tmp_path if here else f'gs://{emulator.BUCKET}/{name}')


def test_what_is_no_address_is_a_path(monkeypatch):
    monkeypatch.setenv('HOME', '/home/me')
    assert str(place('~/run')) == '/home/me/run'
    assert str(place('file:///run')) == '/run' and not addresses.is_address('a/b')
    assert str(place('gcs://bucket/run/')) == 'gs://bucket/run'
    assert place(place('gs://bucket/run') / 'a') == place('gs://bucket/run/a')


def test_only_buckets_that_orbax_can_write_to_are_addresses():
    with pytest.raises(AddressError, match='expected a local path or .*s3://a/b'):
        place('s3://a/b')


def test_contents_are_files_at_any_depth_with_what_is_known_of_them(folder):
    assert contents(folder / 'nothing') == {}
    for name in ('a', 'b/c', 'b/d/e'):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    found = contents(folder)
    assert {name: known.bytes for name, known in found.items()} == {
        'a': 1,
        'b/c': 3,
        'b/d/e': 5,
    }
    now = datetime.datetime.now(datetime.UTC)
    assert abs(now - found['a'].written) < datetime.timedelta(hours=1)
    sums = {'md5': '0cc175b9c0f1b6a831c399e269772661', 'crc32c': 'c1d04330'}
    assert found['a'].sums in ({}, sums)


def test_numbered_folders_and_their_removal(folder):
    for name in ('10', '9', '060', 'notes', '.11.tmp'):
        (folder / name).mkdir(parents=True)
        (folder / name / 'file').write_text('x')
    (folder / '12').write_text('a file')
    assert addresses.numbered(folder) == [9, 10]
    addresses.remove_folder(folder / '9')
    addresses.remove_folder(folder / '9')
    assert addresses.numbered(folder) == [10]
    assert addresses.numbered(folder / 'nowhere') == []


def test_what_is_made_once_is_made_once(request):
    path = place(f'gs://{emulator.BUCKET}/{request.node.name}')
    addresses.create(path, b'mine')
    with pytest.raises(FileExistsError):
        addresses.create(path, b'yours')
    assert path.read_bytes() == b'mine'


def test_what_is_written_elsewhere_is_seen(request):
    """gcsfs would remember that there was nothing."""
    import fsspec

    folder = place(f'gs://{emulator.BUCKET}/{request.node.name}')
    (folder / 'a').write_text('1')
    assert len(list(folder.iterdir())) == 1 and not (folder / 'b').exists()
    other = fsspec.filesystem('gs', skip_instance_cache=True)
    other.pipe_file(f'{folder}/b', b'2')
    assert len(list(folder.iterdir())) == 2 and (folder / 'b').exists()
    other.rm_file(f'{folder}/a')
    assert not (folder / 'a').exists() and list(contents(folder)) == ['b']
