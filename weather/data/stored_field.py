"""One variable of a Zarr store, read in canonical order whatever its order on disk.

Canonical: dims (time, level, latitude, longitude), rows from north to south, columns
eastward from Greenwich, float32, unpacked. The arrays are read with zarr itself; xarray
only sees them through `LazyField`, so that both share one reader and its errors.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray
import zarr
from xarray.core import indexing

from weather.data.chunk_files import ChunkFiles

DIMS = ('time', 'level', 'latitude', 'longitude')
_ENDLESS = 2**62


class Packing(NamedTuple):
    """How stored numbers become SI values: `stored * scale + offset`, NaN if missing.

    Attributes:
      scale: `scale_factor` of the CF conventions.
      offset: `add_offset` of the CF conventions.
      missing: the stored number that stands for a missing value; None for none.
    """

    scale: float
    offset: float
    missing: float | None

    @classmethod
    def of(cls, array: zarr.Array) -> Packing:
        """Reads the packing of `array` from its attributes (CF conventions, 8.1)."""
        attributes: dict[str, Any] = dict(array.attrs)
        missing = attributes.get('_FillValue', attributes.get('missing_value'))
        if isinstance(missing, str):
            # xarray's spelling of a float in Zarr v3: base64 of eight bytes.
            missing = np.frombuffer(base64.standard_b64decode(missing), '<f8')[0]
        if missing is None and array.metadata.zarr_format == 2:
            missing = _version_2_missing(array)
        return cls(
            float(attributes.get('scale_factor', 1.0)),
            float(attributes.get('add_offset', 0.0)),
            None if missing is None or np.isnan(missing) else float(missing),
        )

    @property
    def trivial(self) -> bool:
        """Whether stored numbers are the values."""
        return self == (1.0, 0.0, None)

    def unpack(self, stored: np.ndarray) -> np.ndarray:
        """Returns the values of `stored`; float64 where there is anything to do."""
        if self.trivial:
            return stored
        values = stored * np.float64(self.scale) + self.offset
        if self.missing is not None:
            values[stored == np.asarray(self.missing, stored.dtype)] = np.nan
        return values


def _version_2_missing(array: zarr.Array) -> float | None:
    """In Zarr v2 `fill_value` doubles as the missing value (xarray's convention).

    Except a floating-point 0: that is what zarr writes when nobody chose, and to take
    it for missing would turn every exact zero (sea points of a land mask) into NaN.
    """
    fill = array.metadata.fill_value
    if fill is None or (np.issubdtype(array.dtype, np.floating) and fill == 0):
        return None
    return float(fill)


@dataclasses.dataclass(frozen=True, eq=False)
class StoredField:
    """One variable of a store.

    Attributes:
      name: name of the variable.
      source: path or address of the store, for messages.
      array: the stored array.
      stored_dims: names of the array's axes, in stored order.
      positions: for every dim, the place on the stored axis of each canonical entry.
      times: `[time]` datetime64 of the store, for messages.
      packing: how stored numbers become values.
    """

    name: str
    source: str
    array: zarr.Array
    stored_dims: tuple[str, ...]
    positions: Mapping[str, np.ndarray]
    times: np.ndarray
    packing: Packing

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes in canonical order."""
        return tuple(dim for dim in DIMS if dim in self.stored_dims)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes in canonical order."""
        return tuple(self.positions[dim].size for dim in self.dims)

    @property
    def chunks(self) -> dict[str, int]:
        """Sizes of the stored chunks by dim, in canonical order."""
        sizes = dict(zip(self.stored_dims, self.array.chunks, strict=True))
        return {dim: sizes[dim] for dim in self.dims}

    @functools.cached_property
    def _readable(self) -> ChunkFiles | zarr.Array:
        return ChunkFiles.of(self.array) or self.array

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
        splits = dim in ('time', 'level')
        chunk = self.chunks[dim] if splits else _ENDLESS
        return _runs(self.positions[dim][selected], chunk)

    @functools.cached_property
    def _whole_axes(self) -> dict[str, list[_Run]]:
        everything = {dim: np.arange(self.positions[dim].size) for dim in self.dims}
        return {dim: self._runs(dim, all_of) for dim, all_of in everything.items()}

    def _copy_block(self, out: np.ndarray, block: tuple[_Run, ...]) -> None:
        """Reads a box of the stored array and copies what is wanted of it."""
        boxes = dict(zip(self.dims, (run.box for run in block), strict=True))
        stored = self._fetch(tuple(boxes[dim] for dim in self.stored_dims))
        order = [self.stored_dims.index(dim) for dim in self.dims]
        values = self.packing.unpack(stored).transpose(order)
        for pieces in itertools.product(*(run.pieces for run in block)):
            target = tuple(piece.target for piece in pieces)
            out[target] = values[tuple(piece.box for piece in pieces)]

    def _fetch(self, box: tuple[slice, ...]) -> np.ndarray:
        try:
            return np.asarray(self._readable[box])
        # zarr, codecs and file systems raise whatever they like on damaged bytes.
        except Exception as error:
            raise ValueError(
                f'cannot read {self.name}{self._first_unreadable(box)} of '
                f'{self.source}: {type(error).__name__}: {error}; the chunk is '
                'truncated or damaged, or the connection broke: copy the chunk again '
                'from its source'
            ) from error

    def _first_unreadable(self, box: tuple[slice, ...]) -> str:
        """Returns `' at TIME'` of the first time in `box` that cannot be read."""
        if 'time' not in self.stored_dims:
            return ''
        axis = self.stored_dims.index('time')
        for time in range(box[axis].start, box[axis].stop):
            try:
                self._readable[box[:axis] + (slice(time, time + 1),) + box[axis + 1 :]]
            except Exception:
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


def _runs(positions: np.ndarray, chunk: int) -> list[_Run]:
    """Splits positions where a whole unneeded chunk would lie between neighbours."""
    if not positions.size:
        return []
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
        yield _Piece(slice(start, stop), slice(first, end if end >= 0 else None, step))
        start = stop


class LazyField(xarray.backends.BackendArray):
    """Presents a `StoredField` to xarray without reading it."""

    def __init__(self, field: StoredField):
        """Wraps `field`."""
        self.field = field
        self.shape = field.shape
        self.dtype = np.dtype(np.float32)

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
