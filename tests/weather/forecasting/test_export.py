"""Written forecasts reopen as the states they were, with CF and WB2 metadata."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading

import netCDF4
import numpy as np
import pytest
import xarray as xr
import zarr

from learning.files import OutputError, read_mark, temporary_name
from sphere_ops.grid import LatLonGrid
from weather.data.forecasts import DIMS, open_forecasts
from weather.forecasting.export import (
    ForecastLayout,
    ForecastWriter,
    NetcdfWriter,
    ThreadedWriter,
    ZarrWriter,
    finished_starts,
    open_writer,
    to_dataset,
)
from weather.variables import ChannelIndex, get_variable

LEVELS = {
    'geopotential': (500, 850, 250),
    'specific_humidity': (850,),
    'u_component_of_wind': (850, 250),
    'v_component_of_wind': (850, 250),
    'mean_sea_level_pressure': (),
}
FORMATS = ('forecasts', 'forecasts.zarr')


def make_layout(**changes):
    arguments = dict(
        channels=ChannelIndex(LEVELS),
        grid=LatLonGrid('equiangular_with_poles', num_lat=5, num_lon=8),
        init_times=np.array(['2020-01-01T00', '2020-01-01T12'], 'datetime64[h]'),
        # Lead 0 and latitude 0 are there because zeros are the first to be lost to a
        # fill value.
        lead_times=np.array([0, 6, 12, 30], 'timedelta64[h]'),
        provenance={
            'config_hash': '0123abcd',
            'checkpoint': 'checkpoints/400',
            'git_commit': 'deadbeef',
            'data_store': 'sample.zarr',
        },
    )
    return ForecastLayout(**{**arguments, **changes})


def make_states(layout):
    """Random, and plausible: within the middle half of each variable's range."""
    shape = (len(layout.init_times), len(layout.lead_times), *layout.state_shape)
    ranges = np.array([get_variable(c.variable).plausible for c in layout.channels])
    low, high = ranges.T
    share = np.random.default_rng(7).uniform(0.25, 0.75, size=shape)
    return (low + share * (high - low)).astype(np.float32)


def write_all(writer, states):
    with writer:
        for lead in range(states.shape[1]):
            writer.write(lead, states[:, lead])


@pytest.fixture(params=FORMATS)
def path(request, tmp_path):
    return tmp_path / request.param


def test_every_channel_reopens_bit_equal(path):
    layout = make_layout()
    states = make_states(layout)
    write_all(open_writer(path, layout), states)
    with open_forecasts(path) as forecasts:
        for channel in layout.channels:
            values = forecasts[channel.variable]
            if channel.level is not None:
                values = values.sel(level=channel.level)
            assert values.dtype == np.float32
            expected = states[..., layout.channels[channel]]
            np.testing.assert_array_equal(values.values, expected)


def test_schema_is_that_of_weatherbench_2(path):
    layout = make_layout()
    write_all(open_writer(path, layout), make_states(layout))
    with open_forecasts(path) as forecasts:
        assert forecasts.geopotential.dims == DIMS
        assert forecasts.mean_sea_level_pressure.dims == tuple(
            name for name in DIMS if name != 'level'
        )
        np.testing.assert_array_equal(forecasts.time, layout.init_times)
        np.testing.assert_array_equal(forecasts.prediction_timedelta, layout.lead_times)
        np.testing.assert_array_equal(forecasts.level, [250, 500, 850])
        np.testing.assert_array_equal(forecasts.latitude, layout.grid.latitudes)
        np.testing.assert_array_equal(forecasts.longitude, layout.grid.longitudes)
        assert forecasts.level.dtype.kind == 'i'
        assert forecasts.geopotential.attrs['units'] == 'm2 s-2'
        assert forecasts.attrs['config_hash'] == '0123abcd'


def test_levels_that_a_variable_lacks_are_nan(path):
    layout = make_layout()
    write_all(open_writer(path, layout), make_states(layout))
    with open_forecasts(path) as forecasts:
        humidity = forecasts.specific_humidity
        assert np.isnan(humidity.sel(level=[250, 500]).values).all()
        assert np.isfinite(humidity.sel(level=850).values).all()


