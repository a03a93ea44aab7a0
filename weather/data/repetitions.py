"""What several files hold at once: it has to be the same, and is read from one."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from weather.data.composed import Joined, Tile

_LOGGER = logging.getLogger(__name__)
# Axes along which files are joined.
GROWING = ('time', 'level')
# Of the times that two files share, how many are compared.
_COMPARED = 24


def without_repetitions(
    name: str,
    tiles: Sequence[Tile],
    sizes: Mapping[str, int],
    coordinates: Mapping[str, np.ndarray],
) -> list[Tile]:
    """Tiles of which each holds something that no earlier one does, in order of time.

    Raises:
      ValueError: two hold the same time and level, and other values.
    """
    growing = [dim for dim in GROWING if dim in sizes]
    if 'time' in growing:
        tiles = sorted(tiles, key=lambda tile: tile.places['time'].min())
    elif len(tiles) > _COMPARED:
        tiles = tiles[:: -(-len(tiles) // _COMPARED)]
    owner = np.full([sizes[dim] for dim in growing], -1, np.int32)
    kept: list[Tile] = []
    for tile in tiles:
        own = np.ix_(*(tile.places[dim] for dim in growing)) if growing else ()
        before = owner[own]
        for other in np.unique(before[before >= 0]):
            _check_same(name, kept[other], tile, sizes, coordinates)
        if (before < 0).any():
            owner[own] = np.where(before < 0, len(kept), before)
            kept.append(tile)
    return kept


def _check_same(
    name: str,
    one: Tile,
    other: Tile,
    sizes: Mapping[str, int],
    coordinates: Mapping[str, np.ndarray],
) -> None:
    """Compares two tiles at up to 24 of the times that they share, with both ends."""
    whole = {dim: slice(0, size) for dim, size in sizes.items()}
    boxes = [whole]
    if 'time' in sizes:
        shared = np.intersect1d(one.places['time'], other.places['time'])
        chosen = np.linspace(0, shared.size - 1, min(shared.size, _COMPARED))
        times = shared[chosen.round().astype(int)]
        boxes = [{**whole, 'time': slice(int(t), int(t) + 1)} for t in times]
    views = [Joined([tile], sizes) for tile in (one, other)]
    for box in boxes:
        values = []
        for view in views:
            read = view.read(tuple(box[dim] for dim in view.dims))
            read = read.transpose([view.dims.index(dim) for dim in sizes])
            if 'level' in sizes:
                levels = np.intersect1d(one.places['level'], other.places['level'])
                read = read.take(levels, list(sizes).index('level'))
            values.append(read)
        if not np.array_equal(values[0], values[1], equal_nan=True):
            when = ''
            if 'time' in sizes:
                time = coordinates['time'][box['time'].start]
                when = f' at {time.astype("datetime64[s]")}'
            raise ValueError(
                f'expected the same {name}{when} in {one.address} and {other.address}, '
                'found other values; keep one of the two'
            )
    if 'time' in sizes:
        _LOGGER.warning(
            '%s of %s is in %s too (%d times, the same at %d of them): it is read '
            'from the first of the two by time', name, other.address, one.address,
            shared.size, len(boxes),
        )  # fmt: skip
