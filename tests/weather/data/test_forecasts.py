"""Forecast stores of any writer open lazily in one schema, or say why not."""

import netCDF4
import numpy as np
import pytest
import xarray as xr

from weather.data.decoding import DecodedVariable
from weather.data.forecasts import DIMS, open_forecasts


def make_forecasts(**sizes):
    """A WB2 dataset whose values are their own positions."""
    sizes = {
        'time': 3,
        'prediction_timedelta': 4,
        'level': 2,
        'latitude': 3,
        'longitude': 6,
        **sizes,
    }
    values = np.arange(np.prod(list(sizes.values())), dtype=np.float32)
    return xr.Dataset(
        {'temperature': (DIMS, values.reshape(tuple(sizes.values())))},
        coords={
            'time': np.datetime64('2020-01-01', 'ns')
            + np.arange(sizes['time']) * np.timedelta64(12, 'h'),
            'prediction_timedelta': np.arange(sizes['prediction_timedelta'])
            * np.timedelta64(6, 'h').astype('timedelta64[ns]'),
            'level': [500, 850],
            'latitude': [60.0, 0.0, -60.0],
            'longitude': np.arange(6) * 60.0,
        },
    )


def write_netcdf(directory, dataset):
    """Writes one CF file per start, by hand, so that the reader is tested alone."""
    directory.mkdir(exist_ok=True)
    for i in range(dataset.sizes['time']):
        start = dataset.isel(time=i).rename(time='forecast_reference_time')
        start = start.rename(prediction_timedelta='time')
        period = start.time.values
        valid = start.forecast_reference_time.values + period
        start = start.assign_coords(time=valid, forecast_period=('time', period))
        start.forecast_period.encoding = {'units': 'hours', 'dtype': 'int32'}
        start.to_netcdf(directory / f'{i}.nc')


@pytest.fixture(params=['zarr', 'netcdf'])
def stored(request, tmp_path):
    if request.param == 'zarr':
        make_forecasts().to_zarr(tmp_path / 'f.zarr', zarr_format=2)
        return tmp_path / 'f.zarr'
    write_netcdf(tmp_path / 'f', make_forecasts())
    return tmp_path / 'f'


def test_both_forms_open_as_the_same_dataset(stored):
    with open_forecasts(stored) as opened:
        xr.testing.assert_equal(opened, make_forecasts())


@pytest.mark.parametrize(
    'selection',
    [
        dict(time=1),
        dict(time=slice(0, 3, 2), prediction_timedelta=-1),
        dict(time=[2, 0], level=1, latitude=[0, 2]),
        dict(time=[], level=0),
        dict(time=2, prediction_timedelta=3, level=1, latitude=2, longitude=5),
    ],
)
def test_indexing_reads_what_it_says(stored, selection):
    with open_forecasts(stored) as opened:
        xr.testing.assert_equal(
            opened.isel(selection).load(), make_forecasts().isel(selection)
        )


def test_opening_and_selecting_read_nothing(stored):
    with open_forecasts(stored) as opened:
        southern = opened.temperature.isel(time=0, latitude=slice(None, None, -1))
        assert not opened.temperature.variable._in_memory
        assert not southern.variable._in_memory


