import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from sphere_ops import LatLonGrid, SpinTransform, coefficient
from sphere_ops.grid import KINDS
from sphere_ops.testing import random_coefficients

ALL_SPINS = (-2, -1, 0, 1, 2)
# float64: sums of at most 256 terms of order one; only round-off remains.
ROUND_OFF = dict(rtol=0, atol=1e-12)
# float32 at 256 x 256: two sums of 256 terms with rounded tables (eps 6e-8).
ROUND_OFF_32 = dict(rtol=0, atol=5e-6)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def transform(kind='gauss', num_lat=12, num_lon=24, spins=ALL_SPINS, **kwargs):
    grid = LatLonGrid(kind, num_lat=num_lat, num_lon=num_lon)
    return SpinTransform.create(grid, spins=spins, dtype=jnp.float64, **kwargs)


def draw(t, seed=0, dtype=jnp.float64, **kwargs):
    arguments = dict(spins=t.spins, max_degree=t.max_degree, dtype=dtype)
    return random_coefficients(jax.random.key(seed), **arguments | kwargs)


def assert_close(found, expected, **tolerance):
    assert found.keys() == expected.keys()
    for spin in expected:
        np.testing.assert_allclose(
            found[spin], expected[spin], err_msg=f'spin {spin}', **tolerance
        )


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('num_lat, num_lon', [(2, 1), (7, 12), (32, 64), (61, 33)])
def test_round_trip_is_identity_below_max_degree(x64, kind, num_lat, num_lon):
    t = transform(kind, num_lat, num_lon)
    a = draw(t, channels=2)
    assert_close(t.to_spectral(t.to_grid(a)), a, **ROUND_OFF)


@pytest.mark.parametrize('kind', KINDS)
def test_round_trip_in_float32_at_256(kind):
    grid = LatLonGrid(kind, num_lat=256, num_lon=256)
    t = SpinTransform.create(grid, spins=ALL_SPINS)
    a = draw(t, dtype=jnp.float32)
    round_trip = jax.jit(lambda t, a: t.to_spectral(t.to_grid(a)))
    assert_close(round_trip(t, a), a, **ROUND_OFF_32)


def test_spin_0_is_the_spherical_harmonic_of_scipy(x64):
    t = transform('equiangular', 20, 24, spins=(0,))
    a = draw(t)
    colatitude = t.grid.colatitudes[:, None]
    longitude = np.radians(t.grid.longitudes)
    expected = sum(
        complex(coefficient(a, spin=0, degree=degree, order=order)[0])
        * scipy.special.sph_harm_y(degree, order, colatitude, longitude)
        for degree in range(t.max_degree + 1)
        for order in range(-degree, degree + 1)
    )
    np.testing.assert_allclose(expected.imag, 0, **ROUND_OFF)
    np.testing.assert_allclose(t.to_grid(a)[0][..., 0], expected.real, **ROUND_OFF)
