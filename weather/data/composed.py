"""Variables composed of others: joined, stacked, merged or cut.

Each reads as `decoding.DecodedVariable` does, so that readers above need not know how
many arrays or files a variable comes from.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from weather.data.decoding import AnyVariable, ContradictionError

# How many times are looked at to find a field that never changes in a store that
# repeats it for every time, but not from the beginning.
_PROBES = 64


class Composed:
    """What all of them have; `AnyVariable`."""

    def __init__(
        self,
        first: AnyVariable,
        dims: tuple[str, ...],
        sizes: Mapping[str, int],
        chunks: Mapping[str, int],
    ):
        self.name = first.name
        self.attributes = first.attributes
        self.dtype = first.dtype
        self.dims = dims
        self.shape = tuple(sizes[dim] for dim in dims)
        self.chunks = tuple(chunks[dim] for dim in dims)


def sizes_of(variable: AnyVariable) -> dict[str, int]:
    """Lengths of the axes by dim."""
    return dict(zip(variable.dims, variable.shape, strict=True))


def chunks_of(variable: AnyVariable) -> dict[str, int]:
    """Lengths of what is stored together by dim."""
    return dict(zip(variable.dims, variable.chunks, strict=True))


class Stacked(Composed):
    """Variables of one level each, as one with an axis `level` before the rows."""

    def __init__(self, parts: Sequence[AnyVariable]):
        first = parts[0]
        self._axis = min(first.dims.index(dim) for dim in ('latitude', 'longitude'))
        dims = (*first.dims[: self._axis], 'level', *first.dims[self._axis :])
        for part in parts[1:]:
            if (part.dims, part.shape) != (first.dims, first.shape):
                raise ValueError(
                    f'expected all levels of {first.name} with the same dims and '
                    f'sizes, found {first.dims} {first.shape} and {part.dims} '
                    f'{part.shape}'
                )
        sizes = {**sizes_of(first), 'level': len(parts)}
        super().__init__(first, dims, sizes, {**chunks_of(first), 'level': 1})
        self._parts = tuple(parts)
        self.dtype = np.result_type(*(part.dtype for part in parts))

    def read(self, box: tuple[slice, ...]) -> np.ndarray:
        """See `AnyVariable`."""
        inner = (*box[: self._axis], *box[self._axis + 1 :])
        return np.stack(
            [part.read(inner) for part in self._parts[box[self._axis]]], self._axis
        )

    def version(self, box: tuple[slice, ...]) -> Iterator[str] | None:
        """See `AnyVariable`."""
        inner = (*box[: self._axis], *box[self._axis + 1 :])
        return _versions((p, inner) for p in self._parts[box[self._axis]])


class Squeezed(Composed):
    """A variable without some of its axes, of one entry each."""

    def __init__(self, variable: AnyVariable, axes: Collection[str]):
        dims = tuple(dim for dim in variable.dims if dim not in axes)
        super().__init__(variable, dims, sizes_of(variable), chunks_of(variable))
        self._variable = variable
        self._left_out = tuple(
            axis for axis, dim in enumerate(variable.dims) if dim in axes
        )

    def _whole_box(self, box: tuple[slice, ...]) -> tuple[slice, ...]:
        inner = list(box)
        for axis in self._left_out:
            inner.insert(axis, slice(0, 1))
        return tuple(inner)

    def read(self, box: tuple[slice, ...]) -> np.ndarray:
        """See `AnyVariable`."""
        return self._variable.read(self._whole_box(box)).squeeze(self._left_out)

    def version(self, box: tuple[slice, ...]) -> Iterator[str] | None:
        """See `AnyVariable`."""
        return self._variable.version(self._whole_box(box))


class MergedVersions(Composed):
    """ERA5 mixed with ERA5T, its first release, along an axis `expver`: one of both.

    The first is taken that is not NaN. Where several are there they have to agree.
    """

    def __init__(self, variable: AnyVariable, axis: str, source: str):
        dims = tuple(dim for dim in variable.dims if dim != axis)
        super().__init__(variable, dims, sizes_of(variable), chunks_of(variable))
        self._variable = variable
        self._axis = variable.dims.index(axis)
        self._source = source

    def _with_axis(self, box: tuple[slice, ...]) -> tuple[slice, ...]:
        every = slice(0, self._variable.shape[self._axis])
        return (*box[: self._axis], every, *box[self._axis :])

    def read(self, box: tuple[slice, ...]) -> np.ndarray:
        """See `AnyVariable`; `ContradictionError` where two versions differ."""
        versions = self._variable.read(self._with_axis(box))
        versions = np.moveaxis(versions, self._axis, 0)
        merged = versions[0]
        for version in versions[1:]:
            there = np.isfinite(merged) & np.isfinite(version)
            if (there & (merged != version)).any():
                axis = self._variable.dims[self._axis]
                raise ContradictionError(
                    f'expected one value of {self.name} along {axis} in '
                    f'{self._source}, found two that differ at once; select one '
                    f'version, e.g. ds.isel({axis}=0)'
                )
            merged = np.where(np.isnan(merged), version, merged)
        return merged

    def version(self, box: tuple[slice, ...]) -> Iterator[str] | None:
        """See `AnyVariable`."""
        return self._variable.version(self._with_axis(box))


class OneTime(Composed):
    """A field that never changes, of a store that repeats it for every time.

    The first time need not be there (ARCO-ERA5's axis begins in 1900, its data in
    1940). These are tried until one holds numbers other than zeros: those that the
    store says are there, the first, the last, and the middles of halves, quarters and
    so on, 64 in all.
    """

    def __init__(self, variable: AnyVariable, likely: Sequence[int] = ()):
        self._axis = variable.dims.index('time')
        dims = tuple(dim for dim in variable.dims if dim != 'time')
        super().__init__(variable, dims, sizes_of(variable), chunks_of(variable))
        self._variable = variable
        self._likely = tuple(likely)

    @functools.cached_property
    def time(self) -> int:
        """The position in time that is read."""
        whole = tuple(slice(0, size) for size in self.shape)
        fallback = None
        for time in self.candidates():
            values = self._variable.read(self._at(time, whole))
            if np.isfinite(values).any():
                # Zeros may be what an absent chunk of a mask reads as.
                if values[np.isfinite(values)].any():
                    return time
                fallback = time if fallback is None else fallback
        return 0 if fallback is None else fallback

    def candidates(self) -> list[int]:
        """The positions that are tried, in this order, each once."""
        count = self._variable.shape[self._axis]
        tried = [*self._likely, 0, count - 1]
        parts = 2
        while len(tried) < _PROBES and parts < 2 * count:
            tried += [count * odd // parts for odd in range(1, parts, 2)]
            parts *= 2
        inside = (time for time in tried if 0 <= time < count)
        return list(dict.fromkeys(inside))[:_PROBES]

    def _at(self, time: int, box: tuple[slice, ...]) -> tuple[slice, ...]:
        return (*box[: self._axis], slice(time, time + 1), *box[self._axis :])

    def read(self, box: tuple[slice, ...]) -> np.ndarray:
        """See `AnyVariable`."""
        return self._variable.read(self._at(self.time, box)).squeeze(self._axis)

    def version(self, box: tuple[slice, ...]) -> Iterator[str] | None:
        """See `AnyVariable`."""
        return self._variable.version(self._at(self.time, box))


class Tile(NamedTuple):
    """A variable of one file within one of many.

    Attributes:
      places: by dim, where each of its entries stands in the whole.
      address: of the file, for messages.
    """

    variable: AnyVariable
    places: Mapping[str, np.ndarray]
    address: str

    def share(self, dims: Sequence[str], box: tuple[slice, ...]) -> Share | None:
        """Returns what of the tile lies in a box of the whole; None for nothing."""
        inside, targets = [], []
        for dim, along in zip(dims, box, strict=True):
            places = self.places[dim]
            chosen = np.flatnonzero((places >= along.start) & (places < along.stop))
            if not chosen.size:
                return None
            inside.append(chosen)
            targets.append(places[chosen] - along.start)
        own = {
            dim: slice(int(chosen[0]), int(chosen[-1]) + 1)
            for dim, chosen in zip(dims, inside, strict=True)
        }
        mine = tuple(own[dim] for dim in self.variable.dims)
        slices = tuple(slice_of(places) for places in targets)
        gapless = all(chosen[-1] - chosen[0] < chosen.size for chosen in inside)
        if gapless and None not in slices:
            return Share(self, mine, slices, None)
        picked = np.ix_(*(chosen - chosen[0] for chosen in inside))
        return Share(self, mine, np.ix_(*targets), picked)


class Share(NamedTuple):
    """What a tile gives to a box: `target` of the box is `picked` of its own `box`."""

    tile: Tile
    box: tuple[slice, ...]
    target: tuple[Any, ...]
    picked: tuple[np.ndarray, ...] | None

    def read(self, dims: Sequence[str]) -> np.ndarray:
        """Reads it, axes in the order of `dims`."""
        variable = self.tile.variable
        values = variable.read(self.box)
        values = values.transpose([variable.dims.index(dim) for dim in dims])
        return values if self.picked is None else values[self.picked]


class Joined(Composed):
    """Tiles of one variable, each packed its way; NaN where there is none.

    Months or years one after the other, levels in files of their own, files that have
    their rows or axes in another order.
    """

    def __init__(self, tiles: Sequence[Tile], sizes: Mapping[str, int]):
        first = tiles[0].variable
        # Where parts differ, others are read as well, only in less fitting portions.
        super().__init__(first, first.dims, sizes, chunks_of(first))
        self._tiles = tuple(tiles)
        self.dtype = np.result_type(*(tile.variable.dtype for tile in tiles))
        # First and last place of each, to find those that a box touches.
        self._spans = [
            np.array([[t.places[dim].min(), t.places[dim].max()] for t in tiles])
            for dim in self.dims
        ]

    def shares(self, box: tuple[slice, ...]) -> Iterator[Share]:
        """What lies in a box, tile by tile."""
        touched = np.ones(len(self._tiles), bool)
        for spans, along in zip(self._spans, box, strict=True):
            touched &= (spans[:, 0] < along.stop) & (spans[:, 1] >= along.start)
        for number in np.flatnonzero(touched):
            share = self._tiles[number].share(self.dims, box)
            if share is not None:
                yield share

    def read(self, box: tuple[slice, ...]) -> np.ndarray:
        """See `AnyVariable`."""
        lengths = tuple(along.stop - along.start for along in box)
        shares = list(self.shares(box))
        whole = tuple(slice(0, length, 1) for length in lengths)
        if len(shares) == 1 and shares[0].picked is None and shares[0].target == whole:
            return shares[0].read(self.dims)
        pieces = [share.read(self.dims) for share in shares]
        dtype = np.result_type(np.float32, *(piece.dtype for piece in pieces))
        values = np.full(lengths, np.nan, dtype)
        # The first file wins: where several hold a field they agree, see `joining`.
        for share, piece in reversed(list(zip(shares, pieces, strict=True))):
            values[share.target] = piece
        return values

    def version(self, box: tuple[slice, ...]) -> Iterator[str] | None:
        """See `AnyVariable`."""
        return _versions((share.tile.variable, share.box) for share in self.shares(box))


def _versions(
    read: Iterable[tuple[AnyVariable, tuple[slice, ...]]],
) -> Iterator[str] | None:
    versions: list[str] = []
    for variable, box in read:
        found = variable.version(box)
        if found is None:
            return None
        versions += [str(box), *found]
    return iter(versions)


def slice_of(places: np.ndarray) -> slice | None:
    """Places one after the other, up or down, as a slice; None for others."""
    first, last = int(places[0]), int(places[-1])
    step = 1 if last >= first else -1
    if places.size > 1 and (np.diff(places) != step).any():
        return None
    stop = last + step
    return slice(first, stop if stop >= 0 else None, step)