def test_only_the_files_asked_for_are_read(tmp_path, monkeypatch):
    read = []
    read_one = DecodedVariable.read

    def record(self, box):
        read.append(float(read_one(self, box).flat[0]) // 144)
        return read_one(self, box)

    monkeypatch.setattr(DecodedVariable, 'read', record)
    write_netcdf(tmp_path, make_forecasts())
    with open_forecasts(tmp_path) as opened:
        assert read == []
        opened.temperature.isel(time=[2, 1]).load()
    assert sorted(read) == [1, 2]


def test_single_file_is_one_start(tmp_path):
    write_netcdf(tmp_path, make_forecasts())
    with open_forecasts(tmp_path / '2.nc') as opened:
        xr.testing.assert_equal(opened, make_forecasts().isel(time=[2]))


def test_weatherbench_schema_in_one_netcdf_file(tmp_path):
    make_forecasts().to_netcdf(tmp_path / 'f.nc')
    with open_forecasts(tmp_path / 'f.nc') as opened:
        xr.testing.assert_equal(opened, make_forecasts())


def test_starts_and_dimensions_come_back_in_order(tmp_path):
    shuffled = make_forecasts().isel(time=[2, 0, 1]).transpose(*DIMS[::-1])
    shuffled.to_zarr(tmp_path / 'f.zarr', zarr_format=3, consolidated=False)
    with open_forecasts(tmp_path / 'f.zarr') as opened:
        assert opened.temperature.dims == DIMS
        xr.testing.assert_equal(opened, make_forecasts())


OTHER_NAMES = {
    'cfgrib': lambda ds: ds.rename(
        prediction_timedelta='step', level='isobaricInhPa', latitude='lat'
    ),
    'GraphCast': lambda ds: ds.rename(
        prediction_timedelta='lead_time', longitude='lon'
    ),
    'Climate Data Store': lambda ds: ds.rename(
        time='forecast_reference_time',
        prediction_timedelta='forecast_period',
        level='pressure_level',
    ),
    'south first': lambda ds: ds.isel(latitude=slice(None, None, -1)),
    'levels in Pa': lambda ds: ds.assign_coords(
        level=('level', [50000.0, 85000.0], {'units': 'Pa'})
    ),
}


@pytest.mark.parametrize('kind', ['zarr', 'nc', 'memory'])
@pytest.mark.parametrize('writer', OTHER_NAMES)
def test_names_of_other_writers_are_understood(tmp_path, writer, kind):
    renamed = OTHER_NAMES[writer](make_forecasts())
    path = tmp_path / f'f.{kind}'
    if kind == 'zarr':
        renamed.to_zarr(path, zarr_format=2)
    elif kind == 'nc':
        renamed.to_netcdf(path)
    with open_forecasts(renamed if kind == 'memory' else path) as opened:
        xr.testing.assert_equal(opened, make_forecasts())


def test_one_start_beside_an_axis_of_lead_times(tmp_path):
    make_forecasts().isel(time=1).to_zarr(tmp_path / 'f.zarr', zarr_format=2)
    with open_forecasts(tmp_path / 'f.zarr') as opened:
        xr.testing.assert_equal(opened, make_forecasts().isel(time=[1]))


def test_a_file_per_start_in_the_schema_of_weatherbench(tmp_path):
    for i in (2, 0, 1):  # Names are in another order than starts.
        make_forecasts().isel(time=[i]).to_netcdf(tmp_path / f'{(i + 1) % 3}.nc')
    for source in (tmp_path, tmp_path / '*.nc', sorted(tmp_path.glob('*.nc'))):
        with open_forecasts(source) as opened:
            xr.testing.assert_equal(opened, make_forecasts())


@pytest.mark.parametrize('name', ['number', 'realization', 'member'])
def test_members_are_kept(tmp_path, name):
    one = make_forecasts()
    members = xr.concat([one, one + 1000], name).transpose('time', name, ...)
    members.to_zarr(tmp_path / 'f.zarr', zarr_format=3, consolidated=False)
    with open_forecasts(tmp_path / 'f.zarr') as opened:
        assert opened.temperature.dims == ('member', *DIMS)
        assert opened.member.values.tolist() == [0, 1]
        xr.testing.assert_equal(opened.isel(member=1, drop=True), one + 1000)


def test_exact_zeros_are_no_missing_values(tmp_path):
    # Zarr v2 without a fill value says 0, and xarray would take that for missing.
    forecasts = make_forecasts()
    forecasts.temperature.encoding['_FillValue'] = 0.0
    forecasts.to_zarr(tmp_path / 'f.zarr', zarr_format=2)
    with open_forecasts(tmp_path / 'f.zarr') as opened:
        assert opened.temperature.values.flat[0] == 0


def test_unfinished_files_are_not_forecasts(tmp_path):
    (tmp_path / 'forecast_20200101T0000.nc.tmp').touch()
    with pytest.raises(FileNotFoundError, match=r'unfinished files end in \.tmp'):
        open_forecasts(tmp_path)
    with pytest.raises(FileNotFoundError, match='found nothing there'):
        open_forecasts(tmp_path / 'nothing.zarr')
    with pytest.raises(FileNotFoundError, match='found nothing there'):
        open_forecasts(tmp_path / 'nothing')


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda ds: ds.isel(time=0, drop=True), r"without \['time'\]"),
        (
            lambda ds: ds.assign_coords(prediction_timedelta=[0, 6, 12, 18]),
            'expected prediction_timedelta as timedelta64, got int64',
        ),
        (
            lambda ds: ds.assign_coords(time=ds.time.values[[0, 0, 1]]),
            'found repeated times 2020-01-01T00:00:00',
        ),
        (
            lambda ds: ds.drop_vars('level'),
            "expected the coordinate 'level' of the axis level .* found none",
        ),
    ],
)
def test_other_schemas_are_refused(tmp_path, change, message):
    change(make_forecasts()).to_zarr(tmp_path / 'f.zarr', zarr_format=2)
    with pytest.raises(ValueError, match=message):
        open_forecasts(tmp_path / 'f.zarr')


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    write_netcdf(tmp_path, make_forecasts())
    with netCDF4.Dataset(tmp_path / '1.nc', 'a') as file:
        file['latitude'][:] = [50, 0, -50]
    with pytest.raises(ValueError, match=r'1\.nc: latitude differs from .*0\.nc'):
        open_forecasts(tmp_path)
    with netCDF4.Dataset(tmp_path / '1.nc', 'a') as file:
        file.renameVariable('temperature', 'theta')
    with pytest.raises(ValueError, match=r"\['temperature'\], got \['theta'\]"):
        open_forecasts(tmp_path)


