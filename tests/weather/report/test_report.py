"""The report of a small run is one page that needs nothing else."""

import base64
import dataclasses
import html.parser
import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from sphere_ops.grid import LatLonGrid
from weather.evaluation import evaluate, report
from weather.evaluation.headlines import HEADLINES

SCRIPT = pathlib.Path(__file__).resolve().parents[3] / 'scripts' / 'report.py'
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
    return evaluate.score_table(evaluate.evaluate(*sources))


@pytest.fixture
def contents(sources, scores):
    return report.Contents(
        title='A <small> run', scores=scores, forecasts=sources[0], truth=sources[1]
    )


@pytest.fixture
def undrawn(monkeypatch):
    """Replaces pictures, which take long, by a pixel."""
    pixel = 'data:image/png;base64,' + base64.b64encode(b'pixel').decode()
    for module in ('field_sections', 'score_sections'):
        monkeypatch.setattr(
            f'weather.evaluation.{module}.to_image', lambda *_: pixel, raising=True
        )
    monkeypatch.setattr('weather.evaluation.field_sections.draw_maps', lambda *_: None)


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


def test_page_of_a_run_directory_holds_everything(tmp_path, sources, scores):
    forecasts, truth, _ = sources
    forecasts.to_zarr(tmp_path / 'forecasts', zarr_format=2)
    truth.to_zarr(tmp_path / 'truth.zarr', zarr_format=2)
    scores.to_csv(tmp_path / 'scores.csv', index=False)
    (tmp_path / 'metrics.csv').write_text(
        'update,num_steps,name,value\n10,1,loss_step_1,0.9\n20,1,loss_step_1,0.5\n'
    )
    (tmp_path / 'config.json').write_text(json.dumps(make_config(tmp_path)))
    path = report.write_report(tmp_path, facts={'Parameters': '1234'})
    assert path == tmp_path / 'report.html'
    page = Outline(path.read_text())
    assert page.open == []
    # Four fields of maps, the scores, the spectra and the training.
    pictures = [a for a in page.addresses if a.startswith('data:image/')]
    assert len(pictures) == len(page.alternatives) == 7
    assert all(page.alternatives)
    assert all(a.startswith(('data:image/', '#')) for a in page.addresses)
    assert not re.search(r'url\(|@import|<script|<link', path.read_text())
    for expected in ('Parameters', '1234', '0123abcd', 'equiangular, 12 latitudes'):
        assert expected in page.text
    assert 'not shown' not in page.text
    assert not list(tmp_path.glob('*.tmp'))


def make_config(tmp_path):
    return {
        'data': {
            'storage_options': {},
            'store': str(tmp_path / 'truth.zarr'),
            'train': ['2001-01-01', '2001-12-31'],
            'test': ['2002-01-01', '2002-01-31'],
        },
        'training': {'num_updates': 600, 'batch_size': 8, 'curriculum': [[0, 1]]},
    }


@pytest.mark.usefixtures('undrawn')
def test_table_holds_the_scores(contents, scores):
    text = Outline(report.render_report(contents)).text
    z500 = scores.query(
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
    config = make_config(tmp_path)
    told = dataclasses.replace(contents, config=config)
    assert 'training period, 2001' not in Outline(report.render_report(told)).text
    config['data']['train'] = ['2019-01-01', '2020-01-01']
    told = dataclasses.replace(contents, config=config)
    assert (
        '3 of 3 starts lie in the training' in Outline(report.render_report(told)).text
    )


@pytest.mark.usefixtures('undrawn')
def test_every_region_has_a_row(contents, scores):
    text = Outline(report.render_report(contents)).text
    assert all(region in text for region in scores.region.unique())


@pytest.mark.usefixtures('undrawn')
def test_fields_that_lack_are_named_and_the_others_shown(contents):
    page = Outline(
        report.render_report(
            dataclasses.replace(
                contents,
                forecasts=contents.forecasts.sel(level=[500, 850]),
                scores=contents.scores.query('level != 700'),
            )
        )
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
    truth = contents.truth.assign(
        specific_humidity=contents.truth.specific_humidity * np.nan
    )
    text = Outline(
        report.render_report(dataclasses.replace(contents, truth=truth))
    ).text
    assert 'Q700 is not shown: it is missing (NaN)' in text
    assert 'Q700 is not shown: it has no complete spectrum' in text


@pytest.mark.usefixtures('undrawn')
def test_without_baselines_and_climatology_the_page_says_so(contents):
    alone = contents.scores.query('model == "spherecast" and metric == "rmse"')
    text = Outline(
        report.render_report(dataclasses.replace(contents, scores=alone))
    ).text
    assert 'no baseline was scored' in text
    assert 'no persistence to compare with' in text
    assert 'scoring had no climatology' in text


@pytest.mark.usefixtures('undrawn')
def test_truth_that_ends_too_early_leaves_out_the_maps(contents):
    truth = contents.truth.isel(time=slice(8))
    text = Outline(
        report.render_report(dataclasses.replace(contents, truth=truth))
    ).text
    assert 'The truth holds all valid times of no start' in text


def test_other_grid_is_refused(contents):
    truth = contents.truth.isel(longitude=slice(None, None, 2))
    with pytest.raises(ValueError, match='longitude'):
        report.render_report(dataclasses.replace(contents, truth=truth))


def test_run_without_scores_or_truth_says_what_to_do(tmp_path, scores):
    with pytest.raises(FileNotFoundError, match='run scripts/evaluate.py first'):
        report.write_report(tmp_path)
    scores.to_csv(tmp_path / 'scores.csv', index=False)
    with pytest.raises(ValueError, match='name it with --truth'):
        report.write_report(tmp_path)
    with pytest.raises(FileNotFoundError, match='expected forecasts at'):
        report.write_report(tmp_path, truth='truth.zarr')


def test_help_of_the_script_has_an_example():
    result = subprocess.run(
        [sys.executable, SCRIPT, '--help'], capture_output=True, text=True, timeout=60
    )
    assert 'python scripts/report.py --workdir=' in result.stdout
