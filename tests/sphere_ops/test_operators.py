import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sphere_ops import LatLonGrid, SpinTransform, operators
from sphere_ops.testing import (
    EulerAngles,
    assert_equivariant,
    random_coefficients,
    random_rotation,
)

# float64 with sums of at most a few hundred terms of order one to ten.
ROUND_OFF = dict(rtol=0, atol=1e-11)
MAX_DEGREE = 9
RADIUS = 6.371e6
GRID = LatLonGrid('equiangular', num_lat=24, num_lon=28)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def transform():
    return SpinTransform.create(GRID, spins=(-2, -1, 0, 1, 2), dtype=jnp.float64)


def draw(*spins, seed=0, max_degree=MAX_DEGREE, channels=2):
    return random_coefficients(
        jax.random.key(seed),
        spins=spins,
        max_degree=max_degree,
        channels=channels,
        dtype=jnp.float64,
    )


def scalar(transform, values):
    """Coefficients of a scalar given on the grid, `[lat, lon]`."""
    values = np.broadcast_to(values, GRID.shape)
    return transform.to_spectral({0: jnp.asarray(values[..., None])})


def wind(transform, eastward, northward):
    values = np.broadcast_to(eastward + 1j * northward, GRID.shape)
    return transform.to_spectral({1: jnp.asarray(values[..., None])})


def on_grid(transform, coefficients):
    ((_, field),) = transform.to_grid(coefficients).items()
    return np.asarray(field[..., 0])


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for spin in expected:
        np.testing.assert_allclose(found[spin], expected[spin], **ROUND_OFF)


THETA = GRID.colatitudes[:, None]
PHI = np.radians(GRID.longitudes)


def test_eth_and_eth_bar_of_closed_forms(transform):
    # Differentiated by hand: eth f = -(d/dtheta + i / sin d/dphi) f.
    f = scalar(transform, np.sin(THETA) ** 2 * np.cos(2 * PHI))
    d_theta = 2 * np.sin(THETA) * np.cos(THETA) * np.cos(2 * PHI)
    d_phi = -2 * np.sin(THETA) ** 2 * np.sin(2 * PHI)
    expected = -(d_theta + 1j / np.sin(THETA) * d_phi)
    np.testing.assert_allclose(
        on_grid(transform, operators.eth(f)), expected, **ROUND_OFF
    )
    expected = -(d_theta - 1j / np.sin(THETA) * d_phi)
    np.testing.assert_allclose(
        on_grid(transform, operators.eth_bar(f)), expected, **ROUND_OFF
    )
    # eth^2 = sin d/dtheta (1 / sin) d/dtheta on a zonal scalar: 3 cos^2 -> 6 sin^2.
    zonal = scalar(transform, 3 * np.cos(THETA) ** 2)
    twice = operators.eth(operators.eth(zonal))
    np.testing.assert_allclose(
        on_grid(transform, twice),
        np.broadcast_to(6 * np.sin(THETA) ** 2, GRID.shape),
        **ROUND_OFF,
    )


def test_eth_bar_of_a_wind_is_minus_vorticity_and_i_divergence():
    winds = draw(1)
    lowered = operators.eth_bar(winds)
    curl, flow = operators.vorticity_divergence(winds)
    expected = jnp.concatenate([-curl[0], flow[0]], axis=-1)
    np.testing.assert_allclose(lowered[0], expected, **ROUND_OFF)


@pytest.mark.parametrize('spin', [-2, 0, 1])
def test_eth_and_eth_bar_are_minus_each_others_adjoint(spin):
    f, g = draw(spin), draw(spin + 1, seed=1)
    # The inner product of real fields: orders > 0 stand for both signs.
    twice = np.where(np.arange(MAX_DEGREE + 1) == 0, 1, 2)[:, None, None, None, None]
    left = jnp.sum(twice * operators.eth(f)[spin + 1] * g[spin + 1])
    # At spin 0 the real part is what meets a real f: the first of twice the channels.
    lowered = -operators.eth_bar(g)[spin][..., :2]
    right = jnp.sum(twice * f[spin] * lowered)
    np.testing.assert_allclose(left, right, rtol=1e-12)


def test_gradient_of_closed_forms(transform):
    f = scalar(transform, np.sin(THETA) ** 2 * np.cos(2 * PHI))
    eastward = -2 * np.sin(THETA) * np.sin(2 * PHI)
    northward = -2 * np.sin(THETA) * np.cos(THETA) * np.cos(2 * PHI)
    found = on_grid(transform, operators.gradient(f, radius=2.0))
    np.testing.assert_allclose(found, (eastward + 1j * northward) / 2, **ROUND_OFF)


def test_gradient_is_i_eth():
    f = draw(0)
    raised = operators.eth(f)[1]
    i_raised = jnp.concatenate([-raised[..., 1:, :], raised[..., :1, :]], axis=-2)
    np.testing.assert_allclose(operators.gradient(f)[1], i_raised, **ROUND_OFF)


