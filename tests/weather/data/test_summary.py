"""Summaries against the definitions, and checksums against an independent CRC."""

import tracemalloc

import numpy as np
import pytest

from sphere_ops.grid import LatLonGrid
from weather.data.summary import checksum, summarise

# float64 sums of a few thousand terms.
ROUND_OFF = dict(rtol=1e-12)
GRID = LatLonGrid('equiangular', num_lat=12, num_lon=20)


def noise(num_times=5, num_levels=3, grid=GRID, seed=0, mean=270.0):
    rng = np.random.default_rng(seed)
    shape = (num_times, num_levels, *grid.shape)
    return (mean + 10 * rng.normal(size=shape)).astype(np.float32)


def summarised(fields, previous=None):
    if previous is None:
        previous = np.full_like(fields, np.nan)
    return summarise(fields, previous, GRID.area_weights)


def by_definition(values):
    weights = GRID.area_weights[:, None] / np.prod(GRID.shape)
    values = values.astype(np.float64)
    mean = np.sum(values * weights, axis=(-2, -1))
    squares = (values - mean[..., None, None]) ** 2
    return mean, np.sum(squares * weights, axis=(-2, -1))


def crc32c(data: bytes) -> int:
    """Bit by bit, reflected polynomial 0x1EDC6F41 (RFC 3720, appendix B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_moments_are_those_of_the_definition():
    fields, previous = noise(), noise(seed=1)
    found = summarised(fields, previous)
    mean, variance = by_definition(fields)
    np.testing.assert_allclose(found.mean, mean, **ROUND_OFF)
    np.testing.assert_allclose(found.variance, variance, **ROUND_OFF)
    change = fields.astype(np.float64) - previous
    mean, variance = by_definition(change)
    np.testing.assert_allclose(found.tendency_mean, mean, rtol=0, atol=1e-13)
    np.testing.assert_allclose(found.tendency_variance, variance, **ROUND_OFF)


def test_the_change_of_large_numbers_is_not_rounded():
    # Both are exact in float32, their difference is not: it would be off by a half.
    previous = np.full((1, 1, *GRID.shape), 2.5, np.float32)
    found = summarised(np.full_like(previous, 1e7), previous)
    np.testing.assert_allclose(found.tendency_mean, 1e7 - 2.5, **ROUND_OFF)


def test_extremes_are_those_of_the_finite_values_and_holes_are_counted():
    fields = noise()
    fields[1, 2, 3, 4] = np.nan
    fields[2, 0, 0, :7] = np.inf
    fields[3] = np.nan
    found = summarised(fields)
    expected = np.zeros((5, 3), int)
    expected[1, 2], expected[2, 0], expected[3] = 1, 7, np.prod(GRID.shape)
    np.testing.assert_array_equal(found.num_missing, expected)
    whole = expected == 0
    np.testing.assert_array_equal(np.isfinite(found.mean), whole)
    np.testing.assert_array_equal(np.isfinite(found.variance), whole)
    finite = np.where(np.isfinite(fields), fields, -np.inf).max(axis=(-2, -1))
    finite[3] = np.nan
    np.testing.assert_array_equal(found.maximum, finite)
    assert np.isnan(found.minimum[3]).all()
    assert found.minimum[1, 2] == np.nanmin(fields[1, 2])


def test_a_change_is_nan_where_either_field_is_not_whole():
    fields, previous = noise(), noise(seed=1)
    fields[1, 0, 0, 0] = np.nan
    previous[3, 2, 1, 1] = -np.inf
    found = summarised(fields, previous)
    expected = np.ones((5, 3), bool)
    expected[1, 0] = expected[3, 2] = False
    for values in (found.tendency_mean, found.tendency_variance):
        np.testing.assert_array_equal(np.isfinite(values), expected)


def test_checksum_is_the_crc_of_the_little_endian_bytes():
    fields = noise(2, 2)
    found = summarised(fields)
    assert found.checksum.tolist() == [
        crc32c(f.astype('<f4').tobytes()) for f in fields
    ]
    assert crc32c(b'123456789') == 0xE3069283  # The check value of the standard.


def test_checksum_sees_one_bit_and_no_difference_between_nans():
    field = noise(1, 2)[0]
    other = field.copy()
    other.view(np.uint32)[1, 3, 3] ^= 1
    assert checksum(field) != checksum(other)
    field[0, 0, 0] = other[0, 0, 0] = np.nan
    other[1, 3, 3] = field[1, 3, 3]
    other.view(np.uint32)[0, 0, 0] |= 0x80000001  # Another NaN.
    assert np.isnan(other[0, 0, 0])
    assert checksum(field) == checksum(other)


@pytest.mark.parametrize('num_lon', [20, 4096])
def test_result_does_not_depend_on_how_the_work_is_portioned(num_lon):
    # 12 x 4096 planes are worked on one by one, 12 x 20 all at once.
    grid = LatLonGrid('equiangular', num_lat=12, num_lon=num_lon)
    fields, previous = noise(3, 2, grid), noise(3, 2, grid, seed=1)
    whole = summarise(fields, previous, grid.area_weights)
    for t in range(3):
        for k in range(2):
            part = slice(t, t + 1), slice(k, k + 1)
            one = summarise(fields[part], previous[part], grid.area_weights)
            for name in whole._fields[:-1]:
                np.testing.assert_allclose(
                    getattr(one, name)[0, 0], getattr(whole, name)[t, k], **ROUND_OFF
                )


def test_little_memory_is_needed_beside_the_fields():
    grid = LatLonGrid('equiangular', num_lat=64, num_lon=128)
    fields = noise(40, 8, grid)  # 10 MB.
    previous = np.roll(fields, 1, axis=0)
    fields[:, :, 3, 3] = np.nan  # The slow way.
    tracemalloc.start()
    summarise(fields, previous, grid.area_weights)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A few float64 copies of a portion of 2^16 values.
    assert peak < 6 * 8 * 2**16 < fields.nbytes / 3


@pytest.mark.parametrize('shape', [(5, 3, 12, 21), (4, 3, 12, 20), (5, 12, 20)])
def test_shapes_that_do_not_belong_together_are_refused(shape):
    with pytest.raises(ValueError, match='of one shape'):
        summarise(noise(), np.zeros(shape, np.float32), GRID.area_weights)
