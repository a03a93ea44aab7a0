"""Axes under any name, order and unit come out in one canonical form, or not at all."""

import cftime
import numpy as np
import pytest
import xarray as xr

from sphere_ops.grid import LatLonGrid
from weather.data import store
from weather.data.axes import canonical_names
from weather.data.times import decode_lead_times, decode_times

# float32 beside winds of some tens of metres per second.
ROUND_OFF = dict(rtol=0, atol=1e-5)


def solid_body_rotation(latitudes, longitudes, *, axis_tilt=0.5, speed=30.0):
    """Wind of a sphere that turns about an axis tilted towards Greenwich."""
    latitude = np.radians(np.asarray(latitudes))[:, None]
    longitude = np.radians(np.asarray(longitudes))
    east = np.cos(axis_tilt) * np.cos(latitude) - np.sin(axis_tilt) * np.sin(
        latitude
    ) * np.cos(longitude)
    north = np.sin(axis_tilt) * np.sin(longitude) + 0 * latitude
    dims = ('time', 'level', 'latitude', 'longitude')
    shape = (3, 2, latitude.size, longitude.size)
    return xr.Dataset(
        {
            name: (dims, np.broadcast_to(speed * wind, shape).astype(np.float32))
            for name, wind in (
                ('u_component_of_wind', east),
                ('v_component_of_wind', north),
            )
        },
        coords={
            'time': np.datetime64('2000-01-01', 'ns')
            + np.arange(3) * np.timedelta64(6, 'h'),
            'level': [500, 850],
            'latitude': latitudes,
            'longitude': longitudes,
        },
    )


GRID = LatLonGrid('equiangular_with_poles', num_lat=9, num_lon=12)
ON_DISK = {
    'canonical': (GRID.latitudes, GRID.longitudes),
    'south first': (GRID.latitudes[::-1], GRID.longitudes),
    'from the date line': (GRID.latitudes, GRID.longitudes - 180),
    'westward': (GRID.latitudes, GRID.longitudes[::-1]),
    'south first from the date line': (GRID.latitudes[::-1], GRID.longitudes - 180),
    'a last column that repeats the first': (
        GRID.latitudes, np.append(GRID.longitudes, 360.0),
    ),
    'in no order': (np.roll(GRID.latitudes, 3), np.roll(GRID.longitudes, 5)),
}  # fmt: skip


@pytest.mark.parametrize('order', ON_DISK)
def test_solid_body_rotation_has_one_orientation_through_both_ends(order, tmp_path):
    """A row flip that forgot the field would turn the vorticity's sign."""
    expected = solid_body_rotation(GRID.latitudes, GRID.longitudes)
    stored = solid_body_rotation(*ON_DISK[order])
    stored.to_zarr(tmp_path / 'a.zarr', zarr_format=2)
    training = store.open_store(tmp_path / 'a.zarr', grid=GRID)
    scoring = store.open_dataset(tmp_path / 'a.zarr', what='truth')
    memory = store.open_dataset(stored, what='truth')
    for opened in (training, scoring, memory):
        assert opened['latitude'].values.tolist() == GRID.latitudes.tolist()
        assert opened['longitude'].values.tolist() == GRID.longitudes.tolist()
        for name in expected:
            np.testing.assert_allclose(opened[name], expected[name], **ROUND_OFF)


def with_level(values, **attributes):
    return lambda d: d.assign_coords(level=('level', values, attributes))


LEVELS = {
    'hPa': (with_level([850.0, 500.0], units='hPa'), [500, 850]),
    'nothing said': (with_level([850, 500]), [500, 850]),
    'millibars': (with_level([850, 500], units='millibars'), [500, 850]),
    'Pa': (with_level([85000, 50000], units='Pa'), [500, 850]),
    'Pa, by their size': (with_level([85000.0, 50000.0]), [500, 850]),
    'plev': (lambda d: with_level([1000.0, 10.0])(d).rename(level='plev'), [0.1, 10]),
    'fractional': (with_level([0.4, 12.5]), [0.4, 12.5]),
    'fractional in float32': (with_level(np.float32([700, 0.4])), [0.4, 700]),
    'fractional in Pa': (with_level([40.0, 85000.0], units='Pa'), [0.4, 850]),
}


@pytest.mark.parametrize('case', LEVELS)
def test_levels_are_hectopascals_ascending(case):
    change, expected = LEVELS[case]
    opened = store.open_dataset(
        change(solid_body_rotation(GRID.latitudes, GRID.longitudes)), what='truth'
    )
    assert opened['level'].values.tolist() == expected
    whole = all(isinstance(level, int) for level in expected)
    assert opened['level'].dtype.kind == ('i' if whole else 'f')


