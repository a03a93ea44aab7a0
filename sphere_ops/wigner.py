"""Wigner d-functions by a stable recursion over degree, in float64 NumPy."""

from collections.abc import Iterator

import numpy as np

# The recursion starts at degree max(|m|, |n|) with a value that underflows to zero only
# where every later value stays below 1e-100, as long as degrees stay under this bound
# (the growth from the start to the turning point is at most 10^(0.16 max_degree)).
LARGEST_DEGREE = 1900


def wigner_d(left, right, colatitudes, max_degree: int) -> np.ndarray:
    """Wigner's small d, `d^l_mn(colatitude) = <l m| exp(-i colatitude J_y) |l n>`.

    Sign and order of indices as in Wikipedia ("Wigner D-matrix") and Sakurai:
    `d^1_10 = -sin(colatitude) / sqrt(2)`.

    Args:
      left: `[pair]`, integers m.
      right: `[pair]`, integers n.
      colatitudes: `[angle]`, radians in [0, pi].
      max_degree: Largest degree l, inclusive.

    Returns:
      `[pair, degree, angle]`, float64; zero where degree < max(|m|, |n|).
    """
    left, right = np.broadcast_arrays(np.atleast_1d(left), np.atleast_1d(right))
    colatitudes = np.asarray(colatitudes, np.float64)
    values = np.empty((left.size, max_degree + 1, colatitudes.size))
    for degree, d in enumerate(_by_degree(left, right, colatitudes, max_degree)):
        values[:, degree] = d
    return values


def harmonics_by_degree(
    spin: int, colatitudes, max_degree: int
) -> Iterator[np.ndarray]:
    """The part of spin-weighted harmonics that depends on colatitude, for orders >= 0.

    `sYlm = h_l[m] exp(i m longitude)` with
    `h_l[m] = (-1)^s sqrt((2 l + 1) / 4 pi) d^l_(m,-s)(colatitude)`
    (Goldberg et al. 1967, J. Math. Phys. 8, 2155, with the Condon-Shortley phase; at
    spin 0 `scipy.special.sph_harm_y`). Order -m follows from
    `h_l[-m](colatitude) = (-1)^(l + s) h_l[m](pi - colatitude)`.

    Args:
      spin: s.
      colatitudes: `[lat]`, radians.
      max_degree: Largest degree and order, inclusive.

    Yields:
      For l = 0, 1, ..., max_degree: `[order, lat]`, float64; zero where
      degree < max(order, |spin|).
    """
    orders = np.arange(max_degree + 1)
    colatitudes = np.asarray(colatitudes, np.float64)
    spins = np.full_like(orders, -spin)
    for degree, d in enumerate(_by_degree(orders, spins, colatitudes, max_degree)):
        yield (-1) ** spin * np.sqrt((2 * degree + 1) / (4 * np.pi)) * d


def _by_degree(
    left: np.ndarray, right: np.ndarray, colatitudes: np.ndarray, max_degree: int
) -> Iterator[np.ndarray]:
    """Yields `d^l`, `[pair, angle]`, for l = 0, 1, ..., max_degree.

    Three-term recursion in l (Varshalovich et al. 1988, section 4.8.2, eq. 14),
    forward and so stable: d grows until its turning point and oscillates after it.
    """
    if max_degree > LARGEST_DEGREE:
        raise ValueError(
            f'expected max_degree <= {LARGEST_DEGREE}, got {max_degree}: beyond it the '
            'starting values underflow'
        )
    # Yielded degree by degree: whoever keeps float32, or half of the angles, never
    # holds all of it in float64.
    first = np.maximum(np.abs(left), np.abs(right))
    start = _start(left, right, colatitudes)
    cosine = np.cos(colatitudes)
    previous = current = np.zeros_like(start)
    for degree in range(max_degree + 1):
        gain, shift, loss = _recursion_factors(left, right, degree - 1)
        following = gain * (cosine - shift) * current - loss * previous
        # Until its first degree a pair is zero, and so is all that it feeds back.
        starting = first == degree
        following[starting] = start[starting]
        previous, current = current, following
        yield current


def _recursion_factors(left, right, degree: int) -> tuple[np.ndarray, ...]:
    """`d^(l+1) = gain (cos - shift) d^l - loss d^(l-1)`, each `[pair, 1]`."""
    m, n, following = left[:, None], right[:, None], degree + 1
    begun = np.maximum(np.abs(m), np.abs(n)) <= degree
    above = (following**2 - m**2) * (following**2 - n**2)
    here = (degree**2 - m**2) * (degree**2 - n**2)
    root = np.sqrt(np.where(begun, above, 1))
    gain = np.where(begun, following * (degree + following) / root, 0)
    # At degree 0 both m n / l (l + 1) and the second term are absent, not 0 / 0.
    shift = m * n / max(degree * following, 1)
    loss = following / max(degree, 1) * np.sqrt(np.where(begun, here, 0)) / root
    return gain, shift, loss


def _start(left: np.ndarray, right: np.ndarray, colatitudes: np.ndarray) -> np.ndarray:
    """`d^l_mn` at l = max(|m|, |n|), `[pair, angle]`: one term of Wigner's sum.

    `+- sqrt((2 l)! / (a! b!)) sin(t/2)^a cos(t/2)^b` with a = |m - n|, b = |m + n|,
    a + b = 2 l, in logarithms. Factorials are split as n! = n^n exp(-n) remainder(n):
    the powers then join sine and cosine, whose maximum becomes 1, and nothing large
    cancels (with log n! itself the error was fifty times larger).
    """
    # Logarithms: (2 l)! alone overflows beyond l = 85, and high powers of a small sine
    # underflow where their product with it is an ordinary number.
    a, b = np.abs(left - right), np.abs(left + right)
    remainder = _log_factorial_remainder(int((a + b).max()))
    scale = (remainder[a + b] - remainder[a] - remainder[b])[:, None] / 2
    # sin of the complement for cos, so that both vanish exactly at their pole.
    sine = _log_power(np.sin(colatitudes / 2), a, a + b)
    cosine = _log_power(np.sin((np.pi - colatitudes) / 2), b, a + b)
    # d_mn = (-1)^(m-n) d_nm, and the sum's one term is positive for m <= n.
    sign = np.where((left > right) & (a % 2 == 1), -1.0, 1.0)
    return sign[:, None] * np.exp(scale + sine + cosine)


def _log_power(base: np.ndarray, exponent: np.ndarray, total: np.ndarray) -> np.ndarray:
    """`exponent log(base sqrt(total / exponent))`, `[pair, angle]`."""
    ratio = np.sqrt(total / np.maximum(exponent, 1))[:, None]
    # At a pole the base is 0, whose logarithm times an exponent of 0 would be NaN.
    tiny = np.finfo(np.float64).tiny
    return exponent[:, None] * np.log(np.maximum(base * ratio, tiny))


def _log_factorial_remainder(largest: int) -> np.ndarray:
    """`log(n! / (n^n exp(-n)))` for n = 0 ... largest, summed from its increments."""
    n = np.arange(2, largest + 1)
    increments = np.concatenate([[0.0, 1.0], 1 + (n - 1) * np.log1p(-1 / n)])
    return np.cumsum(increments)[: largest + 1]
