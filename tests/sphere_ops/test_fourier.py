import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sphere_ops.fourier import Waves
from sphere_ops.reflection import fold, unfold

# float64: sums of at most 24 terms of order one; only round-off remains.
ROUND_OFF = dict(rtol=0, atol=1e-13)
# Whole quarters; halves of odd length; a circle without opposite points; one point.
CIRCLES = (24, 22, 15, 2, 1)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def random(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape))


@pytest.mark.parametrize('num_lon', CIRCLES)
@pytest.mark.parametrize('max_degree', [0, 5, 8])
def test_sums_equal_their_definition(num_lon, max_degree):
    waves = Waves.create(num_lon, max_degree, jnp.float64)
    values = random(num_lon, 3)
    longitude = 2 * np.pi / num_lon * np.arange(num_lon)
    definition = np.exp(-1j * np.outer(np.arange(max_degree + 1), longitude)) @ values
    real, imaginary = (jnp.swapaxes(v, 0, 1).reshape(-1, 3) for v in waves.sums(values))
    found = (real + 1j * imaginary)[: max_degree + 1]
    np.testing.assert_allclose(found, definition, **ROUND_OFF)


@pytest.mark.parametrize('num_lon', CIRCLES)
def test_values_are_the_transpose_of_sums(num_lon):
    waves = Waves.create(num_lon, 6, jnp.float64)
    values, (real, imaginary) = random(num_lon, 3), random(2, 2, 4, 3)
    sums = waves.sums(values)
    there = jnp.vdot(real, sums[0]) + jnp.vdot(imaginary, sums[1])
    back = jnp.vdot(waves.values(real, imaginary), values)
    np.testing.assert_allclose(there, back, rtol=1e-13)


@pytest.mark.parametrize('length', [1, 2, 7, 8])
@pytest.mark.parametrize('signs', [(1, 1), (-1, -1), (1, -1)])
def test_unfold_is_the_transpose_of_fold(length, signs):
    values = random(2, length)
    halves = fold(values, axis=1, signs=signs)
    expected = [
        values[:, i] + k * np.array(signs) * values[:, -1 - i]
        for k in (1, -1)
        for i in range((length + 1) // 2)
    ]
    np.testing.assert_allclose(jnp.concatenate(halves, 1), jnp.stack(expected, 1))
    even, odd = random(2, 2, (length + 1) // 2)
    there = jnp.vdot(even, halves[0]) + jnp.vdot(odd, halves[1])
    back = jnp.vdot(unfold(even, odd, length=length, axis=1, signs=signs), values)
    np.testing.assert_allclose(there, back, rtol=1e-13)
