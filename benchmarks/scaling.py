"""Scaling of a training update over devices: measured, counted, and estimated.

Example:
  python -m benchmarks.scaling --write

- measured: the demo's update on forced CPU devices, which share this machine's cores.
  With the same batch (strong) the ideal is the time of one device, with a sample a
  device (weak) its time for as many samples. What is more is what the layout costs.
- counted: the flagship's update of twelve steps, compiled for a few meshes: memory of a
  device, collectives, bytes that a device sends.
- estimated: efficiency on 256 chips of TPU v5e, from these bytes and from published
  figures; nothing was run there.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks import flags, machine, results, timing
from benchmarks.harness import Worker

WORKER, OUTPUT = 'benchmarks.scaled', 'runs/benchmarks/scaling.json'
MEASURED = ((1, 1), (2, 1), (1, 2), (4, 1), (2, 2), (1, 4), (8, 1), (4, 2), (1, 8))
# Over `data` the same is summed, whatever its size: two parts stand for all.
COUNTED = ((1, 1), (1, 8), (2, 1), (2, 4), (2, 8))
CHIPS, NUM_STEPS = 256, 12
# https://cloud.google.com/tpu/docs/v5e: 197 TFLOP/s in bfloat16 and 400 GB/s to and
# from a chip over four links, so that one sends 200 GB/s, half of it along either axis
# of the 2D torus.
PEAK_FLOPS, LINKS_BYTES = 197e12, 200e9
FRACTIONS = (0.2, 0.4)  # Of the peak that products reach: assumed.
TIMEOUT_S = 1800.0


def measure(case: dict[str, Any], rounds: int) -> dict[str, Any]:
    """One case of `benchmarks.scaled` in a process with as many devices."""
    count = case['data'] * case['space']
    before = os.environ.get('XLA_FLAGS')
    os.environ['XLA_FLAGS'] = f'--xla_force_host_platform_device_count={count}'
    try:
        worker = Worker(WORKER, timeout_s=TIMEOUT_S)
    finally:
        os.environ.pop('XLA_FLAGS')
        if before is not None:
            os.environ['XLA_FLAGS'] = before
    with contextlib.closing(worker):
        facts = worker.prepare('case', case)
        if case['measure'] == 'time':
            seconds = [
                worker.time('case', 'update', calls=1, warm_ups=0)
                for _ in range(rounds)
            ]
            facts['seconds'] = timing.Sample(tuple(seconds)).summary()
        return {**case, **facts, 'versions': worker.versions}


def seconds_of_links(sent: dict[str, float], space: int) -> float:
    """Seconds that a v5e needs to send what one device of a mesh sends.

    All-to-all goes along one axis of the torus, and each byte over a quarter of the
    ring of `space` chips on average; sums and gathers go from neighbour to neighbour
    over all links.
    """
    hops = max(1.0, space / 4)
    others = sum(sent.values()) - sent['all-to-all']
    return sent['all-to-all'] * hops / (LINKS_BYTES / 2) + others / LINKS_BYTES


def efficiency(fact: dict[str, Any], fraction: float) -> float:
    """Share of the time in which a chip computes, if it never does both at once."""
    per_device = fact['flops'] / (fact['data'] * fact['space'])
    computing = per_device / (fraction * PEAK_FLOPS)
    return computing / (
        computing + seconds_of_links(fact['sent_on_pod'], fact['space'])
    )


def measured_table(facts: Sequence[dict[str, Any]]) -> str:
    """Times beside those of one device, in Markdown."""
    alone = {f['batch']: f['seconds']['median'] for f in facts if _size(f) == 1}
    rows = []
    for fact in facts:
        seconds, batch = fact['seconds']['median'], fact['batch']
        ideal = alone.get(batch)
        rows.append(
            [
                f'{fact["data"]} x {fact["space"]}, batch {batch}',
                f'{seconds:.2f}',
                '-' if ideal is None else f'{ideal / seconds:.2f}',
                f'{sum(fact["sent"].values()) / 1e6:.1f}',
            ]
        )
    header = ['data x space', 's per update', 'ideal / time', 'MB sent per device']
    return results.table(header, rows)


def counted_table(facts: Sequence[dict[str, Any]]) -> str:
    """Memory, collectives and bytes of the flagship, in Markdown."""
    whole = next(f['program_gib'] for f in facts if _size(f) == 1)
    rows = [
        [
            f'{f["data"]} x {f["space"]}, {f["parameters"]}, batch {f["batch"]}',
            f'{f["program_gib"]:.2f}',
            f'{f["program_gib"] / whole:.2f}',
            *(
                f'{f["collectives"].get(kind, 0)} / {f["sent"][kind] / 1e6:.0f}'
                for kind in ('all-to-all', 'all-reduce', 'all-gather')
            ),
        ]
        for f in facts
    ]
    header = ['data x space', 'GiB per device', 'of one']
    kinds = [f'{k}: runs / MB' for k in ('all-to-all', 'all-reduce', 'all-gather')]
    return results.table([*header, *kinds], rows)


def estimated_table(facts: Sequence[dict[str, Any]]) -> str:
    """Predicted efficiency on a v5e-256, in Markdown."""
    rows = [
        [
            f'{CHIPS // f["space"]} x {f["space"]}',
            f'{f["flops"] / _size(f) / 1e12:.2f}',
            f'{1e3 * seconds_of_links(f["sent_on_pod"], f["space"]):.1f}',
            *(f'{efficiency(f, fraction):.2f}' for fraction in FRACTIONS),
        ]
        for f in facts
        if f['data'] == 2
    ]
    at = [f'efficiency at {100 * fraction:.0f} % of the peak' for fraction in FRACTIONS]
    return results.table(['data x space', 'TFLOP per chip', 'ms on links', *at], rows)


def case(
    kind: str, mesh: tuple[int, int], batch: int, num_steps: int
) -> dict[str, Any]:
    """A case of `benchmarks.scaled`: several devices share the parameters."""
    data, space = mesh
    return {
        'measure': kind,
        'data': data,
        'space': space,
        'parameters': 'replicated' if data * space == 1 else 'sharded',
        'batch': batch,
        'num_steps': num_steps,
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All that the options ask for, as JSON."""
    timed = [case('time', mesh, 8, 2) for mesh in MEASURED]
    timed += [case('time', (1, 1), n, 2) for n in (1, 2, 4)]
    timed += [case('time', (n, 1), n, 2) for n in (2, 4)]
    counted = [case('compile', mesh, mesh[0], NUM_STEPS) for mesh in COUNTED]
    found = []
    for one in (timed if 'measured' in options.parts else []) + (
        counted if 'counted' in options.parts else []
    ):
        print(one, '...', file=sys.stderr, flush=True)
        found.append(measure(one, options.rounds))
    return {'machine': machine.describe(), 'facts': found}


