"""Files that belong together read as one store, with the right value everywhere."""

import shutil

import numpy as np
import pytest
import xarray as xr

from weather.data import store
from weather.data.units import GRAVITY

HOUR = np.timedelta64(1, 'h')
# Half a step of 16 bits over the range of a field, twice.
PACKED = 2 / 65000
LEVELS = {'geopotential': (500, 850), 'temperature': (300, 850), '2m_temperature': ()}
CDS = {
    'geopotential': 'z', 'temperature': 't', '2m_temperature': 't2m',
    'u_component_of_wind': 'u', 'v_component_of_wind': 'v',
}  # fmt: skip


def as_cds(dataset):
    """As the Climate Data Store delivers ERA5 since 2024."""
    cds = dataset.rename(CDS).rename(time='valid_time', level='pressure_level')
    cds = cds.isel(pressure_level=slice(None, None, -1))
    version = np.array(['0001'] * dataset.sizes['time'])
    return cds.assign_coords(number=0, expver=('valid_time', version))


def write_packed(dataset, path, **options):
    """16-bit integers, each file and variable with a scale of its own."""
    path.parent.mkdir(exist_ok=True, parents=True)
    encoding = {}
    for name, of in dataset.data_vars.items():
        low, high = float(of.min()), float(of.max())
        encoding[name] = {
            'dtype': 'int16', 'scale_factor': (high - low) / 65000 or 1.0,
            'add_offset': (high + low) / 2, '_FillValue': -32767,
        }  # fmt: skip
    dataset.to_netcdf(path, encoding=encoding, **options)


def assert_close(found, expected, *, relative=0.0):
    for name in LEVELS:
        whole = expected[name]
        if 'level' in whole.dims:
            whole = whole.sel(level=found['level'])
        spread = float(whole.max() - whole.min())
        np.testing.assert_allclose(
            found[name], whole, rtol=2e-7, atol=relative * spread
        )
    assert found['time'].values.tolist() == expected['time'].values.tolist()


def months(cds, folder):
    """Two folders, of levels and of the surface, a file for each part of the time."""
    for part, times in enumerate((slice(0, 8), slice(8, None))):
        one = cds.isel(valid_time=times)
        write_packed(one[['z', 't', 'u', 'v']], folder / 'levels' / f'{part}.nc')
        surface = one[['t2m']]
        write_packed(surface, folder / 'surface' / f'{part}.nc')
    return folder


def variables_apart(cds, folder):
    """One file a variable, each with another order of axes, rows and columns."""
    for name, change in (
        ('z', lambda d: d.isel(latitude=slice(None, None, -1))),
        ('t', lambda d: d.transpose('longitude', 'pressure_level', ...)),
        ('u', lambda d: d.isel(pressure_level=[1, 2, 0])),
        ('v', lambda d: d.assign_coords(longitude=(d.longitude + 180) % 360 - 180)),
    ):
        write_packed(change(cds[[name]]), folder / f'{name}.nc')
    write_packed(cds[['t2m']], folder / 't2m.nc')
    return folder


def levels_apart(cds, folder):
    """One file a level, in Pa; the last has its level as a number."""
    pascal = cds['pressure_level'] * 100.0
    pascal.attrs['units'] = 'Pa'
    in_pascal = cds.assign_coords(pressure_level=pascal)
    for place in range(3):
        one = in_pascal[['z', 't', 'u', 'v']].isel(pressure_level=[place])
        one = one.squeeze('pressure_level') if place == 2 else one
        write_packed(one, folder / f'{place}.nc')
    write_packed(cds[['t2m']], folder / 't2m.nc')
    return folder


def times_apart(cds, folder):
    """One file a time, which stands beside the fields as a number."""
    for place in range(cds.sizes['valid_time']):
        write_packed(cds.isel(valid_time=place), folder / f'{place:03}.nc')
    return folder


def old_and_new(cds, folder):
    """A file of netCDF-3 with the old names of axes beside one of netCDF-4."""
    old = cds.isel(valid_time=slice(0, 8)).drop_vars(['number', 'expver'])
    old = old.rename(valid_time='time', pressure_level='level')
    write_packed(old, folder / 'b.nc', format='NETCDF3_64BIT')
    write_packed(cds.isel(valid_time=slice(8, None)), folder / 'a.nc')
    return folder


