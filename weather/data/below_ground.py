"""Values below the ground, where an analysis has none, continued from above.

Source: Trenberth, Berry and Buja, 1993, Vertical Interpolation and Truncation of
Model-Coordinate Data, NCAR/TN-396+STR, section 3: temperature along a constant lapse
rate of 6.5 K/km, geopotential hydrostatic with it, winds and humidity constant. Two
simplifications: the column is continued from its lowest level that is above the ground,
the surface itself being unknown, and the lapse rate is not reduced over high or hot
ground.

They are no truth: a model that is trained on them learns them too, and scores below the
ground mean nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from weather.data.units import GRAVITY

_GAS_CONSTANT = 287.04  # J kg-1 K-1, dry air, as in the report.
_LAPSE_RATE = 0.0065  # K m-1
# Temperature goes with this power of pressure along the lapse rate (their eq. 5).
_POWER = _GAS_CONSTANT * _LAPSE_RATE / GRAVITY
_TEMPERATURE, _GEOPOTENTIAL = 'temperature', 'geopotential'


class Filled(NamedTuple):
    """Fields `[time, level, lat, lon]` without gaps below the ground.

    Attributes:
      fields: by variable; those without gaps are the same arrays.
      counts: values that were filled, by variable.
    """

    fields: dict[str, np.ndarray]
    counts: dict[str, int]


def fill_below_ground(
    fields: Mapping[str, np.ndarray], levels: Mapping[str, Sequence[float]]
) -> Filled:
    """Continues columns downward where values are missing below the ground.

    That is, from the lowest level with a value to those under it. A level that is
    missing all over the globe at a time is no ground, and stays missing, as does what
    is missing above a value, and a column without any.

    Args:
      fields: `[time, level, lat, lon]` float32, SI, by variable.
      levels: hPa, ascending, by variable; variables without levels are left alone.
    """
    filled, counts = dict(fields), dict.fromkeys(fields, 0)
    for name, of_name in levels.items():
        if len(of_name) < 2:
            continue
        gaps = _gaps(fields[name])
        counts[name] = int(gaps.sum())
        if not counts[name]:
            continue
        ground = _lowest(fields[name])
        pressures = np.asarray(of_name, np.float64)
        if name in (_TEMPERATURE, _GEOPOTENTIAL):
            values = _CONTINUED[name](fields, levels, ground, pressures)
        else:
            values = np.take_along_axis(fields[name], ground[:, None], axis=1)
        filled[name] = np.where(gaps, values, fields[name]).astype(np.float32)
    return Filled(filled, counts)


def _gaps(field: np.ndarray) -> np.ndarray:
    """Where a value is to be filled in, `[time, level, lat, lon]`."""
    missing = np.isnan(field)
    below = np.arange(field.shape[1])[:, None, None] > _lowest(field)[:, None]
    has_any = (~missing).any(axis=1, keepdims=True)
    # A level without a value anywhere is a hole in the data.
    is_level = (~missing).any(axis=(2, 3), keepdims=True)
    return missing & below & has_any & is_level


def _lowest(field: np.ndarray) -> np.ndarray:
    """Place of the lowest level with a value, `[time, lat, lon]`."""
    upward = ~np.isnan(field[:, ::-1])
    return field.shape[1] - 1 - upward.argmax(axis=1)


def _temperatures(
    fields: Mapping[str, np.ndarray],
    levels: Mapping[str, Sequence[float]],
    ground: np.ndarray,
    pressures: np.ndarray,
) -> np.ndarray:
    start = np.take_along_axis(fields[_TEMPERATURE], ground[:, None], axis=1)
    return start * (_ratio(pressures, ground) ** _POWER)


def _geopotentials(
    fields: Mapping[str, np.ndarray],
    levels: Mapping[str, Sequence[float]],
    ground: np.ndarray,
    pressures: np.ndarray,
) -> np.ndarray:
    """Integrates `d(geopotential) = -R T d(ln p)` along the lapse rate."""
    field = fields[_GEOPOTENTIAL].astype(np.float64)
    start = np.take_along_axis(field, ground[:, None], axis=1)
    warmth = _warmth(fields, levels, field, ground, pressures)
    growth = _ratio(pressures, ground) ** _POWER - 1
    return start - _GAS_CONSTANT * warmth / _POWER * growth


def _warmth(
    fields: Mapping[str, np.ndarray],
    levels: Mapping[str, Sequence[float]],
    geopotential: np.ndarray,
    ground: np.ndarray,
    pressures: np.ndarray,
) -> np.ndarray:
    """Temperature at the lowest level of a column, `[time, 1, lat, lon]`.

    Where it is not among the fields, that which the thickness of the layer above means.
    """
    above = np.maximum(ground - 1, 0)[:, None]
    upper = np.take_along_axis(geopotential, above, axis=1)
    lower = np.take_along_axis(geopotential, ground[:, None], axis=1)
    depth = np.log(pressures[ground[:, None]] / pressures[above])
    with np.errstate(divide='ignore', invalid='ignore'):
        of_layer = (upper - lower) / (_GAS_CONSTANT * depth)
        # From the middle of the layer down to its lower end.
        middle = np.sqrt(pressures[ground[:, None]] / pressures[above])
        warmth = of_layer * middle**_POWER
    if _TEMPERATURE not in fields:
        return warmth
    order = list(levels[_TEMPERATURE])
    for place, pressure in enumerate(pressures):
        if pressure in order:
            known = fields[_TEMPERATURE][:, [order.index(pressure)]]
            here = (ground[:, None] == place) & ~np.isnan(known)
            warmth = np.where(here, known, warmth)
    return warmth


def _ratio(pressures: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """Pressure of each level over that of the lowest with a value."""
    return pressures[:, None, None] / pressures[ground][:, None]


_CONTINUED = {_TEMPERATURE: _temperatures, _GEOPOTENTIAL: _geopotentials}
