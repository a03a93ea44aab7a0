"""A preflight finds everything that a job would stop at, and what reading costs."""

import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from tests import emulator, faulty_proxy
from tests.weather import tiny
from weather.data.faults import Fault, FaultList, write_faults
from weather.data.preflight import preflight, window_cost
from weather.experiment import Experiment

ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.fixture
def planet(tmp_path):
    tiny.write_store(tmp_path / 'planet.zarr')
    return tmp_path / 'planet.zarr'


def changed(path, **data):
    entries = tiny.entries(path)
    entries['data'] |= data
    return Experiment.from_config(entries)


def test_what_is_right_is_described(planet):
    report = preflight(tiny.setup(planet))
    assert report.problems == []
    text = '\n'.join(report.lines)
    for part in (
        f'atmosphere: {planet}',
        'reached on disk',
        'time 40, level 2, latitude 8, longitude 16',
        'levels: 500 850 hPa',
        'times: 2001-01-01T00:00 to 2001-01-10T18:00, every 6 h',
        'wanted: 6 variables and statics, found 6',
        'train: 2001-01-01 to 2001-01-07; 27 windows of 1 steps',
        'temperature: 1 time x 2 level x 8 latitude x 16 longitude; 1.0',
        # 4 variables at 2 levels on 8 x 16 points of 4 bytes.
        'one time: 4.1 kB used, 4.1 kB read (amplification 1.0)',
        'an epoch of 28 times: 115 kB if each field is read once',
    ):
        assert part in text, text


def test_windows_are_those_of_training(planet):
    """Of the model's step, and without the times that a check found faulty."""
    time = np.datetime64('2001-01-02T06', 'ns')
    fault = Fault('temperature', 850.0, time, 'NaN', '128 of 128 values')
    write_faults(FaultList(str(planet), {}, [fault]))
    validation = ('2001-01-08', '2001-01-09')
    report = preflight(changed(planet, timestep_hours=12, validation=validation))
    assert report.problems == []
    # Of 28 times the last two begin none, and two windows touch the fault.
    found = next(line for line in report.lines if line.startswith('  train: '))
    assert '24 windows of 1 steps' in found and 'unusable, as is known: 1' in found


def test_a_step_that_the_store_has_not_is_a_problem(planet):
    report = preflight(changed(planet, timestep_hours=9))
    assert len(report.problems) == 1
    assert 'expected data.timestep_hours as a multiple' in report.problems[0]


def test_all_that_is_missing_is_listed_at_once(planet):
    setup = changed(
        planet,
        variables={
            'geopotential': (500, 700),
            'temperature': (850,),
            'specific_humidity': (850,),
            'u_component_of_wind': (850,),
            'v_component_of_wind': (850,),
        },
        statics=('land_sea_mask',),
        validation=('2001-01-08', '2001-01-20'),
        test=('2005-01-01', '2005-01-02'),
    )
    report = preflight(setup, others={'climatology': str(planet) + '.not'})
    problems = '\n'.join(report.problems)
    for part in (
        'geopotential: levels [700] hPa are not there',
        'specific_humidity: not there',
        'data.validation: 2001-01-08 to 2001-01-20 is not all there',
        'data.test: expected times between 2005-01-01 and 2005-01-02',
        'climatology: expected a Zarr store',
        'did you mean',
    ):
        assert part in problems, problems
    assert len(report.problems) == 5
    # What is there is described all the same.
    assert any('amplification' in line for line in report.lines)


def test_a_name_misspelt_in_the_store_is_guessed(planet):
    with xr.open_zarr(planet) as found:
        renamed = found.load().rename(temperature='temperatur')
    renamed.drop_encoding().to_zarr(f'{planet}2', zarr_format=2)
    report = preflight(tiny.setup(f'{planet}2'))
    assert report.problems == ["temperature: not there, did you mean 'temperatur'?"]


def test_another_grid_is_a_problem_as_it_is_in_training(planet):
    entries = tiny.entries(planet)
    entries['grid'] = {'kind': 'gauss', 'num_lat': 16, 'num_lon': 32}
    report = preflight(Experiment.from_config(entries))
    assert len(report.problems) == 1
    assert 'grid' in report.problems[0]


def laid_out(levels, chunks, times=100):
    """A variable of which only the layout matters."""
    field = xr.DataArray(
        np.broadcast_to(np.float32(0), (times, len(levels), 8, 16)),
        dims=('time', 'level', 'latitude', 'longitude'),
        coords={'level': levels},
    )
    field.encoding['preferred_chunks'] = chunks
    return field


def test_levels_in_one_chunk_are_all_read():
    chunks = {'time': 1, 'level': 37, 'latitude': 8, 'longitude': 16}
    cost = window_cost(laid_out(list(range(37)), chunks), range(13), 4)
    assert cost.read / cost.used == pytest.approx(37 / 13)  # 2.8


def test_the_last_chunk_of_an_axis_is_not_larger_than_the_axis():
    chunks = {'time': 1, 'level': 2, 'latitude': 5, 'longitude': 16}
    cost = window_cost(laid_out([1, 2, 3], chunks), [3], 1)
    assert cost == (8 * 16, 8 * 16)


@pytest.mark.parametrize(('length', 'chunk'), [(1, 1), (1, 10), (3, 10), (13, 4)])
def test_times_that_are_read_agree_with_counting_over_all_starts(length, chunk):
    chunks = {'time': chunk, 'level': 1, 'latitude': 8, 'longitude': 16}
    cost = window_cost(laid_out([500], chunks, times=10_000), [500], length)
    starts = np.arange(chunk)
    touched = (starts + length - 1) // chunk - starts // chunk + 1
    assert cost.read == pytest.approx(chunk * touched.mean() * 8 * 16)
    assert cost.used == length * 8 * 16


def command(*flags):
    return subprocess.run(
        [sys.executable, 'scripts/preflight.py', *flags],
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_command_says_how_an_address_was_reached_and_ends_with_1(planet, tmp_path):
    with emulator.running() as url, faulty_proxy.between(url) as seen:
        address = emulator.upload(planet, url, 'planet.zarr')
        options = {'endpoint_url': seen.url}
        late = ('2005-01-01', '2005-01-02')
        setup = changed(address, storage_options=options, test=late)
        config = tmp_path / 'config.json'
        config.write_text(json.dumps(setup.to_dict()))
        done = command(f'--config={config}')
    assert done.returncode == 1, done.stdout + done.stderr
    assert 'reached anonymously in' in done.stdout
    assert re.search(r'read 4\.1 kB .* on the way', done.stdout), done.stdout
    assert 'a job would stop at' in done.stderr
    assert 'data.test: expected times between 2005-01-01' in done.stderr
