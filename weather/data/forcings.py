"""What the model knows ahead of time: the sun, the clock, and the ground.

Forcings are computed for any valid time and never read from a store, so they cannot run
out in a long rollout nor differ in kind between training and forecasting. The work is
split where precision demands it: `clock` turns times into a few small numbers on the
host in float64 (a float32 count of hours resolves no better than minutes), and
`forcing_fields` spreads them over the sphere inside jit.

dinosaur's `radiation` was tried first: importing it takes 13 s, and its sine-shaped
declination strays 1.8 degrees from the sun's, 1.1 % (rms) of the radiation of a year.
Here it is 0.02 %, both against the Solar Position Algorithm of Reda and Andreas (2004).
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from learning.spelling import did_you_mean
from sphere_ops.grid import LatLonGrid
from weather.variables import VARIABLES, stored_statics

# Forcing channels, in order. All are O(1): the first is in units of `SOLAR_CONSTANT`.
FORCINGS = (
    'toa_incident_solar_radiation',
    'sin_local_time',
    'cos_local_time',
    'sin_year',
    'cos_year',
)
# Statics that follow from the grid.
POSITIONS = ('sin_latitude', 'cos_latitude_sin_longitude', 'cos_latitude_cos_longitude')

# Total solar irradiance at one astronomical unit, W m-2: Kopp and Lean (2011),
# Geophysical Research Letters 38, L01706. It also scales the forcing channel.
SOLAR_CONSTANT = 1361.0

# Entries of the last axis of `clock`.
CLOCK = (
    'declination',
    'hour_angle',
    'step_angle',
    'irradiance',
    'time_of_day',
    'time_of_year',
)

_J2000 = np.datetime64('2000-01-01T12:00:00', 's')
_NEW_YEAR_2000 = np.datetime64('2000-01-01T00:00:00', 's')
_DAYS_PER_TROPICAL_YEAR = 365.24219
# Below any cos(latitude) cos(declination) off the poles, above its float32 rounding.
_SMALL = 1e-7


def clock(valid_times: np.ndarray, *, timestep: np.timedelta64) -> np.ndarray:
    """Returns where the sun and the clock stand: all that forcings need of a time.

    Runs on the host, in float64 until the last line. The sun's place is that of the
    Astronomical Almanac (page C5, "low precision formulas"), good to 0.01 degrees from
    1950 to 2050, and is taken at the middle of the step.

    Args:
      valid_times: `[...]`, UTC: integer hours since 1970, or datetime64.
      timestep: length of the model step that ends at the valid time.

    Returns:
      float32 `[..., len(CLOCK)]`: the sun's declination, its hour angle at Greenwich at
      the middle of the step (0 when it stands over Greenwich, positive after), the
      angle that the earth turns in a step, sunlight relative to that at one
      astronomical unit, mean solar time of day at Greenwich and time of the tropical
      year (0 at midnight and at the start of 2000); angles in radians.

    Raises:
      ValueError: `valid_times` are neither integers nor dates, or the step is not
        longer than zero.
    """
    if not timestep > np.timedelta64(0, 's'):
        raise ValueError(f'expected a time step longer than zero, got {timestep}')
    times = _to_seconds(valid_times)
    # The mean over a step is wanted, which the middle of the step represents best.
    middle = times - timestep.astype('timedelta64[s]') / 2
    declination, equation_of_time, irradiance = _sun(_days(middle - _J2000))
    hour_angle = 2 * np.pi * _days(middle - _NEW_YEAR_2000) - np.pi + equation_of_time
    days = _days(times - _NEW_YEAR_2000)
    step_angle = 2 * np.pi * _days(timestep)
    numbers = (
        declination,
        _wrap(hour_angle),
        np.full_like(days, step_angle),
        irradiance,
        _wrap(2 * np.pi * days),
        _wrap(2 * np.pi * days / _DAYS_PER_TROPICAL_YEAR),
    )
    return np.stack(numbers, axis=-1).astype(np.float32)


def forcing_fields(clock: jax.Array, grid: LatLonGrid) -> jax.Array:
    """Returns the forcing of every valid time; pure, for use inside jit.

    Time of day is that of the place, mean solar time, with midnight at phase zero. Its
    sine and cosine are multiplied by cos(latitude): around a pole all longitudes meet,
    and without that factor the field would be a cliff there that no harmonic fits.

    Args:
      clock: `[..., len(CLOCK)]`, from `clock`.
      grid: where the fields are wanted.

    Returns:
      `[..., lat, lon, len(FORCINGS)]`, dimensionless: sunlight in units of
      `SOLAR_CONSTANT` (0 to 1.04, global mean a quarter), the rest within -1 and 1.
    """
    *_, time_of_day, time_of_year = _spread(clock)
    latitude, longitude = _coordinates(grid)
    local_time = time_of_day + longitude
    fields = (
        insolation(clock, grid) / SOLAR_CONSTANT,
        jnp.cos(latitude) * jnp.sin(local_time),
        jnp.cos(latitude) * jnp.cos(local_time),
        jnp.sin(time_of_year),
        jnp.cos(time_of_year),
    )
    shape = (*clock.shape[:-1], *grid.shape)
    return jnp.stack([jnp.broadcast_to(field, shape) for field in fields], axis=-1)


def insolation(clock: jax.Array, grid: LatLonGrid) -> jax.Array:
    r"""Returns top-of-atmosphere solar radiation, mean over the step, W m-2.

    The integral over the hour angle h of
    max(0, sin(lat) sin(declination) + cos(lat) cos(declination) cos(h)), in closed
    form and so free of sampling error at sunrise and sunset; over a whole day it is
    the daily insolation of Hartmann, Global Physical Climatology, eq. 2.17.

    Args:
      clock: `[..., len(CLOCK)]`, from `clock`.
      grid: where the radiation is wanted.

    Returns:
      `[..., lat, lon]`, exactly zero where the sun does not rise during the step.
    """
    declination, hour_angle, step_angle, irradiance, *_ = _spread(clock)
    latitude, longitude = _coordinates(grid)
    constant = jnp.sin(latitude) * jnp.sin(declination)
    amplitude = jnp.cos(latitude) * jnp.cos(declination)
    # Sunset; 0 in polar night, pi in polar day.
    cos_sunset = -constant / jnp.maximum(amplitude, _SMALL)
    sunset = jnp.arccos(jnp.clip(cos_sunset, -1, 1))

    def since_noon(angle):
        """Integral of sunlight from the noon of day 0 to `angle`, any day."""
        # Whole days since noon each add one half day before and one after noon; the
        # rest is within a day, where the sun shines between sunrise and sunset alone.
        # So steps of any length, across midnights too, need no loop.
        day = jnp.round(angle / (2 * jnp.pi))
        angle = jnp.clip(angle - 2 * jnp.pi * day, -sunset, sunset)
        half_day = constant * sunset + amplitude * jnp.sin(sunset)
        return constant * angle + amplitude * jnp.sin(angle) + 2 * day * half_day

    middle = hour_angle + longitude
    total = since_noon(middle + step_angle / 2) - since_noon(middle - step_angle / 2)
    # Round-off may leave the difference of equal integrals a hair below zero; a clock
    # of zeros, which initialises a network as well as any, gives darkness and not NaN.
    mean = jnp.maximum(total, 0) / jnp.maximum(step_angle, _SMALL)
    return SOLAR_CONSTANT * irradiance * mean


def static_fields(
    stored: Mapping[str, np.ndarray], grid: LatLonGrid, names: Sequence[str]
) -> np.ndarray:
    """Returns the fields that never change, as the model reads them.

    Place is given as the point's Cartesian coordinates on the unit sphere, not as sin
    and cos of longitude: those have no limit at a pole, these are degree-one harmonics.
    What has a unit (orography) is scaled to mean 0 and variance 1 over the sphere; what
    has none (the land-sea mask) is of order one already and stays as it is.

    Args:
      stored: `[lat, lon]` fields by name, canonical orientation; a Dataset from
        `open_store` will do. Needed for those names that are no `POSITIONS`.
      grid: grid of the fields.
      names: channels wanted, statics of the table of variables or `POSITIONS`, in
        order.

    Returns:
      float32 `[lat, lon, len(names)]`.

    Raises:
      ValueError: an unknown name, a field that is missing, of another shape or not
        finite, or flat orography.
    """
    fields = [_static_field(name, stored, grid) for name in names]
    if not fields:
        return np.zeros((*grid.shape, 0), np.float32)
    return np.stack(fields, axis=-1).astype(np.float32)


def _to_seconds(times: np.ndarray) -> np.ndarray:
    times = np.asarray(times)
    if np.issubdtype(times.dtype, np.integer):
        return times.astype('datetime64[h]').astype('datetime64[s]')
    if np.issubdtype(times.dtype, np.datetime64):
        return times.astype('datetime64[s]')
    raise ValueError(
        'expected valid times as integer hours since 1970 or as datetime64, got '
        f'{times.dtype}; float times lose minutes, convert them first'
    )


def _days(duration: np.timedelta64 | np.ndarray) -> np.ndarray:
    return np.asarray(duration / np.timedelta64(1, 'D'))


def _wrap(angle: np.ndarray) -> np.ndarray:
    # Small angles: float32, which is what the device gets, resolves pi to 2e-7 but an
    # angle since 2000 only to 0.004.
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _sun(days: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Declination, equation of time (rad), sunlight relative to that at 1 au."""
    mean_longitude = np.radians(280.460 + 0.9856474 * days)
    anomaly = np.radians(357.528 + 0.9856003 * days)
    centre = np.radians(1.915 * np.sin(anomaly) + 0.020 * np.sin(2 * anomaly))
    longitude = mean_longitude + centre
    obliquity = np.radians(23.439 - 4e-7 * days)
    declination = np.arcsin(np.sin(obliquity) * np.sin(longitude))
    right_ascension = np.arctan2(
        np.cos(obliquity) * np.sin(longitude), np.cos(longitude)
    )
    distance = 1.00014 - 0.01671 * np.cos(anomaly) - 0.00014 * np.cos(2 * anomaly)
    return declination, _wrap(mean_longitude - right_ascension), distance**-2


