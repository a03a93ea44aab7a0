import itertools
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from learning.files import OutputError
from weather.data import climatology
from weather.data.store import open_dataset, open_store

# Sums in float64, results rounded to float32.
FLOAT32 = dict(rtol=1e-6, atol=0)
# Sums of squares of values near 1 in float64, then a root near 0.1, in float32.
FLOAT32_STD = dict(rtol=1e-5, atol=0)
LATITUDES, LONGITUDES = [60.0, 0.0, -60.0], [0.0, 180.0]


def atmosphere(times, seed=0):
    """Noise around a season and a daily cycle, one upper-air and one surface field."""
    rng = np.random.default_rng(seed)
    times = pd.DatetimeIndex(times).as_unit('ns')
    phase = 2 * np.pi * (times.day_of_year.to_numpy() / 366 + times.hour / 48)
    season = (10 + np.cos(phase)).to_numpy()
    upper_air = season[:, None, None, None] + rng.normal(size=(len(times), 2, 3, 2))
    surface = season[:, None, None] + rng.normal(size=(len(times), 3, 2))
    space = ('latitude', 'longitude')
    return xr.Dataset(
        {
            'temperature': (
                ('time', 'level', *space),
                upper_air.astype(np.float32),
                {'units': 'K', 'standard_name': 'air_temperature'},
            ),
            '2m_temperature': (('time', *space), surface.astype(np.float32)),
            'land_sea_mask': (space, np.ones((3, 2), np.float32)),
        },
        coords=dict(
            time=times, level=[500, 850], latitude=LATITUDES, longitude=LONGITUDES
        ),
    )


@pytest.fixture(scope='module')
def years():
    """Two years, one of them leap, every twelve hours."""
    return atmosphere(pd.date_range('2019-01-01', '2020-12-31T12', freq='12h'))


@pytest.fixture
def computed(tmp_path):
    """The climatology of a Dataset, written and read again."""
    numbers = itertools.count()

    def compute(dataset, **options):
        path = tmp_path / 'computed' / f'{next(numbers)}.zarr'
        climatology.write_climatology(dataset, path, **options)
        return xr.open_zarr(path, chunks=None).load()

    return compute


def explicit(field, hour, day, window_days):
    """Weighted mean and spread of one day, sample by sample."""
    half = window_days // 2
    values, weights = [], []
    for time, value in zip(field.time.values, field.values, strict=True):
        time = pd.Timestamp(time)
        days = [time.day_of_year]
        if days == [365] and not time.is_leap_year:
            days.append(366)
        for of_sample in days:
            apart = abs(day - of_sample)
            weight = 1 - min(apart, 366 - apart) / half
            if time.hour == hour and weight > 0:
                values.append(value.astype(np.float64))
                weights.append(weight)
    mean = np.average(values, axis=0, weights=weights)
    variance = np.average((values - mean) ** 2, axis=0, weights=weights)
    return mean, np.sqrt(variance), len(values)


@pytest.mark.parametrize('window_days', [61, 21])
def test_climatology_is_the_triangular_mean_around_the_day(
    years, window_days, computed
):
    found = computed(years, window_days=window_days)
    for hour, day in itertools.product([0, 12], [1, 30, 31, 59, 60, 200, 365, 366]):
        at = dict(hour=hour, dayofyear=day)
        for name in ('temperature', '2m_temperature'):
            mean, std, number = explicit(years[name], hour, day, window_days)
            np.testing.assert_allclose(found[name].sel(at), mean, **FLOAT32)
            np.testing.assert_allclose(found[name + '_std'].sel(at), std, **FLOAT32_STD)
            assert found.num_samples.sel(at) == number


