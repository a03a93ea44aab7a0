"""Blocks of times: every position once, in order, whole chunks, within their bytes."""

import itertools

import numpy as np
import pytest
import xarray

from weather.data.blocks import stored_chunk, time_blocks

POINTS = 6


def field(num_times, chunk=None):
    dims = ('time', 'latitude', 'longitude')
    result = xarray.DataArray(np.zeros((num_times, 2, 3), np.float32), dims=dims)
    if chunk:
        result.encoding['preferred_chunks'] = {'time': chunk}
    return result


def blocks_of(positions, *, chunk, times_per_block):
    return [
        block.tolist()
        for block in time_blocks(
            field(40, chunk), positions, max_bytes=times_per_block * POINTS * 4
        )
    ]


@pytest.mark.parametrize('chunk', [1, 4, 7, 50])
@pytest.mark.parametrize('times_per_block', [0, 1, 3, 9, 100])
@pytest.mark.parametrize('positions', [range(5, 33), [0, 3, 4, 21, 39], []])
def test_every_position_is_read_once_and_no_block_is_too_large(
    chunk, times_per_block, positions
):
    blocks = blocks_of(positions, chunk=chunk, times_per_block=times_per_block)
    assert list(itertools.chain(*blocks)) == list(positions)
    for block in blocks:
        assert block[-1] - block[0] < max(times_per_block, 1)


@pytest.mark.parametrize('times_per_block', [4, 5, 9, 100])
def test_no_chunk_that_fits_is_split(times_per_block):
    blocks = blocks_of(range(6, 37), chunk=4, times_per_block=times_per_block)
    chunks = [{position // 4 for position in block} for block in blocks]
    for one, other in itertools.pairwise(chunks):
        assert not one & other


def test_chunks_of_unknown_size_are_single_times():
    assert stored_chunk(field(3)) == 1
    assert stored_chunk(field(3, 24)) == 24
