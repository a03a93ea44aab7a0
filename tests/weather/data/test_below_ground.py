"""Columns continued below the ground."""

import numpy as np

from weather.data.below_ground import fill_below_ground

LEVELS = (300, 500, 700, 850, 1000)
PRESSURE = np.array(LEVELS, float)[:, None, None]
# Of the report: dry air, 6.5 K/km.
GAS, LAPSE, GRAVITY = 287.04, 0.0065, 9.80665
POWER = GAS * LAPSE / GRAVITY
# Fields are float32: 6e-8 of geopotentials up to 1e5, and of sums of them.
ROUND_OFF = dict(rtol=1e-6)


def lapse_rate_atmosphere(surface_temperature=288.0):
    """A column that is 6.5 K colder every kilometre, from 1000 hPa at height 0."""
    temperature = surface_temperature * (PRESSURE / 1000) ** POWER
    height = (surface_temperature - temperature) / LAPSE
    shape = (2, len(LEVELS), 3, 4)
    return {
        'temperature': np.broadcast_to(temperature, shape).astype(np.float32),
        'geopotential': np.broadcast_to(GRAVITY * height, shape).astype(np.float32),
        'specific_humidity': np.broadcast_to(1e-5 * PRESSURE, shape).astype(np.float32),
    }


def mountain(fields, lowest):
    """Missing below `lowest` levels at one point."""
    dug = {name: field.copy() for name, field in fields.items()}
    for field in dug.values():
        field[:, lowest:, 1, 2] = np.nan
    return dug


def levels_of(fields):
    return dict.fromkeys(fields, LEVELS)


def test_the_lapse_rate_atmosphere_is_continued_as_itself():
    true = lapse_rate_atmosphere()
    for lowest in (2, 3, 4):
        filled = fill_below_ground(mountain(true, lowest), levels_of(true))
        for name in ('temperature', 'geopotential'):
            np.testing.assert_allclose(
                filled.fields[name], true[name], atol=0.1, **ROUND_OFF
            )
            assert filled.counts[name] == 2 * (len(LEVELS) - lowest)


def test_humidity_is_that_of_the_lowest_level_with_a_value():
    true = lapse_rate_atmosphere()
    found = fill_below_ground(mountain(true, 3), levels_of(true)).fields
    humidity = found['specific_humidity']
    above = humidity[:, 2:3, 1, 2]
    np.testing.assert_array_equal(humidity[:, 3:, 1, 2], np.repeat(above, 2, axis=1))


def test_without_temperature_the_layer_above_says_how_warm_it_is():
    true = {'geopotential': lapse_rate_atmosphere()['geopotential']}
    found = fill_below_ground(mountain(true, 3), levels_of(true)).fields
    # Between the middle of the layer and the mean of its logarithm: a few parts in a
    # thousand of the 12,000 m2 s-2 that are filled in.
    np.testing.assert_allclose(found['geopotential'], true['geopotential'], atol=60)


def test_only_what_lies_below_a_value_is_filled():
    fields = mountain(lapse_rate_atmosphere(), 3)
    fields['temperature'][0, 1, 0, 0] = np.nan  # In the air.
    fields['temperature'][1, :, 2, 3] = np.nan  # A column without any.
    fields['geopotential'][1, 4] = np.nan  # A level without any.
    filled = fill_below_ground(fields, levels_of(fields)).fields
    assert np.isnan(filled['temperature'][0, 1, 0, 0])
    assert np.isnan(filled['temperature'][1, :, 2, 3]).all()
    assert np.isnan(filled['geopotential'][1, 4]).all()
    others = (
        np.isnan(filled['temperature']).sum(),
        np.isnan(filled['geopotential']).sum(),
    )
    assert others == (1 + len(LEVELS), 12)


def test_whole_fields_are_the_same_arrays():
    true = lapse_rate_atmosphere()
    true['2m_temperature'] = np.full((2, 1, 3, 4), np.nan, np.float32)
    filled = fill_below_ground(true, {**levels_of(true), '2m_temperature': ()})
    assert all(filled.fields[name] is true[name] for name in true)
    assert set(filled.counts.values()) == {0}
