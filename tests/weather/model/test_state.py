"""States and spin fields are the same numbers in another order."""

import numpy as np
import pytest

from weather.model.state import from_spin_fields, select, stack_fields, to_spin_fields
from weather.variables import WEATHERBENCH_LEVELS, ChannelIndex

FLAGSHIP = {
    name: WEATHERBENCH_LEVELS
    for name in (
        'geopotential',
        'specific_humidity',
        'temperature',
        'u_component_of_wind',
        'v_component_of_wind',
        'vertical_velocity',
    )
}


@pytest.mark.parametrize(
    'levels',
    [
        FLAGSHIP,
        {'temperature': (500,)},
        {'10m_u_component_of_wind': (), '10m_v_component_of_wind': (), **FLAGSHIP},
        {
            '2m_temperature': (),
            'u_component_of_wind': (5,),
            'v_component_of_wind': (5,),
        },
    ],
)
def test_spin_fields_and_back_is_the_identity(levels):
    channels = ChannelIndex(levels)
    state = np.random.default_rng(0).normal(size=(2, 3, 4, len(channels)))
    state = state.astype(np.float32)
    back = from_spin_fields(to_spin_fields(state, channels), channels)
    np.testing.assert_array_equal(back, state)


def test_the_wind_is_eastward_plus_i_northward():
    channels = ChannelIndex(FLAGSHIP)
    state = np.zeros((1, 1, len(channels)), np.float32)
    state[..., channels['u_component_of_wind', 850]] = 3
    state[..., channels['v_component_of_wind', 850]] = 4
    winds = to_spin_fields(state, channels)[1]
    assert winds.shape == (1, 1, 13)
    np.testing.assert_array_equal(winds[0, 0, 10], 3 + 4j)  # 850 is the 11th level.
    assert np.count_nonzero(winds) == 1


def test_fields_by_variable_stack_in_channel_order():
    channels = ChannelIndex({'temperature': (500, 850), '2m_temperature': ()})
    fields = {
        '2m_temperature': np.full((2, 1, 3, 4), 7.0),
        'temperature': np.stack([np.full((2, 3, 4), 5.0), np.full((2, 3, 4), 8.0)], 1),
    }
    state = stack_fields(fields, channels)
    assert state.shape == (2, 3, 4, 3)
    np.testing.assert_array_equal(state[0, 0, 0], [5, 8, 7])


def test_select_takes_positions_as_indexing_does():
    values = np.arange(20.0).reshape(2, 10)
    positions = [7, 8, 9, 0, 2, 1]
    np.testing.assert_array_equal(select(values, positions), values[:, positions])
