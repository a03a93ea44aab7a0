"""Scoring of forecasts against truth, persistence and climatology."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from weather.evaluation import metrics, pairing, readers, score_file, shared
from weather.evaluation.averages import Averages, average_scores
from weather.evaluation.regions import WEIGHTING, RegionalMean, regions_on
from weather.outputs import TIES
from weather.variables import wind_pairs

_LOGGER = logging.getLogger(__name__)

# For callers that score and write.
COLUMNS, NO_LEVEL = score_file.COLUMNS, score_file.NO_LEVEL
score_table, write_scores = score_file.score_table, score_file.write_scores
# The upper-air set of WeatherBench 2: Z500, T850, Q700 and the wind vector at 850 hPa.
HEADLINE: Mapping[str, tuple[int, ...]] = {
    'geopotential': (500,),
    'temperature': (850,),
    'specific_humidity': (700,),
    'u_component_of_wind': (850,),
    'v_component_of_wind': (850,),
}


def evaluate(
    forecasts: readers.Source,
    truth: readers.Source,
    climatology: readers.Source | None = None,
    *,
    levels: shared.Levels | None = None,
    regions: Iterable[str] | None = None,
    lead_times: Sequence[np.timedelta64] | None = None,
    model: str = 'spherecast',
    baselines: Iterable[str] | None = None,
    cache_bytes: int = 2**31,
) -> xr.Dataset:
    """Scores forecasts as WeatherBench 2 does.

    Every start whose valid times (and, for persistence, initial time) the truth holds
    is scored. Climatologies are read at the day of the year and hour of the valid time;
    one without the dimension `hour` serves every hour, one that lacks a valid hour or
    day is an error. Of forecasts with several members the mean is scored.

    Args:
      forecasts: `[time, prediction_timedelta, level, latitude, longitude]`, `time`
        being the start, perhaps with `member`; a path is opened by `open_forecasts`.
      truth: `[time, level, latitude, longitude]`, or its path.
      climatology: `[hour, dayofyear, level, latitude, longitude]`, or its path; without
        it there is neither ACC nor the baseline.
      levels: levels of every variable that is scored, an empty sequence for a surface
        variable (`HEADLINE`, for instance); all that forecasts and truth share.
      regions: names among `regions.REGIONS`; all that the grid covers, and `area` for a
        grid that does not cover the globe.
      lead_times: timedelta64 among those of the forecasts; all.
      model: what the forecasts are called in the result.
      baselines: among `pairing.BASELINES`; all that the sources allow.
      cache_bytes: memory for fields of truth and climatology that are read again.

    Returns:
      `rmse`, `bias`, `mae`, `acc`, each `[model, variable, level, region, lead_time]`,
      in the units of the variable (ACC without), for every metric of
      `metrics.METRICS`. Level -1 is that of surface variables; `wind_vector` stands
      beside its components with its RMSE alone. A start with a NaN inside a region is
      left out there; a score is NaN where that is every start, or where it is not
      defined. Attributes say which sources, starts, grid and weights are behind the
      numbers, and, as JSON, `not_scored` what was left out and why, `suspect` what
      seems to be in other units than the truth.

    Raises:
      ValueError: sources that do not fit together; the message says where.
    """
    addresses = {
        'forecast': readers.address(forecasts),
        'truth': readers.address(truth),
        'climatology': readers.address(climatology),
    }
    plan = pairing.pair(
        readers.resolve(forecasts, 'forecast'),
        readers.resolve(truth, 'truth'),
        None if climatology is None else readers.resolve(climatology, 'climatology'),
        levels=levels,
        lead_times=lead_times,
        model=model,
        baselines=baselines,
    )
    points = plan.truth.latitude.values, plan.truth.longitude.values
    mean = RegionalMean(*points, regions_on(*points, regions))
    averages = average_scores(plan, mean, cache_bytes)
    suspect = {name: of.suspect for name, of in averages.items() if of.suspect}
    for name, reason in suspect.items():
        _LOGGER.warning('%s: %s', name, reason)
    return _assemble(plan, averages, mean.names).assign_attrs(
        {key: address for key, address in addresses.items() if address is not None},
        **{
            f'forecast_{key}': plan.forecasts.attrs[key]
            for key in TIES
            if key in plan.forecasts.attrs
        },
        **plan.describe(),
        weighting=WEIGHTING,
        not_scored=json.dumps(_not_scored(plan, averages, mean.names)),
        suspect=json.dumps(suspect),
    )


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
    # Text: pandas drops rows whose index is missing.
    level = ['' if pd.isna(level) else f'{level:g}' for level in shown.level]
    shown = shown.assign(level=level)
    rows = shown.pivot_table(
        index=['variable', 'level', 'model'],
        columns='lead_time_hours',
        values='value',
        sort=False,
    )
    lines = [
        f'{key}: {value}'
        for key, value in scores.attrs.items()
        if key not in ('starts', 'not_scored', 'suspect')
    ]
    lines += [
        f'RMSE, {region}, by lead time in hours:',
        rows.to_string(float_format=lambda value: f'{value:.4g}'),
    ]
    # As text among the attributes, since netCDF knows no other nesting.
    for title in ('not_scored', 'suspect'):
        reasons = json.loads(scores.attrs.get(title, '{}'))
        if reasons:
            described = (f'  {line}' for line in shared.describe(reasons))
            lines += [f'{title.replace("_", " ")}:', *described]
    return '\n'.join(lines)


def _headline_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of Z500, T850, Q700 and the wind vector at 850 hPa, or all if none."""
    winds = wind_pairs()
    components = {name for wind in winds for name in wind[:2]}
    vectors = {wind.vector: HEADLINE.get(wind.eastward, ()) for wind in winds}
    wanted = {
        (name, level)
        for name, levels in {**HEADLINE, **vectors}.items()
        for level in levels
        if name not in components
    }
    pairs = zip(table.variable, table.level, strict=True)
    of_headline = np.array([pair in wanted for pair in pairs], bool)
    return table[of_headline] if of_headline.any() else table


