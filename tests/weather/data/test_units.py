"""Units are compared by meaning and converted; what measures another thing is not."""

import pytest

from weather.data import checks, units
from weather.variables import VARIABLES

# UDUNITS computes in float64; only the last digits of a quotient are lost.
ROUND_OFF = dict(rel=1e-11)

SAME = {
    'geopotential': (
        'm2 s-2', 'm**2 s**-2', 'm^2 s^-2', 'm2/s2', 'm2.s-2', 'J kg-1', 'J/kg',
        'm^2s^-2', 'm2s-2', 'm^{2} s^{-2}',
    ),
    'temperature': ('K', 'kelvin', 'degK', 'deg_K', 'degrees K', 'Kelvin', 'kelvins'),
    'u_component_of_wind': (
        'm/s', 'meters/second', 'metre second-1', 'm s^-1', 'ms-1', 'm s^{-1}', 'mps',
    ),
    'vertical_velocity': ('Pascal/s', 'Pa/s', 'Pa s**-1', 'pa/s', 'Pascals/second'),
    'specific_humidity': ('1', 'kg kg-1', 'kg/kg', 'kg kg**-1', 'dimensionless'),
    'land_sea_mask': (
        '(0 - 1)', 'Proportion', '0-1', '0/1', 'none', '~', '-', 'fraction', '1', '',
    ),
    'mean_sea_level_pressure': ('Pascals', 'pascal', 'N m-2', 'PA', 'pa'),
    'total_precipitation': ('m', 'metres', 'm of water equivalent'),
    'toa_incident_solar_radiation': ('J m**-2', 'J/m^2', 'joules m-2'),
    'sea_ice_cover': ('[0 - 1]', '0..1', 'fractional', '(0-1)'),
}  # fmt: skip
# (name, units, a stored value, what it is in SI units)
CONVERTED = [
    ('temperature', 'degC', 20.0, 293.15),
    ('temperature', 'Celsius', -5.0, 268.15),
    ('2m_temperature', 'degF', 50.0, 283.15),
    ('specific_humidity', 'g kg-1', 8.0, 8e-3),
    ('specific_humidity', 'grams/kg', 8.0, 8e-3),
    ('mean_sea_level_pressure', 'hPa', 1013.25, 101325.0),
    ('surface_pressure', 'mb', 1000.0, 1e5),
    ('vertical_velocity', 'mb/s', 0.02, 2.0),
    ('vertical_velocity', 'hPa/hr', 36.0, 1.0),
    # A kilogram of water on a square metre is a millimetre.
    ('total_precipitation', 'kg m**-2', 5.0, 5e-3),
    ('total_precipitation_6hr', 'mm', 5.0, 5e-3),
    ('sea_ice_cover', 'pct', 50.0, 0.5),
    ('u_component_of_wind', 'kmh-1', 36.0, 10.0),
    ('land_sea_mask', '%', 50.0, 0.5),
    ('u_component_of_wind', 'knot', 10.0, 5.14444444444),
    ('vertical_velocity', 'hPa/s', 0.02, 2.0),
    # The geopotential of a height in (geopotential) metres, standard gravity.
    ('geopotential', 'gpm', 5500.0, 53936.575),
    ('geopotential', 'm', 5500.0, 53936.575),
    ('geopotential', 'dam', 550.0, 53936.575),
    ('geopotential', 'gpdm', 550.0, 53936.575),
    ('geopotential_at_surface', 'km', 1.0, 9806.65),
]
REFUSED = [
    ('temperature', 'm'),
    ('temperature', '1'),
    ('temperature', 'C s-1'),
    ('geopotential', 'K'),
    ('geopotential', 'kg m-2'),
    ('total_precipitation', 'mm/day'),
    ('toa_incident_solar_radiation', 'W m-2'),
    ('specific_humidity', 'kg m-2'),
    ('geopotential', 'm2 s-2!'),
    ('specific_humidity', 'kg m-3'),
    ('u_component_of_wind', 'Pa s-1'),
    ('mean_sea_level_pressure', 'days since 2000-01-01'),
]


@pytest.mark.parametrize(
    ('name', 'spelling'), [(name, s) for name, of in SAME.items() for s in of]
)
def test_spellings_of_the_variable_s_own_units_change_nothing(name, spelling):
    assert units.to_canonical(name, spelling, 'a store') == (1.0, 0.0)


@pytest.mark.parametrize(('name', 'spelling', 'stored', 'expected'), CONVERTED)
def test_other_units_are_converted(name, spelling, stored, expected):
    factor, offset = units.to_canonical(name, spelling, 'a store')
    assert stored * factor + offset == pytest.approx(expected, **ROUND_OFF)


@pytest.mark.parametrize(('name', 'spelling'), REFUSED)
def test_units_of_another_quantity_are_refused(name, spelling):
    expected = VARIABLES[name].units
    with pytest.raises(ValueError, match=f"{name} in '{expected}' .* found units .*;"):
        checks.check_units(name, spelling, 'a store')


def test_units_of_every_variable_are_their_own():
    for variable in VARIABLES.values():
        assert units.to_canonical(variable.name, variable.units, 's') == (1.0, 0.0)
    assert units.to_canonical('temperature', None, 'a store') == (1.0, 0.0)
    assert units.to_canonical('name of something else', 'anything', 's') == (1.0, 0.0)


def test_udunits_keeps_quiet(capfd):
    assert units.conversion('no such thing', 'K') is None
    assert capfd.readouterr() == ('', '')