def test_laplacian_is_divergence_of_gradient_which_has_no_vorticity():
    f = draw(0)
    curl, flow = operators.vorticity_divergence(
        operators.gradient(f, radius=3.0), radius=3.0
    )
    assert_close(flow, operators.laplacian(f, radius=3.0))
    np.testing.assert_array_equal(curl[0], 0)


def test_inverse_laplacian_inverts_all_but_the_mean():
    f = draw(0)
    found = operators.inverse_laplacian(operators.laplacian(f, radius=3.0), radius=3.0)
    expected = f[0].at[..., 0, 0, :, :, :].set(0)
    np.testing.assert_allclose(found[0], expected, **ROUND_OFF)


def test_solid_body_rotation_has_vorticity_positive_in_the_north(transform):
    speed = 40.0
    winds = wind(transform, speed * np.sin(THETA), 0.0)
    curl, flow = operators.vorticity_divergence(winds, radius=RADIUS)
    expected = 2 * speed * np.sin(np.radians(GRID.latitudes)) / RADIUS
    assert (expected[:12] > 0).all()
    expected = np.broadcast_to(expected[:, None], GRID.shape)
    scale = speed / RADIUS
    np.testing.assert_allclose(on_grid(transform, curl), expected, atol=1e-13 * scale)
    np.testing.assert_allclose(on_grid(transform, flow), 0, atol=1e-13 * scale)
    back = operators.winds_from_vorticity_divergence(curl, flow, radius=RADIUS)
    eastward = np.broadcast_to(speed * np.sin(THETA), GRID.shape)
    np.testing.assert_allclose(on_grid(transform, back), eastward, **ROUND_OFF)


def test_northward_wind_toward_a_source_line_has_its_divergence(transform):
    # v = cos(lat) sin(lat) northward: div = d(v cos lat)/dlat / cos lat.
    latitude = np.pi / 2 - THETA
    winds = wind(transform, 0.0, np.cos(latitude) * np.sin(latitude))
    _, flow = operators.vorticity_divergence(winds)
    expected = np.cos(latitude) ** 2 - 2 * np.sin(latitude) ** 2
    expected = np.broadcast_to(expected, GRID.shape)
    np.testing.assert_allclose(on_grid(transform, flow), expected, **ROUND_OFF)


def test_winds_and_vorticity_divergence_invert_each_other():
    winds = draw(1)
    curl, flow = operators.vorticity_divergence(winds, radius=RADIUS)
    back = operators.winds_from_vorticity_divergence(curl, flow, radius=RADIUS)
    assert_close(back, winds)


def zyz(rotation: EulerAngles) -> np.ndarray:
    def about_z(angle):
        c, s = np.cos(angle), np.sin(angle)
        return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])

    c, s = np.cos(rotation.beta), np.sin(rotation.beta)
    about_y = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    return about_z(rotation.alpha) @ about_y @ about_z(rotation.gamma)


def positions_and_axes():
    """Unit position, east and north vectors, `[3, lat, lon]` each."""
    one = np.ones_like(PHI)
    position = [np.sin(THETA) * np.cos(PHI), np.sin(THETA) * np.sin(PHI)]
    position = np.array([*position, np.cos(THETA) * one])
    east = np.array(np.broadcast_arrays(-np.sin(PHI), np.cos(PHI), 0 * THETA))
    north = np.cross(position, east, axis=0)
    return position, east, north


ROTATION = EulerAngles(alpha=0.7, beta=1.1, gamma=-2.3)


def test_rotation_of_scalars_equals_evaluation_at_rotated_points(transform):
    def f(x, y, z):
        return x**3 - 2 * x * y * z + z**2 + y + 0.5

    position, _, _ = positions_and_axes()
    turned_back = np.einsum('ij,i...->j...', zyz(ROTATION), position)
    rotated = operators.rotate(scalar(transform, f(*position)), **ROTATION._asdict())
    np.testing.assert_allclose(
        on_grid(transform, rotated), f(*turned_back), **ROUND_OFF
    )


def test_rotation_of_winds_turns_vectors_and_carries_them_along(transform):
    def tangent(position):
        x, y, z = position
        vector = np.array([y * z, x**2 - z, 1 + x * y])
        return vector - position * (position * vector).sum(0)

    position, east, north = positions_and_axes()

    def wind_of(vector):
        return wind(transform, (vector * east).sum(0), (vector * north).sum(0))

    matrix = zyz(ROTATION)
    turned_back = np.einsum('ij,i...->j...', matrix, position)
    expected = np.einsum('ij,j...->i...', matrix, tangent(turned_back))
    rotated = operators.rotate(wind_of(tangent(position)), **ROTATION._asdict())
    assert_close(rotated, wind_of(expected))


