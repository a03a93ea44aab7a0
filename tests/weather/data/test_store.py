"""A store is the same atmosphere whatever its order on disk, or an error."""

import json
import pathlib

import numpy as np
import pytest
import xarray as xr
import zarr

from sphere_ops.grid import LatLonGrid
from weather.data import store
from weather.variables import WEATHERBENCH_LEVELS

GRID = LatLonGrid('equiangular', num_lat=6, num_lon=8)
LEVELS = {'geopotential': (500, 850), 'temperature': (850, 300), '2m_temperature': ()}
STATICS = ('geopotential_at_surface', 'land_sea_mask')
NCEP_STORE = 'ncep_r1_20220101_5d_73x144.zarr'
NCEP_LEVELS = {
    'geopotential': WEATHERBENCH_LEVELS,
    'specific_humidity': WEATHERBENCH_LEVELS[5:],
    'temperature': WEATHERBENCH_LEVELS,
    'u_component_of_wind': WEATHERBENCH_LEVELS,
    'v_component_of_wind': WEATHERBENCH_LEVELS,
    'vertical_velocity': WEATHERBENCH_LEVELS[1:],
}


def west_of_greenwich_first(dataset):
    """Longitudes from -180, as many stores have them."""
    rolled = dataset.roll(longitude=4, roll_coords=True)
    longitude = rolled['longitude']
    return rolled.assign_coords(longitude=(longitude + 180) % 360 - 180)


ORDERS = {
    'canonical': lambda d: d,
    'south first': lambda d: d.isel(latitude=slice(None, None, -1)),
    'longitude first': lambda d: d.transpose(
        'time', 'level', 'longitude', 'latitude', missing_dims='ignore'
    ),
    'level first': lambda d: d.transpose('level', 'latitude', 'time', 'longitude'),
    'levels shuffled': lambda d: d.isel(level=[2, 0, 1]),
    'levels as floats': lambda d: d.assign_coords(level=d['level'].astype(float)),
    'from the date line': west_of_greenwich_first,
    'everything at once': lambda d: west_of_greenwich_first(
        d.isel(latitude=slice(None, None, -1), level=[1, 2, 0])
    ).transpose('longitude', 'level', 'latitude', 'time'),
    'statics repeated in time': lambda d: d.assign(
        {name: d[name].expand_dims(time=d['time']) for name in STATICS}
    ),
    'coordinates in float32': lambda d: d.assign_coords(
        latitude=d['latitude'].astype(np.float32)
    ),
}


def assert_canonical(opened, dataset):
    assert opened['latitude'].values.tolist() == GRID.latitudes.tolist()
    assert opened['longitude'].values.tolist() == GRID.longitudes.tolist()
    assert opened['level'].values.tolist() == [300, 500, 850]
    assert opened['time'].values.tolist() == dataset['time'].values.tolist()
    for name in (*LEVELS, *STATICS):
        assert opened[name].dims == dataset[name].dims
        np.testing.assert_array_equal(opened[name].values, dataset[name].values)


@pytest.mark.parametrize('zarr_format', [2, 3])
@pytest.mark.parametrize('order', ORDERS)
def test_every_order_on_disk_reads_as_the_same_atmosphere(
    coded_dataset, write_store, order, zarr_format
):
    path = write_store(ORDERS[order](coded_dataset), zarr_format=zarr_format)
    opened = store.open_store(path, levels=LEVELS, statics=STATICS, grid=GRID)
    assert_canonical(opened, coded_dataset)


@pytest.mark.parametrize('zarr_format', [2, 3])
def test_unconsolidated_metadata_will_do(coded_dataset, write_store, zarr_format):
    path = write_store(coded_dataset, zarr_format=zarr_format, consolidated=False)
    opened = store.open_store(path, levels=LEVELS, statics=STATICS)
    assert_canonical(opened, coded_dataset)


def test_addresses_read_as_paths_do(coded_dataset, write_store):
    file = f'file://{write_store(coded_dataset)}'
    memory = write_store(coded_dataset, name='memory://a.zarr', storage_options={})
    for address in (file, memory):
        opened = store.open_store(
            address, levels=LEVELS, statics=STATICS, storage_options={}
        )
        assert_canonical(opened, coded_dataset)


