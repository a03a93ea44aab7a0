"""Atmospheres in the shapes in which users really have them, small.

The fields are smooth waves that travel eastward, the same in every shape: what differs
is how they are written. All hold geopotential, temperature and winds at two levels, 2 m
temperature, the surface geopotential and a land-sea mask.
"""

import pathlib
from collections.abc import Sequence

import numpy as np
import xarray as xr

LEVELS = (500, 850)
# Means of geopotential, m2 s-2, and temperature, K.
_HEIGHTS = {300: 90000.0, 500: 55000.0, 700: 29500.0, 850: 14000.0, 1000: 1000.0}
_TEMPERATURES = {300: 228.0, 500: 255.0, 700: 272.0, 850: 280.0, 1000: 287.0}
_SHORT = {
    'geopotential': 'z',
    'temperature': 't',
    'u_component_of_wind': 'u',
    'v_component_of_wind': 'v',
    '2m_temperature': 't2m',
    'geopotential_at_surface': 'z',
    'land_sea_mask': 'lsm',
}
UPPER_AIR = tuple(_SHORT)[:4]
STATICS = tuple(_SHORT)[5:]


def with_poles(degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Latitudes, north first, and longitudes of a grid with rows at the poles."""
    return np.linspace(90, -90, round(180 / degrees) + 1), np.arange(0, 360, degrees)


def hours(start: str, num_times: int, step: int = 1) -> np.ndarray:
    """Times `step` hours apart."""
    steps = np.arange(num_times) * np.timedelta64(step, 'h')
    return np.datetime64(start, 'ns') + steps


def atmosphere(
    latitudes: np.ndarray,
    longitudes: np.ndarray,
    times: np.ndarray,
    *,
    levels: Sequence[int] = LEVELS,
) -> xr.Dataset:
    """The waves on a grid in degrees, canonical, float32."""
    lat, lon = np.radians(latitudes)[:, None], np.radians(longitudes)
    elapsed = (times - times[0]) / np.timedelta64(1, 'h')
    phase = 2 * np.pi * elapsed[:, None, None] / 120
    wave = np.cos(lat) ** 2 * np.cos(2 * lon - phase)
    wave += 0.1 * np.cos(lat) * np.cos(lon + 3 * phase)
    hill = 5000 * np.exp(-((lat - 0.6) ** 2) * 8) * np.cos(lon / 2) ** 4

    def at_levels(means, amplitude, factor=1.0):
        fields = [(mean + amplitude * wave) * factor for mean in means]
        return np.stack(fields, axis=1).astype(np.float32)

    dims = ('time', 'level', 'latitude', 'longitude')
    heights = [_HEIGHTS[level] for level in levels]
    temperatures = [_TEMPERATURES[level] for level in levels]
    winds = [20.0 - level / 60 for level in levels]
    still = [0.0 for _ in levels]
    found = xr.Dataset(
        {
            'geopotential': (dims, at_levels(heights, 800.0)),
            'temperature': (dims, at_levels(temperatures, 6.0)),
            'u_component_of_wind': (dims, at_levels(winds, 8.0, np.cos(lat))),
            'v_component_of_wind': (dims, at_levels(still, 8.0, np.cos(lat))),
            '2m_temperature': (
                ('time', *dims[2:]),
                (285 - hill / 5000 + 5 * wave).astype(np.float32),
            ),
            'geopotential_at_surface': (dims[2:], hill.astype(np.float32)),
            'land_sea_mask': (dims[2:], (hill > 1000).astype(np.float32)),
        },
        coords={
            'time': times,
            'level': list(levels),
            'latitude': latitudes,
            'longitude': longitudes,
        },
    )
    for name, units in {
        'geopotential': 'm**2 s**-2',
        'temperature': 'K',
        'u_component_of_wind': 'm s**-1',
        'v_component_of_wind': 'm s**-1',
        '2m_temperature': 'K',
        'geopotential_at_surface': 'm**2 s**-2',
        'land_sea_mask': '(0 - 1)',
    }.items():
        found[name].attrs = {'units': units, 'long_name': name.replace('_', ' ')}
    return found


def cds_netcdf(
    folder: pathlib.Path,
    *,
    degrees: float = 0.5,
    start: str = '2020-01-01',
    num_times: int = 72,
    levels: Sequence[int] = LEVELS,
) -> str:
    """Two netCDF files as the Climate Data Store delivers ERA5 since 2024.

    Hourly, short names, `valid_time` and `pressure_level`, packed integers, `number`
    and `expver`; one file of pressure levels, one of single levels, where the fields
    that never change are repeated in time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = atmosphere(*with_poles(degrees), hours(start, num_times), levels=levels)
    found = found.isel(level=slice(None, None, -1))
    found = found.rename(time='valid_time', level='pressure_level')
    version = np.array(['0001'] * num_times)
    found = found.assign_coords(number=0, expver=('valid_time', version))
    found['pressure_level'].attrs = {'units': 'hPa', 'positive': 'down'}
    single = found[['2m_temperature', *STATICS]]
    for name in STATICS:
        single[name] = single[name].expand_dims(valid_time=found.valid_time)
    single = single.drop_vars('pressure_level', errors='ignore')
    for name, part in {'levels': found[list(UPPER_AIR)], 'single': single}.items():
        short = part.rename({long: _SHORT[str(long)] for long in part.data_vars})
        short.attrs = {'Conventions': 'CF-1.7', 'institution': 'ECMWF'}
        short.to_netcdf(folder / f'{name}.nc', encoding=_packed(short))
    return str(folder)


def _packed(dataset: xr.Dataset) -> dict[str, dict]:
    encoding = {}
    for name, field in dataset.data_vars.items():
        low, high = float(field.min()), float(field.max())
        encoding[str(name)] = {
            'dtype': 'int16',
            'scale_factor': (high - low) / 65000 or 1.0,
            'add_offset': (high + low) / 2,
            '_FillValue': -32767,
            'chunksizes': (1, *field.shape[1:]),
        }
    return encoding


def grib(
    folder: pathlib.Path,
    *,
    degrees: float = 10.0,
    start: str = '2020-01-01',
    num_times: int = 24,
    edition: int = 1,
) -> str:
    """One GRIB file as MARS delivers ERA5: six-hourly, statics at the first time."""
    folder.mkdir(parents=True, exist_ok=True)
    found = atmosphere(*with_poles(degrees), hours(start, num_times, step=6))
    path = folder / 'era5.grib'
    with path.open('wb') as file:
        for i, time in enumerate(found.time.values):
            moment = found.isel(time=i)
            for name in UPPER_AIR:
                for level in LEVELS:
                    field = moment[name].sel(level=level)
                    _message(file, field, _SHORT[name], time, edition, level=level)
            _message(file, moment['2m_temperature'], '2t', time, edition)
            for name in STATICS if i == 0 else ():
                _message(file, moment[name], _SHORT[name], time, edition)
    return str(path)


def _message(file, field: xr.DataArray, name: str, time, edition: int, **keys) -> None:
    """Writes one field, 16 bits a value."""
    import eccodes

    sample = 'pl' if keys else 'sfc'
    message = eccodes.codes_grib_new_from_samples(f'regular_ll_{sample}_grib{edition}')
    latitude, longitude = field.latitude.values, field.longitude.values
    step = float(longitude[1])
    day, hour = str(time)[:10].replace('-', ''), str(time)[11:13]
    for key, value in {
        'Ni': longitude.size,
        'Nj': latitude.size,
        'latitudeOfFirstGridPointInDegrees': float(latitude[0]),
        'latitudeOfLastGridPointInDegrees': float(latitude[-1]),
        'longitudeOfFirstGridPointInDegrees': 0.0,
        'longitudeOfLastGridPointInDegrees': float(longitude[-1]),
        'iDirectionIncrementInDegrees': step,
        'jDirectionIncrementInDegrees': step,
        'bitsPerValue': 16,
        'dataDate': int(day),
        'dataTime': 100 * int(hour),
        'shortName': name,
        **keys,
    }.items():
        eccodes.codes_set(message, key, value)
    eccodes.codes_set_values(message, field.values.ravel().astype(float))
    eccodes.codes_write(message, file)
    eccodes.codes_release(message)


def weatherbench1(folder: pathlib.Path, *, num_times: int = 72) -> str:
    """A directory of WeatherBench 1, 5.625 degrees: a folder a variable, a file a year.

    Hourly from 1979, `lat` and `lon`, south first, packed as nothing; the first seven
    hours of `tisr` are missing, and the statics stand in `constants`.
    """
    step = 5.625
    rows = np.arange(-90 + step / 2, 90, step)
    columns = np.arange(0, 360, step)
    found = atmosphere(rows, columns, hours('1979-01-01', num_times))
    angle = np.radians(columns) + 2 * np.pi * np.arange(num_times)[:, None, None] / 24
    sun = 4e6 * np.cos(np.radians(rows))[:, None] * np.maximum(0, np.cos(angle))
    dims = ('time', 'latitude', 'longitude')
    found['toa_incident_solar_radiation'] = dims, sun.astype(np.float32)
    found['toa_incident_solar_radiation'].attrs = {'units': 'J m**-2'}
    found = found.rename(latitude='lat', longitude='lon')
    short = {**_SHORT, 'toa_incident_solar_radiation': 'tisr'}
    for name in (*UPPER_AIR, '2m_temperature', 'toa_incident_solar_radiation'):
        part = found[[name]].rename({name: short[name]})
        if 'level' not in part.dims:
            part = part.drop_vars('level', errors='ignore')
        if short[name] == 'tisr':
            part = part.isel(time=slice(7, None))
        (folder / name).mkdir(parents=True)
        part.to_netcdf(folder / name / f'{name}_1979_5.625deg.nc')
    constants = xr.Dataset(
        {
            'orography': found['geopotential_at_surface'] / 9.80665,
            'lsm': found['land_sea_mask'],
            'lat2d': found['land_sea_mask'] * 0 + found.lat,
            'lon2d': found['land_sea_mask'] * 0 + found.lon,
        }
    ).drop_vars(['time', 'level'], errors='ignore')
    constants['orography'].attrs = {'units': 'm', 'long_name': 'Orography'}
    constants['lsm'].attrs = {'units': '(0 - 1)', 'long_name': 'Land-sea mask'}
    (folder / 'constants').mkdir()
    constants.to_netcdf(folder / 'constants' / 'constants_5.625deg.nc')
    return str(folder)


def arco(
    folder: pathlib.Path,
    *,
    degrees: float = 10.0,
    start: str = '2020-01-01',
    num_times: int = 72,
    levels: Sequence[int] = (300, 500, 700, 850, 1000),
) -> str:
    """A Zarr store like ARCO-ERA5: hourly, all levels in one chunk, north first.

    The time axis is longer than the data on both sides, whose chunks were never
    written; attributes say where they begin and end. Statics are repeated in time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = atmosphere(*with_poles(degrees), hours(start, num_times), levels=levels)
    before, after = 24, 48
    first = found.time.values[0] - before * np.timedelta64(1, 'h')
    axis = hours(str(first), before + num_times + after)
    for name in STATICS:
        found[name] = found[name].expand_dims(time=found.time)
    # NaN is the fill value of floats here: Zarr writes no chunk of nothing else.
    found = found.reindex(time=axis)
    found.attrs = {
        'valid_time_start': start,
        'valid_time_stop': str(axis[before + num_times - 1])[:10],
        'last_updated': '2026-11-01',
    }
    encoding: dict[str, dict] = {
        str(name): {'chunks': (1, *field.shape[1:]), '_FillValue': np.nan}
        for name, field in found.data_vars.items()
    }
    encoding['time'] = {'units': 'hours since 1900-01-01', 'dtype': 'int64'}
    path = folder / 'full_37-1h-0p25deg-chunk-1.zarr'
    found.to_zarr(path, zarr_format=2, consolidated=True, encoding=encoding)
    return str(path)


def graphcast(
    folder: pathlib.Path,
    *,
    degrees: float = 10.0,
    start: str = '2020-01-01',
    num_times: int = 24,
) -> str:
    """A netCDF file like GraphCast's: `lat`, `lon`, south first, a batch of one.

    `time` counts from the first, and `datetime` says when that is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = atmosphere(*with_poles(degrees), hours(start, num_times, step=6))
    found = found.isel(latitude=slice(None, None, -1))
    moving = [name for name in found.data_vars if 'time' in found[name].dims]
    for name in moving:
        found[name] = found[name].expand_dims('batch')
    when = found.time.values
    found = found.assign_coords(
        time=when - when[0], datetime=(('batch', 'time'), when[None])
    )
    path = folder / 'source-era5_res-10.0_levels-2_steps-24.nc'
    found.rename(latitude='lat', longitude='lon').to_netcdf(path)
    return str(path)