def test_in_memory_dataset_equals_the_stores(path):
    layout = make_layout()
    states = make_states(layout)
    write_all(open_writer(path, layout), states)
    with open_forecasts(path) as forecasts:
        xr.testing.assert_equal(to_dataset(states, layout), forecasts)


def test_states_without_any_level(path):
    layout = make_layout(channels=ChannelIndex({'2m_temperature': ()}))
    states = make_states(layout)
    write_all(open_writer(path, layout), states)
    with open_forecasts(path) as forecasts:
        assert 'level' not in forecasts.dims
        np.testing.assert_array_equal(forecasts['2m_temperature'], states[..., 0])


def test_times_that_are_not_whole_hours_survive(path):
    layout = make_layout(
        init_times=np.array(['2020-01-01T00:30'], 'datetime64[m]'),
        lead_times=np.array([20, 40], 'timedelta64[m]'),
    )
    write_all(open_writer(path, layout), make_states(layout))
    with open_forecasts(path) as forecasts:
        np.testing.assert_array_equal(forecasts.time, layout.init_times)
        np.testing.assert_array_equal(forecasts.prediction_timedelta, layout.lead_times)


def test_zarr_is_what_plain_xarray_opens_with_weatherbench_dtypes(tmp_path):
    layout = make_layout()
    states = make_states(layout)
    write_all(ZarrWriter(tmp_path / 'f.zarr', layout), states)
    with xr.open_zarr(
        tmp_path / 'f.zarr', decode_timedelta=True, chunks=None, consolidated=True
    ) as opened:
        assert opened.prediction_timedelta.dtype == 'timedelta64[ns]'
        assert opened.time.dtype.kind == 'M'
        assert np.isnan(opened.geopotential.encoding['_FillValue'])
        assert opened.geopotential.encoding['chunks'] == (1, 1, 3, 5, 8)
    with xr.open_zarr(tmp_path / 'f.zarr', chunks=None) as opened:
        assert opened.prediction_timedelta.dtype == 'timedelta64[ns]'


def test_netcdf_has_decoded_times_in_plain_xarray(tmp_path):
    layout = make_layout()
    write_all(NetcdfWriter(tmp_path, layout), make_states(layout))
    with xr.open_dataset(tmp_path / 'forecast_20200101T1200.nc') as opened:
        np.testing.assert_array_equal(
            opened.time, layout.init_times[1] + layout.lead_times
        )
        np.testing.assert_array_equal(opened.forecast_period, layout.lead_times)
        np.testing.assert_array_equal(
            opened.forecast_reference_time, layout.init_times[1:]
        )
        assert set(opened.geopotential.coords) == {
            'time',
            'level',
            'latitude',
            'longitude',
            'forecast_period',
        }


def test_netcdf_chunk_is_one_lead_time_compressed_lightly(tmp_path):
    layout = make_layout()
    write_all(NetcdfWriter(tmp_path, layout), make_states(layout))
    with netCDF4.Dataset(tmp_path / 'forecast_20200101T0000.nc') as file:
        variable = file['geopotential']
        assert variable.chunking() == [1, 3, 5, 8]
        assert variable.filters()['zlib'] and variable.filters()['shuffle']
        assert variable.filters()['complevel'] == 1
        assert np.isnan(variable._FillValue)


def test_compliance_checker_has_only_the_names_that_start_with_a_digit_to_report(
    tmp_path,
):
    # All kinds of variable: with and without levels, temperatures (CF-1.11 wants to
    # know that they are no differences), and a WeatherBench 2 name that CF discourages.
    levels = {**LEVELS, 'temperature': (850,), 'vertical_velocity': (500,)}
    layout = make_layout(channels=ChannelIndex({**levels, '2m_temperature': ()}))
    write_all(NetcdfWriter(tmp_path / 'f', layout), make_states(layout))
    report = run_compliance_checker(tmp_path / 'f' / 'forecast_20200101T0000.nc')
    assert messages(report, 'high_priorities') == []
    (warning,) = messages(report, 'medium_priorities', 'low_priorities')
    assert '2m_temperature should begin with a letter' in warning


