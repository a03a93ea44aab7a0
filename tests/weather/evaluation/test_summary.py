"""What a table of scores says: curves, skill, and how long a model is better."""

import numpy as np
import pandas as pd
import pytest

from weather.evaluation.evaluate import COLUMNS
from weather.evaluation.headlines import HEADLINES
from weather.evaluation.summary import Summary, choose_leads, read_scores

Z500, T850, Q700, WIND850 = HEADLINES
LEADS = (24, 48, 72, 96, 120)
# RMSE in SI units by model: better than persistence always, than climatology to 72 h.
RMSE = {
    'spherecast': (1, 2, 3, 5, 6),
    'persistence': (2, 4, 6, 8, 8),
    'climatology': (4, 4, 4, 4, 4),
}


def make_table(rmse=RMSE, regions=('global', 'tropics')):
    rows = [
        (
            model,
            one.scored,
            one.level,
            region,
            lead,
            'rmse',
            value / one.in_scores.scale,
        )
        for one in HEADLINES
        for model, values in rmse.items()
        for region in regions
        for lead, value in zip(LEADS, values, strict=True)
    ]
    rows += [
        (model, name, one.level, region, lead, 'acc', 1 - lead / 200 - i / 10)
        for one in HEADLINES
        for i, name in enumerate(one.components)
        for model in rmse
        if model != 'climatology'
        for region in regions
        for lead in LEADS
    ]
    rows.append(('spherecast', '2m_temperature', pd.NA, 'global', 24, 'rmse', 1.0))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype({'level': 'Int64'})


def test_written_table_is_read_back(tmp_path):
    make_table().to_csv(tmp_path / 'scores.csv', index=False)
    pd.testing.assert_frame_equal(read_scores(tmp_path / 'scores.csv'), make_table())


def test_fractional_levels_are_found():
    table = make_table()
    table['level'] = table.level.astype('Float64').replace(850, 12.5)
    assert Summary(table).curves('rmse', 'temperature', 12.5).shape == (5, 3)
    assert Summary(table).curves('rmse', 'temperature', 12).empty
    assert Summary(table).curves('rmse', 'geopotential', 500).shape == (5, 3)


def test_baselines_come_last_and_surface_scores_have_no_level():
    shuffled = make_table().sort_values(['model', 'lead_time_hours'])
    summary = Summary(shuffled)
    assert summary.models == ['spherecast', 'persistence', 'climatology']
    assert summary.model == 'spherecast'
    surface = summary.curves('rmse', '2m_temperature', -1)
    assert surface.loc[24, 'spherecast'] == 1


def test_curves_are_in_the_unit_of_tables():
    rmse = Summary(make_table()).rmse(Q700)
    assert list(rmse.index) == list(LEADS)
    assert list(rmse.columns) == list(RMSE)
    # The table holds kg/kg; what is shown are g/kg.
    np.testing.assert_allclose(rmse.to_numpy().T, list(RMSE.values()))


def test_skill_is_the_part_of_the_error_of_persistence_that_is_gone():
    skill = Summary(make_table()).skill(Z500)
    np.testing.assert_allclose(skill.spherecast, [0.5, 0.5, 0.5, 0.375, 0.25])
    np.testing.assert_allclose(skill.climatology, [-1, 0, 1 / 3, 0.5, 0.5])
    assert 'persistence' not in skill
    without = {'spherecast': RMSE['spherecast']}
    assert Summary(make_table(without)).skill(Z500).empty


def test_acc_of_a_wind_is_that_of_its_components():
    acc = Summary(make_table()).acc(WIND850)
    assert list(acc) == ['u_component_of_wind', 'v_component_of_wind']
    assert 'climatology' not in acc['u_component_of_wind']
    assert acc['v_component_of_wind'].loc[120, 'spherecast'] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ('model', 'until'),
    [
        ((1, 2, 3, 5, 6), 72.0),
        ((1, 2, 3, 3, 3), 120.0),
        ((5, 2, 3, 3, 3), 0.0),  # Worse from the start.
        ((1, 4, 3, 3, 3), 24.0),  # A tie is not better, and a break ends it.
    ],
)
def test_a_model_is_better_until_the_first_lead_time_where_it_is_not(model, until):
    summary = Summary(make_table({**RMSE, 'spherecast': model}))
    assert summary.beats_until(T850, 'climatology') == until


def test_no_baseline_is_no_verdict():
    summary = Summary(make_table({'spherecast': RMSE['spherecast']}))
    assert summary.beats_until(T850, 'persistence') is None


def test_table_of_baselines_alone_is_refused():
    with pytest.raises(ValueError, match='expected scores of a model'):
        Summary(make_table({'persistence': RMSE['persistence']}).query('level > 0'))


def test_region_is_the_globe_where_it_was_scored():
    assert Summary(make_table(regions=('tropics', 'global'))).region == 'global'
    table = make_table(regions=('europe',)).query('level > 0')
    assert Summary(table).region == 'europe'
    assert Summary(table).rmse(Z500).shape == (5, 3)


@pytest.mark.parametrize(
    ('found', 'chosen'),
    [
        (range(6, 126, 6), [24, 72, 120]),
        ([24, 48, 72], [24, 48, 72]),  # Five days are not there: spread out.
        ([6, 12], [6, 12]),
        ([6], [6]),
    ],
)
def test_usual_lead_times_or_else_first_middle_and_last(found, chosen):
    assert choose_leads(list(found), (24, 72, 120)) == chosen