def test_recipe_gives_the_numbers_worked_out_by_hand(computed):
    # Three days, window 5: weights 1 and 1/2 at distances 0 and 1, 0 at 2.
    dataset = atmosphere(pd.date_range('2001-01-01', periods=3, freq='D'))
    values = np.array([2.0, 4.0, 9.0], np.float32)
    dataset['2m_temperature'][:] = values[:, None, None]
    found = computed(dataset, window_days=5)
    mean = found['2m_temperature'].isel(hour=0, latitude=0, longitude=0)
    expected = {366: 2, 1: (2 + 2) / 1.5, 2: (1 + 4 + 4.5) / 2, 3: (2 + 9) / 1.5, 4: 9}
    for day, value in expected.items():
        np.testing.assert_allclose(mean.sel(dayofyear=day), value, **FLOAT32)
    assert mean.sel(dayofyear=slice(5, 365)).isnull().all()
    std = found['2m_temperature_std'].isel(hour=0, latitude=0, longitude=0)
    spread = np.sqrt((0.5 * 2.75**2 + 0.75**2 + 0.5 * 4.25**2) / 2)
    np.testing.assert_allclose(std.sel(dayofyear=2), spread, **FLOAT32_STD)
    number = found.num_samples.isel(hour=0)
    np.testing.assert_array_equal(
        number.sel(dayofyear=[366, 1, 2, 3, 4]), [1, 2, 3, 2, 1]
    )
    assert (number.sel(dayofyear=slice(5, 365)) == 0).all()


def test_day_366_of_common_years_is_day_365(computed):
    dataset = atmosphere(pd.date_range('2001-12-25', '2001-12-31', freq='D'))
    found = computed(dataset, window_days=3)
    last = dataset.temperature.isel(time=-1)
    for day in (365, 366):
        np.testing.assert_array_equal(
            found.temperature.sel(hour=0, dayofyear=day), last
        )


def test_window_weights_are_a_ring():
    weights = climatology.window_weights(61)
    np.testing.assert_array_equal(np.diag(weights), 1)
    np.testing.assert_array_equal(weights, weights.T)
    np.testing.assert_allclose(weights.sum(axis=1), 30, rtol=1e-12)
    np.testing.assert_array_equal(np.roll(weights, (1, 1), (0, 1)), weights)
    assert weights[0, 365] == weights[0, 1] == 29 / 30


@pytest.mark.parametrize('window_days', [0, 60, 367, -1])
def test_windows_are_odd_and_shorter_than_the_year(window_days):
    with pytest.raises(ValueError, match=f'odd, from 1 to 365, got {window_days}'):
        climatology.window_weights(window_days)


def test_period_includes_both_dates(years, computed):
    found = computed(years, start='2019-03-01', end='2019-05-31')
    expected = computed(years.sel(time=slice('2019-03-01', '2019-05-31T12')))
    xr.testing.assert_identical(found, expected)
    assert found.attrs['first_time'] == '2019-03-01 00:00:00'
    assert found.attrs['last_time'] == '2019-05-31 12:00:00'
    assert found.attrs['num_times'] == 2 * 92


def test_missing_values_leave_the_others_of_their_point(years, computed):
    holed = years.copy(deep=True)
    holed.temperature[400:, 0, 1, 1] = np.nan
    holed.temperature[:, 1, 2, 0] = np.nan
    found = computed(holed, window_days=21)
    part = computed(years.isel(time=slice(0, 400)), window_days=21)
    at = dict(level=0, latitude=1, longitude=1)
    for name in ('temperature', 'temperature_std'):
        np.testing.assert_allclose(
            found[name].isel(at), part[name].isel(at), **FLOAT32_STD
        )
        assert found[name].isel(level=1, latitude=2, longitude=0).isnull().all()
    whole = computed(years, window_days=21)
    at = dict(level=1, latitude=0)
    xr.testing.assert_allclose(
        found.temperature.isel(at), whole.temperature.isel(at), **FLOAT32
    )


def store(dataset, path, time_chunk):
    encoding = {
        name: {'chunks': (time_chunk, *dataset[name].shape[1:])}
        for name in ('temperature', '2m_temperature')
        if name in dataset
    }
    dataset.to_zarr(path, zarr_format=2, encoding=encoding)
    return xr.open_zarr(path, chunks=None)


@pytest.mark.parametrize('time_chunk', [1, 7, 50])
@pytest.mark.parametrize('max_bytes', [1, 2**31])
def test_store_read_in_blocks_gives_the_same(
    tmp_path, years, computed, time_chunk, max_bytes
):
    month = years.isel(time=slice(0, 60))
    expected = computed(month, start='2019-01-05')
    path = tmp_path / 'climatology.zarr'
    climatology.write_climatology(
        store(month, tmp_path / 'store.zarr', time_chunk),
        path,
        start='2019-01-05',
        max_bytes=max_bytes,
    )
    written = xr.open_zarr(path, chunks=None)
    xr.testing.assert_equal(written, expected)
    assert written.attrs == expected.attrs
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        'climatology.zarr',
        'computed',
        'store.zarr',
    ]


