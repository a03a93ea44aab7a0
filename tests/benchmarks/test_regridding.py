"""The regridding benchmark: its figures, on small grids."""

import json

import pytest

from benchmarks import regridding
from sphere_ops.grid import LatLonGrid


def test_it_writes_rates_and_differences(tmp_path, monkeypatch, capsys):
    sizes = {'SOURCE': (19, 36), 'TARGET': (9, 16)}
    for name, (num_lat, num_lon) in sizes.items():
        grid = LatLonGrid('equiangular_with_poles', num_lat=num_lat, num_lon=num_lon)
        monkeypatch.setattr(regridding, name, grid)
    output = tmp_path / 'regridding.json'
    regridding.main([f'--output={output}', '--rounds=1', '--threads=1'])
    found = json.loads(output.read_text())
    rates = found['fields_per_second']
    assert set(rates) == {
        f'{name}, 1 threads' for name in ('conservative', 'spectral', 'spectral, winds')
    }
    assert all(rate['median'] > 0 for rate in rates.values())
    assert found['differences']['global mean'] < regridding.LARGEST_SHIFT
    assert '42 years' in capsys.readouterr().out


def test_a_folder_that_is_no_checkout_is_refused(tmp_path):
    with pytest.raises(SystemExit):
        regridding.main([f'--weatherbench2={tmp_path}'])
