"""Batches are split over devices evenly or not at all."""

import jax
import numpy as np
import pytest

from learning.sharding import check_batch_size, make_mesh, replicated, split_batch


class EightDevices:
    size = 8


def test_a_batch_that_does_not_divide_over_the_devices_is_refused():
    check_batch_size(16, EightDevices())
    with pytest.raises(ValueError, match='multiple of the 8 devices, got 12.* to 16'):
        check_batch_size(12, EightDevices())


def test_what_is_put_on_devices_keeps_its_values():
    batch = {'x': np.arange(6.0).reshape(2, 3)}
    mesh = make_mesh(jax.devices()[:1])
    np.testing.assert_array_equal(split_batch(mesh, batch)['x'], batch['x'])
    whole = jax.device_put(batch['x'], replicated(mesh))
    assert whole.sharding.is_fully_replicated
