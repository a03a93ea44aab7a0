"""Scoring of forecasts against truth, persistence and climatology.

Forecasts, truth and climatology are read one variable, start and block of lead times at
a time; sums are kept in float64. Baselines are scored at the very starts and lead times
of the forecast, so that a table compares like with like.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from learning.files import replacing
from weather.evaluation import metrics, pairing, sources
from weather.variables import WIND_PAIRS

_LOGGER = logging.getLogger(__name__)

COLUMNS = (
    'model',
    'variable',
    'level',
    'region',
    'lead_time_hours',
    'metric',
    'value',
)
METRICS = ('rmse', 'bias', 'mae', 'acc')
# Names that WeatherBench 2 gives to the vector of each of `WIND_PAIRS`.
WIND_VECTORS = ('wind_vector', '10m_wind_vector')
NO_LEVEL = -1
# The upper-air set of WeatherBench 2: Z500, T850, Q700 and the wind vector at 850 hPa.
HEADLINE: Mapping[str, tuple[int, ...]] = {
    'geopotential': (500,),
    'temperature': (850,),
    'specific_humidity': (700,),
    'u_component_of_wind': (850,),
    'v_component_of_wind': (850,),
}


def evaluate(
    forecasts: sources.Source,
    truth: sources.Source,
    climatology: sources.Source | None = None,
    *,
    levels: pairing.Levels | None = None,
    regions: Iterable[str] | None = None,
    lead_times: Sequence[np.timedelta64] | None = None,
    model: str = 'spherecast',
    baselines: Iterable[str] | None = None,
    cache_bytes: int = 2**31,
) -> xr.Dataset:
    """Scores forecasts as WeatherBench 2 does.

    Every start whose initial and valid times the truth holds is scored; others are left
    out at all lead times, counted in the log. Climatologies are read at the day of the
    year and hour of the valid time; one without the dimension `hour` serves every hour,
    one that lacks a valid hour or day is an error.

    Args:
      forecasts: `[time, prediction_timedelta, level, latitude, longitude]`, `time`
        being the start; a path is opened by `open_forecasts`.
      truth: `[time, level, latitude, longitude]`, or its path.
      climatology: `[hour, dayofyear, level, latitude, longitude]`, or its path; without
        it there is neither ACC nor the baseline.
      levels: levels of every variable that is scored, an empty sequence for a surface
        variable (`HEADLINE`, for instance); all that forecasts and truth share.
      regions: names among `metrics.REGIONS`; all that hold a point of the grid.
      lead_times: timedelta64 among those of the forecasts; all.
      model: what the forecasts are called in the result.
      baselines: among `pairing.BASELINES`; all that the sources allow.
      cache_bytes: memory for fields of truth and climatology that are read again.

    Returns:
      `rmse`, `bias`, `mae`, `acc`, each `[model, variable, level, region, lead_time]`,
      in the units of the variable (ACC without). Level -1 is that of surface variables;
      `wind_vector` stands beside its components with its RMSE alone. A score is NaN
      where it is not defined or where a field has a NaN inside the region. Attributes
      say which grid, weights and starts are behind the numbers.

    Raises:
      ValueError: sources that do not fit together; the message says where.
    """
    plan = pairing.pair(
        sources.resolve(forecasts, 'forecast'),
        sources.resolve(truth, 'truth'),
        None if climatology is None else sources.resolve(climatology, 'climatology'),
        levels=levels,
        lead_times=lead_times,
        model=model,
        baselines=baselines,
    )
    points = plan.truth.latitude.values, plan.truth.longitude.values
    mean = metrics.RegionalMean(
        *points,
        metrics.regions_on(*points)
        if regions is None
        else metrics.get_regions(regions),
    )
    scores = _assemble(
        plan,
        {name: _score_variable(plan, name, mean, cache_bytes) for name in plan.levels},
        mean.names,
    )
    _report_missing(plan, scores.rmse.sel(model=model))
    return scores


def score_table(scores: xr.Dataset) -> pd.DataFrame:
    """Returns the scores as a long table with the columns `COLUMNS`.

    `level` is an integer, missing for surface variables. A score that is defined at no
    lead time and region (ACC of the climatology, levels without data) has no rows; one
    that is NaN at some of them keeps its rows.
    """
    table = scores[list(METRICS)].to_dataframe().reset_index()
    table['lead_time_hours'] = hours(table.lead_time.to_numpy())
    keys = list(COLUMNS[:5])
    table = table[[*keys, *METRICS]].melt(keys, var_name='metric')
    groups = table.groupby(['model', 'variable', 'level', 'metric'], sort=False)
    table = table[groups.value.transform('count') > 0]
    level = table.level.astype('Int64')
    table = table.assign(level=level.mask(level == NO_LEVEL))
    return table.reset_index(drop=True)


def write_scores(scores: xr.Dataset, path: str | os.PathLike) -> None:
    """Writes the table of `scores` as CSV; the file appears when it is complete."""
    with replacing(path) as unfinished:
        # Nine digits: more than the float32 fields behind a score can tell apart.
        score_table(scores).to_csv(unfinished, index=False, float_format='%.9g')


def format_scores(scores: xr.Dataset, *, every_hours: int = 24) -> str:
    """RMSE of the headline for reading, with the grid and weights it depends on.

    Where no channel of the headline was scored, every channel is shown.

    Args:
      scores: as `evaluate` returns them; the first region is shown.
      every_hours: lead times shown are multiples of this, or all if there are none.
    """
    table = score_table(scores)
    region = str(scores.region.values[0])
    shown = table[(table.metric == 'rmse') & (table.region == region)]
    chosen = shown.lead_time_hours % every_hours == 0
    shown = shown[chosen] if chosen.any() else shown
    shown = _headline_rows(shown)
    shown = shown.assign(level=shown.level.astype('string').fillna(''))
    rows = shown.pivot_table(
        index=['variable', 'level', 'model'],
        columns='lead_time_hours',
        values='value',
        sort=False,
    )
    lines = [f'{key}: {value}' for key, value in scores.attrs.items()]
    lines += [
        f'RMSE, {region}, by lead time in hours:',
        rows.to_string(float_format=lambda value: f'{value:.4g}'),
    ]
    return '\n'.join(lines)


def _headline_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of Z500, T850, Q700 and the wind vector at 850 hPa, or all if none."""
    wanted = {
        (name, level)
        for name, levels in {**HEADLINE, WIND_VECTORS[0]: (850,)}.items()
        for level in levels
        if not any(name in pair for pair in WIND_PAIRS)
    }
    pairs = zip(table.variable, table.level, strict=True)
    of_headline = np.array([pair in wanted for pair in pairs], bool)
    return table[of_headline] if of_headline.any() else table


