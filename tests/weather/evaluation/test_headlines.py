"""Headline fields are found, read in order, and shown in the units of charts."""

import numpy as np
import pytest
import xarray as xr

from weather.evaluation.headlines import HEADLINES

Z500, T850, Q700, WIND850 = HEADLINES


def make_dataset(*, levels=(500, 700, 850)):
    """Values are the level, plus a hundredth for each column."""
    coords = {'level': list(levels), 'longitude': [0.0, 120.0, 240.0]}
    coords['latitude'] = [60.0, -60.0]
    level, column = np.array(levels)[:, None, None], np.arange(3)[:, None] / 100
    values = np.broadcast_to(level + column, (len(levels), 3, 2))
    names = {name for one in HEADLINES for name in one.components}
    dims = ('level', 'longitude', 'latitude')
    return xr.Dataset({name: (dims, values) for name in names}, coords=coords)


def test_selection_is_the_level_in_order_latitude_longitude():
    fields = T850.select(make_dataset())
    assert list(fields) == ['temperature']
    np.testing.assert_array_equal(fields['temperature'], [[850, 850.01, 850.02]] * 2)


def test_selection_takes_positions_of_other_dimensions():
    dataset = xr.concat([make_dataset(), make_dataset() + 1], dim='time')
    fields = Z500.select(dataset, time=1)
    assert fields['geopotential'][0, 0] == 501


def test_geopotential_is_shown_as_height_in_decametres():
    # 5500 m of geopotential height are 53936.6 m2 s-2.
    shown = Z500.on_map({'geopotential': np.array([[53936.575]])})
    np.testing.assert_allclose(shown, 550.0)


def test_wind_is_shown_by_its_speed_and_humidity_in_grams():
    wind = {
        'u_component_of_wind': np.array([3.0]),
        'v_component_of_wind': np.array([-4.0]),
    }
    np.testing.assert_allclose(WIND850.on_map(wind), 5.0)
    np.testing.assert_allclose(Q700.on_map({'specific_humidity': np.array(0.004)}), 4.0)
    assert WIND850.is_vector and not Z500.is_vector


@pytest.mark.parametrize(
    ('dataset', 'reason'),
    [
        (make_dataset().drop_vars('specific_humidity'), 'has no specific_humidity'),
        (make_dataset(levels=(500, 850)), 'has no specific_humidity at 700 hPa'),
        (make_dataset().isel(level=1, drop=True), 'has no specific_humidity at 700'),
    ],
)
def test_what_is_missing_is_said(dataset, reason):
    assert f'the truth {reason}' in Q700.missing_from(dataset, 'truth')


def test_what_is_there_is_not_missing():
    assert all(one.missing_from(make_dataset(), 'truth') is None for one in HEADLINES)
