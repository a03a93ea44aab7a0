"""Where values are found, and at which times."""

import numpy as np
import pytest

from tests.weather.building import made
from weather.building import reading

RADIATION = 'toa_incident_solar_radiation'
SIX_HOURS = np.timedelta64(6, 'h')


def source(times, names=(*made.UPPER, *made.SURFACE), **attributes) -> reading.Source:
    dataset = made.dataset(times, names).assign_attrs(attributes)
    return reading.Source('a source', dataset)


def choose(setup, *sources) -> reading.Times:
    found = reading.locate(sources, setup.data.stored.levels, setup.data.statics)
    return reading.choose_times(setup, sources, found)


def test_hours_are_counted_from_midnight_whenever_the_source_begins():
    late = source(made.hours(100, start=made.START + 5 * made.HOUR))
    times = choose(made.experiment(), late)
    assert times.chosen[0] == made.START + SIX_HOURS
    assert times.step == SIX_HOURS
    # 00 UTC of the first day; the test period, hours 96 to 119, has two of its four.
    assert times.left_out == {'train': 1, 'validation': 0, 'test': 2}


@pytest.mark.parametrize(('every', 'found'), [(24, 24), (12, 12), (4, 12)])
def test_a_step_that_the_source_has_not_is_refused(every, found):
    setup = made.experiment(data={'variables': {'temperature': made.LEVELS}})
    with pytest.raises(ValueError, match=f'every 6 h .*, found them every {found} h'):
        choose(setup, source(made.hours(60, every)))


def test_without_a_step_it_is_that_of_the_source():
    times = choose(
        made.experiment(prepare={'timestep_hours': 0}), source(made.hours(30))
    )
    assert times.step == made.HOUR and times.chosen.size == 30


def test_a_time_axis_longer_than_its_data_ends_with_them():
    # As ARCO-ERA5's, whose end is an attribute.
    long = source(made.hours(121), valid_time_stop='2001-01-02')
    times = choose(made.experiment(), long)
    assert times.chosen[-1] == np.datetime64('2001-01-02T18')
    assert times.left_out['validation'] == times.left_out['test'] == 4


def test_times_are_those_that_all_variables_have():
    one = source(made.hours(60), ('temperature', 'geopotential'))
    other = source(
        made.hours(60, start=made.START + 12 * made.HOUR), (*made.UPPER[2:], RADIATION)
    )
    times = choose(made.experiment(), one, other)
    assert times.chosen[0] == made.START + 12 * made.HOUR
    assert times.chosen[-1] == made.START + 54 * made.HOUR


def test_the_first_source_that_has_a_time_counts():
    early, late = source(made.hours(12)), source(made.hours(24))
    found = reading.find_places(
        'temperature', [early, late], (0, 1), made.hours(4, 6), SIX_HOURS
    )
    np.testing.assert_array_equal(found.source, [0, 0, 1, 1])
    np.testing.assert_array_equal(found.positions[:, 0], [0, 6, 12, 18])


def test_sums_are_over_the_hours_up_to_their_time():
    found = reading.find_places(
        RADIATION, [source(made.hours(24))], (0,), made.hours(3, 6), SIX_HOURS
    )
    np.testing.assert_array_equal(found.source, [-1, 0, 0])
    np.testing.assert_array_equal(found.positions[1], np.arange(1, 7))


def test_a_step_that_is_no_multiple_of_the_source_is_refused_for_sums():
    four_hourly = source(made.hours(24, 4))
    with pytest.raises(ValueError, match='one value every 4 h'):
        reading.find_places(
            RADIATION, [four_hourly], (0,), made.hours(3, 12), SIX_HOURS
        )


def test_a_variable_without_time_or_with_other_axes_is_refused():
    fixed = source(made.hours(3))
    frozen = fixed.dataset.assign(temperature=fixed.dataset.temperature[0])
    with pytest.raises(ValueError, match='expected a time axis in temperature'):
        reading.locate([reading.Source('s', frozen)], {'temperature': (500,)}, ())
    with pytest.raises(ValueError, match='temperature with no level axis'):
        reading.locate([fixed], {'temperature': ()}, ())
    with pytest.raises(ValueError, match="'land_sea_mask' in one of the sources"):
        bare = reading.Source('s', made.dataset(made.hours(3), statics=False))
        reading.locate([bare], {}, ('land_sea_mask',))


def test_a_date_counts_to_its_end():
    first, beyond = reading.period_bounds(('2001', '2001-01-31'))
    assert first == np.datetime64('2001-01-01') and beyond == np.datetime64(
        '2001-02-01'
    )
