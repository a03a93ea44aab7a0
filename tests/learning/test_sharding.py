"""Batches are split over devices evenly or not at all."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from typing import NamedTuple

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from learning.settings import Devices
from learning.sharding import (
    LocalPart,
    Part,
    check_batch_size,
    check_num_lat,
    keep_layout,
    local_part,
    make_mesh,
    place,
    placed_ahead,
    replicated,
    split_batch,
    state_layout,
)


class Device(NamedTuple):
    process_index: int


class FakeMesh:
    """As many devices of as many processes as a test wants; none computes."""

    def __init__(self, data, space, *, per_process=1):
        owners = np.arange(data * space) // per_process
        devices = np.empty(data * space, object)
        devices[:] = [Device(int(owner)) for owner in owners]
        self.devices = devices.reshape(data, space)
        self.shape = {'data': data, 'space': space}
        self.size = data * space


def test_a_batch_that_does_not_divide_over_the_devices_is_refused():
    check_batch_size(16, FakeMesh(8, 1))
    check_batch_size(12, FakeMesh(4, 2))
    with pytest.raises(ValueError, match='multiple of the 8 parts .* got 12.* to 16'):
        check_batch_size(12, FakeMesh(8, 1))


def test_latitudes_that_do_not_divide_are_refused_with_those_that_do():
    check_num_lat(24, FakeMesh(1, 8))
    with pytest.raises(ValueError, match='divide the 121 latitudes.* 2; .* one of 1$'):
        check_num_lat(121, FakeMesh(4, 2))
    with pytest.raises(ValueError, match='got 8; with 8 devices .* one of 1, 2, 4$'):
        check_num_lat(12, FakeMesh(1, 8))


def test_a_mesh_takes_all_devices_and_names_those_that_would():
    mesh = make_mesh(Devices(space=2), [*'abcdef'])
    assert mesh.devices.tolist() == [['a', 'b'], ['c', 'd'], ['e', 'f']]
    assert dict(make_mesh(devices=[*'abc']).shape) == {'data': 3, 'space': 1}
    for settings in (Devices(space=4), Devices(data=2), Devices(space=8)):
        with pytest.raises(ValueError, match='the 6 devices.*6 x 1, 3 x 2, 2 x 3, 1 x'):
            make_mesh(settings, [*'abcdef'])


@pytest.mark.parametrize(
    'mesh, parts',
    [
        (FakeMesh(4, 2, per_process=2), [(0, 4, 0, 1), (1, 4, 0, 1), (2, 4, 0, 1)]),
        (FakeMesh(4, 2, per_process=4), [(0, 2, 0, 1), (1, 2, 0, 1)]),
        (FakeMesh(2, 4, per_process=2), [(0, 2, 0, 2), (0, 2, 1, 2), (1, 2, 0, 2)]),
        (FakeMesh(1, 8, per_process=4), [(0, 1, 0, 2), (0, 1, 1, 2)]),
    ],
)
def test_a_process_gives_rows_of_its_own_or_latitudes_of_them(mesh, parts):
    for process, (row, rows, latitude, latitudes) in enumerate(parts):
        assert local_part(mesh, process) == LocalPart(
            Part(row, rows), Part(latitude, latitudes)
        )


def test_a_process_whose_devices_are_no_block_of_the_mesh_is_refused():
    with pytest.raises(ValueError, match='a block of the mesh 4 x 2, got 3 devices'):
        local_part(FakeMesh(4, 2, per_process=3), 0)


def test_sharded_arrays_are_split_where_all_devices_divide_them_and_small_ones_not():
    mesh = make_mesh(devices=jax.devices()[:1])
    shapes = {'long': (3, 2**17), 'small': (2**9,), 'kernel': (32, 384, 384)}
    tree = {k: jax.ShapeDtypeStruct(shape, np.float32) for k, shape in shapes.items()}
    layout = state_layout(mesh, Devices(parameters='sharded'), tree)
    whole = ('data', 'space')
    assert {name: sharding.spec for name, sharding in layout.items()} == {
        'long': P(None, whole),
        'small': P(),
        'kernel': P(None, whole, None),
    }
    layout = state_layout(mesh, Devices(), tree)
    assert all(sharding.spec == P() for sharding in layout.values())


def test_without_a_mesh_a_layout_is_nobodys_concern():
    tree = {'x': np.arange(3.0)}
    assert keep_layout(Devices(parameters='sharded'), tree) is tree


def test_places_are_said_for_branches_of_a_tree():
    mesh = make_mesh(devices=jax.devices()[:1])
    tree = {'a': {'b': np.ones((2, 3)), 'c': np.ones(4)}, 'd': np.ones(5)}
    placed = place(mesh, tree, {'a': P('space'), 'd': P()})
    assert placed['a']['c'].sharding.spec == P('space')
    assert placed['d'].sharding.spec == P()


def test_what_is_put_on_devices_keeps_its_values():
    batch = {'x': np.arange(6.0).reshape(2, 3)}
    mesh = make_mesh(devices=jax.devices()[:1])
    np.testing.assert_array_equal(split_batch(mesh, batch)['x'], batch['x'])
    whole = jax.device_put(batch['x'], replicated(mesh))
    assert whole.sharding.is_fully_replicated


PLACE = """
import json, sys
import jax
import numpy as np
from learning.sharding import make_mesh, split_batch

