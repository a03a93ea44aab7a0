"""Peaks are those of the process that is measured; stores differ in length alone."""

import json

import pytest

from benchmarks import data_memory
from weather.data import store
from weather.experiment import Experiment


def test_a_peak_is_that_of_the_process_alone():
    small = data_memory.measure_program('pass')
    large = data_memory.measure_program('size = 2**27; x = b"x" * size')
    again = data_memory.measure_program('pass')
    # 128 MiB, within a tenth: what an interpreter needs differs by less.
    assert large.peak_mib - small.peak_mib == pytest.approx(128, rel=0.1)
    assert again.peak_mib == pytest.approx(small.peak_mib, abs=8)


def test_a_command_that_fails_says_why():
    with pytest.raises(RuntimeError, match='ZeroDivisionError'):
        data_memory.measure_program('1 / 0')


def test_stores_are_atmospheres_of_the_config(tmp_path, monkeypatch):
    monkeypatch.setattr(data_memory, 'NUM_LAT', 8)
    monkeypatch.setattr(data_memory, 'NUM_LON', 16)
    data_memory.write_store(tmp_path / 'store.zarr', 130)
    config = tmp_path / 'config.json'
    data_memory.write_config(config, tmp_path / 'store.zarr', 130)
    setup = Experiment.from_config(json.loads(config.read_text()))
    found = store.open_atmosphere(
        setup.data.store,
        levels=setup.data.stored.levels,
        statics=setup.data.statics,
        grid=setup.grid,
    )
    assert len(found.times) == 130
    assert str(found.times[-1]).startswith(setup.data.train[1])
    assert found.fields['temperature'].chunks['time'] == 1


def test_targets_are_of_the_growth_and_of_what_is_above_idle():
    result = {
        'idle': {'peak_mib': 400.0, 'seconds': 1.0},
        'times': [
            {'task': 'check', 'num_times': 100, 'peak_mib': 500.0, 'seconds': 2.0},
            {'task': 'check', 'num_times': 1000, 'peak_mib': 600.0, 'seconds': 9.0},
        ],
        'global': [
            {'time_chunk': 1, 'bound_mib': 512, 'peak_mib': 900.0, 'seconds': 3.0}
        ],
    }
    growth, above, of_globe = data_memory.targets(result)
    assert growth.value == pytest.approx(1.2) and growth.verdict == 'FAIL'
    assert above.value == pytest.approx(200) and above.verdict == 'pass'
    assert of_globe.value == pytest.approx(500) and of_globe.verdict == 'pass'
    assert 'climatology 721x1440, bound 512 MiB' in data_memory.report(result)