def hours(lead_times: np.ndarray) -> np.ndarray:
    """Lead times in hours: integers where all are whole."""
    as_float = lead_times / np.timedelta64(1, 'h')
    whole = np.round(as_float)
    return whole.astype(int) if (whole == as_float).all() else as_float


def _score_variable(
    plan: pairing.Pairing, name: str, mean: metrics.RegionalMean, cache_bytes: int
) -> np.ndarray:
    """Scores one variable: `metrics.Moments` averaged over starts.

    Returns:
      `[model, moment, level, region, lead]`.
    """
    reference = _Reference(plan, name, mean, sources.BlockCache(cache_bytes))
    totals = np.zeros(
        (
            len(plan.models),
            len(metrics.Moments._fields),
            len(plan.levels[name]),
            len(mean.names),
            plan.leads.size,
        )
    )
    for start, lead, forecast in plan.forecast_fields(name):
        valid = plan.valid[start, lead]
        for row, model in enumerate(plan.models):
            if model == 'climatology':
                scored = reference.of_climatology(valid)
            elif model == 'persistence':
                scored = reference.score(reference.truth(plan.init[start]), valid)
            else:
                scored = reference.score(forecast, valid)
            totals[row, ..., lead] += scored
    return totals / plan.starts.size


class _Reference:
    """What forecasts of one variable are scored against, at positions of the truth."""

    def __init__(
        self,
        plan: pairing.Pairing,
        name: str,
        mean: metrics.RegionalMean,
        cache: sources.BlockCache,
    ):
        self._mean = mean
        self.truth = sources.FieldReader(
            plan.truth[name], 'time', levels=plan.levels[name], cache=cache
        )
        self._climatology = plan.climatology_reader(name, cache)
        # Means over regions are small: kept for every valid time.
        self._of_climatology: dict[int, metrics.Moments] = {}

    def score(self, forecast: np.ndarray, valid: int) -> metrics.Moments:
        """Moments of a field `[level, lat, lon]` at a valid time."""
        if self._climatology is None:
            return metrics.moments(forecast, self.truth(valid), self._mean)
        return metrics.moments(
            forecast,
            self.truth(valid),
            self._mean,
            climatology=self._climatology(valid),
            # The squared error of the climatology is the variance about it.
            truth_variance=self.of_climatology(valid).mse,
        )

    def of_climatology(self, valid: int) -> metrics.Moments:
        """Moments of the climatology as a forecast; NaN where there is none."""
        if valid not in self._of_climatology:
            truth = self.truth(valid)
            if self._climatology is None:
                climatology = np.full_like(truth, np.nan)
            else:
                climatology = self._climatology(valid)
            self._of_climatology[valid] = metrics.moments(
                climatology, truth, self._mean
            )
        return self._of_climatology[valid]


