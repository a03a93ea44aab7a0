"""Decoded values are those of plain xarray, on every packing that CF allows."""

import base64

import netCDF4
import numpy as np
import pytest
import xarray as xr
import zarr

from weather.data import windows
from weather.data.decoding import Packing
from weather.data.store import open_dataset
from weather.data.units import Conversion

SHAPE = (4, 3, 6)
DIMS = ('time', 'latitude', 'longitude')
NAN_BASE64 = base64.standard_b64encode(np.array(np.nan, '<f8').tobytes()).decode()
# We scale in float64 and round once; xarray may scale in float32.
ROUNDING = dict(rtol=3e-7, atol=0)


def numbers(dtype, low=20, high=90):
    """Stored numbers, some of them special: 0, 7 and 9."""
    stored = np.linspace(low, high, np.prod(SHAPE)).reshape(SHAPE).astype(dtype)
    stored[0, 0, :3] = 0, 7, 9
    stored[2, 1, 4] = 9
    return stored


def write_zarr(path, stored, attributes, *, name='field', parts=(np.s_[:],), **options):
    """Writes the numbers, or only `parts` of them, with zarr alone."""
    options = {'zarr_format': 2, 'chunks': (1, 3, 6), 'fill_value': None, **options}
    zarr_format = options.pop('zarr_format')
    step = np.timedelta64(6, 'h')
    coordinates = {
        'time': np.datetime64('2000-01-01', 'ns') + np.arange(4) * step,
        'latitude': [60.0, 0.0, -60.0],
        'longitude': np.arange(6) * 60.0,
    }
    xr.Dataset(coords=coordinates).to_zarr(
        path, mode='w', zarr_format=zarr_format, consolidated=False
    )
    if zarr_format == 3:
        options['dimension_names'] = DIMS
    else:
        attributes = {**attributes, '_ARRAY_DIMENSIONS': DIMS}
    array = zarr.open_group(path, mode='r+').create_array(
        name, shape=SHAPE, dtype=stored.dtype, attributes=attributes, **options
    )
    for part in parts:
        array[part] = stored[part]
    return str(path)


def write_netcdf(path, stored, attributes):
    with netCDF4.Dataset(path, 'w') as file:
        for name, size in zip(DIMS, SHAPE, strict=True):
            file.createDimension(name, size)
        file.createVariable('time', 'f8', 'time').units = 'hours since 2000-01-01'
        file['time'][:] = 6 * np.arange(4)
        file.createVariable('latitude', 'f8', 'latitude')[:] = [60, 0, -60]
        file.createVariable('longitude', 'f8', 'longitude')[:] = 60 * np.arange(6)
        attributes = dict(attributes)
        fill = attributes.pop('_FillValue', None)
        endian = {'>': 'big'}.get(stored.dtype.byteorder, 'native')
        field = file.createVariable(
            'field', stored.dtype, DIMS, fill_value=fill, endian=endian
        )
        field.set_auto_maskandscale(False)
        field.setncatts(attributes)
        field[:] = stored
    return str(path)


def decoded(path):
    return open_dataset(path, what='store')['field'].values


PACKINGS = {
    'plain float32': ('f4', {}),
    'plain float64': ('f8', {}),
    'float16': ('f2', {}),
    'big-endian float32': ('>f4', {}),
    'big-endian int16': ('>i2', {'scale_factor': 0.5, '_FillValue': 9}),
    'scale and offset': ('i2', {'scale_factor': 0.01, 'add_offset': 250.0}),
    'scale alone': ('i4', {'scale_factor': 0.25}),
    'offset alone': ('u1', {'add_offset': -3.0}),
    'scale as a whole number': ('i2', {'scale_factor': 2, 'add_offset': 1}),
    'scaled float32': ('f4', {'scale_factor': 0.1, 'add_offset': 5.0}),
    '_FillValue': ('i2', {'_FillValue': 9, 'scale_factor': 0.1}),
    '_FillValue of 0': ('u2', {'_FillValue': 0, 'scale_factor': 0.1}),
    '_FillValue without scale': ('i2', {'_FillValue': 7}),
    'missing_value': ('i2', {'missing_value': 9, 'scale_factor': 0.1}),
    'missing_value of floats': ('f4', {'missing_value': 9.0}),
    'signed as unsigned': ('i1', {'_Unsigned': 'true', 'scale_factor': 0.5}),
    'unsigned as signed': ('u1', {'_Unsigned': 'false', 'scale_factor': 0.5}),
    'unsigned said to be unsigned': ('u2', {'_Unsigned': 'true', '_FillValue': 9}),
}


