import ducc0
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from sphere_ops import LatLonGrid, SpinTransform, coefficient, operators, transform
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


def make(kind='gauss', num_lat=12, num_lon=24, spins=ALL_SPINS, **kwargs):
    grid = LatLonGrid(kind, num_lat=num_lat, num_lon=num_lon)
    return SpinTransform.create(grid, spins=spins, dtype=jnp.float64, **kwargs)


def draw(t, seed=0, dtype=jnp.float64, **kwargs):
    arguments = dict(spins=t.spins, max_degree=t.max_degree, dtype=dtype)
    return random_coefficients(jax.random.key(seed), **arguments | kwargs)


def noise_on(grid):
    """Fields of every spin with all that a grid holds, far beyond its max_degree."""
    real, imaginary = np.random.default_rng(0).normal(size=(2, *grid.shape, 1))
    return {s: jnp.asarray(real + (1j * imaginary if s else 0)) for s in ALL_SPINS}


def assert_close(found, expected, **tolerance):
    assert found.keys() == expected.keys()
    for spin in expected:
        np.testing.assert_allclose(
            found[spin], expected[spin], err_msg=f'spin {spin}', **tolerance
        )


@jax.jit
def round_trip(t, a):
    return t.to_spectral(t.to_grid(a))


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('num_lat, num_lon', [(2, 1), (31, 33), (64, 128), (256, 256)])
def test_round_trip_is_identity_below_max_degree(x64, kind, num_lat, num_lon):
    t = make(kind, num_lat, num_lon)
    a = draw(t, channels=2)
    assert_close(round_trip(t, a), a, **ROUND_OFF)


@pytest.mark.parametrize('kind', KINDS)
def test_round_trip_in_float32_at_256(kind):
    grid = LatLonGrid(kind, num_lat=256, num_lon=256)
    t = SpinTransform.create(grid, spins=ALL_SPINS)
    a = draw(t, dtype=jnp.float32)
    assert_close(round_trip(t, a), a, **ROUND_OFF_32)


def test_spin_0_is_the_spherical_harmonic_of_scipy(x64):
    t = make('equiangular', 20, 24, spins=(0,))
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


def naive_to_grid(grid, a, spin, max_degree):
    """The defining sum, with Wigner's d as matrix elements of exp(-i theta J_y)."""
    longitude = np.radians(grid.longitudes)
    total = np.zeros(grid.shape, complex)
    for degree in range(abs(spin), max_degree + 1):
        # J_y from the ladder operators; d is its exponential, by eigenvectors.
        m = np.arange(-degree, degree + 1)
        ladder = np.sqrt(degree * (degree + 1) - m[:-1] * m[1:])
        j_y = (np.diag(ladder, -1) - np.diag(ladder, 1)) / 2j
        values, vectors = np.linalg.eigh(j_y)
        phases = np.exp(-1j * np.outer(grid.colatitudes, values))
        d = np.einsum('mk,jk,k->jm', vectors, phases, vectors[degree - spin].conj())
        scale = (-1) ** spin * np.sqrt((2 * degree + 1) / (4 * np.pi))
        for order in m:
            wave = scale * d[:, order + degree, None] * np.exp(1j * order * longitude)
            amplitude = coefficient(a, spin=spin, degree=degree, order=int(order))
            total += complex(amplitude[0]) * wave
    return total


@pytest.mark.parametrize('spin', ALL_SPINS)
def test_harmonics_equal_matrix_exponentials_of_angular_momentum(x64, spin):
    t = make('equiangular', 15, 16, spins=(spin,))
    a = draw(t)
    expected = naive_to_grid(t.grid, a, spin, t.max_degree)
    np.testing.assert_allclose(t.to_grid(a)[spin][..., 0], expected, **ROUND_OFF)


@pytest.mark.parametrize('kind, geometry', [('gauss', 'GL'), ('equiangular', 'F1')])
@pytest.mark.parametrize('spin', [1, 2])
def test_spins_1_and_2_equal_ducc0_with_the_sign_turned(x64, spin, kind, geometry):
    t = make(kind, 64, 128, spins=(-spin, spin))
    a = draw(t, spins=(spin,))
    degree = t.max_degree
    order, column = np.triu_indices(degree + 1)
    pairs = np.asarray(a[spin])[order, column, :, :, 0]
    # ducc0 follows HEALPix: its two maps are Q and U of Q + i U = -sum (E + i B) sYlm.
    alm = -(pairs[:, 0] + 1j * pairs[:, 1]).T
    maps = ducc0.sht.synthesis_2d(
        alm=alm, spin=spin, lmax=degree, geometry=geometry, ntheta=64, nphi=128
    )
    found = np.asarray(t.to_grid(a)[spin][..., 0])
    # Values reach 60 at degree 63.
    np.testing.assert_allclose(found, maps[0] + 1j * maps[1], rtol=0, atol=2e-11)
    # The conjugate of spin s is (-1)^s times spin -s with B turned round.
    mirrored = {-spin: (-1) ** spin * a[spin] * np.array([1, -1])[:, None]}
    opposite = t.to_grid(mirrored)[-spin][..., 0]
    np.testing.assert_allclose(opposite, found.conj(), rtol=0, atol=2e-11)


