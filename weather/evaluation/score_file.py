"""A table of scores on disk: a CSV, and beside it a JSON file that says whose it is.

The CSV holds numbers alone, as spreadsheets want it. NAME.provenance.json ties it to
the forecasts (digest of their config, checkpoint, starts) and to the bytes of the CSV.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from learning import provenance
from learning.files import MARK, Output, replacing, sidecar
from weather.evaluation import metrics
from weather.outputs import SCORES, TIES

COLUMNS = (
    'model',
    'variable',
    'level',
    'region',
    'lead_time_hours',
    'metric',
    'value',
)
NO_LEVEL = -1


def score_table(scores: xr.Dataset) -> pd.DataFrame:
    """Returns the scores as a long table with the columns `COLUMNS`.

    `level` is an integer where all are whole, missing for surface variables. A score
    that is defined at no lead time and region (ACC of the climatology, levels without
    data) has no rows; one that is NaN at some of them keeps its rows.
    """
    table = scores[list(metrics.NAMES)].to_dataframe().reset_index()
    table['lead_time_hours'] = hours(table.lead_time.to_numpy())
    keys = list(COLUMNS[:5])
    table = table[[*keys, *metrics.NAMES]].melt(keys, var_name='metric')
    groups = table.groupby(['model', 'variable', 'level', 'metric'], sort=False)
    table = table[groups.value.transform('count') > 0]
    # A type that has a missing value: surface variables have no level.
    level = table.level.astype('Float64')
    table = table.assign(level=_whole(level.mask(level == NO_LEVEL)))
    return table.reset_index(drop=True)


def hours(lead_times: np.ndarray) -> np.ndarray:
    """Lead times in hours: integers where all are whole."""
    as_float = lead_times / np.timedelta64(1, 'h')
    whole = np.round(as_float)
    return whole.astype(int) if (whole == as_float).all() else as_float


def lead_times(lead_hours: Sequence[str] | None) -> np.ndarray | None:
    """Lead times, timedelta64, written as hours (`6` or `0.5`); `None` stays.

    Raises:
      ValueError: not a number.
    """
    if lead_hours is None:
        return None
    try:
        # Half hours are whole seconds; timedelta64 would cut hours off.
        seconds = np.round(np.array(lead_hours, float) * 3600)
    except ValueError as error:
        raise ValueError(
            f'expected lead times in hours, such as 6,12,24, got {lead_hours}'
        ) from error
    return seconds.astype('timedelta64[s]')


def write_scores(scores: xr.Dataset, output: Output | str | os.PathLike) -> None:
    """Writes the table of `scores` as CSV, and beside it where they come from.

    Args:
      scores: as `evaluate` returns them.
      output: where to; a path alone is not overwritten.

    Raises:
      OutputError: something else is there.
    """
    if not isinstance(output, Output):
        output = Output(output, SCORES)
    check_output(output)
    with output.replacing() as unfinished:
        # Nine digits: more than the float32 fields behind a score can tell apart.
        score_table(scores).to_csv(unfinished, index=False, float_format='%.9g')
        record = json.dumps(_record(scores, unfinished), indent=1)
    # After the table: where a process dies in between, the digest does not fit.
    with replacing(sidecar(output.path)) as unfinished:
        unfinished.write_text(record, 'utf-8')


def check_output(output: Output) -> None:
    """Finds out whether a table may be written, and what stands beside it.

    Raises:
      OutputError: something that must stay is at one of the two places.
    """
    output.check()
    # An orphan of ours says nothing of the new table; anything else stays.
    beside = sidecar(output.path)
    dataclasses.replace(output, path=beside, overwrite=True).check()


def read_scores(path: str | os.PathLike) -> pd.DataFrame:
    """Reads a table of scores.

    Raises:
      FileNotFoundError: there is none.
      ValueError: other columns.
    """
    if not pathlib.Path(path).exists():
        raise FileNotFoundError(
            f'expected scores at {path}, found nothing; run scripts/evaluate.py first'
        )
    table = pd.read_csv(path, dtype={'level': 'Float64'})
    if set(table.columns) != set(COLUMNS):
        raise ValueError(
            f'{path}: expected the columns {COLUMNS}, got {tuple(table.columns)}'
        )
    return table.assign(level=_whole(table.level))


def read_provenance(path: str | os.PathLike) -> dict[str, Any] | None:
    """Reads what stands beside the scores at `path`: see `write_scores`.

    Returns:
      `None` for scores that nothing stands beside, as the first version wrote them.

    Raises:
      ValueError: it is damaged, or belongs to another table.
    """
    beside = sidecar(path)
    if not beside.exists():
        return None
    try:
        record = json.loads(beside.read_text('utf-8'))
        needed = ('sha256', 'forecast', 'starts', 'lead_hours')
        expected, *_ = (record[key] for key in needed)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'{beside}: expected what scripts/evaluate.py writes, found a damaged '
            f'file ({error!r}); run it again'
        ) from error
    found = _sha256(path)
    if found != expected:
        raise ValueError(
            f'{path} is not the table that {beside} was written with (SHA-256 expected '
            f'{expected[:12]}, found {found[:12]}): it was changed, or its writing was '
            'cut off; run scripts/evaluate.py again'
        )
    return record


def _record(scores: xr.Dataset, table: pathlib.Path) -> dict[str, Any]:
    """What stands beside a table."""
    attributes = scores.attrs
    forecast = {'address': attributes['forecast']} | {
        key: attributes.get(f'forecast_{key}', '') for key in TIES
    }
    return {
        MARK: SCORES.name,
        'sha256': _sha256(table),
        'forecast': forecast,
        'starts': attributes['starts'].split(),
        'lead_hours': hours(scores.lead_time.values).tolist(),
        'truth': attributes['truth'],
        'climatology': attributes.get('climatology'),
        'members': attributes.get('members'),
        'grid': attributes['grid'],
        'weighting': attributes['weighting'],
        'not_scored': json.loads(attributes['not_scored']),
        'suspect': json.loads(attributes.get('suspect', '{}')),
        'created': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
        'code_version': provenance.code_version(),
        'git_commit': provenance.git_commit(),
    }


def _sha256(path: str | os.PathLike) -> str:
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def _whole(level: pd.Series) -> pd.Series:
    """Levels as integers where all of them are."""
    return level.astype('Int64') if (level.dropna() % 1 == 0).all() else level
