"""What is packed costs what is said, and readers get the same numbers."""

import ml_dtypes
import numpy as np
import pytest

from weather.building.packing import Packing, choose_packing, packing_error
from weather.data.decoding import Packing as Decoder

RANDOM = np.random.default_rng(0)


def temperatures() -> np.ndarray:
    return RANDOM.normal(250, 10, (3, 2, 8, 16)).astype(np.float32)


def test_int16_is_off_by_half_a_step_at_most():
    packing, values = Packing.of('temperature', 'int16'), temperatures()
    kept = packing.unpack(packing.pack(values))
    # float32 resolves 3e-5 K at 300 K.
    assert np.abs(kept - values).max() <= packing.scale / 2 + 3e-5
    # The whole range of the table fits.
    ends = np.array([130, 350], np.float32)
    np.testing.assert_allclose(packing.unpack(packing.pack(ends)), ends, rtol=1e-7)


def test_unpacking_is_what_the_decoder_does_bit_for_bit():
    packing, values = Packing.of('temperature', 'int16'), temperatures()
    values[0, 0, 0, 0] = np.nan
    stored = packing.pack(values)
    decoder = Decoder.of(packing.dtype, packing.attributes)
    decoded = decoder.unpack(stored).astype(np.float32)
    assert packing.unpack(stored).tobytes() == decoded.tobytes()
    assert np.isnan(decoded[0, 0, 0, 0]) and np.isnan(decoded).sum() == 1


def test_values_beyond_the_range_are_refused_and_never_clipped():
    values = temperatures()
    values[1, 1, 2, 2] = 400.0
    with pytest.raises(ValueError, match=r'found .*400.*prepare.dtype=float32'):
        Packing.of('temperature', 'int16').pack(values)


def test_bfloat16_is_rounded_half_to_even_as_hardware_does():
    values = np.concatenate(
        [
            RANDOM.normal(0, 1e3, 1000),
            [0.0, -0.0, 1.00390625, 1.01171875, 1e-30, np.nan],
        ]
    ).astype(np.float32)
    kept = Packing.of('temperature', 'bfloat16').pack(values)
    expected = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(kept, expected)
    assert not (kept[:-1].view(np.uint32) & 0xFFFF).any()


def test_the_error_is_that_of_a_uniform_distribution():
    packing = Packing.of('temperature', 'int16')
    values = RANDOM.normal(250, 10, (1, 1, 100, 1000)).astype(np.float32)
    error = packing_error(values, packing.unpack(packing.pack(values)))
    # 1e5 samples: the mean square is known to about 0.3 %.
    np.testing.assert_allclose(error.square, packing.scale**2 / 12, rtol=0.02)


@pytest.mark.parametrize(
    'name, kind, spread, expected',
    [
        ('temperature', 'float32', 10.0, 'float32'),
        ('temperature', 'int16', 10.0, 'int16'),
        # A step of 2 K beside a spread of 10 K.
        ('temperature', 'bfloat16', 10.0, 'float32'),
        # As humidity at 50 hPa: less than a step of the range near the ground.
        ('specific_humidity', 'int16', 2e-7, 'bfloat16'),
        ('specific_humidity', 'int16', 1e-3, 'int16'),
    ],
)
def test_a_variable_is_packed_only_where_no_level_loses_a_hundredth(
    name, kind, spread, expected
):
    mean = 250.0 if name == 'temperature' else 2 * spread
    samples = RANDOM.normal(mean, spread, (2, 3, 8, 16)).astype(np.float32)
    packing = choose_packing(name, kind, samples)
    assert packing.kind == expected


def test_a_constant_level_and_one_without_values_do_not_matter():
    values = np.stack([np.full((2, 8, 16), 0.0), np.full((2, 8, 16), np.nan)], axis=1)
    packing = choose_packing('u_component_of_wind', 'int16', values.astype(np.float32))
    assert packing.kind == 'int16'
