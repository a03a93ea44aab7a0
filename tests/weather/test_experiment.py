"""A config is complete, known and possible, or it is refused with a reason."""

import importlib
import json
import pathlib

import jax
import numpy as np
import pytest

from weather.data.forcings import CLOCK
from weather.experiment import ConfigError, Experiment, differences
from weather.model.forecaster import Forecaster
from weather.model.state import Forcing
from weather.workdir import Workdir, WorkdirError

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
    del entries['training']['seed']
    with pytest.raises(ConfigError, match='config.training lacks seed'):
        Experiment.from_config(entries)


@pytest.mark.parametrize(
    ('group', 'key', 'value', 'message'),
    [
        ('training', 'batch_size', 'eight', 'of type int'),
        ('training', 'batch_size', 0, 'must be positive'),
        ('training', 'batch_size', True, 'of type int'),
        ('training', 'curriculum', [[1, 2]], 'first at update 0'),
        ('training', 'curriculum', [[0, 1], [0, 2]], 'ascend'),
        ('training', 'curriculum', [[0, 0]], 'steps >= 1'),
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


def test_differences_name_keys_and_both_values():
    assert differences({'a': {'b': 1}, 'c': 2}, {'a': {'b': 3}}) == [
        'a.b: 1 -> 3',
        'c: 2 -> (absent)',
    ]


def test_a_workdir_belongs_to_one_experiment(tmp_path, entries):
    files = Workdir(tmp_path / 'run')
    files.claim(Experiment.from_config(entries))
    files.claim(Experiment.from_config(entries))  # The same again is fine.
    entries['training']['seed'] = 7
    with pytest.raises(WorkdirError, match='training.seed: 0 -> 7'):
        files.claim(Experiment.from_config(entries))
    assert files.read_config().training.seed == 0


def test_a_workdir_without_a_run_says_so(tmp_path):
    with pytest.raises(WorkdirError, match='no run in'):
        Workdir(tmp_path).read_config()
