"""Channels are addressed by variable and level, and winds come in pairs."""

import pytest

from learning.spelling import did_you_mean
from weather.variables import (
    VARIABLES,
    WEATHERBENCH_LEVELS,
    Channel,
    ChannelIndex,
    get_variable,
    wind_pairs,
)

SIX = tuple(VARIABLES)[:6]


@pytest.fixture
def channels():
    return ChannelIndex(dict.fromkeys(SIX, WEATHERBENCH_LEVELS))


def test_the_flagship_has_78_channels_of_which_13_winds(channels):
    assert len(channels) == 78
    assert len(channels.winds) == 13
    assert len(channels.scalars) == 52


def test_channels_are_variable_major_in_the_order_of_weatherbench(channels):
    assert channels['geopotential', 50] == 0
    assert channels['geopotential', 1000] == 12
    assert channels['specific_humidity', 50] == 13
    assert list(channels)[-1] == Channel('vertical_velocity', 1000)


def test_every_position_is_a_scalar_or_a_component_once(channels):
    components = [position for pair in channels.winds for position in pair]
    assert sorted([*channels.scalars, *components]) == list(range(78))


def test_a_pair_is_eastward_then_northward_at_the_same_level(channels):
    for eastward, northward in channels.winds:
        east, north = channels.channels[eastward], channels.channels[northward]
        assert (east.variable, north.variable) == wind_pairs()[0][:2]
        assert east.level == north.level


def test_a_surface_variable_is_a_channel_without_level():
    channels = ChannelIndex({'2m_temperature': (), 'temperature': (850,)})
    assert channels['2m_temperature', None] == 0
    assert str(channels.channels[0]) == '2m_temperature'
    assert str(channels.channels[1]) == 'temperature@850'


def test_what_is_not_there_is_named_with_the_nearest(channels):
    with pytest.raises(KeyError, match="did you mean 'temperature'"):
        channels['temprature', 850]
    with pytest.raises(KeyError, match='has no level 501'):
        channels['temperature', 501]
    with pytest.raises(ValueError, match="did you mean 'geopotential'"):
        get_variable('geopotental')


def test_half_a_wind_is_refused():
    with pytest.raises(ValueError, match='one vector field'):
        ChannelIndex({'u_component_of_wind': (500,)})
    with pytest.raises(ValueError, match='one vector field'):
        ChannelIndex({'u_component_of_wind': (500,), 'v_component_of_wind': (850,)})


def test_a_repeated_level_is_refused():
    with pytest.raises(ValueError, match='repeats a level'):
        ChannelIndex({'temperature': (500, 500)})


def test_nothing_is_suggested_where_nothing_is_near():
    assert did_you_mean('xyzzy', VARIABLES) == ''


@pytest.mark.parametrize('name', VARIABLES)
def test_a_plausible_range_is_a_range(name):
    smallest, largest = VARIABLES[name].plausible
    assert smallest < largest
