"""Maps of forecast, truth and error for one start, a row for each lead time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver
from matplotlib.ticker import MaxNLocator

from sphere_ops.grid import area_weights
from weather.evaluation import projection
from weather.evaluation.headlines import Headline

_ERROR_COLOURS = 'RdBu_r'
_NUM_COLOURS = 256  # Of a colour map, between which steps are spread.
_INK = '#30353b'
# Inches: a figure of 11.6 at 100 dots per inch fits a page of 1200 pixels.
_FIGURE_WIDTH, _LEFT, _GAP, _TOP, _BOTTOM = 11.6, 0.58, 0.12, 0.36, 1.06
_ROW_GAP = 0.3  # Holds a line of text.
_PANEL_WIDTH = (_FIGURE_WIDTH - _LEFT - 2 * _GAP - 0.02) / 3
_PANEL_HEIGHT = _PANEL_WIDTH * projection.EDGE_Y / projection.EDGE_X
_ARROW_SPACING = 0.045  # Of the width of a map.
_WIND_ARROW, _ERROR_ARROW = 20.0, 10.0  # m s-1, as long as the spacing.

Fields = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class MapRow:
    """Forecast and truth at one lead time.

    Attributes:
      lead_time: such as `+24 h`.
      valid_time: such as `2020-01-02 00 UTC`.
      forecast: components `[lat, lon]` by name, SI units.
      truth: likewise.
    """

    lead_time: str
    valid_time: str
    forecast: Fields
    truth: Fields


def draw_maps(
    headline: Headline, globe: projection.Globe, rows: Sequence[MapRow]
) -> Figure:
    """Draws forecast, truth and error; colours mean the same at all lead times.

    Args:
      headline: the field.
      globe: its grid and the land mask.
      rows: lead times, from the shortest.
    """
    forecasts = [headline.on_map(row.forecast) for row in rows]
    truths = [headline.on_map(row.truth) for row in rows]
    errors = [f - t for f, t in zip(forecasts, truths, strict=True)]
    scale, error_scale = (
        _field_scale(headline, [*forecasts, *truths]),
        _error_scale(errors),
    )
    height = _TOP + _BOTTOM + len(rows) * (_PANEL_HEIGHT + _ROW_GAP) - _ROW_GAP
    figure = Figure(figsize=(_FIGURE_WIDTH, height))
    for i, row in enumerate(rows):
        panels = [_add_panel(figure, i, column) for column in range(3)]
        _draw_field(panels[0], globe, headline, forecasts[i], row.forecast, scale)
        _draw_field(panels[1], globe, headline, truths[i], row.truth, scale)
        _draw_error(panels[2], globe, headline, errors[i], row, error_scale)
        _label_row(panels[0], row)
        if i == 0:
            for panel, title in zip(
                panels, ('Forecast', 'Truth', 'Forecast minus truth'), strict=True
            ):
                panel.set_title(title, fontweight='bold', pad=7)
    _add_colour_bars(figure, headline, scale, error_scale)
    if headline.is_vector:
        _add_arrow_key(panels[1], _WIND_ARROW, headline.on_maps.unit)
        _add_arrow_key(panels[2], _ERROR_ARROW, headline.on_maps.unit)
    return figure


def weighted_rmse(forecast: Fields, truth: Fields, latitudes: np.ndarray) -> float:
    """Area-weighted RMSE of one field, or of the vector if there are two components."""
    square = sum((forecast[name] - truth[name]) ** 2 for name in forecast)
    mean = np.mean(area_weights(latitudes)[:, None] * square)
    return float(np.sqrt(mean))


def _field_scale(headline: Headline, fields: Sequence[np.ndarray]) -> BoundaryNorm:
    """Colour steps at round values, to be read off, for all fields together."""
    # Single peaks over mountains would bleach everything else.
    low, high = np.nanpercentile(fields, [0.2, 99.8])
    high = max(high, low + 1e-6)
    from_zero = abs(low) < 0.1 * high
    low = 0.0 if from_zero else low
    step = headline.contour_interval
    if not step or not 4 < (high - low) / step < 30:
        ticks = MaxNLocator(20, steps=[1, 2, 2.5, 4, 5, 10]).tick_values(low, high)
        step = ticks[1] - ticks[0]
    bounds = step * np.arange(np.floor(low / step), np.ceil(high / step) + 1)
    return BoundaryNorm(
        bounds, _NUM_COLOURS, extend='both' if np.nanmin(fields) < bounds[0] else 'max'
    )


def _error_scale(errors: Sequence[np.ndarray]) -> Normalize:
    """White at zero; continuous, so that small errors at short lead times show."""
    largest = max(float(np.nanpercentile(np.abs(errors), 99.5)), 1e-6)
    return Normalize(-largest, largest)


def _add_panel(figure: Figure, row: int, column: int) -> Axes:
    """Adds axes for one map, in units of radii of the globe."""
    left = _LEFT + column * (_PANEL_WIDTH + _GAP)
    top = figure.get_figheight() - _TOP - row * (_PANEL_HEIGHT + _ROW_GAP)
    ax = figure.add_axes(
        _fraction(figure, left, top - _PANEL_HEIGHT, _PANEL_WIDTH, _PANEL_HEIGHT)
    )
    ax.set_axis_off()
    # A little more than the map, so that its edge line is not cut.
    ax.set_xlim(-1.005 * projection.EDGE_X, 1.005 * projection.EDGE_X)
    ax.set_ylim(-1.01 * projection.EDGE_Y, 1.01 * projection.EDGE_Y)
    return ax


def _draw_field(
    ax: Axes,
    globe: projection.Globe,
    headline: Headline,
    values: np.ndarray,
    fields: Fields,
    scale: BoundaryNorm,
) -> None:
    _draw_pixels(ax, globe, globe.pixels(values), scale, headline.colours)
    _draw_graticule(ax)
    if headline.contour_interval:
        _draw_isolines(ax, globe, values, scale.boundaries)
    # Greyer than the arrows, where there are any.
    _draw_land(ax, globe, colour='#b4bac2' if headline.is_vector else 'white')
    if headline.is_vector:
        _draw_arrows(ax, globe, headline, fields, _WIND_ARROW, colour='white')


def _draw_error(
    ax: Axes,
    globe: projection.Globe,
    headline: Headline,
    values: np.ndarray,
    row: MapRow,
    scale: Normalize,
) -> None:
    _draw_pixels(ax, globe, globe.pixels(values), scale, _ERROR_COLOURS)
    _draw_graticule(ax)
    _draw_land(ax, globe, colour=_INK)
    if headline.is_vector:
        difference = {
            name: row.forecast[name] - row.truth[name] for name in headline.components
        }
        _draw_arrows(ax, globe, headline, difference, _ERROR_ARROW, colour=_INK)
    unit = headline.on_maps
    rmse = weighted_rmse(row.forecast, row.truth, globe.latitudes) * unit.scale
    kind = 'Vector RMSE' if headline.is_vector else 'RMSE'
    ax.text(
        0.5,
        -0.02,
        f'{kind} {rmse:.{unit.digits + 1}f} {unit.unit}',
        transform=ax.transAxes,
        ha='center',
        va='top',
        fontsize='small',
    )


def _draw_pixels(
    ax: Axes,
    globe: projection.Globe,
    pixels: np.ndarray,
    scale: Normalize,
    colours: str,
) -> None:
    image = ax.imshow(
        pixels,
        extent=(globe.x[0], globe.x[-1], globe.y[0], globe.y[-1]),
        origin='lower',
        aspect='auto',
        cmap=colours,
        norm=scale,
        interpolation='bilinear',
    )
    # Pixels end in a staircase; the outline cuts them smoothly.
    edge = projection.outline()
    (line,) = ax.fill(edge.x, edge.y, facecolor='none', edgecolor=_INK, linewidth=0.8)
    image.set_clip_path(line)


def _draw_graticule(ax: Axes) -> None:
    every_degree = np.linspace(-180, 180, 181)
    lines = [projection.project(np.full(181, y), every_degree) for y in (-60, -30, 30)]
    lines += [projection.project(np.full(181, y), every_degree) for y in (0, 60)]
    lines += [
        projection.project(every_degree / 2, np.full(181, x))
        for x in (-120, -60, 0, 60, 120)
    ]
    for line in lines:
        ax.plot(line.x, line.y, color='black', alpha=0.16, linewidth=0.5)


def _draw_land(ax: Axes, globe: projection.Globe, *, colour: str) -> None:
    if globe.land is None:
        return
    land = np.ma.masked_invalid(globe.land)
    if land.min() < 0.5 < land.max():
        ax.contour(globe.x, globe.y, land, levels=[0.5], colors=colour, linewidths=0.8)


def _draw_isolines(
    ax: Axes, globe: projection.Globe, values: np.ndarray, levels: np.ndarray
) -> None:
    pixels = np.ma.masked_invalid(globe.pixels(values))
    ax.contour(
        globe.x,
        globe.y,
        pixels,
        levels=levels,
        colors='black',
        linewidths=0.4,
        alpha=0.6,
    )


def _draw_arrows(
    ax: Axes,
    globe: projection.Globe,
    headline: Headline,
    fields: Fields,
    reference: float,
    *,
    colour: str,
) -> None:
    """Draws winds at points that are evenly spread over the map.

    An arrow of the strength `reference` is as long as the arrows are apart.
    """
    spacing = _ARROW_SPACING * 2 * projection.EDGE_X
    x = np.arange(-projection.EDGE_X + spacing / 2, projection.EDGE_X, spacing)
    y = np.arange(-projection.EDGE_Y + spacing / 2, projection.EDGE_Y, spacing)
    mesh = projection.Points(*np.meshgrid(x, y))
    points = projection.unproject(*mesh)
    east, north = (globe.sample(fields[name], points) for name in headline.components)
    # Shorter arrows would be all head.
    east = np.where(np.hypot(east, north) < 0.15 * reference, np.nan, east)
    arrows = projection.project_vectors(*points, east, north)
    ax.quiver(
        *mesh,
        *arrows,
        color=colour,
        pivot='middle',
        units='width',
        width=0.003,
        headwidth=3.5,
        headlength=3.5,
        headaxislength=3,
        minlength=0,
        scale=reference / _ARROW_SPACING,
        scale_units='width',
    )


def _label_row(ax: Axes, row: MapRow) -> None:
    for text, offset, weight in (
        (row.lead_time, -0.105, 'bold'),
        (row.valid_time, -0.048, 'normal'),
    ):
        ax.text(
            offset,
            0.5,
            text,
            transform=ax.transAxes,
            rotation=90,
            ha='center',
            va='center',
            fontweight=weight,
            fontsize='medium' if weight == 'bold' else 'small',
        )


def _add_colour_bars(
    figure: Figure, headline: Headline, scale: BoundaryNorm, error_scale: Normalize
) -> None:
    """Adds a bar under forecast and truth, and one under the error."""
    unit = headline.on_maps.unit
    what = 'Wind speed' if headline.is_vector else headline.map_words.split(' at ')[0]
    two = 2 * _PANEL_WIDTH + _GAP
    bars = (
        (_LEFT + 0.2 * two, 0.6 * two, scale, headline.colours, what, scale.extend),
        (
            _LEFT + two + _GAP + 0.05 * _PANEL_WIDTH,
            0.9 * _PANEL_WIDTH,
            error_scale,
            _ERROR_COLOURS,
            f'{what}, forecast minus truth',
            'both',
        ),
    )
    for left, width, norm, colours, label, extend in bars:
        ax = figure.add_axes(_fraction(figure, left, 0.6, width, 0.13))
        mappable = ScalarMappable(norm, colours)
        bar = figure.colorbar(mappable, cax=ax, orientation='horizontal', extend=extend)
        bar.outline.set_linewidth(0.6)  # type: ignore[operator]
        bar.set_label(f'{label} ({unit})')


def _add_arrow_key(ax: Axes, reference: float, unit: str) -> None:
    """Adds an arrow of the strength `reference` under a panel of the last row."""
    (quiver,) = (child for child in ax.get_children() if isinstance(child, Quiver))
    ax.quiverkey(
        quiver,
        0.8,
        -0.09,
        reference,
        f'{reference:g} {unit}',
        labelpos='E',
        labelsep=0.05,
        color=_INK,
        fontproperties={'size': 'small'},
    )


def _fraction(
    figure: Figure, left: float, bottom: float, width: float, height: float
) -> tuple[float, float, float, float]:
    """Inches to fractions of a figure."""
    of_width, of_height = figure.get_size_inches()
    return left / of_width, bottom / of_height, width / of_width, height / of_height
