"""The report of a small run is one page that needs nothing else."""

import base64
import dataclasses
import html.parser
import json
import pathlib
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr

from learning.files import OutputError, read_mark, sidecar
from sphere_ops.grid import LatLonGrid
from tests.weather import tiny
from weather.evaluation import evaluate, score_file
from weather.evaluation.headlines import HEADLINES
from weather.report import report, ties
from weather.workdir import Workdir

GRID = LatLonGrid('equiangular', num_lat=12, num_lon=24)
LEVELS = [500, 700, 850]
NAMES = [name for one in HEADLINES for name in one.components]
HOUR = np.timedelta64(1, 'h')


def make_fields(rng, **coords):
    """Random fields of plausible size; the winds and humidity among them."""
    coords = {**coords, 'level': LEVELS}
    space = {'latitude': GRID.latitudes, 'longitude': GRID.longitudes}
    axes = {**coords, **space}
    shape = [len(values) for values in axes.values()]
    return xr.Dataset(
        {name: (tuple(axes), rng.normal(size=shape).astype('f4')) for name in NAMES},
        coords=axes,
    )


@pytest.fixture(scope='module')
def sources():
    """Truth of four days, daily forecasts of three, and the climatology."""
    rng = np.random.default_rng(0)
    times = pd.date_range('2020-01-01', periods=20, freq='6h').as_unit('ns')
    truth = make_fields(rng, time=times)
    land = (GRID.longitudes < 120) & (GRID.latitudes > 0)[:, None]
    truth['land_sea_mask'] = (('latitude', 'longitude'), land.astype('f4'))
    leads = pd.to_timedelta([24, 48, 72], unit='h').as_unit('ns')
    forecasts = make_fields(rng, time=times[:3], prediction_timedelta=leads)
    climatology = make_fields(rng, hour=[0, 6, 12, 18], dayofyear=np.arange(1, 10))
    forecasts.attrs = {
        'config_hash': '0123abcd',
        'title': 'not shown',
        'grid_kind': 'x',
    }
    return forecasts, truth, climatology


@pytest.fixture(scope='module')
def scores(sources):
    return evaluate.evaluate(*sources)


@pytest.fixture(scope='module')
def table(scores):
    return score_file.score_table(scores)


@pytest.fixture
def contents(sources, table):
    return report.Contents(
        title='A <small> run',
        forecasts=sources[0],
        truth=sources[1],
        scores=ties.Scores(pathlib.Path('scores.csv'), table, None),
    )


def page_of(contents, **changes):
    """The page of `contents` with some of them changed; `table` is that of scores."""
    if 'table' in changes:
        scores = contents.scores._replace(table=changes.pop('table'))
        changes['scores'] = scores
    return Outline(report.render_report(dataclasses.replace(contents, **changes)))


@pytest.fixture
def undrawn(monkeypatch):
    """Replaces pictures, which take long, by a pixel."""
    pixel = 'data:image/png;base64,' + base64.b64encode(b'pixel').decode()
    for module in ('fields', 'scores'):
        monkeypatch.setattr(
            f'weather.report.{module}.to_image', lambda *_: pixel, raising=True
        )
    monkeypatch.setattr('weather.report.fields.draw_maps', lambda *_: None)


