import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import flagship, layers, model, model_tables, precision, programs
from benchmarks.harness import WorkerError
from benchmarks.peers import Prepared
from benchmarks.timing import Sample
from sphere_ops import LatLonGrid
from tests.benchmarks.fakes import MACHINE
from weather.model.forecaster import Forecaster

ROUND_OFF = {'rtol': 1e-5}  # float32.
RATE = {'median': 100.0, 'minimum': 90.0, 'spread': 0.1, 'values': [90.0, 100.0, 110.0]}
SECTIONS = ['model', 'precision']
SPEED = {'sgemm_gflops': RATE, 'copy_gb_per_s': RATE}


class FakeSpeedometer:
    def __init__(self):
        self.measured = 0

    def measure(self):
        self.measured += 1

    def summary(self):
        return SPEED


class FakeWorker:
    """Needs one second less at every call; remembers what it was asked for."""

    def __init__(self, name, **_):
        self.name, self.versions = name, {'jax': '1.0'}
        self.seconds, self.cases, self.closed = 10.0, [], False
        FakeWorker.last = self

    def prepare(self, key, case):
        self.cases.append(case)
        if case['measure'] == 'memory':
            return {'process_gib': 2.0}
        return {'compilation_s': 3.0, 'program_gib': 1.0}

    def time(self, key, operation, *, calls, warm_ups):
        assert (calls, warm_ups) == (1, 0)
        self.seconds -= 1
        return self.seconds

    def close(self):
        self.closed = True


def layer_result(kind, official_over_ours=9.0):
    labels = [
        ('benchmarks.layers', kind),
        ('benchmarks.layers', f'{kind}_on_grid'),
        ('official_layers', f'{kind}_on_grid'),
    ]
    each = {name: 1.0 for name in model.OPERATIONS}
    return {
        'case': {'num_points': 128, 'channels': 64, 'num_knots': 8},
        'operations': {
            f'{library} {layer} {operation}': Sample((0.25, 0.25)).summary()
            for operation in model.OPERATIONS
            for library, layer in labels
        },
        'facts': {
            ' '.join(label): {'compilation_s': each, 'program_gib': each}
            for label in labels
        },
        'ratios': {
            operation: Sample((official_over_ours,) * 3).summary()
            for operation in model.OPERATIONS
        },
        'missing': {},
    }


def flagship_result(seconds, *, program_gib=1.0, process_gib=2.0, **facts):
    return {
        'seconds': Sample((seconds,) * 3).summary(),
        'compilation_s': 20.0,
        'program_gib': program_gib,
        'process_gib': process_gib,
        **facts,
    }


def precision_result():
    errors = {
        'of_state': 1e-4,
        'of_change': 1e-3,
        'of_change_worst_channel': 2e-3,
        'change': 0.1,
    }
    return {'differences': {'1': errors, '20': errors}}


def result():
    scores = {'Z500': {'unit': 'm2 s-2', 'digits': 0, 'values': [50.0, 500.25]}}
    measurements = {
        'convolution': layer_result('convolution'),
        'block': layer_result('block'),
        'step': flagship_result(0.5, flops=2e10),
        'update 1': flagship_result(4.0),
        'update 4': flagship_result(13.0),
        'update 12': flagship_result(40.0, program_gib=1.5, process_gib=4.0),
        'forecast': flagship_result(61.0),
        'precision': {
            **precision_result(),
            'seconds': {
                'float32': Sample((0.5,)).summary(),
                'bfloat16': Sample((0.25,)).summary(),
            },
        },
        'trained': {
            **precision_result(),
            'num_starts': 12,
            'rmse': {'float32': scores, 'bfloat16': scores},
        },
    }
    return {
        'command': 'python -m benchmarks.model',
        'machine': {**MACHINE, **SPEED},
        'versions': {'jax': '1.0'},
        'measurements': measurements,
        'failures': {'a part': 'why'},
    }


def test_all_parts_in_a_fixed_order():
    assert list(model.jobs(model.parse([]))) == [
        'convolution',
        'block',
        'step',
        'update 1',
        'update 4',
        'update 12',
        'forecast',
        'precision',
    ]


def test_parts_and_steps_are_chosen_on_the_command_line():
    options = model.parse(['--parts=precision,update', '--steps=2', '--workdir=run'])
    assert list(model.jobs(options)) == ['update 2', 'precision', 'trained']


@pytest.mark.parametrize(
    'wrong',
    [
        '--parts=steps',
        '--official=nowhere',
        '--steps=a',
        '--quick --write',
        '--write --parts=step',
        '--write --parts=precision',
        '--write --precision=bfloat16 --parts=convolution,block,step,update,forecast',
    ],
)
def test_wrong_flags_are_refused(wrong, capsys):
    with pytest.raises(SystemExit):
        model.parse(wrong.split())
    assert 'error' in capsys.readouterr().err


