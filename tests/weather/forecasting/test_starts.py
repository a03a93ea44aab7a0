"""Starts and lead times are understood, or refused with the form that is expected."""

import datetime

import numpy as np
import pytest

from tests.weather import tiny
from weather.data.store import open_atmosphere
from weather.forecasting import starts

SIX_HOURS = np.timedelta64(6, 'h')
LEVELS = {'temperature': tiny.LEVELS}


@pytest.fixture(scope='module')
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp('starts') / 'tiny.zarr'
    tiny.write_store(path)
    return open_atmosphere(path, levels=LEVELS)


def with_nan(store, times):
    dataset = store.dataset.copy(deep=True).load()
    dataset.temperature.loc[dict(time=times, level=850)] = np.nan
    return type(store)(**{**vars(store), 'dataset': dataset})


@pytest.mark.parametrize(
    'text',
    [
        '2001-01-09T06',
        '2001-01-09T06:00',
        '2001-01-09T06:00:00',
        '2001-01-09T06:00:00.000000000',
        '2001-01-09 06',
        ' 2001-01-09 06:00 ',
        '2001-01-09T06Z',
        '2001-01-09t06:00z',
        '2001-01-09T08:00+02:00',
        '2001-01-09T04:00:00-0200',
        np.datetime64('2001-01-09T06'),
        datetime.datetime(2001, 1, 9, 6),
    ],
)
def test_all_spellings_of_one_time_are_that_time(store, text):
    np.testing.assert_array_equal(
        starts.read_times([text], store), np.array(['2001-01-09T06'], 'datetime64[ns]')
    )


def test_a_date_is_its_midnight_and_starts_are_sorted(store):
    np.testing.assert_array_equal(
        starts.read_times(['2001-01-09', '2001-01-08'], store),
        np.array(['2001-01-08T00', '2001-01-09T00'], 'datetime64[ns]'),
    )


@pytest.mark.parametrize(
    'text',
    [
        '2001010906',
        '20010109T06',
        '09.01.2001',
        '09/01/2001',
        '2001-01',
        '2001-02-30',
        '2001-01-09T25',
        '2001-W02-2',
        'tomorrow',
        '',
    ],
)
def test_other_forms_are_refused_with_the_one_expected(store, text):
    with pytest.raises(
        ValueError, match='ISO 8601, e.g. 2003-01-10T00, or latest; got'
    ):
        starts.read_times(['2001-01-09', text], store)


@pytest.mark.parametrize(
    ('texts', 'message'),
    [
        ([], 'at least one start, got none; say --init_times='),
        (['2001-01-09', '2001-01-09T00Z'], 'got 2001-01-09T00:00 2 times'),
        (['2001-01-09', '2030-01-01'], r'\(2001-01-01T00:00 to .*got 2030-01-01T00:00'),
        (['2001-01-09T03'], 'got 2001-01-09T03:00'),
    ],
)
def test_no_repeated_and_absent_starts_are_refused(store, texts, message):
    with pytest.raises(ValueError, match=message):
        starts.read_times(texts, store)


def test_latest_is_the_newest_time_without_nan(store):
    newest = store.times[-1]
    assert starts.read_times(['latest'], store) == newest
    broken = with_nan(store, store.times[-2:])
    assert starts.read_times(['latest'], broken) == store.times[-3]
    with pytest.raises(ValueError, match='found NaN at all'):
        starts.read_times(['latest'], with_nan(store, store.times))


@pytest.mark.parametrize('lead_hours', [12, 12.0, '12'])
def test_lead_hours_are_all_steps_up_to_them(lead_hours):
    np.testing.assert_array_equal(
        starts.read_lead_hours(lead_hours, timestep=SIX_HOURS),
        np.array([6, 12], 'timedelta64[h]'),
    )


def test_lead_hours_may_be_fractions_where_the_step_is():
    half = np.timedelta64(30, 'm')
    found = starts.read_lead_hours('1.5', timestep=half)
    np.testing.assert_array_equal(found, np.array([30, 60, 90], 'timedelta64[m]'))


@pytest.mark.parametrize('text', ['7', '0', '-6', '6.5', '24h', 'nan', 'inf', ''])
def test_lead_hours_that_are_no_steps_are_refused(text):
    with pytest.raises(
        ValueError, match=f'the model step, 6 h, such as 24, got {text}'
    ):
        starts.read_lead_hours(text, timestep=SIX_HOURS)


def default(store, period, longest=24):
    return starts.default_times(
        store, period, every=SIX_HOURS, longest=np.timedelta64(longest, 'h')
    )


def test_a_store_of_one_time_has_one_start(store):
    newest = store.dataset.isel(time=[-1])
    only = type(store)(**{**vars(store), 'dataset': newest})
    assert default(only, ('1999-01-01', '1999-12-31')) == store.times[-1]


@pytest.mark.parametrize('period', [('1999-01-01', '1999-12-31'), ('2001-01-10',) * 2])
def test_a_period_that_the_store_lacks_says_how_to_name_starts(store, period):
    with pytest.raises(ValueError, match='longer than 24 h.*--init_times=latest'):
        default(store, period)


def test_starts_with_nan_are_left_out_unless_all_are(store):
    two = store.times[:2]
    broken = with_nan(store, two[:1])
    np.testing.assert_array_equal(starts.without_invalid(two, broken), two[1:])
    with pytest.raises(ValueError, match='NaN in .* at all 1 starts'):
        starts.without_invalid(two[:1], broken)
