"""Columns continued below the ground."""

import numpy as np
import pytest

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


def test_an_isothermal_layer_gives_the_temperature_that_geopotential_starts_from():
    # z = R T ln(p0 / p): without temperature, T comes from the thickness above.
    temperature = 260.0
    column = GAS * temperature * np.log(1000 / PRESSURE)
    field = np.broadcast_to(column, (1, len(LEVELS), 3, 4)).astype(np.float32)
    found = fill_below_ground(
        mountain({'geopotential': field}, 3), {'geopotential': LEVELS}
    ).fields['geopotential'][0, :, 1, 2]
    # Warmed along the lapse rate from the middle of the layer to its lower end, 700.
    start = temperature * (700 / 500) ** (POWER / 2)
    expected = column[2, 0, 0] - GAS * start / POWER * (
        (np.array([850, 1000]) / 700) ** POWER - 1
    )
    np.testing.assert_allclose(found[3:], expected, atol=0.1, **ROUND_OFF)


def test_the_temperature_of_a_column_is_taken_where_its_geopotential_ends():
    true = lapse_rate_atmosphere()
    fields = mountain(true, 3)
    # Temperature knows fewer levels, in which 700 hPa is the third of the others.
    fewer = [LEVELS.index(level) for level in (500, 700, 1000)]
    fields['temperature'] = fields['temperature'][:, fewer]
    levels = {**levels_of(fields), 'temperature': (500, 700, 1000)}
    found = fill_below_ground(fields, levels).fields
    np.testing.assert_allclose(
        found['geopotential'], true['geopotential'], atol=0.1, **ROUND_OFF
    )
    np.testing.assert_allclose(
        found['temperature'], true['temperature'][:, fewer], **ROUND_OFF
    )


def test_what_cannot_be_known_stays_missing_and_is_not_counted():
    # A single level above the ground says nothing about how warm it is.
    fields = mountain({'geopotential': lapse_rate_atmosphere()['geopotential']}, 1)
    filled = fill_below_ground(fields, levels_of(fields))
    assert np.isnan(filled.fields['geopotential'][:, 1:, 1, 2]).all()
    assert filled.counts == {'geopotential': 0}


def test_winds_alone_need_no_temperature():
    wind = {'u_component_of_wind': lapse_rate_atmosphere()['specific_humidity']}
    filled = fill_below_ground(mountain(wind, 2), levels_of(wind))
    assert filled.counts == {'u_component_of_wind': 2 * 3}
    assert not np.isnan(filled.fields['u_component_of_wind']).any()


def test_levels_upside_down_are_refused():
    fields = mountain(lapse_rate_atmosphere(), 3)
    with pytest.raises(ValueError, match='ascending'):
        fill_below_ground(fields, dict.fromkeys(fields, LEVELS[::-1]))
    with pytest.raises(ValueError, match='ascending'):
        fill_below_ground(fields, dict.fromkeys(fields, LEVELS[1:]))
