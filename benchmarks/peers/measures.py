"""Measurements that all libraries share: fresh starts, durations, round trips."""

import contextlib
import functools
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Timed(NamedTuple):
    """What a function returned and how long it took."""

    value: Any
    seconds: float


def timed(function: Callable[[], Any]) -> Timed:
    """Calls once; the function must wait for its own result."""
    start = time.perf_counter()
    value = function()
    return Timed(value, time.perf_counter() - start)


def forget_caches(package: str) -> None:
    """Empties the `functools` caches of a package, so that tables are made afresh.

    Those of functions that its modules hold, or that these functions wrap.
    """
    for name, module in list(sys.modules.items()):
        if name.split('.')[0] == package:
            for value in list(vars(module).values()):
                for function in (value, *_wrapped(value)):
                    if isinstance(function, functools._lru_cache_wrapper):
                        function.cache_clear()


def _wrapped(value: Any) -> list[Any]:
    """What a function refers to as a decorator's inner function does."""
    found = []
    for cell in getattr(value, '__closure__', None) or ():
        with contextlib.suppress(ValueError):  # A cell may be empty.
            found.append(cell.cell_contents)
    return found


def round_trip(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    """Errors of coefficients that went to the grid and back.

    Args:
      before: Coefficients; of a complex one, its parts are compared.
      after: The same, after the trip.

    Returns:
      `max_relative`, the largest error over the largest coefficient; `max_abs`, the
      largest error; `rms`, over the coefficients that are not zero; `coefficients`, how
      many these are.
    """
    before, after = real_parts(before), real_parts(after)
    # In float64, so that the difference adds no error of its own.
    error = np.abs(after.astype(np.float64) - before)
    counted = before != 0
    return {
        'max_relative': float(error.max() / np.abs(before).max()),
        'max_abs': float(error.max()),
        'rms': float(np.sqrt(np.mean(error[counted] ** 2))),
        'coefficients': int(counted.sum()),
    }


def real_parts(values: np.ndarray) -> np.ndarray:
    """Real and imaginary parts side by side, where there are any."""
    values = np.ascontiguousarray(values)
    return values.view(values.real.dtype) if np.iscomplexobj(values) else values


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Unit normal numbers, float32."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def complex_normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Unit normal real and imaginary parts, complex64."""
    return normal(*shape, 2, seed=seed).view(np.complex64)[..., 0]


def triangle(max_degree: int, *, spin: int) -> np.ndarray:
    """`[degree, order]`: where a coefficient of order >= 0 may differ from zero."""
    degree, order = np.mgrid[: max_degree + 1, : max_degree + 1]
    return degree >= np.maximum(order, abs(spin))


def real_field_coefficients(
    *leading: int, max_degree: int, spin: int, seed: int = 0
) -> np.ndarray:
    """Random coefficients of real fields, or of E and B modes.

    Returns:
      `[*leading, degree, order]`, complex64, orders >= 0: unit normal parts, real at
      order 0, zero outside `triangle`.
    """
    size = max_degree + 1
    values = complex_normal(*leading, size, size, seed=seed)
    values[..., 0].imag = 0  # Else the field would not be real.
    return values * triangle(max_degree, spin=spin)