WAYS = {
    way.__doc__.split(',')[0].split(';')[0]: way
    for way in (months, variables_apart, levels_apart, times_apart, old_and_new)
}


@pytest.mark.parametrize('way', WAYS)
def test_however_cds_files_are_cut_they_are_one_store(coded_dataset, tmp_path, way):
    fields = coded_dataset.drop_vars(['land_sea_mask', 'geopotential_at_surface'])
    folder = WAYS[way](as_cds(fields), tmp_path / 'era5')
    with store.open_store(folder, levels=LEVELS) as found:
        assert_close(found, fields, relative=PACKED)
        # Any part of it is that part.
        some = dict(time=[11, 3, 7], level=0, latitude=[4, 1])
        part, whole = found['temperature'].isel(some), found['temperature'].load()
        np.testing.assert_array_equal(part, whole.isel(some))
    with store.open_store(f'{folder}/**/*.nc') as found:
        assert_close(found, fields, relative=PACKED)
        assert found['level'].values.tolist() == [300, 500, 850]


@pytest.fixture
def weatherbench_1(tmp_path):
    """Two years (two days each) of WeatherBench 1 at 45 degrees, and its constants."""
    latitude, longitude = np.arange(-67.5, 90, 45.0), np.arange(0, 360, 45.0)
    rows = dict(lat=('lat', latitude), lon=('lon', longitude))
    folders = {
        'geopotential': ('z', 'm**2 s**-2', 5e4), 'temperature': ('t', 'K', 250.0),
        '2m_temperature': ('t2m', 'K', 280.0), 'total_precipitation': ('tp', 'm', 0.0),
        'toa_incident_solar_radiation': ('tisr', 'J m**-2', 1e6),
    }  # fmt: skip
    for year in (1979, 1980):
        time = np.datetime64(f'{year}-01-01', 'ns') + np.arange(48) * np.timedelta64(
            1, 'h'
        )
        hours = np.arange(48.0)[:, None, None] / 100
        for folder, (name, units, value) in folders.items():
            field = value + hours + np.zeros((48, 4, 8)) + latitude[:, None] / 1000
            dims: tuple[str, ...] = ('time', 'lat', 'lon')
            coords = dict(rows, time=('time', time))
            if name in ('z', 't'):
                field = np.stack([field, field + 1], 1)
                dims = ('time', 'level', 'lat', 'lon')
                coords['level'] = ('level', [500, 850])
            data = xr.Dataset(
                {name: (dims, field.astype('f4'), {'units': units})}, coords
            )
            # As in the archive: the first seven hours are missing.
            late = name in ('tp', 'tisr') and year == 1979
            data = data.isel(time=slice(7, None)) if late else data
            (tmp_path / 'wb1' / folder).mkdir(exist_ok=True, parents=True)
            data.to_netcdf(tmp_path / 'wb1' / folder / f'{folder}_{year}_5.625deg.nc')
    square = np.zeros((4, 8), 'f4')
    constants = {
        'orography': (('lat', 'lon'), square + 100, {'units': 'm'}),
        'lsm': (('lat', 'lon'), square + latitude[:, None] / 90, {'units': '(0 - 1)'}),
        'lat2d': (('lat', 'lon'), square + latitude[:, None]),
    }
    (tmp_path / 'wb1' / 'constants').mkdir()
    xr.Dataset(constants, rows).to_netcdf(
        tmp_path / 'wb1' / 'constants' / 'constants_5.625deg.nc'
    )
    return tmp_path / 'wb1'