@pytest.mark.parametrize('packing', [name for name in PACKINGS if name != 'float16'])
def test_netcdf_is_decoded_as_xarray_does(tmp_path, packing):
    dtype, attributes = PACKINGS[packing]
    stored = numbers(dtype, high=250 if dtype == 'u1' else 120)
    if 'f' not in dtype:
        typed = {'_FillValue', 'missing_value'}
        attributes = {
            k: stored.dtype.newbyteorder('=').type(v) if k in typed else v
            for k, v in attributes.items()
        }
    path = write_netcdf(tmp_path / 'a.nc', stored, attributes)
    with xr.open_dataset(path, engine='netcdf4') as expected:
        np.testing.assert_allclose(decoded(path), expected['field'], **ROUNDING)


@pytest.mark.parametrize('zarr_format', [2, 3])
@pytest.mark.parametrize('packing', PACKINGS)
def test_zarr_is_decoded_as_xarray_does(tmp_path, packing, zarr_format):
    dtype, attributes = PACKINGS[packing]
    stored = numbers(dtype, high=250 if dtype == 'u1' else 120)
    options = {'zarr_format': zarr_format}
    # xarray takes _FillValue of Zarr v2 from `fill_value` alone.
    if zarr_format == 2:
        attributes = dict(attributes)
        options['fill_value'] = attributes.pop('_FillValue', None)
    elif dtype[0] == '>':
        options['serializer'] = zarr.codecs.BytesCodec(endian='big')
        stored = stored.astype(stored.dtype.newbyteorder('='))
    path = write_zarr(tmp_path / 'a.zarr', stored, attributes, **options)
    with xr.open_dataset(path, engine='zarr', consolidated=False) as expected:
        np.testing.assert_allclose(decoded(path), expected['field'], **ROUNDING)


# What xarray does not do, or not in this release: (dtype, attributes, missing, scale).
BEYOND_XARRAY = {
    'two kinds of missing': ('i2', {'_FillValue': 7, 'missing_value': 9}, (7, 9), 1),
    'a list of missing values': ('i2', {'missing_value': [7, 9]}, (7, 9), 1),
    'a list of one': ('f4', {'missing_value': [9.0], 'scale_factor': [2.0]}, (9,), 2),
    'strings': ('i2', {'scale_factor': '2.0', 'missing_value': '9'}, (9,), 2),
    'valid_range': ('i2', {'valid_range': [8, 200], 'scale_factor': 2.0}, (0, 7), 2),
    'valid_min': ('f4', {'valid_min': 7.0}, (0,), 1),
    'valid_max and valid_min': (
        'i2', {'valid_max': 8, 'valid_min': 1}, {0, *range(9, 200)}, 1,
    ),
    'valid range of values': (
        'i2', {'valid_range': [16.0, 400.0], 'scale_factor': 2.0}, (0, 7), 2,
    ),
    'least value where the scale is negative': (
        'i2', {'valid_min': -16.0, 'scale_factor': -2.0}, {*range(9, 200)}, -2,
    ),
    'largest value where the scale is negative': (
        'i2', {'valid_max': -16.0, 'scale_factor': -2.0}, {*range(8)}, -2,
    ),
    'valid range of unsigned bytes': (
        'i1', {'valid_range': [8, -1], '_Unsigned': 'true'}, (0, 7), 1,
    ),
    'fill value of the signed type': (
        'i1', {'_FillValue': -247, '_Unsigned': 'true'}, (9,), 1,
    ),
    'missing value that cannot be stored': ('i2', {'missing_value': 1e20}, (), 1),
    'not a number in words': ('f4', {'_FillValue': 'NaN'}, (), 1),
    'not a number in base64': ('f4', {'_FillValue': NAN_BASE64}, (), 1),
}  # fmt: skip