def test_a_single_coefficient_is_where_coefficient_finds_it(x64):
    t = make(spins=(0, 2))
    a = draw(t, channels=3, batch_shape=(2,))
    pair = np.asarray(a[2])[:, 3, 5]
    modes = pair[:, 0] + 1j * pair[:, 1]
    positive, negative = (
        coefficient(a, spin=2, degree=5, order=order) for order in (3, -3)
    )
    np.testing.assert_allclose(positive, modes[:, 0] + 1j * modes[:, 1])
    conjugates = modes.conj()
    np.testing.assert_allclose(negative, -(conjugates[:, 0] + 1j * conjugates[:, 1]))
    negative = coefficient(a, spin=0, degree=5, order=-3)
    positive = coefficient(a, spin=0, degree=5, order=3)
    np.testing.assert_allclose(negative, -np.conj(positive))


def test_analysis_is_the_adjoint_of_synthesis_under_quadrature(x64):
    t = make('equiangular_with_poles', 9, 12)
    a = draw(t)
    fields = noise_on(t.grid)
    weights = t.grid.quadrature_weights[:, None, None] * 2 * np.pi / t.grid.num_lon
    twice = np.where(np.arange(t.max_degree + 1) == 0, 1, 2)[:, None, None, None, None]
    values, spectra = t.to_grid(a), t.to_spectral(fields)
    for spin in ALL_SPINS:
        field, spectrum = np.asarray(fields[spin]), np.asarray(spectra[spin])
        on_grid = np.sum(weights * np.conj(values[spin]) * field).real
        in_spectrum = np.sum(twice * np.asarray(a[spin]) * spectrum)
        np.testing.assert_allclose(in_spectrum, on_grid, rtol=1e-11)


def test_gradient_of_the_energy_on_the_grid_is_that_of_the_coefficients(x64):
    t = make('equiangular_with_poles', 13, 16, spins=(0, 1))
    weights = t.grid.quadrature_weights[:, None, None] * 2 * np.pi / t.grid.num_lon

    @jax.jit
    @jax.grad
    def slope(a, t):
        return sum(jnp.sum(weights * jnp.abs(f) ** 2) for f in t.to_grid(a).values())

    a = draw(t)
    twice = np.where(np.arange(t.max_degree + 1) == 0, 2, 4)[:, None, None, None, None]
    found = slope(a, t)
    for spin in a:
        mask = np.asarray(a[spin]) != 0  # Elsewhere a slope is of no field.
        np.testing.assert_allclose(mask * found[spin], twice * a[spin], **ROUND_OFF)


def test_leading_axes_are_transformed_one_by_one(x64):
    t = make(spins=(0, 1))
    a = draw(t, batch_shape=(2, 3), channels=2)
    fields = t.to_grid(a)
    assert fields[1].shape == (2, 3, 12, 24, 2)
    assert_close(t.to_spectral(fields), a, **ROUND_OFF)
    one = t.to_grid({spin: values[1, 2] for spin, values in a.items()})
    assert_close(one, {spin: f[1, 2] for spin, f in fields.items()}, **ROUND_OFF)
    mapped = jax.vmap(jax.vmap(t.to_spectral))(fields)
    assert_close(mapped, a, **ROUND_OFF)


def test_pooling_truncates_and_upsampling_evaluates_the_same_field(x64):
    t, small = make(spins=(0, 1)), make(spins=(0, 1), max_degree=6)
    a = draw(t)
    pooled = small.to_spectral(t.to_grid(a))
    assert_close(pooled, operators.truncate(a, 6), **ROUND_OFF)
    padded = operators.pad_to_degree(pooled, t.max_degree)
    assert_close(t.to_grid(pooled), t.to_grid(padded), **ROUND_OFF)


def test_empty_entries_stay_exactly_zero():
    grid = LatLonGrid('equiangular', num_lat=32, num_lon=64)
    t = SpinTransform.create(grid, spins=ALL_SPINS)
    fields = noise_on(grid)
    order, degree = np.mgrid[:16, :16]
    for spin, a in t.to_spectral(fields).items():
        assert a.dtype == jnp.float32
        outside = degree < np.maximum(order, abs(spin))
        np.testing.assert_array_equal(np.asarray(a)[outside], 0)
        np.testing.assert_array_equal(a[0, :, 1], 0)


def test_results_have_the_precision_of_the_transform(x64):
    grid = LatLonGrid('gauss', num_lat=6, num_lon=12)
    t = SpinTransform.create(grid)
    fields = noise_on(grid)
    a = t.to_spectral({0: fields[0], 1: fields[1]})
    assert {values.dtype for values in a.values()} == {jnp.dtype(jnp.float32)}
    wide = {spin: values.astype(jnp.float64) for spin, values in a.items()}
    assert t.to_grid(wide)[1].dtype == jnp.complex64


