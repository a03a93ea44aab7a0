"""GRIB opens as an atmosphere, whatever is mixed in a file."""

import itertools
import os
import sys
from concurrent import futures

import eccodes
import numpy as np
import pytest
from cfgrib import messages

from weather.data import store
from weather.data.sources import grib
from weather.data.units import GRAVITY

LATITUDES, LONGITUDES = np.arange(90, -91, -45.0), np.arange(0, 360, 45.0)
# GRIB keeps 16 bits of the range of each field, which is 2 here.
PACKED = dict(rtol=0, atol=2 / 2**16)


def field(value):
    """`[lat, lon]`: the value, and a pattern that shows where each number stands."""
    place = LATITUDES[:, None] / 90 + LONGITUDES / 360
    return value + place - place.mean()


def write(file, values, name, *, edition=2, south_first=False, **keys):
    """Writes one message; `keys` are ecCodes', `level` makes it one of pressure."""
    sample = 'pl' if 'level' in keys else 'sfc'
    message = eccodes.codes_grib_new_from_samples(f'regular_ll_{sample}_grib{edition}')
    first = -90 if south_first else 90
    grid = {
        'Ni': 8, 'Nj': 5, 'latitudeOfFirstGridPointInDegrees': first,
        'latitudeOfLastGridPointInDegrees': -first,
        'longitudeOfFirstGridPointInDegrees': 0,
        'longitudeOfLastGridPointInDegrees': 315,
        'iDirectionIncrementInDegrees': 45, 'jDirectionIncrementInDegrees': 45,
        'jScansPositively': int(south_first), 'bitsPerValue': 16,
    }  # fmt: skip
    defaults = {'dataDate': 20200101, 'dataTime': 0}
    for key, value in {**grid, **defaults, 'shortName': name, **keys}.items():
        eccodes.codes_set(message, key, value)
    values = values[::-1] if south_first else values
    if np.isnan(values).any():
        eccodes.codes_set(message, 'bitmapPresent', 1)
        eccodes.codes_set(message, 'missingValue', 9999)
        values = np.where(np.isnan(values), 9999, values)
    eccodes.codes_set_values(message, values.ravel().astype(float))
    eccodes.codes_write(message, file)
    eccodes.codes_release(message)


def write_era5(path, edition=2, **options):
    """Two days of z and t at two levels, t2m, msl; z and mask of the surface once.

    The message of one time and level is missing.
    """
    with open(path, 'wb') as file:
        for day in (20200101, 20200102):
            for hour in (0, 6, 12, 18):
                keys = dict(
                    edition=edition, dataDate=day, dataTime=100 * hour, **options
                )
                time = hour + 24 * (day - 20200101)
                for level, height in ((850, 1.4e4), (500, 5.5e4)):
                    write(file, field(height + time), 'z', level=level, **keys)
                    if (time, level) != (30, 850):
                        write(file, field(250 + time), 't', level=level, **keys)
                write(file, field(280 + time), '2t', **keys)
                write(file, field(1e5 + time), 'msl', **keys)
        write(file, field(500), 'z', edition=edition, **options)
        write(file, np.abs(field(0)), 'lsm', edition=edition, **options)
    return path


LEVELS = {
    'geopotential': (500, 850), 'temperature': (500, 850), '2m_temperature': (),
    'mean_sea_level_pressure': (),
}  # fmt: skip
STATICS = ('geopotential_at_surface', 'land_sea_mask')


@pytest.mark.parametrize('edition', [1, 2])
@pytest.mark.parametrize('south_first', [False, True])
def test_levels_surface_and_invariant_fields_of_one_file_are_a_store(
    tmp_path, edition, south_first
):
    path = write_era5(tmp_path / 'era5.grib', edition, south_first=south_first)
    found = store.open_store(path, levels=LEVELS, statics=STATICS)
    assert found['latitude'].values.tolist() == LATITUDES.tolist()
    assert found['level'].values.tolist() == [500, 850]
    assert found['time'].values[-1] == np.datetime64('2020-01-02T18', 'ns')
    for place, time in enumerate(range(0, 48, 6)):
        at = found.isel(time=place)
        for level, height in ((850, 1.4e4), (500, 5.5e4)):
            expected = field(height + time)
            # float32 beside 5e4: steps of 0.004.
            np.testing.assert_allclose(
                at['geopotential'].sel(level=level), expected, rtol=0, atol=4e-3
            )
        np.testing.assert_allclose(at['2m_temperature'], field(280 + time), **PACKED)
    temperature = found['temperature']
    np.testing.assert_allclose(temperature[5, 0], field(280), **PACKED)
    assert np.isnan(temperature[5, 1]).all() and np.isfinite(temperature[4]).all()
    np.testing.assert_allclose(
        found['geopotential_at_surface'], field(500), rtol=0, atol=1e-4
    )
    assert os.listdir(tmp_path) == ['era5.grib']


