import pytest

from benchmarks import harness, transform_tables, transforms
from benchmarks.cases import Case
from tests.benchmarks.fakes import MACHINE

TUNED = {'round_trip': {'0': {'max_relative': 1e-6}}}
ERRORS = {'max_relative': 1e-7, 'max_abs': 4e-7, 'rms': 1e-8, 'coefficients': 9}


class FakeWorker:
    """Transforms everything in the same time, forward; twice that, inverse."""

    def __init__(self, name, seconds, *, variants=(), fails=''):
        self.name, self.seconds, self.variants = name, seconds, dict(variants)
        self.fails, self.alive, self.held = fails, True, set()

    def prepare(self, key, case):
        if self.fails == 'prepare':
            self.fail()
        self.held.add(key)
        spins = map(str, case['spins'])
        return {
            'init_seconds': 0.5,
            'compile_seconds': 1.0,
            'table_bytes': 2**20,
            'round_trip': dict.fromkeys(spins, ERRORS),
            'variants': self.variants,
        }

    def fail(self):
        raise harness.WorkerError(self.name, 'failed\nValueError: why')

    def probe(self, key):
        return {'sgemm_flops': 1e9, 'copy_bytes': 1e9}

    def clock(self, key, operation):
        seconds = self.seconds * (2 if operation.startswith('inverse') else 1)
        if self.fails == 'time':
            return lambda *, calls, warm_ups: self.fail()
        return lambda *, calls, warm_ups: seconds

    def release(self, key):
        self.held.remove(key)


def measure(cases, *workers):
    team = harness.Team({worker.name: worker for worker in workers}, {})
    measured = transforms.Run(team, rounds=2).measure(cases)
    return {
        'machine': MACHINE,
        'versions': {'jax': '1.0'},
        'command': 'python -m benchmarks.transforms',
        'missing': {'ducc0': 'ducc0 is not installed'},
        **measured,
    }


def figures(result, library, number=0):
    return result['cases'][number]['libraries'][library]


SELF = ('spherecast', 0.01)
SMALL = Case(64, 64, channels=64, spins=(0, 1))


def test_ratios_are_peer_over_spherecast():
    result = measure([SMALL], FakeWorker(*SELF), FakeWorker('torch_harmonics', 0.03))
    ratio = figures(result, 'torch_harmonics')['ratio']
    assert {k: v['median'] for k, v in ratio.items()} == pytest.approx(
        {'forward': 3, 'inverse': 3, 'both': 3}
    )
    both = figures(result, 'spherecast')['both']
    assert both['median'] == pytest.approx(0.03)


def test_cases_are_released_when_measured():
    workers = FakeWorker(*SELF), FakeWorker('ducc0', 0.1, variants={'tuned': TUNED})
    measure([SMALL, Case(16, 16, 2, (0,))], *workers)
    assert not any(worker.held for worker in workers)


def test_variants_are_libraries_of_their_own():
    ducc0 = FakeWorker('ducc0', 0.1, variants={'tuned': TUNED})
    result = measure([SMALL], FakeWorker(*SELF), ducc0)
    assert list(result['cases'][0]['libraries']) == [
        'spherecast',
        'ducc0',
        'ducc0 tuned',
    ]
    assert figures(result, 'ducc0')['facts']['round_trip']['0'] == ERRORS
    assert figures(result, 'ducc0 tuned')['facts'] == {
        **figures(result, 'ducc0')['facts'],
        **TUNED,
    }


def test_official_is_compared_with_complex_scalars_too():
    result = measure([SMALL], FakeWorker(*SELF), FakeWorker('official', 1.0))
    assert figures(result, 'spherecast, complex scalars')
    assert set(figures(result, 'official')) >= {'ratio', 'ratio_like_for_like'}


@pytest.mark.parametrize('when', ['prepare', 'time'])
def test_a_peer_that_fails_is_left_out_and_named(when):
    broken = FakeWorker('torch_harmonics', 1.0, fails=when)
    result = measure([SMALL], FakeWorker(*SELF), broken)
    assert list(result['cases'][0]['libraries']) == ['spherecast']
    assert 'ValueError: why' in result['failures'][0]
    assert 'ValueError: why' in transform_tables.report(result)


