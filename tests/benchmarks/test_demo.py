"""The demo's range over seeds: from tables of scores to a table for readers."""

import pytest

from benchmarks import demo

HEADER = 'model,variable,level,region,lead_time_hours,metric,value\n'


def write_scores(path, factor):
    """RMSE of every field and model, and rows that must not be taken for them."""
    lines = [
        f'{model},{variable},{level},global,{lead},rmse,{factor * lead / scale}'
        for model in demo.MODELS
        for (variable, level), (_, _, scale, _) in demo.FIELDS.items()
        for lead in (*demo.LEADS, 48)
    ]
    lines += [
        'spherecast,geopotential,500,tropics,24,rmse,1e9',
        'spherecast,geopotential,500,global,24,bias,1e9',
        'spherecast,geopotential,850,global,24,rmse,1e9',
        'climatology,geopotential,500,global,24,rmse,1e9',
    ]
    path.write_text(HEADER + '\n'.join(lines) + '\n')


@pytest.fixture
def runs(tmp_path):
    found = []
    for seed, factor in enumerate((1, 2, 6)):
        path = tmp_path / f'{seed}.csv'
        write_scores(path, factor)
        seconds = {'simulate': 10.0 * factor, 'train': 20.0}
        found.append({'seed': seed, 'seconds': seconds, 'rmse': demo.read_rmse(path)})
    return found


def test_the_range_is_that_over_seeds_in_the_units_of_readers(runs):
    found = demo.summarise(runs)
    assert len(found) == len(demo.FIELDS) * len(demo.MODELS) * len(demo.LEADS)
    for name, *_ in demo.FIELDS.values():
        span = found.loc[name, 'spherecast', 24]
        # One, two and six times the lead time in hours: g kg-1 where stored in kg kg-1.
        assert tuple(span) == pytest.approx((24, 72, 144))


def test_tables_name_every_field_and_stage(runs):
    table = demo.range_table(runs)
    assert '24 to 144' in table
    assert 'Q700, g kg-1, persistence' in table
    assert demo.duration_table(runs).splitlines()[-1].split('|')[1:4] == [
        ' 2    ',
        '         60 ',
        '      20 ',
    ]