@pytest.mark.parametrize('zarr_format', [2, 3])
def test_packed_integers_are_unpacked(coded_dataset, write_store, zarr_format):
    packing = {
        'dtype': 'int16',
        'scale_factor': 0.01,
        'add_offset': 250.0,
        '_FillValue': -32767,
    }
    dataset = coded_dataset.copy(deep=True)
    dataset['temperature'][3, 0, 2, 1] = np.nan
    path = write_store(
        dataset, encoding={'temperature': packing}, zarr_format=zarr_format
    )
    values = store.open_store(path, levels=LEVELS)['temperature'].values
    # Half a packing step.
    np.testing.assert_allclose(values, dataset['temperature'], rtol=0, atol=0.00501)
    assert np.isnan(values[3, 0, 2, 1])


def test_exact_zeros_stay_zeros_where_fill_value_is_zero(coded_dataset, write_store):
    path = write_store(coded_dataset)
    for name in ('.zmetadata', 'land_sea_mask/.zarray'):
        file = pathlib.Path(path) / name
        metadata = json.loads(file.read_text())
        array = metadata.get('metadata', {}).get('land_sea_mask/.zarray', metadata)
        array['fill_value'] = 0.0
        file.write_text(json.dumps(metadata))
    mask = store.open_store(path, levels=LEVELS, statics=STATICS)['land_sea_mask']
    np.testing.assert_array_equal(mask.values, coded_dataset['land_sea_mask'].values)


def test_opening_reads_lazily(coded_dataset, write_store):
    path = write_store(coded_dataset)
    opened = store.open_store(path, levels=LEVELS)
    for chunk in pathlib.Path(path, 'temperature').glob('5.*'):
        chunk.write_bytes(b'')
    opened['temperature'].isel(time=4).load()
    with pytest.raises(ValueError, match='temperature at 2000-01-02T06:00:00'):
        opened['temperature'].isel(time=slice(4, 7)).load()


def test_selections_are_those_of_the_whole_field(coded_dataset, write_store):
    opened = store.open_store(
        write_store(ORDERS['everything at once'](coded_dataset)), levels=LEVELS
    )
    whole = coded_dataset['temperature']
    lazy = opened['temperature']
    for select in (
        lambda f: f.isel(time=[7, 2, 11], longitude=slice(6, 1, -2)),
        lambda f: f.isel(time=-1, level=1, latitude=0, longitude=3),
        lambda f: f.sel(level=[850, 300]).isel(time=slice(1, None, 5)),
        lambda f: f.isel(time=slice(3, 3)),
        lambda f: f.transpose('longitude', 'time', ...).isel(time=[5], latitude=2),
        lambda f: f.isel(time=xr.DataArray([1, 5], dims='case')),
    ):
        np.testing.assert_array_equal(select(lazy).values, select(whole).values)


def test_only_wanted_variables_and_levels_are_kept(coded_dataset, write_store):
    path = write_store(coded_dataset)
    opened = store.open_store(path, levels={'temperature': (850,)})
    assert list(opened) == ['temperature']
    assert opened['level'].values.tolist() == [850]
    everything = store.open_store(path)
    assert set(LEVELS) <= set(everything) and not set(STATICS) & set(everything)


def test_attributes_are_those_of_the_variable(coded_dataset, write_store):
    opened = store.open_store(write_store(coded_dataset), levels=LEVELS)
    assert opened['geopotential'].attrs['units'] == 'm2 s-2'
    assert opened['latitude'].attrs['units'] == 'degrees_north'


def test_real_reanalysis_reads_as_xarray_reads_it(shared_data):
    path = shared_data / NCEP_STORE
    opened = store.open_store(path, levels=NCEP_LEVELS, statics=STATICS)
    raw = xr.open_zarr(path, chunks=None).sortby('latitude', ascending=False)
    assert store.timestep(opened) == np.timedelta64(24, 'h')
    for name in (*NCEP_LEVELS, *STATICS):
        np.testing.assert_array_equal(opened[name].values, raw[name].values)


