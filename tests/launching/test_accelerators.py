"""Slices by name, against the tables of Google's documentation."""

import math

import pytest

from launching.accelerators import find_slice
from launching.job import LaunchError


def test_a_v5e_256_is_64_hosts_of_four_chips():
    assert find_slice('v5e-256') == (
        'v5litepod-256',
        'v2-alpha-tpuv5-lite',
        'tpu-v5-lite-podslice',
        '16x16',
        64,
        4,
    )


@pytest.mark.parametrize(
    ('name', 'topology', 'num_hosts', 'chips_per_host'),
    [
        ('v5e-1', '1x1', 1, 1),
        ('v5e-8', '2x4', 1, 8),
        ('v5litepod-16', '4x4', 4, 4),
        ('v6e-64', '8x8', 16, 4),
        # The number counts cores, of which a chip has two.
        ('v4-8', '2x2x1', 1, 4),
        ('v4-512', '4x8x8', 64, 4),
        ('v5p-32', '2x2x4', 4, 4),
    ],
)
def test_slices_are_those_of_the_documentation(
    name, topology, num_hosts, chips_per_host
):
    found = find_slice(name)
    assert found[3:] == (topology, num_hosts, chips_per_host)
    # A slice's chips are those of its topology.
    assert math.prod(map(int, topology.split('x'))) == num_hosts * chips_per_host


@pytest.mark.parametrize('name', ['v5', 'v5e', 'h100-8', 'v5e-256-1', ''])
def test_an_unknown_accelerator_is_told_which_there_are(name):
    with pytest.raises(LaunchError, match='such as v5e-256.*versions: v4, v5e'):
        find_slice(name)


def test_an_impossible_size_is_told_the_possible_ones():
    with pytest.raises(LaunchError, match='size of v5e in 1, 4, 8, 16, 32.*got 100'):
        find_slice('v5e-100')
