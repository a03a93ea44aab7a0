"""Units as UDUNITS understands them, with the spellings that it does not know."""

from __future__ import annotations

import functools
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
            'proportion', 'ratio', 'numeric', '[]',
        ),
        '1',
    ),
    **dict.fromkeys(('c', 'deg c', 'degrees c', 'degree c'), 'degC'),
    **dict.fromkeys(('degrees k', 'degree k', 'deg k', 'k'), 'K'),
    **dict.fromkeys(('mb', 'mbs', 'hectopascals'), 'hPa'),
    **dict.fromkeys(('gpm', 'geopotential meter', 'geopotential metre'), 'm'),
    'gpdam': 'dam',
}  # fmt: skip


class Conversion(NamedTuple):
    """`value * factor + offset` is in the units wanted."""

    factor: float = 1.0
    offset: float = 0.0


@functools.lru_cache(maxsize=1024)
def conversion(units: str, wanted: str) -> Conversion | None:
    """Returns how `units` become `wanted`; None where they measure something else."""
    found, target = _parse(units), _parse(wanted)
    if found is None or target is None or not found.is_convertible(target):
        return None
    zero, far = (float(found.convert(value, target)) for value in (0.0, 1e6))
    # Rounded, so that the same scale with another zero has a factor of exactly 1.
    return Conversion(float(f'{(far - zero) / 1e6:.12g}'), float(f'{zero:.12g}'))


def to_canonical(name: str, units: object, source: str) -> Conversion:
    """Returns how a stored variable becomes SI units.

    Absent units are taken for the variable's own, and so are all of a variable that the
    project does not know; heights become geopotential.

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
    if found is None:
        raise ValueError(
            f'expected {name} in {expected!r} or units that convert to it, found units '
            f'{text!r} in {source}; convert {name} to {expected}, or correct the '
            'attribute'
        )
    return found


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
