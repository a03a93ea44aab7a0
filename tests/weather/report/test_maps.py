"""Maps: one colour for one value, the error of the case, outlines where they belong."""

import numpy as np
import pytest
from matplotlib.colors import BoundaryNorm

from weather.evaluation.headlines import HEADLINES
from weather.evaluation.maps import MapRow, draw_maps, weighted_rmse
from weather.evaluation.projection import Globe

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


def panels(figure):
    """Axes that hold a map, row by row: forecast, truth, error."""
    maps = [ax for ax in figure.axes if ax.images]
    return [maps[i : i + 3] for i in range(0, len(maps), 3)]


def texts(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


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
    scales = {id(ax.images[0].norm) for row in rows for ax in row[:2]}
    assert len(scales) == 1
    assert len({id(row[2].images[0].norm) for row in rows}) == 1


def test_error_is_white_at_zero_and_symmetric():
    norm = panels(draw(T850))[0][2].images[0].norm
    assert norm.vmin == -norm.vmax
    assert norm.vmax == pytest.approx(72, rel=0.05)  # The largest error drawn.


def test_field_steps_are_round_and_cover_the_field():
    image = panels(draw(Z500))[0][0].images[0]
    assert isinstance(image.norm, BoundaryNorm)
    # A range of 75 dam: steps of 6 dam, as on synoptic charts.
    np.testing.assert_array_equal(np.diff(image.norm.boundaries), 6)
    assert image.norm.boundaries[0] <= 0 and image.norm.boundaries[-1] >= 72


def test_error_and_its_rmse_are_those_of_the_case():
    figure = draw(T850, error=0.5)
    # A uniform error: its RMSE is the error itself, whatever the weights.
    assert 'RMSE 12.00 K' in texts(figure) and 'RMSE 36.00 K' in texts(figure)
    pixels = panels(figure)[0][2].images[0].get_array()
    np.testing.assert_allclose(pixels.compressed(), 12)


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
    assert len(keys) == 2  # Under the truth and under the error.
    assert not any(ax.artists for ax in draw(T850).axes)


def test_no_land_is_no_outline():
    globe = Globe(LATITUDES, LONGITUDES)
    with_land, without = draw(T850), draw_maps(T850, globe, make_rows(T850))
    assert len(panels(with_land)[0][0].collections) == 1
    assert len(panels(without)[0][0].collections) == 0


def test_uniform_fields_can_be_drawn():
    field = {'temperature': np.full((19, 36), 280.0)}
    row = MapRow('+6 h', '2020-01-01 06 UTC', field, field)
    figure = draw_maps(T850, Globe(LATITUDES, LONGITUDES), [row])
    figure.draw_without_rendering()
    assert 'RMSE 0.00 K' in texts(figure)
