"""A real atmosphere: ERA5, 1959-02-02 00 UTC, Gaussian grid of degree 31."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sphere_ops import LatLonGrid, SpinTransform, operators

RADIUS = 6.371e6


@pytest.fixture(scope='module')
def era5(shared_data):
    xarray = pytest.importorskip('xarray')
    path = shared_data / 'era5_19590102T00_tl31_37levels.nc'
    with xarray.open_dataset(path) as dataset:
        dataset = dataset.sortby('latitude', ascending=False)
        return dataset.transpose('level', 'latitude', 'longitude', ...).load()


@pytest.fixture
def winds(era5):
    """Coefficients, levels as channels, of the wind; and the transform; float64."""
    grid = LatLonGrid.from_latitudes_longitudes(era5.latitude, era5.longitude)
    names = ('u_component_of_wind', 'v_component_of_wind')
    u, v = (np.moveaxis(era5[name].values.squeeze(), 0, -1) for name in names)
    with jax.enable_x64(True):
        t = SpinTransform.create(grid, dtype=jnp.float64)
        yield t, t.to_spectral({1: jnp.asarray(u + 1j * v.astype(np.float64))})


@pytest.mark.parametrize('level, slope', [(250, -2.19), (500, -2.33), (850, -2.25)])
def test_kinetic_energy_falls_off_with_the_known_slope(era5, winds, level, slope):
    _, a = winds
    assert a[1].shape[-4] == 32
    channel = list(era5.level.values).index(level)
    power = operators.power_spectrum(a)[1][8:21, channel]
    found = np.polyfit(np.log(np.arange(8, 21)), np.log(power), 1)[0]
    # Slopes from an independent evaluation, given to two decimals.
    assert abs(found - slope) < 0.02


def test_wind_survives_vorticity_and_divergence(winds):
    t, a = winds
    projected = t.to_grid(a)
    curl, flow = operators.vorticity_divergence(t.to_spectral(projected), radius=RADIUS)
    back = t.to_grid(
        operators.winds_from_vorticity_divergence(curl, flow, radius=RADIUS)
    )
    # Winds reach 100 m/s; float64.
    np.testing.assert_allclose(back[1], projected[1], rtol=0, atol=1e-11)


def test_vorticity_of_the_troposphere_is_cyclonic_in_the_jet_stream_flanks(era5, winds):
    # Poleward of the winter jet (50-70 N at 250 hPa) the mean vorticity is positive:
    # u falls off toward the pole. The sign says that neither axis is flipped.
    t, a = winds
    channel = list(era5.level.values).index(250)
    curl, _ = operators.vorticity_divergence(a, radius=RADIUS)
    zonal = np.asarray(t.to_grid(curl)[0][..., channel]).mean(axis=1)
    band = (t.grid.latitudes > 50) & (t.grid.latitudes < 70)
    assert 1e-6 < zonal[band].mean() < 1e-4
