"""The loop over starts and lead times: scores of fields, averaged.

Forecasts, truth and climatology are read one wind or scalar, start and block of lead
times at a time; sums are kept in float64. Baselines are scored at the very starts and
lead times of the forecast, so that a table compares like with like.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from weather.evaluation import metrics, pairing, readers
from weather.evaluation.regions import RegionalMean
from weather.variables import wind_pairs

_SQUARED = metrics.NAMES.index('rmse')
# `[metric, 1, 1, 1]`, beside `[level, region, lead]`.
_ADDS_UP = np.reshape([metric.adds_up for metric in metrics.METRICS], (-1, 1, 1, 1))


class Averages(NamedTuple):
    """Scores of one variable, averaged over starts.

    Attributes:
      levels: its levels.
      values: `[model, metric, level, region, lead]`, as `metrics.METRICS` before
        `final`.
      starts: `[level, region, lead]`, how many starts have no NaN there.
      suspect: what makes one doubt that both sides are in the same units, if so.
    """

    levels: tuple[float | None, ...]
    values: np.ndarray
    starts: np.ndarray
    suspect: str | None = None


def average_scores(
    plan: pairing.Pairing, mean: RegionalMean, cache_bytes: int
) -> dict[str, Averages]:
    """Scores every variable of a plan, and the vectors that they make, by name.

    `cache_bytes` is memory for fields of truth and climatology that are read again.
    """
    averages: dict[str, Averages] = {}
    for names in _together(plan.levels):
        averages |= _score_together(plan, names, mean, cache_bytes)
    return averages


def _together(levels: Mapping[str, Sequence]) -> Iterator[tuple[str, ...]]:
    """Variables that are scored together: both components of a wind, others alone."""
    pairs = [
        (wind.eastward, wind.northward)
        for wind in wind_pairs()
        if levels.get(wind.eastward, ()) == levels.get(wind.northward)
    ]
    # Read once, both components serve the score of the vector too.
    yield from pairs
    for name in levels:
        if not any(name in pair for pair in pairs):
            yield (name,)


@np.errstate(invalid='ignore')
def _score_together(
    plan: pairing.Pairing,
    names: tuple[str, ...],
    mean: RegionalMean,
    cache_bytes: int,
) -> dict[str, Averages]:
    """Scores variables at the same starts, and the vector that two of them make.

    One NaN in a forecast, or in the truth, would make the average over a year NaN: such
    a start is left out of that level, region and lead time, for all models alike.
    """
    levels, cache = plan.levels[names[0]], readers.BlockCache(cache_bytes)
    references = [_Reference(plan, name, mean, cache) for name in names]
    parts = len(levels), len(mean.names), plan.leads.size
    values = np.zeros((len(names), len(plan.models), len(metrics.NAMES), *parts))
    starts = np.zeros(parts, int)
    suspects: dict[str, str | None] = {}
    # Holes of the climatology are its own: they cost the others no start.
    compared = [row for row, m in enumerate(plan.models) if m != 'climatology']
    for start, lead, *fields in plan.forecast_fields(*names):
        pairs = [*zip(references, map(_ensemble_mean, fields), strict=True)]
        if not suspects:
            found = [of.suspicion(field, start, lead) for of, field in pairs]
            suspects = dict(zip(names, found, strict=True))
        scored = np.stack([of.score_models(field, start, lead) for of, field in pairs])
        # Squared errors tell: they are finite wherever all fields are.
        whole = np.isfinite(scored[:, compared, _SQUARED]).all(axis=(0, 1))
        values[..., lead] += np.where(whole, scored, 0)
        starts[..., lead] += whole
    values /= starts
    of_name = dict(zip(names, values, strict=True))
    for wind in wind_pairs():
        if (wind.eastward, wind.northward) == names:
            # Mean squares still: the root is taken of their sum.
            of_name[wind.vector] = np.where(_ADDS_UP, values.sum(axis=0), np.nan)
    return {
        name: Averages(levels, of, starts, suspects.get(name))
        for name, of in of_name.items()
    }


def _ensemble_mean(fields: np.ndarray) -> np.ndarray:
    """`[member, level, lat, lon]` to `[level, lat, lon]`."""
    return fields[0] if len(fields) == 1 else fields.mean(axis=0, dtype=np.float64)


class _Reference:
    """What forecasts of one variable are scored against, at positions of the truth."""

    def __init__(
        self,
        plan: pairing.Pairing,
        name: str,
        mean: RegionalMean,
        cache: readers.BlockCache,
    ):
        self._plan = plan
        self._mean = mean
        self._truth = readers.FieldReader(
            plan.truth[name], 'time', levels=plan.levels[name], cache=cache
        )
        self._climatology = plan.climatology_reader(name, cache)
        # Means over regions are small: kept for every valid time.
        self._of_climatology: dict[int, dict[str, np.ndarray]] = {}

    def score_models(self, forecast: np.ndarray, start: int, lead: int) -> np.ndarray:
        """Returns `[model, metric, level, region]`, for numbers of the plan."""
        valid = int(self._plan.valid[start, lead])
        scored = []
        for model in self._plan.models:
            if model == 'climatology':
                scored.append(metrics.of_start(self._means_of_climatology(valid)))
                continue
            initial = int(self._plan.init[start])
            field = self._truth(initial) if model == 'persistence' else forecast
            scored.append(metrics.of_start(self._means(field, valid)))
        return np.stack(scored)

    def suspicion(self, forecast: np.ndarray, start: int, lead: int) -> str | None:
        """Says what is not in the units of the truth, by its size; arguments as above.

        Where a `units` attribute is absent nobody knows, and Celsius would be scored
        against kelvin in silence.
        """
        valid = int(self._plan.valid[start, lead])
        fields = {'forecast': forecast}
        if self._climatology is not None:
            fields['climatology'] = self._climatology(valid)
        for what, field in fields.items():
            for one, other in zip(field, self._truth(valid), strict=True):
                if means := _unlike(one, other):
                    return (
                        f'mean {means[0]:.4g} in the {what}, {means[1]:.4g} in the '
                        'truth: are the units of one not what it says, or left out?'
                    )
        return None

    def _means(self, forecast: np.ndarray, valid: int) -> dict[str, np.ndarray]:
        truth = self._truth(valid)
        if self._climatology is None:
            return metrics.regional_means(forecast, truth, self._mean)
        means = metrics.regional_means(
            forecast, truth, self._mean, self._climatology(valid)
        )
        # The same for every forecast of that time: see `metrics.regional_means`.
        of_truth = self._means_of_climatology(valid)['squared_error']
        return {**means, 'truth_anomaly_squared': of_truth}

    def _means_of_climatology(self, valid: int) -> dict[str, np.ndarray]:
        """Of the climatology as a forecast; NaN where there is none."""
        if valid not in self._of_climatology:
            truth = self._truth(valid)
            if self._climatology is None:
                climatology = np.full_like(truth, np.nan)
            else:
                climatology = self._climatology(valid)
            self._of_climatology[valid] = metrics.regional_means(
                climatology, truth, self._mean
            )
        return self._of_climatology[valid]


def _unlike(one: np.ndarray, other: np.ndarray) -> tuple[float, float] | None:
    """The means of two fields that differ as no two weathers do; None of others.

    Far outside of what varies on the map, and by the order of the mean itself.
    """
    both = np.isfinite(one) & np.isfinite(other)
    if not both.any():
        return None
    found = [field[both].astype(np.float64) for field in (one, other)]
    means = float(found[0].mean()), float(found[1].mean())
    spread, apart = min(of.std() for of in found), abs(means[0] - means[1])
    is_unlike = spread > 0 and apart > max(5 * spread, max(map(abs, means)) / 2)
    return means if is_unlike else None
