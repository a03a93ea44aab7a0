"""Spectra: how much of a forecast lies at which scale, and what blurring took away.

By total wavenumber (degree) on the sphere: variance of scalars, kinetic energy of
winds, each of the forecast and of the truth at the same valid times. A forecast that
hedges loses power at high degrees as the lead time grows; a noisy one gains. And by
zonal wavenumber, as WeatherBench 2 defines it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
import xarray as xr

from sphere_ops.grid import LatLonGrid
from sphere_ops.operators import power_spectrum
from sphere_ops.transform import SpinTransform
from weather.evaluation import pairing, readers, shared
from weather.evaluation.evaluate import HEADLINE, NO_LEVEL
from weather.variables import VARIABLES, wind_pairs

# Mean of the polar and the equatorial radius: the sphere of WeatherBench 2
# (`schema.EARTH_RADIUS_M`).
EARTH_RADIUS_M = 6.3675e6


def power_spectra(
    forecasts: readers.Source,
    truth: readers.Source,
    *,
    levels: shared.Levels | None = None,
    lead_times: Sequence[np.timedelta64] | None = None,
    max_starts: int | None = None,
) -> xr.Dataset:
    """Spectra by degree of forecasts and truth, averaged over starts.

    Args:
      forecasts: `[time, prediction_timedelta, level, latitude, longitude]` or its path.
      truth: `[time, level, latitude, longitude]` or its path.
      levels: levels of every variable wanted, as for `evaluate`; what the sources share
        of `HEADLINE`. Both components of a wind at the same levels make its vector;
        one alone has no spectrum.
      lead_times: timedelta64 among those of the forecasts; all.
      max_starts: use so many starts, spread evenly; all.

    Returns:
      `forecast`, `truth` and `ratio` (forecast over truth), each `[variable, level,
      lead_time, degree]`, degrees from 1 to the largest that the grid resolves. Of
      scalars the variance of each degree, in squared units; of `wind_vector` the
      kinetic energy, m2 s-2: their sum over degrees is the mean over the sphere. Level
      -1 is that of surface variables. `units` `[variable]` holds the units.

    Raises:
      ValueError: sources that do not fit together, or a grid of no known kind.
    """
    opened = readers.resolve(forecasts, 'forecast'), readers.resolve(truth, 'truth')
    if levels is None:
        levels = _shared_headline(*opened)
    plan = pairing.pair(
        *opened,
        None,
        levels=levels,
        lead_times=lead_times,
        model='forecast',
        baselines=(),
    ).thinned(max_starts)
    grid = LatLonGrid.from_latitudes_longitudes(
        plan.truth.latitude.values, plan.truth.longitude.values
    )
    transform = SpinTransform.create(grid, spins=(0, 1))
    quantities = _quantities(plan)
    return _assemble(plan, [_spectra(plan, transform, q) for q in quantities])


def variance_spectrum(transform: SpinTransform, field: np.ndarray) -> np.ndarray:
    """Variance of scalars by degree.

    `field` is `[..., lat, lon]`, `transform` holds spin 0 on its grid.

    Returns:
      `[..., degree]` from degree 1; its sum is the area mean of the squared departure
      from the area mean (as far as the transform resolves it).
    """
    # The mean of geopotential is a hundred times its waves: float32 keeps them better
    # without it, and degree 0 is not wanted.
    mean = field.mean(axis=(-2, -1), keepdims=True, dtype=np.float64)
    anomaly = (field - mean).astype(np.float32)
    return np.asarray(_scalar_power(transform, anomaly[..., None]), np.float64)


def kinetic_energy_spectrum(
    transform: SpinTransform, eastward: np.ndarray, northward: np.ndarray
) -> np.ndarray:
    """Kinetic energy per unit mass by degree, m2 s-2.

    Components are `[..., lat, lon]`, m s-1; `transform` holds spin 1 on their grid.

    Returns:
      `[..., degree]` from degree 1; its sum is the area mean of (u^2 + v^2) / 2.
    """
    wind = (eastward + 1j * northward)[..., None]
    return np.asarray(_wind_power(transform, wind), np.float64)


def zonal_energy_spectrum(field: np.ndarray, latitudes: np.ndarray) -> np.ndarray:
    """Energy by zonal wavenumber on each circle of latitude (WeatherBench 2).

    With F the discrete Fourier transform along longitude divided by its length and C =
    2 pi R cos(latitude) the length of the circle, S_0 = C |F_0|^2 and S_k = 2 C |F_k|^2
    (`derived_variables.ZonalEnergySpectrum` of version 0.2.1).

    Args:
      field: `[..., lat, lon]`.
      latitudes: `[lat]`, degrees.

    Returns:
      `[..., lat, wavenumber]`, squared units times metres, from wavenumber 0.
    """
    waves = np.fft.rfft(np.asarray(field, np.float64), axis=-1, norm='forward')
    # Both signs of the wavenumber are one entry. The sum over entries counts the
    # highest of an even number of columns twice, as the source does.
    sides = np.where(np.arange(waves.shape[-1]) == 0, 1, 2)
    circles = 2 * np.pi * EARTH_RADIUS_M * np.cos(np.radians(latitudes))
    return circles[:, None] * sides * np.abs(waves) ** 2


@jax.jit
def _scalar_power(transform: SpinTransform, field: jax.Array) -> jax.Array:
    """`[..., lat, lon, 1]` to `[..., degree]`."""
    power = power_spectrum(transform.to_spectral({0: field}))[0]
    # Harmonics have a square integral of 1, a mean square of 1 / 4 pi.
    return power[..., 1:, 0] / (4 * np.pi)


@jax.jit
def _wind_power(transform: SpinTransform, wind: jax.Array) -> jax.Array:
    """`[..., lat, lon, 1]` to `[..., degree]`."""
    power = power_spectrum(transform.to_spectral({1: wind}))[1]
    # As above, and half of the square of the speed.
    return power[..., 1:, 0] / (8 * np.pi)


class _Quantity(NamedTuple):
    """What has a spectrum: a scalar, or a wind of two components.

    Attributes:
      name: of the variable in the result.
      components: variables that it is made of.
      units: of its spectrum.
    """

    name: str
    components: tuple[str, ...]
    units: str

    def spectrum(self, transform: SpinTransform, *fields: np.ndarray) -> np.ndarray:
        """`[..., lat, lon]` of every component to `[..., degree]`."""
        if len(fields) == 2:
            return kinetic_energy_spectrum(transform, *fields)
        return variance_spectrum(transform, *fields)


def _quantities(plan: pairing.Pairing) -> list[_Quantity]:
    found, used = [], set()
    for *pair, vector in wind_pairs():
        used |= set(pair)
        if plan.levels.get(pair[0], ()) == plan.levels.get(pair[1]):
            found.append(_Quantity(vector, tuple(pair), 'm2 s-2'))
    scalars = [name for name in plan.levels if name not in used]
    found = [_Quantity(name, (name,), _squared_units(name)) for name in scalars] + found
    if not found:
        raise ValueError(
            f'nothing of {sorted(plan.levels)} has a spectrum: one component of a wind '
            'needs the other at the same levels'
        )
    return found


def _squared_units(name: str) -> str:
    return f'({VARIABLES[name].units})2' if name in VARIABLES else ''


def _shared_headline(forecasts: xr.Dataset, truth: xr.Dataset) -> shared.Levels:
    """What both hold of the headline; `ValueError` if that is nothing."""
    found = shared.select(forecasts, truth).levels
    common = {
        name: tuple(level for level in of_name if level in found.get(name, ()))
        for name, of_name in HEADLINE.items()
    }
    common = {name: of_name for name, of_name in common.items() if of_name}
    if not common:
        raise ValueError(
            f'forecast and truth share nothing of {HEADLINE}, but {found}; say which '
            'levels'
        )
    return common


def _spectra(
    plan: pairing.Pairing, transform: SpinTransform, quantity: _Quantity
) -> xr.Dataset:
    """Mean spectra `[level, lead_time, degree]` of one quantity."""
    levels = plan.levels[quantity.components[0]]
    cache = readers.BlockCache(2**29)
    truths = [
        readers.FieldReader(plan.truth[name], 'time', levels=levels, cache=cache)
        for name in quantity.components
    ]
    # Starts share valid times: a spectrum of the truth is small, and kept.
    of_truth: dict[int, np.ndarray] = {}
    shape = (len(levels), plan.leads.size, transform.max_degree)
    forecast, truth = np.zeros(shape), np.zeros(shape)
    for start, lead, *fields in plan.forecast_fields(*quantity.components):
        # The mean of the members' spectra: the spectrum of their mean is damped.
        forecast[:, lead] += quantity.spectrum(transform, *fields).mean(axis=0)
        valid = int(plan.valid[start, lead])
        if valid not in of_truth:
            of_truth[valid] = quantity.spectrum(
                transform, *(one(valid) for one in truths)
            )
        truth[:, lead] += of_truth[valid]
    dims = ('level', 'lead_time', 'degree')
    return xr.Dataset(
        {
            'forecast': (dims, forecast / plan.num_starts),
            'truth': (dims, truth / plan.num_starts),
        },
        coords={
            'variable': quantity.name,
            'units': quantity.units,
            'level': [NO_LEVEL if level is None else level for level in levels],
            'lead_time': plan.lead_times,
            'degree': np.arange(1, transform.max_degree + 1),
        },
    )


def _assemble(plan: pairing.Pairing, spectra: list[xr.Dataset]) -> xr.Dataset:
    """Joins the spectra of all quantities and adds the ratio."""
    joined = xr.concat(
        spectra, 'variable', join='outer', coords=['units'], compat='equals'
    ).sortby('level')
    # Exactly nothing over exactly nothing (a constant field) is no ratio.
    joined['ratio'] = joined.forecast / joined.truth.where(joined.truth > 0)
    return joined.transpose('variable', 'level', 'lead_time', 'degree').assign_attrs(
        plan.describe()
    )
