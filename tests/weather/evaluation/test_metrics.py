import numpy as np
import pytest

from sphere_ops.grid import KINDS, LatLonGrid
from weather.evaluation import metrics

# float64 throughout: only round-off remains.
ROUND_OFF = dict(rtol=1e-12, atol=1e-13)
GRID = LatLonGrid('equiangular_with_poles', num_lat=37, num_lon=72)


def points(region):
    """Explicit `[lat, lon]` mask from the bounds, the slow way."""
    south_north = region.latitudes
    west, east = region.longitudes or (0, 360)
    mask = np.zeros(GRID.shape, bool)
    for i, latitude in enumerate(GRID.latitudes):
        for j, longitude in enumerate(GRID.longitudes):
            inside = any(south <= latitude <= north for south, north in south_north)
            wrapped = west > east and (longitude >= west or longitude <= east)
            mask[i, j] = inside and (west <= longitude <= east or wrapped)
    return mask


def explicit_mean(field, mask):
    weights = (GRID.area_weights[:, None] * mask)[mask]
    return (field[mask] * weights).sum() / weights.sum()


@pytest.fixture
def fields():
    return np.random.default_rng(0).normal(size=(3, 2, *GRID.shape))


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('num_lat', [2, 7, 32])
def test_weights_are_those_of_the_grid(kind, num_lat):
    grid = LatLonGrid(kind, num_lat=num_lat, num_lon=8)
    np.testing.assert_allclose(
        metrics.area_weights(grid.latitudes), grid.area_weights, **ROUND_OFF
    )


def test_weights_of_any_rows_have_mean_one_and_follow_a_flip():
    latitudes = np.array([-77.0, -30.5, 1.0, 12.0, 88.0])
    weights = metrics.area_weights(latitudes)
    np.testing.assert_allclose(weights.mean(), 1, **ROUND_OFF)
    np.testing.assert_array_equal(metrics.area_weights(latitudes[::-1]), weights[::-1])


def test_weights_on_cell_centres_are_cosines():
    latitudes = np.arange(-88.75, 90, 2.5)
    cosines = np.cos(np.radians(latitudes))
    np.testing.assert_allclose(
        metrics.area_weights(latitudes), cosines / cosines.mean(), **ROUND_OFF
    )


@pytest.mark.parametrize(
    'latitudes, message',
    [
        ([10, 0, 5], 'ascending or descending'),
        ([0, 0, 5], 'ascending or descending'),
        ([-100, 0, 100], 'between -90 and 90'),
    ],
)
def test_weights_refuse_latitudes_that_are_none(latitudes, message):
    with pytest.raises(ValueError, match=message):
        metrics.area_weights(latitudes)


@pytest.mark.parametrize('name', metrics.REGIONS)
def test_regional_mean_is_the_weighted_mean_over_its_points(name, fields):
    region = metrics.REGIONS[name]
    mean = metrics.RegionalMean(GRID.latitudes, GRID.longitudes, {name: region})
    mask = points(region)
    assert 0 < mask.sum() <= mask.size
    for index in np.ndindex(fields.shape[:2]):
        np.testing.assert_allclose(
            mean(fields)[index], explicit_mean(fields[index], mask), **ROUND_OFF
        )


def test_all_regions_at_once_equal_each_alone(fields):
    everything = metrics.RegionalMean(GRID.latitudes, GRID.longitudes)(fields)
    for i, (name, region) in enumerate(metrics.REGIONS.items()):
        alone = metrics.RegionalMean(GRID.latitudes, GRID.longitudes, {name: region})
        np.testing.assert_allclose(
            everything[..., i], alone(fields)[..., 0], **ROUND_OFF
        )


def test_europe_crosses_greenwich():
    columns = metrics.REGIONS['europe'].columns(GRID.longitudes)
    np.testing.assert_array_equal(
        GRID.longitudes[columns], [0, 5, 10, 15, 20, 25, 30, 35, 40, 350, 355]
    )


def test_edges_belong_to_a_region_and_rounded_coordinates_too():
    latitudes = np.array([30.0, 20.0004, 0.0, -20.0004, -30.0])
    np.testing.assert_array_equal(
        metrics.REGIONS['tropics'].rows(latitudes), [False, True, True, True, False]
    )