def _spread(clock: jax.Array) -> list[jax.Array]:
    """Splits the last axis into arrays `[..., 1, 1]` that broadcast over a grid."""
    if clock.shape[-1] != len(CLOCK):
        raise ValueError(
            f'expected a clock with {len(CLOCK)} numbers {CLOCK} on its last axis, got '
            f'shape {clock.shape}; make it with forcings.clock'
        )
    return [clock[..., i, None, None] for i in range(len(CLOCK))]


def _coordinates(grid: LatLonGrid) -> tuple[jax.Array, jax.Array]:
    """Latitude `[lat, 1]` and longitude `[lon]`, radians."""
    latitude = jnp.asarray(np.radians(grid.latitudes)[:, None], jnp.float32)
    return latitude, jnp.asarray(np.radians(grid.longitudes), jnp.float32)


def _static_field(name: str, stored: Mapping, grid: LatLonGrid) -> np.ndarray:
    if name in POSITIONS:
        return _position(name, grid)
    known = (*stored_statics(), *POSITIONS)
    if name not in known:
        raise ValueError(
            f'unknown static {name!r}{did_you_mean(name, known)}; known statics: '
            f'{", ".join(known)}'
        )
    field = _stored_field(name, stored, grid)
    return field if VARIABLES[name].units == '1' else _standardised(name, field, grid)