@pytest.mark.parametrize('zarr_format', [2, 3])
@pytest.mark.parametrize('case', BEYOND_XARRAY)
def test_packings_beyond_xarray(tmp_path, case, zarr_format):
    dtype, attributes, missing, scale = BEYOND_XARRAY[case]
    stored = numbers(dtype)
    path = write_zarr(tmp_path / 'a.zarr', stored, attributes, zarr_format=zarr_format)
    absent = np.isin(stored, list(missing))
    np.testing.assert_array_equal(
        decoded(path), np.where(absent, np.nan, scale * stored.astype(float))
    )


def test_missing_beyond_float32_is_compared_as_it_is_stored(tmp_path):
    # 1e20 is no float32: the store holds the nearest one.
    stored = numbers('f4')
    stored[1, 1, 1] = 1e20
    path = write_zarr(tmp_path / 'a.zarr', stored, {'missing_value': 1e20})
    assert np.isnan(decoded(path)).sum() == 1


# Of Zarr v2: dtype, fill value, attributes, the numbers that are missing.
FILL_VALUES = [
    ('i1', 0, {}, ()),  # a land mask as zarr.create leaves it
    ('f4', 0.0, {}, ()),
    ('u2', 0, {'scale_factor': 0.1}, (0,)),  # packed: somebody chose it
    ('i2', 7, {}, (7,)),
]


@pytest.mark.parametrize(('dtype', 'fill_value', 'attributes', 'missing'), FILL_VALUES)
def test_fill_value_means_missing_unless_nobody_chose_it(
    tmp_path, dtype, fill_value, attributes, missing
):
    stored = numbers(dtype)
    path = write_zarr(tmp_path / 'a.zarr', stored, attributes, fill_value=fill_value)
    np.testing.assert_array_equal(np.isnan(decoded(path)), np.isin(stored, missing))


@pytest.mark.parametrize(
    'attributes',
    [{'scale_factor': 0}, {'add_offset': 'much'}, {'missing_value': 'none of them'}],
)
def test_packing_that_means_nothing_is_refused(tmp_path, attributes):
    path = write_netcdf(tmp_path / 'a.nc', numbers('i2'), attributes)
    with pytest.raises(ValueError, match='field in .*a.nc: expected .*, found'):
        decoded(path)


def test_units_are_converted_with_the_scale():
    packing = Packing.of(
        np.dtype('i2'),
        {'scale_factor': 0.5, 'add_offset': 10.0, '_FillValue': -1},
        Conversion(2.0, 273.15),
    )
    values = packing.unpack(np.array([4, -1], 'i2'))
    np.testing.assert_allclose(values, [2 * (4 * 0.5 + 10) + 273.15, np.nan])


def test_months_packed_each_their_way_keep_their_values(tmp_path):
    """Concatenated as stored, the later month would wrap around (xarray#5739)."""
    expected = []
    for month, offset in enumerate((250.0, 310.0)):
        stored = numbers('i2', low=-30000, high=30000)
        path = write_netcdf(
            tmp_path / f'{month}.nc',
            stored,
            {'scale_factor': 1e-3, 'add_offset': offset},
        )
        with netCDF4.Dataset(path, 'a') as file:
            file['time'][:] = 6 * np.arange(4) + 24 * month
        expected.append(stored * 1e-3 + offset)
    values = decoded(tmp_path)
    np.testing.assert_allclose(values, np.concatenate(expected), rtol=1e-7)


def test_float16_that_overflowed_is_refused(tmp_path):
    stored = numbers('f4')
    stored[2, 1, 1] = 2e5
    with np.errstate(over='ignore'):
        path = write_zarr(tmp_path / 'a.zarr', stored.astype('f2'), {})
    with pytest.raises(ValueError, match='field at 2000-01-01T12.* infinite .*float16'):
        decoded(path)