def _assemble(
    plan: pairing.Pairing, moments: Mapping[str, np.ndarray], regions: Sequence[str]
) -> xr.Dataset:
    """Arranges `[model, moment, level, region, lead]` of each variable as scores."""
    levels, moments = _with_wind_vectors(plan.levels, moments)
    every_level = sorted({_number(level) for of in levels.values() for level in of})
    shape = (len(plan.models), len(METRICS), len(every_level), len(regions))
    values = np.full((len(levels), *shape, plan.leads.size), np.nan)
    for row, name in enumerate(levels):
        columns = [every_level.index(_number(level)) for level in levels[name]]
        values[row, :, :, columns] = np.moveaxis(moments[name], 2, 0)
    # [variable, model, moment, ...] to [moment, model, variable, ...]
    of_moment = metrics.Moments(*np.moveaxis(values, (2, 1), (0, 1)))
    scores = of_moment._asdict() | {'rmse': np.sqrt(of_moment.mse)}
    dims = ('model', 'variable', 'level', 'region', 'lead_time')
    return xr.Dataset(
        {name: (dims, scores[name]) for name in METRICS},
        coords={
            'model': list(plan.models),
            'variable': list(levels),
            'level': every_level,
            'region': list(regions),
            'lead_time': plan.lead_times,
        },
        attrs={**plan.describe(), 'weighting': metrics.WEIGHTING},
    )


def _with_wind_vectors(
    levels: Mapping[str, tuple[int | None, ...]], moments: Mapping[str, np.ndarray]
) -> tuple[dict[str, tuple[int | None, ...]], dict[str, np.ndarray]]:
    """Adds the wind vectors, whose squared error is the sum over both components."""
    levels, moments = dict(levels), dict(moments)
    for vector, (eastward, northward) in zip(WIND_VECTORS, WIND_PAIRS, strict=True):
        if eastward not in levels or levels[eastward] != levels.get(northward):
            continue
        square = metrics.Moments._fields.index('mse')
        levels[vector] = levels[eastward]
        moments[vector] = np.full_like(moments[eastward], np.nan)
        moments[vector][:, square] = (
            moments[eastward][:, square] + moments[northward][:, square]
        )
    return levels, moments


def _number(level: int | None) -> int:
    return NO_LEVEL if level is None else level


def _report_missing(plan: pairing.Pairing, rmse: xr.DataArray) -> None:
    """Logs what the forecasts have no score for; raises where that is everything.

    Args:
      plan: what was to be scored.
      rmse: of the forecasts, `[variable, level, region, lead_time]`.
    """
    missing, partial = [], []
    for name, of_name in plan.levels.items():
        for level in of_name:
            found = rmse.sel(variable=name, level=_number(level)).notnull()
            label = name if level is None else f'{name}@{level}'
            if not found.any():
                missing.append(label)
            elif not found.all():
                partial.append(label)
    if len(missing) == sum(map(len, plan.levels.values())):
        raise ValueError(
            'no forecast could be scored: every variable and level holds NaN in '
            'forecast or truth; look at the stores'
        )
    if missing:
        _LOGGER.warning('NaN at all lead times, left out: %s', ', '.join(missing))
    if partial:
        _LOGGER.warning('NaN at some lead times or regions: %s', ', '.join(partial))
