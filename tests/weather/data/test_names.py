"""What others call a variable is the variable, where units and levels agree."""

import numpy as np
import pytest
import xarray as xr

from weather import variables
from weather.data import store
from weather.data.names import known_with_aliases
from weather.data.units import GRAVITY
from weather.variables import VARIABLES, Variable

TIMES = np.datetime64('2000-01-01', 'ns') + np.arange(3) * np.timedelta64(6, 'h')
LATITUDES, LONGITUDES = np.arange(75, -76, -30.0), np.arange(0, 360, 45.0)
LEVELS = [500, 850]
HEIGHTS = ('gh', 'zg', 'hgt', 'h', 'z3', 'hgtprs', 'geopotential_height')
SURFACE_HEIGHTS = ('orography', 'orog', 'hgt', 'hgtsfc', 'gh')
# float32 of a product with standard gravity.
ROUND_OFF = dict(rtol=2e-7)


def field(value, *, levels=LEVELS, times=TIMES, units=None, dtype='f4'):
    """A field that tells time and level by its values: 10 per time, 1 per level."""
    dims, shape = ['time'], [len(times)]
    if levels is not None:
        dims, shape = [*dims, 'level'], [*shape, len(levels)]
    counted = value + 10.0 * np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    if levels is not None:
        counted = counted + np.arange(shape[1])
    values = np.broadcast_to(counted[..., None, None], (*shape, 6, 8)).astype(dtype)
    attributes = {} if units is None else {'units': units}
    return (*dims, 'latitude', 'longitude'), values, attributes


def dataset(fields, **coordinates):
    coords = {
        'time': TIMES, 'level': LEVELS, 'latitude': LATITUDES, 'longitude': LONGITUDES,
        **coordinates,
    }  # fmt: skip
    used = {dim for dims, *_ in fields.values() for dim in dims}
    return xr.Dataset(fields, {k: v for k, v in coords.items() if k in used})


def opened(data, **options):
    return store.open_dataset(data, what='atmosphere', **options)


ALIASES = [(of.name, alias) for of in VARIABLES.values() for alias in of.aliases]


@pytest.mark.parametrize(('name', 'alias'), ALIASES)
@pytest.mark.parametrize('spelling', [str, str.upper])
def test_every_alias_is_its_variable(name, alias, spelling):
    """In any case; heights, which say no units here, become geopotential."""
    variable = VARIABLES[name]
    values = field(1.0, levels=LEVELS if variable.on_levels else None)
    if variable.role == 'static':
        values = (values[0][1:], values[1][0], {})
    found = opened(dataset({spelling(alias): values}))
    assert list(found) == [name]
    height = alias in (HEIGHTS if variable.on_levels else SURFACE_HEIGHTS)
    factor = GRAVITY if height and 'geopotential' in name else 1.0
    np.testing.assert_allclose(found[name], factor * values[1], **ROUND_OFF)
    assert found[name].attrs['units'] == variable.units


def test_the_letter_z_is_geopotential_on_levels_and_that_of_the_surface_without():
    upper = field(5e4, units='m**2 s**-2')
    ground = (upper[0][2:], upper[1][0, 0] / 100, upper[2])
    assert list(opened(dataset({'z': upper}))) == ['geopotential']
    assert list(opened(dataset({'z': ground}))) == ['geopotential_at_surface']
    # Both, where files for them are opened together.
    both = opened([dataset({'z': upper}), dataset({'z': ground})])
    assert float(both['geopotential'][2, 1, 0, 0]) == 5e4 + 21
    assert float(both['geopotential_at_surface'][0, 0]) == 5e2


def test_a_level_beside_the_fields_makes_an_axis_of_one():
    one = dataset({'z': field(5e4), 't': field(250.0)}).isel(level=0)
    found = store.open_store(
        one, levels={'geopotential': (500,), 'temperature': (500,)}
    )
    assert found['geopotential'].dims == ('time', 'level', 'latitude', 'longitude')
    assert found['geopotential'][:, 0, 0, 0].values.tolist() == [
        5e4,
        5e4 + 10,
        5e4 + 20,
    ]


