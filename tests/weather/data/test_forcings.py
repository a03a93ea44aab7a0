"""Sunlight, clock and statics against astronomy, closed forms and symmetries."""

import jax
import numpy as np
import pytest

from sphere_ops.grid import LatLonGrid
from weather import variables
from weather.data import forcings

STATICS = (*variables.stored_statics(), *forcings.POSITIONS)
HOUR = np.timedelta64(1, 'h')
SIX_HOURS = 6 * HOUR
GRID = LatLonGrid('equiangular_with_poles', num_lat=37, num_lon=72)
KINDS = [
    LatLonGrid('equiangular_with_poles', num_lat=33, num_lon=64),
    LatLonGrid('equiangular', num_lat=32, num_lon=64),
    LatLonGrid('gauss', num_lat=32, num_lon=64),
]

# float32 on the device: a few units in the last place of 1361 W m-2.
FLOAT32 = dict(rtol=0, atol=3e-3)
# The almanac's formulas are good to 0.01 degrees, 0.04 minutes of right ascension.
ALMANAC_DEGREES = 0.012
ALMANAC_MINUTES = 0.06
# Perturbations of the earth's distance by the moon and the planets.
DISTANCE_PERTURBATIONS = 2e-4
# Area weights integrate a field with kinks to second order in the row spacing.
QUADRATURE = dict(rtol=3e-3)

# Declination (degrees), equation of time (minutes) and distance (au) at UTC hours by
# the Solar Position Algorithm of Reda and Andreas, Solar Energy 76 (2004), 577-589, as
# implemented in pvlib.
SOLAR_POSITIONS = [
    ('1959-02-10T12', -14.4984, -14.312, 0.98689),
    ('1979-12-22T00', -23.4408, 1.890, 0.98373),
    ('1998-04-15T18', 9.8800, -0.014, 1.00334),
    ('2003-10-20T06', -10.2005, 15.105, 0.99587),
    ('2020-03-20T03', -0.0161, -7.443, 0.99591),
    ('2020-06-20T21', 23.4343, -1.768, 1.01630),
    ('2022-01-04T09', -22.7074, -4.868, 0.98333),
    ('2049-11-03T15', -15.3207, 16.453, 0.99200),
]


def named_clock(times, timestep=SIX_HOURS):
    numbers = forcings.clock(np.asarray(times, 'datetime64[h]'), timestep=timestep)
    return dict(zip(forcings.CLOCK, np.moveaxis(numbers, -1, 0), strict=True))


def sunlight(times, *, timestep=SIX_HOURS, grid=GRID):
    clock = forcings.clock(np.asarray(times, 'datetime64[h]'), timestep=timestep)
    return np.asarray(jax.jit(forcings.insolation, static_argnums=1)(clock, grid))


def global_mean(field, grid):
    return np.average(field.mean(-1), weights=grid.area_weights, axis=-1)


@pytest.mark.parametrize('time, declination, minutes, distance', SOLAR_POSITIONS)
def test_sun_stands_where_the_solar_position_algorithm_puts_it(
    time, declination, minutes, distance
):
    # The middle of a step of 2 hours that ends an hour later is the time itself.
    found = named_clock(np.datetime64(time) + HOUR, timestep=2 * HOUR)
    greenwich = np.radians(15 * (int(time[-2:]) - 12) + minutes / 4)
    hour_error = np.angle(np.exp(1j * (found['hour_angle'] - greenwich)))
    assert abs(np.degrees(found['declination']) - declination) < ALMANAC_DEGREES
    assert abs(np.degrees(hour_error) * 4) < ALMANAC_MINUTES
    assert abs(found['irradiance'] * distance**2 - 1) < DISTANCE_PERTURBATIONS


def test_sun_stands_over_greenwich_at_noon_within_the_equation_of_time():
    noons = np.arange('2020-01-01T12', '2021-01-01T12', 24, dtype='datetime64[h]')
    minutes = np.degrees(named_clock(noons + HOUR, 2 * HOUR)['hour_angle']) * 4
    # The textbook extremes: 14.2 minutes late in February, 16.4 early in November.
    assert abs(minutes.min() + 14.2) < 0.1
    assert abs(minutes.max() - 16.4) < 0.1


