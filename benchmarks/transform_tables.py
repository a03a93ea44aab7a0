"""The report of `benchmarks.transforms`: tables and targets, from its JSON."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks import results
from benchmarks.cases import Case

SELF = 'spherecast'
NOTES = """
Notes.

- Medians over rounds; in each round every library has a turn of at least 50 ms, with
  both cores and its own way of waiting for work. Spread
  is the interquartile range over the median, the larger one of forward and inverse.
  Ratios are the library's time over spherecast's, medians of the quotients within a
  round: above 1, spherecast is faster.
- ns: per grid point and field, where a spin-1 field (a vector) counts once. GFLOP/s:
  the fewest operations that such a transform needs (`cases.least_flops`: half the
  orders, half the rows, the triangle of degrees) over the time; the percentage is of
  the sgemm rate of this run. Libraries do more operations than that.
- Round-trip error: unit normal coefficients to the grid and back, float32; the largest
  error over the largest coefficient.
- spherecast and torch-harmonics take and return spin-1 fields as two real arrays.
  Each library has its own order of axes. create: tables made afresh, in seconds.
- ducc0: `analysis_2d` and `synthesis_2d`, a field at a time with a thread per core.
  `tuned`: fields side by side, forward by `adjoint_synthesis_2d` with quadrature
  weights. It has no tables: it computes them in each call.
- s2fft: precomputed kernels, the Driscoll-Healy grid of as many rows and one column
  less; complex fields at spin 1.
- dinosaur: `FastSphericalHarmonics`, with tables as constants of the program.
- official: google-research/spherical-cnn, complex fields at both spins. Like for like
  is against `spherecast, complex scalars`, which transforms real and imaginary parts of
  the scalars as separate channels.
""".strip()


def report(result: Mapping[str, Any]) -> str:
    """All tables, in Markdown."""
    blocks = [
        results.provenance(result['machine'], result['versions'], result['command']),
        _rates(result),
        '### Targets',
        results.table(
            ['target', 'measured', 'bound', 'verdict'],
            [target.row() for target in targets(result)],
        ),
        '### spherecast',
        _own_table(result),
        '### Round trip of spherecast, float32',
        _round_trip_table(result),
        '### Other libraries',
        _peer_table(result),
        *_absent(result),
        NOTES,
    ]
    return '\n\n'.join(blocks)


def targets(result: Mapping[str, Any]) -> list[results.Target]:
    """What the transforms should reach, and whether they do."""
    return [
        *_speed_targets(result),
        *_table_targets(result),
        *_official_targets(result),
        *_accuracy_targets(result),
    ]


def _speed_targets(result: Mapping[str, Any]) -> Iterator[results.Target]:
    # Without a bound: for information.
    bounds: dict[str, dict[int, float | None]] = {
        'torch_harmonics': {64: 1.0, 128: 1.5, 256: 1.5},
        'ducc0': {64: 4.0, 128: 4.0, 256: 4.0},
        'ducc0 tuned': dict.fromkeys((64, 128, 256)),
    }
    for library, by_rows in bounds.items():
        for rows, bound in by_rows.items():
            case = Case(rows, rows, 64, (0, 1))
            value = _ratio(result, case, library)
            yield results.Target(f'{library} / spherecast, {case}', value, bound, '>=')


def _table_targets(result: Mapping[str, Any]) -> Iterator[results.Target]:
    facts = [
        found['libraries'][SELF]['facts']
        for found in result['cases']
        if SELF in found['libraries']
        and (found['case']['num_lat'], found['case']['num_lon']) == (256, 256)
        and tuple(found['case']['spins']) == (0, 1)
    ]
    seconds = max((f['init_seconds'] for f in facts), default=None)
    size = max((f['table_bytes'] / 2**20 for f in facts), default=None)
    yield results.Target('create, 256x256, spins 0,1: s', seconds, 2.0, '<')
    yield results.Target('tables, 256x256, spins 0,1: MiB', size, 30.0, '<=')


def _official_targets(result: Mapping[str, Any]) -> Iterator[results.Target]:
    for rows, channels, bound in ((128, 64, 30.0), (256, 16, 40.0)):
        case = Case(rows, rows, channels, (0, 1))
        name = f'official / spherecast, {case}'
        yield results.Target(name, _ratio(result, case, 'official'), bound, '>=')
        fair = _ratio(result, case, 'official', kind='ratio_like_for_like')
        yield results.Target(f'{name}, like for like', fair, None, '>=')


def _accuracy_targets(result: Mapping[str, Any]) -> Iterator[results.Target]:
    for spin, bound in ((0, 1e-6), (1, 3e-6)):
        for kind, limit in (('max_relative', bound), ('max_abs', None)):
            errors = [
                found['libraries'][SELF]['facts']['round_trip'][str(spin)][kind]
                for found in result['cases']
                if Case.from_json(found['case']).size == '256x256'
                and spin in found['case']['spins']
                and SELF in found['libraries']
            ]
            name = f'round trip, 256x256, spin {spin}: {kind}'
            yield results.Target(name, max(errors, default=None), limit, '<=')


def _ratio(
    result: Mapping[str, Any], case: Case, library: str, *, kind: str = 'ratio'
) -> float | None:
    """Forward plus inverse, over spherecast's; None where it was not measured."""
    for found in result['cases']:
        if Case.from_json(found['case']) == case:
            figures = found['libraries'].get(library, {})
            return figures[kind]['both']['median'] if kind in figures else None
    return None


