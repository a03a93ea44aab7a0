"""Scores of WeatherBench 2: `METRICS`, made of regional means and averaged over starts.

NumPy only. A field is `[..., lat, lon]`. Formulas: Rasp et al. 2024, WeatherBench 2
(JAMES 16, e2023MS004019); details (what is averaged before what) as in version 0.2.1 of
their code.

A new metric is an entry of `METRICS`, and one of `_FIELDS` where it needs the mean of
something new: scores, tables and CSV take their metrics from there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from weather.evaluation.regions import RegionalMean


@dataclasses.dataclass(frozen=True)
class _Compared:
    """What is compared at one valid time, each `[..., lat, lon]`."""

    forecast: np.ndarray
    truth: np.ndarray
    climatology: np.ndarray | None
    error: np.ndarray


def _anomaly_squared(fields: _Compared, out: np.ndarray) -> None:
    assert fields.climatology is not None  # As `regional_means` sees to.
    np.subtract(fields.forecast, fields.climatology, out=out, dtype=np.float64)
    np.multiply(out, out, out=out)


# Fields that are averaged over regions beside `error` itself, by name: functions that
# write one into `out`, `[..., lat, lon]` float64.
_FIELDS: Mapping[str, Callable[[_Compared, np.ndarray], object]] = {
    'absolute_error': lambda fields, out: np.abs(fields.error, out=out),
    'squared_error': lambda fields, out: np.multiply(
        fields.error, fields.error, out=out
    ),
    'anomaly_squared': _anomaly_squared,
}
# Not to be had without a climatology; what needs them is NaN then.
_OF_CLIMATOLOGY = ('anomaly_squared', 'truth_anomaly_squared')


@dataclasses.dataclass(frozen=True)
class Metric:
    """A score: a function of regional means, averaged over starts.

    Attributes:
      name: in results and tables.
      fields: whose means it is made of: `error`, names in `_FIELDS`, or
        `truth_anomaly_squared`. It is NaN where there is no climatology for one.
      of_start: makes the score of one start of these means, each `[..., region]`.
      final: what is done to its average over starts.
      adds_up: whether the average for a vector is the sum over its components.
    """

    name: str
    fields: tuple[str, ...]
    of_start: Callable[..., np.ndarray] = lambda mean: mean
    final: Callable[[np.ndarray], np.ndarray] = lambda average: average
    adds_up: bool = False


def correlation(
    forecast_variance: np.ndarray, truth_variance: np.ndarray, mse: np.ndarray
) -> np.ndarray:
    """Anomaly correlation from second moments; NaN where an anomaly vanishes.

    With anomalies f' = forecast - climatology and o' = truth - climatology,
    ACC = <f' o'> / sqrt(<f'^2> <o'^2>); the means of f' and o' are not removed. The
    covariance follows from <f' o'> = (<f'^2> + <o'^2> - <(f - o)^2>) / 2, which saves
    a pass over the fields.
    """
    covariance = (forecast_variance + truth_variance - mse) / 2
    with np.errstate(divide='ignore', invalid='ignore'):
        return covariance / np.sqrt(forecast_variance * truth_variance)


METRICS = (
    # The root of the mean over starts, not the mean of roots.
    Metric('rmse', ('squared_error',), final=np.sqrt, adds_up=True),
    Metric('bias', ('error',)),
    Metric('mae', ('absolute_error',)),
    Metric(
        'acc',
        ('anomaly_squared', 'truth_anomaly_squared', 'squared_error'),
        of_start=correlation,
    ),
)
NAMES = tuple(metric.name for metric in METRICS)
_NEEDED = {name for metric in METRICS for name in metric.fields}
_WITH_CLIMATOLOGY = tuple(name for name in _FIELDS if name in _NEEDED)
_WITHOUT = tuple(name for name in _WITH_CLIMATOLOGY if name not in _OF_CLIMATOLOGY)


def regional_means(
    forecast: np.ndarray,
    truth: np.ndarray,
    mean: RegionalMean,
    climatology: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Means of all that the metrics need of one forecast field.

    `truth_anomaly_squared` is not among them: it is the `squared_error` of the
    climatology, the same for every forecast of that time.

    Args:
      forecast: `[..., lat, lon]`.
      truth: `[..., lat, lon]`.
      mean: the regional mean on their grid.
      climatology: `[..., lat, lon]` at the valid time.

    Returns:
      `[..., region]`, float64, of `error` and by the names in `_FIELDS`.
    """
    names = _WITHOUT if climatology is None else _WITH_CLIMATOLOGY
    # One stack, so that the means are one pass over memory that is still in cache.
    error, *others = fields = np.empty((1 + len(names), *truth.shape))
    np.subtract(forecast, truth, out=error, dtype=np.float64)
    compared = _Compared(forecast, truth, climatology, error)
    for name, out in zip(names, others, strict=True):
        _FIELDS[name](compared, out)
    return dict(zip(('error', *names), mean(fields), strict=True))


def of_start(means: Mapping[str, np.ndarray]) -> np.ndarray:
    """Every metric of one start, `[metric, ..., region]`, from means by name."""
    scores = np.full((len(METRICS), *means['error'].shape), np.nan)
    for metric, out in zip(METRICS, scores, strict=True):
        if all(name in means for name in metric.fields):
            out[...] = metric.of_start(*(means[name] for name in metric.fields))
    return scores
