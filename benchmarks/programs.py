"""Compiled programs: how long they take to compile, the memory that they need."""

from __future__ import annotations

import importlib.metadata
import pathlib
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.peers import Prepared, measures

GIB = 2**30
_STATUS = pathlib.Path('/proc/self/status')
_MEMINFO = pathlib.Path('/proc/meminfo')


def versions() -> dict[str, str]:
    """Of the packages that compile."""
    names = ('jax', 'jaxlib', 'flax', 'numpy')
    return {name: importlib.metadata.version(name) for name in names}


class Compiled(NamedTuple):
    """A function compiled ahead of time.

    Attributes:
      program: takes the arguments, or others of the same shapes.
      seconds: that tracing and compiling took.
    """

    program: Any
    seconds: float


def compile_program(function: Any, *arguments: Any) -> Compiled:
    """Compiles a jitted function for the given arguments."""
    started = time.perf_counter()
    program = function.lower(*arguments).compile()
    return Compiled(program, time.perf_counter() - started)


def program_gib(program: Any) -> float:
    """Memory that a program needs: arguments, results and workspace, GiB."""
    sizes = program.memory_analysis()
    return (sizes.argument_size_in_bytes + _beside_arguments(sizes)) / GIB


def process_gib() -> float:
    """Largest memory that this process has occupied, GiB."""
    if _STATUS.exists():
        # `ru_maxrss` of a child begins at what its parent occupied when it started it.
        return _kibibytes(_STATUS, 'VmHWM') / 2**20
    bytes_per_unit = 1 if sys.platform == 'darwin' else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * bytes_per_unit / GIB


def available_gib() -> float | None:
    """Memory that programs can still have, GiB; None where the system does not say."""
    return _kibibytes(_MEMINFO, 'MemAvailable') / 2**20 if _MEMINFO.exists() else None


def require_memory(program: Any) -> None:
    """Refuses to run a program that this machine has no memory for.

    Raises:
      MemoryError: says how much is needed and how much there is.
    """
    # The arguments are in memory already.
    needed = _beside_arguments(program.memory_analysis()) / GIB
    available = available_gib()
    if available is not None and needed > available:
        raise MemoryError(
            f'the compiled program needs {needed:.1f} GiB beside its arguments, but '
            f'only {available:.1f} GiB are available; free some, or leave this '
            'measurement out (--parts, --steps)'
        )


def _beside_arguments(sizes: Any) -> int:
    # Results that take the place of donated arguments need none of their own.
    results = sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    return sizes.temp_size_in_bytes + results


def _kibibytes(path: pathlib.Path, name: str) -> int:
    lines = path.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ':'))


def forward_and_gradient(
    function: Callable[..., Any], parameters: Any, inputs: Any, constants: Any
) -> Prepared:
    """Operations `'forward'` and `'value_and_grad'` of a layer, compiled.

    The gradient is that of the scalar `sum(weights * outputs)` (its real part), with
    fixed random weights, with respect to parameters and inputs.

    Args:
      function: `(parameters, inputs, constants) -> outputs`, arrays or pytrees.
      parameters: what a training adjusts.
      inputs: fields or coefficients.
      constants: tables and the like, arguments so that they are no literals.
    """
    arguments = parameters, inputs, constants
    weights = _weights(jax.eval_shape(function, *arguments))

    def loss(parameters: Any, inputs: Any, constants: Any, weights: Any) -> jax.Array:
        outputs = function(parameters, inputs, constants)
        products = jax.tree.map(lambda w, y: (w * y).sum().real, weights, outputs)
        return jnp.stack(jax.tree.leaves(products)).sum()

    gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    forward, forward_s = compile_program(jax.jit(function), *arguments)
    backward, backward_s = compile_program(gradient, *arguments, weights)
    return Prepared(
        operations={
            'forward': lambda: jax.block_until_ready(forward(*arguments)),
            'value_and_grad': lambda: jax.block_until_ready(
                backward(*arguments, weights)
            ),
        },
        facts={
            'compilation_s': {'forward': forward_s, 'value_and_grad': backward_s},
            'program_gib': {
                'forward': program_gib(forward),
                'value_and_grad': program_gib(backward),
            },
            'num_parameters': sum(x.size for x in jax.tree.leaves(parameters)),
        },
    )


def _weights(shapes: Any) -> Any:
    """Random arrays of the given shapes and types."""

    def draw(shape: jax.ShapeDtypeStruct) -> jax.Array:
        is_complex = jnp.issubdtype(shape.dtype, jnp.complexfloating)
        normal = measures.complex_normal if is_complex else measures.normal
        return jnp.asarray(normal(*shape.shape))

    return jax.tree.map(draw, shapes)