def test_a_directory_of_weatherbench_1_is_a_store(weatherbench_1, caplog):
    levels = {
        'geopotential': (500,), 'temperature': (850,), '2m_temperature': (),
        'toa_incident_solar_radiation': (), 'total_precipitation': (),
    }  # fmt: skip
    statics = ('geopotential_at_surface', 'land_sea_mask')
    found = store.open_store(weatherbench_1, levels=levels, statics=statics)
    assert found.sizes['time'] == 96
    assert found['latitude'].values.tolist() == [67.5, 22.5, -22.5, -67.5]
    # The second hour of the second year, at the northernmost row.
    assert found['temperature'].dims == ('time', 'level', 'latitude', 'longitude')
    north = found.isel(time=49, latitude=0, longitude=5)
    for values, expected in (
        (north['geopotential'].sel(level=500), 5e4),
        (north['temperature'].sel(level=850), 251),
        (north['2m_temperature'], 280),
    ):
        assert float(values) == pytest.approx(expected + 0.01 + 0.0675, rel=2e-7)
    rain = found['total_precipitation'].isel(longitude=3, latitude=0).values
    assert np.isnan(rain[:7]).all() and rain[7] == np.float32(0.07 + 0.0675)
    assert float(found['geopotential_at_surface'][0, 0]) == pytest.approx(100 * GRAVITY)
    assert found['land_sea_mask'][:, 0].values.tolist() == [0.75, 0.25, -0.25, -0.75]
    assert 'toa_incident_solar_radiation of' in caplog.text
    assert 'lacks 7 of 96 times that other variables have' in caplog.text


def test_a_cheap_look_at_weatherbench_1_and_what_it_lacks(weatherbench_1):
    names = ('temperature', 'land_sea_mask', 'vertical_velocity')
    found = store.open_dataset(weatherbench_1, what='atmosphere', names=names)
    assert set(found) == {'temperature', 'land_sea_mask'}
    with pytest.raises(ValueError, match='some of vertical_velocity .*lsm, orography'):
        store.open_dataset(weatherbench_1, what='atmosphere', names=names[2:])
    # What nobody knows stays, and is turned round with the rest.
    everything = store.open_dataset(weatherbench_1, what='atmosphere')
    assert everything['lat2d'][:, 0].values.tolist() == [67.5, 22.5, -22.5, -67.5]


def test_variables_of_other_steps_stand_on_the_union_of_times(coded_dataset):
    daily = coded_dataset[['2m_temperature']].isel(time=slice(0, None, 4))
    found = store.open_store([coded_dataset[['temperature']], daily])
    assert found.sizes['time'] == 20
    there = np.isfinite(found['2m_temperature']).all(('latitude', 'longitude'))
    assert np.flatnonzero(there).tolist() == [0, 4, 8, 12, 16]
    np.testing.assert_array_equal(found['2m_temperature'][::4], daily['2m_temperature'])


def test_files_that_share_times_are_joined_where_they_agree(coded_dataset):
    first = coded_dataset.isel(time=slice(0, 12))
    second = coded_dataset.isel(time=slice(10, None)).copy(deep=True)
    assert_close(store.open_store([second, first]), coded_dataset)
    assert_close(store.open_store([first, coded_dataset, first]), coded_dataset)
    # What is NaN in one of them is no value in the other.
    second['temperature'][1, 0, 2, 3] = np.nan
    with pytest.raises(ValueError, match='same temperature at 2000-01-03T18:00:00 in '):
        store.open_store([first, second])


def test_files_that_contradict_each_other_are_both_named(coded_dataset, tmp_path):
    coded_dataset.isel(time=slice(0, 11)).to_netcdf(tmp_path / 'a.nc')
    other = coded_dataset.isel(time=slice(10, None)).copy(deep=True)
    other['temperature'][0] += 1e-3
    other.to_netcdf(tmp_path / 'b.nc')
    match = (
        r'same temperature at 2000-01-03T12:00:00 in \S*a.nc and \S*b.nc, found other'
    )
    with pytest.raises(ValueError, match=match):
        store.open_store(tmp_path)
    statics = [coded_dataset, coded_dataset[['land_sea_mask']] * 0]
    with pytest.raises(ValueError, match='same land_sea_mask in .*found other values'):
        store.open_store(statics, levels=LEVELS, statics=('land_sea_mask',))


def test_statics_of_their_own_file_stand_beside_whatever_their_time(coded_dataset):
    invariant = coded_dataset[['land_sea_mask']].expand_dims(
        valid_time=[np.datetime64('1979-01-01', 'ns')]
    )
    moving = coded_dataset.drop_vars('land_sea_mask')
    found = store.open_store(
        [invariant.rename(land_sea_mask='lsm'), moving],
        levels=LEVELS,
        statics=('land_sea_mask', 'geopotential_at_surface'),
    )
    assert_close(found, coded_dataset)
    np.testing.assert_array_equal(
        found['land_sea_mask'], coded_dataset['land_sea_mask']
    )