def messages(report, *priorities):
    return [
        message
        for priority in priorities
        for check in report[priority]
        for message in check['msgs']
    ]


def run_compliance_checker(file):
    output = file.with_suffix('.json')
    command = pathlib.Path(sys.executable).with_name('compliance-checker')
    subprocess.run(
        [command, '--test=cf:1.11', '--format=json', f'--output={output}', file],
        check=False,  # It counts warnings as failures.
        timeout=120,
    )
    return json.loads(output.read_text())['cf:1.11']


def test_starts_may_be_written_in_groups(path):
    layout = make_layout()
    states = make_states(layout)
    with open_writer(path, layout) as writer:
        for start in range(2):
            for lead in range(4):
                writer.write(
                    lead,
                    states[start : start + 1, lead],
                    starts=slice(start, start + 1),
                )
    with open_forecasts(path) as forecasts:
        xr.testing.assert_equal(forecasts, to_dataset(states, layout))


def test_exception_leaves_nothing(path):
    layout = make_layout()
    states = make_states(layout)
    with pytest.raises(KeyboardInterrupt), open_writer(path, layout) as writer:
        writer.write(0, states[:, 0])
        raise KeyboardInterrupt
    assert list(path.parent.iterdir()) == []


def test_finished_starts_outlive_a_later_exception(tmp_path):
    layout = make_layout()
    states = make_states(layout)
    with pytest.raises(KeyboardInterrupt), NetcdfWriter(tmp_path, layout) as writer:
        for lead in range(4):
            writer.write(lead, states[:1, lead], starts=slice(0, 1))
        writer.write(0, states[1:, 0], starts=slice(1, 2))
        raise KeyboardInterrupt
    assert [file.name for file in tmp_path.iterdir()] == ['forecast_20200101T0000.nc']


def test_missing_lead_time_is_an_error_and_leaves_nothing(path):
    layout = make_layout()
    states = make_states(layout)
    with (
        pytest.raises(ValueError, match='first is the forecast from .* at 30 h'),
        open_writer(path, layout) as writer,
    ):
        for lead in range(3):
            writer.write(lead, states[:, lead])
    assert list(path.parent.iterdir()) == []


def test_existing_forecasts_are_kept_unless_overwriting(path):
    layout = make_layout()
    states = make_states(layout)
    write_all(open_writer(path, layout), states)
    with pytest.raises(OutputError, match='--overwrite'):
        open_writer(path, layout)
    others = states[::-1]
    write_all(open_writer(path, layout, overwrite=True), others)
    with open_forecasts(path) as forecasts:
        xr.testing.assert_equal(forecasts, to_dataset(others, layout))


def test_members_are_an_axis_of_their_own_in_both_forms(path):
    layout = make_layout(num_members=3)
    states = make_states(layout)
    write_all(open_writer(path, layout), states)
    with open_forecasts(path) as forecasts:
        expected = to_dataset(states, layout)
        opened = forecasts.rename(member='number').transpose(*expected.dims)
        xr.testing.assert_equal(opened, expected)
        third = forecasts.geopotential.sel(member=2, level=500)
        channel = layout.channels['geopotential', 500]
        np.testing.assert_array_equal(third, states[:, :, 2, ..., channel])


def test_members_in_netcdf_are_a_realization_left_of_the_time(tmp_path):
    layout = make_layout(num_members=2)
    write_all(NetcdfWriter(tmp_path / 'f', layout), make_states(layout))
    with netCDF4.Dataset(tmp_path / 'f' / 'forecast_20200101T0000.nc') as file:
        dims = ('realization', 'time', 'level', 'latitude', 'longitude')
        assert file['geopotential'].dimensions == dims
        assert file['realization'].standard_name == 'realization'
        assert file['geopotential'].chunking() == [1, 1, 3, 5, 8]
    report = run_compliance_checker(tmp_path / 'f' / 'forecast_20200101T0000.nc')
    assert messages(report, 'high_priorities', 'medium_priorities') == []


