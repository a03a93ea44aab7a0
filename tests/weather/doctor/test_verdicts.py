"""What is a fault and what is weather, by numbers alone."""

import numpy as np
import pytest

from weather.data.checks import standard_geopotential
from weather.data.summary import DTYPES, Summary
from weather.doctor.scanning import Scanned
from weather.doctor.verdicts import Series, judge, plausible_values
from weather.variables import VARIABLES, Channel

TIMES = np.datetime64('2020-01-01', 'ns') + np.arange(60) * np.timedelta64(6, 'h')
STEP = np.timedelta64(6, 'h')


def scanned(change, mean=280.0):
    """Fields of one level that change by `change` (RMS) from time to time."""
    change = np.asarray(change, float)[:, None]
    columns = {name: np.zeros(change.shape, dtype) for name, dtype in DTYPES.items()}
    columns['mean'] += mean
    columns['minimum'] += np.float32(mean - 10)
    columns['maximum'] += np.float32(mean + 10)
    columns['variance'] += 25
    columns['tendency_variance'] = change**2
    columns['checksum'] = np.arange(len(change))
    return Scanned(Summary(**columns), np.zeros(change.shape, bool), {})


def series(name='temperature', levels=(850,), times=TIMES):
    return Series(name, levels, times, STEP, 100, True, False)


def jumps(change, times=TIMES):
    found = judge(series(times=times), scanned(change)).faults
    assert {fault.fault for fault in found} <= {'jump'}
    return [int((fault.time - times[0]) / STEP) for fault in found]


def usual(seed=0):
    """RMS changes of weather: a tenth up and down from time to time."""
    change = 2 * np.exp(0.1 * np.random.default_rng(seed).standard_normal(60))
    change[0] = np.nan
    return change


@pytest.mark.parametrize('seed', range(20))
def test_usual_changes_are_no_jump(seed):
    assert jumps(usual(seed)) == []


def test_a_change_there_and_back_is_a_jump():
    change = usual()
    change[20:22] = 9.0
    change[40:42] = 30.0
    assert jumps(change) == [20, 40]


def test_jumps_at_the_ends_are_seen_as_far_as_both_changes_are():
    change = usual()
    change[1:3] = 20.0
    change[58:60] = 20.0
    assert jumps(change) == [1, 58]


@pytest.mark.parametrize('length', [1, 3, 8])
def test_a_change_for_good_and_a_stormy_time_are_no_jump(length):
    change = usual()
    change[20 : 20 + length] = 12.0
    assert jumps(change) == []


def test_a_shock_that_dies_away_is_no_jump():
    change = usual() + 60 * np.exp(-np.arange(60) / 4)
    assert jumps(change) == []


def test_a_daily_cycle_of_changes_is_no_jump():
    change = usual()
    change[2::4] *= 3
    assert jumps(change) == []


def test_across_a_gap_a_large_change_is_none():
    times = TIMES + np.where(np.arange(60) >= 20, 8 * STEP, 0 * STEP)
    change = usual()
    change[20:22] = 30.0
    assert jumps(change, times) == []


def test_few_changes_show_no_jump():
    change = usual()[:10]
    change[4:6] = 50.0
    assert jumps(change, TIMES[:10]) == []


@pytest.mark.parametrize('name', VARIABLES)
@pytest.mark.parametrize('level', [None, 1, 50, 500, 850, 1000])
def test_a_plausible_range_holds_the_standard_atmosphere(name, level):
    low, high = plausible_values(Channel(name, level))
    assert low < high
    if name == 'geopotential' and level:
        standard = standard_geopotential(level)
        assert low < standard < high
        assert not low < standard / 9.80665 < high or level > 500
    if name == 'temperature':
        # Between the summer stratopause and the winter stratosphere: no Celsius.
        assert low < 180 and high > 310 and low > 60


def test_a_record_high_of_real_weather_is_plausible():
    # Vostok and Death Valley, a typhoon, the polar night jet, the 1 hPa stratopause.
    observed = {
        ('2m_temperature', None): (184.0, 329.9),
        ('mean_sea_level_pressure', None): (87000, 108380),
        ('10m_u_component_of_wind', None): (-85, 85),
        ('u_component_of_wind', 10): (-90, 160),
        ('temperature', 1): (200, 315),
        ('geopotential', 500): (9.8 * 4600, 9.8 * 6020),
        ('geopotential', 850): (9.8 * 400, 9.8 * 1750),
        ('geopotential', 1000): (-9.8 * 1100, 9.8 * 650),
    }
    for channel, (smallest, largest) in observed.items():
        low, high = plausible_values(Channel(*channel))
        assert low < smallest and largest < high, channel


@pytest.mark.parametrize(
    'name, is_fault',
    [
        ('temperature', True),
        ('vertical_velocity', False),
        ('specific_humidity', False),
        ('sea_ice_cover', False),
        ('total_precipitation_6hr', False),
        ('toa_incident_solar_radiation', False),
    ],
)
def test_zero_everywhere_is_a_fault_of_what_is_never_zero_alone(name, is_fault):
    found = scanned(usual(), mean=0.0)
    found.summary.minimum[7] = found.summary.maximum[7] = 0
    found.summary.minimum[:7] = found.summary.minimum[8:] = 0
    found.summary.maximum[:7] = found.summary.maximum[8:] = 0.01
    faults = judge(series(name, ()), found).faults
    kinds = {fault.fault for fault in faults if fault.time == TIMES[7]}
    assert ('constant' in kinds) == is_fault
    if not is_fault:
        assert not faults


def test_the_same_as_before_is_a_fault_of_what_moves_alone():
    change = usual()
    change[9] = 0
    for name, expected in (('2m_temperature', 1), ('sea_surface_temperature', 0)):
        faults = judge(series(name, ()), scanned(change)).faults
        assert [fault.fault for fault in faults] == ['frozen'] * expected


def test_worse_hides_what_follows_from_it():
    found = scanned(usual())
    found.summary.num_missing[9] = 100
    found.summary.minimum[9] = found.summary.maximum[9] = np.nan
    found.unreadable[(9, 0)] = 'cut short'
    found.is_hole[9] = True
    (fault,) = judge(series(), found).faults
    assert (fault.fault, fault.detail) == ('unreadable', 'cut short')
