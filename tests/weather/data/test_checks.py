"""Units are compared by meaning, and the standard atmosphere is near the real one."""

import pytest

from sphere_ops import LatLonGrid
from weather.data import checks, store
from weather.variables import VARIABLES, WEATHERBENCH_LEVELS

# Round-off of the published table, and its geometric against geopotential heights.
TABLE = dict(rel=2e-3)
# Season and hemisphere: how far one January's global mean is from the standard.
REAL_ATMOSPHERE = dict(rel=0.1)


def test_units_of_every_variable_are_understood():
    for variable in VARIABLES.values():
        checks.check_units(variable.name, variable.units, 'a store')
    checks.check_units('temperature', 'kelvin', 'a store')
    checks.check_units('temperature', None, 'a store')
    checks.check_units('name of something else', 'anything', 'a store')


@pytest.mark.parametrize('pressure, height', [(850, 1457), (500, 5574), (100, 16180)])
def test_standard_geopotential_is_that_of_the_tables(pressure, height):
    geopotential = checks.standard_geopotential(pressure)
    assert geopotential / checks.GRAVITY == pytest.approx(height, **TABLE)


def test_standard_geopotential_is_near_the_real_mean(shared_data):
    opened = store.open_store(
        shared_data / 'ncep_r1_20220101_5d_73x144.zarr',
        levels={'geopotential': WEATHERBENCH_LEVELS},
    )
    grid = LatLonGrid.from_latitudes_longitudes(
        opened['latitude'].values, opened['longitude'].values
    )
    mean = (opened['geopotential'][0] * grid.area_weights[:, None]).mean(
        ('latitude', 'longitude')
    )
    for level in WEATHERBENCH_LEVELS:
        if level <= 850:
            standard = checks.standard_geopotential(level)
            assert float(mean.sel(level=level)) == pytest.approx(
                standard, **REAL_ATMOSPHERE
            )
