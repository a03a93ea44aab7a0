from benchmarks import machine


class FakeWorker:
    """Multiplies 100 GFLOP in half a second, copies 2 GB in a tenth."""

    def probe(self, key):
        return {'sgemm_flops': 100e9, 'copy_bytes': 2e9}

    def clock(self, key, operation):
        return lambda *, calls, warm_ups: {'sgemm': 0.5, 'copy': 0.1}[operation]


def test_rates_are_amounts_over_seconds():
    speedometer = machine.Speedometer(FakeWorker())
    speedometer.measure(rounds=2)
    speedometer.measure(rounds=3)
    assert speedometer.sgemm_gflops.values == (200,) * 5
    assert speedometer.copy_gb_per_s.median == 20
    assert set(speedometer.summary()) == {'sgemm_gflops', 'copy_gb_per_s'}


def test_the_machine_is_described():
    found = machine.describe()
    assert found['cores'] >= 1 and found['memory_gib'] > 0
    assert found['date'].endswith('UTC') and found['cpu'] and found['commit']


def test_a_folder_without_git_has_no_commit(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, 'ROOT', tmp_path)
    assert machine.commit() == 'unknown'
