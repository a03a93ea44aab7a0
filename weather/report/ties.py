"""What ties scores, forecasts and run directory together, and what does not belong."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import pandas as pd
import xarray as xr

from weather.evaluation.score_file import read_provenance, read_scores
from weather.outputs import TIES

_HOUR = pd.Timedelta(1, 'h')


class TieError(ValueError):
    """Scores, forecasts and run directory that do not belong together."""


class Scores(NamedTuple):
    """A table of scores and what it says of its forecasts; None in an old one."""

    path: pathlib.Path
    table: pd.DataFrame
    provenance: Mapping[str, Any] | None


def read(path: str | os.PathLike) -> Scores:
    """Reads a table of scores with what stands beside it.

    Raises:
      ValueError: it cannot be read, or is not the table that the file beside it speaks
        of; a `FileNotFoundError` where there is none.
    """
    return Scores(pathlib.Path(path), read_scores(path), read_provenance(path))


def check_run(
    forecasts: xr.Dataset, address: str, run: pathlib.Path, digests: Collection[str]
) -> str | None:
    """Checks that forecasts are those of a run directory.

    `digests` are all that its experiment has ever been called; none where `run` holds
    no experiment.

    Returns:
      What the reader must know, or None.

    Raises:
      TieError: forecasts of another experiment.
    """
    found = forecasts.attrs.get('config_hash')
    if found is None:
        return (
            f'The forecasts at {address} are not of this project, or do not say which '
            'run made them.'
        )
    # Any of its names: forecasts from before a run was made longer are its own.
    if digests and found not in digests:
        raise TieError(
            f'expected forecasts of the run in {run} (config '
            f'{" or ".join(sorted(digests))}), found those of another config, {found}, '
            f'at {address}: name the run directory that they are of with --workdir'
        )
    return None


def check_scores(scores: Scores, forecasts: xr.Dataset, address: str) -> str | None:
    """Checks that scores are those of the forecasts.

    Returns:
      What the reader must know, or None.

    Raises:
      TieError: scores of other forecasts; says in what they differ.
    """
    if scores.provenance is None:
        return (
            f'Nothing ties these scores to these forecasts: {scores.path.name} does '
            'not say which ones it scored (version 0.1 wrote it). Score again to be '
            'sure.'
        )
    scored = scores.provenance['forecast']
    # Absent and empty are the same: that nobody knows.
    differences = [
        f'{name} {scored.get(name) or "unknown"} was scored, '
        f'{forecasts.attrs.get(name) or "unknown"} is shown'
        for name in TIES
        if (scored.get(name) or '') != (forecasts.attrs.get(name) or '')
    ]
    starts = pd.DatetimeIndex(scores.provenance['starts'])
    differences += _absent('start', starts, forecasts.indexes['time'])
    leads = pd.to_timedelta(scores.provenance['lead_hours'], unit='h')
    differences += _absent(
        'lead time', leads, forecasts.indexes['prediction_timedelta']
    )
    if differences:
        raise TieError(
            f'{scores.path} holds scores of other forecasts than those at {address}: '
            f'{"; ".join(differences)}. Score these with scripts/evaluate.py, or name '
            "their table with --scores (--scores='' for a page without)"
        )
    return None


def _absent(what: str, scored: pd.Index, shown: pd.Index) -> list[str]:
    """Says which of what was scored the forecasts do not hold."""
    absent = scored[~scored.isin(shown)]
    if not len(absent):
        return []
    first = absent[0] / _HOUR if isinstance(absent, pd.TimedeltaIndex) else absent[0]
    unit = ' h' if isinstance(absent, pd.TimedeltaIndex) else ''
    return [
        f'{len(absent)} of {len(scored)} scored {what}s ({first}{unit} the first) are '
        'not among the forecasts'
    ]
