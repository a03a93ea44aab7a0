import numpy as np
import pytest

from sphere_ops.grid import KINDS, LatLonGrid, area_weights
from weather.evaluation import regions

# float64 throughout: only round-off remains.
ROUND_OFF = dict(rtol=1e-12, atol=1e-13)
GRID = LatLonGrid('equiangular_with_poles', num_lat=37, num_lon=72)
POINTS = GRID.latitudes, GRID.longitudes


def points(region):
    """Explicit `[lat, lon]` mask from the bounds, the slow way."""
    south_north = region.latitudes
    west, east = region.longitudes or (0, 360)
    mask = np.zeros(GRID.shape, bool)
    for i, latitude in enumerate(GRID.latitudes):
        for j, longitude in enumerate(GRID.longitudes):
            inside = any(south <= latitude <= north for south, north in south_north)
            wrapped = west > east and (longitude >= west or longitude <= east)
            mask[i, j] = inside and (west <= longitude <= east or wrapped)
    return mask


def explicit_mean(field, mask):
    weights = (GRID.area_weights[:, None] * mask)[mask]
    return (field[mask] * weights).sum() / weights.sum()


@pytest.fixture
def fields():
    return np.random.default_rng(0).normal(size=(3, 2, *GRID.shape))


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('num_lat', [2, 7, 32])
def test_weights_are_those_of_the_grid(kind, num_lat):
    grid = LatLonGrid(kind, num_lat=num_lat, num_lon=8)
    np.testing.assert_allclose(
        area_weights(grid.latitudes), grid.area_weights, **ROUND_OFF
    )


def test_weights_of_any_rows_have_mean_one_and_follow_a_flip():
    latitudes = np.array([-77.0, -30.5, 1.0, 12.0, 88.0])
    weights = area_weights(latitudes)
    np.testing.assert_allclose(weights.mean(), 1, **ROUND_OFF)
    np.testing.assert_array_equal(area_weights(latitudes[::-1]), weights[::-1])


def test_weights_on_cell_centres_are_cosines():
    latitudes = np.arange(-88.75, 90, 2.5)
    cosines = np.cos(np.radians(latitudes))
    np.testing.assert_allclose(
        area_weights(latitudes), cosines / cosines.mean(), **ROUND_OFF
    )


@pytest.mark.parametrize(
    'latitudes, message',
    [
        ([10, 0, 5], 'ascending or descending'),
        ([0, 0, 5], 'ascending or descending'),
        ([-100, 0, 100], 'between -90 and 90'),
    ],
)
def test_weights_refuse_latitudes_that_are_none(latitudes, message):
    with pytest.raises(ValueError, match=message):
        area_weights(latitudes)


@pytest.mark.parametrize('name', regions.REGIONS)
def test_regional_mean_is_the_weighted_mean_over_its_points(name, fields):
    region = regions.REGIONS[name]
    mean = regions.RegionalMean(*POINTS, {name: region})
    mask = points(region)
    assert 0 < mask.sum() <= mask.size
    for index in np.ndindex(fields.shape[:2]):
        np.testing.assert_allclose(
            mean(fields)[index], explicit_mean(fields[index], mask), **ROUND_OFF
        )


def test_all_regions_at_once_equal_each_alone(fields):
    everything = regions.RegionalMean(*POINTS)(fields)
    for i, (name, region) in enumerate(regions.REGIONS.items()):
        alone = regions.RegionalMean(*POINTS, {name: region})
        np.testing.assert_allclose(
            everything[..., i], alone(fields)[..., 0], **ROUND_OFF
        )


def test_europe_crosses_greenwich():
    columns = regions.REGIONS['europe'].columns(GRID.longitudes)
    np.testing.assert_array_equal(
        GRID.longitudes[columns], [0, 5, 10, 15, 20, 25, 30, 35, 40, 350, 355]
    )


def test_edges_belong_to_a_region_and_rounded_coordinates_too():
    latitudes = np.array([30.0, 20.0004, 0.0, -20.0004, -30.0])
    np.testing.assert_array_equal(
        regions.REGIONS['tropics'].rows(latitudes), [False, True, True, True, False]
    )


def test_constant_has_itself_as_mean_everywhere():
    mean = regions.RegionalMean(*POINTS)
    np.testing.assert_allclose(mean(np.full(GRID.shape, 3.5)), 3.5, **ROUND_OFF)


def test_nan_spoils_the_regions_that_hold_it_and_no_others(fields):
    row, column = list(GRID.latitudes).index(-70), 0
    fields[0, 0, row, column] = np.nan
    mean = regions.RegionalMean(*POINTS)
    means = mean(fields)
    holds = [points(region)[row, column] for region in regions.REGIONS.values()]
    np.testing.assert_array_equal(np.isnan(means[0, 0]), holds)
    assert np.isfinite(means[0, 1]).all() and np.isfinite(means[1:]).all()
    clean = np.nan_to_num(fields)
    np.testing.assert_allclose(
        means[0, 0, ~np.array(holds)], mean(clean)[0, 0, ~np.array(holds)], **ROUND_OFF
    )


