"""Times spherical-harmonic transforms of spherecast and of other libraries.

Examples:
  python -m benchmarks.transforms --quick                  # one small size
  python -m benchmarks.transforms --targets --official=PATH
  python -m benchmarks.transforms --official=PATH --write  # all, into RESULTS.md
  python -m benchmarks.transforms --sizes=128x256 --channels=64 --spins=01

Peers come with `pip install -e '.[benchmarks]'`, but for `official`: that is a checkout
of https://github.com/google-research/spherical-cnn, given by --official=PATH.

Everything is float32 and on the same grid, equiangular with poles, up to the largest
degree that quadrature is exact for, unless a note under the table says otherwise.
"""

import argparse
import dataclasses
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from benchmarks import flags, harness, machine, results, timing, transform_tables
from benchmarks.cases import Case, grid_values, least_flops
from benchmarks.transform_tables import SELF

COMPLEX = ', complex scalars'
PEERS = ('torch_harmonics', 'ducc0', 's2fft', 'dinosaur', 'official')
OPERATIONS = ('forward', 'inverse')
OUTPUT = 'runs/benchmarks/transforms.json'
SIZES = tuple((n, m) for n in (64, 128, 256) for m in (n, 2 * n))
CHANNELS, SPINS = (16, 64, 128), ((0,), (1,), (0, 1))
QUICK_SIZES, QUICK_CHANNELS = ((64, 64),), (16,)
ROUNDS, QUICK_ROUNDS = 15, 3
# (rows, channels) that targets are about; the last is a target for `official` only.
TARGET_CASES = ((64, 64), (128, 64), (256, 64), (256, 16))
# (rows, channels) at which `official` answers in seconds; at 64 rows always.
OFFICIAL_CASES = ((128, 64), (256, 16))


class Entrant(NamedTuple):
    """One way to transform a case.

    Attributes:
      worker: Who runs it.
      case: What is transformed.
      suffix: What the names of its operations end with: '' or a variant's name.
    """

    worker: harness.Worker
    case: Case
    suffix: str = ''

    def clock(self, operation: str) -> timing.Clock:
        """For `timing.take_turns`."""
        return self.worker.clock(str(self.case), operation + self.suffix)


def supports(library: str, case: Case) -> bool:
    """Whether a library has such transforms, and is done with them in seconds."""
    if library == 'dinosaur':
        return case.spins == (0,)
    square = case.num_lat == case.num_lon
    if library == 's2fft':
        return square and case.num_lat <= 128 and case.channels <= 16
    if library == 'official':
        sized = (case.num_lat, case.channels) in OFFICIAL_CASES or case.num_lat <= 64
        return square and sized and case.spins == (0, 1)
    return True


