"""Coefficients and a transform that the tests of all layers share."""

import jax
import pytest

from sphere_ops import LatLonGrid, SpinTransform
from sphere_ops.testing import random_coefficients

MAX_DEGREE = 7
GRID = LatLonGrid(kind='gauss', num_lat=16, num_lon=32)


@pytest.fixture
def coefficients():
    return random_coefficients(
        jax.random.key(0),
        spins=(0, 1),
        max_degree=MAX_DEGREE,
        channels=2,
        batch_shape=(3,),
    )


@pytest.fixture(scope='session')
def transform():
    return SpinTransform.create(GRID, spins=(0, 1), max_degree=MAX_DEGREE)
