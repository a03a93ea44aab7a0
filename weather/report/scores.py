"""Sections of the report that are made from a table of scores alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pandas as pd

from weather.evaluation.headlines import HEADLINES, Headline
from weather.evaluation.summary import BASELINES, USUAL_LEADS, Summary, choose_leads
from weather.report.figures import USEFUL_ACC, Curves, draw_scores, to_image
from weather.report.page import Cell, Part, Picture, Section, Table, notice

_NOTHING = '–'


def sections(summary: Summary) -> list[Section]:
    """Headline scores, their curves by lead time, and skill by region."""
    return [
        Section('headline', 'Headline scores', _headline(summary)),
        Section('curves', 'Scores by lead time', [_curves(summary)]),
        Section('regions', 'Skill by region', _regions(summary)),
    ]


def _headline(summary: Summary) -> list[Part]:
    """The verdict, and a table of RMSE, skill and ACC at the usual lead times."""
    leads = choose_leads(summary.lead_hours, USUAL_LEADS)
    shown = [one for one in HEADLINES if not summary.rmse(one).empty]
    rows = [row for one in shown for row in _rows_of(summary, one, leads)]
    return [
        Part('items', [_verdict(summary, one) for one in shown]),
        *(notice(_absent(one)) for one in HEADLINES if one not in shown),
        Part('table', Table(_head(leads), rows)),
        Part(
            'note',
            f'Region: {summary.region}. RMSE is the root of the squared error averaged '
            'over starts; skill is 1 − RMSE / RMSE of persistence, positive where '
            'better; ACC is the anomaly correlation, for wind that of its components '
            '(U, V). Bold: the lowest RMSE. Scores on different grids are not '
            'comparable.',
        ),
    ]


def _curves(summary: Summary) -> Part:
    """RMSE and ACC against lead time."""
    shown = [one for one in HEADLINES if not summary.rmse(one).empty]
    if not shown:
        return notice('The table of scores holds no headline field.')
    rmse = [
        Curves(one.name, f'RMSE ({one.in_scores.unit})', summary.rmse(one))
        for one in shown
    ]
    acc = [_acc_curves(summary, one) for one in shown]
    without = '' if any(acc) else ' There is no ACC: scoring had no climatology.'
    picture = Picture(
        to_image(draw_scores(rmse, acc), 'svg'),
        'RMSE and anomaly correlation of the headline fields by lead time',
        f'Region: {summary.region}. Dotted line: ACC of {USEFUL_ACC}, below '
        f'which a forecast is by custom of no use.{without}',
    )
    return Part('picture', picture)


def _regions(summary: Summary) -> list[Part]:
    """A table of skill against persistence by region, at one lead time."""
    leads = choose_leads(summary.lead_hours, USUAL_LEADS)
    lead = leads[len(leads) // 2]  # Of the usual ones, three days.
    shown = [one for one in HEADLINES if not summary.skill(one).empty]
    if not shown:
        return [notice('The table of scores has no persistence to compare with.')]
    rows = []
    for region in summary.regions:
        skills = [summary.skill(one, region=region) for one in shown]
        cells = [_skill_cell(_at(skill, summary.model, lead)) for skill in skills]
        rows.append([Cell(region, 'left', heading=True), *cells])
    head = [[Cell('Region', 'left'), *(Cell(one.name) for one in shown)]]
    note = (
        f'1 − RMSE / RMSE of persistence at {lead:g} h, for {summary.model}. '
        'Regions as in WeatherBench 2.'
    )
    return [Part('table', Table(head, rows, 'wide narrow')), Part('note', note)]


def _verdict(summary: Summary, headline: Headline) -> str:
    """One line: up to which lead time the model is better than each baseline."""
    parts = []
    for baseline in BASELINES:
        until = summary.beats_until(headline, baseline)
        if until is None:
            continue
        if until == 0:
            parts.append(f'not better than {baseline}')
        elif until == summary.lead_hours[-1]:
            parts.append(f'better than {baseline} at every lead time to {until:g} h')
        else:
            parts.append(f'better than {baseline} to {until:g} h')
    if not parts:
        return f'{headline.name}: no baseline was scored'
    return f'{headline.name}: {"; ".join(parts)}.'


def _absent(headline: Headline) -> str:
    return (
        f'{headline.name} is not shown: the table of scores has no RMSE of '
        f'{headline.scored} at {headline.level} hPa.'
    )


def _head(leads: Sequence[float]) -> list[list[Cell]]:
    groups = ('RMSE', 'Skill against persistence', 'ACC')
    left = [Cell(name, 'left', rows=2) for name in ('Field', 'Model')]
    above = [Cell(name, 'group', columns=len(leads)) for name in groups]
    return [[*left, *above], [Cell(f'{lead:g} h') for lead in leads] * len(groups)]


def _rows_of(
    summary: Summary, headline: Headline, leads: Sequence[float]
) -> Iterator[list[Cell]]:
    """Rows of one field: a model each."""
    rmse, skill = summary.rmse(headline), summary.skill(headline)
    acc = list(summary.acc(headline).values())
    lowest = rmse.min(axis='columns')
    unit, rows = headline.in_scores.unit, len(rmse.columns)
    cells = [Cell(headline.name, 'left', unit=unit, rows=rows, heading=True)]
    for model in rmse.columns:
        cells.append(Cell(model, 'left'))
        for lead in leads:
            value = _at(rmse, model, lead)
            # Ties are both bold: the minimum is one of these very numbers.
            best = value is not None and value == lowest.get(lead)
            text = _number(value, headline.in_scores.digits)
            cells.append(Cell(text, 'best' if best else ''))
        cells += [_skill_cell(_at(skill, model, lead)) for lead in leads]
        for lead in leads:
            values = [_number(_at(of_one, model, lead), 3) for of_one in acc]
            known = [value for value in values if value != _NOTHING]
            cells.append(Cell(', '.join(known) or _NOTHING))
        yield cells
        cells = []  # Only the first row begins with the name of the field.


def _acc_curves(summary: Summary, headline: Headline) -> Curves | None:
    components = list(summary.acc(headline).values())
    if not components:
        return None
    label = 'ACC, mean of U and V' if headline.is_vector else 'ACC'
    return Curves(
        headline.name, label, sum(components[1:], components[0]) / len(components)
    )


def _at(curves: pd.DataFrame, model: str, lead: float) -> float | None:
    """A value of a table of curves; `None` where there is none."""
    if model not in curves or lead not in curves.index:
        return None
    value = float(curves[model][lead])
    return None if math.isnan(value) else value


def _number(value: float | None, digits: int) -> str:
    return _NOTHING if value is None else f'{value:.{digits}f}'.replace('-', '−')


def _skill_cell(skill: float | None) -> Cell:
    """Per cent, green where better than persistence, red where worse."""
    if skill is None:
        return Cell(_NOTHING)
    red_green_blue = '39, 134, 91' if skill > 0 else '190, 60, 60'
    # Some colour for the least skill, and text that can be read on the most.
    strength = min(0.5, 0.06 + 0.6 * abs(skill))
    text = f'{100 * skill:+.0f} %'.replace('-', '−')
    return Cell(text, colour=f'rgba({red_green_blue}, {strength:.2f})')
