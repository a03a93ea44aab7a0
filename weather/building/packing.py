"""How values become stored numbers: as they are, rounded, or packed into 16 bits.

Rounded to bfloat16 they stay float32, whose last 16 bits are then 0 and compress away:
Zarr v3 has no bfloat16 that every reader knows. Packed they are int16 by the CF
conventions, `stored * scale_factor + add_offset`, over the variable's plausible range,
which is known before a value is read and the same for every run; -32768 is NaN.

One scale serves all levels, as CF wants it: the steps of humidity, a millionth of the
0.06 kg/kg near the ground, are larger than its variation at 50 hPa. So each variable is
stored in the first way that costs at most 1 % of the standard deviation of any of its
levels, judged at a few times before anything is written and measured when all is.

RMS error over standard deviation at the worst level, and size after LZ4 over that of
float32 without compression, of the NCEP reanalysis at 2.5 degrees, 13 levels (humidity
from 300, vertical velocity from 100 hPa on):

                          float32   bfloat16        int16
    geopotential           0.63     6.2 %   0.14    0.14 %  0.30
    temperature            0.60     5.4 %   0.12    0.02 %  0.39
    wind (u)               0.76     0.22 %  0.33    0.03 %  0.41
    specific humidity      0.80     0.27 %  0.32    0.12 %  0.40
    vertical velocity      0.85     0.17 %  0.37    3.9 %   0.31
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from weather.variables import VARIABLES

FLOAT32, BFLOAT16, INT16 = 'float32', 'bfloat16', 'int16'
TOLERANCE = 0.01
# What is tried, in this order, for what a config says; float32 always suits.
_TRIED = {FLOAT32: (), BFLOAT16: (BFLOAT16,), INT16: (INT16, BFLOAT16)}
_NAN = np.int16(-32768)
_LARGEST = 32767


class Packing(NamedTuple):
    """How the values of a variable are stored.

    Attributes:
      kind: `'float32'`, `'bfloat16'` or `'int16'`.
      scale, offset: of the latter.
    """

    kind: str = FLOAT32
    scale: float = 1.0
    offset: float = 0.0

    @classmethod
    def of(cls, name: str, kind: str) -> Packing:
        """The packing of a variable."""
        if kind != INT16:
            return cls(kind)
        low, high = VARIABLES[name].plausible
        return cls(kind, (high - low) / (2 * _LARGEST), (low + high) / 2)

    @property
    def dtype(self) -> np.dtype:
        """Of the stored numbers."""
        return np.dtype('<i2' if self.kind == INT16 else '<f4')

    @property
    def fill_value(self) -> Any:
        """What stands for NaN."""
        return int(_NAN) if self.kind == INT16 else np.nan

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What tells readers of it."""
        if self.kind != INT16:
            return {}
        return {
            'scale_factor': self.scale,
            'add_offset': self.offset,
            '_FillValue': int(_NAN),
        }

    def pack(self, values: np.ndarray) -> np.ndarray:
        """Stored numbers of float32 `values`.

        Raises:
          ValueError: a value beyond the range; the message has no name of the variable.
        """
        if self.kind == BFLOAT16:
            return _round_to_bfloat16(values)
        if self.kind != INT16:
            return values
        missing = np.isnan(values)
        numbers = np.rint((values.astype(np.float64) - self.offset) / self.scale)
        numbers[missing] = 0
        if np.abs(numbers).max(initial=0) > _LARGEST:
            raise ValueError(
                f'expected values within {self.offset:g} +- '
                f'{_LARGEST * self.scale:g} to be packed, found '
                f'{np.nanmin(values):g} to {np.nanmax(values):g}; set '
                f'prepare.dtype={FLOAT32}'
            )
        packed = numbers.astype(np.int16)
        packed[missing] = _NAN
        return packed

    def unpack(self, stored: np.ndarray) -> np.ndarray:
        """Float32 values, the very same bits as `weather.data.decoding` makes."""
        if self.kind != INT16:
            return stored
        values = stored * np.float64(self.scale) + self.offset
        values[stored == _NAN] = np.nan
        return values.astype(np.float32)


def _round_to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Rounds to 8 bits of precision, half to even, as hardware does."""
    bits = values.astype(np.float32).view(np.uint32)
    half = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    rounded = ((bits + half) & np.uint32(0xFFFF0000)).view(np.float32)
    return np.where(np.isfinite(values), rounded, values)


class PackingError(NamedTuple):
    """What storing costs, `[time, level]` float64.

    Attributes:
      square: mean over the horizontal of the squared error.
      largest: largest error.
    """

    square: np.ndarray
    largest: np.ndarray


def packing_error(values: np.ndarray, kept: np.ndarray) -> PackingError:
    """Error of `kept` `[time, level, lat, lon]` beside the `values` it is made of."""
    error = np.abs(kept.astype(np.float64) - values)
    error[np.isnan(error)] = 0
    return PackingError((error**2).mean(axis=(-2, -1)), error.max(axis=(-2, -1)))


def choose_packing(name: str, kind: str, samples: np.ndarray) -> Packing:
    """What suits a variable: the kind, or one that loses less.

    Args:
      name: of the variable.
      kind: the packing that is wanted.
      samples: `[time, level, lat, lon]`, fields at a few times.
    """
    for tried in _TRIED[kind]:
        packing = Packing.of(name, tried)
        try:
            kept = packing.unpack(packing.pack(samples))
        except ValueError:  # Beyond the range.
            continue
        share = relative_error(packing_error(samples, kept), samples)
        if share.max(initial=0) <= TOLERANCE:
            return packing
    return Packing()


def relative_error(error: PackingError, samples: np.ndarray) -> np.ndarray:
    """`[level]`: RMS error as a share of the standard deviation; 0 of a constant."""
    levels = np.moveaxis(samples, 1, 0).reshape(samples.shape[1], -1)
    shares = []
    for values, square in zip(levels, error.square.mean(axis=0), strict=True):
        values = values[np.isfinite(values)].astype(np.float64)
        std = values.std() if values.size else 0.0
        shares.append(np.sqrt(square) / std if std else 0.0)
    return np.array(shares)
