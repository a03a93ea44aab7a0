"""The libraries that the tests install, through one small case each."""

import pytest

from benchmarks.cases import Case
from benchmarks.peers import dinosaur, ducc0, spherecast

# Unit normal coefficients in float32, at degree 7.
ROUND_OFF = 5e-6


@pytest.mark.parametrize(
    'peer,spins', [(spherecast, (0, 1)), (ducc0, (0, 1)), (dinosaur, (0,))]
)
def test_coefficients_survive_the_way_to_the_grid_and_back(peer, spins):
    prepared = peer.prepare(Case(16, 16, 2, spins).to_json())
    for operation in prepared.operations.values():
        operation()
    assert {'forward', 'inverse'} <= set(prepared.operations)
    variants = prepared.facts.get('variants', {}).values()
    for facts in (prepared.facts, *variants):
        assert set(facts['round_trip']) == set(map(str, spins))
        for errors in facts['round_trip'].values():
            assert 0 < errors['max_relative'] < ROUND_OFF
            assert errors['coefficients'] >= 2 * 2 * 28
