"""Launches: shown whole, or written and run, in order, to the first failure."""

import pytest

from launching.job import LaunchError
from launching.submission import Step, Submission
from tests.launching.stubs import Programs


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Programs:
    found = Programs(tmp_path / 'bin')
    monkeypatch.setenv('PATH', found.environment['PATH'])
    return found


def submission(tmp_path, *commands) -> Submission:
    steps = [Step(f'Step {i}.', command) for i, command in enumerate(commands)]
    return Submission(str(tmp_path / 'f'), {'a.txt': 'text\n'}, steps, '# afterwards')


def test_what_is_shown_has_every_file_and_command_quoted_for_a_shell(tmp_path):
    text = submission(tmp_path, ('one', 'a b'), ('two', "it's")).shown()
    for part in (
        f'# {tmp_path}/f/a.txt',
        'text\n',
        "one 'a b'",
        '# Step 1.',
        '# after',
    ):
        assert part in text
    assert not (tmp_path / 'f').exists()


def test_files_are_there_when_commands_run_in_order(tmp_path, programs):
    programs.add('one', f'assert open({str(tmp_path / "f/a.txt")!r}).read()')
    programs.add('two')
    submission(tmp_path, ('one', 'a b'), ('two', '$HOME')).submit()
    assert programs.calls() == [['one', 'a b'], ['two', '$HOME']]


def test_a_command_that_fails_is_the_last_and_named(tmp_path, programs):
    programs.add('one', 'sys.exit(3)')
    programs.add('two')
    with pytest.raises(LaunchError, match=r"ended with 3: one 'a b'; the same launch"):
        submission(tmp_path, ('one', 'a b'), ('two',)).submit()
    assert programs.calls('two') == []


def test_nothing_is_begun_without_all_programs(tmp_path, programs):
    programs.add('one')
    with pytest.raises(LaunchError, match='expected no-such-program on the PATH'):
        submission(tmp_path, ('one',), ('no-such-program',)).submit()
    assert programs.calls() == []
    assert not (tmp_path / 'f').exists()