def test_rotations_compose_and_invert():
    a = draw(-2, -1, 0, 1, 2)
    there = operators.rotate(a, **ROTATION._asdict())
    back = operators.rotate(
        there,
        alpha=np.pi - ROTATION.gamma,
        beta=ROTATION.beta,
        gamma=np.pi - ROTATION.alpha,
    )
    assert_close(back, a)


def squared(coefficients):
    return {spin: values**2 for spin, values in coefficients.items()}


OPERATORS = {
    'eth': operators.eth,
    'eth_bar': operators.eth_bar,
    'gradient': lambda a: operators.gradient({0: a[0]}),
    'laplacian': lambda a: operators.laplacian({0: a[0]}),
    'inverse_laplacian': lambda a: operators.inverse_laplacian({0: a[0]}),
    'vorticity': lambda a: operators.vorticity_divergence({1: a[1]}).vorticity,
    'divergence': lambda a: operators.vorticity_divergence({1: a[1]}).divergence,
    'winds': lambda a: operators.winds_from_vorticity_divergence(
        {0: a[0][..., :1]}, {0: a[0][..., 1:]}
    ),
    'truncate': lambda a: operators.truncate(a, 5),
    'pad_to_degree': lambda a: operators.pad_to_degree(a, 12),
}


@pytest.mark.parametrize('name', OPERATORS)
def test_operators_commute_with_rotations(name):
    # Relative; float64, sums of at most 20 terms.
    bounds = (0.0, 1e-13)
    for seed in range(2):
        key = jax.random.key(seed)
        assert_equivariant(OPERATORS[name], draw(-1, 0, 1), key=key, bounds=bounds)


def test_assert_equivariant_fails_on_either_side_of_its_bounds():
    key = jax.random.key(0)
    with pytest.raises(AssertionError, match='error from 0 to 1e-05, got [01].[1-9]'):
        assert_equivariant(squared, draw(0, 1), key=key)
    with pytest.raises(AssertionError, match='from 0.001 to 0.1, got 0 under'):
        assert_equivariant(lambda a: a, draw(0, 1), key=key, bounds=(1e-3, 0.1))


def test_random_rotations_have_uniform_poles():
    cosines = [np.cos(random_rotation(jax.random.key(i)).beta) for i in range(100)]
    # The mean of 100 numbers uniform in (-1, 1) has standard deviation 0.058.
    assert abs(np.mean(cosines)) < 0.2
    assert min(cosines) < -0.9 and max(cosines) > 0.9


def test_power_spectrum_sums_to_the_integral_over_the_sphere(transform):
    a = draw(-2, -1, 0, 1, 2)
    weights = GRID.quadrature_weights[:, None, None] * 2 * np.pi / GRID.num_lon
    for spin, power in operators.power_spectrum(a).items():
        field = transform.to_grid({spin: a[spin]})[spin]
        integral = (weights * np.abs(field) ** 2).sum((0, 1))
        np.testing.assert_allclose(power.sum(0), integral, rtol=1e-12)


def test_power_spectrum_is_invariant_under_rotation():
    a = draw(-1, 0, 2)
    rotated = operators.rotate(a, **ROTATION._asdict())
    assert_close(operators.power_spectrum(rotated), operators.power_spectrum(a))


def test_truncation_drops_degrees_and_padding_restores_the_shape():
    a = draw(0, 1)
    small = operators.truncate(a, 4)
    assert small[1].shape == (5, 5, 2, 2, 2)
    padded = operators.pad_to_degree(small, MAX_DEGREE)
    power, expected = (operators.power_spectrum(x) for x in (padded, a))
    for spin in a:
        np.testing.assert_allclose(power[spin][:5], expected[spin][:5], **ROUND_OFF)
        np.testing.assert_array_equal(power[spin][5:], 0)
    with pytest.raises(ValueError, match='from 0 to 4, got 5; pad_to_degree'):
        operators.truncate(small, 5)
    with pytest.raises(ValueError, match='>= 9, got 4; truncate drops'):
        operators.pad_to_degree(a, 4)


def test_regridding_there_and_back_is_exact_below_both_truncations(transform):
    finer = SpinTransform.create(
        LatLonGrid('gauss', num_lat=21, num_lon=43), dtype=jnp.float64
    )
    fields = transform.to_grid(draw(0, 1))
    there = operators.regrid(fields, source=transform, target=finer)
    assert there[1].shape == (21, 43, 2)
    back = operators.regrid(there, source=finer, target=transform)
    assert_close(back, fields)


def test_scalar_operators_refuse_other_spins():
    with pytest.raises(
        ValueError, match=r'scalars alone, \{0: ...\}, got spins \[0, 1'
    ):
        operators.gradient(draw(0, 1))
    with pytest.raises(ValueError, match=r'winds alone, .*pass \{1: coefficients\[1\]'):
        operators.vorticity_divergence(draw(0, 1))
