"""Units as UDUNITS understands them, with the spellings that it does not know."""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

import cf_units

from weather.variables import VARIABLES

GRAVITY = 9.80665  # m s-2, standard (CGPM 1901)

# What is written in real stores (ECMWF, CDS, NCEP) and means something else, or
# nothing, to UDUNITS: its C is the coulomb and its mb the millibarn.
_SPELLINGS = {
    **dict.fromkeys(
        (
            '-', '~', '(0 - 1)', '(0-1)', '0 - 1', '0-1', '0/1', '0 or 1', 'none',
            'no unit', 'no_unit', 'dimensionless', 'unitless', 'non-dim', 'fraction',
            'proportion', 'ratio', 'numeric', '[]', '[0 - 1]', '[0-1]', '0..1', '1/0',
            'flag', 'boolean', 'fractional', 'code table', '(code table)',
            'kg kg-1', 'kg/kg',
        ),
        '1',
    ),
    'pct': '%',
    **dict.fromkeys(('c', 'deg c', 'degrees c', 'degree c', 'celcius'), 'degC'),
    **dict.fromkeys(('degrees k', 'degree k', 'deg k', 'k'), 'K'),
    **dict.fromkeys(('mb', 'mbs', 'hectopascals'), 'hPa'),
    **dict.fromkeys(('gpm', 'geopotential meter', 'geopotential metre'), 'm'),
    **dict.fromkeys(('gpdam', 'gpdm'), 'dam'),
    **dict.fromkeys(('ms-1', 'ms^-1', 'ms**-1', 'mps'), 'm s-1'),
    **dict.fromkeys(('km/hr', 'kmh-1', 'kph'), 'km h-1'),
    'm of water equivalent': 'm',
}  # fmt: skip
# Words within units that UDUNITS knows in another case, or by another meaning.
_WORDS = {
    'pa': 'Pa', 'hpa': 'hPa', 'pascal': 'Pa', 'pascals': 'Pa', 'mb': 'hPa',
    'kg': 'kg', 'g': 'g', 'hr': 'h',
}  # fmt: skip
_WATER = 1000.0  # kg m-3: precipitation in kg m-2 is one in mm


class Conversion(NamedTuple):
    """`value * factor + offset` is in the units wanted."""

    factor: float = 1.0
    offset: float = 0.0


@functools.lru_cache(maxsize=1024)
def conversion(units: str, wanted: str) -> Conversion | None:
    """Returns how `units` become `wanted`; None where they measure something else."""
    target = _parse(wanted)
    for spelling in (units, _respelt(units)):
        found = _parse(spelling)
        if found is not None and target is not None and found.is_convertible(target):
            break
    else:
        return None
    zero, far = (float(found.convert(value, target)) for value in (0.0, 1e6))
    # Rounded, so that the same scale with another zero has a factor of exactly 1.
    return Conversion(float(f'{(far - zero) / 1e6:.12g}'), float(f'{zero:.12g}'))


def to_canonical(name: str, units: object, source: str) -> Conversion:
    """Returns how a stored variable becomes SI units.

    Absent units are taken for the variable's own, and so are all of a variable that the
    project does not know; heights become geopotential, masses of rain its depth.

    Raises:
      ValueError: units that measure something else, or that nobody understands.
    """
    # Nothing said is taken for right: `checks` looks at the values too.
    text = str(units).strip() if units is not None else ''
    if name not in VARIABLES or text.lower() in ('', 'unknown'):
        return Conversion()
    expected = VARIABLES[name].units
    found = conversion(text, expected)
    if found is None and expected == 'm2 s-2':
        height = conversion(text, 'm')
        found = height and Conversion(height.factor * GRAVITY, height.offset * GRAVITY)
    if found is None and expected == 'm':
        mass = conversion(text, 'kg m-2')
        found = mass and Conversion(mass.factor / _WATER, mass.offset / _WATER)
    if found is None:
        raise ValueError(
            f'expected {name} in {expected!r} or units that convert to it, found units '
            f'{text!r} in {source}; convert {name} to {expected}, or correct the '
            'attribute'
        )
    return found


def _respelt(units: str) -> str:
    """Units with powers set apart and words as UDUNITS spells them.

    `m^2s^-2` is m2 s-2 and `s^{-1}` is s-1.
    """
    apart = re.sub(r'(?<=\d)(?=[A-Za-z])', ' ', re.sub('[{}]', '', units))
    return re.sub('[A-Za-z]+', lambda word: _WORDS.get(word[0].lower(), word[0]), apart)


@functools.lru_cache(maxsize=1024)
def _parse(units: str) -> cf_units.Unit | None:
    text = units.strip()
    try:
        # UDUNITS prints what it does not understand.
        with cf_units.suppress_errors():
            unit = cf_units.Unit(_SPELLINGS.get(text.lower(), text))
    except ValueError:
        return None
    return None if unit.is_unknown() or unit.is_time_reference() else unit
