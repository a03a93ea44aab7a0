"""One variable of a store, read in canonical order whatever its order on disk.

Canonical: dims in the order of `DIMS`, rows from north to south, columns eastward from
Greenwich, levels ascending, float32, decoded. xarray only sees it through `LazyField`,
so that all readers share one reader and its errors.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray
from xarray.core import indexing

from weather.data.decoding import AnyVariable, ContradictionError, DecodedVariable

DIMS = (
    'member',
    'time',
    'prediction_timedelta',
    'hour',
    'dayofyear',
    'level',
    'latitude',
    'longitude',
)
_ENDLESS = 2**62


@dataclasses.dataclass(frozen=True, eq=False)
class StoredField:
    """One variable of a store.

    Attributes:
      variable: the decoded variable, axes in stored order.
      positions: for every dim, the place on the stored axis of each canonical entry. An
        axis that is not among them has one entry and is left out.
      times: `[time]` datetime64 in stored order, for messages.
    """

    name: str
    source: str
    variable: AnyVariable
    positions: Mapping[str, np.ndarray]
    times: np.ndarray

    @functools.cached_property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes in canonical order."""
        stored = self.variable.dims
        return tuple(d for d in DIMS if d in stored and d in self.positions)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes in canonical order."""
        return tuple(self.positions[dim].size for dim in self.dims)

    @property
    def chunks(self) -> dict[str, int]:
        """Sizes of the stored chunks by dim, in canonical order."""
        sizes = dict(zip(self.variable.dims, self.variable.chunks, strict=True))
        return {dim: sizes[dim] for dim in self.dims}

    def read_into(self, out: np.ndarray, selection: Mapping[str, np.ndarray]) -> None:
        """Reads into `out`, which may be a view.

        Args:
          out: float32, axes `dims`, as long as the selection along each.
          selection: canonical positions by dim; a dim left out is read whole.

        Raises:
          ValueError: a chunk that cannot be read; names variable, time and store.
        """
        runs = [self._runs(dim, selection.get(dim)) for dim in self.dims]
        for block in itertools.product(*runs):
            self._copy_block(out[tuple(run.target for run in block)], block)

    def read(self, selection: Mapping[str, np.ndarray]) -> np.ndarray:
        """Like `read_into`, into a new array."""
        lengths = [
            np.size(selection[dim]) if dim in selection else self.positions[dim].size
            for dim in self.dims
        ]
        out = np.empty(lengths, np.float32)
        self.read_into(out, selection)
        return out

    def _runs(self, dim: str, selected: np.ndarray | None) -> list[_Run]:
        """Returns the parts to read along `dim`; all of it where None is selected."""
        if selected is None:
            return self._whole_axes[dim]
        # Rows and columns are not worth a read each.
        chunk = _ENDLESS if dim in DIMS[-2:] else self.chunks[dim]
        return _runs(self.positions[dim][selected], chunk)

    # Found once and not at every reading: most readings are whole but in time.
    @functools.cached_property
    def _whole_axes(self) -> dict[str, list[_Run]]:
        everything = {dim: np.arange(self.positions[dim].size) for dim in self.dims}
        return {dim: self._runs(dim, all_of) for dim, all_of in everything.items()}

    @functools.cached_property
    def _order(self) -> list[int]:
        """Stored axes in canonical order, those left out last."""
        stored = self.variable.dims
        kept = [stored.index(dim) for dim in self.dims]
        return kept + [axis for axis in range(len(stored)) if axis not in kept]

    def _copy_block(self, out: np.ndarray, block: tuple[_Run, ...]) -> None:
        """Reads a box of the stored array and copies what is wanted of it."""
        boxes = dict(zip(self.dims, (run.box for run in block), strict=True))
        one = slice(0, 1)
        box = tuple(boxes.get(dim, one) for dim in self.variable.dims)
        if self._is_as_wanted and all(run.is_all_of_box for run in block):
            # Nothing lies between the file and `out`.
            self._fetch_into(out[(..., *[None] * (len(box) - len(block)))], box)
            return
        values = self._fetch(box)
        values = values.transpose(self._order)
        values = values.reshape(values.shape[: len(self.dims)])  # The rest are ones.
        for pieces in itertools.product(*(run.pieces for run in block)):
            target = tuple(piece.target for piece in pieces)
            out[target] = values[tuple(piece.box for piece in pieces)]

    @functools.cached_property
    def _is_as_wanted(self) -> bool:
        """Whether axes (those left out last) are stored as they are read.

        And numbers so that none need be looked at before it becomes a float32.
        """
        in_order = self._order == list(range(len(self._order)))
        variable = self.variable
        direct = isinstance(variable, DecodedVariable) and variable.is_within_float32
        return in_order and direct

    def _fetch(self, box: tuple[slice, ...]) -> np.ndarray:
        return self._checked(box, lambda: self.variable.read(box))

    def _fetch_into(self, out: np.ndarray, box: tuple[slice, ...]) -> None:
        variable = self.variable
        assert isinstance(variable, DecodedVariable)  # Asked by `_is_as_wanted`.

        def read() -> np.ndarray:
            variable.read_into(out, box)
            return out

        self._checked(box, read)

    def _checked(
        self, box: tuple[slice, ...], read: Callable[[], np.ndarray]
    ) -> np.ndarray:
        try:
            values = read()
        except ContradictionError:
            raise
        # Sources, codecs and file systems raise whatever they like on damaged bytes.
        except Exception as error:
            raise ValueError(
                f'cannot read {self.name}{self._first(box, self._is_unreadable)} of '
                f'{self.source}: {type(error).__name__}: {error}; the chunk is '
                'truncated or damaged, or the connection broke: copy the chunk again '
                'from its source'
            ) from error
        # Infinity in float32 was not made here: it is for checks of finite values.
        if self.variable.dtype != np.float32 and self._overflows(values):
            raise ValueError(
                f'expected finite numbers in {self.name}'
                f'{self._first(box, self._is_infinite)} of {self.source}, found '
                f'infinite ones stored as {self.variable.dtype}: they did not fit '
                '(float16 ends at 65504); write the store again in float32'
            )
        return values

    @staticmethod
    def _overflows(values: np.ndarray) -> bool:
        if values.dtype.kind != 'f':
            return False
        with np.errstate(over='ignore'):
            return bool(np.isinf(values.astype(np.float32, copy=False)).any())

    def _is_infinite(self, box: tuple[slice, ...]) -> bool:
        return self._overflows(self.variable.read(box))

    def _is_unreadable(self, box: tuple[slice, ...]) -> bool:
        try:
            self.variable.read(box)
        except Exception:
            return True
        return False

    def _first(self, box: tuple[slice, ...], is_bad: Any) -> str:
        """Returns `' at TIME'` of the first time in `box` that is bad."""
        if 'time' not in self.variable.dims:
            return ''
        axis = self.variable.dims.index('time')
        # As slow as this is, it is for a message.
        for time in range(box[axis].start, box[axis].stop):
            if is_bad(box[:axis] + (slice(time, time + 1),) + box[axis + 1 :]):
                return f' at {self.times[time].astype("datetime64[s]")}'
        return ''


class _Piece(NamedTuple):
    """Entries `target` of an axis come, in this order, from `box` of what was read."""

    target: slice
    box: slice


class _Run(NamedTuple):
    """Entries `target` of an axis lie within `box` of the stored axis, in `pieces`."""

    target: slice
    box: slice
    pieces: list[_Piece]

    @property
    def is_all_of_box(self) -> bool:
        """Whether the entries are those of the box, in the same order."""
        return len(self.pieces) == 1 and self.pieces[0].box.step == 1


def _runs(positions: np.ndarray, chunk: int) -> list[_Run]:
    """Splits positions where a whole unneeded chunk would lie between neighbours."""
    if positions.size < 2:  # The loader reads time by time, and often.
        first = slice(0, 1)
        boxes = [slice(place, place + 1) for place in positions.tolist()]
        return [_Run(first, box, [_Piece(first, slice(0, 1, 1))]) for box in boxes]
    jumps = np.abs(np.diff(positions // chunk)) > 1
    bounds = [0, *(np.flatnonzero(jumps) + 1).tolist(), positions.size]
    runs = []
    for start, stop in itertools.pairwise(bounds):
        part = positions[start:stop]
        box = slice(int(part.min()), int(part.max()) + 1)
        pieces = list(_pieces(part - box.start))
        runs.append(_Run(slice(start, stop), box, pieces))
    return runs


def _pieces(positions: np.ndarray) -> Iterator[_Piece]:
    """Splits positions into runs of step 1 or -1, so that copies are of slices."""
    steps = np.diff(positions)
    start = 0
    while start < positions.size:
        step = int(steps[start]) if start < steps.size else 1
        if abs(step) != 1:
            step, stop = 1, start + 1
        else:
            others = np.flatnonzero(steps[start:] != step)
            stop = start + int(others[0]) + 1 if others.size else positions.size
        first = int(positions[start])
        end = first + step * (stop - start)
        # A slice down to the first entry ends at None: -1 would be the last one.
        yield _Piece(slice(start, stop), slice(first, end if end >= 0 else None, step))
        start = stop


class LazyField(xarray.backends.BackendArray):
    """Presents a `StoredField` to xarray without reading it."""

    def __init__(self, field: StoredField):
        """Wraps `field`."""
        self.field = field
        self.shape = field.shape
        self.dtype = np.dtype(np.float32)

    def __deepcopy__(self, memo: object) -> LazyField:
        """Itself, which never changes: a copy would take files and locks along."""
        return self

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        """Reads what `key` selects; xarray calls this when values are needed."""
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._read
        )

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        selection = {
            dim: np.atleast_1d(np.arange(size)[index])
            for dim, size, index in zip(self.field.dims, self.shape, key, strict=True)
        }
        values = self.field.read(selection)
        return values[
            tuple(
                0 if np.ndim(i) == 0 and not isinstance(i, slice) else slice(None)
                for i in key
            )
        ]