class Run:
    """Measurements of a list of cases.

    Args:
      team: Workers, spherecast's among them.
      rounds: How often each operation has its turn.
    """

    def __init__(self, team: harness.Team, *, rounds: int):
        self._team = team
        self._rounds = rounds
        self._speedometer = machine.Speedometer(team.workers[SELF])
        self.failures: list[str] = []

    def measure(self, cases: Sequence[Case]) -> dict[str, Any]:
        """Everything measured, as JSON."""
        found = []
        for number, case in enumerate(cases, start=1):
            print(f'[{number}/{len(cases)}] {case}', file=sys.stderr, flush=True)
            self._speedometer.measure()
            found.append(self._measure_case(case))
        self._speedometer.measure()
        return {
            'rates': self._speedometer.summary(),
            'rounds': self._rounds,
            'cases': found,
            'failures': self.failures,
        }

    def _measure_case(self, case: Case) -> dict[str, Any]:
        entrants: dict[str, Entrant] = {}
        facts: dict[str, dict[str, Any]] = {}
        for entrant in self._candidates(case):
            self._admit(entrant, entrants, facts)
        samples = self._time(case, entrants)
        for entrant in entrants.values():
            # A variant's case is that of its library, released with it.
            if entrant.worker.alive and not entrant.suffix:
                entrant.worker.release(str(entrant.case))
        libraries = {
            label: {'facts': facts[label], **_figures(entrants[label].case, both)}
            for label, both in samples.items()
        }
        _add_ratios(samples, libraries)
        return {'case': case.to_json(), 'libraries': libraries}

    def _candidates(self, case: Case) -> Iterator[Entrant]:
        workers = self._team.workers
        for name, worker in workers.items():
            if worker.alive and supports(name, case):
                yield Entrant(worker, case)
        # Like for like: as many real numbers as that library's complex scalars have.
        official = workers.get('official')
        if official and official.alive and supports('official', case):
            yield Entrant(
                workers[SELF], dataclasses.replace(case, complex_scalars=True)
            )

    def _admit(self, entrant: Entrant, entrants, facts) -> None:
        """Prepares an entrant; adds it and its variants."""
        worker, case, _ = entrant
        label = worker.name + (COMPLEX if case.complex_scalars else '')
        try:
            found = worker.prepare(str(case), case.to_json())
        except harness.WorkerError as error:
            self._note_failure(case, error)
            return
        variants = found.pop('variants', {})
        for variant, own in {'': found, **variants}.items():
            suffix = f' {variant}' if variant else ''
            entrants[label + suffix] = Entrant(worker, case, suffix)
            facts[label + suffix] = {**found, **own}

    def _time(self, case: Case, entrants) -> dict[str, dict[str, timing.Sample]]:
        """Seconds of all entrants, anew without the one that fails."""
        clocks = {
            (label, operation): entrant.clock(operation)
            for operation in OPERATIONS
            for label, entrant in entrants.items()
        }
        try:
            seconds = timing.take_turns(clocks, rounds=self._rounds)
        except harness.WorkerError as error:
            self._note_failure(case, error)
            others = {
                label: entrant
                for label, entrant in entrants.items()
                if entrant.worker.name != error.worker
            }
            # All of it anew: ratios are of rounds that all have gone through.
            return self._time(case, others) if len(others) < len(entrants) else {}
        samples = {
            label: {operation: seconds[label, operation] for operation in OPERATIONS}
            for label in entrants
        }
        for both in samples.values():
            both['both'] = both['forward'] + both['inverse']
        return samples

    def _note_failure(self, case: Case, error: harness.WorkerError) -> None:
        print(error, file=sys.stderr)
        last = str(error).strip().splitlines()[-1]
        self.failures.append(f'{case}: {str(error).splitlines()[0][:80]} ... {last}')


def _figures(case: Case, samples: dict[str, timing.Sample]) -> dict[str, Any]:
    """Seconds, and per operation what they mean for this case."""
    return {
        name: {
            **sample.summary(),
            'ns_per_value': sample.median * 1e9 / grid_values(case) / _calls(name),
            'gflops': least_flops(case) * _calls(name) / sample.median / 1e9,
        }
        for name, sample in samples.items()
    }


def _calls(name: str) -> int:
    # Forward and inverse are two transforms.
    return 2 if name == 'both' else 1


def _add_ratios(samples, libraries: dict[str, dict[str, Any]]) -> None:
    """Adds each library's times over spherecast's own."""
    bases = {label: {'ratio': SELF} for label in samples if not label.startswith(SELF)}
    if 'official' in bases:
        bases['official']['ratio_like_for_like'] = SELF + COMPLEX
    for label, names in bases.items():
        for name, base in names.items():
            if base in samples:
                libraries[label][name] = _ratios(samples[label], samples[base])