def combine(folder, join, preprocess=lambda start: start):
    """What `xarray.open_mfdataset` does; that one needs dask, which is not required.

    Later versions of xarray want to be told what this one does unasked.
    """
    starts = [preprocess(xr.load_dataset(file)) for file in sorted(folder.glob('*.nc'))]
    return xr.combine_by_coords(
        starts, join=join, data_vars='all', coords='different', compat='equals'
    )


def test_starts_combine_into_one_data_set_aligned_by_valid_time(tmp_path):
    layout = make_layout()
    states = make_states(layout)
    write_all(NetcdfWriter(tmp_path, layout), states)
    found = combine(tmp_path, 'outer').mean_sea_level_pressure
    np.testing.assert_array_equal(found.forecast_reference_time, layout.init_times)
    channel = layout.channels['mean_sea_level_pressure', None]
    for start, init_time in enumerate(layout.init_times):
        of_start = found.isel(forecast_reference_time=start)
        of_lead = of_start.sel(time=init_time + layout.lead_times)
        np.testing.assert_array_equal(of_lead, states[start, ..., channel])
        np.testing.assert_array_equal(of_lead.forecast_period, layout.lead_times)
        assert of_start.isnull().sum() == found[0, 0].size * (found.sizes['time'] - 4)


def test_starts_combine_into_one_data_set_aligned_by_lead_time(tmp_path):
    layout = make_layout()
    states = make_states(layout)
    write_all(NetcdfWriter(tmp_path, layout), states)
    found = combine(
        tmp_path, 'exact', lambda start: start.swap_dims(time='forecast_period')
    )
    channel = layout.channels['mean_sea_level_pressure', None]
    np.testing.assert_array_equal(found.mean_sea_level_pressure, states[..., channel])
    valid_times = layout.init_times[:, None] + layout.lead_times
    np.testing.assert_array_equal(found.time, valid_times)


def test_time_is_the_record_dimension_and_no_field_names_coordinates(tmp_path):
    # ncra and ncrcat work along it; CDO warns of fields that name times.
    layout = make_layout()
    write_all(NetcdfWriter(tmp_path, layout), make_states(layout))
    with netCDF4.Dataset(tmp_path / 'forecast_20200101T0000.nc') as file:
        assert file.dimensions['time'].isunlimited()
        assert file['geopotential'].dimensions[0] == 'time'
        assert 'coordinates' not in file['geopotential'].ncattrs()
        assert 'coordinates' not in file.ncattrs()
        assert file['time'].chunking() == [4]


@pytest.mark.skipif(not shutil.which('ncrcat'), reason='NCO is not installed')
def test_nco_averages_and_appends_along_the_time(tmp_path):
    layout = make_layout()
    write_all(NetcdfWriter(tmp_path, layout), make_states(layout))
    files = sorted(map(str, tmp_path.glob('*.nc')))
    for command, size in (['ncra', files[0]], 1), (['ncrcat', *files], 8):
        subprocess.run([*command, str(tmp_path / 'out.nc'), '-O'], check=True)
        with netCDF4.Dataset(tmp_path / 'out.nc') as file:
            assert len(file.dimensions['time']) == size


@pytest.mark.skipif(not shutil.which('cdo'), reason='CDO is not installed')
def test_cdo_has_nothing_to_warn_of_and_knows_the_initialisation(tmp_path):
    layout = make_layout()
    write_all(NetcdfWriter(tmp_path, layout), make_states(layout))
    command = ['cdo', '-s', 'sinfon', str(tmp_path / 'forecast_20200101T1200.nc')]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stderr == ''
    assert 'ForecastRefTime =  2020-01-01T12:00:00' in done.stdout


