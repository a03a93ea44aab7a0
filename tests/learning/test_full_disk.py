"""A disk without room: training ends with an error, and goes on once there is some."""

import shutil
import subprocess

import numpy as np
import pytest

from learning.checkpoint import Checkpoints, SaveError
from learning.loss_log import TIMINGS
from tests.learning import toy

# Orbax leaves behind, of threads that met the full disk, what nobody waits for.
pytestmark = pytest.mark.filterwarnings(
    'ignore::pytest.PytestUnraisableExceptionWarning',
    'ignore::pytest.PytestUnhandledThreadExceptionWarning',
)


@pytest.fixture
def small(tmp_path):
    """A disk of its own, with room for some checkpoints, and what gives it more."""
    folder = tmp_path / 'small'
    folder.mkdir()

    def mount(options):
        return subprocess.run(
            ['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', str(folder)],
            capture_output=True,
            text=True,
        )

    made = mount('size=300k')
    if made.returncode:
        pytest.skip(f'no disk can be mounted here: {made.stderr.strip()}')
    yield folder, lambda: mount('remount,size=8m')
    subprocess.run(['umount', str(folder)], check=True)


def rows(folder):
    text = (folder / 'metrics.csv').read_text()
    timed = TIMINGS
    return [line for line in text.splitlines() if not any(t in line for t in timed)]


def test_training_ends_with_an_error_and_goes_on_when_there_is_room(small, tmp_path):
    folder, make_room = small
    with pytest.raises(OSError, match='No space left on device'):
        toy.train(folder / 'run', keep=100)
    saved = Checkpoints(folder / 'run' / 'checkpoints')
    before = saved.updates
    assert before and before[-1] < 30
    assert all(saved.verify(update) == [] for update in before)
    # No half of one takes the room of those to come.
    inside = {path.name for path in saved.directory.iterdir()}
    assert inside == {str(update) for update in before}
    assert make_room().returncode == 0
    state = toy.train(folder / 'run', keep=100)
    other = toy.train(tmp_path / 'run', keep=100)
    for ours, theirs in zip(toy.arrays(state), toy.arrays(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert rows(folder / 'run') == rows(tmp_path / 'run')


def test_whichever_file_does_not_fit_the_error_is_one_line(small):
    folder, _ = small
    place, messages = folder / 'checkpoints', []
    with Checkpoints(place) as saved:
        saved.save(1, {'forecast': {'w': np.zeros(3)}}, {})
        saved.wait()
        for kilobytes in range(120, 300, 8):
            noise = np.random.default_rng(0).integers(256, size=kilobytes * 1024)
            try:
                saved.save(2, {'forecast': {'w': noise.astype(np.uint8)}}, {})
                saved.wait()
                assert saved.verify(2) == []
                shutil.rmtree(place / '2')
            except SaveError as error:
                messages.append(str(error))
            assert saved.newest_whole() == 1
            assert [path.name for path in place.iterdir()] == ['1']
    assert len(messages) > 5
    for message in messages:
        assert 'cannot be written (No space left on device)' in message
        assert 'once there is room' in message and '\n' not in message
