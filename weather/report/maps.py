"""Maps of a forecast, beside truth and error where there is a truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.projections.geo import MollweideAxes
from matplotlib.ticker import MaxNLocator

from sphere_ops.grid import area_weights
from weather.evaluation.headlines import Headline
from weather.report.figures import STYLE, WIDTH

_INK = '#30353b'
_ERROR_COLOURS = 'RdBu_r'
_ERROR_STEPS = 41  # Odd, so that the middle one is white and has zero in its middle.
_ARROW_SPACING_DEGREES = 15.0
_POLAR_ROWS = 4
_WIND_ARROW, _ERROR_ARROW = 20.0, 10.0  # m s-1, as long as arrows are apart.

_ISOLINES: Any = dict(colors='black', linewidths=0.4, alpha=0.6)
_ARROWS: Any = dict(
    angles='xy', pivot='middle', units='width', width=0.003, headwidth=3.5,
    headlength=3.5, headaxislength=3, minlength=0, scale_units='width',
    scale=360 / _ARROW_SPACING_DEGREES,
)  # fmt: skip
_ARROW_KEY: Any = dict(labelpos='E', labelsep=0.05, fontproperties={'size': 8})
_TITLES = ('Forecast', 'Truth', 'Forecast minus truth')

Fields = Mapping[str, np.ndarray]


class _WorldMap(MollweideAxes):
    """Mollweide's projection, which keeps areas, as matplotlib has it."""

    # Points drawn per step of a line. matplotlib's 75 bend long lines; contours have a
    # point per cell, and 75 of them took two thirds of the time of a figure.
    RESOLUTION = 1


@dataclasses.dataclass(frozen=True)
class MapRow:
    """Forecast, and truth if there is one, at one lead time.

    Attributes:
      lead_time: such as `+24 h`.
      valid_time: such as `2020-01-02 00 UTC`.
      forecast: components `[lat, lon]` by name, SI units.
      truth: likewise, or None.
    """

    lead_time: str
    valid_time: str
    forecast: Fields
    truth: Fields | None


class Globe:
    """A grid and its land, as a map with Greenwich in the middle needs them."""

    def __init__(
        self,
        latitudes: np.ndarray,
        longitudes: np.ndarray,
        land: np.ndarray | None = None,
    ):
        """Finds where the map has to be closed: at the date line and the poles.

        Args:
          latitudes: `[lat]` degrees, north to south.
          longitudes: `[lon]` degrees, eastward, equally spaced.
          land: `[lat, lon]` land fraction, or `None` where none is known.
        """
        self.latitudes, self.land = latitudes, land
        self.longitudes = np.mod(longitudes + 180, 360) - 180
        # More than a point per pixel is work without a picture.
        self._stride = max(1, longitudes.size // 480)
        self._order = np.argsort(self.longitudes)[:: self._stride]
        x, y = self.longitudes[self._order], latitudes[:: self._stride]
        # A limited area stays open: what lies beyond its edges was not forecast.
        ends = int(abs(x[0] + 360 - x[-1]) < 1.5 * abs(x[1] - x[0]))
        self.x = np.radians(np.pad(x, ends, mode='wrap'))
        self.x[[0, -1]] += 2 * np.pi * ends * np.array([-1, 1])
        # To a pole in steps, which the edge of the map bends around.
        caps = [
            _POLAR_ROWS * int(0 < 90 - abs(end) < 1.5 * abs(y[0] - y[1]))
            for end in (y[0], y[-1])
        ]
        north = np.linspace(90, y[0], caps[0], endpoint=False)
        south = np.linspace(-90, y[-1], caps[1], endpoint=False)[::-1]
        self.y = np.radians(np.concatenate([north, y, south]))
        self._widths = [tuple(caps), (ends, ends)]

    def closed(self, field: np.ndarray) -> np.ndarray:
        """A field `[lat, lon]` at `[y, x]`: to the poles and across the date line."""
        rows, columns = self._widths
        field = field[:: self._stride, self._order]
        field = np.pad(field, [rows, (0, 0)], mode='edge')
        field = np.pad(field, [(0, 0), columns], mode='wrap')
        return np.ma.masked_invalid(field)


class _Steps(NamedTuple):
    """Colours of a field: `levels` between which they change, and what lies beyond."""

    levels: np.ndarray
    extend: Literal['both', 'max']
    colours: str


def draw_maps(headline: Headline, globe: Globe, rows: Sequence[MapRow]) -> Figure:
    """Draws a row of forecast, truth and error for each lead time.

    Colours mean the same at all lead times. Without a truth the forecasts of all lead
    times stand side by side.

    Args:
      headline: the field.
      globe: its grid and the land mask.
      rows: lead times, from the shortest; all with a truth or none.
    """
    truths = [row.truth for row in rows if row.truth is not None]
    fields = [
        headline.on_map(field) for field in [*(r.forecast for r in rows), *truths]
    ]
    steps = _field_steps(headline, fields)
    shape = (len(rows), 3) if truths else (1, len(rows))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.9 + 2.12 * shape[0]), layout='compressed')
        panels = figure.subplots(
            *shape, squeeze=False, subplot_kw={'axes_class': _WorldMap}
        )
        for ax, row in zip(panels[:, 0] if truths else panels[0], rows, strict=True):
            filled = _draw_field(ax, globe, headline, row.forecast, steps)
            _label(ax, row, beside=bool(truths))
        _add_bar(figure, filled, panels[:, :2] if truths else panels, headline)
        if truths:
            for ax, truth in zip(panels[:, 1], truths, strict=True):
                _draw_field(ax, globe, headline, truth, steps)
            pairs = [(row.forecast, row.truth) for row in rows if row.truth is not None]
            errors = _draw_errors(panels[:, 2], globe, headline, pairs)
            _add_bar(figure, errors, panels[:, 2:], headline, ', forecast minus truth')
            for ax, title in zip(panels[0], _TITLES, strict=True):
                ax.set_title(title, pad=8)
    return figure


