"""Whether a store holds what its names promise: units, ranges, NaN."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sphere_ops.grid import area_weights
from weather.data.axes import Axes
from weather.data.stored_field import StoredField
from weather.data.units import GRAVITY, to_canonical
from weather.variables import VARIABLES, Channel

_HORIZONTAL = ('latitude', 'longitude')


def check_units(name: str, units: str | None, source: str) -> None:
    """Refuses a `units` attribute that does not convert to the variable's.

    Raises:
      ValueError: other units; absent ones are accepted.
    """
    to_canonical(name, units, source)


def standard_geopotential(pressure_hpa: float) -> float:
    """Geopotential of a pressure level in the US Standard Atmosphere 1976, m2 s-2.

    Troposphere and the isothermal layer above it, the latter continued upward: within
    10 % of the real global mean from 850 hPa to 1 hPa.
    """
    lapse, temperature, gas_constant = 0.0065, 288.15, 287.053
    if pressure_hpa > 226.32:
        exponent = gas_constant * lapse / GRAVITY
        height = temperature / lapse * (1 - (pressure_hpa / 1013.25) ** exponent)
        return GRAVITY * height
    return GRAVITY * 11000 + gas_constant * 216.65 * np.log(226.32 / pressure_hpa)


def check_mean(channel: Channel, mean: float, source: str) -> None:
    """Refuses a global mean that no terrestrial atmosphere has in SI units.

    Raises:
      ValueError: naming the channel, the expected range and what was found.
    """
    if channel.variable not in VARIABLES or np.isnan(mean):
        return  # Of the unknown nothing can be said; NaN is for `check_sample`.
    variable = VARIABLES[channel.variable]
    low, high = variable.plausible
    hint = f'convert it to {variable.units}'
    # Below 850 hPa the mean is small against its own variation and says little.
    if channel.variable == 'geopotential' and (channel.level or 1000) <= 850:
        standard = standard_geopotential(float(channel.level or 0))
        # Within a tenth of it if right (see there), a tenth of it if a height.
        low, high = 0.5 * standard, 2 * standard
        if low < mean * GRAVITY < high:
            hint = f'these are heights in metres: multiply by {GRAVITY} m s-2'
    if not low <= mean <= high:
        raise ValueError(
            f'expected the global mean of {channel} between {low:.4g} and {high:.4g} '
            f'{variable.units}, found {mean:.4g} in {source}; {hint}'
        )


def check_sample(
    field: StoredField, levels: Sequence[float], axes: Axes, *, check_nan: bool
) -> None:
    """Checks the means, and that each channel has values, in a sample of times.

    The middle of the store is read; its ends too where a channel is NaN there, since
    public stores have NaN days.
    """
    empty: set[Channel] = set()
    for number, along in enumerate((0.5, 0.0, 1.0)):
        means = _channel_means(field, levels, axes, along)
        for channel, mean in means.items():
            check_mean(channel, mean, field.source)
        nan = {channel for channel, mean in means.items() if np.isnan(mean)}
        empty = nan if number == 0 else empty & nan
        if not empty or field.dims == _HORIZONTAL:
            break
    if empty and check_nan:
        names = ', '.join(str(channel) for channel in means if channel in empty)
        raise ValueError(
            f'expected values in {names}, found NaN everywhere at the sampled times in '
            f'{field.source}; leave these out of config.data, or repair the store'
        )


def _channel_means(
    field: StoredField, levels: Sequence[float], axes: Axes, along: float
) -> dict[Channel, float]:
    """Returns the area mean of every channel; NaN where all is NaN.

    Read at one place of every axis but level, latitude and longitude: `along` it, 0 at
    its start and 1 at its end.
    """
    selection = {
        dim: np.array([int(along * (size - 1))])
        for dim, size in zip(field.dims, field.shape, strict=True)
        if dim not in ('level', *_HORIZONTAL)
    }
    if 'level' in field.dims:
        order = axes.coordinates['level'].tolist()
        selection['level'] = np.array([order.index(level) for level in levels])
    values = field.read(selection).reshape(-1, *field.shape[-2:])
    rows = area_weights(axes.coordinates['latitude'])
    weights = np.broadcast_to(rows[:, None], values.shape[1:])
    channels = [Channel(field.name, level) for level in levels or (None,)]
    means = {}
    for channel, horizontal in zip(channels, values, strict=True):
        valid = np.isfinite(horizontal)
        total = np.sum(weights, where=valid)
        mean = np.sum(weights * horizontal, where=valid) / total if total else np.nan
        means[channel] = float(mean)
    return means
