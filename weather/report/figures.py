"""Curves of the report: scores and spectra against lead time, losses by update.

Figures are made without pyplot, so that nothing outlives them, and `to_image` turns
them into data that an HTML page can hold.
"""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Sequence
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    MultipleLocator,
    NullLocator,
)

STYLE: Any = {
    'font.family': 'DejaVu Sans',  # Comes with matplotlib: the same everywhere.
    'font.size': 9.5,
    'axes.titlesize': 10.5,
    'axes.titleweight': 'bold',
    'axes.edgecolor': '#8a9099',
    'axes.linewidth': 0.8,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.grid': True,
    'axes.axisbelow': True,
    'grid.color': '#e3e6ea',
    'grid.linewidth': 0.8,
    'xtick.color': '#30353b',
    'ytick.color': '#30353b',
    'legend.frameon': False,
    'lines.linewidth': 1.8,
    'svg.hashsalt': 'report',  # The same figure is the same file.
}
# Models in the order of a table of scores; baselines look the same everywhere.
_BASELINES: dict[str, dict[str, Any]] = {
    'persistence': {'color': '#8a9099', 'linestyle': '--'},
    'climatology': {'color': '#c98a1b', 'linestyle': ':', 'linewidth': 2.2},
}
_MODELS = ('#0b5394', '#a4343a', '#2e7d4f', '#6b4c9a', '#00798c')
# Anomaly correlation below which a forecast is of no use to a forecaster, by custom.
USEFUL_ACC = 0.6
WIDTH = 11.6  # Inches; a page of 1200 pixels at 100 dots per inch.


@dataclasses.dataclass(frozen=True)
class Curves:
    """Scores of one field against lead time.

    Attributes:
      title: name of the field.
      label: metric and unit, for the axis.
      values: lead times in hours as index, a column for each model.
    """

    title: str
    label: str
    values: pd.DataFrame


@dataclasses.dataclass(frozen=True)
class Spectrum:
    """Mean power of one field by degree.

    Attributes:
      title: name of the field.
      unit: of the power.
      degrees: `[degree]`, from 1.
      lead_hours: `[lead]`.
      forecast: `[lead, degree]`.
      truth: `[lead, degree]`, at the same valid times.
    """

    title: str
    unit: str
    degrees: np.ndarray
    lead_hours: np.ndarray
    forecast: np.ndarray
    truth: np.ndarray


def to_image(figure: Figure, kind: Literal['png', 'svg']) -> str:
    """Returns a figure as a `data:` address."""
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        # 130 dots per inch: sharp on screens with more pixels than the page says.
        metadata = {'Date': None} if kind == 'svg' else {}
        figure.savefig(buffer, format=kind, dpi=130, metadata=metadata)
    media = {'png': 'image/png', 'svg': 'image/svg+xml'}[kind]
    return f'data:{media};base64,{base64.b64encode(buffer.getvalue()).decode()}'


def draw_scores(rmse: Sequence[Curves], acc: Sequence[Curves | None]) -> Figure:
    """Draws RMSE above ACC against lead time, a column for each field.

    `acc` has the same fields in the same order, `None` where one has no ACC.
    """
    with mpl.rc_context(STYLE):
        num_rows = 2 if any(acc) else 1
        figure = Figure(figsize=(WIDTH, 0.5 + 2.7 * num_rows), layout='constrained')
        axes = figure.subplots(num_rows, len(rmse), squeeze=False)
        for ax, curves in zip(axes[0], rmse, strict=True):
            _draw_curves(ax, curves)
            ax.set_ylim(bottom=0)  # Twice as high is twice the error.
            if num_rows == 2:
                ax.set_xlabel('')  # That of the row below serves both.
        for ax, of_acc in zip(axes[1] if num_rows == 2 else [], acc, strict=False):
            if of_acc is None:
                ax.set_visible(False)
                continue
            _draw_curves(ax, of_acc)
            _finish_acc(ax, lowest=np.nanmin(of_acc.values.to_numpy()))
        _add_legend(figure, axes[0, 0])
    return figure


def draw_spectra(spectra: Sequence[Spectrum]) -> Figure:
    """Draws power by degree, and forecast over truth, a column for each field.

    Colours are lead times; the truth, averaged over the same valid times, is black.
    """
    leads = spectra[0].lead_hours
    colours = ScalarMappable(Normalize(0, max(leads)), _lead_colours())
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 5.6), layout='constrained')
        axes = figure.subplots(2, len(spectra), squeeze=False, sharex='col')
        for (above, below), spectrum in zip(axes.T, spectra, strict=True):
            _draw_power(above, spectrum, colours)
            _draw_ratio(below, spectrum, colours)
            below.set_ylim(_ratio_limits(spectra))
        axes[1, 0].set_ylabel('Forecast / truth')
        bar = figure.colorbar(colours, ax=axes, fraction=0.02, pad=0.01, aspect=45)
        bar.set_label('Lead time (hours)')
        bar.ax.yaxis.set_major_locator(_lead_locator(max(leads)))
    return figure


