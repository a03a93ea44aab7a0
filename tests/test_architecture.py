"""The floors of the house: each module imports only from lower ones."""

import ast
import graphlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]

# From the ground up. A module may import from its own floor and from those below it;
# training, forecasting and evaluation stand side by side and do not know each other.
ROOMS = ('sphere_ops', 'learning', 'weather')
FLOORS = (
    ('sphere_ops.grid', 'sphere_ops.wigner'),
    ('sphere_ops.fields', 'sphere_ops.reflection'),
    ('sphere_ops.fourier', 'sphere_ops.legendre'),
    ('sphere_ops.transform',),
    ('sphere_ops.operators',),
    ('sphere_ops',),
    (
        'learning.files',
        'learning.provenance',
        'learning.config_flags',
        'learning.spelling',
    ),
    ('learning.command_line', 'learning.problems'),
    ('learning.schema',),
    ('learning',),
    ('weather.variables', 'weather.outputs'),
    ('weather.entries',),
    ('weather.experiment',),
    ('weather.workdir',),
    ('weather.data',),
    ('weather.model',),
    ('weather.training', 'weather.forecasting', 'weather.evaluation'),
    ('weather.report',),
)
APART = ('weather.training', 'weather.forecasting', 'weather.evaluation')
NUMPY_ONLY = ('sphere_ops.grid', 'sphere_ops.wigner', 'weather.variables')
HOME_OF_XARRAY = (
    'weather.data',
    'weather.forecasting',
    'weather.evaluation',
    'weather.report',
)
# Modules without a test file of their own, and where they are tested instead.
TESTED_ELSEWHERE = {}
MAX_LINES, MAX_FUNCTION_LINES = 400, 80


def modules() -> dict[str, pathlib.Path]:
    paths = [path for room in ROOMS for path in ROOT.glob(f'{room}/**/*.py')]
    return {
        '.'.join(path.relative_to(ROOT).with_suffix('').parts): path
        for path in paths
        if path.name != '__init__.py'
    }


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


def test_no_import_goes_round_in_a_circle():
    # The order exists: whoever stands in it imports only from what stands before.
    order = list(graphlib.TopologicalSorter(import_graph()).static_order())
    assert set(modules()) <= set(order)


def test_folders_import_in_one_direction():
    graph: dict[str, set[str]] = {}
    for name, imported in import_graph().items():
        folder = name if name not in modules() else name.rpartition('.')[0]
        others = {one.rpartition('.')[0] or one for one in imported & set(modules())}
        # A package's face may show what its folders hold.
        if name in modules():
            graph.setdefault(folder, set()).update(others - {folder})
    list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize('name', modules())
def test_a_module_has_a_test_of_its_own(name):
    *folders, module = name.split('.')
    exists = ROOT.joinpath('tests', *folders, f'test_{module}.py').exists()
    assert exists != (name in TESTED_ELSEWHERE), (
        f'expected a test file of {name}, or where it is tested in TESTED_ELSEWHERE; '
        'not both'
    )


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
            and {alias.name for alias in node.names} <= {'command_line', 'config_flags'}
        )
        assert light, f'{path.name} imports {module} before --help can answer'
    assert 'Example' in ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize(
    'path', sorted(ROOT.glob('configs/*.py')), ids=lambda p: p.stem
)
def test_configs_import_only_ml_collections(path):
    assert imports(path) == {'ml_collections.ConfigDict'}
