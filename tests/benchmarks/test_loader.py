"""What is compared reads the same, and the verdicts are those of the targets."""

import numpy as np
import pytest

from benchmarks import loader, loading, stores
from weather.data.loader import Loader
from weather.data.windows import WindowIndex

GRID = stores.size_of('16x16')


@pytest.mark.parametrize('kind', ['v3 zstd', 'v2 lz4', 'v3 int16 raw'])
def test_bare_loops_and_the_loader_read_the_same(tmp_path, kind):
    store = stores.write(tmp_path, kind, GRID, num_times=5)
    assert stores.write(tmp_path, kind, GRID, num_times=5) == store
    atmosphere = loading._open(store)
    windows = WindowIndex(atmosphere.times, period=('2001', '2001'))
    batch = Loader(atmosphere, windows, batch_size=1, seed=0).batch(0, 3)
    hours = atmosphere.times.astype('datetime64[h]').astype(int)
    start = int(np.flatnonzero(hours == batch.valid_times[0, 0])[0])
    bare = loading.Bare(store, atmosphere, 2, 4)
    bare.decode(start, bare.same)
    for name, values in batch.fields.items():
        np.testing.assert_array_equal(values[0], bare.same[name])


def test_readers_read_the_same(tmp_path):
    store = stores.write(tmp_path, 'v3 sharded zstd', GRID, num_times=16)
    with_zarr = loading._zarr(store, loading._ZARR)('temperature', 9)
    with_tensorstore = loading._tensorstore(store)('temperature', 9)
    np.testing.assert_array_equal(with_zarr, with_tensorstore)


def test_windows_of_the_benchmark_share_no_time(tmp_path):
    times = np.datetime64('2001-01-01', 'ns') + np.arange(30) * np.timedelta64(6, 'h')
    starts = loading._Apart(times, period=('2001', '2001')).starts(12)
    assert starts.tolist() == [0, 13]


def found(share, memory, read):
    shares = {
        name: {'median': share}
        for name in ('loader', 'bare', 'bare, used again', 'disk')
    }
    return {
        'loader v3 raw, 12 steps': {
            'shares': shares,
            'seconds': {'loader': {'median': 2.0}},
            'samples': 4,
            'sample_bytes': 10**9,
            'stored_bytes': 5 * 10**8,
        },
        'memory v3 raw': {'bytes_more': memory, 'bytes_bound': 100},
        'overlap, cache 1 GB': {'amplification': read},
    }


def test_verdicts_are_those_of_the_issue():
    good = loader.targets(found(0.81, 109, 1.0))
    assert [target.verdict for target in good] == ['pass'] * 3
    bad = loader.targets(found(0.79, 111, 1.01))
    assert [target.verdict for target in bad] == ['FAIL'] * 3


def test_the_table_shows_rates_of_fields_and_files():
    measured = {'loader v3 raw, 12 steps': found(0.9, 0, 1)['loader v3 raw, 12 steps']}
    row = loader.loader_table(measured).splitlines()[-1]
    assert [cell.strip() for cell in row.split('|')[1:6]] == [
        'v3 raw, 12 steps',
        '2.0',
        '2.00',
        '1.00',
        '0.90',
    ]


def test_the_demo_needs_its_planet(capsys):
    with pytest.raises(SystemExit):
        loader.parse(['--folder=x', '--parts=demo'])
    assert '--planet' in capsys.readouterr().err
