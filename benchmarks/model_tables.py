"""What `benchmarks.model` measured, as text: tables and targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.results import Target, provenance, table

OURS, OFFICIAL = 'benchmarks.layers', 'official_layers'
KINDS = ('convolution', 'block')
UPDATE = 'update '
# What is to be reached; that rollouts of three times the steps need little more memory
# is what computing them anew is for.
LEAST_BLOCK_RATIO = 8.0
MOST_FORECAST_S = 60.0
MOST_MEMORY_GIB = 20.0
LONG, SHORT, MOST_GROWTH = 12, 4, 1.5
MOST_COMPILATION_S = 120.0
OFFICIAL_NOTE = """
Official: google-research/spherical-cnn, with as many free degrees per kernel (8 are
those of its QM9 configuration). It is complex at spin 0, and the skip of its block is a
dense layer with a norm. Ours is real there and its skip the identity; coming from
coefficients, its block on the grid ends with one more transform of both spins.
""".strip()
MEMORIES = {'program_gib': 'of the program', 'process_gib': 'of the process'}

PRECISIONS = ('float32', 'bfloat16')

Measurements = Mapping[str, Mapping[str, Any]]


def sections(result: Mapping[str, Any]) -> dict[str, str]:
    """Sections of RESULTS.md of which something was measured, fit for a terminal too.

    Returns:
      `{name: Markdown}`, of `'model'` (layers, flagship) and `'precision'`.
    """
    measured = result['measurements']
    model = [
        *(_layers(kind, measured[kind]) for kind in KINDS if kind in measured),
        _flagship(measured),
        _arithmetic(result),
    ]
    precision = [_precision(measured), _scores(measured)]
    found = {'precision': precision} if any(precision) else {}
    # A section in any case, where failures can be said.
    if any(model) or not found:
        found = {'model': [_targets(measured), *model], **found}
    begin = [
        provenance(result['machine'], result['versions'], result['command']),
        _machine(result['machine']),
    ]
    end = [_failures(result['failures'])]
    return {
        name: '\n\n'.join(part for part in (*begin, *parts, *end) if part)
        for name, parts in found.items()
    }


def _machine(speed: Mapping[str, Any]) -> str:
    return (
        f'Between the measurements, float32: {_rate(speed["sgemm_gflops"])} GFLOP/s in '
        f'products of 2048x2048 matrices, {_rate(speed["copy_gb_per_s"])} GB/s in '
        'copies (median, interquartile range).'
    )


def _rate(summary: Mapping[str, float]) -> str:
    return f'{summary["median"]:.0f} ({100 * summary["spread"]:.0f} %)'


def _layers(kind: str, measured: Mapping[str, Any]) -> str:
    case = measured['case']
    title = (
        f'**{kind.capitalize()}**, {case["num_points"]}x{case["num_points"]}, '
        f'{case["channels"]} channels at each of spins 0 and 1, batch 1, '
        f'{case["num_knots"]} knots; on the grid or on coefficients:'
    )
    header = ['', 'ms (IQR)', 'compilation, s', 'memory, MiB', 'official / ours']
    rows = [_layer_row(measured, label) for label in measured['operations']]
    notes = [f'{name}: {why}' for name, why in measured['missing'].items()]
    if kind == 'block' and measured['ratios']:
        notes.append(OFFICIAL_NOTE)
    return '\n\n'.join([title, table(header, rows), *notes])


def _layer_row(measured: Mapping[str, Any], label: str) -> list[str]:
    library, layer, operation = label.split()
    facts = measured['facts'][f'{library} {layer}']
    on_grid = layer.endswith('_on_grid')
    ratio = None
    if on_grid and library == OURS:
        ratio = measured['ratios'].get(operation)
    return [
        f'{"official" if library == OFFICIAL else "spherecast"}, '
        f'{"grid" if on_grid else "coefficients"}, {operation}',
        _milliseconds(measured['operations'][label]),
        f'{facts["compilation_s"][operation]:.1f}',
        f'{1024 * facts["program_gib"][operation]:.0f}',
        f'{ratio["median"]:.1f} ({100 * ratio["spread"]:.0f} %)' if ratio else '',
    ]


def _milliseconds(seconds: Mapping[str, float]) -> str:
    # Three figures at most: the spread makes no more of them meaningful.
    digits = 1 if seconds['median'] < 0.1 else 0
    return f'{1e3 * seconds["median"]:.{digits}f} ({100 * seconds["spread"]:.0f} %)'


def flagship_cases(measured: Measurements) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Those measurements that are of the flagship's time and memory, with titles."""
    for name, facts in measured.items():
        if name == 'step':
            yield 'one step', facts
        elif name == 'forecast':
            yield 'five-day forecast, 20 steps', facts
        elif name.startswith(UPDATE):
            yield f'training update, rollout of {name.removeprefix(UPDATE)}', facts