def test_efficiency_is_operations_over_time():
    case = Case(16, 16, channels=1, spins=(0,))
    own = figures(measure([case], FakeWorker(*SELF)), 'spherecast')
    forward, inverse, both = (own[k]['gflops'] for k in ('forward', 'inverse', 'both'))
    assert forward == pytest.approx(2 * inverse)
    assert both == pytest.approx(2 / (1 / forward + 1 / inverse))
    assert own['forward']['ns_per_value'] == pytest.approx(0.01e9 / 256)


def test_the_report_has_every_figure_and_says_what_is_missing():
    result = measure([SMALL], FakeWorker(*SELF), FakeWorker('torch_harmonics', 0.03))
    report = transform_tables.report(result)
    for text in ('a processor', 'abc1234', 'jax 1.0', '3.00', 'ducc0 is not installed'):
        assert text in report


def targets(*workers, case=SMALL):
    result = measure([case], *workers)
    return {target.name: target for target in transform_tables.targets(result)}


@pytest.mark.parametrize('seconds,verdict', [(0.011, 'pass'), (0.009, 'FAIL')])
def test_a_target_is_passed_or_not(seconds, verdict):
    peer = FakeWorker('torch_harmonics', seconds)
    found = targets(FakeWorker(*SELF), peer)
    assert found[f'torch_harmonics / spherecast, {SMALL}'].verdict == verdict
    assert found[f'ducc0 / spherecast, {SMALL}'].verdict == 'not measured'


def test_targets_of_tables_and_accuracy_are_about_the_largest_grid():
    large = targets(FakeWorker(*SELF), case=Case(256, 256, 16, (0, 1)))
    assert large['tables, 256x256, spins 0,1: MiB'].value == 1
    assert large['create, 256x256, spins 0,1: s'].verdict == 'pass'
    assert large['round trip, 256x256, spin 1: max_relative'].verdict == 'pass'
    small = targets(FakeWorker(*SELF))
    assert small['tables, 256x256, spins 0,1: MiB'].verdict == 'not measured'


def test_by_default_every_combination_is_measured():
    cases = transforms.parse([]).cases
    assert len(cases) == len(set(cases)) == 3 * 2 * 3 * 3


def test_targets_have_their_own_cases():
    cases = transforms.parse(['--targets']).cases
    assert {str(case) for case in cases} == {
        '64x64, spins 0,1, 64 each',
        '128x128, spins 0,1, 64 each',
        '256x256, spins 0,1, 64 each',
        '256x256, spins 0,1, 16 each',
    }


def test_flags_choose_cases():
    flags = ['--sizes=16x32', '--channels=2,3', '--spins=1,01', '--rounds=4']
    arguments = transforms.parse(flags)
    assert arguments.rounds == 4
    assert arguments.cases == [
        Case(16, 32, channels, spins) for spins in ((1,), (0, 1)) for channels in (2, 3)
    ]


@pytest.mark.parametrize(
    'flags',
    [
        ['--peers=nobody'],
        ['--targets', '--spins=0'],
        ['--sizes=64'],
        ['--spins=2'],
        ['--official=nowhere'],
        ['--quick', '--write'],
        ['--channels=16', '--write'],
    ],
)
def test_flags_that_make_no_sense_are_refused(flags, capsys):
    with pytest.raises(SystemExit):
        transforms.parse(flags)
    assert 'error' in capsys.readouterr().err


def test_libraries_get_the_cases_that_they_support():
    vectors = Case(128, 128, channels=16, spins=(0, 1))
    assert not transforms.supports('dinosaur', vectors)
    assert transforms.supports('s2fft', vectors)
    assert not transforms.supports('official', Case(128, 256, 64, (0, 1)))
    assert transforms.supports('official', Case(256, 256, 16, (0, 1)))
    assert not transforms.supports('official', Case(256, 256, 64, (0, 1)))
    assert transforms.supports('torch_harmonics', Case(256, 512, 128, (0, 1)))
