"""Phase collapse: its formula, its gradient, its aliasing."""

import jax
import jax.numpy as jnp
import numpy as np

from sphere_ops.layers.collapse import PhaseCollapse, magnitude
from sphere_ops.testing import assert_equivariant

KEY = jax.random.key(1)  # Of parameters.
ROUND_OFF = dict(rtol=0, atol=2e-5)  # float32, values of order one, sums of tens.
# |x| of a field cut at degree 7 has degrees far beyond the 15 that the grid resolves;
# what aliases back was half a per cent of it when measured. Less would mean that the
# layer does not do what it should, more that it is broken: both ways are asserted.
ALIASING = (1e-3, 0.1)


def test_phase_collapse_equals_its_formula_on_the_grid(coefficients, transform):
    layer = PhaseCollapse()
    variables = layer.init(KEY, coefficients, transform)
    variables['params']['bias'] = jnp.array([0.3, -2.0])
    result = layer.apply(variables, coefficients, transform)
    fields = transform.to_grid(coefficients)
    params = variables['params']
    magnitudes = jnp.concatenate([jnp.abs(fields[0]), jnp.abs(fields[1])], axis=-1)
    expected = (
        fields[0] @ params['scalars']['kernel']
        + magnitudes @ params['magnitudes']['kernel']
    ) / 2 + params['bias']
    expected = transform.to_spectral({0: expected})[0]
    np.testing.assert_allclose(result[0], expected, **ROUND_OFF)
    np.testing.assert_array_equal(result[1], coefficients[1])


def test_the_magnitude_has_a_gradient_everywhere():
    gradient = jax.grad(lambda x: magnitude(jax.lax.complex(x, x)).sum())(jnp.zeros(2))
    assert np.isfinite(gradient).all()


def test_phase_collapse_commutes_with_rotations_up_to_aliasing(coefficients, transform):
    layer = PhaseCollapse()
    variables = layer.init(KEY, coefficients, transform)
    assert_equivariant(
        lambda c: layer.apply(variables, c, transform),
        coefficients,
        key=jax.random.key(5),
        bounds=ALIASING,
    )
