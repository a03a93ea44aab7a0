"""A table names everything, and is as short as the faults allow."""

import numpy as np

from weather.data.faults import Fault, FaultList
from weather.doctor.check import Report
from weather.doctor.table import rows, to_text
from weather.doctor.verdicts import Note

TIMES = np.datetime64('2020-01-01', 'ns') + np.arange(20) * np.timedelta64(6, 'h')


def report(*faults, notes=()):
    levels = {'temperature': (500, 850), '2m_temperature': ()}
    listed = FaultList('era5.zarr', {}, faults)
    return Report(listed, list(notes), TIMES, levels, '20 times')


def fault(place, level=850, kind='NaN', variable='temperature'):
    time = None if place is None else TIMES[place]
    return Fault(variable, level, time, kind, 'why')


def test_consecutive_times_are_one_row():
    faults = [fault(place) for place in (3, 4, 5, 9, 11, 12)]
    found = [(row.time, row.number) for row in rows(report(*reversed(faults)))]
    assert found == [
        ('2020-01-01T18:00 .. 2020-01-02T06:00 (3)', 3),
        ('2020-01-03T06:00', 1),
        ('2020-01-03T18:00 .. 2020-01-04T00:00 (2)', 2),
    ]


def test_levels_kinds_and_variables_stand_apart():
    found = rows(
        report(
            fault(3),
            fault(4, level=500),
            fault(5, kind='frozen'),
            fault(4, level=None),
            fault(4, level=None, variable='2m_temperature'),
            fault(None, level=None, kind='units'),
            fault(4, level=None, kind='gap', variable='time'),
        )
    )
    assert [row[:4] for row in found] == [
        ('temperature', '850', '2020-01-01T18:00', 'NaN'),
        ('temperature', '500', '2020-01-02T00:00', 'NaN'),
        ('temperature', '850', '2020-01-02T06:00', 'frozen'),
        ('temperature', 'all', '2020-01-02T00:00', 'NaN'),
        ('2m_temperature', '-', '2020-01-02T00:00', 'NaN'),
        ('temperature', 'all', '-', 'units'),
        ('time', '-', '2020-01-02T00:00', 'gap'),
    ]


def test_faults_at_times_that_were_not_looked_at_stay_alone():
    later = TIMES[-1] + np.arange(1, 3) * np.timedelta64(6, 'h')
    found = rows(report(*(Fault('temperature', 850, t, 'NaN', '') for t in later)))
    assert [row.number for row in found] == [1, 1]


def test_the_text_counts_and_ends_with_a_verdict():
    lines = to_text(report(fault(3), fault(4), fault(None, kind='units'))).splitlines()
    assert lines[0].split() == ['variable', 'level', 'time', 'fault', 'detail']
    assert lines[-3].split(':')[0] == '       2 NaN'
    assert 'kept from training' in lines[-3] and 'not left out' in lines[-2]
    assert lines[-1] == 'faulty: 3 faults in temperature, at 2 of 20 times'


def test_a_sound_store_is_said_to_be_sound():
    notes = [Note('temperature', level, 'absent') for level in (500, 850)]
    lines = to_text(report(notes=notes)).splitlines()
    assert lines == [
        'note: temperature@500,850: absent',
        'era5.zarr: 20 times',
        'sound: no fault in 2 variables',
    ]


def test_a_store_that_is_wrong_throughout_does_not_flood_the_screen():
    faults = [fault(place, level) for place in range(0, 20, 2) for level in range(50)]
    lines = to_text(report(*faults)).splitlines()
    assert len(lines) < 210
    assert '... and 300 rows more: see the list' in lines
    assert lines[-1].startswith('faulty: 500 faults')
