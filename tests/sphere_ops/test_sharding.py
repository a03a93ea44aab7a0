"""Orders are dealt to devices so that nothing moves when some of them are taken.

What devices really do with it is in tests/weather/training/test_sharding.py.
"""

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType

from sphere_ops import LatLonGrid, SpinTransform, sharding
from sphere_ops.operators import rotate, truncate

PARTS = (1, 2, 3, 8)


@pytest.fixture(params=PARTS)
def parts(request):
    axes = (AxisType.Auto, AxisType.Auto)
    mesh = AbstractMesh((1, request.param), ('data', 'space'), axis_types=axes)
    with jax.sharding.use_abstract_mesh(mesh):
        yield request.param


def dealt(max_degree):
    return sharding.orders(sharding.num_orders(max_degree))


def test_every_order_has_one_place_and_the_first_stays_the_first(parts):
    for max_degree in (0, 5, 23, 31):
        orders = dealt(max_degree)
        assert sorted(orders) == list(range(len(orders)))
        assert orders[0] == 0 and len(orders) > max_degree


def test_hands_are_equal_and_pairs_of_orders_stay_together(parts):
    hands = dealt(47).reshape(parts, -1)
    if parts > 1:
        assert (hands[:, 1::2] == hands[:, ::2] + 1).all()
        # No hand is ahead of another by more than a round.
        assert np.ptp(hands.sum(axis=1)) <= 2 * hands.shape[1] * parts


def test_the_first_orders_of_all_are_the_orders_of_fewer(parts):
    for max_degree in (0, 4, 15, 20):
        few = sharding.first_orders(dealt(47)[:, None], max_degree, axis=0)
        np.testing.assert_array_equal(few[:, 0], dealt(max_degree))


def test_blocks_of_orders_join_to_all_of_them(parts):
    orders = dealt(47)[None]
    stops = [0, sharding.num_orders(15), orders.size]
    blocks = [
        sharding.slice_orders(orders, *ends, axis=1)
        for ends in zip(stops, stops[1:], strict=False)
    ]
    assert max(blocks[0][0]) < min(blocks[1][0])
    np.testing.assert_array_equal(sharding.join_orders(blocks, axis=-1), orders)


def test_orders_that_are_added_are_zero_and_the_last_ones(parts):
    few, many = dealt(7), dealt(40)
    more = sharding.pad_orders(1.0 + few, len(many), axis=0)
    np.testing.assert_array_equal(more, np.where(many < len(few), 1.0 + many, 0))


def test_tables_are_dealt_as_orders_are():
    pairs = np.arange(12)
    dealt_pairs = sharding.deal(pairs, axis=0, parts=3)
    assert dealt_pairs.tolist() == [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]


def test_rows_of_devices_come_back_as_they_were():
    values = np.arange(24.0).reshape(4, 6)
    rows = sharding.to_devices(values, (2, 3))
    assert rows.shape == (2, 2, 3, 2)
    np.testing.assert_array_equal(sharding.from_devices(rows), values)


def test_without_a_mesh_there_is_one_part_and_nothing_is_added():
    assert (sharding.num_parts(), sharding.num_batches()) == (1, 1)
    values = np.zeros((3, 5))
    assert sharding.by_order(values, axis=0, batch=None) is values
    assert sharding.copies(values) is values
    assert sharding.num_orders(10) == 11


def test_a_transform_of_another_mesh_is_refused():
    grid = LatLonGrid(kind='gauss', num_lat=4, num_lon=8)
    transform = SpinTransform.create(grid, spins=(0,))
    mesh = AbstractMesh((1, 2), ('data', 'space'))
    with jax.sharding.use_abstract_mesh(mesh):
        assert SpinTransform.create(grid, spins=(0,)).num_parts == 2
        with pytest.raises(ValueError, match='space is 1, .* got 2; create it under'):
            transform.to_spectral({0: np.zeros((4, 8, 1), np.float32)})
        coefficients = {0: np.zeros((4, 4, 2, 1, 1), np.float32)}
        with pytest.raises(ValueError, match='space is 2; rotate outside'):
            rotate(coefficients, alpha=0.0, beta=1.0, gamma=0.0)
        assert truncate(coefficients, 1)[0].shape == (4, 2, 2, 1, 1)
