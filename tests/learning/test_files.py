"""What is written appears whole, and nothing that must stay is replaced."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import netCDF4
import pytest
import zarr

from learning import files
from learning.files import MARK, Kind, Output, OutputError, read_mark, replacing

THING = Kind('thing', 'a thing')
OTHER = Kind('other', 'another thing')


def write_zarr(path, kind, version=2):
    group = zarr.open_group(path, mode='w', zarr_format=version)
    group.attrs[MARK] = kind
    group.create_array('x', shape=(3,), dtype='f4')[:] = 1


def write_netcdf(path, kind):
    with netCDF4.Dataset(path, 'w') as file:
        file.setncattr(MARK, kind)


def write_csv(path, kind):
    path.write_text('a,b\n')
    files.sidecar(path).write_text(json.dumps({MARK: kind}))


@pytest.mark.parametrize(
    'error',
    [OSError(28, 'No space left on device'), RuntimeError('NetCDF: HDF error')],
    ids=['system', 'netCDF'],
)
def test_a_full_disk_is_one_line_that_names_the_file(tmp_path, monkeypatch, error):
    full = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: full)
    target = tmp_path / 'report.html'
    target.write_text('old')
    with pytest.raises(OSError, match=f'cannot write {target}: no space is left'):
        with files.replacing(target) as temporary:
            temporary.write_text('half')
            raise error
    assert os.listdir(tmp_path) == ['report.html'] and target.read_text() == 'old'
    with pytest.raises(FileNotFoundError):  # Another error stays what it is.
        with files.replacing(target):
            raise FileNotFoundError('another')


def test_two_tables_have_two_records():
    names = [files.sidecar(name).name for name in ('a.csv', 'a.b.csv', 'a.txt')]
    assert names == [
        'a.provenance.json',
        'a.b.provenance.json',
        'a.txt.provenance.json',
    ]


WRITERS = {
    'store.zarr': write_zarr,
    'store3.zarr': lambda path, kind: write_zarr(path, kind, version=3),
    'file.nc': write_netcdf,
    'table.csv': write_csv,
    'file.json': lambda path, kind: path.write_text(json.dumps({MARK: kind})),
    'page.html': lambda path, kind: path.write_text(
        f'<!DOCTYPE html><meta name="{MARK}" content="{kind}">'
    ),
}


@pytest.fixture(params=WRITERS)
def ours(request, tmp_path):
    """One thing of every format that carries the mark of `THING`."""
    path = tmp_path / request.param
    WRITERS[request.param](path, 'thing')
    return path


def contents(folder):
    """Every file below a folder with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


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


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / 'store'
    path.mkdir()
    (path / 'old').write_text('old')
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.mkdir()
        (temporary / 'new').write_text('half')
        raise RuntimeError
    assert contents(tmp_path) == {'store/old': b'old'}
    with replacing(path) as temporary:
        temporary.mkdir()
        (temporary / 'new').write_text('whole')
        assert (path / 'old').exists()
    assert contents(tmp_path) == {'store/new': b'whole'}


def test_every_format_says_what_it_is(ours):
    assert read_mark(ours) == 'thing'


def test_what_is_damaged_or_foreign_carries_no_mark(tmp_path):
    for name in WRITERS:
        path = tmp_path / name
        path.write_bytes(b'\x89HDF\r\n\x1a\n{')
        assert read_mark(path) is None
    assert read_mark(tmp_path / 'absent.nc') is None


def test_a_new_place_is_free_and_so_is_an_empty_folder(tmp_path):
    Output(tmp_path / 'a' / 'b', THING).check()
    assert not (tmp_path / 'a').exists()
    (tmp_path / 'empty').mkdir()
    Output(tmp_path / 'empty', THING).check()


def test_the_same_kind_is_replaced_only_when_asked(ours):
    before = contents(ours.parent)
    with pytest.raises(OutputError, match='--overwrite'):
        Output(ours, THING).check()
    with pytest.raises(RuntimeError):
        with Output(ours, THING, overwrite=True).replacing() as temporary:
            temporary.write_text('half')
            raise RuntimeError
    assert contents(ours.parent) == before
    with Output(ours, THING, overwrite=True).replacing() as temporary:
        temporary.write_text('whole')
    assert ours.read_text() == 'whole'


def test_another_kind_is_never_replaced(ours):
    before = contents(ours.parent)
    with pytest.raises(OutputError, match='another kind'):
        Output(ours, OTHER, overwrite=True).check()
    assert contents(ours.parent) == before


@pytest.mark.parametrize('name', ['notes.txt', 'table.csv', 'file.nc', 'data.json'])
def test_a_foreign_file_is_never_replaced(tmp_path, name):
    (tmp_path / name).write_text('do not lose me')
    with pytest.raises(OutputError, match='found another file'):
        Output(tmp_path / name, THING, overwrite=True).check()


def test_a_folder_with_something_in_it_is_never_replaced(tmp_path):
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'notes.txt').write_text('do not lose me')
    with pytest.raises(OutputError, match='folder with 1 entries'):
        Output(tmp_path / 'data', THING, overwrite=True).check()


def test_a_source_is_never_replaced_even_of_the_same_kind(ours):
    with pytest.raises(OutputError, match='is what is read'):
        Output(ours, THING, overwrite=True, sources=(ours,)).check()
    # By another name, too.
    link = ours.parent / 'link'
    link.symlink_to(ours)
    relative = os.path.relpath(ours)
    for name in (link, relative, ours.parent / '.' / ours.name):
        with pytest.raises(OutputError, match='is what is read'):
            Output(name, THING, overwrite=True, sources=(ours,)).check()
        with pytest.raises(OutputError, match='is what is read'):
            Output(ours, THING, overwrite=True, sources=(name,)).check()