def test_a_level_that_the_file_does_not_name_is_no_orography():
    """The old Climate Data Store gave z so; its values would pass for a static."""
    unnamed = dataset({'z': field(5e4, levels=None), 'msl': field(1e5, levels=None)})
    with pytest.raises(
        ValueError, match="'z' without levels .*never changes.*say which"
    ):
        store.open_store(unnamed)
    assert list(opened(unnamed)) == ['mean_sea_level_pressure']
    assert 'say which' in store.refused(opened(unnamed))['geopotential_at_surface']
    with pytest.raises(
        ValueError, match="also not as z.*'z' is not taken .*axis of lev"
    ):
        store.open_store(unnamed, levels={'geopotential': (500,)})
    # The invariant file of the Climate Data Store repeats z in time.
    constant = dataset({'z': field(5e2, levels=None, units='m2 s-2')})
    constant['z'][:] = 5e2
    assert list(opened(constant)) == ['geopotential_at_surface']


def test_a_canonical_name_wins_and_the_other_keeps_its_own():
    found = opened(dataset({'temperature': field(250.0), 't': field(999.0)}))
    assert float(found['temperature'][0, 0, 0, 0]) == 250
    assert float(found['t'][0, 0, 0, 0]) == 999


def test_two_aliases_of_one_variable_are_named():
    both = dataset({'t': field(250.0), 'ta': field(251.0), 'q': field(1e-3)})
    with pytest.raises(ValueError, match='one array for temperature .*found t and ta'):
        opened(both)
    # Nobody asks which, where neither is wanted.
    assert list(opened(both, names=('specific_humidity',))) == ['specific_humidity']


OTHERS = {
    'a flux': ('H', field(100.0, levels=None, units='W m-2')),
    'speed': ('w', field(0.1, units='m s-1')),
    'power': ('tisr', field(300.0, levels=None, units='W m-2')),
    'no level': ('t', field(280.0, levels=None, units='K')),
    'levels': ('t2m', field(280.0, units='K')),
    'wind at 100 m': ('u100', field(5.0, levels=None, units='m s-1')),
    'wind at 10 m': ('v_10n', field(5.0, levels=None, units='m s-1')),
    'number of a model level': ('t_137', field(280.0, levels=None, units='K')),
    'at two metres': ('q2', field(1e-3, levels=None)),
}


@pytest.mark.parametrize('case', OTHERS)
def test_what_is_not_recognised_stays_under_its_own_name(case):
    name, values = OTHERS[case]
    found = opened(dataset({name: values}))
    assert list(found) == [name]
    np.testing.assert_array_equal(found[name], values[1])


@pytest.mark.parametrize(
    'spelling', ['{}_{}', '{}{}', '{}_{}hPa', '{}{}HPA', '{}_0{}'], ids=str
)
def test_levels_within_names_become_an_axis(spelling):
    fields = {
        spelling.format(name, level): field(value + level, levels=None, units=units)
        for name, value, units in (
            ('z', 5e4, 'm2 s-2'), ('ta', 250.0, 'K'), ('hgt', 5e3, 'gpm'),
            ('u_component_of_wind', 0.0, 'm/s'),
        )
        for level in (850, 100, 500)
        if name != 'hgt'
    }  # fmt: skip
    # Ten metres, and not the level 10 hPa.
    fields['u10'] = field(3.0, levels=None, units='m s-1')
    found = opened(dataset(fields))
    assert set(found) == {
        'geopotential', 'temperature', 'u_component_of_wind', '10m_u_component_of_wind',
    }  # fmt: skip
    assert found['level'].values.tolist() == [100, 500, 850]
    assert found['temperature'][1, :, 0, 0].values.tolist() == [360, 760, 1110]
    assert found['temperature'].dims == ('time', 'level', 'latitude', 'longitude')
    assert float(found['geopotential'].sel(level=850)[2, 3, 4]) == 5e4 + 850 + 20


