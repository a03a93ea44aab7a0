"""A checkpoint is whole, or it is named, left where it is, and not used."""

import json
import logging
import os
import shutil
import time

import jax.numpy as jnp
import numpy as np
import pytest

from learning import checksums
from learning.checkpoint import CheckpointError, Checkpoints, SaveError

SIZE = 3000


def items(update):
    noise = np.random.default_rng(update).standard_normal(SIZE).astype(np.float32)
    return {'training': {'update': jnp.int32(update)}, 'forecast': {'w': noise}}


def save(directory, *updates, scores=(), **options):
    with Checkpoints(directory, **options) as saved:
        for i, update in enumerate(updates):
            score = scores[i] if scores else None
            saved.save(update, items(update), {'of': update}, score=score)


@pytest.fixture(scope='module')
def three(tmp_path_factory):
    directory = tmp_path_factory.mktemp('three')
    save(directory, 10, 20, 30)
    return directory


@pytest.fixture
def copied(three, tmp_path):
    return shutil.copytree(three, tmp_path / 'checkpoints')


def make_legacy(directory):
    """As the first version left them: without checksums."""
    for path in directory.glob('*/' + checksums.NAME):
        path.unlink()


def largest(folder):
    return max(folder.glob('**/d/*'), key=lambda path: path.stat().st_size)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(content)


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


DAMAGES = {
    'a flipped bit of the weights': lambda f: flip(largest(f / 'forecast')),
    'a flipped bit of the optimiser': lambda f: flip(largest(f / 'training')),
    'a flipped bit of the layout': lambda f: flip(f / 'forecast' / '_METADATA'),
    'a file that is missing': lambda f: largest(f / 'forecast').unlink(),
    'a truncated file': lambda f: os.truncate(largest(f / 'training'), 10),
    'an emptied file': lambda f: os.truncate(f / 'metadata' / 'metadata', 0),
    'an item that is missing': lambda f: shutil.rmtree(f / 'training'),
    'no metadata of Orbax': lambda f: (f / '_CHECKPOINT_METADATA').unlink(),
    'nothing left': empty,
    'no checksums': lambda f: (f / checksums.NAME).unlink(),
    'truncated checksums': lambda f: os.truncate(f / checksums.NAME, 50),
    'checksums of another kind': lambda f: (f / checksums.NAME).write_text('[1]'),
    'a flipped bit of the checksums': lambda f: flip(f / checksums.NAME),
}


