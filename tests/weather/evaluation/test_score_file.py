"""Scores on disk, and what stands beside them."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest

from learning.files import MARK, Output, OutputError, sidecar
from weather.evaluation import evaluate, score_file
from weather.outputs import SCORES

MADE_BY = {
    'config_hash': '0123456789ab',
    'checkpoint': 'checkpoints/40',
    'checkpoint_digest': 'ba9876543210',
    'initial_states': 'planet.zarr',
}


@pytest.fixture
def scores(sources):
    forecasts = sources.forecasts.assign_attrs(MADE_BY)
    forecasts.encoding['source'] = 'runs/demo/forecasts'
    return evaluate.evaluate(forecasts, sources.truth, sources.climatology)


def test_csv_appears_whole_and_reads_back(scores, tmp_path):
    path = tmp_path / 'new' / 'scores.csv'
    evaluate.write_scores(scores, path)
    names = sorted(file.name for file in path.parent.iterdir())
    assert names == ['scores.csv', 'scores.provenance.json']
    read, table = score_file.read_scores(path), evaluate.score_table(scores)
    np.testing.assert_allclose(read.value, table.value, rtol=1e-8)
    columns = ['model', 'region', 'lead_time_hours', 'metric']
    assert (read[columns] == table[columns]).all(axis=None)
    assert read.level.equals(table.level)


def test_beside_the_table_stands_whose_it_is(scores, tmp_path):
    path = tmp_path / 'scores.csv'
    evaluate.write_scores(scores, path)
    record = score_file.read_provenance(path)
    assert record[MARK] == 'scores'
    assert record['sha256'] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record['forecast'] == {'address': 'runs/demo/forecasts', **MADE_BY}
    assert record['starts'] == [
        '2020-02-27T00:00',
        '2020-02-27T12:00',
        '2020-02-28T18:00',
    ]
    assert record['lead_hours'] == [6, 12, 18, 24]
    assert record['truth'] == record['climatology'] == 'in memory'
    assert record['not_scored'] == {}
    assert 'equiangular_with_poles' in record['grid']


def test_foreign_forecasts_have_no_digest_and_no_climatology_is_none(sources, tmp_path):
    scores = evaluate.evaluate(sources.forecasts, sources.truth)
    evaluate.write_scores(scores, tmp_path / 's.csv')
    record = score_file.read_provenance(tmp_path / 's.csv')
    assert record['forecast']['config_hash'] == ''
    assert record['climatology'] is None


def test_a_table_that_was_changed_is_told(scores, tmp_path):
    path = tmp_path / 'scores.csv'
    evaluate.write_scores(scores, path)
    path.write_text(path.read_text().replace('spherecast', 'better'))
    with pytest.raises(ValueError, match='is not the table that .* was written with'):
        score_file.read_provenance(path)


@pytest.mark.parametrize('text', ['{"forecast": 1}', '[]', '{', '{"sha256": "0"}'])
def test_a_damaged_record_is_told(scores, tmp_path, text):
    path = tmp_path / 'scores.csv'
    evaluate.write_scores(scores, path)
    sidecar(path).write_text(text)
    with pytest.raises(ValueError, match='found a damaged file'):
        score_file.read_provenance(path)


def test_scores_of_the_first_version_are_read_and_replaced(scores, tmp_path):
    path = tmp_path / 'scores.csv'
    evaluate.score_table(scores).to_csv(path, index=False)
    assert score_file.read_provenance(path) is None
    assert len(score_file.read_scores(path)) == len(evaluate.score_table(scores))
    evaluate.write_scores(scores, Output(path, SCORES, overwrite=True))
    assert score_file.read_provenance(path)['lead_hours'] == [6, 12, 18, 24]


def test_scores_replace_scores_alone_and_only_when_told(scores, tmp_path):
    path = tmp_path / 'scores.csv'
    evaluate.write_scores(scores, path)
    with pytest.raises(OutputError, match='say --overwrite'):
        evaluate.write_scores(scores, path)
    foreign = tmp_path / 'mine.csv'
    foreign.write_text('a,b\n1,2\n')
    with pytest.raises(OutputError, match='which stays as it is'):
        evaluate.write_scores(scores, Output(foreign, SCORES, overwrite=True))
    assert foreign.read_text() == 'a,b\n1,2\n'
    assert not sidecar(foreign).exists()


def test_a_record_of_something_else_stays(scores, tmp_path):
    path = tmp_path / 'scores.csv'
    sidecar(path).write_text('{"mine": 1}')
    with pytest.raises(OutputError, match='which stays as it is'):
        evaluate.write_scores(scores, path)
    with pytest.raises(OutputError, match='which stays as it is'):
        score_file.check_output(Output(path, SCORES, overwrite=True))
    assert json.loads(sidecar(path).read_text()) == {'mine': 1}
    assert not path.exists()


def test_table_that_is_not_there_or_other_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='run scripts/evaluate.py first'):
        score_file.read_scores(tmp_path / 'scores.csv')
    pd.DataFrame({'name': [1]}).to_csv(tmp_path / 's.csv')
    with pytest.raises(ValueError, match='expected the columns'):
        score_file.read_scores(tmp_path / 's.csv')


@pytest.mark.parametrize(
    ('written', 'seconds'), [(['6', '24'], [21600, 86400]), (['0.5'], [1800])]
)
def test_lead_times_are_written_in_hours(written, seconds):
    found = score_file.lead_times(written)
    np.testing.assert_array_equal(found, np.array(seconds, 'timedelta64[s]'))
    assert score_file.lead_times(None) is None
    with pytest.raises(ValueError, match='expected lead times in hours'):
        score_file.lead_times(['24h'])
