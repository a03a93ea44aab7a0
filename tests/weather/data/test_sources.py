"""Whatever kind of source holds them, the same fields come out, or an error."""

import http.server
import json
import pathlib
import shutil
import textwrap
import threading

import numpy as np
import pytest
import xarray as xr
import zarr

from weather.data import sources, store

LEVELS = {'geopotential': (500, 850), 'temperature': (850, 300)}
STATICS = ('land_sea_mask',)


def assert_same(opened, dataset):
    for name, levels in LEVELS.items():
        expected = dataset[name].sel(level=list(levels))
        found = opened[name].sel(level=list(levels))
        np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(opened['land_sea_mask'], dataset['land_sea_mask'])
    assert opened['time'].values.tolist() == dataset['time'].values.tolist()


def as_netcdf(dataset, folder, write_store):
    dataset.to_netcdf(folder / 'one.nc')
    return folder / 'one.nc'


def as_months(dataset, folder, write_store):
    (folder / 'months').mkdir()
    # The later one first by name; a hidden and an unfinished file among them.
    dataset.isel(time=slice(8, None)).to_netcdf(folder / 'months' / '1.nc')
    dataset.isel(time=slice(0, 8)).to_netcdf(folder / 'months' / '2.nc')
    (folder / 'months' / '.3.nc').write_text('hidden')
    (folder / 'months' / '3.nc.tmp').write_text('unfinished')
    return folder / 'months'


KINDS = {
    'Zarr': lambda d, folder, write: write(d),
    'Zarr, sharded': lambda d, folder, write: write(
        d,
        zarr_format=3,
        encoding={
            'temperature': {'chunks': (1, 1, 6, 8), 'shards': (4, 3, 6, 8)},
            'geopotential': {'chunks': (1, 3, 6, 4), 'shards': (20, 3, 6, 8)},
        },
    ),
    'Zarr, zipped': lambda d, folder, write: shutil.make_archive(
        str(folder / 'z.zarr'), 'zip', write(d)
    ),
    'netCDF': as_netcdf,
    'netCDF files': as_months,
    'netCDF files by pattern': lambda *given: f'{as_months(*given)}/[12].nc',
    'a list': lambda *given: sorted(as_months(*given).glob('[12].nc')),
    'Zarr stores by pattern': lambda d, folder, write: (
        [
            write(d.isel(time=slice(0, 5)), name='a.zarr'),
            write(d.isel(time=slice(5, None)), name='b.zarr'),
        ]
        and str(folder / '?.zarr')
    ),
    'memory': lambda d, folder, write: d,
    'memory, lazy': lambda d, folder, write: xr.open_zarr(write(d), chunks=None),
    'memory, by us': lambda d, folder, write: store.open_dataset(write(d), what='x'),
}


@pytest.mark.parametrize('kind', KINDS)
def test_every_kind_gives_the_same_fields(coded_dataset, tmp_path, write_store, kind):
    source = KINDS[kind](coded_dataset, tmp_path, write_store)
    with store.open_store(source, levels=LEVELS, statics=STATICS) as opened:
        assert_same(opened, coded_dataset)
    with store.open_dataset(source, what='truth') as opened:
        assert_same(opened, coded_dataset)
        assert not opened['temperature'].variable._in_memory
        assert opened['temperature'].encoding['preferred_chunks']['level'] >= 1


def test_another_kind_of_source_is_one_new_file(coded_dataset, tmp_path, monkeypatch):
    """A folder of .npy files with their names and dims in a JSON file."""
    (tmp_path / 'kinds').mkdir()
    (tmp_path / 'kinds' / 'numpy_folder.py').write_text(
        textwrap.dedent("""
            import json, pathlib
            import xarray
            from weather.data.sources import dataset
            import numpy as np

            def claims(source):
                return isinstance(source, str) and source.endswith('.npys')

            def open_raw(source, options):
                folder = pathlib.Path(source)
                dims = json.loads((folder / 'dims.json').read_text())
                arrays = {k: (v, np.load(folder / f'{k}.npy')) for k, v in dims.items()}
                return dataset.DatasetStore(xarray.Dataset(arrays), source)
        """)
    )
    monkeypatch.setattr(
        sources, '__path__', [*sources.__path__, str(tmp_path / 'kinds')]
    )
    folder = tmp_path / 'a.npys'
    folder.mkdir()
    variables = coded_dataset.variables
    (folder / 'dims.json').write_text(
        json.dumps({k: v.dims for k, v in variables.items()})
    )
    for name, variable in variables.items():
        np.save(folder / f'{name}.npy', variable.values)
    opened = store.open_store(folder, levels=LEVELS, statics=STATICS)
    assert_same(opened, coded_dataset)


def test_appended_times_are_seen_whatever_the_consolidated_metadata_say(
    coded_dataset, write_store
):
    path = write_store(coded_dataset.isel(time=slice(0, 8)))
    coded_dataset.isel(time=slice(8, None)).drop_vars(
        ['land_sea_mask', 'geopotential_at_surface']
    ).to_zarr(path, append_dim='time', consolidated=False)
    opened = store.open_store(path, levels=LEVELS, statics=STATICS)
    assert_same(opened, coded_dataset)


