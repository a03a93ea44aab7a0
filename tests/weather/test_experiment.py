"""A config is complete, known and possible, or it is refused with a reason."""

import copy
import importlib
import json
import pathlib

import jax
import numpy as np
import pytest

from tests.weather import tiny
from weather import experiment, variables
from weather.data.forcings import CLOCK
from weather.experiment import ConfigError, Experiment
from weather.model.forecaster import Forecaster
from weather.model.state import Forcing

CONFIGS = sorted(
    path.stem
    for path in (pathlib.Path(__file__).parents[2] / 'configs').glob('*.py')
    if path.stem != '__init__'
)


def load(name: str) -> Experiment:
    return Experiment.from_config(
        importlib.import_module(f'configs.{name}').get_config()
    )


@pytest.fixture
def entries() -> dict:
    return load('demo').to_dict()


@pytest.mark.parametrize('name', CONFIGS)
def test_a_config_survives_json(name):
    setup = load(name)
    again = Experiment.from_config(json.loads(json.dumps(setup.to_dict())))
    assert again == setup
    assert again.digest == setup.digest


@pytest.mark.parametrize(
    ('name', 'digest'),
    [
        ('demo', 'f4d10a35ee56'),
        ('era5_256', 'c341e54aae69'),
        ('era5_64x32', '7d33a5829565'),
        ('ncep_sample', '5822c6b1453c'),
    ],
)
def test_digests_stay_what_they_were(name, digest):
    """They are in files: a new key or another default must not change them."""
    assert load(name).digest == digest


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('training.warmup_updates', -1, 'at least 0'),
        ('training.weight_decay', -1, 'at least 0'),
        ('training.ema_decay', 1.5, 'less than 1'),
        ('training.beta2', 1.0, 'less than 1'),
        ('training.learning_rate', 0, 'positive'),
        ('training.max_loss_ratio', 1, 'more than 1'),
        ('model.num_blocks', -1, 'at least 0'),
        ('data.cache_gb', -1, 'at least 0'),
        ('data.prefetch_gb', -1, 'at least 0'),
        ('data.test', ['2003-02-30', '2003-02-31'], "got '2003-02-30'"),
        ('data.test', ['2003-02-10', '2003-02-09'], 'first and the last date'),
        ('data.test', ['now', 'today'], "got 'now'"),
        ('data.store', '', 'not empty'),
        ('data.variables', {}, 'must hold a variable'),
        ('climatology.window_days', 60, 'must be odd'),
        ('model.network', 'a/b', 'should match pattern'),
    ],
)
def test_values_that_no_run_can_have_are_refused(entries, key, value, message):
    with pytest.raises(ConfigError, match=f'config.{key}.*{message}'):
        Experiment.from_config(entries).with_changes({key: value})


@pytest.mark.parametrize(
    'period', [['2001', '2001'], ['2001-06', '2001'], ['2001-01-01', '2001-01-01']]
)
def test_dates_may_be_shortened(entries, period):
    setup = Experiment.from_config(entries).with_changes({'data.train': period})
    assert setup.data.train == tuple(period)


@pytest.mark.parametrize('name', CONFIGS)
def test_a_config_describes_a_model_that_maps_states_to_states(name):
    setup = load(name)
    shape = (1, *setup.grid.shape, len(setup.data.channels))

    def step_of_new_model(state, clock):
        model = Forecaster.without_data(setup)
        return model.step(model.init(jax.random.key(0)), state, Forcing(clock))

    result = jax.eval_shape(
        step_of_new_model,
        jax.ShapeDtypeStruct(shape, np.float32),
        jax.ShapeDtypeStruct((1, len(CLOCK)), np.float32),
    )
    assert result.shape == shape
    assert result.dtype == np.float32


def test_the_flagship_is_256x256x78_with_256_channels_at_128x128():
    setup = load('era5_256')
    assert (*setup.grid.shape, len(setup.data.channels)) == (256, 256, 78)
    assert setup.model.latent.shape == (128, 128)
    assert setup.model.scalar_channels + setup.model.vector_channels == 256
    assert setup.training.max_steps * 6 == 72  # Three days.
    assert setup.forecast.lead_hours == 120


@pytest.mark.parametrize(
    ('group', 'wrong', 'nearest'),
    [
        ('data', 'stor', 'store'),
        ('training', 'batchsize', 'batch_size'),
        ('grid', 'num_lats', 'num_lat'),
        ('model', 'num_block', 'num_blocks'),
    ],
)
def test_an_unknown_key_names_the_nearest(entries, group, wrong, nearest):
    entries[group][wrong] = 1
    with pytest.raises(ConfigError, match=f"config.{group}.{wrong}.*'{nearest}'"):
        Experiment.from_config(entries)


def test_a_missing_key_is_named(entries):
    del entries['training']['num_updates']
    with pytest.raises(ConfigError, match='config.training lacks num_updates'):
        Experiment.from_config(entries)


