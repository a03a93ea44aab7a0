"""A window is valid times one step apart, all of them within its period."""

import logging

import numpy as np
import pytest

from weather.data import store, windows
from weather.data.windows import WindowIndex, model_step

HOUR = np.timedelta64(1, 'h')
MINUTE = np.timedelta64(1, 'm')
START = np.datetime64('2000-01-01T00', 'ns')


def every_six_hours(*numbers):
    return START + np.array(360 * np.array(numbers), int) * MINUTE


def test_windows_start_wherever_their_last_time_is_within_the_period():
    index = WindowIndex(
        every_six_hours(*range(20)), period=('2000-01-02', '2000-01-03')
    )
    assert index.starts(0).tolist() == [4, 5, 6, 7, 8, 9, 10, 11]
    assert index.starts(3).tolist() == [4, 5, 6, 7, 8]
    assert index.starts(7).tolist() == [4]


@pytest.mark.parametrize(
    'period, first, last',
    [
        (('2000-01-01', '2000-01-01'), 0, 3),
        (('2000-01-01T06', '2000-01-01T12'), 1, 2),
        (('2000-01-01T06:00:00', '2000-01-01T17:59:59'), 1, 2),
        (('2000-01', '2000-01'), 0, 19),
        (('1999', '2000'), 0, 19),
    ],
)
def test_a_period_includes_all_of_its_last_entry(period, first, last):
    index = WindowIndex(every_six_hours(*range(20)), period=period)
    assert index.starts(0).tolist() == list(range(first, last + 1))


def test_windows_that_cross_a_gap_or_touch_nan_are_left_out_and_counted(caplog):
    times = every_six_hours(0, 1, 2, 3, 6, 7, 8, 9, 10, 11)
    with caplog.at_level(logging.INFO, logger='weather'):
        index = WindowIndex(
            times, period=('2000', '2000'), invalid=every_six_hours(10, 999)
        )
        assert index.starts(2).tolist() == [0, 1, 4, 5]
    assert '4 windows of 2 steps among 10 times' in caplog.text
    assert '2 across gaps, 2 with invalid (NaN) times' in caplog.text


@pytest.mark.parametrize('num_steps', [0, 1, 2, 5])
def test_windows_are_those_of_the_slow_definition(num_steps):
    rng = np.random.default_rng(0)
    times = every_six_hours(*np.flatnonzero(rng.random(200) < 0.9))
    invalid = times[rng.random(times.size) < 0.05]
    index = WindowIndex(times, period=('2000', '2000'), invalid=invalid)
    slow = [
        start
        for start in range(times.size - num_steps)
        if all(
            times[start + i] == times[start] + 6 * i * HOUR
            and times[start + i] not in invalid
            for i in range(num_steps + 1)
        )
    ]
    assert index.starts(num_steps).tolist() == slow


@pytest.mark.parametrize('stride', [1, 2, 4])
@pytest.mark.parametrize('num_steps', [0, 1, 3])
def test_windows_of_any_step_are_those_of_the_slow_definition(stride, num_steps):
    rng = np.random.default_rng(stride)
    times = every_six_hours(*np.flatnonzero(rng.random(150) < 0.9))
    invalid = times[rng.random(times.size) < 0.05]
    step = stride * 6 * HOUR
    index = WindowIndex(times, period=('2000', '2000'), invalid=invalid, timestep=step)
    known = set(times.tolist()) - set(invalid.tolist())
    slow = [
        [times.tolist().index(int(time + i * step)) for i in range(num_steps + 1)]
        for time in times
        if all(int(time + i * step) in known for i in range(num_steps + 1))
    ]
    starts = index.starts(num_steps)
    assert index.positions(starts, num_steps).tolist() == slow


def test_a_time_between_two_steps_may_be_missing_or_invalid():
    times = every_six_hours(0, 2, 3, 4, 5, 6)
    index = WindowIndex(
        times,
        period=('2000', '2000'),
        invalid=every_six_hours(5),
        timestep=12 * HOUR,
    )
    starts = index.starts(2)
    assert times[starts].tolist() == every_six_hours(0, 2).tolist()
    assert index.positions(starts, 2).tolist() == [[0, 1, 3], [1, 3, 5]]


def test_the_models_step_is_the_stores_or_a_multiple_of_it():
    times = every_six_hours(0, 1, 2, 3)
    for hours, expected in ((0, 6), (6, 6), (12, 12), (48, 48)):
        assert model_step(times, hours) == expected * HOUR
    assert model_step(every_six_hours(0, 0.25, 0.5), 4.5) == 270 * MINUTE


@pytest.mark.parametrize('hours', [3, 9, 6.5, 1e-3, 1e-9])
def test_a_step_that_the_store_cannot_give_is_refused_with_those_that_it_can(hours):
    with pytest.raises(ValueError, match=r'6 h \(0, or 6, 12, 18, 24, ...\), got'):
        model_step(every_six_hours(0, 1, 2), hours)


def test_too_short_a_period_says_what_is_needed_and_found():
    index = WindowIndex(
        every_six_hours(*range(20)), period=('2000-01-01', '2000-01-02')
    )
    with pytest.raises(
        ValueError, match='at least 10 consecutive valid times 6 h apart.*among 8 times'
    ):
        index.starts(9)


@pytest.mark.parametrize(
    'period, message',
    [
        (('2001', '2002'), 'the store covers 2000-01-01T00:00:00 to 2000-01-05T18'),
        (('2000-01-03', '2000-01-02'), 'end before start'),
        (('yesterday', 'today'), 'as ISO 8601 dates'),
    ],
)
def test_impossible_periods_are_refused(period, message):
    with pytest.raises(ValueError, match=message):
        WindowIndex(every_six_hours(*range(20)), period=period)


def test_a_negative_rollout_is_refused():
    index = WindowIndex(every_six_hours(*range(20)), period=('2000', '2000'))
    with pytest.raises(ValueError, match='num_steps >= 0, got -1'):
        index.starts(-1)


@pytest.mark.parametrize('block_bytes', [1, 2**25])
def test_invalid_times_are_those_with_a_hole_in_a_channel_in_use(
    coded_dataset, write_store, monkeypatch, block_bytes
):
    monkeypatch.setattr(windows, '_SCAN_BLOCK_BYTES', block_bytes)
    coded_dataset['temperature'][4, 2, 1, 1] = np.nan  # 850 hPa, in use
    coded_dataset['temperature'][5, 1, 1, 1] = np.nan  # 500 hPa, not in use
    coded_dataset['2m_temperature'][11, 0, 0] = np.inf
    levels = {'temperature': (850, 300), '2m_temperature': ()}
    opened = store.open_store(
        write_store(coded_dataset), levels={**levels, 'geopotential': (500,)}
    )
    found = windows.invalid_times(opened, levels)
    assert found.tolist() == opened['time'].values[[4, 11]].tolist()


def test_real_reanalysis_is_valid_where_it_has_levels(shared_data):
    opened = store.open_store(shared_data / 'ncep_r1_20220101_5d_73x144.zarr')
    levels = {'specific_humidity': (300, 1000), 'geopotential': (50,)}
    assert windows.invalid_times(opened, levels).size == 0
    assert windows.invalid_times(opened, {'specific_humidity': (50,)}).size == 5
