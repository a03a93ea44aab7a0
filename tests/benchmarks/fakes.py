"""What several tests of the benchmarks stand on."""

MACHINE = {
    'date': '2026-01-02 03:04 UTC',
    'cpu': 'a processor',
    'cores': 2,
    'memory_gib': 8.0,
    'os': 'Linux 6',
    'python': '3.11.7',
    'commit': 'abc1234',
    'tunables': 'glibc.malloc.hugetlb=1',
}
