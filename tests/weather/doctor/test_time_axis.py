"""Each thing that can be wrong with an axis of times, and nothing beside it."""

import numpy as np
import pytest

from weather.doctor.time_axis import gaps, time_faults

START = np.datetime64('2020-01-01', 'ns')


def axis(*hours):
    return START + np.array(hours) * np.timedelta64(1, 'h')


def found(faults):
    hours = ((fault.time - START) / np.timedelta64(1, 'h') for fault in faults)
    return [(fault.fault, hour) for fault, hour in zip(faults, hours, strict=True)]


@pytest.mark.parametrize('hours', [(), (0,), (0, 6), (0, 5, 10), range(0, 99, 6)])
def test_an_even_axis_has_no_fault(hours):
    assert time_faults(axis(*hours)) == gaps(axis(*hours)) == []


def test_times_that_stand_there_twice_are_counted():
    (fault,) = time_faults(axis(0, 6, 12, 12, 12, 18))
    assert (fault.fault, fault.detail) == ('doubled time', '3 times on the axis')
    assert fault.time == axis(12)[0]


def test_times_out_of_order_name_the_later_one():
    assert found(time_faults(axis(0, 6, 18, 12, 24, 30))) == [('decreasing time', 12)]


def test_one_uneven_time_does_not_make_its_neighbours_uneven():
    faults = time_faults(axis(0, 6, 12, 19, 24, 30, 36))
    assert found(faults) == [('uneven time', 19)]
    assert faults[0].detail == '1 h after a multiple of the step of 6 h'
    # At the beginning too, from where the others are counted.
    assert found(time_faults(axis(1, 6, 12, 18, 24))) == [('uneven time', 1)]


def test_a_gap_says_how_many_times_are_missing():
    times = axis(0, 6, 12, 30, 36, 48, 54)
    assert found(gaps(times)) == [('gap', 12), ('gap', 36)]
    details = [fault.detail for fault in gaps(times)]
    assert details[0] == '2 times are missing before 2020-01-02T06:00:00'
    assert details[1].startswith('1 times')


def test_a_gap_between_periods_is_none():
    times = axis(*range(0, 48, 6), *range(96, 120, 6), *range(126, 144, 6))
    periods = [('2020-01-01', '2020-01-02'), ('2020-01-05', '2020-01-06T18')]
    assert found(gaps(times)) == [('gap', 42), ('gap', 114)]
    assert found(gaps(times, periods)) == [('gap', 114)]