@pytest.mark.parametrize(
    'flags',
    [
        ['--parts=convolution,block,step,update,forecast'],
        ['--parts=precision', '--workdir=run'],
        ['--workdir=run'],
    ],
)
def test_whole_sections_can_be_written(flags):
    assert model.parse(['--write', *flags]).write


def test_a_measurement_that_fails_leaves_the_others_be(capsys):
    def fail():
        raise WorkerError('worker', 'request failed\nTraceback\nMemoryError: 30 GiB')

    speed = FakeSpeedometer()
    found = model.run(
        {'a': fail, 'b': lambda: {'x': 1, 'versions': {'jax': '1.0'}}}, speed
    )
    assert found['failures'] == {'a': 'MemoryError: 30 GiB'}
    assert found['measurements'] == {'b': {'x': 1}}
    assert found['versions'] == {'jax': '1.0'}
    assert speed.measured == 3
    assert 'Traceback' in capsys.readouterr().err


@pytest.mark.parametrize('failures', [{}, {'block': 'why'}])
def test_only_complete_results_are_published(failures, monkeypatch, tmp_path):
    published = []
    monkeypatch.setattr(model, 'Worker', FakeWorker)
    monkeypatch.setattr(model.machine, 'Speedometer', lambda _: FakeSpeedometer())
    monkeypatch.setattr(model, 'run', lambda *_: {**result(), 'failures': failures})
    monkeypatch.setattr(
        model.results, 'replace_section', lambda *section: published.append(section)
    )
    output = tmp_path / 'model.json'
    status = model.main(['--write', '--workdir=run', f'--output={output}'])
    assert status == int(bool(failures))
    assert [name for name, _ in published] == ([] if failures else SECTIONS)
    assert json.loads(output.read_text())['failures'] == failures


def test_a_killed_worker_is_explained():
    error = WorkerError(
        'benchmarks.flagship', 'the worker ended, exit status -9; above'
    )
    assert 'not enough memory' in model.reason(error)
    error = WorkerError('benchmarks.flagship', 'the worker ended, exit status 1; above')
    assert 'memory' not in model.reason(error)


def test_a_flagship_measurement_has_a_process_of_its_own(monkeypatch):
    monkeypatch.setattr(model, 'Worker', FakeWorker)
    case = {'measure': 'step', 'size': 'tiny', 'num_steps': None, 'precision': None}
    found = model.measure_flagship(case, rounds=3)
    assert found['seconds']['values'] == [9.0, 8.0, 7.0]
    assert (found['program_gib'], found['process_gib']) == (1.0, 2.0)
    assert FakeWorker.last.cases == [
        case,
        {'measure': 'memory'},
    ]
    assert FakeWorker.last.closed


def test_ratios_are_of_what_begins_and_ends_on_the_grid():
    samples = {
        (model.OURS, 'block', 'forward'): Sample((1.0, 1.0)),
        (model.OURS, 'block_on_grid', 'forward'): Sample((2.0, 4.0)),
        (model.OFFICIAL, 'block_on_grid', 'forward'): Sample((20.0, 32.0)),
    }
    assert model.ratios('block', samples)['forward']['values'] == [10.0, 8.0]
    assert model.ratios('convolution', samples) == {}


def test_the_official_library_is_asked_for_fields_on_the_grid_only():
    assert model.layers_of(model.OFFICIAL, 'block') == ['block_on_grid']
    asked = [n for k in ('convolution', 'block') for n in model.layers_of('us', k)]
    assert asked == list(layers.LAYERS)


def test_targets_are_judged():
    verdicts = {
        t.name: t.verdict for t in model_tables.targets(result()['measurements'])
    }
    assert verdicts == {
        'official / spherecast, block on the grid, value_and_grad': 'pass',
        'five-day forecast: s': 'FAIL',
        'memory of the program, update of 12 steps: GiB': 'pass',
        'memory of the program, update of 12 steps / 4 steps': 'pass',
        'memory of the process, update of 12 steps: GiB': 'pass',
        'memory of the process, update of 12 steps / 4 steps': 'FAIL',
        'slowest compilation: s': 'pass',
    }


def test_targets_of_what_was_not_measured_are_open():
    assert {t.verdict for t in model_tables.targets({})} == {'not measured'}