def weighted_rmse(forecast: Fields, truth: Fields, latitudes: np.ndarray) -> float:
    """Area-weighted RMSE of one field, or of the vector if there are two components."""
    square = sum((forecast[name] - truth[name]) ** 2 for name in forecast)
    mean = np.mean(area_weights(latitudes)[:, None] * square)
    return float(np.sqrt(mean))


def _field_steps(headline: Headline, fields: Sequence[np.ndarray]) -> _Steps:
    """Colour steps at round values, to be read off, for all fields together."""
    # Single peaks over mountains would bleach everything else.
    low, high = np.nanpercentile(fields, [0.2, 99.8])
    high = max(high, low + 1e-6)  # Of a constant field: steps need a width.
    low = 0.0 if abs(low) < 0.1 * high else low
    step = headline.contour_interval
    if not step or not 4 < (high - low) / step < 30:
        ticks = MaxNLocator(20, steps=[1, 2, 2.5, 4, 5, 10]).tick_values(low, high)
        step = ticks[1] - ticks[0]
    levels = step * np.arange(np.floor(low / step), np.ceil(high / step) + 1)
    below = np.nanmin(fields) < levels[0]
    return _Steps(levels, 'both' if below else 'max', headline.colours)


def _draw_field(
    ax: Axes, globe: Globe, headline: Headline, fields: Fields, steps: _Steps
) -> ContourSet:
    """Draws forecast or truth; returns what a colour bar explains."""
    filled = _fill(ax, globe, headline.on_map(fields), steps)
    if headline.contour_interval:
        values = globe.closed(headline.on_map(fields))
        ax.contour(globe.x, globe.y, values, levels=steps.levels, **_ISOLINES)
    # Greyer than the arrows, where there are any.
    _draw_land(ax, globe, colour='#b4bac2' if headline.is_vector else 'white')
    if headline.is_vector:
        _draw_arrows(ax, globe, headline, fields, _WIND_ARROW, colour='white')
    return filled


def _draw_errors(
    panels: Iterable[Axes],
    globe: Globe,
    headline: Headline,
    pairs: Sequence[tuple[Fields, Fields]],
) -> ContourSet:
    """Draws forecast minus truth, white at zero; returns what a bar explains."""
    unit = headline.on_maps
    kind = 'Vector RMSE' if headline.is_vector else 'RMSE'
    errors = [headline.on_map(f) - headline.on_map(t) for f, t in pairs]
    largest = max(float(np.nanpercentile(np.abs(errors), 99.5)), 1e-6)
    levels = np.linspace(-largest, largest, _ERROR_STEPS + 1)
    for ax, (forecast, truth), error in zip(panels, pairs, errors, strict=True):
        filled = _fill(ax, globe, error, _Steps(levels, 'both', _ERROR_COLOURS))
        _draw_land(ax, globe, colour=_INK)
        if headline.is_vector:
            difference = {name: forecast[name] - truth[name] for name in forecast}
            _draw_arrows(ax, globe, headline, difference, _ERROR_ARROW, colour=_INK)
        rmse = weighted_rmse(forecast, truth, globe.latitudes) * unit.scale
        _write(ax, 0.5, -0.05, f'{kind} {rmse:.{unit.digits + 1}f} {unit.unit}')
    return filled


