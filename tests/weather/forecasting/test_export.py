"""Written forecasts reopen as the states they were, with CF and WB2 metadata."""

import json
import pathlib
import subprocess
import sys
import threading

import netCDF4
import numpy as np
import pytest
import xarray as xr

from learning.files import OutputError
from sphere_ops.grid import LatLonGrid
from weather.data.forecasts import DIMS, open_forecasts
from weather.forecasting.export import (
    ForecastLayout,
    ForecastWriter,
    NetcdfWriter,
    ThreadedWriter,
    ZarrWriter,
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


def test_threaded_forecasts_are_the_same(path):
    layout = make_layout()
    states = make_states(layout)
    write_all(ThreadedWriter(open_writer(path, layout)), states)
    with open_forecasts(path) as forecasts:
        xr.testing.assert_equal(forecasts, to_dataset(states, layout))
