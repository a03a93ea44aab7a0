"""Memory is used again only when nothing refers to it any more."""

import gc

import jax
import numpy as np

from weather.data.buffers import Buffers

SHAPES = [(2, 3, 5), (7,), (4, 4)]


def test_arrays_have_their_shapes_do_not_overlap_and_are_aligned():
    arrays = Buffers().empty(SHAPES)
    assert [array.shape for array in arrays] == SHAPES
    for number, array in enumerate(arrays):
        array[...] = number
    for number, array in enumerate(arrays):
        assert array.dtype == np.float32 and array.ctypes.data % 64 == 0
        assert (array == number).all()


def test_memory_is_used_again_once_the_last_view_of_it_is_gone():
    buffers = Buffers()
    first = buffers.empty(SHAPES)
    view = first[0][1, :, ::2].T
    address = first[0].ctypes.data
    del first
    gc.collect()
    view[...] = 3
    second = buffers.empty(SHAPES)
    for array in second:
        array[...] = 7
    assert (view == 3).all() and buffers.idle_bytes == 0
    del view
    gc.collect()
    assert buffers.idle_bytes > 0
    assert buffers.empty(SHAPES)[0].ctypes.data == address


def test_what_jax_holds_is_not_used_again():
    # On a CPU it may use the memory as it is.
    buffers = Buffers()
    (array,) = buffers.empty([(64, 64)])
    array[...] = 1
    on_device = jax.block_until_ready(jax.device_put(array))
    del array
    gc.collect()
    for _ in range(3):
        (other,) = buffers.empty([(64, 64)])
        other[...] = 2
        del other
    assert (np.asarray(on_device) == 1).all()


def test_idle_memory_of_another_size_is_let_go():
    buffers = Buffers()
    arrays = [buffers.empty([(1000,)]) for _ in range(3)]
    del arrays
    gc.collect()
    assert buffers.idle_bytes >= 12_000
    kept = buffers.empty([(2000,)])
    assert buffers.idle_bytes == 0 and kept[0].size == 2000