def _position(name: str, grid: LatLonGrid) -> np.ndarray:
    latitude = np.radians(grid.latitudes)[:, None]
    longitude = np.radians(grid.longitudes)
    field = {
        'sin_latitude': np.sin(latitude),
        'cos_latitude_sin_longitude': np.cos(latitude) * np.sin(longitude),
        'cos_latitude_cos_longitude': np.cos(latitude) * np.cos(longitude),
    }[name]
    return np.broadcast_to(field, grid.shape)


def _stored_field(name: str, stored: Mapping, grid: LatLonGrid) -> np.ndarray:
    if name not in stored:
        raise ValueError(
            f'the store has no static {name!r}; add it to the store, or leave it out '
            'of the statics in the config'
        )
    field = np.asarray(stored[name], np.float64)
    if field.shape != grid.shape:
        raise ValueError(
            f'expected static {name!r} of shape [lat, lon] = {grid.shape}, got '
            f'{field.shape}'
        )
    if not np.isfinite(field).all():
        raise ValueError(
            f'static {name!r} has {np.sum(~np.isfinite(field))} values that are not '
            'finite; fill them in the store, or leave it out of the statics'
        )
    return field


def _standardised(name: str, field: np.ndarray, grid: LatLonGrid) -> np.ndarray:
    weights = np.broadcast_to(grid.area_weights[:, None], grid.shape)
    deviation = field - np.average(field, weights=weights)
    scale = np.sqrt(np.average(deviation**2, weights=weights))
    if scale <= 1e-7 * np.abs(field).max():
        raise ValueError(
            f'static {name} is constant and has nothing to say; leave it out of the '
            'statics in the config'
        )
    return deviation / scale