def test_constant_has_itself_as_mean_everywhere():
    mean = metrics.RegionalMean(GRID.latitudes, GRID.longitudes)
    np.testing.assert_allclose(mean(np.full(GRID.shape, 3.5)), 3.5, **ROUND_OFF)


def test_nan_spoils_the_regions_that_hold_it_and_no_others(fields):
    row, column = list(GRID.latitudes).index(-70), 0
    fields[0, 0, row, column] = np.nan
    mean = metrics.RegionalMean(GRID.latitudes, GRID.longitudes)
    means = mean(fields)
    holds = [points(region)[row, column] for region in metrics.REGIONS.values()]
    np.testing.assert_array_equal(np.isnan(means[0, 0]), holds)
    assert np.isfinite(means[0, 1]).all() and np.isfinite(means[1:]).all()
    clean = np.nan_to_num(fields)
    np.testing.assert_allclose(
        means[0, 0, ~np.array(holds)], mean(clean)[0, 0, ~np.array(holds)], **ROUND_OFF
    )


def test_region_without_points_is_an_error():
    latitudes, longitudes = np.array([45.0, -46.0]), np.array([0.0, 180.0])
    with pytest.raises(ValueError, match="region 'ausnz' .* no point of this grid"):
        metrics.RegionalMean(latitudes, longitudes, metrics.get_regions(['ausnz']))
    assert 'ausnz' not in metrics.regions_on(latitudes, longitudes)
    assert 'europe' in metrics.regions_on(latitudes, longitudes)


def test_unknown_region_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'tropics'"):
        metrics.get_regions(['tropic'])


def test_constant_error_is_bias_and_root_of_mse():
    mean = metrics.RegionalMean(GRID.latitudes, GRID.longitudes)
    truth = np.random.default_rng(1).normal(size=(2, *GRID.shape))
    scores = metrics.moments(truth - 2, truth, mean)
    np.testing.assert_allclose(scores.bias, -2, **ROUND_OFF)
    np.testing.assert_allclose(scores.mae, 2, **ROUND_OFF)
    np.testing.assert_allclose(scores.mse, 4, **ROUND_OFF)
    assert np.isnan(scores.acc).all()


def test_anomaly_correlation_is_the_formula(fields):
    forecast, truth, climatology = fields
    mean = metrics.RegionalMean(GRID.latitudes, GRID.longitudes)
    scores = metrics.moments(forecast, truth, mean, climatology=climatology)
    f, o = forecast - climatology, truth - climatology
    for i, region in enumerate(metrics.REGIONS.values()):
        mask = points(region)
        for level in range(2):
            expected = explicit_mean(f[level] * o[level], mask) / np.sqrt(
                explicit_mean(f[level] ** 2, mask) * explicit_mean(o[level] ** 2, mask)
            )
            np.testing.assert_allclose(scores.acc[level, i], expected, **ROUND_OFF)


def test_truth_correlates_perfectly_its_mirror_image_inversely(fields):
    truth, climatology = fields[:2]
    mean = metrics.RegionalMean(GRID.latitudes, GRID.longitudes)
    perfect = metrics.moments(truth, truth, mean, climatology=climatology)
    np.testing.assert_allclose(perfect.acc, 1, **ROUND_OFF)
    mirrored = metrics.moments(
        2 * climatology - truth, truth, mean, climatology=climatology
    )
    np.testing.assert_allclose(mirrored.acc, -1, **ROUND_OFF)


def test_climatology_has_no_anomaly_correlation(fields):
    truth, climatology = fields[:2]
    mean = metrics.RegionalMean(GRID.latitudes, GRID.longitudes)
    scores = metrics.moments(climatology, truth, mean, climatology=climatology)
    assert np.isnan(scores.acc).all()
    itself = metrics.moments(climatology, climatology, mean)
    np.testing.assert_array_equal(itself.mse, 0)


def test_float32_fields_are_subtracted_and_summed_in_float64():
    # Geopotential-sized values that float32 subtraction or summation would round.
    truth = np.full(GRID.shape, 5e4, np.float32)
    forecast = np.nextafter(truth, np.float32(np.inf))
    mean = metrics.RegionalMean(GRID.latitudes, GRID.longitudes)
    difference = np.float64(forecast[0, 0]) - np.float64(truth[0, 0])
    scores = metrics.moments(forecast, truth, mean)
    np.testing.assert_allclose(scores.bias, difference, **ROUND_OFF)