def test_real_reanalysis_lacks_humidity_aloft(shared_data):
    path = shared_data / NCEP_STORE
    levels = {'specific_humidity': (250, 300)}
    with pytest.raises(ValueError, match='specific_humidity@250, found NaN everywh'):
        store.open_store(path, levels=levels)
    assert np.isnan(store.open_store(path)['specific_humidity'][0, 0]).all()


def test_time_step_is_the_most_common_difference(coded_dataset, write_store):
    gap = coded_dataset.isel(time=[0, 1, 2, 5, 6, 7, 11])
    opened = store.open_store(write_store(gap), levels=LEVELS)
    assert store.timestep(opened) == np.timedelta64(6, 'h')
    one = store.open_store(write_store(gap.isel(time=[0])), levels=LEVELS)
    with pytest.raises(ValueError, match='at least two times'):
        store.timestep(one)


def test_statics_of_which_the_first_time_is_missing_are_found(
    coded_dataset, write_store
):
    repeated = ORDERS['statics repeated in time'](coded_dataset).copy(deep=True)
    for name in STATICS:
        repeated[name][:7] = np.nan
    opened = store.open_store(write_store(repeated), levels=LEVELS, statics=STATICS)
    for name in STATICS:
        np.testing.assert_array_equal(opened[name], coded_dataset[name])


def test_statics_are_opened_without_time(coded_dataset, write_store):
    path = write_store(ORDERS['statics repeated in time'](coded_dataset))
    opened = store.open_store(path, levels=LEVELS, statics=STATICS)
    assert opened['land_sea_mask'].dims == ('latitude', 'longitude')
    assert opened['land_sea_mask'].shape == GRID.shape


