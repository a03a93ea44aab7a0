import numpy as np
import pytest

from sphere_ops.grid import LatLonGrid
from weather.evaluation import metrics
from weather.evaluation.regions import REGIONS, RegionalMean

# float64 throughout: only round-off remains.
ROUND_OFF = dict(rtol=1e-12, atol=1e-13)
GRID = LatLonGrid('equiangular_with_poles', num_lat=37, num_lon=72)
MEAN = RegionalMean(GRID.latitudes, GRID.longitudes)


@pytest.fixture
def fields():
    return np.random.default_rng(0).normal(size=(3, 2, *GRID.shape))


def score(forecast, truth, climatology=None):
    """Metrics of one start by name, each `[level, region]`, before `final`."""
    means = metrics.regional_means(forecast, truth, MEAN, climatology)
    if climatology is not None:
        of_climatology = metrics.regional_means(climatology, truth, MEAN)
        means['truth_anomaly_squared'] = of_climatology['squared_error']
    return dict(zip(metrics.NAMES, metrics.of_start(means), strict=True))


def test_constant_error_is_bias_and_root_of_mse():
    truth = np.random.default_rng(1).normal(size=(2, *GRID.shape))
    scores = score(truth - 2, truth)
    np.testing.assert_allclose(scores['bias'], -2, **ROUND_OFF)
    np.testing.assert_allclose(scores['mae'], 2, **ROUND_OFF)
    np.testing.assert_allclose(scores['rmse'], 4, **ROUND_OFF)
    assert np.isnan(scores['acc']).all()
    rmse = metrics.METRICS[metrics.NAMES.index('rmse')]
    np.testing.assert_allclose(rmse.final(scores['rmse']), 2, **ROUND_OFF)


def test_anomaly_correlation_is_the_formula(fields):
    forecast, truth, climatology = fields
    scores = score(forecast, truth, climatology)
    f, o = forecast - climatology, truth - climatology
    expected = MEAN(f * o) / np.sqrt(MEAN(f**2) * MEAN(o**2))
    np.testing.assert_allclose(scores['acc'], expected, **ROUND_OFF)
    assert expected.shape == (2, len(REGIONS))


def test_truth_correlates_perfectly_its_mirror_image_inversely(fields):
    truth, climatology = fields[:2]
    perfect = score(truth, truth, climatology)['acc']
    np.testing.assert_allclose(perfect, 1, **ROUND_OFF)
    mirrored = score(2 * climatology - truth, truth, climatology)['acc']
    np.testing.assert_allclose(mirrored, -1, **ROUND_OFF)


def test_climatology_has_no_anomaly_correlation(fields):
    truth, climatology = fields[:2]
    assert np.isnan(score(climatology, truth, climatology)['acc']).all()
    itself = score(climatology, climatology)
    np.testing.assert_array_equal(itself['rmse'], 0)


@pytest.mark.parametrize('half', [np.float16, np.float32])
def test_narrow_fields_are_subtracted_and_summed_in_float64(half):
    # Values that subtraction or summation in their own type would round.
    truth = np.full(GRID.shape, 5e4, half)
    forecast = np.nextafter(truth, half(np.inf))
    difference = np.float64(forecast[0, 0]) - np.float64(truth[0, 0])
    assert difference > 0
    np.testing.assert_allclose(score(forecast, truth)['bias'], difference, **ROUND_OFF)