@pytest.mark.parametrize(
    ('group', 'key', 'value', 'message'),
    [
        ('training', 'batch_size', 'eight', 'of type int'),
        ('training', 'batch_size', 0, 'must be at least 1'),
        ('training', 'batch_size', True, 'of type int'),
        ('training', 'curriculum', [[1, 2]], 'first at update 0'),
        ('training', 'curriculum', [[0, 1], [0, 2]], 'ascend'),
        ('training', 'curriculum', [[0, 0]], 'at least 1'),
        ('training', 'curriculum', [[0, 1, 2]], '2 entries'),
        ('data', 'train', ['2001'], '2 entries'),
        ('data', 'statics', ['orography'], 'unknown field'),
        ('loss', 'variable_weights', {'temprature': 1.0}, "mean 'temperature'"),
        ('loss', 'level_weights', {'501': 1.0}, 'no variable has'),
        ('model', 'skips', 'inputs', "did you mean 'input'"),
        ('model', 'precision', 'bf16', "did you mean 'bfloat16'"),
        ('model', 'remat', 'steps', "did you mean 'step'"),
        ('grid', 'kind', 'healpix', 'kind'),
        ('grid', 'num_lat', 1, 'num_lat'),
    ],
)
def test_an_impossible_value_is_refused_with_the_reason(
    entries, group, key, value, message
):
    entries[group][key] = value
    with pytest.raises(ValueError, match=message):
        Experiment.from_config(entries)


def test_an_unknown_variable_names_the_nearest(entries):
    entries['data']['variables']['geopotental'] = [500]
    with pytest.raises(ValueError, match="did you mean 'geopotential'"):
        Experiment.from_config(entries)


def test_channels_do_not_depend_on_the_order_in_the_config(entries):
    backwards = dict(reversed(entries['data']['variables'].items()))
    setup = Experiment.from_config(
        {**entries, 'data': {**entries['data'], 'variables': backwards}}
    )
    assert setup.data.channels == load('demo').data.channels
    assert setup.data.channels['geopotential', 50] == 0


def test_the_curriculum_is_a_function_of_the_update():
    training = load('era5_64x32').training
    assert [training.num_steps(u) for u in (0, 59_999, 60_000, 99_999)] == [1, 1, 2, 12]


def test_periods_that_training_has_seen_are_known():
    assert load('ncep_sample').data.trained_on == ('validation', 'test')
    assert load('demo').data.trained_on == ()


def with_data(**changes):
    config = tiny.entries('nowhere.zarr')
    config['data'].update(changes)
    return Experiment.from_config(config)


ROLES = {
    'temperature': (500, 850),
    'sea_surface_temperature': (),
    'total_precipitation_6hr': (),
}


def test_roles_come_from_the_table_and_the_config_may_say_otherwise():
    data = with_data(variables=ROLES).data
    assert data.channels.variables == ('temperature', 'total_precipitation_6hr')
    assert data.channels.outputs == {'total_precipitation_6hr'}
    assert data.inputs.variables == ('sea_surface_temperature',)
    assert len(data.stored) == 4
    data = with_data(variables=ROLES, roles={'sea_surface_temperature': 'both'}).data
    assert 'sea_surface_temperature' in data.channels.variables
    assert not len(data.inputs)


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(roles={'temprature': 'input'}), "did you mean 'temperature'"),
        (dict(roles={'temperature': 'inputs'}), "did you mean 'input'"),
        (dict(variables={'land_sea_mask': ()}), 'belongs to data.statics'),
        (dict(variables={'sea_surface_temperature': ()}), 'read and forecast'),
    ],
)
def test_impossible_roles_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        with_data(**changes)


def test_a_variable_may_be_defined_in_the_config(monkeypatch):
    monkeypatch.setattr(variables, 'VARIABLES', dict(variables.VARIABLES))
    monkeypatch.setattr(experiment, 'VARIABLES', variables.VARIABLES)
    ozone = {
        'short_name': 'O3',
        'units': 'kg kg-1',
        'standard_name': 'mass_fraction_of_ozone_in_air',
        'plausible': (-1e-6, 1e-4),
    }
    levels = {'temperature': (500,), 'ozone': (12.5, 50.0)}
    setup = with_data(variables=levels, definitions={'ozone': ozone})
    assert list(setup.data.channels) == [
        ('temperature', 500),
        ('ozone', 12.5),
        ('ozone', 50),
    ]
    assert Experiment.from_config(setup.to_dict()) == setup
    with pytest.raises(ConfigError, match='known already'):
        with_data(variables=levels, definitions={'ozone': {**ozone, 'units': '1'}})


def test_a_new_key_at_its_default_leaves_digests_as_they_are():
    config = tiny.entries('nowhere.zarr')
    spelt_out = copy.deepcopy(config)
    spelt_out['data'] |= {'roles': {}, 'definitions': {}}
    before, after = (Experiment.from_config(one) for one in (config, spelt_out))
    assert before.digest == after.digest


@pytest.mark.parametrize(
    'train, validation, seen',
    [
        (('2001', '2001'), ('2001-06-01', '2001-07-01'), True),
        (('2001-01-01', '2001-06'), ('2001-06-30', '2001-07-01'), True),
        (('2001-01-01', '2001-06'), ('2001-07-01', '2001'), False),
        (('2001-01-01', '2001-12-31'), ('2002', '2002'), False),
    ],
)
def test_periods_overlap_also_where_dates_are_shortened(train, validation, seen):
    data = with_data(train=train, validation=validation, test=('2010', '2010')).data
    assert data.trained_on == (('validation',) if seen else ())


def test_a_fractional_level_is_a_key_like_any_other():
    config = tiny.entries('nowhere.zarr')
    config['data']['variables'] = {'temperature': (12.5, 500)}
    setup = Experiment.from_config(config, {'loss.level_weights.12.5': '2'})
    assert setup.loss.level_weights == {'12.5': 2}
    assert setup.with_changes({'loss.level_weights.12.5': 3}).loss.level_weights == {
        '12.5': 3
    }