def like_arco(folder, *, says_where=True):
    """ARCO-ERA5: hourly from 1900, chunks from 1940 alone, 270 variables, statics too.

    Returns the path and the first time that is there.
    """
    path = str(folder / 'ar.zarr')
    extent = {'valid_time_start': '1940-01-01', 'valid_time_stop': '2023-12-31'}
    group = zarr.open_group(
        path, mode='w', zarr_format=2, attributes=extent if says_where else {}
    )
    size = 1_300_000
    first = int((np.datetime64('1940-01-01') - np.datetime64('1900-01-01')) / HOUR)

    def create(name, dims, sizes, chunks, **options):
        options = {'dtype': 'f4', 'fill_value': np.nan, 'attributes': {}, **options}
        options['attributes'] = {**options['attributes'], '_ARRAY_DIMENSIONS': dims}
        return group.create_array(name, shape=sizes, chunks=chunks, **options)

    units = {'units': 'hours since 1900-01-01', 'calendar': 'proleptic_gregorian'}
    for name, values in {
        'time': np.arange(size), 'level': np.array([500, 850]),
        'latitude': GRID.latitudes[::-1].astype('f4'), 'longitude': GRID.longitudes,
    }.items():  # fmt: skip
        attributes = units if name == 'time' else {}
        shape = values.shape
        create(name, [name], shape, shape, dtype=values.dtype, fill_value=0,
               attributes=attributes)[:] = values  # fmt: skip
    surface = ['time', 'latitude', 'longitude']
    for name in ('temperature', *(f'other_{k}' for k in range(270))):
        of = create(
            name, ['time', 'level', *surface[1:]], (size, 2, 6, 8), (1, 2, 6, 8)
        )
        if name == 'temperature':
            of[first : first + 3] = 250 + np.arange(3.0)[:, None, None, None]
    mask = create('land_sea_mask', surface, (size, 6, 8), (1, 6, 8))
    # In the real one about half of all times are there.
    mask[first] = mask[size // 2] = np.eye(6, 8)
    zarr.consolidate_metadata(path)
    return path, np.datetime64('1940-01-01', 'ns')


@pytest.mark.filterwarnings('ignore:Consolidated metadata')
@pytest.mark.parametrize('says_where', [True, False])
def test_a_store_like_arco_opens_by_names(tmp_path, says_where):
    path, first = like_arco(tmp_path, says_where=says_where)
    names = ('temperature', 'land_sea_mask', 'geopotential')
    opened = store.open_dataset(path, what='atmosphere', names=names)
    assert set(opened) == {'temperature', 'land_sea_mask'}
    # South first on disk; the first time of the mask is not there.
    np.testing.assert_array_equal(opened['land_sea_mask'], np.eye(6, 8)[::-1])
    read = opened['temperature'].sel(time=first + 2 * HOUR)
    np.testing.assert_array_equal(read, np.full((2, 6, 8), 252))
    assert np.isnan(opened['temperature'].sel(time=first - HOUR)).all()


def shifted_latitude(dataset):
    return dataset.assign_coords(latitude=dataset['latitude'] + 0.5)


def with_units(units):
    def change(dataset):
        dataset['geopotential'].attrs['units'] = units
        return dataset

    return change


def scaled(name, *, factor=1.0, offset=0.0):
    return lambda dataset: dataset.assign({name: dataset[name] * factor + offset})


BAD_STORES = {
    'missing variable': (
        lambda d: d.rename(temperature='temperatur'),
        "expected the variable 'temperature'.*did you mean 'temperatur'",
    ),
    'missing level': (
        lambda d: d.isel(level=[0, 2]),
        r'geopotential at levels \(500, 850\).*lacks \(500,\).*has \(300, 850\)',
    ),
    'missing static': (
        lambda d: d.drop_vars('land_sea_mask'),
        "expected the static field 'land_sea_mask'.*take it out of config",
    ),
    'missing level axis': (
        lambda d: d.isel(level=0, drop=True),
        'expected levels, found no level axis',
    ),
    'unexpected level axis': (
        lambda d: d.assign({'2m_temperature': d['temperature']}),
        'expected no level axis in 2m_temperature',
    ),
    'no time axis': (
        lambda d: d.assign(temperature=d['temperature'][0]),
        'expected a time axis in temperature',
    ),
    'other dims': (
        lambda d: d.expand_dims(number=2),
        r"found \('member', 'time'.*rename its dims",
    ),
    'no coordinate': (
        lambda d: d.drop_vars('latitude'),
        "expected the coordinate 'latitude' of the axis latitude.*found none",
    ),
    'latitude shifted': (shifted_latitude, 'expected LatLonGrid.*0.5'),
    'limited area': (
        lambda d: d.isel(latitude=slice(0, 3)),
        r'expected LatLonGrid.*limited area, latitude 15 to 75, .*\(3 x 8\)',
    ),
    'wrong grid': (
        lambda d: d.isel(longitude=slice(None, None, 2)),
        'expected LatLonGrid.*num_lon=8.*found LatLonGrid.*num_lon=4',
    ),
    'units attribute': (
        with_units('m'),
        'geopotential@500 between 2.733e.04 and 1.093e.05 m2 s-2, found 5.37e.05',
    ),
    'units of something else': (
        with_units('K'),
        "geopotential in 'm2 s-2' or units that convert to it, found units 'K'",
    ),
    'unreadable units': (with_units('m2 s-2!'), "found units 'm2 s-2!'"),
    'geopotential in metres': (
        scaled('geopotential', factor=1 / 9.80665),
        'geopotential@500 between 2.7.*heights in metres: multiply by 9.80665',
    ),
    'geopotential in decametres': (
        scaled('geopotential', factor=0.1 / 9.80665),
        'geopotential@500 between.*convert it to m2 s-2',
    ),
    'temperature in Celsius': (
        scaled('temperature', offset=-273.15),
        'temperature@850 between 130 and 350 K, found -29.71',
    ),
    'all-NaN channel': (
        lambda d: d.assign(temperature=d['temperature'].where(d['level'] != 300)),
        'expected values in temperature@300, found NaN everywhere',
    ),
    'all-NaN surface variable': (
        scaled('2m_temperature', factor=np.nan),
        'expected values in 2m_temperature, found NaN everywhere',
    ),
    'non-uniform time step': (
        lambda d: d.assign_coords(
            time=d['time'] + np.where(d['time'] > d['time'][4], 3, 0) * HOUR
        ),
        'expected times 6 h apart.*2000-01-02T00:00:00 followed by 2000-01-02T09:00:00',
    ),
    'repeated time': (
        lambda d: d.isel(time=[0, 1, 1, 2]),
        'found repeated times 2000-01-01T06:00:00, 2000-01-01T06:00:00',
    ),
    'decreasing times': (
        lambda d: d.isel(time=slice(None, None, -1)),
        'found decreasing times 2000-01-05T18:00:00, 2000-01-05T12:00:00',
    ),
    'times without units': (
        lambda d: d.assign_coords(time=np.arange(20)),
        'expected times with units such as',
    ),
}
HOUR = np.timedelta64(1, 'h')


@pytest.mark.parametrize('case', BAD_STORES)
def test_bad_store_is_refused(coded_dataset, write_store, case):
    change, message = BAD_STORES[case]
    path = write_store(change(coded_dataset))
    with pytest.raises(ValueError, match=message):
        store.open_store(path, levels=LEVELS, statics=STATICS, grid=GRID)


def test_humidity_in_grams_is_refused(coded_dataset, write_store):
    humid = coded_dataset['temperature'] * 0 + 8.0
    path = write_store(coded_dataset.assign(specific_humidity=humid))
    with pytest.raises(ValueError, match='specific_humidity@850 between .* 0.06 kg'):
        store.open_store(path, levels={'specific_humidity': (850,)})


def test_nan_at_the_sampled_time_alone_is_accepted(coded_dataset, write_store):
    coded_dataset['temperature'][9] = np.nan  # the middle time, sampled first
    store.open_store(write_store(coded_dataset), levels=LEVELS)


def test_missing_path_names_the_nearest(coded_dataset, write_store):
    path = write_store(coded_dataset, name='era5.zarr')
    with pytest.raises(FileNotFoundError, match='did you mean .*era5.zarr'):
        store.open_store(path.replace('era5', 'era55'))
    with pytest.raises(ValueError, match='expected a Zarr'):
        store.open_store('memory://nowhere.zarr')


def test_what_is_not_zarr_is_refused(tmp_path):
    (tmp_path / 'data.nc').write_bytes(b'CDF')
    with pytest.raises(ValueError, match='expected a netCDF file .* cannot read it'):
        store.open_store(tmp_path / 'data.nc')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match='expected a Zarr group'):
        store.open_store(tmp_path / 'empty')