def draw_training(losses: pd.DataFrame, timestep_hours: float | None = None) -> Figure:
    """Draws training and validation loss of every lead time against the update.

    Args:
      losses: columns update, name, value, as training writes them; names are
        `loss_step_K` and `validation_loss_step_K`.
      timestep_hours: length of a model step, to name the lead times.
    """
    training = _by_step(losses, 'loss_step_')
    validation = _by_step(losses, 'validation_loss_step_')
    steps = sorted({*training, *validation})
    colours = _lead_colours()(np.linspace(0, 1, max(2, len(steps))))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.3), layout='constrained')
        ax = figure.subplots()
        for step, colour in zip(steps, colours, strict=False):
            name = f'step {step}'
            if timestep_hours:
                name = f'{step * timestep_hours:g} h'
            if step in training:
                ax.plot(training[step], color=colour, linewidth=1.2, label=name)
            if step in validation:
                ax.plot(
                    validation[step],
                    color=colour,
                    linewidth=0.8,
                    linestyle=':',
                    marker='o',
                    markersize=4.5,
                    markeredgecolor='white',
                    markeredgewidth=0.6,
                    label=None if step in training else f'{name}, validation',
                )
        ax.set(xlabel='Update', ylabel='Loss of one step', yscale='log')
        _plain_log_ticks(ax.yaxis)
        figure.legend(title='Lead time', loc='outside right upper')
    return figure


def model_style(model: str, models: Sequence[str]) -> dict[str, Any]:
    """Colour and line of a model among those of a table."""
    if model in _BASELINES:
        return dict(_BASELINES[model])
    others = [name for name in models if name not in _BASELINES]
    return {'color': _MODELS[others.index(model) % len(_MODELS)], 'linewidth': 2.2}


def _draw_curves(ax: Axes, curves: Curves) -> None:
    models = list(curves.values.columns)
    # The first model last, on top of the others.
    for model in reversed(models):
        ax.plot(
            curves.values[model].dropna(),
            label=model,
            solid_capstyle='round',
            **model_style(model, models),
        )
    ax.set(title=curves.title, ylabel=curves.label, xlabel='Lead time (hours)')
    longest = max(curves.values.index)
    ax.set_xlim(0, longest)
    ax.xaxis.set_major_locator(_lead_locator(longest))


def _finish_acc(ax: Axes, *, lowest: float) -> None:
    ax.axhline(USEFUL_ACC, color='#30353b', linewidth=0.8, linestyle=(0, (1, 2)))
    # Whole fifths, and never so narrow that small differences look large.
    ax.set_ylim(min(0.4, np.floor(lowest * 5) / 5), 1.005)


def _add_legend(figure: Figure, ax: Axes) -> None:
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(
        handles[::-1],
        labels[::-1],
        loc='outside upper left',
        ncols=len(labels),
        handlelength=2.6,
    )


def _draw_power(ax: Axes, spectrum: Spectrum, colours: ScalarMappable) -> None:
    for lead, power in zip(spectrum.lead_hours, spectrum.forecast, strict=True):
        ax.plot(spectrum.degrees, power, color=colours.to_rgba(lead), linewidth=1)
    truth = spectrum.truth.mean(axis=0)
    ax.plot(spectrum.degrees, truth, color='black', linewidth=1.6, label='truth')
    ax.set(title=spectrum.title, xscale='log', yscale='log')
    ax.set_ylabel(f'Power ({spectrum.unit})')
    # The last degree may hold next to nothing where the source was truncated.
    both = np.concatenate([spectrum.forecast.ravel(), truth])
    ax.set_ylim(bottom=np.percentile(both, 3) / 2)
    ax.legend(loc='lower left')


def _draw_ratio(ax: Axes, spectrum: Spectrum, colours: ScalarMappable) -> None:
    ratio = spectrum.forecast / spectrum.truth
    for lead, of_lead in zip(spectrum.lead_hours, ratio, strict=True):
        ax.plot(spectrum.degrees, of_lead, color=colours.to_rgba(lead), linewidth=1)
    ax.axhline(1, color='black', linewidth=1)
    ax.set(xlabel='Degree', xscale='log', yscale='log')
    _plain_log_ticks(ax.xaxis)
    _plain_log_ticks(ax.yaxis)


def _ratio_limits(spectra: Sequence[Spectrum]) -> tuple[float, float]:
    """Limits that all fields share: at least half and double, at most a hundredfold."""
    ratios = np.concatenate([(one.forecast / one.truth).ravel() for one in spectra])
    # Without extremes: where next to nothing is left, as at the last degree, a ratio
    # may be anything.
    low, high = np.percentile(ratios[np.isfinite(ratios)], [1, 97])
    return max(min(0.5, low / 1.1), 0.01), min(max(2.0, high * 1.1), 100.0)


def _plain_log_ticks(axis: Axis) -> None:
    """Ticks at 1, 2 and 5 of each decade, written out."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    axis.set_minor_locator(NullLocator())


def _by_step(losses: pd.DataFrame, prefix: str) -> dict[int, pd.Series]:
    """Series by update of every step whose name is `prefix` and a number."""
    found = losses.name.str.extract(f'^{prefix}(\\d+)$', expand=False)
    series = losses.assign(step=found).dropna(subset='step')
    return {
        int(str(step)): rows.set_index('update').value
        for step, rows in series.groupby('step')
    }


def _lead_colours() -> mpl.colors.Colormap:
    # The light end of the map is left out: it would vanish on white.
    part = mpl.colormaps['viridis'](np.linspace(0, 0.92, 256))
    return mpl.colors.ListedColormap(part)


def _lead_locator(longest: float) -> MultipleLocator | MaxNLocator:
    """Ticks at whole days."""
    days = longest / 24
    return MultipleLocator(24 * max(1, round(days / 6)))