def _flagship(measured: Measurements) -> str:
    rows = [
        [
            title,
            f'{facts["seconds"]["median"]:.3g}',
            f'{100 * facts["seconds"]["spread"]:.0f} %',
            f'{len(facts["seconds"]["values"])}',
            f'{facts["compilation_s"]:.1f}',
            f'{facts["program_gib"]:.2f}',
            f'{facts["process_gib"]:.2f}',
        ]
        for title, facts in flagship_cases(measured)
    ]
    if not rows:
        return ''
    header = [
        '**Flagship**, random data, batch 1',
        'time, s',
        'IQR',
        'calls',
        'compilation, s',
        'program, GiB',
        'process, GiB',
    ]
    note = (
        'Program: arguments, results and workspace of the compiled program. Process: '
        'the largest resident memory of a process that does nothing else, compiler '
        'included.'
    )
    return f'{table(header, rows)}\n\n{note}'


def _arithmetic(result: Mapping[str, Any]) -> str:
    step = result['measurements'].get('step')
    if not step or not step['flops']:
        return ''
    rate = step['flops'] / step['seconds']['median'] / 1e9
    fastest = result['machine']['sgemm_gflops']['median']
    return (
        f'A step is {step["flops"] / 1e9:.3g} GFLOP as the compiler counts them (the '
        f'body of a loop once): {rate:.0f} GFLOP/s, {100 * rate / fastest:.0f} % of '
        'the matrix product.'
    )


def _precision(measured: Measurements) -> str:
    rows = [
        [
            f'{title}, {_steps(lead)}',
            f'{errors["change"]:.3g}',
            f'{errors["of_state"]:.1e}',
            f'{errors["of_change"]:.1e}',
            f'{errors["of_change_worst_channel"]:.1e}',
        ]
        for name, title in {
            'precision': 'flagship, random parameters',
            'trained': 'trained run',
        }.items()
        if name in measured
        for lead, errors in measured[name]['differences'].items()
    ]
    if not rows:
        return ''
    header = [
        '**bfloat16 against float32**',
        'change / spread',
        'difference / state',
        'difference / change',
        'worst channel',
    ]
    note = 'Area-weighted root mean squares over all channels; change since the start.'
    return '\n\n'.join([table(header, rows), note, _step_times(measured)]).strip()


def _step_times(measured: Measurements) -> str:
    seconds = measured.get('precision', {}).get('seconds')
    if not seconds:
        return ''
    times = {name: f'{summary["median"]:.3g} s' for name, summary in seconds.items()}
    return f'One step: {times["float32"]} in float32, {times["bfloat16"]} in bfloat16.'


def _scores(measured: Measurements) -> str:
    trained = measured.get('trained')
    if not trained:
        return ''
    columns = [(p, i) for i in range(len(trained['differences'])) for p in PRECISIONS]
    rows = [
        [f'{field}, {scores["unit"]}']
        + [
            _score(trained['rmse'][precision][field], lead)
            for precision, lead in columns
        ]
        for field, scores in trained['rmse']['float32'].items()
    ]
    leads = list(trained['differences'])
    header = [
        f'**RMSE of the trained run**, {trained["num_starts"]} starts',
        *(f'{precision}, {_steps(leads[lead])}' for precision, lead in columns),
    ]
    return table(header, rows)


def _score(scores: Mapping[str, Any], lead: int) -> str:
    # Two digits more than mean something, to see what the precision changes.
    return f'{scores["values"][lead]:.{scores["digits"] + 2}f}'


def _steps(count: str) -> str:
    return '1 step' if count == '1' else f'{count} steps'


def targets(measured: Measurements) -> Iterator[Target]:
    """What layers and flagship should reach; None where it was not measured."""
    ratios = measured.get('block', {}).get('ratios', {})
    ratio = ratios.get('value_and_grad', {}).get('median')
    name = 'official / spherecast, block on the grid, value_and_grad'
    yield Target(name, ratio, LEAST_BLOCK_RATIO, '>=')
    forecast = measured.get('forecast', {}).get('seconds', {}).get('median')
    yield Target('five-day forecast: s', forecast, MOST_FORECAST_S, '<=')
    for key, words in MEMORIES.items():
        long, short = (
            measured.get(f'{UPDATE}{steps}', {}).get(key) for steps in (LONG, SHORT)
        )
        name = f'memory {words}, update of {LONG} steps: GiB'
        yield Target(name, long, MOST_MEMORY_GIB, '<=')
        growth = long / short if long and short else None
        name = f'memory {words}, update of {LONG} steps / {SHORT} steps'
        yield Target(name, growth, MOST_GROWTH, '<=')
    compilation = [facts['compilation_s'] for _, facts in flagship_cases(measured)]
    name, slowest = 'slowest compilation: s', max(compilation, default=None)
    yield Target(name, slowest, MOST_COMPILATION_S, '<=')


def _targets(measured: Measurements) -> str:
    rows = [target.row() for target in targets(measured)]
    return table(['**Targets**', 'measured', 'bound', 'verdict'], rows)


def _failures(failures: Mapping[str, str]) -> str:
    lines = [f'- {name}: {why}' for name, why in failures.items()]
    return '\n'.join(['Failed:\n', *lines]) if lines else ''
