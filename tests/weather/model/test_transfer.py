"""Weights in another model make the forecasts that they made before."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.weather import tiny
from weather.data.normalizer import Normalizer
from weather.experiment import Experiment
from weather.model.forecaster import Forecaster
from weather.model.transfer import transfer, transfer_scales

# The same sums over more terms, of which the new ones are zero.
ROUND_OFF = dict(rtol=0, atol=2e-5)


def experiment(*, model=None, variables=None, statics=None):
    entries = tiny.entries('nowhere.zarr')
    entries['model'].update(model or {})
    entries['data']['variables'] = variables or entries['data']['variables']
    entries['data']['statics'] = statics or entries['data']['statics']
    return Experiment.from_config(entries)


def trained(setup):
    """Weights that are no network's first ones: outputs and moments that count."""
    weights = Forecaster.without_data(setup).init(jax.random.key(0))
    leaves, tree = jax.tree.flatten(weights)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    return tree.unflatten(
        [
            leaf + 0.1 * jnp.abs(jax.random.normal(key, leaf.shape))
            for key, leaf in zip(keys, leaves, strict=True)
        ]
    )


def forecast(setup, weights, fields):
    """The state after a step, by channel."""
    model = Forecaster.without_data(setup)
    statics = {
        name: np.cos(i + np.arange(128.0)).reshape(setup.grid.shape)
        for i, name in enumerate(('geopotential_at_surface', 'land_sea_mask'))
    }
    own = [statics[name] for name in setup.data.statics]
    places = np.asarray(model.statics)[..., len(own) :] + 0.3
    model = model.replace(
        statics=jnp.concatenate([np.stack(own, -1), places], -1, dtype=np.float32)
    )
    state = model.normalize({name: fields[name] for name in setup.data.variables})
    clock = jnp.linspace(0.1, 0.6, 6)
    following = model.denormalize(model.step(weights, state, model.forcing(clock, {})))
    return {str(c): following[..., i] for i, c in enumerate(model.channels)}


@pytest.fixture(scope='module')
def source():
    setup = experiment()
    return setup, trained(setup)


@pytest.fixture(scope='module')
def fields():
    names = (
        'geopotential',
        'temperature',
        'specific_humidity',
        'u_component_of_wind',
        'v_component_of_wind',
    )
    keys = jax.random.split(jax.random.key(7), len(names))
    return {
        name: jax.random.normal(key, (2, 8, 16))
        for name, key in zip(names, keys, strict=True)
    }


WIDER = {'scalar_channels': 9, 'vector_channels': 7}
VARIABLES = tiny.entries('x')['data']['variables']


@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'model': WIDER},
        {'model': {'num_blocks': 2}},
        {'variables': VARIABLES | {'specific_humidity': tiny.LEVELS}},
        {
            'variables': VARIABLES | {'specific_humidity': tiny.LEVELS},
            'model': WIDER,
        },
    ],
    ids=['same', 'wider', 'deeper', 'more variables', 'both'],
)
def test_a_larger_model_begins_with_the_forecasts_of_the_smaller(
    source, fields, changes
):
    setup, weights = source
    wanted = experiment(**changes)
    start = Forecaster.without_data(wanted).init(jax.random.key(5))
    taken = transfer(setup, weights, wanted, start)
    expected = forecast(setup, weights, fields)
    found = forecast(wanted, taken.weights, fields)
    if changes.get('model', {}).get('num_blocks'):
        # A new block is its skip but for a phase collapse of its own: it is reported.
        assert any('block_1' in name for name in taken.new)
        return
    for channel, values in expected.items():
        np.testing.assert_allclose(found[channel], values, **ROUND_OFF)


def test_what_was_taken_is_said(source):
    setup, weights = source
    same = transfer(setup, weights, setup, weights)
    assert not same.partly and not same.new
    wanted = experiment(model=WIDER)
    start = Forecaster.without_data(wanted).init(jax.random.key(5))
    taken = transfer(setup, weights, wanted, start)
    assert 'params/input/knots' in taken.partly and not taken.new


def test_variables_that_are_gone_are_left_out_and_the_rest_stays_in_its_place(
    source, fields
):
    """A field of zeros is a field that is not there, once scales are one."""
    setup, weights = source
    fewer = {k: v for k, v in VARIABLES.items() if k != 'geopotential'}
    wanted = experiment(variables=fewer)
    start = Forecaster.without_data(wanted).init(jax.random.key(5))
    taken = transfer(setup, weights, wanted, start)
    silent = fields | {'geopotential': jnp.zeros((2, 8, 16))}
    expected = forecast(setup, weights, silent)
    for channel, values in forecast(wanted, taken.weights, silent).items():
        np.testing.assert_allclose(values, expected[channel], **ROUND_OFF)


def test_kernels_with_more_knots_are_interpolated(source):
    setup, weights = source
    wanted = experiment(model={'num_knots': 4})
    start = Forecaster.without_data(wanted).init(jax.random.key(5))
    taken = transfer(setup, weights, wanted, start)
    old = np.asarray(weights['params']['output']['knots'])
    new = np.asarray(taken.weights['params']['output']['knots'])
    np.testing.assert_allclose(new[[0, 3]], old[[0, 2]], rtol=1e-6)
    np.testing.assert_allclose(new[1], old[0] / 3 + 2 * old[1] / 3, rtol=1e-5)


def test_a_network_of_another_kind_is_refused(source):
    setup, weights = source
    other = setup.with_changes({'model.network': 'something_else'})
    with pytest.raises(ValueError, match="'something_else'.*'spherical_cnn'"):
        transfer(setup, weights, other, weights)


def test_scales_are_those_of_the_weights_where_they_have_any():
    ours = experiment(variables=VARIABLES | {'specific_humidity': (500, 850)}).data
    theirs = experiment().data

    def scales(channels, value):
        numbers = np.arange(len(channels), dtype=np.float32) + value
        return Normalizer(numbers, numbers, numbers)

    found = transfer_scales(
        theirs.channels,
        scales(theirs.channels, 100),
        ours.channels,
        scales(ours.channels, 1),
    )
    for place, channel in enumerate(ours.channels):
        known = channel in theirs.channels
        expected = 100 + theirs.channels[channel] if known else 1 + place
        assert found.scale[place] == expected, channel
