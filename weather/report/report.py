"""The report of a run: its scores, maps and spectra, and where they come from."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from learning.addresses import is_address, reading
from learning.files import MARK, Output
from sphere_ops.grid import LatLonGrid
from weather.data.forecasts import open_forecasts
from weather.data.sources import named_by
from weather.data.store import open_dataset
from weather.evaluation import readers
from weather.evaluation.summary import Summary
from weather.experiment import Experiment
from weather.outputs import REPORT
from weather.report import fields, page, scores, ties
from weather.workdir import Workdir

_HOUR = np.timedelta64(1, 'h')
# Attributes of forecasts that every file has and no reader misses.
_USUAL_ATTRIBUTES = {'Conventions', 'title', 'source', 'references', 'history', MARK}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contents:
    """What a report is made of.

    Attributes:
      title: of the page.
      forecasts: `[time, prediction_timedelta, level, latitude, longitude]` as
        `open_forecasts` returns them; perhaps with members.
      truth: `[time, level, latitude, longitude]` on the same grid, as `open_dataset`
        returns it; with `land_sea_mask` for the outlines.
      scores: of the forecasts; or none.
      losses: losses of the training, columns update, name, value; or none.
      setup: the experiment of the run; or none.
      facts: more to say in the summary, by name.
      notices: what the reader must know before the first number.
    """

    title: str
    forecasts: xr.Dataset
    truth: xr.Dataset
    scores: ties.Scores | None = None
    losses: pd.DataFrame | None = None
    setup: Experiment | None = None
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notices: Sequence[str] = ()


def write_report(
    workdir: str | os.PathLike,
    *,
    forecast: str | None = None,
    truth: str | None = None,
    table: str | None = None,
    output: str | None = None,
    overwrite: bool = False,
    facts: Mapping[str, str] | None = None,
) -> pathlib.Path:
    """Writes the report of a run directory.

    Args:
      workdir: holds what is not named, and perhaps config.json and metrics.csv.
      forecast: forecasts in WB2 schema; by default WORKDIR/forecasts.
      truth: store of the truth; by default that of the config.
      table: scores of the forecasts; by default WORKDIR/scores.csv if there is one, and
        none where it is empty.
      output: where to write; by default WORKDIR/report.html.
      overwrite: whether a report that is there may be replaced.
      facts: more to say in the summary, by name, such as the number of parameters.

    Returns:
      Path of the page, which appears when it is complete.

    Raises:
      OutputError: something at `output` that must stay.
      FileNotFoundError: no forecasts, or scores that were named; says how to make them.
      ValueError: no truth named, or sources that do not fit or belong together.
    """
    files = Workdir(workdir)
    is_run = files.config.exists()
    setup = files.read_config() if is_run else None
    digests = files.known_digests() if is_run else ()
    storage_options = None
    # The options are for the config's store: another place may want others.
    if setup is not None and truth in (None, setup.data.store):
        truth, storage_options = setup.data.store, setup.data.options
    if truth is None:
        raise ValueError(
            f'no {files.config} to say where the truth is; name it with --truth'
        )
    address = str(forecast or files.forecasts)
    # Tables are read from disks: of a run in a bucket, name a copy.
    if table is None and not is_address(files.path) and files.scores.exists():
        table = str(files.scores)
    # Asked before anything is read, and again at the end.
    read = tuple(source for source in (address, truth, table) if source)
    target = Output(output or files.report, REPORT, overwrite, read)
    target.check()
    scored = ties.read(table) if table else None
    with (
        target.replacing() as unfinished,
        open_forecasts(address) as forecasts,
        named_by('--truth'),
        open_dataset(
            truth, what='truth', storage_options=storage_options
        ) as truth_fields,
    ):
        notices = [
            ties.check_run(forecasts, address, files.path, digests),
            ties.check_scores(scored, forecasts, address) if scored else None,
        ]
        contents = Contents(
            title=f'Forecast report: {_name(files)}',
            forecasts=forecasts,
            truth=truth_fields,
            scores=scored,
            losses=_losses(files),
            setup=setup,
            facts={'Forecasts': address, 'Truth': truth, **(facts or {})},
            notices=[text for text in notices if text],
        )
        unfinished.write_text(render_report(contents), encoding='utf-8')
    return pathlib.Path(target.path)


def _name(files: Workdir) -> str:
    # Of `.`, too.
    return (files.path if is_address(files.path) else files.path.resolve()).name


def _losses(files: Workdir) -> pd.DataFrame | None:
    if not files.losses.exists():
        return None
    with reading(files.losses) as table:
        return pd.read_csv(table)


def render_report(contents: Contents) -> str:
    """Returns the page."""
    readers.check_same_grid(contents.forecasts, contents.truth, 'forecast')
    summary = Summary(contents.scores.table) if contents.scores else None
    both = contents.forecasts, contents.truth
    sections = [
        page.Section('run', 'The run', _run(contents)),
        *(scores.sections(summary) if summary else []),
        fields.maps_section(*both),
        fields.spectra_section(*both),
    ]
    if contents.losses is not None and len(contents.losses):
        sections.append(fields.training_section(contents.losses, _timestep(contents)))
    if contents.setup is not None:
        text = json.dumps(contents.setup.to_dict(), indent=2, ensure_ascii=False)
        part = page.Part('folded', ('Show the configuration', text))
        sections.append(page.Section('config', 'Configuration', [part]))
    return page.render(contents.title, _introduction(contents, summary), sections)


def _introduction(contents: Contents, summary: Summary | None) -> str:
    count = contents.forecasts.sizes['time']
    longest = contents.forecasts.prediction_timedelta.values[-1] / _HOUR / 24
    forecasts = f'{count} forecast{"s" if count > 1 else ""} of {longest:g} days'
    if summary is None:
        return f'{forecasts}; there are no scores.'
    others = ' and '.join(summary.models[1:])
    beside = f', beside {others}' if others else ''
    return f'{forecasts} by {summary.model}, scored against the truth{beside}.'


def _run(contents: Contents) -> list[page.Part]:
    """What the reader has to know before the first number."""
    forecasts = contents.forecasts
    verified = fields.verified_starts(forecasts, contents.truth).size
    hours = forecasts.prediction_timedelta.values / _HOUR
    every = f', every {hours[1] - hours[0]:g} h' if hours.size > 1 else ''
    facts = {
        'Starts shown': f'{_span(forecasts.time.values)}; {verified} verified',
        'Starts scored': _scored(contents.scores),
        'Lead times': f'{hours[0]:g} to {hours[-1]:g} h{every}',
        'Grid': _grid_words(forecasts),
        'Area weights': 'cell bounds: sine of latitude between rows, over the mean',
        **contents.facts,
        **_setup_facts(contents.setup),
        **{
            str(name).replace('_', ' ').capitalize(): str(value)
            for name, value in forecasts.attrs.items()
            if name not in _USUAL_ATTRIBUTES and not str(name).startswith('grid_')
        },
    }
    notices = [*contents.notices, *_memory(contents), *_not_scored(contents.scores)]
    return [page.Part('facts', facts), *map(page.notice, notices)]


def _scored(scored: ties.Scores | None) -> str:
    if scored is None:
        return 'none'
    if scored.provenance is None:
        return 'unknown'
    starts = np.array(scored.provenance['starts'], 'datetime64[ns]')
    return f'{_span(starts)}, against {scored.provenance["truth"]}'


def _span(times: np.ndarray) -> str:
    """Number, first and last."""
    if times.size == 1:
        return f'1, {fields.utc(times[0])}'
    return f'{times.size}, {fields.utc(times[0])} to {fields.utc(times[-1])}'


def _not_scored(scored: ties.Scores | None) -> list[str]:
    """Notices of what no score speaks of, and of scores in what seem other units."""
    if scored is None:
        return ['There are no scores: scripts/evaluate.py makes them where a truth is.']
    notices = []
    for key, title in (('not_scored', 'Not scored'), ('suspect', 'Suspect')):
        found = (scored.provenance or {}).get(key, {})
        reasons = [f'{name} ({reason})' for name, reason in found.items()]
        notices += [f'{title}: {", ".join(reasons)}.'] if reasons else []
    return notices


def _memory(contents: Contents) -> list[str]:
    """A notice where forecasts start on days that the model was trained on."""
    if contents.setup is None:
        return []
    first, last = contents.setup.data.train
    starts = contents.forecasts.indexes['time']
    # As pandas reads dates: a shortened last one is meant to its end.
    count = len(starts[starts.slice_indexer(first, last)])
    if not count:
        return []
    return [
        f'{count} of {len(starts)} starts lie in the training period, {first} to '
        f'{last}: scores of these show what the model remembers, not how well it '
        'forecasts.'
    ]


def _setup_facts(setup: Experiment | None) -> dict[str, str]:
    if setup is None:
        return {}
    training = setup.training
    rollouts = [f'{steps} from {first}' for first, steps in training.curriculum]
    return {
        'Training period': ' to '.join(setup.data.train),
        'Test period': ' to '.join(setup.data.test),
        'Training': f'{training.num_updates} updates of {training.batch_size} windows; '
        f'rollout steps by update: {", ".join(rollouts)}',
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