def test_file_that_is_no_forecast_is_refused(tmp_path):
    make_forecasts().isel(time=0, drop=True).rename(prediction_timedelta='x').to_netcdf(
        tmp_path / 'f.nc'
    )
    with pytest.raises(ValueError, match=r"found \('x', 'level'.*rename its dims"):
        open_forecasts(tmp_path)


def by_valid_time(forecasts, **options):
    """The same forecasts, each lead time on an axis of valid times."""
    parts = [
        forecasts.isel(prediction_timedelta=i).assign_coords(time=forecasts.time + lead)
        for i, lead in enumerate(forecasts.prediction_timedelta.values)
    ]
    dataset = xr.concat(parts, 'prediction_timedelta', **options)
    return dataset.assign_coords(
        time=dataset.time.assign_attrs(standard_name='time', long_name='valid time')
    )


def test_forecasts_by_valid_time_open_by_start(tmp_path):
    expected = make_forecasts()
    stored = by_valid_time(expected, join='outer').transpose('time', ...)
    stored.to_zarr(tmp_path / 'f.zarr', zarr_format=2)
    opened = open_forecasts(tmp_path / 'f.zarr')
    # Between the starts lie others that the store may hold: NaN tells.
    assert set(expected.time.values) <= set(opened.time.values)
    found = opened.sel(time=expected.time)
    for name, array in expected.data_vars.items():
        np.testing.assert_array_equal(
            found[name].transpose(*array.dims), array.astype(np.float32)
        )
        at = dict(time=0, prediction_timedelta=[0, 1], latitude=slice(1, None))
        np.testing.assert_array_equal(
            found[name].isel(at).transpose(*array.isel(at).dims),
            array.isel(at).astype(np.float32),
        )


def test_valid_times_of_no_whole_start_are_refused():
    dataset = by_valid_time(make_forecasts().isel(time=[0]), join='outer')
    gap = dataset.isel(time=slice(1, None))
    with pytest.raises(ValueError, match='no start has all lead times'):
        open_forecasts(gap)