def _ratios(numerators, denominators) -> dict[str, Any]:
    return {
        name: timing.ratio(sample, denominators[name]).summary()
        for name, sample in numerators.items()
    }


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Starts the workers, measures, and adds where and with what."""
    peers = [p for p in arguments.peers if any(supports(p, c) for c in arguments.cases)]
    paths, missing = {'official': [str(arguments.official)]}, {}
    if 'official' in peers and not arguments.official:
        peers.remove('official')
        missing['official'] = 'needs --official=PATH'
    with harness.start_workers([SELF, *peers], paths=paths) as team:
        missing |= team.missing
        if SELF in missing:
            raise SystemExit(missing[SELF])
        for name, reason in missing.items():
            print(f'{name}: {reason}', file=sys.stderr)
        measured = Run(team, rounds=arguments.rounds).measure(arguments.cases)
        versions: dict[str, str] = {}
        for worker in team.workers.values():
            versions |= worker.versions
    return {
        'command': arguments.command,
        'machine': machine.describe(),
        'versions': versions,
        'missing': missing,
        **measured,
    }


def parse(command_line: Sequence[str]) -> argparse.Namespace:
    """Flags, with `cases` from whichever of them choose the cases."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.transforms',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--official', type=flags.checkout, help='checkout of spherical-cnn'
    )
    parser.add_argument(
        '--peers', type=_names, default=PEERS, help=f'of {",".join(PEERS)}'
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument('--quick', action='store_true', help='one small size')
    which.add_argument('--targets', action='store_true', help='what targets are about')
    parser.add_argument('--sizes', type=_sizes, help='e.g. 64x64,128x256')
    parser.add_argument(
        '--channels', type=flags.integers, help='fields per spin: 16,64'
    )
    parser.add_argument('--spins', type=_spins, help='e.g. 0,1,01')
    parser.add_argument('--rounds', type=int, help=f'default {ROUNDS}')
    parser.add_argument('--output', metavar='FILE', default=OUTPUT, help='of JSON')
    parser.add_argument(
        '--write', action='store_true', help='into RESULTS.md, if nothing failed'
    )
    arguments = parser.parse_args(command_line)
    if arguments.targets and (arguments.sizes or arguments.channels or arguments.spins):
        parser.error('--targets has its own sizes, channels and spins')
    chosen = arguments.quick or arguments.sizes or arguments.channels or arguments.spins
    if arguments.write and chosen:
        parser.error('--write is for all cases or --targets; leave the choice out')
    unknown = set(arguments.peers) - set(PEERS)
    if unknown:
        parser.error(f'expected --peers of {PEERS}, got {sorted(unknown)}')
    arguments.rounds = arguments.rounds or (QUICK_ROUNDS if arguments.quick else ROUNDS)
    arguments.cases = _cases(arguments)
    arguments.command = flags.command('benchmarks.transforms', command_line)
    return arguments


def _cases(arguments: argparse.Namespace) -> list[Case]:
    if arguments.targets:
        return [Case(n, n, channels, (0, 1)) for n, channels in TARGET_CASES]
    quick = arguments.quick
    sizes = arguments.sizes or (QUICK_SIZES if quick else SIZES)
    all_channels = arguments.channels or (QUICK_CHANNELS if quick else CHANNELS)
    return [
        Case(num_lat, num_lon, channels, spins)
        for num_lat, num_lon in sizes
        for spins in arguments.spins or SPINS
        for channels in all_channels
    ]


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(',') if name)


def _sizes(text: str) -> tuple[tuple[int, int], ...]:
    if not re.fullmatch(r'\d+x\d+(,\d+x\d+)*', text):
        raise argparse.ArgumentTypeError(
            f'expected ROWSxCOLUMNS, as 64x64,128x256, got {text}'
        )
    pairs = (size.split('x') for size in text.split(','))
    return tuple((int(rows), int(columns)) for rows, columns in pairs)


def _spins(text: str) -> tuple[tuple[int, ...], ...]:
    sets = tuple(tuple(map(int, spins)) for spins in text.split(','))
    if not set(sets) <= set(SPINS):
        raise argparse.ArgumentTypeError(f'expected some of 0,1,01, got {text}')
    return sets


def main(command_line: Sequence[str] | None = None) -> int:
    """Measures, prints and writes; returns 1 where something failed."""
    arguments = parse(sys.argv[1:] if command_line is None else command_line)
    result = run(arguments)
    report = transform_tables.report(result)
    print(report)
    results.write_json(arguments.output, result)
    if result['failures']:
        return 1
    if arguments.write:
        results.replace_section('transforms', report)
    return 0


if __name__ == '__main__':
    sys.exit(main())
