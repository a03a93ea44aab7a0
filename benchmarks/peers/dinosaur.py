"""dinosaur-dycore on the same grid, real fields at spin 0, its fast implementation.

Its tables are constants of the compiled program, as in its own use.
"""

import importlib.metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from dinosaur import spherical_harmonic

from benchmarks.cases import Case
from benchmarks.peers import Prepared, measures


def versions() -> dict[str, str]:
    """Of dinosaur and JAX."""
    names = ('dinosaur-dycore', 'jax')
    return {name: importlib.metadata.version(name) for name in names}


def prepare(case: dict[str, Any]) -> Prepared:
    """Operations `'forward'` and `'inverse'`.

    Raises:
      ValueError: If a spin other than 0 is asked for.
    """
    wanted = Case.from_json(case)
    if wanted.spins != (0,):
        raise ValueError(f'expected spins (0,), got {wanted.spins}')
    harmonics, init_seconds = measures.timed(lambda: _create(wanted))
    forward, inverse = (
        jax.jit(harmonics.transform),
        jax.jit(harmonics.inverse_transform),
    )
    count = wanted.fields[0]
    fields = jnp.asarray(measures.normal(count, wanted.num_lon, wanted.num_lat))
    coefficients = jnp.asarray(
        measures.normal(count, *harmonics.modal_shape) * harmonics.mask
    )
    _, compile_seconds = measures.timed(
        lambda: (
            forward.lower(fields).compile(),
            inverse.lower(coefficients).compile(),
        )
    )
    after = forward(inverse(coefficients)) * harmonics.mask
    return Prepared(
        operations={
            'forward': lambda: forward(fields).block_until_ready(),
            'inverse': lambda: inverse(coefficients).block_until_ready(),
        },
        facts={
            'init_seconds': init_seconds,
            'compile_seconds': compile_seconds,
            'round_trip': {
                '0': measures.round_trip(np.asarray(coefficients), np.asarray(after))
            },
        },
    )


def _create(case: Case) -> spherical_harmonic.FastSphericalHarmonics:
    measures.forget_caches('dinosaur')
    size = case.max_degree + 1  # Numbers of wavenumbers, not the largest ones.
    harmonics = spherical_harmonic.FastSphericalHarmonics(
        longitude_wavenumbers=size,
        total_wavenumbers=size,
        longitude_nodes=case.num_lon,
        latitude_nodes=case.num_lat,
        latitude_spacing='equiangular_with_poles',
        transform_precision='highest',  # float32 throughout, as the others have it.
    )
    _ = harmonics.basis  # Made when first used.
    return harmonics
