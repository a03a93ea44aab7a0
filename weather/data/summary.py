"""What is kept of every field: moments, extremes, holes and a checksum.

A few numbers per time and level, made while a field is in memory anyway. Statistics of
any period, the times that must not be used, the verdicts of the doctor and the proof
that a store is what was written all come from them, without a second reading.
"""

from __future__ import annotations

from typing import NamedTuple

import google_crc32c
import numpy as np

# Values worked on at a time: two copies in float64 stay within a processor's cache,
# which is faster than any number of passes over a whole block.
_PORTION = 2**16
# The one NaN that enters a checksum: decoders make others of the same hole.
_NAN = np.float32(np.nan)


class Summary(NamedTuple):
    """Of consecutive times of one variable; a level axis of 1 where it has none.

    Attributes:
      mean: `[time, level]` float64, area mean; NaN where not finite throughout.
      variance: `[time, level]` float64, area mean of squared deviations from it.
      tendency_mean: `[time, level]` float64, of the change over a step; NaN where there
        is no field a step before, or either is not finite throughout.
      tendency_variance: `[time, level]` float64.
      minimum: `[time, level]` float32, of the finite values; NaN where none is.
      maximum: `[time, level]` float32.
      num_missing: `[time, level]` int32, values that are not finite.
      checksum: `[time]` uint32, CRC-32C (Castagnoli, as in RFC 3720) of the float32
        little-endian bytes `[level, lat, lon]`, every NaN as the same bits.
    """

    mean: np.ndarray
    variance: np.ndarray
    tendency_mean: np.ndarray
    tendency_variance: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray
    num_missing: np.ndarray
    checksum: np.ndarray


# How each is stored; those but the last are `[time, level]`.
DTYPES: dict[str, np.dtype] = {
    'mean': np.dtype('<f8'),
    'variance': np.dtype('<f8'),
    'tendency_mean': np.dtype('<f8'),
    'tendency_variance': np.dtype('<f8'),
    'minimum': np.dtype('<f4'),
    'maximum': np.dtype('<f4'),
    'num_missing': np.dtype('<i4'),
    'checksum': np.dtype('<u4'),
}


def summarise(
    fields: np.ndarray, previous: np.ndarray, area_weights: np.ndarray
) -> Summary:
    """Summarises fields and their change over a step, in float64.

    Args:
      fields: `[time, level, lat, lon]` float32 (float64 is taken as it is), SI, in
        canonical order.
      previous: of the same shape, the field one step before each; NaN throughout where
        there is none.
      area_weights: `[lat]` with mean 1, see `sphere_ops.grid.area_weights`.

    Raises:
      ValueError: shapes that do not belong together.
    """
    num_lat = area_weights.shape[0]
    if fields.ndim != 4 or fields.shape != previous.shape or fields.shape[2] != num_lat:
        raise ValueError(
            f'expected fields and previous [time, level, lat, lon] of one shape with '
            f'{num_lat} rows, got {fields.shape} and {previous.shape}'
        )
    shape = fields.shape[:2]
    found = Summary(
        *(
            np.empty(shape if name != 'checksum' else shape[:1], dtype)
            for name, dtype in DTYPES.items()
        )
    )
    planes = max(1, _PORTION // (fields.shape[2] * fields.shape[3]))
    times = max(1, planes // shape[1])
    for time in range(0, shape[0], times):
        for level in range(0, shape[1], planes):
            part = slice(time, time + times), slice(level, level + planes)
            _summarise(fields[part], previous[part], area_weights, found, part)
    for time, field in enumerate(fields):
        found.checksum[time] = checksum(field, whole=not found.num_missing[time].any())
    return found


def checksum(field: np.ndarray, *, whole: bool = False) -> int:
    """CRC-32C of one time `[level, lat, lon]`; `whole` where nothing is NaN in it."""
    field = np.ascontiguousarray(field, '<f4')
    if not whole:
        field = np.where(np.isnan(field), _NAN, field)
    return google_crc32c.value(field)


def _summarise(
    fields: np.ndarray,
    previous: np.ndarray,
    area_weights: np.ndarray,
    found: Summary,
    part: tuple[slice, slice],
) -> None:
    """Fills in a part that fits into the cache."""
    values = fields.astype(np.float64)
    # In float64 before it is taken: the difference of two large float32 is rounded.
    change = values - previous
    found.mean[part], found.variance[part] = moments(values, area_weights)
    found.tendency_mean[part], found.tendency_variance[part] = moments(
        change, area_weights
    )
    low, high = fields.min(axis=(-2, -1)), fields.max(axis=(-2, -1))
    found.num_missing[part] = 0
    if not (np.isfinite(low) & np.isfinite(high)).all():
        finite = np.isfinite(fields)
        none = ~finite.any(axis=(-2, -1))
        low = fields.min(axis=(-2, -1), where=finite, initial=np.inf)
        high = fields.max(axis=(-2, -1), where=finite, initial=-np.inf)
        low[none] = high[none] = np.nan
        found.num_missing[part] = np.sum(~finite, axis=(-2, -1))
    found.minimum[part], found.maximum[part] = low, high


class Moments(NamedTuple):
    """Area mean and area mean of squared deviations, `[time, level]` float64."""

    mean: np.ndarray
    variance: np.ndarray


def moments(values: np.ndarray, area_weights: np.ndarray) -> Moments:
    """Moments of float64 `[time, level, lat, lon]`, which are overwritten.

    NaN, both of them, where a value is not finite.
    """
    num_lat, num_lon = values.shape[-2:]
    with np.errstate(invalid='ignore', over='ignore'):  # inf - inf: NaN at the end.
        mean = values.mean(axis=-1) @ area_weights / num_lat
        values -= mean[..., None, None]
        # Without an array of the squares.
        variance = np.vecdot(values, values) @ area_weights / (num_lat * num_lon)
    good = np.isfinite(variance)
    return Moments(np.where(good, mean, np.nan), np.where(good, variance, np.nan))