@pytest.mark.parametrize('grid', KINDS, ids=lambda grid: grid.kind)
def test_global_mean_over_a_year_is_a_quarter_of_the_solar_constant(grid):
    times = np.arange('2021-01-01', '2022-01-01', 30, dtype='datetime64[h]')
    mean = global_mean(sunlight(times, grid=grid), grid).mean()
    np.testing.assert_allclose(mean, forcings.SOLAR_CONSTANT / 4, **QUADRATURE)


def test_step_mean_is_the_mean_of_many_instants():
    # Twin: the definition, sampled every minute with the midpoint rule in float64.
    end = np.datetime64('2020-05-17T18')
    numbers = named_clock(end)
    declination, middle = numbers['declination'], numbers['hour_angle']
    minutes = (np.arange(360) + 0.5) / 360 - 0.5
    angles = middle + numbers['step_angle'] * minutes[:, None, None]
    latitude = np.radians(GRID.latitudes)[:, None]
    cos_zenith = np.sin(latitude) * np.sin(declination) + np.cos(latitude) * np.cos(
        declination
    ) * np.cos(angles + np.radians(GRID.longitudes))
    sampled = np.maximum(cos_zenith, 0).mean(0) * numbers['irradiance'] * 1361.0
    # Error of the midpoint rule at sunrise, where the slope jumps: (1 minute)^2 / 6 h.
    np.testing.assert_allclose(sunlight(end), sampled, rtol=0, atol=0.02)


def test_mean_over_a_day_is_the_daily_insolation():
    end = np.datetime64('2020-11-02T00')
    numbers = named_clock(end, 24 * HOUR)
    latitude = np.radians(GRID.latitudes)
    declination = float(numbers['declination'])
    # Hartmann, Global Physical Climatology, eqs. 2.16 and 2.17.
    sunset = np.arccos(np.clip(-np.tan(latitude) * np.tan(declination), -1, 1))
    daily = sunset * np.sin(latitude) * np.sin(declination)
    daily += np.cos(latitude) * np.cos(declination) * np.sin(sunset)
    daily *= 1361.0 * numbers['irradiance'] / np.pi
    found = sunlight(end, timestep=24 * HOUR)
    np.testing.assert_allclose(found, np.tile(daily[:, None], 72), **FLOAT32)


@pytest.mark.parametrize('hours', [24, 36, 120])
def test_long_steps_are_means_of_short_ones(hours):
    end = np.datetime64('2020-06-23T06')
    short = sunlight(end - HOUR * np.arange(hours), timestep=HOUR)
    long = sunlight(end, timestep=hours * HOUR)
    # The sun is held at its place of the middle of the step. Around the solstice its
    # declination stays within 0.02 degrees for two days: 1361 W m-2 x 4e-4.
    np.testing.assert_allclose(long, short.mean(0), rtol=0, atol=0.5)


def test_polar_night_is_exactly_dark_and_polar_day_has_no_night():
    december = sunlight('2020-12-21T12')
    north = GRID.latitudes >= 70
    south = GRID.latitudes <= -70
    assert (december[north] == 0).all()
    assert december[south].min() > 100
    assert (sunlight('2020-06-21T12')[south] == 0).all()


def test_night_is_exactly_dark_at_the_equator():
    equator = sunlight('2020-03-20T03')[18]  # 21 to 3 UTC
    night = (GRID.longitudes < 40) | (GRID.longitudes > 320)
    assert (equator[night] == 0).all()
    assert (equator >= 0).all()


def test_hemispheres_mirror_at_the_equinox_and_summer_wins_at_the_solstice():
    # Mid-step is 50 minutes before the equinox: 2 x 1361 W m-2 x 2.4e-4 rad.
    equinox = sunlight('2020-03-20T06')
    np.testing.assert_allclose(equinox, equinox[::-1], rtol=0, atol=0.65)
    solstice = sunlight('2020-06-21T00', timestep=24 * HOUR).mean(-1)
    assert (solstice[:18] > solstice[:18:-1]).all()
    # At the June solstice the pole receives the most of any latitude: 1.37 times the
    # equator (Hartmann, figure 2.6).
    assert solstice.argmax() == 0
    np.testing.assert_allclose(solstice[0] / solstice[18], 1.37, atol=0.02)