def test_variables_with_levels_in_their_names_may_lack_some():
    fields = {'z_500': 5e4, 'z_850': 1e4, 't_500': 250.0}
    found = opened(dataset({n: field(v, levels=None) for n, v in fields.items()}))
    assert np.isnan(found['temperature'].sel(level=850)).all()
    assert float(found['temperature'].sel(level=500)[0, 0, 0]) == 250


def test_numbers_of_model_levels_are_no_pressures():
    fields = {f'air_temperature_{n}': field(250.0 + n, levels=None) for n in range(8)}
    assert set(opened(dataset(fields))) == set(fields)


def test_levels_of_a_model_are_a_foreign_axis():
    hybrid = {'units': 'hPa', 'long_name': 'hybrid level at midpoints (1000*(A+B))'}
    layers = {'units': 'layer', 'positive': 'down'}
    pressures = {'units': 'hPa', 'standard_name': 'PLE_level'}
    data = dataset({'T': field(250.0), 'T2M': field(280.0, levels=None)})
    for attributes in (hybrid, layers):
        model = data.rename(level='lev').assign_coords(
            lev=('lev', [500, 850], attributes)
        )
        assert list(opened(model)) == ['2m_temperature']
        with pytest.raises(ValueError, match="expected the variable 'temperature'"):
            store.open_store(model, levels={'temperature': (500,)})
    merra = data.rename(level='lev').assign_coords(lev=('lev', [500, 850], pressures))
    assert opened(merra)['temperature'].sel(level=850)[0, 0, 0] == 251


def test_axes_may_be_spelt_in_any_case():
    data = dataset({'T': field(250.0)}).rename(latitude='LAT', longitude='Lon')
    found = opened(data.rename(time='Time'))
    assert found['temperature'].dims == ('time', 'level', 'latitude', 'longitude')


def test_nothing_recognised_is_an_error_that_lists_what_there_is():
    data = dataset({'thetae': field(300.0), 'cape': field(1.0, levels=None)})
    with pytest.raises(
        ValueError, match=r'found thetae \(.*cape.*known are geopotenti'
    ):
        store.open_store(data)
    with pytest.raises(
        ValueError, match='expected some of temperature .*found cape, th'
    ):
        opened(data, names=('temperature',))
    assert 'temperature (t, ta, air' in known_with_aliases()


def test_only_what_is_named_is_looked_at(write_store, monkeypatch):
    fields = {'t': field(250.0), 'z': field(5e4), 'cape': field(1.0, levels=None)}
    path = write_store(dataset(fields))
    from weather.data.sources.zarr_store import ZarrStore

    looked_at = set()
    variable = ZarrStore.variable

    def spy(self, name):
        looked_at.add(name)
        return variable(self, name)

    monkeypatch.setattr(ZarrStore, 'variable', spy)
    found = opened(path, names=('temperature', 'vertical_velocity'))
    assert list(found) == ['temperature']
    assert not looked_at & {'z', 'cape'}


@pytest.fixture
def register(monkeypatch):
    """Registers variables for the time of a test."""
    monkeypatch.setattr(variables, 'VARIABLES', dict(VARIABLES))
    for module in ('names', 'parts', 'store', 'units', 'decoding'):
        monkeypatch.setattr(
            f'weather.data.{module}.VARIABLES', variables.VARIABLES, raising=True
        )
    return variables.register


def test_variables_of_a_config_have_aliases_too(register):
    humidity = Variable(
        'relative_humidity', 'R', '1', 'relative_humidity', (-0.1, 1.6),
        aliases=('r', 'hur'),
    )  # fmt: skip
    register(humidity)
    found = opened(dataset({'r': field(50.0, units='%')}))
    assert float(found['relative_humidity'][0, 0, 0, 0]) == pytest.approx(0.5)
    ozone = Variable('ozone', 'O3', '1', 'mass_fraction', (0, 1), aliases=('o3', 'T'))
    with pytest.raises(ValueError, match="'t' is one of temperature; leave it out"):
        register(ozone)
