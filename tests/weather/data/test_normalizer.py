"""Scaling of states: inverse, unit spread, and the wind as one vector."""

import jax
import numpy as np
import pytest
import xarray

from weather.data.normalizer import Normalizer
from weather.variables import ChannelIndex

CHANNELS = ChannelIndex(
    {
        'geopotential': (500,),
        'u_component_of_wind': (850, 250),
        'v_component_of_wind': (850, 250),
        '2m_temperature': (),
    }
)
MEAN = np.array([54000.0, 1.5, 12.0, 0.1, -0.3, 278.0])
STD = np.array([3300.0, 8.0, 17.0, 6.0, 13.0, 21.0])
TENDENCY_STD = np.array([300.0, 3.0, 6.0, 4.0, 8.0, 2.0])

# float32, with geopotential's offset 16 times its scale.
FLOAT32 = dict(rtol=1e-6, atol=1e-6)


def statistics(channels=CHANNELS, **changes):
    columns = {
        'mean': MEAN,
        'std': STD,
        'tendency_std': TENDENCY_STD,
        'num_times': np.full(6, 10),
        'num_pairs': np.full(6, 9),
    } | changes
    return xarray.Dataset(
        {name: ('channel', values) for name, values in columns.items()},
        coords={
            'variable': ('channel', [c.variable for c in channels]),
            'level': ('channel', [c.level or -1 for c in channels]),
        },
    )


@pytest.fixture
def normalizer():
    return Normalizer.from_statistics(statistics(), CHANNELS)


def random_state(*shape, seed=0):
    noise = np.random.default_rng(seed).normal(size=(*shape, len(CHANNELS)))
    return (MEAN + STD * noise).astype(np.float32)


def test_denormalize_inverts_normalize(normalizer):
    state = random_state(2, 3, 4)
    scaled = jax.jit(normalizer.normalize)(state)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(normalizer.denormalize(scaled), state, **FLOAT32)


def test_scalars_come_out_with_mean_zero_and_spread_one(normalizer):
    scalars = list(CHANNELS.scalars)
    zero = normalizer.normalize(MEAN.astype(np.float32))
    one = normalizer.normalize((MEAN + STD).astype(np.float32))
    np.testing.assert_allclose(zero[..., scalars], 0, **FLOAT32)
    np.testing.assert_allclose(one[..., scalars], 1, **FLOAT32)


def test_wind_vectors_come_out_with_mean_square_one_per_component(normalizer):
    for u, v in CHANNELS.winds:
        square = sum(MEAN[i] ** 2 + STD[i] ** 2 for i in (u, v)) / 2
        np.testing.assert_allclose(normalizer.scale[[u, v]] ** 2, square, **FLOAT32)
        assert (normalizer.offset[[u, v]] == 0).all()


def test_scaling_commutes_with_rotation_of_the_wind(normalizer):
    state = random_state(5)
    u, v = np.transpose(CHANNELS.winds)
    cos, sin = np.cos(0.7), np.sin(0.7)

    def turn(x):
        x = np.array(x)
        x[..., u], x[..., v] = (
            cos * x[..., u] - sin * x[..., v],
            sin * x[..., u] + cos * x[..., v],
        )
        return x

    for scale in (normalizer.normalize, normalizer.denormalize):
        np.testing.assert_allclose(scale(turn(state)), turn(scale(state)), **FLOAT32)
    tendency = normalizer.tendency_scale
    np.testing.assert_array_equal(tendency[u], tendency[v])


def test_tendency_scale_of_the_wind_is_pooled_and_of_scalars_their_own(normalizer):
    scale = normalizer.tendency_scale
    surface = CHANNELS['2m_temperature', None]
    np.testing.assert_allclose(scale[surface], 2.0)
    u = CHANNELS['u_component_of_wind', 850]
    np.testing.assert_allclose(scale[u] ** 2, (3.0**2 + 4.0**2) / 2, **FLOAT32)
    np.testing.assert_allclose(
        normalizer.tendency_ratio[surface], 2.0 / 21.0, **FLOAT32
    )


def test_normalizer_is_a_pytree_of_three_float32_arrays(normalizer):
    leaves = jax.tree.leaves(normalizer)
    assert [leaf.shape for leaf in leaves] == [(6,)] * 3
    assert {leaf.dtype for leaf in leaves} == {np.dtype(np.float32)}


def test_channels_are_matched_by_name_not_by_position(normalizer):
    other = ChannelIndex(dict(reversed(CHANNELS.levels.items())))
    reordered = Normalizer.from_statistics(statistics(), other)
    order = [CHANNELS[channel] for channel in other]
    np.testing.assert_array_equal(reordered.scale, normalizer.scale[order])
    np.testing.assert_array_equal(reordered.offset, normalizer.offset[order])


def test_channel_without_statistics_is_named():
    more = ChannelIndex({'geopotential': (500, 850)})
    with pytest.raises(ValueError, match='lack geopotential@850'):
        Normalizer.from_statistics(statistics(), more)