def test_coordinates_that_are_rounded_differently_are_the_same(coded_dataset):
    surface = coded_dataset[['2m_temperature']]
    surface = surface.assign_coords(latitude=surface['latitude'].astype('f4') + 2e-4)
    found = store.open_store([coded_dataset.drop_vars('2m_temperature'), surface])
    np.testing.assert_array_equal(found['2m_temperature'], surface['2m_temperature'])


def test_a_file_without_fields_among_others_is_left_out_and_named(
    coded_dataset, tmp_path, caplog
):
    coded_dataset.to_netcdf(tmp_path / 'a.nc')
    xr.Dataset({'nino34': ('time', np.zeros(3))}).to_netcdf(tmp_path / 'index.nc')
    assert_close(store.open_store(tmp_path), coded_dataset)
    assert 'index.nc, found nino34' in caplog.text


BAD = {
    'a hole in one file': (
        lambda d: [d, d[['temperature']].isel(time=[0, 0])],
        'found repeated times 2000-01-01T00:00:00',
    ),
    'another axis': (
        lambda d: [
            d.isel(time=slice(0, 9)),
            d[['temperature']].isel(level=0, drop=True).isel(time=slice(9, None)),
        ],
        r'temperature has the dims .*, in the dataset in memory .*level',
    ),
    'another number of columns': (
        lambda d: [d, d[['2m_temperature']].isel(longitude=slice(0, None, 2))],
        'longitude differs from that of',
    ),
    'another grid of the same size': (
        lambda d: [d, d[['land_sea_mask']].assign_coords(latitude=d.latitude + 0.01)],
        'latitude differs from that of',
    ),
}


@pytest.mark.parametrize('case', BAD)
def test_what_does_not_belong_together_is_refused(coded_dataset, case):
    change, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        store.open_dataset(change(coded_dataset), what='atmosphere')


def test_forecasts_among_other_files_add_no_times(coded_dataset):
    lead = np.arange(1, 4) * np.timedelta64(1, 'h')
    rain = coded_dataset[['2m_temperature']].rename({'2m_temperature': 'tp'})
    rain = rain.isel(time=[0, 1]).expand_dims(step=lead.astype('m8[ns]'))
    rain = rain.assign_coords(time=rain['time'] + np.timedelta64(3, 'h'))
    found = store.open_dataset([coded_dataset, rain], what='atmosphere')
    assert found.sizes['time'] == 20 and 'total_precipitation' not in found
    assert 'lead times' in store.refused(found)['total_precipitation']


def versions(dataset, *, split=12):
    """ERA5 up to `split`, then ERA5T, along an axis of their own."""
    final, early = dataset.copy(deep=True), dataset.copy(deep=True)
    for name in dataset.data_vars:
        final[name][split:] = np.nan
        early[name][:split] = np.nan
    return xr.concat([final, early], 'expver').assign_coords(expver=[1, 5])


def test_era5_and_its_first_release_are_merged(coded_dataset, tmp_path, write_store):
    mixed = versions(coded_dataset[['temperature', 'geopotential', '2m_temperature']])
    mixed.to_netcdf(tmp_path / 'mixed.nc')
    mixed.transpose('time', 'level', 'expver', ...).to_netcdf(tmp_path / 'other.nc')
    for source in (tmp_path / 'mixed.nc', tmp_path / 'other.nc', write_store(mixed)):
        assert_close(store.open_store(source, levels=LEVELS), coded_dataset)
        assert_close(store.open_dataset(source, what='truth'), coded_dataset)


def test_two_releases_that_differ_are_an_error_that_says_so(coded_dataset):
    mixed = versions(coded_dataset[['temperature']])
    mixed['temperature'][{'expver': 1, 'time': 3}] = 251.0
    found = store.open_dataset(mixed, what='truth')
    assert float(found['temperature'][2].mean()) > 0
    with pytest.raises(ValueError, match='one value of temperature along expver'):
        found['temperature'][3].load()


def test_a_doubled_store_is_read_as_one(coded_dataset, tmp_path, write_store):
    path = write_store(coded_dataset, name='a.zarr')
    shutil.copytree(path, tmp_path / 'b' / 'copy.zarr')
    assert_close(store.open_store(tmp_path), coded_dataset)