def test_files_of_grib_are_joined_as_others_are(tmp_path):
    for month in (1, 2):
        with open(tmp_path / f'{month}.grb2', 'wb') as file:
            keys = dict(dataDate=20200000 + 100 * month + 1)
            write(file, field(250 + month), 't', level=500, **keys)
    with open(tmp_path / 'surface', 'wb') as file:  # Known by its first bytes.
        for month in (1, 2):
            write(file, field(280), '2t', dataDate=20200000 + 100 * month + 1)
    found = store.open_store(tmp_path)
    np.testing.assert_allclose(found['temperature'][1, 0], field(252), **PACKED)
    np.testing.assert_allclose(found['2m_temperature'][0], field(280), **PACKED)
    assert len(os.listdir(tmp_path)) == 3


def test_names_of_the_national_centres_become_ours(tmp_path):
    """GFS has t on many kinds of levels, heights in gpm, and winds at 10 m by level."""
    with open(tmp_path / 'gfs.grib2', 'wb') as file:
        for level in (500, 850):
            write(file, field(5500), 'gh', level=level)
            write(file, field(250), 't', level=level)
        above = dict(typeOfLevel='heightAboveGround')
        write(file, field(5), '10u', **above)
        write(file, field(281), '2t', **above)
        for height in (80, 100):
            write(file, field(279), 't', typeOfLevel='heightAboveGround', level=height)
        write(file, field(215), 't', typeOfLevel='tropopause')
    found = store.open_dataset(tmp_path / 'gfs.grib2', what='truth')
    np.testing.assert_allclose(
        found['geopotential'][0, 0], GRAVITY * field(5500), rtol=0, atol=1e-2
    )
    np.testing.assert_allclose(found['temperature'][0, 1], field(250), **PACKED)
    np.testing.assert_allclose(found['10m_u_component_of_wind'][0], field(5), **PACKED)
    np.testing.assert_allclose(found['2m_temperature'][0], field(281), **PACKED)


def test_missing_values_are_missing(tmp_path):
    water = field(290)
    water[1, 3:5] = np.nan
    with open(tmp_path / 'sst.grib', 'wb') as file:
        write(file, water, 'sst', paramId=34)
    found = store.open_dataset(tmp_path / 'sst.grib', what='truth')
    np.testing.assert_allclose(found['sea_surface_temperature'][0], water, **PACKED)


def test_one_lead_time_is_read_at_the_time_at_which_it_is_valid(tmp_path):
    with open(tmp_path / 'flux.grib', 'wb') as file:
        for start in (600, 1800):
            write(file, field(285), '2t', dataTime=start, step=3)
    found = store.open_dataset(tmp_path / 'flux.grib', what='truth')
    hours = found['time'].values.astype('datetime64[h]').astype(str).tolist()
    assert hours == ['2020-01-01T09', '2020-01-01T21']


def test_a_forecast_keeps_its_lead_times(tmp_path):
    with open(tmp_path / 'forecast.grib', 'wb') as file:
        for day in (20200101, 20200102):
            for step in (6, 12, 18):
                values = field(280 + step + day % 10)
                write(file, values, '2t', dataDate=day, step=step)
    found = store.open_dataset(tmp_path / 'forecast.grib', what='forecast')
    hours = found['prediction_timedelta'].values / np.timedelta64(1, 'h')
    assert hours.tolist() == [6, 12, 18]
    np.testing.assert_allclose(
        found['2m_temperature'].isel(time=1, prediction_timedelta=2),
        field(300),
        **PACKED,
    )


def test_many_threads_read_what_one_reads(tmp_path):
    path = write_era5(tmp_path / 'era5.grib')
    found = store.open_dataset(path, what='truth')['geopotential']
    alone = found.values
    places = np.random.default_rng(0).integers(0, 8, 200)
    with futures.ThreadPoolExecutor(8) as threads:
        read = list(threads.map(lambda place: found[int(place)].values, places))
    np.testing.assert_array_equal(np.stack(read), alone[places])


def test_damaged_and_absent_files_are_named(tmp_path):
    (tmp_path / 'a.grib').write_bytes(b'GRIB and nothing more')
    with pytest.raises(ValueError, match='a.grib'):
        store.open_store(tmp_path / 'a.grib')
    (tmp_path / 'empty.grib').write_bytes(b'')
    with pytest.raises(ValueError, match='empty.grib'):
        store.open_store(tmp_path / 'empty.grib')
    with pytest.raises(FileNotFoundError, match='GRIB file at .*b.grib, found nothing'):
        store.open_store(tmp_path / 'b.grib')
    with pytest.raises(ValueError, match='on a local disk, got gs://a/b.grib2; copy'):
        store.open_store('gs://a/b.grib2')


def test_a_truncated_file_is_no_silent_loss(tmp_path):
    path = write_era5(tmp_path / 'era5.grib')
    size = os.path.getsize(path)
    os.truncate(path, size - 40)
    with pytest.raises(ValueError, match='era5.grib, cannot read it: Premature'):
        store.open_store(path)