def section(result: dict[str, Any], command: str) -> str:
    """The section of RESULTS.md."""
    facts = result['facts']
    timed = [f for f in facts if f['measure'] == 'time']
    counted = [f for f in facts if f['measure'] == 'compile']
    versions = facts[0]['versions']
    tables = []
    if timed:
        tables += [
            "The demo's update of two steps, on forced CPU devices that share cores "
            '(measured).',
            measured_table(timed),
        ]
    if counted:
        tables += [
            "The flagship's update of twelve steps, compiled; batch: a sample to each "
            'part of `data`.',
            counted_table(counted),
            'An ESTIMATE for 256 chips of TPU v5e (nothing was run there), a sample to '
            'each part of `data`: from the bytes above, from 200 GB/s out of a chip '
            'and 197 TFLOP/s, of which products are assumed to reach a fraction; no '
            'communication is hidden behind computation.',
            estimated_table(counted),
        ]
    where = results.provenance(result['machine'], versions, command)
    return '\n\n'.join([where, *tables])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.scaling',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--parts', default='measured,counted')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--output', default=OUTPUT, help='JSON file for everything')
    parser.add_argument('--write', action='store_true', help='into RESULTS.md')
    options = parser.parse_args(arguments)
    options.parts = options.parts.split(',')
    result = run(options)
    text = section(result, flags.command('benchmarks.scaling', arguments))
    print(text)
    results.write_json(options.output, result)
    if options.write:
        results.replace_section('scaling', text)
    return 0


def _size(fact: dict[str, Any]) -> int:
    return fact['data'] * fact['space']


if __name__ == '__main__':
    sys.exit(main())
