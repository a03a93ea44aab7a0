"""google-research/spherical-cnn, from a checkout: the layers' authors' own transforms.

Needs `--path` of a checkout, whose package is `spherical_cnn`. Fields are complex at
all spins, `[lat, lon, spin, channel]` with as many columns as rows, on the same rows.
Transforms are those that its layers use; the constants are an argument of the jitted
function.
"""

import functools
import importlib.metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import spherical_cnn
from spherical_cnn import spin_spherical_harmonics

from benchmarks.cases import Case
from benchmarks.peers import Prepared, measures

Transformer = spin_spherical_harmonics.SpinSphericalFourierTransformer


def versions() -> dict[str, str]:
    """Of the library, JAX and flax."""
    of_jax = {name: importlib.metadata.version(name) for name in ('jax', 'flax')}
    return {'spherical_cnn': spherical_cnn.__version__, **of_jax}


def prepare(case: dict[str, Any]) -> Prepared:
    """Operations `'forward'` and `'inverse'`.

    Raises:
      ValueError: If the grid is not square.
    """
    wanted = Case.from_json(case)
    if wanted.num_lat != wanted.num_lon:
        raise ValueError(f'expected as many columns as rows, got {wanted.size}')
    transformer = Transformer((wanted.num_lat,), wanted.spins)
    constants, init_seconds = _constants(wanted.num_lat, wanted.spins)
    forward, inverse = (
        jax.jit(
            # Bound as a default: a free name would be the last one in both.
            lambda constants, x, method=method: transformer.apply(
                constants, x, wanted.spins, method=method
            )
        )
        for method in (
            Transformer.swsft_forward_spins_channels,
            Transformer.swsft_backward_spins_channels,
        )
    )
    grid = (wanted.num_lat, wanted.num_lon, len(wanted.spins), wanted.channels)
    fields = jnp.asarray(measures.complex_normal(*grid))
    coefficients = _coefficients(wanted)
    _, compile_seconds = measures.timed(
        lambda: (
            forward.lower(constants, fields).compile(),
            inverse.lower(constants, coefficients).compile(),
        )
    )
    after = forward(constants, inverse(constants, coefficients))
    return Prepared(
        operations={
            'forward': lambda: forward(constants, fields).block_until_ready(),
            'inverse': lambda: inverse(constants, coefficients).block_until_ready(),
        },
        facts={
            'init_seconds': init_seconds,
            'compile_seconds': compile_seconds,
            'table_bytes': sum(leaf.nbytes for leaf in jax.tree.leaves(constants)),
            'round_trip': {
                str(spin): measures.round_trip(
                    np.asarray(coefficients[:, :, i]), np.asarray(after[:, :, i])
                )
                for i, spin in enumerate(wanted.spins)
            },
        },
    )


@functools.cache
def _constants(num_lat: int, spins: tuple[int, ...]) -> measures.Timed:
    """Computed once per size: it takes minutes."""
    transformer = Transformer((num_lat,), spins)
    return measures.timed(
        lambda: jax.block_until_ready(transformer.init(jax.random.key(0)))
    )


def _coefficients(case: Case) -> jax.Array:
    """`[degree, order, spin, channel]`, orders from the most negative."""
    size, largest = case.max_degree + 1, case.max_degree
    values = measures.complex_normal(
        size, 2 * largest + 1, len(case.spins), case.channels
    )
    degree, order = np.mgrid[:size, -largest:size]
    spins = np.abs(case.spins)
    exists = degree[..., None] >= np.maximum(np.abs(order)[..., None], spins)
    # What cannot exist would not come back, and count as an error.
    return jnp.asarray(values * exists[..., None])