@pytest.mark.parametrize('time_chunk', [1, 8])
def test_memory_is_bounded_where_one_level_is_more_than_that(
    tmp_path, time_chunk, monkeypatch
):
    times = pd.date_range('2020-01-01', '2020-01-10', freq='24h')
    dims = ('time', 'level', 'latitude', 'longitude')
    values = np.random.default_rng(0).normal(size=(len(times), 1, 128, 256))
    fields = xr.Dataset(
        {'temperature': (dims, values.astype(np.float32))},
        coords=dict(
            time=times.as_unit('ns'),
            level=[500],
            latitude=np.linspace(89, -89, 128),
            longitude=np.arange(256) * 360 / 256,
        ),
    )
    dataset = store(fields, tmp_path / 'store.zarr', time_chunk)
    whole = tmp_path / 'whole.zarr'
    climatology.write_climatology(dataset, whole)
    monkeypatch.setattr(climatology, '_CHUNK_BYTES', 2**18)
    # One level is 14 MB: 440 bytes a value.
    max_bytes = 2**21
    tracemalloc.start()
    climatology.write_climatology(dataset, tmp_path / 'c.zarr', max_bytes=max_bytes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Beside the bound: ten chunks that are encoded, each twice, and 2 MB for the
    # smoothing of 2048 points.
    assert peak < max_bytes + 20 * 2**18 + 2**21
    xr.testing.assert_equal(
        xr.open_zarr(tmp_path / 'c.zarr', chunks=None), xr.open_zarr(whole, chunks=None)
    )


def test_store_has_the_schema_of_weatherbench2(tmp_path, years):
    path = tmp_path / 'climatology.zarr'
    climatology.write_climatology(years.isel(time=slice(0, 9)), path, source='here')
    written = xr.open_zarr(path, chunks=None)
    assert written.temperature.dims == climatology.DIMS
    assert written['2m_temperature_std'].dims == (
        *climatology.DIMS[:2],
        'latitude',
        'longitude',
    )
    np.testing.assert_array_equal(written.dayofyear, np.arange(1, 367))
    np.testing.assert_array_equal(written.hour, [0, 12])
    assert written.temperature.dtype == np.float32
    assert np.isnan(written.temperature.encoding['_FillValue'])
    assert written.temperature.attrs['units'] == 'K'
    assert 'standard_name' not in written.temperature_std.attrs
    assert 'land_sea_mask' not in written
    assert written.attrs['source'] == 'here'
    assert written.attrs['window_days'] == 61


def test_failure_leaves_what_was_there(tmp_path, years, monkeypatch):
    path = tmp_path / 'climatology.zarr'
    climatology.write_climatology(years.isel(time=slice(0, 9)), path)
    before = xr.open_zarr(path, chunks=None).load()

    def fail(*_, **__):
        raise OSError('disk full')

    monkeypatch.setattr(climatology.zarr, 'consolidate_metadata', fail)
    with pytest.raises(OSError, match='disk full'):
        climatology.write_climatology(years, path, overwrite=True)
    xr.testing.assert_identical(xr.open_zarr(path, chunks=None).load(), before)
    assert [p.name for p in tmp_path.iterdir()] == ['climatology.zarr']


def test_period_without_times_is_an_error(years, computed):
    with pytest.raises(ValueError, match='no times from 2030 to None .* 2019-01-01'):
        computed(years, start='2030')


def test_times_between_hours_are_an_error(computed):
    times = pd.date_range('2001-01-01T00:30', periods=3, freq='D')
    with pytest.raises(ValueError, match='times on the hour, got 2001-01-01 00:30'):
        computed(atmosphere(times))


@pytest.fixture
def downloads(tmp_path):
    """A folder with a store, its notes, and another file."""
    folder = tmp_path / 'downloads'
    atmosphere(pd.date_range('2001-01-01', periods=4)).to_zarr(
        folder / 'era5.zarr', zarr_format=2
    )
    (folder / 'notes.txt').write_text('do not lose me')
    return folder


def contents(folder):
    return {p: p.read_bytes() for p in folder.rglob('*') if p.is_file()}


@pytest.mark.parametrize('overwrite', [False, True])
@pytest.mark.parametrize(
    'output, message',
    [
        ('', 'holds .*era5.zarr, which is read'),
        ('era5.zarr', 'is what is read'),
        ('era5.zarr/climatology', 'lies inside of the store'),
        ('notes.txt', 'found another file, which stays as it is'),
    ],
)
def test_what_is_not_a_climatology_of_ours_stays(downloads, output, message, overwrite):
    before, source = contents(downloads), downloads / 'era5.zarr'
    with pytest.raises(OutputError, match=message):
        climatology.write_climatology(
            xr.open_zarr(source, chunks=None),
            downloads / output,
            source=str(source),
            overwrite=overwrite,
        )
    assert contents(downloads) == before


def test_a_climatology_is_replaced_when_asked_for(downloads):
    source, path = downloads / 'era5.zarr', downloads / 'climatology.zarr'
    dataset = xr.open_zarr(source, chunks=None)
    climatology.write_climatology(dataset, path, window_days=5)
    with pytest.raises(OutputError, match='say --overwrite to replace it'):
        climatology.write_climatology(dataset, path, window_days=7)
    assert xr.open_zarr(path).attrs['window_days'] == 5
    climatology.write_climatology(dataset, path, window_days=7, overwrite=True)
    assert xr.open_zarr(path).attrs['window_days'] == 7


def test_at_an_address_nothing_is_replaced():
    dataset = atmosphere(pd.date_range('2001-01-01', periods=4))
    address = 'memory://test_at_an_address/climatology.zarr'
    climatology.write_climatology(dataset, address)
    written = xr.open_zarr(address, consolidated=True).load()
    assert written['2m_temperature'].sizes['dayofyear'] == 366
    with pytest.raises(OutputError, match='expected nothing at memory://'):
        climatology.write_climatology(2 * dataset, address, overwrite=True)
    xr.testing.assert_identical(xr.open_zarr(address).load(), written)


def test_variables_that_are_left_out_are_named_with_the_reason():
    dataset = atmosphere(pd.date_range('2001-01-01', periods=4))
    dataset['total_precipitation_6hr'] = dataset['2m_temperature'] * 0
    dataset['member_wind'] = dataset['2m_temperature'].expand_dims(number=2)
    said = climatology.summary(dataset)
    assert 'variables: temperature, 2m_temperature, total_precipitation_6hr;' in said
    assert 'left out: land_sea_mask (no time axis), member_wind (other dims)' in said


@pytest.mark.parametrize(
    'names, message',
    [
        ({}, 'found .*left out: land_sea_mask .no time axis.;'),
        ({'temperature': 't'}, 'found variables: t; .*land_sea_mask .no time axis.;'),
    ],
)
def test_a_store_of_nothing_that_is_known_is_refused(tmp_path, names, message):
    dataset = atmosphere(pd.date_range('2001-01-01', periods=4))
    dataset = dataset[[*names, 'land_sea_mask']].rename(names)
    with pytest.raises(ValueError, match=f'with a time axis, {message} rename them'):
        climatology.write_climatology(dataset, tmp_path / 'c.zarr')
    assert not (tmp_path / 'c.zarr').exists()


def test_one_hopeless_variable_does_not_stop_the_others(tmp_path):
    source = atmosphere(pd.date_range('2001-01-01', periods=4))
    source['2m_temperature'].attrs['units'] = 'Pa'
    dataset = open_dataset(source, what='atmosphere')
    climatology.write_climatology(dataset, tmp_path / 'c.zarr')
    written = xr.open_zarr(tmp_path / 'c.zarr', chunks=None)
    assert 'temperature' in written and '2m_temperature' not in written
    assert "left out: 2m_temperature (expected 2m_temperature in 'K'" in (
        climatology.summary(dataset)
    )
    with pytest.raises(ValueError, match="expected 2m_temperature in 'K' or units"):
        open_store(source)
