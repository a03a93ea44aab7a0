"""Batches are split over devices evenly or not at all."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest

from learning.sharding import (
    check_batch_size,
    make_mesh,
    placed_ahead,
    replicated,
    split_batch,
)


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