def test_sun_moves_west_fifteen_degrees_an_hour():
    one, next_one = sunlight(['2020-08-01T06', '2020-08-01T10'])
    # 4 hours are 12 columns of 5 degrees; the declination moved by 0.04 degrees.
    np.testing.assert_allclose(next_one, np.roll(one, -12, axis=-1), rtol=0, atol=1.5)


def test_hours_since_1970_and_dates_are_the_same_times():
    dates = np.array([['1959-01-01T06', '1970-01-01T00'], ['2020-02-29T18'] * 2])
    dates = dates.astype('datetime64[ns]')
    hours = (dates - np.datetime64('1970-01-01')) // HOUR
    one = forcings.clock(dates, timestep=SIX_HOURS)
    other = forcings.clock(hours, timestep=SIX_HOURS)
    assert one.shape == (2, 2, len(forcings.CLOCK))
    assert one.dtype == np.float32
    np.testing.assert_array_equal(one, other)


def test_forcing_fields_are_named_scaled_and_take_any_leading_axes():
    times = np.arange('2020-01-01', '2020-12-01', 670, dtype='datetime64[h]')[:12]
    clock = forcings.clock(times.reshape(3, 4), timestep=SIX_HOURS)
    fields = jax.jit(forcings.forcing_fields, static_argnums=1)(clock, GRID)
    assert fields.shape == (3, 4, *GRID.shape, len(forcings.FORCINGS))
    assert fields.dtype == np.float32
    assert np.abs(fields).max() < 1.04
    np.testing.assert_allclose(
        fields[..., 0] * forcings.SOLAR_CONSTANT,
        sunlight(times).reshape(3, 4, *GRID.shape),
        **FLOAT32,
    )


def test_local_time_is_solar_time_and_vanishes_at_the_poles():
    clock = forcings.clock(np.datetime64('2020-01-01T06'), timestep=SIX_HOURS)
    fields = np.asarray(forcings.forcing_fields(clock, GRID))
    sine, cosine = fields[..., 1], fields[..., 2]
    east = int(np.flatnonzero(GRID.longitudes == 90)[0])
    # At 6 UTC it is noon at 90 E, phase pi, and 6 o'clock at Greenwich, phase pi/2.
    np.testing.assert_allclose([sine[18, east], cosine[18, east]], [0, -1], atol=1e-6)
    np.testing.assert_allclose([sine[18, 0], cosine[18, 0]], [1, 0], atol=1e-6)
    assert np.abs(fields[[0, -1], :, 1:3]).max() < 1e-6


def test_year_turns_once_in_a_tropical_year_and_is_uniform():
    start = np.datetime64('2000-01-01T00')
    times = start + HOUR * np.round(365.24219 * 24 * np.arange(0, 50, 0.25)).astype(int)
    clock = forcings.clock(times, timestep=SIX_HOURS)
    year = np.asarray(forcings.forcing_fields(clock, GRID))[..., 3:]
    assert np.ptp(year, axis=(1, 2)).max() == 0
    # Half an hour of rounding of the times is 4e-4 of phase.
    quarters = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]])
    np.testing.assert_allclose(year[:, 0, 0], np.tile(quarters, (50, 1)), atol=4.4e-4)


@pytest.mark.parametrize('times', [np.array([1.5]), np.array(['2020'])])
def test_times_that_are_neither_hours_nor_dates_are_refused(times):
    with pytest.raises(ValueError, match='integer hours since 1970'):
        forcings.clock(times, timestep=SIX_HOURS)


def test_impossible_step_and_foreign_clock_are_refused():
    with pytest.raises(ValueError, match='longer than zero'):
        forcings.clock(np.array([0]), timestep=0 * HOUR)
    with pytest.raises(ValueError, match='forcings.clock'):
        forcings.forcing_fields(np.zeros((2, 3), np.float32), GRID)