class Outline(html.parser.HTMLParser):
    """Collects what a page refers to, its text, and that its elements are closed."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.alternatives, self.open, self.text = [], [], [], ''
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.addresses += [attrs[name] for name in ('src', 'href') if name in attrs]
        self.alternatives += [attrs['alt']] if tag == 'img' else []
        if tag not in ('meta', 'img', 'link', 'br'):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def run(tmp_path, sources, scores):
    """A run directory with forecasts of its experiment and their scores."""
    forecasts, truth, _ = sources
    setup = tiny.setup(tmp_path / 'truth.zarr')
    Workdir(tmp_path / 'run').claim(setup)
    origin = {'config_hash': setup.digest, 'checkpoint': 'checkpoints/40'}
    forecasts = forecasts.assign_attrs(forecasts.attrs | origin)
    forecasts.to_zarr(tmp_path / 'run' / 'forecasts', zarr_format=2)
    truth.to_zarr(tmp_path / 'truth.zarr', zarr_format=2)
    scored = evaluate.evaluate(forecasts, truth)
    score_file.write_scores(scored, tmp_path / 'run' / 'scores.csv')
    (tmp_path / 'run' / 'metrics.csv').write_text(
        'update,num_steps,name,value\n10,1,loss_step_1,0.9\n20,1,loss_step_1,0.5\n'
    )
    return tmp_path / 'run'


def retold(run, **attributes):
    """Gives the forecasts of a run other attributes."""
    group = zarr.open_group(run / 'forecasts', mode='r+', use_consolidated=False)
    group.attrs.update(attributes)
    zarr.consolidate_metadata(str(run / 'forecasts'))


def test_page_of_a_run_directory_holds_everything(run):
    path = report.write_report(run, facts={'Parameters': '1234'})
    assert path == run / 'report.html'
    assert read_mark(path) == 'report'
    page = Outline(path.read_text())
    assert page.open == []
    # Four fields of maps, the scores, the spectra and the training.
    pictures = [a for a in page.addresses if a.startswith('data:image/')]
    assert len(pictures) == len(page.alternatives) == 7
    assert all(page.alternatives)
    assert all(a.startswith(('data:image/', '#')) for a in page.addresses)
    assert not re.search(r'url\(|@import|<script|<link', path.read_text())
    for expected in ('Parameters', '1234', 'equiangular, 12 latitudes'):
        assert expected in page.text
    for tie in (tiny.setup(run.parent / 'truth.zarr').digest, 'checkpoints/40'):
        assert tie in page.text
    assert '3, 2020-01-01 00 UTC to 2020-01-01 12 UTC, against' in page.text
    assert 'not shown' not in page.text
    assert 'Nothing ties' not in page.text
    assert not list(run.glob('.*'))


@pytest.mark.usefixtures('undrawn')
def test_a_report_is_replaced_only_when_it_is_said_and_nothing_else_ever(run):
    first = report.write_report(run).read_bytes()
    with pytest.raises(OutputError, match='say --overwrite'):
        report.write_report(run)
    assert report.write_report(run, overwrite=True).read_bytes() == first
    for other in ('scores.csv', 'metrics.csv', 'forecasts', '.'):
        before = {p: p.read_bytes() for p in run.rglob('*') if p.is_file()}
        with pytest.raises(OutputError):
            report.write_report(run, output=str(run / other), overwrite=True)
        assert before == {p: p.read_bytes() for p in run.rglob('*') if p.is_file()}


@pytest.mark.parametrize(
    'changed',
    [
        {'checkpoint': 'checkpoints/20'},
        {'checkpoint_digest': '0123456789ab'},
        {'initial_states': 'other.zarr'},
    ],
)
def test_scores_of_other_forecasts_are_refused(run, changed):
    retold(run, **changed)
    ((name, value),) = changed.items()
    with pytest.raises(ties.TieError, match=f'{name} .* was scored, {value} is shown'):
        report.write_report(run)
    assert not (run / 'report.html').exists()


def test_scores_of_other_starts_are_refused(run, sources):
    shutil.rmtree(run / 'forecasts')
    later = sources[0].assign_coords(time=sources[0].time + np.timedelta64(1, 'D'))
    origin = {'checkpoint': 'checkpoints/40', 'config_hash': _hash(run)}
    later.assign_attrs(origin).to_zarr(run / 'forecasts', zarr_format=2)
    with pytest.raises(ties.TieError, match='3 of 3 scored starts'):
        report.write_report(run)


@pytest.mark.usefixtures('undrawn')
def test_forecasts_of_another_run_are_refused_and_foreign_ones_are_named(run):
    retold(run, config_hash='0123456789ab')
    with pytest.raises(ties.TieError, match='another config, 0123456789ab'):
        report.write_report(run, table='')
    group = zarr.open_group(run / 'forecasts', mode='r+', use_consolidated=False)
    del group.attrs['config_hash']
    zarr.consolidate_metadata(str(run / 'forecasts'))
    page = Outline(report.write_report(run, table='').read_text())
    assert 'are not of this project' in page.text


@pytest.mark.usefixtures('undrawn')
def test_old_scores_are_shown_with_a_notice_and_changed_ones_are_refused(run):
    (run / 'scores.provenance.json').rename(run / 'aside')
    page = Outline(report.write_report(run).read_text())
    assert 'Nothing ties these scores to these forecasts' in page.text
    (run / 'aside').rename(run / 'scores.provenance.json')
    with (run / 'scores.csv').open('a') as file:
        file.write('x,temperature,850,global,24,rmse,1.0\n')
    with pytest.raises(ValueError, match='SHA-256 expected'):
        report.write_report(run, overwrite=True)


def test_forecasts_without_scores_beyond_the_end_of_the_truth_are_shown(run, sources):
    shutil.rmtree(run / 'forecasts')
    future = sources[0].isel(time=[0]).assign_coords(time=sources[1].time.values[-1:])
    future.assign_attrs(config_hash=_hash(run)).to_zarr(
        run / 'forecasts', zarr_format=2
    )
    page = Outline(report.write_report(run, table='').read_text())
    assert 'There is no truth yet' in page.text and 'There are no scores' in page.text
    assert 'it ends at 2020-01-05 18 UTC' in page.text
    assert 'Starts scored' in page.text and 'RMSE' not in page.text
    maps = [text for text in page.alternatives if text.startswith('Maps of forecast: ')]
    assert len(maps) == 4


def test_a_truth_that_is_not_there_says_how_to_name_it(run, monkeypatch):
    monkeypatch.chdir(run)
    wanted = f'{run}/nowhere.zarr, found nothing there.*name the store with --truth'
    with pytest.raises(FileNotFoundError, match=wanted):
        report.write_report(run, truth='nowhere.zarr', table='', overwrite=True)


def _hash(run):
    return Workdir(run).read_config().digest


@pytest.mark.usefixtures('undrawn')
def test_table_holds_the_scores(contents, table):
    text = page_of(contents).text
    z500 = table.query(
        'variable == "geopotential" and level == 500 and region == "global" '
        'and lead_time_hours == 48'
    )
    rmse = z500[z500.metric == 'rmse'].set_index('model').value
    acc = z500[z500.metric == 'acc'].set_index('model').value
    skill = 100 * (1 - rmse.spherecast / rmse.persistence)
    for expected in (
        f'{rmse.spherecast:.0f}',
        f'{skill:+.0f} %'.replace('-', '−'),
        f'{acc.spherecast:.3f}'.replace('-', '−'),
    ):
        assert expected in text
    assert 'A <small> run' in text  # Escaped in the source of the page.


@pytest.mark.usefixtures('undrawn')
def test_starts_in_the_training_period_are_announced(contents, tmp_path):
    setup = tiny.setup(tmp_path)
    assert 'training period, 2001' not in page_of(contents, setup=setup).text
    setup = setup.with_changes({'data.train': ('2019-01-01', '2020-01-01')})
    text = page_of(contents, setup=setup).text
    assert '3 of 3 starts lie in the training' in text


@pytest.mark.usefixtures('undrawn')
def test_every_region_has_a_row(contents, table):
    text = page_of(contents).text
    assert all(region in text for region in table.region.unique())


@pytest.mark.usefixtures('undrawn')
def test_fields_that_lack_are_named_and_the_others_shown(contents, table):
    page = page_of(
        contents,
        forecasts=contents.forecasts.sel(level=[500, 850]),
        table=table.query('level != 700'),
    )
    assert (
        'Q700 is not shown: the forecast has no specific_humidity at 700' in page.text
    )
    assert 'Q700 is not shown: the table of scores has no RMSE' in page.text
    assert 'Maps of forecast, truth and error: Temperature at 850 hPa' in (
        page.alternatives
    )


@pytest.mark.usefixtures('undrawn')
def test_field_of_nan_is_named(contents):
    nothing = contents.truth.specific_humidity * np.nan
    truth = contents.truth.assign(specific_humidity=nothing)
    text = page_of(contents, truth=truth).text
    assert 'Q700 is not shown: it is missing (NaN)' in text
    assert 'Q700 is not shown: it has no complete spectrum' in text


@pytest.mark.usefixtures('undrawn')
def test_without_baselines_and_climatology_the_page_says_so(contents, table):
    alone = table.query('model == "spherecast" and metric == "rmse"')
    text = page_of(contents, table=alone).text
    assert 'no baseline was scored' in text
    assert 'no persistence to compare with' in text
    assert 'scoring had no climatology' in text


@pytest.mark.usefixtures('undrawn')
def test_members_are_shown_by_their_mean(contents, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        'weather.report.fields.draw_maps', lambda *arguments: drawn.append(arguments)
    )
    one = contents.forecasts
    spread = xr.concat([one - 3, one + 3], 'member')
    text = page_of(contents, forecasts=spread).text
    assert 'the mean of 2 members' in text
    headline, _, rows = drawn[1]
    expected = headline.select(one, time=1, prediction_timedelta=0)
    np.testing.assert_allclose(
        rows[0].forecast['temperature'], expected['temperature'], atol=1e-6
    )


def test_other_grid_is_refused(contents):
    truth = contents.truth.isel(longitude=slice(None, None, 2))
    with pytest.raises(ValueError, match='longitude'):
        page_of(contents, truth=truth)


def test_run_without_truth_or_forecasts_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match='name it with --truth'):
        report.write_report(tmp_path)
    with pytest.raises(FileNotFoundError, match='found nothing there'):
        report.write_report(tmp_path, truth='truth.zarr')
    with pytest.raises(FileNotFoundError, match='run scripts/evaluate.py first'):
        report.write_report(tmp_path, truth='truth.zarr', table='mine.csv')


@pytest.mark.usefixtures('undrawn')
def test_what_was_not_scored_or_is_suspect_is_said(run):
    beside = sidecar(run / 'scores.csv')
    record = json.loads(beside.read_text())
    record['not_scored'] = {'temperature@50': 'only in the truth'}
    record['suspect'] = {'temperature': 'mean 7 in the forecast, 280 in the truth'}
    beside.write_text(json.dumps(record))
    text = report.write_report(run, overwrite=True).read_text()
    assert 'Not scored: temperature@50 (only in the truth).' in text
    assert 'Suspect: temperature (mean 7 in the forecast, 280 in the truth).' in text
