import math

import pytest

from benchmarks.cases import Case, grid_values, least_flops
from sphere_ops import LatLonGrid


def legendre_flops(case: Case) -> float:
    """Counted one by one: every order, degree and row of the northern half."""
    flops = 0
    for order in range(case.max_degree + 1):
        for _ in range(order, case.max_degree + 1):
            for _ in range(case.num_lat // 2):
                flops += 2 * 2  # Multiply and add, real and imaginary.
    return flops


@pytest.mark.parametrize('num_lat,num_lon', [(8, 8), (8, 16), (10, 6)])
def test_least_flops_of_a_scalar_are_those_of_the_triangle_and_the_ffts(
    num_lat, num_lon
):
    case = Case(num_lat, num_lon, channels=1, spins=(0,))
    ffts = num_lat * 2.5 * num_lon * math.log2(num_lon)
    assert least_flops(case) == pytest.approx(legendre_flops(case) + ffts)


def test_a_vector_needs_four_times_the_sums_and_twice_the_ffts():
    scalar, vector = (Case(16, 16, channels=1, spins=(s,)) for s in (0, 1))
    sums = legendre_flops(scalar)
    ffts = least_flops(scalar) - sums
    assert least_flops(vector) == pytest.approx(4 * sums + 2 * ffts)


def test_flops_and_values_add_over_spins_and_channels():
    both = Case(16, 32, channels=3, spins=(0, 1))
    single = [Case(16, 32, channels=1, spins=(s,)) for s in (0, 1)]
    assert least_flops(both) == pytest.approx(3 * sum(map(least_flops, single)))
    assert grid_values(both) == 2 * 3 * 16 * 32


def test_complex_scalars_are_twice_as_many_real_ones():
    case = Case(16, 16, channels=3, spins=(0, 1), complex_scalars=True)
    assert case.fields == {0: 6, 1: 3}


@pytest.mark.parametrize('size', [(64, 64), (64, 128), (33, 16), (16, 9)])
def test_max_degree_is_that_of_the_grid(size):
    grid = LatLonGrid('equiangular_with_poles', num_lat=size[0], num_lon=size[1])
    assert Case(*size, channels=1, spins=(0,)).max_degree == grid.max_degree


def test_a_case_survives_json():
    case = Case(16, 32, channels=3, spins=(0, 1))
    values = {**case.to_json(), 'spins': [0, 1]}
    assert Case.from_json(values) == case
    assert str(case) == '16x32, spins 0,1, 3 each'