def test_infinity_stays_in_the_regions_that_hold_it(fields):
    row = list(GRID.latitudes).index(-70)
    fields[0, 0, row, 0] = np.inf
    means = regions.RegionalMean(*POINTS)(fields)[0, 0]
    holds = [points(region)[row, 0] for region in regions.REGIONS.values()]
    np.testing.assert_array_equal(np.isposinf(means), holds)
    assert np.isfinite(means[~np.array(holds)]).all()


def test_region_without_points_is_an_error():
    latitudes, longitudes = np.array([45.0, -46.0]), np.array([0.0, 180.0])
    ausnz = {'ausnz': regions.REGIONS['ausnz']}
    with pytest.raises(ValueError, match="region 'ausnz' .* no point of this grid"):
        regions.RegionalMean(latitudes, longitudes, ausnz)
    assert 'ausnz' not in regions.regions_on(latitudes, longitudes)
    assert 'europe' in regions.regions_on(latitudes, longitudes)


def test_unknown_region_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'tropics'"):
        regions.regions_on(*POINTS, ['tropic'])


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('num_lat', [7, 32, 181])
def test_every_kind_of_grid_covers_the_globe(kind, num_lat):
    grid = LatLonGrid(kind, num_lat=num_lat, num_lon=2 * num_lat)
    assert regions.extent(grid.latitudes, grid.longitudes) == regions.Region()
    assert list(regions.regions_on(grid.latitudes, grid.longitudes))[0] == 'global'


def cut(south, north, west, east):
    """Rows and columns, 5 degrees apart, of a limited area."""
    rows, columns = GRID.latitudes, GRID.longitudes
    from_west = np.mod(columns - west, 360)
    return (
        rows[(rows >= south) & (rows <= north)],
        columns[from_west <= np.mod(east - west, 360)],
    )


@pytest.mark.parametrize(
    ('bounds', 'expected'),
    [
        # Cells reach half a step beyond their points.
        ((35, 75, 345, 45), regions.Region(((32.5, 77.5),), (342.5, 47.5))),
        ((-20, 20, 100, 150), regions.Region(((-22.5, 22.5),), (97.5, 152.5))),
        ((20, 90, 0, 355), regions.Region(((17.5, 90),))),
    ],
)
def test_extent_of_a_limited_area_is_that_of_its_cells(bounds, expected):
    assert regions.extent(*cut(*bounds)) == expected


@pytest.mark.parametrize(
    ('bounds', 'expected'),
    [
        ((35, 75, 345, 45), ['area', 'europe']),
        ((40, 75, 345, 45), ['area']),  # The south of Europe is missing.
        ((35, 75, 355, 45), ['area']),  # So is its west.
        (
            (20, 90, 0, 355),
            [
                'area',
                'northern-hemisphere',
                'europe',
                'north-america',
                'north-atlantic',
                'north-pacific',
                'east-asia',
                'arctic',
            ],
        ),
        ((-30, 30, 0, 355), ['area', 'tropics']),
        ((-30, 30, 0, 180), ['area']),
    ],
)
def test_a_limited_area_has_the_regions_that_it_covers_wholly(bounds, expected):
    assert list(regions.regions_on(*cut(*bounds))) == expected


def test_a_limited_area_is_not_called_global():
    points = cut(35, 75, 345, 45)
    with pytest.raises(ValueError, match='does not cover the region .global.: it reac'):
        regions.regions_on(*points, ['global'])
    covered = regions.regions_on(*points, ['area'])['area']
    assert str(covered) == 'latitudes 32.5 to 77.5, longitudes 342.5 to 47.5'


def test_a_region_of_a_limited_area_has_the_mean_that_it_has_on_the_globe():
    field = np.random.default_rng(0).normal(size=GRID.shape)
    whole = regions.RegionalMean(*POINTS, regions.regions_on(*POINTS, ['europe']))
    rows, columns = cut(30, 85, 340, 50)
    part = field[np.isin(POINTS[0], rows)][:, np.isin(POINTS[1], columns)]
    europe = regions.regions_on(rows, columns, ['europe'])
    found = regions.RegionalMean(rows, columns, europe)(part)
    np.testing.assert_allclose(found, whole(field), **ROUND_OFF)


def test_outer_rows_of_a_limited_area_weigh_no_more_than_their_own_area():
    rows, columns = cut(50, 70, 0, 60)
    area = regions.RegionalMean(rows, columns, regions.regions_on(rows, columns))
    # Each row covers sin(upper) - sin(lower) of a band 5 degrees wide.
    bands = np.sin(np.radians(rows + 2.5)) - np.sin(np.radians(rows - 2.5))
    for row in range(rows.size):
        field = np.zeros((rows.size, columns.size))
        field[row] = 1
        np.testing.assert_allclose(
            area(field)[0], bands[row] / bands.sum(), **ROUND_OFF
        )