# Of a name, its fill value and its units: whether a chunk that is absent is missing.
ABSENT = [
    ('temperature', 0.0, 'K', True),
    ('temperature', 250.0, 'K', True),
    ('u_component_of_wind', 0.0, 'm s-1', True),
    ('specific_humidity', 0.0, '1', True),
    ('sea_surface_temperature', 0.0, 'K', True),
    ('skin_temperature', 0.0, 'K', True),
    ('100m_u_component_of_wind', 0.0, 'm s-1', True),
    ('total_precipitation_6hr', 0.0, 'm', False),
    ('snow_depth', 0.0, 'm', False),
    ('snow_depth', -1.0, 'm', True),
    ('total_cloud_cover', 0.0, '(0 - 1)', False),
    ('land_sea_mask', 0.0, '1', False),
    ('anything', np.nan, '1', True),
]


FORMS = {
    'v2': {'zarr_format': 2},
    'v3': {'zarr_format': 3},
    'sharded': {'zarr_format': 3, 'shards': (4, 3, 6)},
}


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize(('name', 'fill_value', 'unit', 'is_missing'), ABSENT)
def test_chunks_that_were_never_written(
    tmp_path, name, fill_value, unit, is_missing, form
):
    stored, parts = numbers('f4'), (np.s_[0], np.s_[2, :, 3:])
    path = write_zarr(
        tmp_path / 'a.zarr',
        stored,
        {'units': unit},
        name=name,
        parts=parts,
        chunks=(1, 3, 3),
        fill_value=fill_value,
        **FORMS[form],
    )
    expected = np.full(SHAPE, np.nan if is_missing else fill_value)
    for part in parts:
        expected[part] = stored[part]
    values = open_dataset(path, what='store')[name]
    np.testing.assert_array_equal(values, expected)
    # A box that starts within a chunk sees the same holes.
    np.testing.assert_array_equal(values[1:3, 1, 1:5], expected[1:3, 1, 1:5])


@pytest.mark.parametrize('form', FORMS)
def test_packed_chunks_that_were_never_written_are_missing(tmp_path, form):
    stored = numbers('i2')
    path = write_zarr(
        tmp_path / 'a.zarr',
        stored,
        {'units': 'K', 'add_offset': 250.0, 'scale_factor': 0.1, '_FillValue': -9},
        name='temperature',
        parts=(np.s_[1:3],),
        chunks=(1, 3, 6),
        fill_value=0,
        **FORMS[form],
    )
    values = open_dataset(path, what='store')['temperature'].values
    assert np.isnan(values[[0, 3]]).all()
    np.testing.assert_allclose(values[1:3], 250 + 0.1 * stored[1:3], rtol=1e-7)


def test_static_field_without_one_chunk_is_missing(tmp_path):
    """All of a mask may be sea in a chunk, but nothing of it was written here."""
    path = write_zarr(tmp_path / 'a.zarr', numbers('f4'), {})
    group = zarr.open_group(path, mode='r+')
    for name, parts in (('land_sea_mask', (np.s_[0],)), ('soil_type', ())):
        array = group.create_array(
            name,
            shape=(3, 6),
            chunks=(1, 6),
            dtype='f4',
            attributes={'_ARRAY_DIMENSIONS': DIMS[1:]},
        )
        for part in parts:
            array[part] = 1.0
    opened = open_dataset(path, what='store')
    np.testing.assert_array_equal(opened['land_sea_mask'][:, 0], [1, 0, 0])
    assert np.isnan(opened['soil_type']).all()


def test_netcdf_that_was_never_written_is_missing(tmp_path):
    path = write_netcdf(tmp_path / 'a.nc', numbers('f4'), {})
    with netCDF4.Dataset(path, 'a') as file:
        file.createVariable('other', 'f4', DIMS)[1] = 5.0
    values = open_dataset(path, what='store')['other'].values
    assert (values[1] == 5).all() and np.isnan(values[[0, 2, 3]]).all()


def test_a_hole_of_a_known_field_is_found_before_training(tmp_path):
    path = write_zarr(
        tmp_path / 'a.zarr',
        numbers('f4', low=250, high=290),
        {'units': 'K'},
        name='2m_temperature',
        parts=(np.s_[:2], np.s_[3]),
        fill_value=0.0,
    )
    dataset = open_dataset(path, what='store')
    invalid = windows.invalid_times(dataset, {'2m_temperature': ()})
    assert invalid.tolist() == dataset['time'].values[[2]].tolist()
