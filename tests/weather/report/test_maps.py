"""Maps: one colour for one value, the error of the case, outlines where they belong."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.contour import ContourSet
from matplotlib.quiver import Quiver

from weather.evaluation.headlines import HEADLINES
from weather.report.maps import Globe, MapRow, draw_maps, weighted_rmse

Z500, T850, Q700, WIND850 = HEADLINES
LATITUDES, LONGITUDES = np.linspace(90, -90, 19), np.arange(36) * 10.0
LAND = (LONGITUDES < 90) & (np.abs(LATITUDES) < 60)[:, None]


def make_rows(headline, *, error=1.0):
    rng = np.random.default_rng(5)
    rows = []
    for lead in (24, 72):
        truth = {
            name: rng.normal(size=(19, 36)) / headline.on_maps.scale
            for name in headline.components
        }
        forecast = {
            name: values + error * lead / headline.on_maps.scale
            for name, values in truth.items()
        }
        rows.append(MapRow(f'+{lead} h', '2020-01-02 00 UTC', forecast, truth))
    return rows


def draw(headline, **changes):
    globe = Globe(LATITUDES, LONGITUDES, LAND.astype(float))
    figure = draw_maps(headline, globe, make_rows(headline, **changes))
    figure.draw_without_rendering()
    return figure


def filled(ax):
    """The colours of a map; None where there is no map."""
    found = [c for c in ax.collections if isinstance(c, ContourSet) and c.filled]
    return found[0] if found else None


def panels(figure):
    """Axes that hold a map, row by row: forecast, truth, error."""
    maps = [ax for ax in figure.axes if filled(ax)]
    places = [ax.get_subplotspec() for ax in maps]
    rows = {place.rowspan.start: [] for place in places}
    for place, ax in sorted(zip(places, maps, strict=True), key=lambda p: p[0].num1):
        rows[place.rowspan.start].append(ax)
    return list(rows.values())


def texts(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def painted(pixels, ax, latitude, longitude):
    """Colour `[red, green, blue]` of the pixel at a place."""
    x, y = ax.transData.transform(np.radians([longitude, latitude]))
    return pixels[pixels.shape[0] - 1 - int(y), int(x), :3].astype(int)


@pytest.mark.parametrize('headline', HEADLINES, ids=lambda one: one.name)
def test_there_is_a_row_for_each_lead_time(headline):
    figure = draw(headline)
    rows = panels(figure)
    assert len(rows) == 2
    assert [ax.get_title() for ax in rows[0]] == [
        'Forecast',
        'Truth',
        'Forecast minus truth',
    ]
    assert '+24 h' in texts(figure) and '+72 h' in texts(figure)


def test_colours_mean_the_same_in_all_rows_and_in_forecast_and_truth():
    rows = panels(draw(T850))
    for column in ([row[0] for row in rows], [row[2] for row in rows]):
        of_first = filled(column[0])
        for ax in column:
            np.testing.assert_array_equal(filled(ax).levels, of_first.levels)
    np.testing.assert_array_equal(filled(rows[0][0]).levels, filled(rows[1][1]).levels)


def test_error_is_white_at_zero_and_symmetric():
    colours = filled(panels(draw(T850))[0][2])
    np.testing.assert_allclose(colours.levels, -colours.levels[::-1])
    assert colours.levels[-1] == pytest.approx(72, rel=0.05)  # The largest error drawn.
    white = colours.cmap(colours.norm(0.0))
    assert min(white[:3]) > 0.95


def test_field_steps_are_round_and_cover_the_field():
    colours = filled(panels(draw(Z500))[0][0])
    # A range of 75 dam: steps of 6 dam, as on synoptic charts.
    np.testing.assert_array_equal(np.diff(colours.levels), 6)
    assert colours.levels[0] <= 0 and colours.levels[-1] >= 72


def test_error_and_its_rmse_are_those_of_the_case():
    figure = draw(T850, error=0.5)
    # A uniform error: its RMSE is the error itself, whatever the weights.
    assert 'RMSE 12.00 K' in texts(figure) and 'RMSE 36.00 K' in texts(figure)


@pytest.mark.parametrize('longitudes', [LONGITUDES, 5 + LONGITUDES])
def test_a_field_is_shown_where_it_is_up_to_date_line_and_poles(longitudes):
    def temperature(latitude, longitude):
        angle = np.radians(longitude) - 1
        return 280 + 20 * np.cos(np.radians(latitude)) * np.cos(angle)

    field = {'temperature': temperature(LATITUDES[1:-1, None], longitudes)}
    row = MapRow('+6 h', '2020-01-01 06 UTC', field, None)
    globe = Globe(LATITUDES[1:-1], longitudes)  # Rows to 80 degrees, as without poles.
    figure = draw_maps(T850, globe, [row])
    figure.set_dpi(300)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())
    (ax,) = panels(figure)[0]
    colours = filled(ax)
    # Colours change every 2 K, and contours are straight within a cell of 10 degrees;
    # poleward of the last row its values are kept, 3 K away at most.
    near = np.linspace(-3, 3, 13)
    # Away from the lines of the graticule.
    for latitude in (-84.0, -45.0, 7.0, 45.0, 84.0):
        for longitude in (-150.0, -90.0, 30.0, 90.0, 150.0):
            value = temperature(latitude, longitude)
            shades = 255 * colours.cmap(colours.norm(value + near))[:, :3]
            shown = painted(pixels, ax, latitude, longitude)
            assert abs(shown - shades).max(axis=1).min() < 6, (latitude, longitude)


def test_arrows_follow_meridians_and_keep_the_strength_of_the_wind():
    nothing = np.zeros((19, 36))
    wind = {'u_component_of_wind': nothing, 'v_component_of_wind': nothing + 20}
    row = MapRow('+6 h', '2020-01-01 06 UTC', wind, None)
    figure = draw_maps(WIND850, Globe(LATITUDES, LONGITUDES), [row])
    figure.draw_without_rendering()
    (ax,) = panels(figure)[0]
    (arrows,) = (c for c in ax.collections if isinstance(c, Quiver))
    # Twenty metres per second are as long as arrows are apart: 15 of 360 degrees.
    np.testing.assert_allclose(np.hypot(arrows.U, arrows.V), 1, rtol=1e-6)
    assert arrows.scale == 24
    # Across the map they turn with the meridians: by a hundredth in sine, the step over
    # which matplotlib finds their direction.
    for place, path in zip(arrows.get_offsets(), arrows.get_paths(), strict=True):
        tail, tip = path.vertices[[0, 3]]
        ahead = ax.transData.transform([place, place + [0, 1e-2]])
        one, other = tip - tail, ahead[1] - ahead[0]
        sine = (one[0] * other[1] - one[1] * other[0]) / np.prod(
            [np.hypot(*vector) for vector in (one, other)]
        )
        assert abs(sine) < 0.1 and one @ other > 0


def test_a_limited_area_stays_open():
    globe = Globe(np.linspace(60, 30, 7), np.arange(10, 60, 5.0))
    assert np.degrees(globe.x[[0, -1]]).round() == pytest.approx([10, 55])
    assert np.degrees(globe.y[[0, -1]]).round() == pytest.approx([60, 30])


def test_wind_rmse_is_that_of_the_vector():
    # Both components are off by 24 m/s.
    assert f'Vector RMSE {24 * np.sqrt(2):.2f} m s⁻¹' in texts(draw(WIND850))


def test_weighted_rmse_counts_areas():
    zero = np.zeros((19, 36))
    at_pole = zero + (LATITUDES == 90)[:, None]
    at_equator = zero + (LATITUDES == 0)[:, None]
    near_pole = weighted_rmse({'t': at_pole}, {'t': zero}, LATITUDES)
    near_equator = weighted_rmse({'t': at_equator}, {'t': zero}, LATITUDES)
    # Areas of the caps and bands around them, of half widths 5 degrees.
    ratio = (1 - np.cos(np.radians(5))) / (2 * np.sin(np.radians(5)))
    assert near_pole**2 / near_equator**2 == pytest.approx(ratio)


def test_arrows_are_drawn_for_winds_alone_with_a_key():
    keys = [ax for ax in draw(WIND850).axes if ax.artists]
    assert len(keys) == 3  # Under forecast, truth and error of the last row.
    assert not any(ax.artists for ax in draw(T850).axes)


def test_no_land_is_no_outline():
    globe = Globe(LATITUDES, LONGITUDES)
    with_land, without = draw(T850), draw_maps(T850, globe, make_rows(T850))
    assert len(panels(with_land)[0][0].collections) == 2
    assert len(panels(without)[0][0].collections) == 1


def test_uniform_fields_can_be_drawn():
    field = {'temperature': np.full((19, 36), 280.0)}
    row = MapRow('+6 h', '2020-01-01 06 UTC', field, field)
    figure = draw_maps(T850, Globe(LATITUDES, LONGITUDES), [row])
    figure.draw_without_rendering()
    assert 'RMSE 0.00 K' in texts(figure)
