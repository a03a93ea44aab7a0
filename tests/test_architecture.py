"""The floors of the house: each module imports only from lower ones."""

import ast
import functools
import graphlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]

# From the ground up. A module may import from its own floor and from those below it;
# training, forecasting and evaluation stand side by side and do not know each other.
ROOMS = ('sphere_ops', 'learning', 'launching', 'weather')
FLOORS = (
    ('sphere_ops.grid', 'sphere_ops.wigner'),
    ('sphere_ops.sharding',),
    ('sphere_ops.fields', 'sphere_ops.reflection'),
    ('sphere_ops.fourier', 'sphere_ops.legendre'),
    ('sphere_ops.transform',),
    ('sphere_ops.operators', 'sphere_ops.regridding'),
    ('sphere_ops',),
    (
        'learning.addresses',
        'learning.files',
        'learning.provenance',
        'learning.processes',
        'learning.once',
        'learning.lease',
        'learning.config_flags',
        'learning.spelling',
        'learning.signals',
        'learning.flops',
        'learning.lock',
        'learning.clusters',
        'learning.hub',
        'learning.seat',
        'learning.checksums',
    ),
    (
        'learning.command_line',
        'learning.process_flags',
        'learning.profiling',
        'learning.problems',
        'learning.copies',
        'learning.loss_log',
        'learning.commit',
        'learning.unsigned',
        'learning.checkpoint',
        'learning.failures',
    ),
    ('learning.inventory', 'learning.schema'),
    ('learning.settings',),
    ('learning.optimizer', 'learning.sharding'),
    ('learning.update',),
    ('learning.task',),
    ('learning.fit',),
    ('learning',),
    # Knows no weather: it starts a command.
    ('launching',),
    ('weather.variables', 'weather.outputs'),
    ('weather.entries',),
    ('weather.schedule',),
    ('weather.experiment',),
    ('weather.workdir',),
    ('weather.data',),
    ('weather.doctor', 'weather.building', 'weather.model'),
    ('weather.training', 'weather.forecasting', 'weather.evaluation'),
    ('weather.report',),
)
APART = ('weather.training', 'weather.forecasting', 'weather.evaluation')
NUMPY_ONLY = ('sphere_ops.grid', 'sphere_ops.wigner', 'weather.variables')
HOME_OF_XARRAY = (
    'weather.data',
    'weather.building',
    'weather.forecasting',
    'weather.evaluation',
    'weather.report',
)
# Modules without a test file of their own: they are parts of something that is tested
# as a whole, because only the whole has an independent answer. The test of which:
TESTED_WITH = {
    'learning.task': 'learning/test_fit.py',
    'weather.schedule': 'weather/test_experiment.py',
    'weather.training.layouts': 'weather/training/test_processes.py',
    'weather.training.origin': 'weather/training/test_trainer.py',
    'sphere_ops.fields': 'sphere_ops/test_transform.py',
    'sphere_ops.legendre': 'sphere_ops/test_transform.py',
    'sphere_ops.reflection': 'sphere_ops/test_fourier.py',
    'sphere_ops.testing': 'sphere_ops/test_operators.py',
    'learning.checksums': 'learning/test_checkpoint.py',
    'learning.hub': 'learning/test_processes.py',
    'learning.seat': 'learning/test_processes.py',
    'learning.copies': 'learning/test_loss_log.py',
    'learning.commit': 'learning/test_checkpoint.py',
    'learning.unsigned': 'learning/test_checkpoint.py',
    'learning.process_flags': 'learning/test_processes.py',
    'learning.profiling': 'learning/test_processes.py',
    'learning.problems': 'weather/test_experiment.py',
    'learning.signals': 'learning/test_fit.py',
    'learning.spelling': 'weather/test_variables.py',
    'launching.code': 'launching/test_launch.py',
    'launching.shell': 'launching/targets/test_slurm.py',
    'launching.tpu_scripts': 'launching/targets/test_tpu.py',
    'weather.entries': 'weather/test_experiment.py',
    'weather.outputs': 'learning/test_files.py',
    'weather.data.day_sums': 'weather/data/test_climatology.py',
    'weather.data.identity': 'weather/data/test_preparation.py',
    'weather.data.parts': 'weather/data/test_sources.py',
    'weather.data.prepared_climatology': 'weather/data/test_preparation.py',
    'weather.data.record_writer': 'weather/data/test_record.py',
    'weather.data.repetitions': 'weather/data/test_joining.py',
    'weather.data.shares': 'weather/data/test_loader.py',
    'weather.data.shelf': 'weather/data/test_preparation.py',
    'weather.data.spread': 'weather/data/test_statistics.py',
    'weather.data.stored_field': 'weather/data/test_store.py',
    'weather.data.times': 'weather/data/test_axes.py',
    'weather.data.sources.array_record': 'weather/data/test_tfds_export.py',
    'weather.data.sources.dataset': 'weather/data/test_sources.py',
    'weather.data.sources.grib': 'weather/data/test_grib.py',
    'weather.data.sources.netcdf': 'weather/data/test_sources.py',
    'weather.data.sources.zarr_store': 'weather/data/test_sources.py',
    'weather.doctor.earlier': 'weather/doctor/test_check.py',
    'weather.building.output': 'weather/building/test_build.py',
    'weather.building.plan': 'weather/building/test_build.py',
    'weather.building.planning': 'weather/building/test_build.py',
    'weather.building.verify': 'weather/building/test_build.py',
    'weather.model.loss': 'weather/model/test_rollout.py',
    'weather.model.networks.spherical_cnn': 'weather/model/test_forecaster.py',
    'weather.evaluation.averages': 'weather/evaluation/test_metrics.py',
    'weather.evaluation.normals': 'weather/evaluation/test_evaluate.py',
    'weather.evaluation.pairing': 'weather/evaluation/test_evaluate.py',
    'weather.evaluation.shared': 'weather/evaluation/test_evaluate.py',
    'weather.training.banner': 'weather/training/test_trainer.py',
    'weather.training.plan_text': 'weather/training/test_plan.py',
    'weather.training.proposals': 'weather/training/test_plan.py',
    'weather.training.loss': 'weather/training/test_trainer.py',
    'weather.training.validation': 'weather/training/test_trainer.py',
    'weather.training.task': 'weather/training/test_trainer.py',
    'weather.forecasting.layout': 'weather/forecasting/test_export.py',
    'weather.forecasting.run': 'weather/forecasting/test_forecast.py',
    'weather.forecasting.writer': 'weather/forecasting/test_export.py',
    'weather.report.fields': 'weather/report/test_report.py',
    'weather.report.page': 'weather/report/test_report.py',
    'weather.report.scores': 'weather/report/test_report.py',
    'weather.report.ties': 'weather/report/test_report.py',
}
MAX_LINES, MAX_FUNCTION_LINES = 400, 80


