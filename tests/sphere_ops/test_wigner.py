import math
from fractions import Fraction

import numpy as np
import pytest

from sphere_ops import LatLonGrid
from sphere_ops.wigner import harmonics_by_degree, wigner_d

# Wigner's sum at low degree, in float64: a dozen terms of order one.
ROUND_OFF = dict(rtol=0, atol=1e-14)
# The recursion loses about one unit of the last place per degree.
ROUND_OFF_256 = dict(rtol=0, atol=1e-13)
ROUND_OFF_720 = dict(rtol=0, atol=1e-12)
ANGLES = np.linspace(0, np.pi, 9)


def explicit_d(degree: int, m: int, n: int, angle: np.ndarray) -> np.ndarray:
    """Wigner's sum, integers exact (Wikipedia, "Wigner D-matrix")."""
    f = math.factorial
    norm = math.sqrt(f(degree + m) * f(degree - m) * f(degree + n) * f(degree - n))
    total = np.zeros_like(angle)
    for k in range(max(0, n - m), min(degree + n, degree - m) + 1):
        divisor = f(degree + n - k) * f(k) * f(m - n + k) * f(degree - m - k)
        power = m - n + 2 * k
        term = float(Fraction((-1) ** (m - n + k), divisor)) * norm
        total += (
            term
            * np.cos(angle / 2) ** (2 * degree - power)
            * np.sin(angle / 2) ** power
        )
    return total


def harmonics(spin: int, colatitudes: np.ndarray, max_degree: int) -> np.ndarray:
    """`[order, degree, lat]`."""
    by_degree = list(harmonics_by_degree(spin, colatitudes, max_degree))
    return np.stack(by_degree, axis=1)


def all_pairs(max_degree: int) -> tuple[np.ndarray, np.ndarray]:
    orders = np.arange(-max_degree, max_degree + 1)
    m, n = np.meshgrid(orders, orders, indexing='ij')
    return m.ravel(), n.ravel()


def test_degree_one_is_the_rotation_of_a_vector():
    d = wigner_d([1, 1, 0, -1], [1, 0, 0, 1], ANGLES, 1)[:, 1]
    cos, sin = np.cos(ANGLES), np.sin(ANGLES)
    expected = [(1 + cos) / 2, -sin / np.sqrt(2), cos, (1 - cos) / 2]
    np.testing.assert_allclose(d, expected, **ROUND_OFF)


def test_recursion_equals_wigners_sum():
    m, n = all_pairs(6)
    found = wigner_d(m, n, ANGLES, 6)
    for pair, (left, right) in enumerate(zip(m, n, strict=True)):
        for degree in range(7):
            if degree < max(abs(left), abs(right)):
                np.testing.assert_array_equal(found[pair, degree], 0)
                continue
            expected = explicit_d(degree, int(left), int(right), ANGLES)
            np.testing.assert_allclose(found[pair, degree], expected, **ROUND_OFF)


def test_rotation_matrices_are_orthogonal():
    m, n = all_pairs(20)
    matrices = wigner_d(m, n, ANGLES, 20).reshape(41, 41, 21, ANGLES.size)
    products = np.einsum('mkla,nkla->lamn', matrices, matrices, optimize=True)
    inside = np.abs(np.arange(-20, 21)) <= np.arange(21)[:, None]
    expected = inside[:, None, :, None] * np.eye(41)
    np.testing.assert_allclose(
        products, np.broadcast_to(expected, products.shape), **ROUND_OFF_256
    )


@pytest.mark.parametrize('spin', [-2, -1, 0, 1, 2])
@pytest.mark.parametrize('kind', ['gauss', 'equiangular_with_poles'])
def test_harmonics_are_orthonormal_at_degree_127(spin, kind):
    num_lat = 128 if kind == 'gauss' else 256
    grid = LatLonGrid(kind, num_lat=num_lat, num_lon=256)
    table = harmonics(spin, grid.colatitudes, 127)[::9]
    weights = 2 * np.pi * grid.quadrature_weights
    products = np.einsum('mlj,mkj,j->mlk', table, table, weights, optimize=True)
    first = np.maximum(np.arange(128)[::9], abs(spin))
    inside = np.arange(128) >= first[:, None]
    expected = inside[:, :, None] * np.eye(128)
    np.testing.assert_allclose(products, expected, **ROUND_OFF_256)


def test_nothing_under_or_overflows_at_degree_720():
    grid = LatLonGrid('gauss', num_lat=721, num_lon=1442)
    orders = np.array([0, 1, 100, 265, 400, 600, 719, 720])
    d = wigner_d(orders, -1, grid.colatitudes, 720)
    weights = (np.arange(721) + 0.5)[:, None] * grid.quadrature_weights
    norms = np.einsum('mlj,lj->ml', d**2, weights)
    inside = np.arange(721) >= np.maximum(orders, 1)[:, None]
    np.testing.assert_allclose(norms, inside, **ROUND_OFF_720)


@pytest.mark.parametrize('spin', [-2, -1, 0, 1, 2])
def test_table_reflects_with_the_documented_sign(spin):
    table = harmonics(spin, ANGLES, 7)
    reflected = harmonics(-spin, np.pi - ANGLES, 7)
    # d^l_mn(pi - t) = (-1)^(l - n) d^l_(-m,n)(t) = (-1)^(l + m) d^l_(m,-n)(t).
    degree, order = np.arange(8), np.arange(8)[:, None]
    signs = (-1.0) ** (degree + order)
    np.testing.assert_allclose(table, signs[..., None] * reflected, **ROUND_OFF)


def test_degrees_whose_start_would_underflow_are_refused():
    with pytest.raises(ValueError, match='<= 1900, got 1901'):
        wigner_d(0, 0, ANGLES, 1901)