def test_clock_of_zeros_gives_finite_fields():
    fields = forcings.forcing_fields(np.zeros(len(forcings.CLOCK), np.float32), GRID)
    assert np.isfinite(fields).all()


def stored_statics(grid=GRID):
    latitude = np.radians(grid.latitudes)[:, None]
    hills = 2000 + 500 * np.cos(latitude) * np.cos(np.radians(grid.longitudes))
    mask = np.broadcast_to(latitude > 0, grid.shape).astype(np.float32)
    return {'geopotential_at_surface': hills, 'land_sea_mask': mask}


@pytest.mark.parametrize('grid', KINDS, ids=lambda grid: grid.kind)
def test_orography_is_standardised_over_the_sphere(grid):
    fields = forcings.static_fields(stored_statics(grid), grid, STATICS)
    orography = fields[..., 0].astype(np.float64)
    assert fields.shape == (*grid.shape, 5)
    assert fields.dtype == np.float32
    np.testing.assert_allclose(global_mean(orography, grid), 0, atol=1e-6)
    np.testing.assert_allclose(global_mean(orography**2, grid), 1, atol=1e-6)
    np.testing.assert_array_equal(fields[..., 1], stored_statics(grid)['land_sea_mask'])


def test_positions_are_the_unit_vector_and_single_valued_at_the_poles():
    fields = forcings.static_fields({}, GRID, forcings.POSITIONS)
    np.testing.assert_allclose((fields**2).sum(-1), 1, atol=3e-7)
    np.testing.assert_allclose(np.ptp(fields[[0, -1]], axis=1), 0, atol=1e-7)
    z, y, x = np.moveaxis(fields, -1, 0)
    np.testing.assert_allclose([z[0, 0], x[18, 0], y[18, 18]], 1)


def test_statics_come_in_the_order_asked_for():
    names = ('land_sea_mask', 'sin_latitude')
    fields = forcings.static_fields(stored_statics(), GRID, names)
    everything = forcings.static_fields(stored_statics(), GRID, STATICS)
    positions = [STATICS.index(name) for name in names]
    np.testing.assert_array_equal(fields, everything[..., positions])
    assert forcings.static_fields({}, GRID, ()).shape == (*GRID.shape, 0)


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda s: s.pop('land_sea_mask'), "no static 'land_sea_mask'"),
        (lambda s: s.update(land_sea_mask=np.zeros((72, 37))), r'\(72, 37\)'),
        (lambda s: s['land_sea_mask'].__setitem__((0, 0), np.nan), '1 values'),
        (
            lambda s: s.update(geopotential_at_surface=np.full(GRID.shape, 273.15)),
            'constant',
        ),
    ],
)
def test_unusable_statics_are_named(change, message):
    stored = stored_statics()
    change(stored)
    with pytest.raises(ValueError, match=message):
        forcings.static_fields(stored, GRID, STATICS)


def test_misspelt_static_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'land_sea_mask'"):
        forcings.static_fields(stored_statics(), GRID, ('landsea_mask',))


def test_statics_of_the_reanalysis_are_those_of_the_earth(shared_data):
    xarray = pytest.importorskip('xarray')
    path = shared_data / 'ncep_r1_20220101_5d_73x144.zarr'
    store = xarray.open_zarr(path, chunks=None, decode_timedelta=True)
    store = store.isel(latitude=slice(None, None, -1)).transpose(
        ..., 'latitude', 'longitude'
    )
    grid = LatLonGrid.from_latitudes_longitudes(store.latitude, store.longitude)
    orography, land = np.moveaxis(
        forcings.static_fields(store, grid, STATICS[:2]), -1, 0
    )
    at = np.abs(grid.latitudes - 32.5).argmin(), np.abs(grid.longitudes - 87.5).argmin()
    assert orography[at] > 4  # Tibet
    # Land covers 29 % of the earth; this mask counts ice shelves as land.
    np.testing.assert_allclose(global_mean(land, grid), 0.29, atol=0.03)
