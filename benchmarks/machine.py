"""The machine that figures were measured on: what it is and how fast it was."""

import datetime
import os
import pathlib
import platform
import subprocess
from typing import Any

from benchmarks.harness import ROOT, Worker, environment, num_cores
from benchmarks.timing import Sample, take_turns

PROBE_KEY = 'machine'


class Speedometer:
    """float32 products and copies, measured now and then during a run.

    Args:
      worker: One whose peer has `probe`.
    """

    def __init__(self, worker: Worker):
        self._worker = worker
        self._facts = worker.probe(PROBE_KEY)
        self._seconds: dict[str, list[float]] = {'sgemm': [], 'copy': []}

    def measure(self, *, rounds: int = 3) -> None:
        """Adds `rounds` measurements of each."""
        clocks = {name: self._worker.clock(PROBE_KEY, name) for name in self._seconds}
        for name, sample in take_turns(clocks, rounds=rounds).items():
            self._seconds[name] += sample.values

    @property
    def sgemm_gflops(self) -> Sample:
        """GFLOP/s of a 2048x2048x2048 product."""
        return self._rate('sgemm', self._facts['sgemm_flops'])

    @property
    def copy_gb_per_s(self) -> Sample:
        """GB/s, read and written, of `a + 1` on 64 MiB."""
        return self._rate('copy', self._facts['copy_bytes'])

    def summary(self) -> dict[str, Any]:
        """For JSON."""
        return {
            'sgemm_gflops': self.sgemm_gflops.summary(),
            'copy_gb_per_s': self.copy_gb_per_s.summary(),
        }

    def _rate(self, name: str, amount: float) -> Sample:
        sample = Sample(tuple(self._seconds[name]))
        return sample.map(lambda seconds: amount / seconds / 1e9)


def describe() -> dict[str, Any]:
    """Date, processor, memory, system, commit; versions are the workers'."""
    pages, page_bytes = os.sysconf('SC_PHYS_PAGES'), os.sysconf('SC_PAGE_SIZE')
    return {
        'date': datetime.datetime.now(datetime.UTC).strftime('%Y-%m-%d %H:%M UTC'),
        'cpu': cpu_model(),
        'cores': num_cores(),
        'memory_gib': round(pages * page_bytes / 2**30, 1),
        'os': f'{platform.system()} {platform.release()}',
        'python': platform.python_version(),
        'commit': commit(),
        'tunables': environment()['GLIBC_TUNABLES'],
    }


def cpu_model() -> str:
    """As /proc/cpuinfo names it; elsewhere as Python does."""
    path = pathlib.Path('/proc/cpuinfo')
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(':', 1)[1] for line in lines if line.startswith('model name')]
    return names[0].strip() if names else platform.processor()


def commit() -> str:
    """Hash of the checkout, `+` where files differ from it; unknown without git."""
    try:
        name = _git('rev-parse', '--short', 'HEAD')
        # Only code: figures and tables are what is being changed.
        changed = _git('status', '--porcelain', '--', '*.py')
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'
    return name + '+' * bool(changed)


def _git(*arguments: str) -> str:
    command = ['git', '-C', str(ROOT), *arguments]
    return subprocess.run(
        command, capture_output=True, check=True, text=True
    ).stdout.strip()
