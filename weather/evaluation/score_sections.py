"""Parts of the report that are made from a table of scores alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pandas as pd

from weather.evaluation import page
from weather.evaluation.figures import USEFUL_ACC, Curves, draw_scores, to_image
from weather.evaluation.headlines import HEADLINES, Headline
from weather.evaluation.summary import BASELINES, USUAL_LEADS, Summary, choose_leads

_NOTHING = '–'


def headline_section(summary: Summary) -> str:
    """The verdict, and a table of RMSE, skill and ACC at the usual lead times."""
    leads = choose_leads(summary.lead_hours, USUAL_LEADS)
    shown = [one for one in HEADLINES if not summary.rmse(one).empty]
    rows = [row for one in shown for row in _rows_of(summary, one, leads)]
    return (
        page.items(_verdict(summary, one) for one in shown)
        + ''.join(page.notice(_absent(one)) for one in HEADLINES if one not in shown)
        + page.table(_head(leads), rows)
        + page.note(
            f'Region: {summary.region}. RMSE is the root of the squared error averaged '
            'over starts; skill is 1 − RMSE / RMSE of persistence, positive where '
            'better; ACC is the anomaly correlation, for wind that of its components '
            '(U, V). Bold: the lowest RMSE. Scores on different grids are not '
            'comparable.'
        )
    )


def curves_section(summary: Summary) -> str:
    """RMSE and ACC against lead time."""
    shown = [one for one in HEADLINES if not summary.rmse(one).empty]
    if not shown:
        return page.notice('The table of scores holds no headline field.')
    rmse = [
        Curves(one.name, f'RMSE ({one.in_scores.unit})', summary.rmse(one))
        for one in shown
    ]
    acc = [_acc_curves(summary, one) for one in shown]
    figure = to_image(draw_scores(rmse, acc), 'svg')
    without = '' if any(acc) else ' There is no ACC: scoring had no climatology.'
    return page.picture(
        figure,
        alternative='RMSE and anomaly correlation of the headline fields by lead time',
        caption=f'Region: {summary.region}. Dotted line: ACC of {USEFUL_ACC}, below '
        f'which a forecast is by custom of no use.{without}',
    )


def regions_section(summary: Summary) -> str:
    """A table of skill against persistence by region, at one lead time."""
    leads = choose_leads(summary.lead_hours, USUAL_LEADS)
    lead = leads[len(leads) // 2]
    shown = [one for one in HEADLINES if not summary.skill(one).empty]
    if not shown:
        return page.notice('The table of scores has no persistence to compare with.')
    head = ''.join(f'<th>{page.escape(one.name)}</th>' for one in shown)
    rows = []
    for region in summary.regions:
        skills = [summary.skill(one, region=region) for one in shown]
        cells = [_skill_cell(_at(skill, summary.model, lead)) for skill in skills]
        heading = f'<th class="left">{page.escape(region)}</th>'
        rows.append(page.row(cells, heading=heading))
    return page.table(
        f'<tr><th class="left">Region</th>{head}</tr>', rows, classes='wide narrow'
    ) + page.note(
        f'1 − RMSE / RMSE of persistence at {lead:g} h, for {summary.model}. '
        'Regions as in WeatherBench 2.'
    )


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


def _head(leads: Sequence[float]) -> str:
    groups = ('RMSE', 'Skill against persistence', 'ACC')
    above = ''.join(
        f'<th class="group" colspan="{len(leads)}">{name}</th>' for name in groups
    )
    below = ''.join(f'<th>{lead:g} h</th>' for lead in leads) * len(groups)
    return (
        '<tr><th class="left" rowspan="2">Field</th>'
        f'<th class="left" rowspan="2">Model</th>{above}</tr><tr>{below}</tr>'
    )


def _rows_of(
    summary: Summary, headline: Headline, leads: Sequence[float]
) -> Iterator[str]:
    """Rows of one field: a model each."""
    rmse, skill = summary.rmse(headline), summary.skill(headline)
    acc = list(summary.acc(headline).values())
    lowest = rmse.min(axis='columns')
    for i, model in enumerate(rmse.columns):
        cells = [page.Cell(model, classes='left')]
        for lead in leads:
            value = _at(rmse, model, lead)
            best = value is not None and value == lowest.get(lead)
            text = _number(value, headline.in_scores.digits)
            cells.append(page.Cell(text, classes='best' if best else ''))
        cells += [_skill_cell(_at(skill, model, lead)) for lead in leads]
        for lead in leads:
            values = [_number(_at(of_one, model, lead), 3) for of_one in acc]
            known = [value for value in values if value != _NOTHING]
            cells.append(page.Cell(', '.join(known) or _NOTHING))
        heading = '' if i else _heading(headline, len(rmse.columns))
        yield page.row(cells, heading=heading, classes='' if i else 'first')


def _heading(headline: Headline, num_rows: int) -> str:
    return (
        f'<th class="left" rowspan="{num_rows}" title="{page.escape(headline.words)}">'
        f'{page.escape(headline.name)} '
        f'<span class="unit">{page.escape(headline.in_scores.unit)}</span></th>'
    )


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


def _skill_cell(skill: float | None) -> page.Cell:
    """Per cent, green where better than persistence, red where worse."""
    if skill is None:
        return page.Cell(_NOTHING)
    red_green_blue = '39, 134, 91' if skill > 0 else '190, 60, 60'
    strength = min(0.5, 0.06 + 0.6 * abs(skill))
    text = f'{100 * skill:+.0f} %'.replace('-', '−')
    return page.Cell(text, colour=f'rgba({red_green_blue}, {strength:.2f})')