def test_files_say_what_they_are(tmp_path):
    layout = make_layout()
    write_all(open_writer(tmp_path / 'f', layout), make_states(layout))
    write_all(open_writer(tmp_path / 'f.zarr', layout), make_states(layout))
    assert read_mark(tmp_path / 'f' / 'forecast_20200101T0000.nc') == 'forecast'
    assert read_mark(tmp_path / 'f.zarr') == 'forecasts'


def test_what_is_not_ours_and_what_is_read_is_never_replaced(tmp_path):
    layout = make_layout()
    store = tmp_path / 'store.zarr'
    xr.Dataset({'x': ('y', [1.0])}).to_zarr(store, zarr_format=2)
    foreign = tmp_path / 'f' / 'forecast_20200101T1200.nc'
    foreign.parent.mkdir()
    foreign.write_text('mine')
    before = {file: file.read_bytes() for file in tmp_path.rglob('*') if file.is_file()}
    for output, message in (
        (store, 'another Zarr store'),
        (foreign.parent, 'another file, which stays'),
        (foreign / 'f', 'expected a folder'),
    ):
        with pytest.raises(OutputError, match=message):
            open_writer(output, layout, overwrite=True)
    with pytest.raises(OutputError, match='is what is read'):
        open_writer(store, layout, overwrite=True, sources=(store,))
    with pytest.raises(OutputError, match='lies inside of the store'):
        open_writer(store / 'x', layout, overwrite=True, sources=(store,))
    after = {file: file.read_bytes() for file in tmp_path.rglob('*') if file.is_file()}
    assert after == before


def test_a_failed_replacement_leaves_the_old_forecasts(path):
    layout = make_layout()
    states = make_states(layout)
    write_all(open_writer(path, layout), states)
    with (
        pytest.raises(KeyboardInterrupt),
        open_writer(path, layout, overwrite=True) as writer,
    ):
        writer.write(0, states[:, 0])
        raise KeyboardInterrupt
    with open_forecasts(path) as forecasts:
        xr.testing.assert_equal(forecasts, to_dataset(states, layout))
    assert not list(path.parent.rglob('*.tmp'))


def test_finished_starts_are_those_of_the_same_forecasts(path):
    layout = make_layout()
    assert not finished_starts(path, layout).any()
    write_all(open_writer(path, layout), make_states(layout))
    assert finished_starts(path, layout).all()
    later = make_layout(init_times=layout.init_times + np.timedelta64(1, 'D'))
    if path.suffix == '.zarr':
        with pytest.raises(OutputError, match='time is another'):
            finished_starts(path, later)
    else:
        both = make_layout(
            init_times=np.concatenate([later.init_times, layout.init_times])
        )
        np.testing.assert_array_equal(finished_starts(path, both), [0, 0, 1, 1])


OTHERS = [
    (dict(provenance={'config_hash': 'ffff'}), "config_hash is '0123abcd' there"),
    (dict(lead_times=np.array([0, 6], 'timedelta64[h]')), 'is another'),
    (dict(num_members=2), 'is another'),
    (dict(channels=ChannelIndex({'geopotential': (250, 500, 850)})), 'other variables'),
]


@pytest.mark.parametrize(('change', 'message'), OTHERS)
def test_starts_of_other_forecasts_are_not_skipped(path, change, message):
    layout = make_layout()
    write_all(open_writer(path, layout), make_states(layout))
    other = make_layout(**change)
    with pytest.raises(OutputError, match=message):
        finished_starts(path, other)
    assert not finished_starts(path, other, overwrite=True).any()


@pytest.mark.parametrize(('change', 'message'), OTHERS)
def test_a_folder_never_gets_forecasts_that_do_not_belong_together(
    tmp_path, change, message
):
    layout = make_layout()
    write_all(open_writer(tmp_path / 'f', layout), make_states(layout))
    with pytest.raises(OutputError, match=f'one folder with .*{message}'):
        open_writer(
            tmp_path / 'f',
            make_layout(init_times=np.array(['2021-01-01'], 'datetime64[h]'), **change),
        )


def test_a_damaged_file_is_not_skipped(tmp_path):
    layout = make_layout()
    write_all(open_writer(tmp_path, layout), make_states(layout))
    file = tmp_path / 'forecast_20200101T1200.nc'
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(OutputError, match=r'T1200\.nc is there .* remove it yourself'):
        finished_starts(tmp_path, layout)


