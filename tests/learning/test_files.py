"""A file appears whole or not at all."""

import pytest

from learning.files import replacing


def test_the_file_is_there_at_the_end_and_nothing_else(tmp_path):
    path = tmp_path / 'new' / 'file.txt'
    with replacing(path) as temporary:
        temporary.write_text('whole')
        assert not path.exists()
    assert path.read_text() == 'whole'
    assert list(path.parent.iterdir()) == [path]


def test_an_exception_leaves_what_was_there(tmp_path):
    path = tmp_path / 'file.txt'
    path.write_text('before')
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text('half')
        raise RuntimeError
    assert path.read_text() == 'before'
    assert list(tmp_path.iterdir()) == [path]