class Web(http.server.SimpleHTTPRequestHandler):
    """Files of a folder; two chunks answer otherwise."""

    def do_GET(self):
        for chunk, code in (
            ('temperature/3.0.0.0', 404),
            ('geopotential/3.0.0.0', 503),
        ):
            if self.path.endswith(chunk):
                return self.send_error(code)
        return super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def web(tmp_path):
    """The address of a server of `tmp_path` on loopback."""
    server = http.server.ThreadingHTTPServer(
        ('127.0.0.1', 0), lambda *args: Web(*args, directory=str(tmp_path))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f'http://127.0.0.1:{server.server_address[1]}'
    server.shutdown()
    thread.join()
    server.server_close()


def test_over_the_web_a_missing_chunk_is_a_hole_and_an_error_is_named(
    coded_dataset, write_store, web
):
    write_store(coded_dataset, name='a.zarr')
    opened = store.open_store(f'{web}/a.zarr', levels=LEVELS, statics=STATICS)
    assert np.isnan(opened['temperature'][3]).all()
    np.testing.assert_array_equal(
        opened['temperature'][4].sel(level=850), coded_dataset['temperature'][4, 2]
    )
    with pytest.raises(
        ValueError,
        match='geopotential at 2000-01-01T18:00:00 .*503.*geopotential/3.0.0.0',
    ):
        opened['geopotential'][2:5].load()


def test_over_the_web_stale_metadata_are_refused(coded_dataset, write_store, web):
    path = write_store(coded_dataset.isel(time=slice(0, 8)), name='a.zarr')
    coded_dataset.isel(time=slice(8, None)).drop_vars(
        ['land_sea_mask', 'geopotential_at_surface']
    ).to_zarr(path, append_dim='time', consolidated=False)
    with pytest.raises(ValueError, match='found 8 of 20 times.*consolidate again'):
        store.open_store(f'{web}/a.zarr', levels=LEVELS)


def test_fortran_order_and_filters_are_read(coded_dataset, write_store):
    path = write_store(coded_dataset)
    group = zarr.open_group(path, mode='r+')
    values = group['temperature'][:]
    del group['temperature']
    array = group.create_array(
        'temperature',
        shape=values.shape,
        chunks=(3, 2, 5, 8),
        dtype='>f8',
        order='F',
        attributes={'_ARRAY_DIMENSIONS': ['time', 'level', 'latitude', 'longitude']},
    )
    array[:] = values
    assert_same(store.open_dataset(path, what='truth'), coded_dataset)


BAD = {
    'nothing there': (lambda d, folder: folder / 'b.nc', 'netCDF file at .*nothing'),
    'no file fits': (lambda d, folder: folder / '*.nc', 'found nothing there'),
    'an empty folder': (lambda d, folder: folder, 'expected a Zarr group .*found none'),
    'text': (
        lambda d, folder: (folder / 'a.txt').write_text('text') and folder / 'a.txt',
        'expected a Zarr group .*a.txt, found none',
    ),
    'no fields': (
        lambda d, folder: xr.Dataset({'a': ('x', [1.0])}),
        r"expected fields with dims latitude and longitude .*found a \('x',\)",
    ),
    'a package that is not there': (
        lambda d, folder: 'nosuch://bucket/a.zarr',
        'expected a Zarr group .*nosuch',
    ),
    'curvilinear': (
        lambda d, folder: d.rename(latitude='y', longitude='x').assign_coords(
            latitude=(('y', 'x'), np.zeros((6, 8)))
        ),
        'expected fields with dims latitude and longitude',
    ),
    'times that overlap, with other values': (
        lambda d, folder: [d, d.isel(time=slice(19, None)) + 1],
        'the same geopotential at 2000-01-05T18:00:00 in .*, found other values',
    ),
    'another grid': (
        lambda d, folder: [d, d.isel(latitude=slice(1, None))],
        'latitude differs from that of',
    ),
    'no time axis': (
        lambda d, folder: d.isel(time=0),
        'expected a time axis .*a time that is a number is no axis: ds.expand_dims',
    ),
}


@pytest.mark.parametrize('case', BAD)
def test_other_sources_are_refused(coded_dataset, tmp_path, case):
    source, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        store.open_dataset(source(coded_dataset, tmp_path), what='truth')


def test_refused_connections_end_without_another_try(monkeypatch):
    from weather.data.sources import zarr_store

    tries = []

    def refuse(source, options):
        tries.append(options)
        raise OSError('Cannot connect to host 127.0.0.1:9')

    monkeypatch.setattr(zarr_store, '_open_group', refuse)
    with pytest.raises(ValueError, match='gs://a/b.zarr, found none.*Cannot connect'):
        store.open_store('gs://a/b.zarr')
    assert len(tries) == 1


def test_nothing_known_is_an_error_that_lists_what_there_is(coded_dataset, write_store):
    path = write_store(coded_dataset[['temperature']].rename(temperature='theta'))
    with pytest.raises(ValueError, match=r"project knows.*found theta \('time', 'lev"):
        store.open_store(path)
    assert pathlib.Path(path).exists()


def test_an_archive_beside_what_it_held_is_left_alone(coded_dataset, tmp_path):
    folder = as_months(coded_dataset, tmp_path, None)
    shutil.make_archive(str(tmp_path / 'archive'), 'zip', folder)
    (tmp_path / 'archive.zip').rename(folder / 'months.zip')
    opened = store.open_store(folder, levels=LEVELS, statics=STATICS)
    assert_same(opened, coded_dataset)


def test_each_array_is_asked_for_once(coded_dataset, write_store, monkeypatch):
    """Behind an address each costs a request."""
    from weather.data.sources.zarr_store import ZarrStore

    asked = []
    variable = ZarrStore.variable

    def count(self, name):
        asked.append(name)
        return variable(self, name)

    monkeypatch.setattr(ZarrStore, 'variable', count)
    path = write_store(coded_dataset.rename(temperature='t'), consolidated=False)
    store.open_store(path, levels=LEVELS, statics=STATICS)
    assert 't' in asked and len(asked) == len(set(asked))