def test_leftovers_of_killed_runs_are_cleared_and_nothing_else(tmp_path):
    layout = make_layout()
    with open_writer(tmp_path / 'f.zarr', layout) as writer:
        # As the first version left a store of forecasts.
        shutil.copytree(writer._temporary, tmp_path / 'f.zarr.tmp')
        metadata = tmp_path / 'f.zarr.tmp' / '.zattrs'
        attributes = json.loads(metadata.read_text())
        del attributes['spherecast_kind']
        metadata.write_text(
            json.dumps({**attributes, 'title': 'Forecasts of spherecast, run x'})
        )
        writer.abort()
        writer.close = lambda: None
    dead = subprocess.run(['true'], check=True) and 2**22 + 1  # No process has it.
    for name in ('f.zarr', 'forecast_20200101T0000.nc'):
        ours = temporary_name(tmp_path / name).name
        (tmp_path / ours.replace(str(os.getpid()), str(dead))).touch()
    (tmp_path / 'forecast_20200101T0000.nc.tmp').touch()
    (tmp_path / 'my.tmp').touch()
    (tmp_path / 'g.zarr.tmp').mkdir()
    open_writer(tmp_path, layout)
    open_writer(tmp_path / 'f.zarr', layout).abort()
    left = sorted(file.name for file in tmp_path.iterdir())
    assert left == ['g.zarr.tmp', 'my.tmp']


@pytest.mark.parametrize('error', [RuntimeError('NetCDF: HDF error'), OSError(28, '')])
def test_a_full_disk_is_said_with_path_and_space_and_leaves_finished_starts(
    path, error, monkeypatch
):
    layout = make_layout()
    states = make_states(layout)
    free = type('Usage', (), {'free': 1000})
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: free)

    def fail(self, *arguments, **named):
        raise error

    message = r'cannot write .*forecast.* no space is left on its disk; 0\.0 MiB'
    with (
        pytest.raises(OSError, match=message),
        ThreadedWriter(open_writer(path, layout)) as writer,
    ):
        for lead in range(4):
            writer.write(lead, states[:1, lead], starts=slice(0, 1))
        writer._wait_until_pending(0)
        kind = zarr.Array if path.suffix == '.zarr' else netCDF4.Dataset
        method = '__setitem__' if path.suffix == '.zarr' else 'createVariable'
        monkeypatch.setattr(kind, method, fail)
        writer.write(0, states[1:, 0], starts=slice(1, 2))
    left = sorted(file.name for file in path.parent.rglob('*'))
    finished = ['forecast_20200101T0000.nc', 'forecasts']
    assert left == ([] if path.suffix == '.zarr' else finished)


@pytest.mark.parametrize(
    ('value', 'message'),
    [
        (1e16, r'is implausible, 1e\+16 K where -90 to 570 are accepted'),
        (-95, 'is implausible, -95 K'),
        (np.inf, 'is not finite'),
        (np.nan, 'is not finite'),
    ],
)
def test_implausible_values_are_refused_with_start_lead_and_channel(value, message):
    layout = make_layout(channels=ChannelIndex({'temperature': (500, 850)}))
    states = make_states(layout)[:, 3]
    states[1, 2, 2, 1] = value
    with pytest.raises(
        FloatingPointError,
        match=rf'from 2020-01-01T12:00 at 30 h {message}.* in temperature@850: the',
    ):
        layout.check_values(3, states)


@pytest.mark.parametrize('end', [0, 1])
def test_values_at_the_ends_of_the_plausible_range_are_accepted(end):
    layout = make_layout()
    states = make_states(layout)
    for i, channel in enumerate(layout.channels):
        states[..., i] = get_variable(channel.variable).plausible[end]
    layout.check_values(0, states[:, 0])


