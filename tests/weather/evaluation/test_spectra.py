import numpy as np
import pytest
import xarray as xr

from sphere_ops import LatLonGrid, SpinTransform
from weather.evaluation import spectra

# Transforms in float32 of fields of order one; powers are squares of them.
FLOAT32 = dict(rtol=2e-5, atol=1e-9)
# NumPy's float64 transform along longitude.
ROUND_OFF = dict(rtol=1e-12, atol=1e-12)
GRID = LatLonGrid('gauss', num_lat=16, num_lon=32)
HOURS = np.timedelta64(1, 'h')


@pytest.fixture(scope='module')
def transform():
    return SpinTransform.create(GRID, spins=(0, 1))


def colatitude_longitude():
    return np.meshgrid(GRID.colatitudes, np.radians(GRID.longitudes), indexing='ij')


def test_variance_of_one_harmonic_stands_at_its_degree(transform):
    # Proportional to the harmonic of degree 2 and order 1; its mean square is 1/15.
    colatitude, longitude = colatitude_longitude()
    field = 5e4 + np.sin(colatitude) * np.cos(colatitude) * np.cos(longitude)
    expected = np.zeros(transform.max_degree)
    expected[2 - 1] = 1 / 15
    found = spectra.variance_spectrum(transform, field)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-8)


def test_solid_body_rotation_has_its_energy_at_degree_one(transform):
    # u = U cos(latitude): the mean of u^2 / 2 is U^2 / 3.
    colatitude, _ = colatitude_longitude()
    eastward = 30 * np.sin(colatitude)
    found = spectra.kinetic_energy_spectrum(transform, eastward, 0 * eastward)
    expected = np.zeros(transform.max_degree)
    expected[0] = 30**2 / 3
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


def test_spectra_sum_to_the_mean_over_the_sphere(transform):
    # Polynomials of degree 3 in Cartesian coordinates: squares are integrated exactly.
    colatitude, longitude = colatitude_longitude()
    x = np.sin(colatitude) * np.cos(longitude)
    y = np.sin(colatitude) * np.sin(longitude)
    field = x**3 + x * y - np.cos(colatitude)
    area = GRID.quadrature_weights[:, None] / 2 / GRID.num_lon
    variance = (area * field**2).sum() - (area * field).sum() ** 2
    found = spectra.variance_spectrum(transform, field)
    np.testing.assert_allclose(found.sum(), variance, **FLOAT32)
    np.testing.assert_allclose(found[3:], 0, atol=1e-9)


def test_era5_kinetic_energy_falls_as_independently_evaluated(shared_data):
    # Slopes of the log-log spectrum over degrees 8 to 20, from an independent code.
    with xr.open_dataset(shared_data / 'era5_19590102T00_tl31_37levels.nc') as era5:
        winds = era5[['u_component_of_wind', 'v_component_of_wind']].load()
    winds = winds.squeeze().transpose('level', 'latitude', 'longitude')
    winds = winds.sortby('latitude', ascending=False)
    grid = LatLonGrid.from_latitudes_longitudes(winds.latitude, winds.longitude)
    degrees = np.arange(8, 21)
    for level, slope in ((250, -2.19), (500, -2.33), (850, -2.25)):
        energy = spectra.kinetic_energy_spectrum(
            SpinTransform.create(grid, spins=(1,)),
            winds.u_component_of_wind.sel(level=level).values,
            winds.v_component_of_wind.sel(level=level).values,
        )
        found = np.polyfit(np.log(degrees), np.log(energy[degrees - 1]), 1)[0]
        assert found == pytest.approx(slope, abs=0.02)


def forecasts_that_equal(sources, factor):
    valid = sources.forecasts.time + sources.forecasts.prediction_timedelta
    truth = sources.truth.sel(time=valid).assign_coords(time=sources.forecasts.time)
    return factor * truth


LEVELS = {
    'geopotential': (850, 500),
    'u_component_of_wind': (500,),
    'v_component_of_wind': (500,),
    '2m_temperature': (),
}


def test_damped_forecasts_have_less_power_at_every_degree(sources):
    found = spectra.power_spectra(
        forecasts_that_equal(sources, 0.5), sources.truth, levels=LEVELS
    )
    assert list(found.variable) == ['geopotential', '2m_temperature', 'wind_vector']
    for name, levels in (
        ('geopotential', [500, 850]),
        ('wind_vector', [500]),
        ('2m_temperature', [-1]),
    ):
        ratio = found.ratio.sel(variable=name, level=levels)
        np.testing.assert_allclose(ratio, 0.25, **FLOAT32)
    assert found.ratio.sel(variable='wind_vector', level=850).isnull().all()
    np.testing.assert_array_equal(found.degree, np.arange(1, 10))


