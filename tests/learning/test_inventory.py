"""What there is is listed as it is."""

import jax.numpy as jnp
import pytest

from learning import checksums, inventory
from learning.checkpoint import Checkpoints
from tests import emulator


def save(directory):
    with Checkpoints(directory) as saved:
        for update in (10, 20, 30):
            items = {'forecast': {'w': jnp.arange(100.0) + update}}
            saved.save(update, items, {'of': update}, score=1 / update)


@pytest.fixture
def three(tmp_path):
    save(tmp_path / 'checkpoints')
    return tmp_path / 'checkpoints'


def test_each_is_described_and_the_newest_whole_one_is_marked(three):
    (three / '30' / 'metadata' / 'metadata').write_text('')
    saved = Checkpoints(three)
    first, second, third = inventory.take(saved)
    assert (first.update, second.update, third.update) == (10, 20, 30)
    assert not first.is_resumed and second.is_resumed and not third.is_resumed
    assert third.is_damaged and not second.is_damaged
    assert str(second).startswith(f'      20  whole, {second.bytes:,} bytes, digest ')
    assert saved.digest(20) in str(second) and 'score 0.05, saved 20' in str(second)
    assert str(second).endswith(' UTC, used by a resume')
    assert 'damaged: metadata/metadata has 0 bytes instead of 10' in str(third)
    files = [path for path in (three / '20').rglob('*') if path.is_file()]
    assert second.bytes == sum(path.stat().st_size for path in files)


def test_one_without_checksums_is_the_first_version_s_or_damaged(three):
    for update in (10, 30):
        (three / str(update) / checksums.NAME).unlink()
    first, second, third = inventory.take(Checkpoints(three))
    assert not first.problems and first.digest == '' and first.score is None
    assert first.saved is not None and second.is_resumed and third.is_damaged


def test_in_a_bucket_the_unfinished_is_no_damage():
    with emulator.standing_in():
        address = f'gs://{emulator.BUCKET}/run'
        save(address)
        saved = Checkpoints(address)
        (saved.directory / '30' / checksums.NAME).unlink()
        _, second, third = inventory.take(saved)
        assert second.is_resumed and third.problems and not third.is_damaged
        assert 'unfinished: checksums.json, which is written last' in str(third)
        assert second.bytes > 100 and second.saved.year > 2000


def test_nothing_there_is_nothing(tmp_path):
    assert inventory.take(Checkpoints(tmp_path / 'none')) == []
