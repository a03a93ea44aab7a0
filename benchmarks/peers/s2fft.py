"""s2fft with precomputed kernels, in float32, channels by `vmap`.

On the grid of Driscoll and Healy, 'dh': of its grids the one nearest to ours, with as
many rows, `2 L` for `L` degrees, and `2 L - 1` columns. Real fields at spin 0, complex
ones as they are at spin 1.
"""

import functools
import importlib.metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from s2fft.precompute_transforms import construct, spherical

from benchmarks.cases import Case
from benchmarks.peers import Prepared, measures

SAMPLING = 'dh'


def versions() -> dict[str, str]:
    """Of s2fft and JAX."""
    return {name: importlib.metadata.version(name) for name in ('s2fft', 'jax')}


class Transform:
    """Both directions at one spin.

    Args:
      spin: 0 or 1.
      num_degrees: L, one more than the largest degree.
    """

    def __init__(self, *, spin: int, num_degrees: int):
        is_real = spin == 0
        static = (num_degrees, SAMPLING, is_real, spin, None)
        self._forward_kernel, self._inverse_kernel = (
            _kernel(spin=spin, num_degrees=num_degrees, forward=forward)
            for forward in (True, False)
        )
        self._forward = _over_channels(spherical.forward_transform_jax, static)
        self._inverse = _over_channels(spherical.inverse_transform_jax, static)

    def forward(self, fields: jax.Array) -> jax.Array:
        """`[channel, lat, lon]` to `[channel, degree, order]`."""
        return self._forward(fields, self._forward_kernel)

    def inverse(self, coefficients: jax.Array) -> jax.Array:
        """`[channel, degree, order]` to `[channel, lat, lon]`."""
        return self._inverse(coefficients, self._inverse_kernel)


def prepare(case: dict[str, Any]) -> Prepared:
    """Operations `'forward'` and `'inverse'`."""
    wanted = Case.from_json(case)
    transforms, init_seconds = measures.timed(
        lambda: {
            spin: Transform(spin=spin, num_degrees=wanted.max_degree + 1)
            for spin in wanted.spins
        }
    )
    fields, coefficients = _fields(wanted), _coefficients(wanted)
    # What is not compiled yet is, by the round trip.
    errors, compile_seconds = measures.timed(
        lambda: {
            str(spin): _round_trip(transform, coefficients[spin])
            for spin, transform in transforms.items()
        }
    )
    return Prepared(
        operations={
            'forward': lambda: jax.block_until_ready(
                [transforms[s].forward(fields[s]) for s in transforms]
            ),
            'inverse': lambda: jax.block_until_ready(
                [transforms[s].inverse(coefficients[s]) for s in transforms]
            ),
        },
        facts={
            'init_seconds': init_seconds,
            'compile_seconds': compile_seconds,
            'round_trip': errors,
        },
    )


def _kernel(*, spin: int, num_degrees: int, forward: bool) -> jax.Array:
    kernel = construct.spin_spherical_kernel(
        num_degrees, spin, spin == 0, SAMPLING, forward=forward
    )
    return jnp.asarray(kernel, jnp.float32)


def _over_channels(function, static: tuple):
    def single(values: jax.Array, kernel: jax.Array) -> jax.Array:
        return function(values, kernel, *static)

    return jax.jit(jax.vmap(single, in_axes=(0, None)))


def _fields(case: Case) -> dict[int, jax.Array]:
    grid = (case.num_lat, 2 * case.max_degree + 1)
    draw = {0: measures.normal, 1: measures.complex_normal}
    return {
        spin: jnp.asarray(draw[spin](count, *grid))
        for spin, count in case.fields.items()
    }


def _coefficients(case: Case) -> dict[int, jax.Array]:
    size = case.max_degree + 1
    draw = functools.partial(
        measures.real_field_coefficients, max_degree=case.max_degree
    )
    found = {}
    for spin, count in case.fields.items():
        half, other = draw(count, spin=spin), draw(count, spin=spin, seed=1)
        signs = (-1) ** np.arange(1, size)
        # Of real fields a(l, -m) = (-1)^m conj a(l, m); at spin 1 both signs of the
        # order are independent of each other.
        mirrored = signs * half[..., 1:].conj()
        negative = mirrored if spin == 0 else other[..., 1:]
        found[spin] = jnp.asarray(np.concatenate([negative[..., ::-1], half], -1))
    return found


def _round_trip(transform: Transform, coefficients: jax.Array) -> dict[str, float]:
    after = transform.forward(transform.inverse(coefficients))
    return measures.round_trip(np.asarray(coefficients), np.asarray(after))
