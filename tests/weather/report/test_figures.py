"""Curves of the report: what is drawn where, and that nothing leaks."""

import base64
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from weather.report.figures import (
    Curves,
    Spectrum,
    draw_scores,
    draw_spectra,
    draw_training,
    model_style,
    to_image,
)

LEADS = np.arange(6, 126, 6)


def make_curves(title='Z500', models=('spherecast', 'persistence', 'climatology')):
    values = {model: LEADS * (i + 1.0) for i, model in enumerate(models)}
    return Curves(title, 'RMSE (K)', pd.DataFrame(values, index=LEADS))


def make_spectrum(ratio):
    degrees = np.arange(1, 22)
    truth = np.tile(degrees**-3.0, (3, 1))
    forecast = truth * np.array([[1.0], [1.0], [ratio]])
    return Spectrum('Z500', 'K²', degrees, np.array([24, 72, 120]), forecast, truth)


def lines(ax, label):
    return [line for line in ax.lines if line.get_label() == label]


def test_every_model_is_a_line_and_the_axis_starts_at_zero():
    figure = draw_scores([make_curves('Z500'), make_curves('T850')], [None, None])
    assert [ax.get_title() for ax in figure.axes] == ['Z500', 'T850']
    for ax in figure.axes:
        (line,) = lines(ax, 'persistence')
        np.testing.assert_array_equal(line.get_xdata(), LEADS)
        np.testing.assert_array_equal(line.get_ydata(), 2 * LEADS)
        assert ax.get_ylim()[0] == 0
        assert 'Lead time' in ax.get_xlabel()
    names = [text.get_text() for text in figure.legends[0].texts]
    assert names == ['spherecast', 'persistence', 'climatology']


def test_model_is_drawn_over_the_baselines():
    figure = draw_scores([make_curves()], [None])
    assert figure.axes[0].lines[-1].get_label() == 'spherecast'


def test_acc_stands_under_the_field_that_has_one():
    acc = Curves('T850', 'ACC', pd.DataFrame({'spherecast': [0.9, 0.7]}, [24, 48]))
    figure = draw_scores([make_curves('Z500'), make_curves('T850')], [None, acc])
    below = figure.axes[2:]
    assert [ax.get_visible() for ax in below] == [False, True]
    assert below[1].get_ylabel() == 'ACC'
    # The line of 0.6, below which a forecast is of no use.
    assert 0.6 in [line.get_ydata()[0] for line in below[1].lines]


def test_missing_lead_times_of_a_baseline_are_left_out():
    curves = make_curves()
    curves.values.loc[6, 'climatology'] = np.nan
    figure = draw_scores([curves], [None])
    (line,) = lines(figure.axes[0], 'climatology')
    assert line.get_xdata()[0] == 12


def test_models_differ_and_baselines_look_the_same_beside_any_model():
    models = ['a', 'persistence', 'b']
    assert model_style('a', models)['color'] != model_style('b', models)['color']
    assert model_style('persistence', models) == model_style('persistence', ['c'])


def test_spectra_show_every_lead_time_and_the_mean_truth():
    spectrum = make_spectrum(0.25)
    figure = draw_spectra([spectrum])
    power, ratio = figure.axes[:2]
    (truth,) = lines(power, 'truth')
    np.testing.assert_allclose(truth.get_ydata(), spectrum.truth[0])
    assert len(power.lines) == 3 + 1 and len(ratio.lines) == 3 + 1
    np.testing.assert_allclose(ratio.lines[2].get_ydata(), 0.25)
    assert power.get_ylabel() == 'Power (K²)'


@pytest.mark.parametrize('value', [0.25, 1.0, 30.0])
def test_ratio_of_one_and_the_data_are_in_the_frame(value):
    figure = draw_spectra([make_spectrum(value)])
    low, high = figure.axes[1].get_ylim()
    assert low <= min(0.5, value) and max(2, value) <= high


def test_training_shows_each_lead_time_of_training_and_validation():
    rows = [(u, f'loss_step_{k}', u + k) for u in (10, 20) for k in (1, 2)]
    rows += [(20, f'validation_loss_step_{k}', 5.0 * k) for k in (1, 2, 3)]
    rows += [(10, 'loss', 3.0), (10, 'learning_rate', 1e-3)]
    metrics = pd.DataFrame(rows, columns=['update', 'name', 'value'])
    figure = draw_training(metrics, 6)
    (ax,) = figure.axes
    assert len(ax.lines) == 5
    (second,) = lines(ax, '12 h')
    np.testing.assert_array_equal(second.get_xdata(), [10, 20])
    np.testing.assert_array_equal(second.get_ydata(), [12, 22])
    # A lead time that was only validated has its own entry.
    assert lines(ax, '18 h, validation')
    assert lines(draw_training(metrics).axes[0], 'step 1')


@pytest.mark.parametrize(
    ('kind', 'start'), [('png', b'\x89PNG'), ('svg', b'<?xml version')]
)
def test_image_is_a_data_address_and_the_same_twice(kind, start):
    figure = draw_scores([make_curves()], [None])
    address = to_image(figure, kind)
    head, data = address.split(',')
    assert head.startswith('data:image/') and head.endswith(';base64')
    assert base64.b64decode(data).startswith(start)
    assert to_image(draw_scores([make_curves()], [None]), kind) == address


def test_style_does_not_outlive_a_figure():
    before = dict(mpl.rcParams)
    to_image(draw_scores([make_curves()], [None]), 'png')
    assert dict(mpl.rcParams) == before
    assert isinstance(draw_spectra([make_spectrum(1)]), Figure)


def test_pyplot_is_never_imported():
    # It would choose a window system and keep every figure alive.
    code = (
        'import sys, weather.report.figures, weather.report.maps\n'
        'sys.exit("matplotlib.pyplot" in sys.modules)'
    )
    subprocess.run([sys.executable, '-c', code], check=True, timeout=120)
