"""The floors of the house: each module imports only from lower ones."""

import ast
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
        'learning.signals',
        'learning.lock',
        'learning.checksums',
        'learning.settings',
        'learning.sharding',
    ),
    (
        'learning.command_line',
        'learning.problems',
        'learning.optimizer',
        'learning.loss_log',
        'learning.checkpoint',
    ),
    ('learning.schema', 'learning.update'),
    ('learning.fit',),
    ('learning',),
    ('weather.variables', 'weather.outputs'),
    ('weather.entries',),
    ('weather.experiment',),
    ('weather.workdir',),
    ('weather.data',),
    ('weather.model',),
    ('weather.training', 'weather.forecasting', 'weather.evaluation'),
)
APART = ('weather.training', 'weather.forecasting', 'weather.evaluation')
NUMPY_ONLY = ('sphere_ops.grid', 'sphere_ops.wigner', 'weather.variables')
HOME_OF_XARRAY = ('weather.data', 'weather.forecasting', 'weather.evaluation')
MAX_LINES, MAX_FUNCTION_LINES = 400, 80


def modules() -> dict[str, pathlib.Path]:
    paths = [path for room in ROOMS for path in ROOT.glob(f'{room}/**/*.py')]
    return {
        '.'.join(path.relative_to(ROOT).with_suffix('').parts): path
        for path in paths
        if path.name != '__init__.py'
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
