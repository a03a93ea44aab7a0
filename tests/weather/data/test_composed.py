"""Composed variables read as the array that they stand for, box by box."""

import itertools

import numpy as np
import pytest

from weather.data.composed import (
    Joined,
    MergedVersions,
    OneTime,
    Squeezed,
    Stacked,
    Tile,
    slice_of,
)
from weather.data.decoding import ContradictionError


class Plain:
    """An array in memory that counts its readings."""

    def __init__(self, values, dims, chunks=None):
        self.name, self.attributes = 'temperature', {}
        self.values, self.dims, self.dtype = values, dims, values.dtype
        self.shape = values.shape
        self.chunks = chunks or values.shape
        self.boxes = []

    def read(self, box):
        self.boxes.append(box)
        return self.values[box]

    def version(self, box):
        return iter([f'{self.values[box].sum()}'])


DIMS = ('time', 'level', 'latitude', 'longitude')
SIZES = dict(zip(DIMS, (7, 3, 4, 5), strict=True))


def whole():
    return np.arange(420, dtype=np.float32).reshape(*SIZES.values())


def tile(values, axes, places):
    """A tile that holds `places` of the whole, with axes in another order."""
    indices = [places.get(dim, np.arange(SIZES[dim])) for dim in DIMS]
    part = values[np.ix_(*indices)].transpose([DIMS.index(dim) for dim in axes])
    by_dim = dict(zip(DIMS, indices, strict=True))
    return Tile(Plain(part, axes), by_dim, 'a file')


def boxes(rng, count):
    for _ in range(count):
        pairs = (sorted(rng.choice(n + 1, 2, replace=False)) for n in SIZES.values())
        yield tuple(slice(int(start), int(stop)) for start, stop in pairs)


def tilings():
    up, down = np.arange, lambda n: np.arange(n)[::-1]
    other = ('longitude', 'time', 'latitude', 'level')
    yield 'months', [(DIMS, {'time': up(3)}), (other, {'time': up(4) + 3})]
    yield 'levels', [(DIMS, {'level': np.array([k])}) for k in (2, 0, 1)]
    yield 'hours', [(DIMS, {'time': up(4) * 2}), (DIMS, {'time': up(3) * 2 + 1})]
    yield 'turned', [(other, {'latitude': down(4), 'longitude': np.roll(up(5), 2)})]
    yield 'shuffled', [(DIMS, {'time': np.array([5, 0, 6, 2, 1, 4, 3])})]
    yield 'shared', [(DIMS, {'time': up(5)}), (other, {'time': up(5) + 2})]
    yield 'levels down', [(DIMS, {'level': down(3), 'time': down(7)})]


TILINGS = dict(tilings())


@pytest.mark.parametrize('kind', TILINGS)
def test_tiles_read_as_the_whole_in_every_box(kind):
    values, pieces = whole(), TILINGS[kind]
    joined = Joined([tile(values, *piece) for piece in pieces], SIZES)
    back = [joined.dims.index(dim) for dim in DIMS]
    for box in boxes(np.random.default_rng(0), 60):
        own = dict(zip(DIMS, box, strict=True))
        read = joined.read(tuple(own[dim] for dim in joined.dims))
        np.testing.assert_array_equal(read.transpose(back), values[box])


def test_what_no_tile_holds_is_missing():
    values = whole()
    early = tile(values, DIMS, {'time': np.arange(2), 'level': np.array([1])})
    joined = Joined([early, tile(values, DIMS, {'time': np.arange(2) + 5})], SIZES)
    read = joined.read(tuple(slice(0, size) for size in SIZES.values()))
    assert np.isnan(read[2:5]).all() and np.isnan(read[:2, [0, 2]]).all()
    np.testing.assert_array_equal(read[:2, 1], values[:2, 1])
    np.testing.assert_array_equal(read[5:], values[5:])
    nothing = joined.read((slice(2, 4), slice(0, 3), slice(0, 4), slice(0, 5)))
    assert nothing.shape == (2, 3, 4, 5) and np.isnan(nothing).all()


def test_only_the_files_that_a_box_touches_are_read():
    values = whole()
    tiles = [tile(values, DIMS, {'time': np.array([time])}) for time in range(7)]
    Joined(tiles, SIZES).read((slice(2, 4), *(slice(0, n) for n in (3, 4, 5))))
    assert [len(each.variable.boxes) for each in tiles] == [0, 0, 1, 1, 0, 0, 0]


def test_the_version_is_that_of_what_is_read():
    values = whole()
    pieces = [(DIMS, {'time': np.arange(3)}), (DIMS, {'time': np.arange(4) + 3})]
    inner = tuple(slice(0, n) for n in (3, 4, 5))
    one = Joined([tile(values, *piece) for piece in pieces], SIZES)
    before, late = (list(one.version((slice(*t), *inner))) for t in ((0, 3), (3, 7)))
    values[6] += 1
    two = Joined([tile(values, *piece) for piece in pieces], SIZES)
    assert list(two.version((slice(0, 3), *inner))) == before
    assert list(two.version((slice(3, 7), *inner))) != late


