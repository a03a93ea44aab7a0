"""Collectives are read from programs, loops and all; an estimate follows from them."""

import pytest

from benchmarks import scaling
from benchmarks.collectives import Collective, bytes_sent, collectives

PROGRAM = """\
HloModule jit_update, is_scheduled=true

%sum (a: f32[], b: f32[]) -> f32[] {
  ROOT %add = f32[] add(%a, %b)
}

%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %x = (f32[2,3]{1,0}, f32[2,3]{1,0}) all-to-all(%a, %b), replica_groups={{0,1},{2,3}}
  %y = bf16[16]{0} all-reduce(%c), replica_groups=[1,4]<=[4], to_apply=%sum
}

ENTRY %main (q: f32[8]) -> f32[8] {
  %loop = (s32[], f32[8]) while(%t), condition=%c, body=%body, backend_config={\
"known_trip_count":{"n":"12"}}
  %g = f32[8,4]{1,0} all-gather(%q), replica_groups=mesh['a'=2,'b'=4] {'b'}
}
"""


def test_collectives_of_loops_count_as_often_as_they_run():
    assert collectives(PROGRAM) == [
        Collective('all-to-all', 48, 2, 12),
        Collective('all-reduce', 32, 4, 12),
        Collective('all-gather', 128, 4, 1),
    ]


def test_a_loop_of_unknown_length_is_refused():
    with pytest.raises(ValueError, match='a loop of known length'):
        collectives(PROGRAM.replace('known_trip_count', 'unknown'))


def test_bytes_are_those_of_the_cheapest_way_round_a_ring():
    sent = bytes_sent(collectives(PROGRAM))
    assert sent['all-to-all'] == 12 * 48 / 2
    assert sent['all-reduce'] == 12 * 2 * 32 * 3 / 4
    assert sent['all-gather'] == 128 * 3 / 4
    assert sent['reduce-scatter'] == sent['collective-permute'] == 0


def test_an_estimate_is_one_without_communication_and_a_half_where_it_takes_as_long():
    nothing = dict.fromkeys(bytes_sent([]), 0.0)
    fact = {'data': 2, 'space': 1, 'flops': 2 * scaling.PEAK_FLOPS}
    fact['sent_on_pod'] = nothing
    assert scaling.efficiency(fact, 1.0) == 1
    fact['sent_on_pod'] = {**nothing, 'all-reduce': scaling.LINKS_BYTES}
    assert scaling.efficiency(fact, 1.0) == 0.5
    # Along one axis of the torus, and further round a longer ring.
    assert scaling.seconds_of_links({**nothing, 'all-to-all': 1e9}, 8) == 0.02


@pytest.mark.slow
def test_eight_devices_for_a_sphere_hold_less_than_a_third_each():
    """The flagship's update of twelve steps: 0.66 of 2.30 GiB when this was written."""
    one, eight = (
        scaling.measure(scaling.case('compile', mesh, 1, scaling.NUM_STEPS), rounds=0)
        for mesh in ((1, 1), (1, 8))
    )
    print(f'{eight["program_gib"]:.3f} of {one["program_gib"]:.3f} GiB')
    assert eight['program_gib'] < 0.3 * one['program_gib']
    # And no field is gathered: kernels are, once.
    assert eight['collectives'].get('all-gather', 0) <= 9