@pytest.mark.parametrize('damage', DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_named_and_kept_and_the_one_before_used(
    copied, damage, caplog
):
    damage(copied / '30')
    before = sorted(copied.rglob('*'))
    saved = Checkpoints(copied)
    assert saved.verify(10) == saved.verify(20) == []
    assert len(saved.verify(30)) >= 1
    assert saved.newest_whole() == 20
    (line,) = caplog.messages
    assert line.startswith('warning: checkpoint ') and '\n' not in line
    assert (
        f'{copied / "30"} is damaged: ' in line and f'{copied / "20"} is used' in line
    )
    with pytest.raises(CheckpointError, match='30 is damaged'):
        saved.resolve(30)
    assert sorted(copied.rglob('*')) == before


def test_every_bit_of_every_file_counts(copied):
    """Of each file one bit at random: none is overlooked."""
    random = np.random.default_rng(0)
    for path in sorted((copied / '30').rglob('*')):
        if path.is_file():
            whole = path.read_bytes()
            broken = bytearray(whole)
            broken[random.integers(len(whole))] ^= 1 << random.integers(8)
            path.write_bytes(broken)
            assert Checkpoints(copied).verify(30), path
            path.write_bytes(whole)
    assert not Checkpoints(copied).verify(30)


# Of every file of a checkpoint, one at a time.
CHANGES = {
    'flipped': flip,
    'truncated': lambda path: os.truncate(path, path.stat().st_size // 2),
    'emptied': lambda path: os.truncate(path, 0),
    'removed': lambda path: path.unlink(),
}


@pytest.mark.parametrize('change', CHANGES.values(), ids=CHANGES)
def test_of_every_file_a_change_is_named_and_nothing_deleted(copied, change, caplog):
    paths = sorted(path for path in (copied / '30').rglob('*') if path.is_file())
    assert len(paths) > 10
    for path in paths:
        whole = path.read_bytes()
        change(path)
        before = {p: p.read_bytes() for p in copied.rglob('*') if p.is_file()}
        caplog.clear()
        assert Checkpoints(copied).newest_whole() == 20, path
        assert f'{copied / "30"} is damaged: ' in caplog.messages[0]
        # Nor does a forecast begin with it.
        with pytest.raises(CheckpointError, match='30 is damaged'):
            Checkpoints(copied).resolve(30)
        assert before == {p: p.read_bytes() for p in copied.rglob('*') if p.is_file()}
        path.write_bytes(whole)
    assert Checkpoints(copied).newest_whole() == 30


def test_every_byte_of_the_checksums_counts(copied):
    """Also those of the facts that stand above them."""
    path = copied / '30' / checksums.NAME
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        broken = bytearray(whole)
        broken[place] ^= 0x01
        path.write_bytes(broken)
        assert Checkpoints(copied).verify(30), (place, whole[place : place + 20])


# What can be told without checksums: not a flipped bit of the numbers themselves.
LEGACY = [
    'a file that is missing',
    'a truncated file',
    'an emptied file',
    'an item that is missing',
    'no metadata of Orbax',
    'nothing left',
]


@pytest.mark.parametrize('damage', LEGACY)
def test_without_checksums_what_cannot_be_read_is_damaged(copied, damage, caplog):
    make_legacy(copied)
    DAMAGES[damage](copied / '30')
    with caplog.at_level(logging.INFO, 'learning'):
        assert Checkpoints(copied).newest_whole() == 20
    assert f'{copied / "30"} is damaged: ' in caplog.messages[0]
    assert 'cannot be verified' in caplog.messages[-1]
    assert not any('\n' in line for line in caplog.messages)


def test_what_the_first_version_saved_is_used_and_goes_on_with_checksums(copied):
    make_legacy(copied)
    assert Checkpoints(copied).newest_whole() == 30
    assert Checkpoints(copied).digest(30) == ''
    save(copied, 40)
    saved = Checkpoints(copied)
    assert saved.newest_whole() == 40 and len(saved.digest(40)) == 12
    # From here on, one without is one that has lost them.
    (copied / '40' / checksums.NAME).unlink()
    save(copied, 50)
    assert saved.verify(30) == [] and saved.verify(50) == []
    (copied / '50' / checksums.NAME).unlink()
    assert saved.verify(50) == []  # None below it has any: as the first version's.


def test_none_whole_is_an_error_and_none_at_all_is_none(copied, tmp_path):
    for update in (10, 20, 30):
        DAMAGES['a truncated file'](copied / str(update))
    with pytest.raises(CheckpointError, match='found none: .*30 is .*20 is .*10 is '):
        Checkpoints(copied).newest_whole()
    assert Checkpoints(tmp_path / 'nowhere').newest_whole() is None
    assert not (tmp_path / 'nowhere').exists()
    with pytest.raises(FileNotFoundError, match='train first'):
        Checkpoints(tmp_path / 'nowhere').resolve(None)
    with pytest.raises(FileNotFoundError, match=r'update 5 .*there are \[10, 20, 30\]'):
        Checkpoints(copied).resolve(5)


def test_what_is_no_checkpoint_is_none(copied):
    for name in ('notes', '060', '40.damaged-20260101T000000'):
        (copied / name).mkdir()
    (copied / '50').touch()
    saved = Checkpoints(copied)
    assert saved.updates == [10, 20, 30] and saved.newest_whole() == 30


def test_what_was_saved_is_what_is_read(three):
    saved = Checkpoints(three)
    assert saved.resolve(None) == 30 and saved.resolve(10) == 10
    template = {'w': jnp.zeros(SIZE)}
    found = saved.restore('forecast', template, 20)
    np.testing.assert_array_equal(found['w'], items(20)['forecast']['w'])
    assert saved.metadata(20) == {'of': 20}


def test_the_digest_is_of_a_checkpoint_wherever_it_lies(three, copied):
    here, there = Checkpoints(three), Checkpoints(copied)
    assert here.digest(10) == there.digest(10) != here.digest(20)
    assert len(here.digest(10)) == 12


def test_the_newest_and_the_best_are_kept(tmp_path):
    scores = (3.0, 1.0, 1.0, 2.0, 5.0, None)
    updates = (1, 2, 3, 4, 5, 6)
    save(tmp_path, *updates, scores=scores, keep=2, keep_best=1)
    assert Checkpoints(tmp_path).updates == [2, 5, 6]


def test_every_mth_is_kept_for_good(tmp_path):
    save(tmp_path, 5, 10, 15, 20, 25, keep=1, keep_every=10)
    assert Checkpoints(tmp_path).updates == [10, 20, 25]
    save(tmp_path, 30, 35, 40, keep=2)
    assert Checkpoints(tmp_path).updates == [35, 40]


def test_rotation_spares_the_damaged_and_does_not_count_them(copied):
    DAMAGES['a truncated file'](copied / '30')
    with Checkpoints(copied, keep=2) as saved:
        assert saved.newest_whole() == 20
        saved.save(25, items(25), {})
        saved.wait()
        assert saved.updates == [20, 25, 30]


def test_the_number_of_a_damaged_one_is_saved_again_and_it_is_kept(copied):
    DAMAGES['a truncated file'](copied / '30')
    with Checkpoints(copied, keep=1) as saved:
        assert saved.newest_whole() == 20
        saved.save(30, items(30), {})
    saved = Checkpoints(copied)
    assert saved.updates == [30] and saved.verify(30) == []
    (aside,) = copied.glob('30.damaged-*')
    assert checksums.verify(aside)


def test_one_that_is_there_and_whole_is_left_as_it_is(copied):
    before = Checkpoints(copied).digest(30)
    save(copied, 30)
    assert Checkpoints(copied).digest(30) == before


def full_disk(*_):
    # As TensorStore says it.
    raise ValueError(
        f'{"writing " * 50}: [OS error 28: ENOSPC No space left on device]'
    )


def test_a_full_disk_is_one_line_at_the_next_save_and_spoils_nothing(
    copied, monkeypatch
):
    with Checkpoints(copied, keep=1) as saved:
        monkeypatch.setattr(checksums, 'write', full_disk)
        saved.save(40, items(40), {})
        with pytest.raises(SaveError, match=r'40 cannot be written \(No space left'):
            saved.save(50, items(50), {})
    assert sorted(path.name for path in copied.iterdir()) == ['10', '20', '30']
    assert Checkpoints(copied).newest_whole() == 30


def test_that_it_failed_is_known_before_the_next_save(copied, monkeypatch):
    monkeypatch.setattr(checksums, 'write', full_disk)
    deadline = time.monotonic() + 60
    with Checkpoints(copied) as saved:
        saved.save(40, items(40), {})
        with pytest.raises(SaveError, match='40 cannot be written'):
            while time.monotonic() < deadline:
                saved.check()
                time.sleep(0.01)


def test_a_place_where_nothing_can_be_made_is_one_line(tmp_path):
    (tmp_path / 'checkpoints').write_text('a file')
    with Checkpoints(tmp_path / 'checkpoints') as saved:
        with pytest.raises(SaveError, match='cannot be written') as caught:
            saved.save(1, items(1), {})
    assert '\n' not in str(caught.value)


def test_what_killed_processes_left_unfinished_is_cleared(copied):
    for name in ('.40.host-1.tmp', '50.orbax-checkpoint-tmp-17'):
        (copied / name / 'd').mkdir(parents=True)
    saved = Checkpoints(copied)
    assert saved.updates == [10, 20, 30]
    saved.clear_leftovers()
    assert sorted(path.name for path in copied.iterdir()) == ['10', '20', '30']


def test_what_the_second_version_saved_is_verified_too(copied):
    """Its checksums had no sum of their own, and no date."""
    path = copied / '30' / checksums.NAME
    content = json.loads(path.read_text())
    old = {name: content[name] for name in ('update', 'score', 'files')}
    path.write_text(json.dumps(old, indent=1) + '\n')
    assert Checkpoints(copied).verify(30) == []
    flip(largest(copied / '30' / 'forecast'))
    assert Checkpoints(copied).verify(30)


def test_checksums_say_what_stands_above_them(three):
    content = json.loads((three / '10' / checksums.NAME).read_text())
    assert content['update'] == 10 and content['score'] is None
    assert 'metadata/metadata' in content['files']