def modules() -> dict[str, pathlib.Path]:
    paths = [path for room in ROOMS for path in ROOT.glob(f'{room}/**/*.py')]
    return {
        '.'.join(path.relative_to(ROOT).with_suffix('').parts): path
        for path in paths
        if path.name != '__init__.py'
    }


@functools.cache
def import_graph() -> dict[str, set[str]]:
    """What every module and package of the house imports of the house."""
    paths = modules() | {
        '.'.join(path.parent.relative_to(ROOT).parts): path
        for room in ROOMS
        for path in ROOT.glob(f'{room}/**/__init__.py')
    }

    def home(imported: str) -> str:
        while imported and imported not in paths:
            imported = imported.rpartition('.')[0]
        return imported

    return {
        name: {home(imported) for imported in imports(path)} - {'', name}
        for name, path in paths.items()
    }


def imports(path: pathlib.Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f'{node.module}.{alias.name}' for alias in node.names}
    return found


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(package + '.')


def floor(name: str) -> int:
    """The floor of the longest entry of FLOORS that holds `name`."""
    entries = [(len(p), i) for i, f in enumerate(FLOORS) for p in f if is_in(name, p)]
    assert entries, f'{name} stands on no floor; give it one in FLOORS'
    return max(entries)[1]


@pytest.mark.parametrize('name', modules())
def test_a_module_imports_only_from_its_floor_and_below(name):
    for imported in imports(modules()[name]):
        if imported.split('.')[0] in ROOMS:
            assert floor(imported) <= floor(name), f'{name} imports {imported}'
        assert imported.split('.')[0] not in ('configs', 'scripts', 'tests')