def test_fractional_levels_are_opened_by_their_value():
    dataset = with_level([12.5, 700.0])(
        solid_body_rotation(GRID.latitudes, GRID.longitudes)
    )
    dataset['u_component_of_wind'][:, 0] *= 2
    both = {'u_component_of_wind': (12.5,), 'v_component_of_wind': (700.0,)}
    atmosphere = store.open_atmosphere(dataset, levels=both)
    assert atmosphere.levels == {
        'u_component_of_wind': (12.5,), 'v_component_of_wind': (700,),
    }  # fmt: skip
    np.testing.assert_array_equal(
        atmosphere.dataset['u_component_of_wind'].sel(level=12.5),
        dataset['u_component_of_wind'].sel(level=12.5),
    )
    with pytest.raises(ValueError, match=r'lacks \(12,\); it has \(12.5, 700.0\)'):
        store.open_store(dataset, levels={'u_component_of_wind': (12,)})
    with pytest.raises(ValueError, match=r'it has \(12.5, 700.0\) \(.* in hPa here\)'):
        store.open_store(dataset, levels={'u_component_of_wind': (70000,)})


BAD_LEVELS = {
    'no coordinate': (
        lambda d: d.drop_vars('level'),
        "coordinate 'level' .*found none",
    ),
    'repeated': (
        with_level([500, 500]),
        r"each level once, .* twice, 500, .*ds.drop_duplicates\('level'\)",
    ),
    'heights': (with_level([10, 50], units='m'), "levels in hPa, found level in 'm'"),
    'not positive': (with_level([0, 500]), 'between 0 and 1100 hPa'),
    'hPa that are Pa': (with_level([5e4, 8e4], units='hPa'), 'between 0 and 1100 hPa'),
    'missing': (with_level([np.nan, 500]), 'between 0 and 1100 hPa'),
    'names': (with_level(['a', 'b']), 'expected numbers in level'),
}


@pytest.mark.parametrize('case', BAD_LEVELS)
def test_other_levels_are_refused(case):
    change, message = BAD_LEVELS[case]
    dataset = change(solid_body_rotation(GRID.latitudes, GRID.longitudes))
    with pytest.raises(ValueError, match=message):
        store.open_dataset(dataset, what='truth')


def test_an_axis_that_means_the_same_as_another_keeps_its_name():
    assert canonical_names({'time', 'valid_time', 'lat'}) == {
        'time': 'time', 'valid_time': 'valid_time', 'lat': 'latitude',
    }  # fmt: skip


def test_a_limited_area_is_read_for_scores_and_refused_for_a_model():
    area = solid_body_rotation(np.arange(60, 29, -5.0), np.arange(-20, 41, 5.0))
    opened = store.open_dataset(area, what='truth')
    assert opened['longitude'].values.tolist() == [
        *np.arange(0, 41, 5), *np.arange(340, 360, 5),
    ]  # fmt: skip
    np.testing.assert_array_equal(
        opened['u_component_of_wind'].sel(longitude=340),
        area['u_component_of_wind'].sel(longitude=-20),
    )
    with pytest.raises(ValueError, match='limited area, latitude 30 to 60'):
        store.open_store(area)


# Rows and columns on disk; what `open_store` says.
OTHER_GRIDS = {
    'cells of one degree': (
        np.arange(89.5, -90, -1.0), np.arange(0.5, 360, 1.0), 'got 0.5 to 359.5',
    ),
    'Gauss, half a cell to the east': (
        LatLonGrid('gauss', num_lat=12, num_lon=24).latitudes,
        np.arange(7.5, 360, 15.0), 'got 7.5 to 352.5',
    ),
    'half a cell, from the date line': (
        np.arange(-85, 90, 10.0), np.arange(-175, 180, 10.0), 'got 5 to 355',
    ),
    'without the south pole': (
        np.arange(90, -89, -10.0), np.arange(0, 360, 10.0),
        'only the row at the south pole is missing',
    ),
    'without the north pole, south first': (
        np.arange(-90, 85, 10.0), np.arange(0, 360, 10.0),
        'only the row at the north pole is missing',
    ),
    'rows between those of other variables': (
        np.arange(85, -90, -10.0) + 2.5, np.arange(0, 360, 10.0), 'largest difference',
    ),
}  # fmt: skip