def _fill(ax: Axes, globe: Globe, field: np.ndarray, steps: _Steps) -> ContourSet:
    """Draws the colours of a field, and the graticule over them."""
    style: Any = dict(extend=steps.extend, cmap=steps.colours)
    filled = ax.contourf(globe.x, globe.y, globe.closed(field), steps.levels, **style)
    ax.grid(False)
    ax.tick_params(labelbottom=False, labelleft=False)
    x, y = np.radians(np.linspace(-180, 180, 91)), np.radians(np.linspace(-90, 90, 91))
    for degrees in (-60, -30, 0, 30, 60):
        for line in ax.plot(x, np.full(x.size, np.radians(degrees))) + ax.plot(
            np.full(y.size, np.radians(2 * degrees)), y
        ):
            line.set(color='black', alpha=0.16, linewidth=0.5)
    return filled


def _draw_land(ax: Axes, globe: Globe, *, colour: str) -> None:
    if globe.land is not None and globe.land.min() < 0.5 < globe.land.max():
        land = globe.closed(globe.land)
        ax.contour(globe.x, globe.y, land, [0.5], colors=colour, linewidths=0.8)


def _draw_arrows(
    ax: Axes,
    globe: Globe,
    headline: Headline,
    fields: Fields,
    reference: float,
    *,
    colour: str,
) -> None:
    """Draws winds at points of the grid that are about evenly spread over the globe.

    An arrow of the strength `reference` is as long as the arrows are apart.
    """
    rows, columns = _arrow_points(globe)
    wind = [fields[name][rows, columns] / reference for name in headline.components]
    # Shorter arrows would be all head.
    wind[0] = np.where(np.hypot(*wind) < 0.15, np.nan, wind[0])
    cosine = np.cos(np.radians(globe.latitudes[rows]))
    # matplotlib turns steps in longitude and latitude into directions on the map: a
    # metre eastward is 1 / cos(latitude) times as many degrees as one northward. The
    # length is that of the wind on the sphere, whatever the map does there.
    eastward, northward = wind[0] / cosine, wind[1]
    length = np.hypot(eastward, northward)
    scale = np.hypot(*wind) / np.where(length > 0, length, 1)
    arrows = ax.quiver(
        np.radians(globe.longitudes[columns]),
        np.radians(globe.latitudes[rows]),
        scale * eastward,
        scale * northward,
        color=colour,
        **_ARROWS,
    )
    place = ax.get_subplotspec()
    if place is None or not place.is_last_row():
        return  # One key for all rows.
    key = f'{reference:g} {headline.on_maps.unit}'
    # In the corner that the outline of the map leaves free.
    ax.quiverkey(arrows, 0.83, 0.02, 1, key, color=_INK, **_ARROW_KEY)


def _arrow_points(globe: Globe) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns, fewer of these towards the poles, where meridians meet."""
    spacing = abs(globe.latitudes[0] - globe.latitudes[1])
    stride = int(np.ceil(_ARROW_SPACING_DEGREES / spacing))
    points = []
    for row in range(stride // 2, globe.latitudes.size, stride):
        # At a pole no direction is north.
        cosine = max(np.cos(np.radians(globe.latitudes[row])), 1e-3)
        count = max(1, int(360 * cosine / _ARROW_SPACING_DEGREES))
        step = int(np.ceil(globe.longitudes.size / count))
        points += [(row, i) for i in range(0, globe.longitudes.size, step)]
    rows, columns = np.array(points).T
    away = np.abs(globe.latitudes[rows]) < 87
    return rows[away], columns[away]


def _label(ax: Axes, row: MapRow, *, beside: bool) -> None:
    """Writes lead and valid time left of a row, or above a map that stands alone."""
    if not beside:
        ax.set_title(f'{row.lead_time}, {row.valid_time}', pad=8)
        return
    _write(ax, -0.1, 0.5, row.lead_time, rotation=90, va='center', fontweight='bold')
    _write(ax, -0.035, 0.5, row.valid_time, rotation=90, va='center')


def _write(ax: Axes, x: float, y: float, text: str, **style) -> None:
    style = {'ha': 'center', 'va': 'top', 'fontsize': 'small'} | style
    ax.text(x, y, text, transform=ax.transAxes, **style)


def _add_bar(
    figure: Figure,
    filled: ContourSet,
    panels: np.ndarray,
    headline: Headline,
    kind: str = '',
) -> None:
    what = 'Wind speed' if headline.is_vector else headline.map_words.split(' at ')[0]
    bar = figure.colorbar(
        filled,
        ax=panels,
        location='bottom',
        shrink=0.9 / np.sqrt(panels.shape[1]),
        aspect=40,
        pad=0.02,
        spacing='proportional',
    )
    bar.set_label(f'{what}{kind} ({headline.on_maps.unit})')
    if kind:  # Errors do not change colour at round values, fields do.
        bar.set_ticks(MaxNLocator(6))
    else:
        levels = list(filled.levels)
        bar.set_ticks(levels[:: -(-len(levels) // 10)])
