"""The report of a run: one static page that a forecaster can look at."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from learning.files import replacing
from sphere_ops.grid import LatLonGrid
from weather.data.forecasts import open_forecasts
from weather.evaluation import field_sections, page, score_sections, sources
from weather.evaluation.summary import Summary, read_scores
from weather.workdir import Workdir

_HOUR = np.timedelta64(1, 'h')
# Attributes of forecasts that every file has and no reader misses.
_USUAL_ATTRIBUTES = {'Conventions', 'title', 'source', 'references', 'history'}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contents:
    """What a report is made of.

    Attributes:
      title: of the page.
      scores: table with the columns of `weather.evaluation.evaluate.COLUMNS`.
      forecasts: `[time, prediction_timedelta, level, latitude, longitude]`, SI units.
      truth: `[time, level, latitude, longitude]` on the same grid; with
        `land_sea_mask` for the outlines.
      metrics: losses of the training, columns update, name, value; or none.
      config: of the run, as JSON types; or none.
      facts: more to say in the summary, by name.
    """

    title: str
    scores: pd.DataFrame
    forecasts: xr.Dataset
    truth: xr.Dataset
    metrics: pd.DataFrame | None = None
    config: Mapping[str, Any] | None = None
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)


def write_report(
    workdir: str | os.PathLike,
    *,
    forecast: str | None = None,
    truth: str | None = None,
    output: str | None = None,
    facts: Mapping[str, str] | None = None,
) -> pathlib.Path:
    """Writes the report of a run directory.

    Args:
      workdir: holds scores.csv, and perhaps config.json and metrics.csv.
      forecast: forecasts in WB2 schema; by default WORKDIR/forecasts.
      truth: store of the truth; by default that of the config.
      output: where to write; by default WORKDIR/report.html.
      facts: more to say in the summary, by name, such as the number of parameters.

    Returns:
      Path of the page, which appears when it is complete.

    Raises:
      FileNotFoundError: no scores or no forecasts; says how to make them.
      ValueError: no truth named, or sources that do not fit together.
    """
    files = Workdir(pathlib.Path(workdir))
    scores = read_scores(files.scores)
    config = json.loads(files.config.read_text()) if files.config.exists() else None
    if truth is None:
        if config is None:
            raise ValueError(
                f'no {files.config} to say where the truth is; name it with --truth'
            )
        truth = str(config['data']['store'])
    # The options of the config belong to the config's store.
    data = config['data'] if config else {}
    own = truth == data.get('store')
    storage_options = data['storage_options'] if own else None
    path = pathlib.Path(output) if output else files.report
    with (
        replacing(path) as unfinished,
        open_forecasts(forecast or files.forecasts) as forecasts,
        sources.open_store(truth, storage_options) as truth_fields,
    ):
        contents = Contents(
            title=f'Forecast report: {files.path.resolve().name}',
            scores=scores,
            forecasts=forecasts,
            truth=truth_fields,
            metrics=pd.read_csv(files.metrics) if files.metrics.exists() else None,
            config=config,
            facts={'Truth': truth, **(facts or {})},
        )
        unfinished.write_text(render_report(contents), encoding='utf-8')
    return path


def render_report(contents: Contents) -> str:
    """Returns the page."""
    contents = dataclasses.replace(
        contents,
        forecasts=sources.canonical(contents.forecasts, 'forecast'),
        truth=sources.canonical(contents.truth, 'truth'),
    )
    sources.check_same_grid(contents.forecasts, contents.truth, 'forecast')
    summary = Summary(contents.scores)
    sections = [
        page.Section(
            'run', 'The run', page.facts(_facts(contents)) + _memory(contents)
        ),
        page.Section(
            'headline', 'Headline scores', score_sections.headline_section(summary)
        ),
        page.Section(
            'curves', 'Scores by lead time', score_sections.curves_section(summary)
        ),
        page.Section(
            'regions', 'Skill by region', score_sections.regions_section(summary)
        ),
        page.Section(
            'maps',
            'A sample forecast',
            field_sections.maps_section(contents.forecasts, contents.truth),
        ),
        page.Section(
            'spectra',
            'Spectra',
            field_sections.spectra_section(contents.forecasts, contents.truth),
        ),
    ]
    if contents.metrics is not None and len(contents.metrics):
        body = field_sections.training_section(contents.metrics, _timestep(contents))
        sections.append(page.Section('training', 'Training', body))
    if contents.config is not None:
        text = json.dumps(contents.config, indent=2, ensure_ascii=False)
        body = page.folded('Show the configuration', text)
        sections.append(page.Section('config', 'Configuration', body))
    return page.render(contents.title, _introduction(contents, summary), sections)


def _introduction(contents: Contents, summary: Summary) -> str:
    starts = contents.forecasts.sizes['time']
    longest = summary.lead_hours[-1] / 24
    others = ' and '.join(summary.models[1:])
    beside = f', beside {others}' if others else ''
    return (
        f'{starts} forecasts of {longest:g} days by {summary.model}, scored against '
        f'the truth{beside}.'
    )


def _facts(contents: Contents) -> dict[str, str]:
    """What the reader has to know before the first number."""
    forecasts = contents.forecasts
    verified = field_sections.verified_starts(forecasts, contents.truth).size
    hours = forecasts.prediction_timedelta.values / _HOUR
    every = f', every {hours[1] - hours[0]:g} h' if hours.size > 1 else ''
    first, last = (field_sections.utc(forecasts.time.values[i]) for i in (0, -1))
    return {
        'Starts': f'{forecasts.sizes["time"]}, {first} to {last}; {verified} verified',
        'Lead times': f'{hours[0]:g} to {hours[-1]:g} h{every}',
        'Grid': _grid_words(forecasts),
        'Area weights': 'cell bounds: sine of latitude between rows, over the mean',
        **contents.facts,
        **_config_facts(contents.config),
        **{
            str(name).replace('_', ' ').capitalize(): str(value)
            for name, value in forecasts.attrs.items()
            if name not in _USUAL_ATTRIBUTES and not str(name).startswith('grid_')
        },
    }


def _memory(contents: Contents) -> str:
    """A notice where forecasts start on days that the model was trained on."""
    if contents.config is None:
        return ''
    first, last = contents.config['data']['train']
    starts = contents.forecasts.indexes['time']
    seen = starts.slice_indexer(first, last)
    count = len(starts[seen])
    if not count:
        return ''
    return page.notice(
        f'{count} of {len(starts)} starts lie in the training period, {first} to '
        f'{last}: these scores show what the model remembers, not how well it '
        'forecasts.'
    )


def _config_facts(config: Mapping[str, Any] | None) -> dict[str, str]:
    if config is None:
        return {}
    data, training = config['data'], config['training']
    curriculum = ', '.join(
        f'{steps} from {first}' for first, steps in training['curriculum']
    )
    return {
        'Training period': ' to '.join(data['train']),
        'Test period': ' to '.join(data['test']),
        'Training': f'{training["num_updates"]} updates of {training["batch_size"]} '
        f'windows; rollout steps by update: {curriculum}',
    }


def _grid_words(forecasts: xr.Dataset) -> str:
    latitudes, longitudes = forecasts.latitude.values, forecasts.longitude.values
    size = f'{latitudes.size} latitudes × {longitudes.size} longitudes'
    try:
        grid = LatLonGrid.from_latitudes_longitudes(latitudes, longitudes)
    except ValueError:
        return f'{size}, of no known kind'
    return f'{grid.kind.replace("_", " ")}, {size}'


def _timestep(contents: Contents) -> float | None:
    """Length of a model step in hours, as far as the forecasts tell."""
    hours = contents.forecasts.prediction_timedelta.values / _HOUR
    return float(hours[1] - hours[0]) if hours.size > 1 else None