@pytest.mark.parametrize('case', OTHER_GRIDS)
def test_other_global_grids_are_read_where_they_lie_and_refused_for_a_model(case):
    latitude, longitude, message = OTHER_GRIDS[case]
    stored = solid_body_rotation(latitude, longitude.astype(np.float32))
    opened = store.open_dataset(stored, what='atmosphere')
    np.testing.assert_array_equal(opened['latitude'], np.sort(latitude)[::-1])
    # Not moved to a grid that it is not.
    np.testing.assert_allclose(opened['longitude'], np.sort(longitude % 360), 0, 1e-5)
    expected = solid_body_rotation(opened['latitude'], opened['longitude'])
    for name in expected:
        np.testing.assert_allclose(opened[name], expected[name], **ROUND_OFF)
    with pytest.raises(ValueError, match=f'{message}.*scripts/prepare_data.py'):
        store.open_store(stored)
    with pytest.raises(ValueError, match='expected LatLonGrid.*scripts/prepare_data'):
        store.open_store(stored, grid=GRID)


def test_another_grid_than_the_config_s_is_to_be_prepared():
    stored = solid_body_rotation(GRID.latitudes, GRID.longitudes[::2])
    with pytest.raises(ValueError, match='set config.grid to .*or prepare it with'):
        store.open_store(stored, grid=GRID)


@pytest.mark.parametrize('name', ['latitude', 'longitude'])
def test_rows_and_columns_that_repeat_are_refused(name):
    dataset = solid_body_rotation(GRID.latitudes, GRID.longitudes)
    repeated = dataset.isel({name: [0, 1, 1, 2]})
    with pytest.raises(ValueError, match=f'each {name} once'):
        store.open_dataset(repeated, what='truth')


HOURS = {'units': 'hours since 2000-01-01'}


def test_times_are_rounded_to_the_second():
    # 6 h counted in days and back: 05:59:59.999999, in float32 seconds off.
    days = np.array([0.25 - 1e-11, 0.5 + 1e-11, 0.75])
    times = decode_times(days, {'units': 'days since 2000-01-01'}, 'a store')
    hours = [np.datetime64(f'2000-01-01T{h:02}', 'ns') for h in (6, 12, 18)]
    assert times.dtype == 'datetime64[ns]' and times.tolist() == [
        t.astype(int) for t in hours
    ]
    before = np.array([-6.0 - 1e-9])
    assert decode_times(before, HOURS, 's')[0] == np.datetime64('1999-12-31T18', 'ns')
    leads = decode_lead_times(np.array([5.9999999999]), {'units': 'hours'}, 's')
    assert leads[0] == np.timedelta64(6, 'h')


@pytest.mark.parametrize('calendar', ['noleap', '360_day', 'julian', 'all_leap'])
def test_other_calendars_are_named(calendar):
    encoded = (np.array([0.0, 6.0]), {**HOURS, 'calendar': calendar})
    decoded = (np.array([cftime.datetime(2000, 1, 1, calendar=calendar)]), {})
    for stored, attributes in (encoded, decoded):
        with pytest.raises(ValueError, match=f"found the calendar '{calendar}' in a"):
            decode_times(stored, attributes, 'a store')


def test_decoded_times_of_the_standard_calendar_are_read():
    times = np.array([cftime.datetime(2000, 1, 1, 5, 59, 59, 999999)])
    assert decode_times(times, {}, 's')[0] == np.datetime64('2000-01-01T06', 'ns')


BAD_TIMES = {
    'no units': (np.arange(3), {}, 'expected times with units such as'),
    'missing': (np.array([0.0, np.nan]), HOURS, 'found 1 missing'),
    'units of nothing': (
        np.arange(3),
        {'units': 'moons since 2000-01-01'},
        'time in a',
    ),
    'beyond any calendar': (np.array([1e300]), HOURS, 'time'),
    'text': (np.array(['a', 'b']), {}, 'expected times with units'),
}


@pytest.mark.parametrize('case', BAD_TIMES)
def test_other_times_are_refused(case):
    stored, attributes, message = BAD_TIMES[case]
    with pytest.raises(ValueError, match=message):
        decode_times(stored, attributes, 'a store')


def test_one_member_beside_the_fields_is_no_axis():
    dataset = solid_body_rotation(GRID.latitudes, GRID.longitudes)
    one = dataset.expand_dims(number=[3])
    assert 'member' not in store.open_dataset(one, what='truth').dims
    assert 'member' not in store.open_store(one).dims
    two = dataset.expand_dims(realization=[3, 4])
    assert store.open_dataset(two, what='truth')['member'].values.tolist() == [3, 4]