def test_not_finite_state_names_its_channel(path):
    layout = make_layout()
    states = make_states(layout)
    states[1, 0, 2, 2, layout.channels['u_component_of_wind', 250]] = np.nan
    with (
        pytest.raises(
            FloatingPointError, match='T12:00 at 0 h .*component_of_wind@250'
        ),
        open_writer(path, layout) as writer,
    ):
        writer.write(0, states[:, 0])


def test_wrong_shape_and_repeated_lead_are_errors(path):
    layout = make_layout()
    states = make_states(layout)
    with pytest.raises(ValueError, match=r'\(2, 5, 8, 9\), got \(2, 5, 8, 8\)'):
        open_writer(path, layout).write(0, states[:, 0, ..., :-1])
    writer = open_writer(path, layout)
    writer.write(0, states[:, 0])
    with pytest.raises(ValueError, match='written before'):
        writer.write(0, states[:, 0])
    writer.abort()


def test_urls_and_single_files_are_refused(tmp_path):
    for address in ('gs://bucket/f.zarr', 'gs://bucket/f'):
        with pytest.raises(OutputError, match='local path'):
            open_writer(address, make_layout())
    with pytest.raises(ValueError, match='expected a directory'):
        open_writer(tmp_path / 'f.nc', make_layout())


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(lead_times=np.array([6, 12])), 'timedelta64'),
        (dict(lead_times=np.array([12, 6], 'timedelta64[h]')), 'ascending'),
        (dict(init_times=np.array([], 'datetime64[h]')), 'without gaps'),
        (dict(init_times=np.array(['2020', '2020'], 'datetime64[h]')), 'twice'),
    ],
)
def test_layout_refuses_bad_times(changes, message):
    with pytest.raises(ValueError, match=message):
        make_layout(**changes)


class RecordingWriter(ForecastWriter):
    """Stands for a slow disk: each write waits until it is allowed to go on."""

    def __init__(self):
        self.leads = []
        self.ends = []
        self.allowed = threading.Semaphore(0)

    def write(self, lead, states, *, starts=None):
        self.allowed.acquire()
        if states is None:
            raise OSError('disk full')
        self.leads.append(lead)

    def close(self):
        self.ends.append('close')

    def abort(self):
        self.ends.append('abort')


def test_thread_writes_in_order_and_blocks_when_full():
    slow = RecordingWriter()
    writer = ThreadedWriter(slow, max_pending=1)
    writer.write(0, 'states')  # Returns although nothing was written yet.
    assert slow.leads == []
    second = threading.Thread(target=writer.write, args=(1, 'states'))
    second.start()
    second.join(timeout=0.1)
    assert second.is_alive()  # Full: the second has to wait for the first.
    slow.allowed.release(2)
    second.join()
    writer.close()
    assert slow.leads == [0, 1]
    assert slow.ends == ['close']


def test_error_of_the_thread_is_raised_once_by_the_caller():
    slow = RecordingWriter()
    slow.allowed.release(3)
    with pytest.raises(OSError, match='disk full'), ThreadedWriter(slow) as writer:
        writer.write(0, None)
        writer.write(1, 'states')
    assert slow.ends == ['abort']


def test_error_of_the_last_write_is_raised_by_close():
    slow = RecordingWriter()
    slow.allowed.release(1)
    with pytest.raises(OSError, match='disk full'), ThreadedWriter(slow) as writer:
        writer.write(0, None)
    assert slow.ends == ['abort']


def test_a_signal_does_not_cut_the_clean_up_short():
    class Slow(RecordingWriter):
        def abort(self):
            os.kill(os.getpid(), signal.SIGINT)
            super().abort()

    slow = Slow()
    slow.allowed.release(1)
    with pytest.raises(OSError, match='disk full'), ThreadedWriter(slow) as writer:
        writer.write(0, None)
    assert slow.ends == ['abort']


def test_threaded_forecasts_are_the_same(path):
    layout = make_layout()
    states = make_states(layout)
    write_all(ThreadedWriter(open_writer(path, layout)), states)
    with open_forecasts(path) as forecasts:
        xr.testing.assert_equal(forecasts, to_dataset(states, layout))