def test_without_the_packages_the_extra_is_named(tmp_path, monkeypatch):
    path = write_era5(tmp_path / 'era5.grib')
    monkeypatch.setitem(sys.modules, 'cfgrib', None)
    with pytest.raises(ValueError, match=r"cfgrib and eccodes .*'spherecast\[grib\]'"):
        store.open_store(path)


def write_rain(path, **keys):
    """Rain of two days from 8 UTC, hour by hour: forecasts from 06 and 18 UTC.

    So is ERA5's archive. Temperature every six hours beside it.
    """
    starts = [(day, start) for day in (1, 2) for start in (6, 18)]
    with open(path, 'wb') as file:
        for (day, start), step in itertools.product(starts, range(1, 13)):
            hour = 24 * (day - 1) + start + step
            if 8 <= hour < 48:
                when = dict(dataDate=20200100 + day, dataTime=100 * start, step=step)
                rain = (1 + field(hour)) / 1000
                write(file, rain, 'tp', edition=1, **when, **keys)
        for hour in range(0, 48, 6):
            when = dict(dataDate=20200101 + hour // 24, dataTime=100 * (hour % 24))
            write(file, field(280), '2t', edition=1, **when)
    return path


def test_hours_of_rain_in_era5_stand_at_their_hour(tmp_path):
    found = store.open_dataset(
        write_rain(tmp_path / 'rain.grib', **{'class': 'ea'}), what='atmosphere'
    )
    rain = found['total_precipitation']
    start = np.datetime64('2020-01-01', 'ns')
    hours = (found['time'].values - start) / np.timedelta64(1, 'h')
    assert hours.tolist() == [0, 6, *range(8, 48)]
    assert np.isnan(rain[:2]).all()
    for place in (2, 10, 11, 12, 41):  # 8 h, and on both sides of 18 h: the next start.
        expected = (1 + field(hours[place])) / 1000
        np.testing.assert_allclose(rain[place], expected, rtol=0, atol=2e-3 / 2**16)
    np.testing.assert_array_equal(rain[[12, 3, 40]], rain.values[[12, 3, 40]])


def test_rain_since_the_start_of_a_forecast_is_not_taken_for_hours(tmp_path):
    path = write_rain(tmp_path / 'rain.grib', **{'class': 'od'})
    found = store.open_dataset(path, what='atmosphere')
    assert found.sizes['time'] == 8 and 'total_precipitation' not in found
    assert 'axis of lead times' in store.refused(found)['total_precipitation']


def test_two_messages_of_one_field_have_to_agree(tmp_path, caplog):
    with open(tmp_path / 'a.grib', 'wb') as file:
        for value in (280, 280):
            write(file, field(value), '2t')
        for value in (1e5, 1e5 + 1):
            write(file, field(value), 'msl')
    found = store.open_dataset(tmp_path / 'a.grib', what='truth')
    assert list(found) == ['2m_temperature']
    assert 'msl is left out of' in caplog.text


def test_levels_in_pascal_and_in_hectopascal_are_one_axis(tmp_path):
    with open(tmp_path / 'a.grib2', 'wb') as file:
        for kind, level in (
            ('isobaricInPa', 40), ('isobaricInhPa', 500), ('isobaricInhPa', 1)
        ):  # fmt: skip
            write(file, field(200 + level / 10), 't', typeOfLevel=kind, level=level)
    found = store.open_dataset(tmp_path / 'a.grib2', what='truth')['temperature']
    assert found['level'].values.tolist() == [0.4, 1, 500]
    np.testing.assert_allclose(found[0, 0], field(204), **PACKED)
    np.testing.assert_allclose(found[0, 2], field(250), **PACKED)


def test_the_index_of_a_large_file_is_made_once(tmp_path, monkeypatch):
    (tmp_path / 'data').mkdir()
    monkeypatch.setenv('SPHERECAST_PREPARATION', str(tmp_path / 'cache'))
    path = write_era5(tmp_path / 'data' / 'era5.grib')
    store.open_store(path, levels=LEVELS)
    assert not (tmp_path / 'cache').exists()  # It is small.
    monkeypatch.setattr(grib, '_LARGE', 1)
    before = store.open_store(path, levels=LEVELS)
    (index,) = (tmp_path / 'cache' / 'grib').iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(messages.FileIndex, 'from_fieldset', None)  # Nobody makes one.
        again = store.open_store(path, levels=LEVELS)
    np.testing.assert_array_equal(again['temperature'], before['temperature'])
    # Another file in its place has another index, and a damaged one is not believed.
    index.write_bytes(b'half an index')
    np.testing.assert_array_equal(
        store.open_store(path, levels=LEVELS)['temperature'], before['temperature']
    )
    with open(path, 'ab') as file:
        write(file, field(101), 'sp')
    assert 'surface_pressure' in store.open_dataset(path, what='truth')
    assert len(list((tmp_path / 'cache' / 'grib').iterdir())) == 2
    assert os.listdir(tmp_path / 'data') == ['era5.grib']
