"""spherecast itself: `SpinTransform`, jitted, with the transform as an argument.

Winds come and go as two real arrays u and v, as in libraries without complex fields:
putting them together and taking them apart is part of what is timed.
"""

import functools
import importlib.metadata
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.cases import Case
from benchmarks.peers import Prepared, measures, probes
from sphere_ops import LatLonGrid, SpinTransform
from sphere_ops.testing import random_coefficients

# {spin: (field,) or (u, v)}, each real [lat, lon, channel].
RealFields: TypeAlias = dict[int, tuple[jax.Array, ...]]

probe = probes.prepare


def versions() -> dict[str, str]:
    """Of JAX; spherecast's own is the commit."""
    return {name: importlib.metadata.version(name) for name in ('jax', 'jaxlib')}


def prepare(case: dict[str, Any]) -> Prepared:
    """Operations `'forward'` and `'inverse'`."""
    wanted = Case.from_json(case)
    jnp.zeros(1).block_until_ready()  # JAX itself starts before the clock does.
    transform, init_seconds = measures.timed(lambda: _create(wanted))
    fields, coefficients = _fields(wanted), _coefficients(wanted)
    _, compile_seconds = measures.timed(
        lambda: (
            _forward.lower(transform, fields).compile(),
            _inverse.lower(transform, coefficients).compile(),
        )
    )
    return Prepared(
        operations={
            'forward': lambda: jax.block_until_ready(_forward(transform, fields)),
            'inverse': lambda: jax.block_until_ready(_inverse(transform, coefficients)),
        },
        facts={
            'init_seconds': init_seconds,
            'compile_seconds': compile_seconds,
            'table_bytes': sum(leaf.nbytes for leaf in jax.tree.leaves(transform)),
            'round_trip': _round_trip(transform, coefficients),
        },
    )


@jax.jit
def _forward(transform: SpinTransform, fields: RealFields):
    return transform.to_spectral(
        {
            spin: parts[0] if spin == 0 else jax.lax.complex(*parts)
            for spin, parts in fields.items()
        }
    )


@jax.jit
def _inverse(transform: SpinTransform, coefficients) -> RealFields:
    return {
        spin: (field,) if spin == 0 else (field.real, field.imag)
        for spin, field in transform.to_grid(coefficients).items()
    }


def _create(case: Case) -> SpinTransform:
    measures.forget_caches('sphere_ops')
    grid = LatLonGrid(
        'equiangular_with_poles', num_lat=case.num_lat, num_lon=case.num_lon
    )
    transform = SpinTransform.create(grid, spins=case.spins, max_degree=grid.max_degree)
    return jax.block_until_ready(transform)


def _fields(case: Case) -> RealFields:
    draw = functools.partial(measures.normal, case.num_lat, case.num_lon)
    return {
        spin: tuple(
            jnp.asarray(draw(count, seed=seed)) for seed in range(1 if spin == 0 else 2)
        )
        for spin, count in case.fields.items()
    }


def _coefficients(case: Case) -> dict[int, jax.Array]:
    return {
        spin: random_coefficients(
            jax.random.key(spin),
            spins=(spin,),
            max_degree=case.max_degree,
            channels=count,
        )[spin]
        for spin, count in case.fields.items()
    }


def _round_trip(transform: SpinTransform, coefficients) -> dict[str, dict[str, float]]:
    after = _forward(transform, _inverse(transform, coefficients))
    return {
        str(spin): measures.round_trip(np.asarray(values), np.asarray(after[spin]))
        for spin, values in coefficients.items()
    }