def _rates(result: Mapping[str, Any]) -> str:
    sgemm, copy = result['rates']['sgemm_gflops'], result['rates']['copy_gb_per_s']
    return (
        f'The machine meanwhile: float32 products {sgemm["median"]:.0f} GFLOP/s '
        f'(spread {sgemm["spread"]:.2f}), copies {copy["median"]:.1f} GB/s (spread '
        f'{copy["spread"]:.2f}); {result["rounds"]} rounds.'
    )


def _own_table(result: Mapping[str, Any]) -> str:
    header = [
        'rows x columns, spins, fields of each',
        *('forward ms', 'inverse ms', 'spread', 'ns', 'ns', 'GFLOP/s', 'GFLOP/s'),
        *('% sgemm', '% sgemm', 'tables MiB', 'create s', 'compile s'),
    ]
    sgemm = result['rates']['sgemm_gflops']['median']
    return results.table(header, list(_own_rows(result, sgemm)))


def _own_rows(result: Mapping[str, Any], sgemm: float) -> Iterator[list[str]]:
    for found in result['cases']:
        for label, own in found['libraries'].items():
            if not label.startswith(SELF):  # With or without complex scalars.
                continue
            pair, facts = (own['forward'], own['inverse']), own['facts']
            yield [
                str(Case.from_json(found['case'])) + label.removeprefix(SELF),
                *(f'{one["median"] * 1e3:.3g}' for one in pair),
                _spread(own),
                *(f'{one["ns_per_value"]:.2f}' for one in pair),
                *(f'{one["gflops"]:.1f}' for one in pair),
                *(f'{100 * one["gflops"] / sgemm:.0f}' for one in pair),
                f'{facts["table_bytes"] / 2**20:.1f}',
                f'{facts["init_seconds"]:.2f}',
                f'{facts["compile_seconds"]:.2f}',
            ]


def _round_trip_table(result: Mapping[str, Any]) -> str:
    """The worst over the numbers of channels."""
    worst: dict[tuple[str, str], dict[str, float]] = {}
    for found in result['cases']:
        # Nothing where it failed.
        own = found['libraries'].get(SELF, {'facts': {'round_trip': {}}})
        for spin, errors in own['facts']['round_trip'].items():
            entry = worst.setdefault((Case.from_json(found['case']).size, spin), {})
            for name, value in errors.items():
                entry[name] = max(value, entry.get(name, 0))
    kinds = ('max_relative', 'max_abs', 'rms')
    rows = [
        [size, spin, *(f'{errors[kind]:.1e}' for kind in kinds)]
        for (size, spin), errors in worst.items()
    ]
    header = ['rows x columns', 'spin', 'largest / largest coefficient']
    return results.table([*header, 'largest', 'rms'], rows)


def _peer_table(result: Mapping[str, Any]) -> str:
    header = [
        'rows x columns, spins, fields of each',
        *('library', 'forward ms', 'inverse ms', 'spread', 'create s'),
        *('error spin 0', 'error spin 1'),
        *('ratio forward', 'ratio inverse', 'ratio both', 'spread', 'like for like'),
    ]
    return results.table(header, list(_peer_rows(result)))


def _peer_rows(result: Mapping[str, Any]) -> Iterator[list[str]]:
    for found in result['cases']:
        for label, peer in found['libraries'].items():
            if label.startswith(SELF):
                continue
            errors = peer['facts'].get('round_trip', {})
            yield [
                str(Case.from_json(found['case'])),
                label,
                f'{peer["forward"]["median"] * 1e3:.3g}',
                f'{peer["inverse"]["median"] * 1e3:.3g}',
                _spread(peer),
                _number(peer['facts'], 'init_seconds', '.2f'),
                *(_number(errors.get(s, {}), 'max_relative', '.1e') for s in '01'),
                *_ratios(peer),
            ]


def _ratios(peer: Mapping[str, Any]) -> list[str]:
    """Forward, inverse, both, the spread of both, and both like for like."""
    plain, fair = peer.get('ratio', {}), peer.get('ratio_like_for_like', {})
    return [
        *(
            _number(plain.get(key, {}), 'median', '.2f')
            for key in ('forward', 'inverse', 'both')
        ),
        _number(plain.get('both', {}), 'spread', '.2f'),
        _number(fair.get('both', {}), 'median', '.2f'),
    ]


def _number(values: Mapping[str, Any], key: str, style: str) -> str:
    return format(values[key], style) if key in values else '-'


def _spread(figures: Mapping[str, Any]) -> str:
    return f'{max(figures[name]["spread"] for name in ("forward", "inverse")):.2f}'


def _absent(result: Mapping[str, Any]) -> Sequence[str]:
    lines = [f'- {name}: {reason}' for name, reason in result['missing'].items()]
    lines += [f'- failed: {failure}' for failure in result['failures']]
    return ['Not measured:\n\n' + '\n'.join(lines)] if lines else []