@pytest.mark.parametrize('zarr_format', [2, 3])
def test_truncated_chunk_is_named(coded_dataset, write_store, zarr_format):
    path = write_store(coded_dataset, zarr_format=zarr_format)
    opened = store.open_store(path, levels=LEVELS)
    chunk = {2: '7.0.0.0', 3: 'c/7/0/0/0'}[zarr_format]
    file = pathlib.Path(path, 'geopotential', chunk)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(
        ValueError, match='cannot read geopotential at 2000-01-02T18:00:00 of .*trunc'
    ):
        opened['geopotential'].load()


def test_damaged_metadata_and_coordinates_are_named(coded_dataset, write_store):
    path = write_store(coded_dataset, consolidated=False)
    pathlib.Path(path, 'latitude', '0').write_bytes(b'1234')
    with pytest.raises(ValueError, match='cannot read the coordinate latitude'):
        store.open_store(path)
    path = write_store(coded_dataset, consolidated=False)
    pathlib.Path(path, 'temperature', '.zarray').write_text('{"shape": [')
    with pytest.raises(ValueError, match='cannot read the metadata of temperature'):
        store.open_store(path, levels=LEVELS)
    with pytest.raises(ValueError, match='cannot read the metadata in '):
        store.open_store(path)


def test_a_store_that_was_not_finished_is_refused(coded_dataset, write_store):
    path = write_store(coded_dataset)
    zarr.open_array(f'{path}/temperature', mode='r+').resize((19, 3, 6, 8))
    group = pathlib.Path(path, '.zmetadata')
    group.unlink()
    with pytest.raises(ValueError, match='temperature with sizes .* not written to'):
        store.open_store(path, levels=LEVELS)
