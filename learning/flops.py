"""Floating-point operations of a function, counted in its jaxpr.

What XLA's own cost analysis says would not do: it counts the body of a loop once,
however often it runs, and nothing of what a library computes, such as a Fourier
transform. Here a loop counts as often as it runs, and what the backward pass computes
anew counts twice, as a machine does it twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core


class Flops(NamedTuple):
    """Operations on real numbers; a multiplication and an addition are two.

    Attributes:
      matmul: of products of matrices and convolutions, which the peak of an accelerator
        is stated for.
      fourier: of Fourier transforms, `5 n log2 n` each, half of it for real ones.
      other: one for every number that something else computes.
    """

    matmul: float = 0.0
    fourier: float = 0.0
    other: float = 0.0

    @property
    def total(self) -> float:
        """All of them."""
        return sum(self)

    def times(self, count: float) -> Flops:
        """So many repetitions."""
        return Flops(*(count * part for part in self))

    def plus(self, other: Flops) -> Flops:
        """Both."""
        return Flops(*(a + b for a, b in zip(self, other, strict=True)))


def count_flops(function: Callable[..., Any], *arguments: Any) -> Flops:
    """The operations of `function(*arguments)`; shapes are enough.

    Over all devices: annotations of a layout do not change what is computed.
    """
    return _of_jaxpr(jax.make_jaxpr(function)(*arguments).jaxpr)


# They move numbers and compute none.
_MOVES = frozenset(
    """
    broadcast_in_dim reshape transpose squeeze expand_dims slice dynamic_slice
    dynamic_update_slice concatenate pad gather rev copy convert_element_type
    bitcast_convert_type iota stop_gradient sharding_constraint split real imag complex
    optimization_barrier device_put copy_p reduce_precision name select_n eq ne lt le gt
    ge and or not random_wrap random_unwrap random_seed random_fold_in
    """.split()
)


def _of_jaxpr(jaxpr: core.Jaxpr) -> Flops:
    total = Flops()
    for equation in jaxpr.eqns:
        total = total.plus(_of_equation(equation))
    return total


def _of_equation(equation: Any) -> Flops:
    name = equation.primitive.name
    if name == 'dot_general':
        return Flops(matmul=_of_product(equation))
    if name == 'conv_general_dilated':
        return Flops(matmul=_of_convolution(equation))
    if name == 'fft':
        return Flops(fourier=_of_fourier(equation))
    inner = [_of_jaxpr(jaxpr) for jaxpr in _inner(equation)]
    if name == 'cond':
        return max(inner, key=lambda flops: flops.total)
    if name == 'scan':
        return inner[0].times(equation.params['length'])
    if name == 'while':
        raise ValueError(
            'expected loops of known length, found a while loop; count a body of it'
        )
    if inner:
        total = Flops()
        for flops in inner:
            total = total.plus(flops)
        # Of a device's part of the arrays.
        mesh = equation.params.get('mesh') if name == 'shard_map' else None
        return total if mesh is None else total.times(mesh.size)
    if name in _MOVES:
        return Flops()
    # A reduction computes as many numbers as it reads.
    variables = equation.invars if name.startswith(('reduce', 'cum', 'arg')) else ()
    return Flops(other=max(map(_size, [*variables, *equation.outvars]), default=0))


def _inner(equation: Any) -> Iterator[Any]:
    """The functions that an equation calls, each once."""
    name, params = equation.primitive.name, equation.params
    # A function with a rule of its own for derivatives holds the rule as well.
    keys = [key for key in ('call_jaxpr', 'jaxpr', 'fun_jaxpr') if key in params]
    values = [params[key] for key in keys[:1]] if keys else list(params.values())
    if name == 'cond':
        values = list(params['branches'])
    for value in values:
        for jaxpr in value if isinstance(value, tuple | list) else (value,):
            if hasattr(jaxpr, 'eqns'):
                yield getattr(jaxpr, 'jaxpr', jaxpr)


def _size(variable: Any) -> int:
    aval = variable.aval
    return math.prod(aval.shape) if hasattr(aval, 'shape') else 0


def _is_complex(variable: Any) -> bool:
    return bool(np.issubdtype(variable.aval.dtype, np.complexfloating))


def _of_product(equation: Any) -> float:
    left = equation.invars[0]
    contracted, _ = equation.params['dimension_numbers'][0]
    summed = math.prod(left.aval.shape[axis] for axis in contracted)
    # A product of complex numbers is four, and their sum two.
    factor = 4 if _is_complex(left) else 1
    return 2.0 * factor * _size(equation.outvars[0]) * summed


def _of_convolution(equation: Any) -> float:
    kernel = equation.invars[1].aval.shape
    spec = equation.params['dimension_numbers'].rhs_spec
    summed = math.prod(kernel[axis] for axis in spec[1:])
    return 2.0 * _size(equation.outvars[0]) * summed


def _of_fourier(equation: Any) -> float:
    lengths = equation.params['fft_lengths']
    points = math.prod(lengths)
    real = not all(_is_complex(v) for v in (*equation.invars, *equation.outvars))
    largest = max(_size(equation.invars[0]), _size(equation.outvars[0]))
    transforms = largest / points if not real else _batch(equation, len(lengths))
    return transforms * 5.0 * points * math.log2(points) / (2 if real else 1)


def _batch(equation: Any, num_axes: int) -> int:
    shape = equation.invars[0].aval.shape
    return math.prod(shape[: len(shape) - num_axes])