@pytest.mark.parametrize('places', list(itertools.permutations(range(3))))
def test_places_are_a_slice_only_where_they_follow_each_other(places):
    found = slice_of(np.array(places))
    if found is None:
        assert places not in ((0, 1, 2), (2, 1, 0))
    else:
        assert np.arange(3)[found].tolist() == list(places)


def test_levels_are_stacked_before_rows_and_columns():
    values = whole()
    level = [Plain(values[:, k], ('time', 'latitude', 'longitude')) for k in range(3)]
    stacked = Stacked(level)
    assert stacked.dims == DIMS and stacked.shape == values.shape
    box = (slice(1, 4), slice(1, 3), slice(0, 2), slice(2, 5))
    np.testing.assert_array_equal(stacked.read(box), values[box])
    assert not level[0].boxes
    with pytest.raises(ValueError, match='levels of temperature with the same dims'):
        Stacked([level[0], Plain(values[:3, 1], level[0].dims)])


def test_of_two_versions_the_one_that_is_there_is_read():
    values = whole()[:, 0]
    both = np.stack([values, values], 1)
    both[4:, 0], both[:4, 1] = np.nan, np.nan
    both[0, :, 1, 2] = np.nan  # Below the ground in both.
    dims = ('time', 'expver', 'latitude', 'longitude')
    merged = MergedVersions(Plain(both, dims), 'expver', 'a store')
    assert merged.dims == ('time', 'latitude', 'longitude')
    expected = values.copy()
    expected[0, 1, 2] = np.nan
    read = merged.read((slice(0, 7), slice(0, 4), slice(1, 5)))
    np.testing.assert_array_equal(read, expected[:, :, 1:])
    both[5, 0, 3, 4] = values[5, 3, 4]  # The same once more is no contradiction.
    np.testing.assert_array_equal(
        merged.read((slice(5, 6), slice(0, 4), slice(0, 5))), values[5:6]
    )
    both[5, 0, 3, 4] += 1
    with pytest.raises(ContradictionError, match='one value of temperature along expv'):
        merged.read((slice(5, 6), slice(0, 4), slice(0, 5)))


class Repeated(Plain):
    """A field that a store repeats from `start` to `stop` of a long axis of times."""

    def __init__(self, start, stop, size=1_000_000):
        one = np.ones((1, 2, 3), np.float32)
        super().__init__(one, ('time', 'latitude', 'longitude'))
        self.span, self.shape = (start, stop), (size, 2, 3)

    def read(self, box):
        self.boxes.append(box)
        there = self.span[0] <= box[0].start < self.span[1]
        lengths = [along.stop - along.start for along in box]
        return np.full(lengths, 7.0 if there else np.nan)


@pytest.mark.parametrize(
    ('start', 'stop', 'likely', 'readings'),
    [
        (0, 10, (), 1),
        (999_999, 1_000_000, (), 2),
        (350_000, 820_000, (350_000,), 1),
        (350_000, 820_000, (), 3),  # The middle.
        (140_000, 170_000, (), 20),
        (0, 0, (), 64),  # Nowhere: a bound on what is tried.
    ],
)
def test_a_static_is_taken_at_a_time_that_is_there(start, stop, likely, readings):
    repeated = Repeated(start, stop)
    field = OneTime(repeated, likely)
    assert field.dims == ('latitude', 'longitude')
    read = field.read((slice(0, 2), slice(1, 3)))
    assert read.shape == (2, 2)
    assert (read == 7).all() if stop > start else np.isnan(read).all()
    assert len(repeated.boxes) <= readings + 1
    field.read((slice(0, 1), slice(0, 1)))
    assert len(repeated.boxes) <= readings + 2  # It is looked for once.


def test_zeros_of_a_static_are_believed_where_there_is_nothing_else():
    """An absent chunk of a mask with the fill value 0 reads as zeros."""
    values = np.zeros((9, 2, 3), np.float32)
    field = OneTime(Plain(values, ('time', 'latitude', 'longitude')))
    whole_field = (slice(0, 2), slice(0, 3))
    assert (field.read(whole_field) == 0).all()
    values[4:7] = 1
    again = OneTime(Plain(values, ('time', 'latitude', 'longitude')))
    assert (again.read(whole_field) == 1).all()


def test_axes_of_one_entry_are_left_out():
    values = whole()
    dims = ('number', 'time', 'level', 'height', 'latitude', 'longitude')
    squeezed = Squeezed(Plain(values[None, :, :, None], dims), ('number', 'height'))
    assert squeezed.dims == DIMS and squeezed.shape == values.shape
    for box in boxes(np.random.default_rng(1), 10):
        np.testing.assert_array_equal(squeezed.read(box), values[box])