def test_nothing_in_nested_folders_is_an_error(tmp_path):
    (tmp_path / 'a' / 'b').mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match='a Zarr group .*found none'):
        store.open_store(tmp_path)


def test_the_public_data_sets_of_graphcast_are_read(coded_dataset, tmp_path):
    """Times since the first, dates beside them, an axis `batch` of one, south first."""
    data = coded_dataset.rename(latitude='lat', longitude='lon')
    data = data.isel(lat=slice(None, None, -1))
    dates = data['time'].values
    moving = data[[name for name in data if 'time' in data[name].dims]]
    moving = moving.expand_dims(batch=1).assign_coords(time=dates - dates[0])
    moving = moving.assign_coords(datetime=(('batch', 'time'), dates[None]))
    graphcast = moving.assign(land_sea_mask=data['land_sea_mask'])
    graphcast.to_netcdf(tmp_path / 'a.nc')
    for source in (graphcast, tmp_path / 'a.nc'):
        found = store.open_store(source, levels=LEVELS, statics=('land_sea_mask',))
        assert_close(found, coded_dataset)


def test_forecasts_with_levels_in_their_names_are_joined_if_alike(coded_dataset):
    starts = [
        coded_dataset.isel(time=[start], drop=True)
        .expand_dims(prediction_timedelta=[np.timedelta64(6, 'h').astype('m8[ns]')])
        .drop_vars(['land_sea_mask', 'geopotential_at_surface'])
        for start in range(3)
    ]
    found = store.open_dataset(starts, what='forecast')
    assert found.sizes['time'] == 3 and found.sizes['level'] == 3
    names = {f't_{level}': starts[0]['temperature'].sel(level=level, drop=True)
             for level in (500, 850)}  # fmt: skip
    spelt = [xr.Dataset(names).assign_coords(time=of['time']) for of in starts]
    found = store.open_dataset(spelt, what='forecast')
    assert found['temperature'].sizes['level'] == 2
    with pytest.raises(ValueError, match='level differs from that of'):
        store.open_dataset([*starts[:2], starts[2].isel(level=[0, 1])], what='forecast')


def test_axes_of_one_that_only_some_files_have_do_not_stand_in_the_way(coded_dataset):
    early = coded_dataset.isel(time=slice(0, 9)).drop_vars('land_sea_mask')
    late = coded_dataset.isel(time=slice(9, None))
    early = early.expand_dims(number=[0]).expand_dims(height=[2.0])
    found = store.open_store([early, late], levels=LEVELS, statics=('land_sea_mask',))
    assert_close(found, coded_dataset)


def test_a_reanalysis_of_one_file_a_variable_with_levels_of_its_own(coded_dataset):
    """NCEP has humidity up to 300 hPa, in files with names and steps of their own."""
    air = coded_dataset[['temperature']].rename(temperature='air')
    wind = coded_dataset[['u_component_of_wind']].rename(u_component_of_wind='uwnd')
    found = store.open_store([air, wind.isel(level=[2, 1])])
    assert found['level'].values.tolist() == [300, 500, 850]
    assert np.isnan(found['u_component_of_wind'].sel(level=300)).all()
    np.testing.assert_array_equal(
        found['u_component_of_wind'][:, 1:], coded_dataset['u_component_of_wind'][:, 1:]
    )


@pytest.mark.parametrize('several', [False, True])
def test_the_start_of_a_forecast_is_not_taken_for_the_time_of_its_fields(
    coded_dataset, several
):
    lead = np.array([6], 'm8[h]').astype('m8[ns]')
    forecast = coded_dataset[['temperature']].expand_dims(prediction_timedelta=lead)
    others = [coded_dataset[['geopotential']]] if several else []
    with pytest.raises(ValueError, match='lead times'):
        store.open_store([forecast, *others], levels={'temperature': (500,)})
    analysis = forecast.assign_coords(prediction_timedelta=lead * 0)
    found = store.open_store([analysis, *others], levels={'temperature': (500,)})
    np.testing.assert_array_equal(
        found['temperature'], coded_dataset['temperature'].sel(level=[500])
    )