def test_neither_is_a_folder_that_holds_a_source_nor_a_place_within_one(tmp_path):
    write_zarr(tmp_path / 'data' / 'store.zarr', 'thing')
    source = tmp_path / 'data' / 'store.zarr'
    with pytest.raises(OutputError, match='holds'):
        Output(tmp_path / 'data', THING, overwrite=True, sources=(source,)).check()
    with pytest.raises(OutputError, match='lies inside'):
        Output(source / 'sub.zarr', THING, sources=(source,)).check()
    Output(tmp_path / 'data' / 'next.zarr', THING, sources=(source,)).check()


@pytest.mark.parametrize('spelling', ['*.nc', 'f?le.nc', 'file://file.nc'])
def test_a_source_is_known_however_it_is_spelt(tmp_path, spelling):
    path = tmp_path / 'file.nc'
    write_netcdf(path, 'thing')
    prefix, _, name = spelling.rpartition('//')
    source = f'{prefix}//{tmp_path / name}' if prefix else f'{tmp_path / name}'
    with pytest.raises(OutputError, match='is what is read'):
        Output(path, THING, overwrite=True, sources=(source,)).check()
    Output(tmp_path / 'new.nc', THING, sources=(source,)).check()
    with pytest.raises(OutputError, match='lies inside of the folder'):
        Output(tmp_path / 'new.nc', THING, sources=(tmp_path,)).check()


@pytest.mark.parametrize('version', [2, 3])
def test_a_store_that_holds_something_foreign_is_never_replaced(tmp_path, version):
    path = tmp_path / 'store.zarr'
    write_zarr(path, 'thing', version)
    Output(path, THING, overwrite=True).check()
    for foreign in (path / 'notes.txt', path / 'thesis' / 'chapter.txt'):
        foreign.parent.mkdir(exist_ok=True)
        foreign.write_text('mine')
        name = foreign.relative_to(path).parts[0]
        with pytest.raises(OutputError, match=f'holds {name}, which is no part of a'):
            Output(path, THING, overwrite=True).check()
        foreign.unlink()


def test_what_appears_in_the_meantime_stays(tmp_path):
    path = tmp_path / 'file.txt'
    with pytest.raises(OutputError, match='another file'):
        with Output(path, THING).replacing() as temporary:
            temporary.write_text('mine')
            path.write_text('theirs')
    assert contents(tmp_path) == {'file.txt': b'theirs'}


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / 'disk').mkdir()
    target, link = tmp_path / 'disk' / 'file.json', tmp_path / 'link.json'
    target.write_text(json.dumps({MARK: 'thing'}))
    link.symlink_to(target)
    with Output(link, THING, overwrite=True).replacing() as temporary:
        temporary.write_text('new')
    assert link.is_symlink()
    assert target.read_text() == 'new'


def test_a_place_below_a_file_or_at_an_address_is_refused(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OutputError, match='found a file'):
        Output(tmp_path / 'file' / 'x.nc', THING).check()
    with pytest.raises(OutputError, match='write locally'):
        Output('gs://bucket/x.zarr', THING).check()


def test_a_legacy_thing_is_recognised_without_a_mark(tmp_path):
    kind = Kind('thing', 'a thing', lambda path: path.read_text() == 'version 1')
    (tmp_path / 'x').write_text('version 1')
    Output(tmp_path / 'x', kind, overwrite=True).check()
    (tmp_path / 'x').write_text('version 0')
    with pytest.raises(OutputError):
        Output(tmp_path / 'x', kind, overwrite=True).check()


_DIES = """
import os, pathlib, sys
from learning import files
path = pathlib.Path(sys.argv[1])
temporary = files.temporary_name(path)
temporary.mkdir()
(temporary / 'half').write_text('half')
if sys.argv[2] == 'while replacing':
    rename, calls = os.rename, []
    def dies(old, new):
        if calls:
            os._exit(9)
        calls.append(rename(old, new))
    os.rename = dies
    files.put_in_place(temporary, path)
os._exit(9)
"""


def die(path: pathlib.Path, when: str) -> None:
    root = pathlib.Path(files.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, '-c', _DIES, str(path), when],
        env={**os.environ, 'PYTHONPATH': str(root)},
    )
    assert done.returncode == 9


def test_leftovers_of_a_dead_process_are_cleared_and_of_a_living_one_stay(tmp_path):
    die(tmp_path / 'store', 'while writing')
    living = files.temporary_name(tmp_path / 'mine')
    living.write_text('half')
    foreign = tmp_path / '.notes.tmp'
    foreign.write_text('not ours')
    assert len(list(tmp_path.iterdir())) == 3
    files.clear_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([living, foreign])


def test_a_process_that_dies_between_two_renames_loses_nothing(tmp_path):
    path = tmp_path / 'store'
    path.mkdir()
    (path / 'old').write_text('old')
    die(path, 'while replacing')
    assert not path.exists()
    files.clear_leftovers(tmp_path)
    assert contents(tmp_path) == {'store/old': b'old'}


def test_what_a_process_of_the_same_number_left_is_in_nobodys_way(tmp_path):
    """In containers a killed process and the next one often share their number."""
    path = tmp_path / 'store'
    for leftover in (files.temporary_name(path), files._hidden(path, 'old')):
        leftover.mkdir()
        (leftover / 'half').write_text('half')
    path.mkdir()
    with replacing(path) as temporary:
        assert not temporary.exists()
        temporary.mkdir()
        (temporary / 'new').write_text('whole')
    assert contents(tmp_path) == {'store/new': b'whole'}