@pytest.mark.parametrize('num_lat, num_lon', [(9, 12), (7, 9)])
def test_gradients_written_by_hand_equal_those_of_jax(
    x64, monkeypatch, num_lat, num_lon
):
    t = make('gauss', num_lat, num_lon, spins=(0, -1))
    a = draw(t, channels=2, batch_shape=(2,))
    fields = t.to_grid(a)

    def slopes():
        def energy(function, values, t):
            outputs = function.__wrapped__(t, values)  # Not what is compiled already.
            return sum(jnp.sum(jnp.abs(v) ** 3) for v in outputs.values())

        slope = jax.jit(jax.grad(energy, 1), static_argnums=0)
        return slope(transform._to_grid, a, t), slope(transform._to_spectral, fields, t)

    by_hand = slopes()
    monkeypatch.setattr(transform, '_analyse', transform._analyse.fun)
    monkeypatch.setattr(transform, '_synthesise', transform._synthesise.fun)
    for found, expected in zip(by_hand, slopes(), strict=True):
        assert_close(found, expected, rtol=0, atol=1e-10)


def test_gradients_equal_finite_differences(x64):
    t = make('equiangular_with_poles', 33, 32, spins=(0, 1))
    a, direction = draw(t), draw(t, seed=1)

    @jax.jit
    def energy(distance, t):
        moved = {spin: a[spin] + distance * direction[spin] for spin in a}
        again = t.to_spectral(
            {spin: jnp.abs(f) * f for spin, f in t.to_grid(moved).items()}
        )
        return sum(jnp.sum(values**2) for values in again.values())

    step = 1e-4  # Central differences err by step^2 times a third derivative.
    difference = (energy(step, t) - energy(-step, t)) / (2 * step)
    np.testing.assert_allclose(jax.grad(energy)(0.0, t), difference, rtol=1e-7)


def test_tables_are_arguments_of_compiled_functions_and_not_constants():
    grid = LatLonGrid('equiangular', num_lat=64, num_lon=64)
    t = SpinTransform.create(grid)
    shape = jax.ShapeDtypeStruct((64, 64, 1), jnp.float32)
    lowered = jax.jit(SpinTransform.to_spectral).lower(t, {0: shape})
    # One table has 32 x 32 x 64 entries: half a megabyte as text.
    assert len(lowered.as_text()) < 50_000


REAL = np.zeros((12, 24, 1), np.float32)


@pytest.mark.parametrize(
    'fields, message',
    [
        ({0: REAL + 0j}, 'real fields at spin 0.*as separate channels'),
        ({1: REAL}, r'complex fields at spin 1, got float32.*complex\(eastward'),
        ({0: REAL[:-1]}, r"on LatLonGrid\(kind='gauss'.*got shape \(11, 24, 1\)"),
        ({0: REAL[0]}, r'\[..., lat, lon, channel\]'),
        ({2: REAL + 0j}, r'spins of \(0, 1\), got \[2\] too; name them'),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields, message):
    grid = LatLonGrid('gauss', num_lat=12, num_lon=24)
    with pytest.raises(ValueError, match=message):
        SpinTransform.create(grid).to_spectral(fields)


def test_coefficients_that_do_not_fit_are_refused():
    grid = LatLonGrid('gauss', num_lat=12, num_lon=24)
    t = SpinTransform.create(grid, max_degree=5)
    a = draw(t, dtype=jnp.float32)
    with pytest.raises(ValueError, match=r'<= 5 .*got 6; reduce them with .*truncate'):
        t.to_grid(operators.pad_to_degree(a, 6))
    with pytest.raises(ValueError, match=r'spin 0 .*mode.*= \(2, 1\), got shape'):
        t.to_grid({0: a[1]})
    with pytest.raises(ValueError, match='one max_degree for all spins'):
        t.to_grid({0: a[0], 1: operators.truncate(a, 4)[1]})
    with pytest.raises(ValueError, match='at least one spin'):
        t.to_grid({})
    with pytest.raises(ValueError, match=r'spin of \[0, 1\], got 2'):
        coefficient(a, spin=2, degree=1, order=0)
    with pytest.raises(ValueError, match='<= 5, got degree 3, order 4'):
        coefficient(a, spin=1, degree=3, order=4)


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(spins=(0, 3)), r'from -2 to 2, got \(0, 3\)'),
        (dict(spins=()), r'spins .*got \(\)'),
        (dict(max_degree=12), 'from 0 to 11, the largest that LatLonGrid.*got 12'),
        (dict(dtype=jnp.float64), "JAX is set to, got float64; .*'jax_enable_x64'"),
    ],
)
def test_impossible_transforms_are_refused(arguments, message):
    grid = LatLonGrid('gauss', num_lat=12, num_lon=24)
    with pytest.raises(ValueError, match=message):
        SpinTransform.create(grid, **arguments)