index, port = int(sys.argv[1]), sys.argv[2]
jax.distributed.initialize(f'localhost:{port}', 2, index)
mesh = make_mesh()
rows = np.arange(8.0).reshape(8, 1)[4 * index : 4 * index + 4]
placed = split_batch(mesh, {'rows': rows})['rows']
shards = [(s.index[0].start, s.data.tolist()) for s in placed.addressable_shards]
print(json.dumps([placed.shape, shards]))
"""


def test_each_of_two_processes_gives_its_part_of_a_batch():
    with socket.socket() as free:
        free.bind(('localhost', 0))
        port = free.getsockname()[1]
    flags = {'XLA_FLAGS': '--xla_force_host_platform_device_count=2'}
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', PLACE, str(index), str(port)],
            env={**os.environ, **flags, 'PYTHONPATH': '.'},
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    for index, output in enumerate(outputs):
        shape, shards = json.loads(output.splitlines()[-1])
        assert shape == [8, 1]
        first = 4 * index
        assert sorted(shards) == [
            [first, [[first], [first + 1]]],
            [first + 2, [[first + 2], [first + 3]]],
        ]


def numbers(count, *, closed=None, wrong=None):
    try:
        for number in range(count):
            if number == wrong:
                raise ValueError(f'{number} is wrong')
            yield number
    finally:
        if closed is not None:
            closed.append(True)


def placing_threads():
    return [t for t in threading.enumerate() if t.name.startswith('placing')]


def test_items_are_placed_in_order_and_one_ahead():
    placed = []

    def place(number):
        placed.append(number)
        return -number

    items = placed_ahead(numbers(6), place)
    for expected in range(6):
        assert next(items) == -expected
        deadline = time.monotonic() + 60
        while len(placed) < min(expected + 2, 6) and time.monotonic() < deadline:
            time.sleep(1e-3)
        time.sleep(0.01)  # For more, if more were placed.
        assert placed == list(range(min(expected + 2, 6)))
    assert list(items) == [] and not placing_threads()


def test_an_error_in_an_item_or_its_placing_is_raised_in_its_turn():
    items = placed_ahead(numbers(5, wrong=2), lambda number: number)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(ValueError, match='2 is wrong'):
        next(items)
    items = placed_ahead(numbers(5), lambda number: 1 // (1 - number))
    assert next(items) == 1
    with pytest.raises(ZeroDivisionError):
        next(items)
    assert not placing_threads()


def test_stopping_early_closes_where_items_come_from():
    closed = []
    with contextlib.closing(placed_ahead(numbers(9, closed=closed), abs)) as items:
        next(items)
    assert closed == [True] and not placing_threads()