def test_imports_never_go_round_in_a_circle():
    # An order exists in which every module imports from earlier ones alone: within a
    # folder too, where FLOORS say nothing.
    list(graphlib.TopologicalSorter(import_graph()).static_order())


def test_folders_import_in_one_direction():
    def folder(name: str) -> str:
        return name if name not in modules() else name.rpartition('.')[0]

    # A folder within another is a part of it. A package's own face shows what its
    # folders hold, and is left out.
    folders: dict[str, set[str]] = {}
    for name in modules():
        mine = folder(name)
        others = {folder(imported) for imported in import_graph()[name]}
        apart = {one for one in others if not is_in(one, mine) and not is_in(mine, one)}
        folders.setdefault(mine, set()).update(apart)
    list(graphlib.TopologicalSorter(folders).static_order())


def test_a_module_has_a_test_of_its_own_or_is_named():
    tests = {
        name: '/'.join(name.split('.')[:-1] + [f'test_{name.split(".")[-1]}.py'])
        for name in modules()
    }
    without = {n for n, test in tests.items() if not (ROOT / 'tests' / test).exists()}
    assert without == set(TESTED_WITH), 'TESTED_WITH lacks these, or needs them no more'
    for test in TESTED_WITH.values():
        assert (ROOT / 'tests' / test).exists(), test


@pytest.mark.parametrize('name', [n for n in modules() if n.startswith('weather.')])
def test_training_forecasting_and_evaluation_do_not_know_each_other(name):
    mine = [package for package in APART if is_in(name, package)]
    for imported in imports(modules()[name]):
        others = [package for package in APART if is_in(imported, package)]
        assert not mine or others in ([], mine), f'{name} imports {imported}'


@pytest.mark.parametrize('name', NUMPY_ONLY)
def test_the_ground_floor_needs_no_jax(name):
    assert not any(
        is_in(i, p) for i in imports(modules()[name]) for p in ('jax', 'flax')
    )


@pytest.mark.parametrize('name', modules())
def test_xarray_stays_at_the_edges(name):
    if not any(is_in(name, home) for home in HOME_OF_XARRAY):
        assert not any(
            is_in(imported, 'xarray') for imported in imports(modules()[name])
        )


@pytest.mark.parametrize('name', modules())
def test_modules_and_functions_fit_in_the_eye(name):
    text = modules()[name].read_text()
    assert len(text.splitlines()) <= MAX_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            length = node.end_lineno - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f'{name}.{node.name}: {length} lines'


@pytest.mark.parametrize(
    'path', sorted(ROOT.glob('scripts/*.py')), ids=lambda p: p.stem
)
def test_scripts_hold_no_ideas(path):
    assert len(path.read_text().splitlines()) <= 70
    top_level = ast.parse(path.read_text()).body
    heavy = [n for n in top_level if isinstance(n, ast.Import | ast.ImportFrom)]
    for node in heavy:
        module = getattr(node, 'module', None) or node.names[0].name
        light = module.split('.')[0] in ('absl', 'collections') or (
            module == 'learning'
            and {alias.name for alias in node.names}
            <= {'command_line', 'config_flags', 'process_flags'}
        )
        assert light, f'{path.name} imports {module} before --help can answer'
    assert 'Example' in ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize(
    'path', sorted(ROOT.glob('configs/*.py')), ids=lambda p: p.stem
)
def test_configs_import_only_ml_collections(path):
    assert imports(path) == {'ml_collections.ConfigDict'}
