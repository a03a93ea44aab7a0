"""What is transformed: sizes, spins and channels, and the arithmetic it needs."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Case:
    """Fields on an equiangular grid with poles, `channels` of them at each spin.

    Attributes:
      num_lat: Rows.
      num_lon: Columns.
      channels: Fields per spin.
      spins: Of 0 (real) and 1 (complex).
      complex_scalars: Whether there are twice as many fields at spin 0, as real and
        imaginary parts: what a library does whose spin-0 fields are complex.
    """

    num_lat: int
    num_lon: int
    channels: int
    spins: tuple[int, ...]
    complex_scalars: bool = False

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> 'Case':
        """The inverse of `to_json`."""
        return cls(**{**values, 'spins': tuple(values['spins'])})

    def to_json(self) -> dict[str, Any]:
        """As a worker gets it."""
        return dataclasses.asdict(self)

    @property
    def fields(self) -> dict[int, int]:
        """`{spin: number of fields}`."""
        scalars = self.channels * (2 if self.complex_scalars else 1)
        return {s: scalars if s == 0 else self.channels for s in self.spins}

    @property
    def max_degree(self) -> int:
        """Largest degree, inclusive, that quadrature on the grid is exact for."""
        # Coefficients are integrals of products of two harmonics: of twice the degree.
        return min(self.num_lat - 1, self.num_lon - 1) // 2

    @property
    def size(self) -> str:
        """`'64x128'`: rows and columns."""
        return f'{self.num_lat}x{self.num_lon}'

    def __str__(self) -> str:
        spins = ','.join(map(str, self.spins))
        doubled = ', complex scalars' if self.complex_scalars else ''
        return f'{self.size}, spins {spins}, {self.channels} each{doubled}'


def least_flops(case: Case) -> float:
    """Fewest floating-point operations of a transform, either way, in the usual count.

    One real field needs

        2 (multiply, add) 2 (re, im) sum_(0 <= m <= M) (M + 1 - m) num_lat / 2
        + 2.5 num_lon log2(num_lon) num_lat

    with M = max_degree: the Legendre sums over orders m >= 0 and degrees l >= m only,
    at half the rows, because harmonics are even or odd about the equator; and an FFT of
    each row, counted as is usual for real ones. A spin-1 field is two real components,
    each of which takes part in both E and B: four times the sums, twice the FFTs.

    Nothing is multiplied by zero and no weights are counted, so that real programs do
    more than this: it is the same yardstick for all.
    """
    degrees = case.max_degree + 1
    sums = 4 * (degrees * (degrees + 1) // 2) * case.num_lat / 2
    fft = 2.5 * case.num_lon * math.log2(case.num_lon) * case.num_lat
    return sum(
        count * (sums + fft if spin == 0 else 4 * sums + 2 * fft)
        for spin, count in case.fields.items()
    )


def grid_values(case: Case) -> int:
    """Grid points times fields; a complex field counts once."""
    return case.num_lat * case.num_lon * sum(case.fields.values())
