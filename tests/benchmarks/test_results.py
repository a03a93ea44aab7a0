import json

import pytest

from benchmarks import flags, results

PAGE = """# Title
<!-- one: begin -->
old
<!-- one: end -->
between
<!-- two: begin -->
<!-- two: end -->
end
"""


@pytest.fixture
def page(tmp_path):
    path = tmp_path / 'RESULTS.md'
    path.write_text(PAGE)
    return path


def test_a_section_is_replaced_and_nothing_else(page):
    results.replace_section('one', '\n| new |\n\n', path=page)
    assert page.read_text() == PAGE.replace('old', '| new |')


def test_replacing_twice_is_replacing_once(page):
    results.replace_section('two', 'text', path=page)
    once = page.read_text()
    results.replace_section('two', 'text', path=page)
    assert page.read_text() == once


@pytest.mark.parametrize('name', ['three', 'on'])
def test_a_section_without_markers_is_an_error_and_changes_nothing(page, name):
    with pytest.raises(ValueError, match=f'expected <!-- {name}: begin -->'):
        results.replace_section(name, 'text', path=page)
    assert page.read_text() == PAGE


def test_markers_in_the_wrong_order_are_an_error(page):
    page.write_text('<!-- one: end -->\n<!-- one: begin -->\n')
    with pytest.raises(ValueError, match='once each'):
        results.replace_section('one', 'text', path=page)


def test_the_page_of_the_repository_has_a_section_for_each_command():
    text = results.PATH.read_text()
    for name in ('transforms', 'model', 'precision'):
        assert text.count(f'<!-- {name}: begin -->') == 1
        assert text.count(f'<!-- {name}: end -->') == 1


@pytest.mark.parametrize('official', [['--official=/a/b'], ['--official', '/a/b']])
def test_a_command_is_kept_without_its_folders(official):
    arguments = ['--quick', *official, '--workdir=/c', '--output=/d', '--write']
    command = flags.command('benchmarks.model', arguments)
    assert command == (
        'python -m benchmarks.model --quick --official=PATH --workdir=PATH --write'
    )


def test_a_table_is_markdown_with_aligned_columns():
    text = results.table(['case', 'ms'], [['64x64', '1.5'], ['8x8', '10.25']])
    assert text.splitlines() == [
        '| case  |    ms |',
        '| ----- | ----: |',
        '| 64x64 |   1.5 |',
        '| 8x8   | 10.25 |',
    ]


def test_a_row_of_another_length_is_an_error():
    with pytest.raises(ValueError):
        results.table(['case', 'ms'], [['64x64']])


def test_json_is_written_with_its_folder(tmp_path):
    path = tmp_path / 'new' / 'result.json'
    results.write_json(path, {'a': [1.5]})
    assert json.loads(path.read_text()) == {'a': [1.5]}