def test_spectra_are_means_over_starts_at_the_valid_times(sources):
    found = spectra.power_spectra(sources.forecasts, sources.truth, levels=LEVELS)
    grid = LatLonGrid('equiangular_with_poles', num_lat=19, num_lon=36)
    transform = SpinTransform.create(grid, spins=(0, 1))
    for lead in sources.forecasts.prediction_timedelta.values:
        valid = sources.truth.sel(time=sources.forecasts.time + lead, level=500)
        start = sources.forecasts.sel(prediction_timedelta=lead, level=500)
        at = dict(lead_time=lead, level=500)
        for name, dataset in (('truth', valid), ('forecast', start)):
            np.testing.assert_allclose(
                found[name].sel(at).sel(variable='geopotential'),
                spectra.variance_spectrum(transform, dataset.geopotential.values).mean(
                    axis=0
                ),
                **FLOAT32,
            )
            energy = spectra.kinetic_energy_spectrum(
                transform,
                dataset.u_component_of_wind.values,
                dataset.v_component_of_wind.values,
            )
            np.testing.assert_allclose(
                found[name].sel(at).sel(variable='wind_vector'),
                energy.mean(axis=0),
                **FLOAT32,
            )


def test_spectra_do_not_depend_on_orientation(sources):
    expected = spectra.power_spectra(sources.forecasts, sources.truth, levels=LEVELS)
    turned = sources.truth.sortby('latitude').transpose('longitude', ...)
    found = spectra.power_spectra(sources.forecasts, turned, levels=LEVELS)
    xr.testing.assert_equal(found, expected)


def test_some_starts_stand_for_all(sources):
    one = spectra.power_spectra(sources.forecasts, sources.truth, levels=LEVELS)
    some = spectra.power_spectra(
        sources.forecasts, sources.truth, levels=LEVELS, max_starts=2
    )
    ends = spectra.power_spectra(
        sources.forecasts.isel(time=[0, 2]), sources.truth, levels=LEVELS
    )
    xr.testing.assert_equal(some, ends)
    assert some.attrs['num_starts'] == 2 and one.attrs['num_starts'] == 3


def test_headline_is_the_default(sources):
    found = spectra.power_spectra(sources.forecasts, sources.truth)
    assert list(found.variable) == ['geopotential', 'wind_vector']
    assert found.forecast.sel(variable='geopotential', level=500).notnull().all()
    assert found.forecast.sel(variable='geopotential', level=850).isnull().all()
    assert list(found.units.values) == ['(m2 s-2)2', 'm2 s-2']


def test_one_wind_component_alone_is_an_error(sources):
    with pytest.raises(ValueError, match='needs the other at the same levels'):
        spectra.power_spectra(
            sources.forecasts, sources.truth, levels={'u_component_of_wind': (500,)}
        )


def test_nothing_of_the_headline_is_an_error(sources):
    surface = ['2m_temperature']
    with pytest.raises(ValueError, match='share nothing of'):
        spectra.power_spectra(sources.forecasts[surface], sources.truth[surface])


def test_zonal_spectrum_of_a_wave_is_its_energy_on_the_circle():
    latitudes = np.array([60.0, 0.0])
    longitude = np.radians(np.arange(12) * 30)
    field = 2 + 3 * np.cos(2 * longitude - 0.4) + np.zeros((2, 1))
    found = spectra.zonal_energy_spectrum(field, latitudes)
    equator = 2 * np.pi * 6.3675e6
    expected = np.zeros((2, 7))
    expected[:, 0], expected[:, 2] = 4, 9 / 2
    expected *= equator * np.array([[0.5], [1]])
    np.testing.assert_allclose(found / equator, expected / equator, **ROUND_OFF)


def test_zonal_spectrum_sums_to_the_integral_along_the_circle():
    field = np.random.default_rng(0).normal(size=(3, 5, 9))
    latitudes = np.linspace(80, -80, 5)
    circles = 2 * np.pi * 6.3675e6 * np.cos(np.radians(latitudes))
    np.testing.assert_allclose(
        spectra.zonal_energy_spectrum(field, latitudes).sum(axis=-1) / circles,
        (field**2).mean(axis=-1),
        **ROUND_OFF,
    )
