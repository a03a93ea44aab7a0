"""Checkpoints in a bucket: whole, or named, left where they are, and not used."""

import fsspec
import jax.numpy as jnp
import numpy as np
import pytest

from learning import checksums
from learning.addresses import contents
from learning.checkpoint import CheckpointError, Checkpoints, SaveError
from tests import emulator

SIZE = 3000


def items(update):
    noise = np.random.default_rng(update).standard_normal(SIZE).astype(np.float32)
    return {'training': {'update': jnp.int32(update)}, 'forecast': {'w': noise}}


def save(directory, *updates, **options):
    with Checkpoints(directory, **options) as saved:
        for update in updates:
            saved.save(update, items(update), {'of': update}, score=float(update))


@pytest.fixture(scope='module', autouse=True)
def cloud():
    with emulator.standing_in() as url:
        yield url


@pytest.fixture
def files(cloud):
    return fsspec.filesystem('gs', use_listings_cache=False)


@pytest.fixture(scope='module')
def three(cloud):
    address = f'gs://{emulator.BUCKET}/three/checkpoints'
    save(address, 10, 20, 30)
    return address


def objects(address):
    return {name: stated.sums for name, stated in contents(address).items()}


def flip(content):
    broken = bytearray(content)
    broken[len(broken) // 2] ^= 0x40
    return bytes(broken)


# Of every file of a checkpoint, one at a time.
DAMAGES = {
    'flipped': flip,
    'truncated': lambda content: content[: len(content) // 2],
    'emptied': lambda content: b'',
    'removed': lambda content: None,
}


@pytest.mark.parametrize('damage', DAMAGES)
def test_damage_to_any_object_is_named_and_left_and_the_one_before_used(
    three, files, damage, caplog
):
    whole = contents(three + '/30')
    assert len(whole) > 10
    for name in whole:
        caplog.clear()
        path = f'{three}/30/{name}'
        content = files.cat_file(path)
        broken = DAMAGES[damage](content)
        files.rm_file(path)
        if broken is not None:
            files.pipe_file(path, broken)
        before = objects(three)
        saved = Checkpoints(three)
        assert saved.newest_whole() == 20, name
        assert f'{three}/30 is ' in caplog.messages[0]
        with pytest.raises(CheckpointError, match=f'{three}/30 is '):
            saved.resolve(30)
        assert objects(three) == before
        files.pipe_file(path, content)
    assert Checkpoints(three).newest_whole() == 30
    assert objects(three).keys() >= {f'30/{name}' for name in whole}


def test_what_was_saved_is_what_is_read(three):
    saved = Checkpoints(three)
    assert saved.updates == [10, 20, 30] and saved.resolve(None) == 30
    found = saved.restore('forecast', {'w': jnp.zeros(SIZE)}, 20)
    np.testing.assert_array_equal(found['w'], items(20)['forecast']['w'])
    assert saved.metadata(20) == {'of': 20} and len(saved.digest(20)) == 12


def test_verifying_reads_nothing_but_the_checksums(three, monkeypatch):
    read = []
    fingerprint = checksums._fingerprint
    monkeypatch.setattr(
        checksums, '_fingerprint', lambda p, a: read.append(p) or fingerprint(p, a)
    )
    assert Checkpoints(three).verify(30) == [] and not read


def test_what_was_copied_is_verified_by_reading(three, files, tmp_path):
    """From a bucket to a disk, and from a disk to a bucket."""
    files.get(three + '/30', str(tmp_path / 'down' / '30'), recursive=True)
    assert Checkpoints(tmp_path / 'down').verify(30) == []
    save(tmp_path / 'here', 7)
    address = f'gs://{emulator.BUCKET}/up'
    files.put(str(tmp_path / 'here'), address, recursive=True)
    assert Checkpoints(address).newest_whole() == 7
    (name,) = [n for n in contents(address) if n.endswith('7/metadata/metadata')]
    files.pipe_file(f'{address}/{name}', b'{"of": 8}')
    assert Checkpoints(address).verify(7)


def test_the_newest_the_best_and_every_hundredth_are_kept(cloud):
    address = f'gs://{emulator.BUCKET}/rotated'
    save(address, 50, 100, 150, 200, 250, keep=1, keep_best=1, keep_every=100)
    assert Checkpoints(address).updates == [50, 100, 200, 250]
    assert not [name for name in objects(address) if name.startswith(('150', '.'))]


def test_a_killed_writer_leaves_what_the_next_one_removes_and_nothing_else(
    three, files, caplog
):
    address = f'gs://{emulator.BUCKET}/killed'
    save(address, 10)
    files.cp_file(f'{three}/20/metadata/metadata', f'{address}/20/metadata/metadata')
    files.cp_file(f'{three}/20/metadata/metadata', f'{address}/30/metadata/metadata')
    files.pipe_file(f'{address}/.30.unfinished', b'')
    with Checkpoints(address) as saved:
        assert saved.newest_whole() == 10
        assert f'{address}/30 is unfinished: checksums.json' in caplog.text
        saved.clear_leftovers()
        # What another has put there stays, until training needs its name.
        assert saved.updates == [10, 20]
        saved.save(20, items(20), {})
        saved.wait()
        assert saved.verify(20) == []
    aside = [name for name in objects(address) if name.startswith('20.')]
    assert len(aside) == 1 and aside[0].endswith('/metadata/metadata')


def test_a_damaged_one_is_made_again_beside_itself(three, files):
    address = f'gs://{emulator.BUCKET}/again'
    save(address, 10, 20)
    files.pipe_file(f'{address}/20/metadata/metadata', b'x')
    with Checkpoints(address) as saved:
        assert saved.newest_whole() == 10
        saved.save(20, items(20), {})
    assert Checkpoints(address).newest_whole() == 20
    assert any(name.startswith('20.') for name in objects(address))


def test_a_bucket_that_takes_nothing_is_one_line(three, monkeypatch):
    monkeypatch.setattr(checksums, 'write', _refuse)
    address = f'gs://{emulator.BUCKET}/refused'
    with pytest.raises(SaveError, match=f'{address}/5 cannot be written .*403'):
        save(address, 5)
    monkeypatch.undo()
    assert Checkpoints(address).updates == []
    with pytest.raises(SaveError, match='no-such-bucket/5 cannot be written'):
        save('gs://no-such-bucket', 5)


def _refuse(*_):
    raise OSError('403: forbidden')