def _assemble(
    plan: pairing.Pairing, averages: Mapping[str, Averages], regions: Sequence[str]
) -> xr.Dataset:
    """Arranges the scores of each variable as one dataset."""
    # Vectors stand behind what they are made of.
    names = [*plan.levels, *(name for name in averages if name not in plan.levels)]
    every_level = sorted({_number(x) for of in averages.values() for x in of.levels})
    shape = (len(plan.models), len(metrics.NAMES), len(every_level), len(regions))
    values = np.full((len(names), *shape, plan.leads.size), np.nan)
    for row, name in enumerate(names):
        columns = [every_level.index(_number(x)) for x in averages[name].levels]
        # Levels that a variable lacks stay NaN: one dataset has one axis of levels.
        values[row][:, :, columns] = averages[name].values
    dims = ('model', 'variable', 'level', 'region', 'lead_time')
    return xr.Dataset(
        {
            metric.name: (dims, metric.final(values[:, :, i].swapaxes(0, 1)))
            for i, metric in enumerate(metrics.METRICS)
        },
        coords={
            'model': list(plan.models),
            'variable': names,
            'level': every_level,
            'region': list(regions),
            'lead_time': plan.lead_times,
        },
    )


def _number(level: float | None) -> float:
    return NO_LEVEL if level is None else level


def _not_scored(
    plan: pairing.Pairing, averages: Mapping[str, Averages], regions: Sequence[str]
) -> dict[str, str]:
    """Reasons, by name, for all that has no score, or not one of every start.

    Raises:
      ValueError: that is everything.
    """
    reasons, lost = dict(plan.not_scored), 0
    for name, of_name in plan.levels.items():
        for level, starts in zip(of_name, averages[name].starts, strict=True):
            reason = _lacking(plan, starts, regions)
            lost += not starts.any()
            if reason:
                reasons[name if level is None else f'{name}@{level:g}'] = reason
        lacking = plan.climatology is not None and plan.climatology_lacks(name)
        if lacking:
            reasons[f'ACC of {name}'] = lacking
    if lost == sum(map(len, plan.levels.values())):
        raise ValueError(
            'no forecast could be scored: every variable and level holds NaN in '
            'forecast or truth; look at the stores'
        )
    return reasons


def _lacking(
    plan: pairing.Pairing, starts: np.ndarray, regions: Sequence[str]
) -> str | None:
    """What NaN leaves out, of the counts `[region, lead]` of starts without."""
    left_out = plan.num_starts - starts
    if not starts.any():
        return 'NaN in forecast or truth at every start'
    if not left_out.any():
        return None
    rows, columns = left_out.any(axis=1), left_out.any(axis=0)
    where = [regions[int(row)] for row in np.flatnonzero(rows)]
    leads = score_file.hours(plan.lead_times[columns])
    return (
        f'NaN in forecast or truth: up to {left_out.max()} of {plan.num_starts} starts '
        f'left out at lead times {", ".join(f"{lead:g}" for lead in leads)} h in '
        f'{"all regions" if rows.all() else ", ".join(where)}'
    )