@pytest.mark.parametrize(
    'expected',
    [
        'spherecast, grid, value_and_grad | 250 (0 %)',
        '| training update, rollout of 12 | 40 | 0 % | 3 | 20.0 | 1.50 | 4.00 |',
        '20 GFLOP',
        '40 GFLOP/s, 40 % of',
        'One step: 0.5 s in float32, 0.25 s in bfloat16.',
        '| trained run, 20 steps ',
        '500.25',
        '- a part: why',
    ],
)
def test_the_report_holds_every_measurement(expected):
    # Through JSON, as in the file from which tables can be made again.
    sections = model_tables.sections(json.loads(json.dumps(result())))
    text = '\n'.join(sections.values())
    assert expected in re.sub(' +', ' ', text)


@pytest.mark.parametrize('name', [None, *result()['measurements']])
def test_what_was_not_measured_leaves_its_section_alone(name):
    measurements = {k: v for k, v in result()['measurements'].items() if k == name}
    sections = model_tables.sections({**result(), 'measurements': measurements})
    ((section, text),) = sections.items()
    assert section == ('precision' if name in ('precision', 'trained') else 'model')
    assert 'abc1234' in text and 'a part: why' in text and '\n\n\n' not in text


@pytest.mark.parametrize('layer', layers.LAYERS)
def test_a_layer_goes_from_coefficients_or_fields_to_the_same(layer, monkeypatch):
    def shapes(function, parameters, inputs, constants):
        outputs = jax.eval_shape(function, parameters, inputs, constants)
        return Prepared({}, {'inputs': inputs, 'outputs': outputs})

    monkeypatch.setattr(programs, 'forward_and_gradient', shapes)
    case = {'layer': layer, 'num_points': 8, 'channels': 2, 'num_knots': 2}
    facts = layers.prepare(case).facts
    inputs, outputs = (jax.tree.map(jnp.shape, facts[k]) for k in ('inputs', 'outputs'))
    assert inputs == outputs
    on_grid = layer.endswith('_on_grid')
    assert outputs[0][:3] == ((1, 8, 8) if on_grid else (1, 4, 4))


def test_the_full_size_is_that_of_the_config():
    setup = flagship.full_size()
    assert setup.grid.shape == (256, 256)
    assert len(setup.data.channels) == 78


def test_a_random_batch_is_what_an_update_takes():
    setup = flagship.tiny()
    batch = flagship.random_batch(setup, 3)
    shapes = {name: fields.shape for name, fields in batch.fields.items()}
    assert shapes == dict.fromkeys(setup.data.channels.variables, (1, 4, 13, 16, 16))
    assert batch.clocks.shape[:2] == (1, 3)
    state = Forecaster.without_data(setup).normalize(batch.fields)
    assert state.shape == (1, 4, 16, 16, 78)


def test_the_difference_of_two_forecasts():
    grid = LatLonGrid(kind='gauss', num_lat=4, num_lon=8)
    start = np.zeros((1, 4, 8, 2), np.float32)
    reference = start + np.array([3.0, 4.0], np.float32)
    state = reference + np.array([0.0, 0.5], np.float32)
    found = precision.difference(state, reference, start=start, grid=grid)
    assert found['change'] == pytest.approx(np.sqrt(12.5))
    assert found['of_state'] == found['of_change'] == pytest.approx(0.1)
    assert found['of_change_worst_channel'] == pytest.approx(0.125)


def test_differences_are_weighted_by_area():
    grid = LatLonGrid(kind='gauss', num_lat=4, num_lon=8)
    reference = np.ones((4, 8, 1), np.float32)
    error = np.zeros_like(reference)
    error[0] = 1
    found = precision.difference(
        reference + error, reference, start=0 * reference, grid=grid
    )
    assert found['of_state'] == pytest.approx(np.sqrt(grid.area_weights[0] / 4))


def test_random_states_are_smooth_and_of_variance_one():
    model_ = Forecaster.without_data(flagship.tiny())
    state = precision.smooth_state(model_)
    assert state.shape == (1, 16, 16, 78)
    np.testing.assert_allclose(jnp.square(state).mean(axis=(0, 1, 2)), 1, **ROUND_OFF)
    # White noise differs from its neighbour by sqrt(2).
    assert jnp.abs(jnp.diff(state, axis=2)).mean() < 0.7


def test_disturbed_parameters_are_all_at_work_and_the_same_again():
    params = {'knots': jnp.zeros((3, 16, 4)), 'scale': jnp.zeros(5)}
    disturbed = precision.disturb(params)
    assert all((leaf != 0).all() for leaf in jax.tree.leaves(disturbed))
    again = precision.disturb(params)
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), disturbed, again))
    expected = precision.PERTURBATION / 4
    assert 0.5 < disturbed['knots'].std() / expected < 1.5


def test_precision_is_an_option_of_the_model():
    setup = flagship.tiny()
    assert flagship.with_precision(setup, 'bfloat16').model.precision == 'bfloat16'
