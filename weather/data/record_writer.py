"""Writing the record of a prepared store: see `record`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import zarr

from weather.data.summary import DTYPES, Summary

GROUP, DONE = 'summary', 'done'
_COLUMNS: dict[str, np.dtype] = {**DTYPES, DONE: np.dtype('u1')}
# Set when the blocks are joined: columns are then those of the group of this name.
_JOINED = 'joined'
# Times that are one chunk of a joined column: 61,000 times of 13 levels are 2 files.
_JOINED_TIMES = 2**15


class RecordWriter:
    """Writes a record, block by block.

    Safe for any number of threads and processes, as long as what each writes is whole
    blocks. A block is there when its `done` is: that is written last.
    """

    def __init__(self, group: zarr.Group, block: int):
        """Writes to the group `summary` of a store, made by `create`."""
        self._group = group
        self.block = block

    @classmethod
    def create(
        cls,
        store: zarr.Group | str | os.PathLike[str],
        *,
        variables: Mapping[str, int],
        num_times: int,
        block: int,
        attributes: Mapping[str, Any] = MappingProxyType({}),
        storage_options: Mapping[str, Any] | None = None,
    ) -> RecordWriter:
        """Makes the arrays that are not there; what is there is kept.

        Args:
          store: group, path or address of the store, which need not be a group yet.
          variables: number of levels by name, 1 for a variable without.
          num_times: of the store.
          block: times that are written together, one chunk.
          attributes: of the group `summary`. `levels`, by variable in hPa, where they
            are not those of the store's level axis.
          storage_options: passed on to fsspec for an address.

        Raises:
          ValueError: a record of another shape or in other blocks is there already.
        """
        if isinstance(store, zarr.Group):
            group = store.require_group(GROUP)
        else:
            options: Any = dict(storage_options or {}) or None
            path = f'{os.fspath(store)}/{GROUP}'
            group = zarr.open_group(path, mode='a', storage_options=options)
        found = group.attrs.get('block', block)
        if found != block:
            raise ValueError(
                f'expected a record in blocks of {block} times, found {found} in '
                f'{group.store_path}; go on with these, or choose another path'
            )
        group.attrs.update({**attributes, 'block': block})
        for name, num_levels in variables.items():
            of_variable = group.require_group(name)
            _require(of_variable, (num_times, num_levels), block)
        return cls(group, block)

    def is_done(self, variable: str, start: int, stop: int) -> bool:
        """Whether all blocks from `start` to before `stop` are written."""
        return bool(np.all(self._column(variable, DONE)[start:stop]))

    def write(self, variable: str, start: int, summary: Summary) -> None:
        """Writes whole blocks, those from position `start` in time.

        Raises:
          ValueError: not at the bounds of blocks.
        """
        done = self._column(variable, DONE)
        stop = start + len(summary.checksum)
        if start % self.block or (stop % self.block and stop != done.shape[0]):
            raise ValueError(
                f'expected whole blocks of {self.block} of {done.shape[0]} times, got '
                f'{start} to {stop}'
            )
        for name, values in summary._asdict().items():
            self._column(variable, name)[start:stop] = values
        done[start:stop] = 1

    def _column(self, variable: str, name: str) -> Any:
        group: Any = self._group[variable]
        return column(group, name)

    def finish(self) -> None:
        """Joins the blocks of every column into few chunks, once all are there.

        A process that is killed meanwhile leaves the blocks, or the joined columns, or
        both: any of it is a record, and another call goes on.

        Raises:
          ValueError: blocks are missing.
        """
        for name, of_variable in variables(self._group).items():
            missing = np.flatnonzero(column(of_variable, DONE)[:] != 1)
            if missing.size:
                raise ValueError(
                    f'expected all times of {name} in the record, found none of '
                    f'{missing.size}, the first at position {missing[0]}'
                )
            if of_variable.attrs.get(_JOINED):
                continue
            for name_of in (*DTYPES, DONE):
                _join(of_variable, name_of)
            of_variable.attrs[_JOINED] = True
        for of_variable in variables(self._group).values():
            for name in (*DTYPES, DONE):
                if name in of_variable:
                    del of_variable[name]


def _require(group: zarr.Group, shape: tuple[int, int], block: int) -> None:
    joined = bool(group.attrs.get(_JOINED))
    for name, dtype in _COLUMNS.items():
        of_column = shape if name not in ('checksum', DONE) else shape[:1]
        if not joined and name not in group:
            group.create_array(
                name,
                shape=of_column,
                chunks=(block, *of_column[1:]),
                dtype=dtype,
                fill_value=np.nan if dtype.kind == 'f' else 0,
            )
        found = column(group, name)
        if found.shape != of_column:
            raise ValueError(
                f'expected a record of shape {of_column}, found {found.shape} in '
                f'{found.store_path}; it is of another store: choose another path'
            )


def _join(group: zarr.Group, name: str) -> None:
    """Copies a column into `joined/`, in large chunks."""
    blocks: Any = group[name]
    joined = group.create_array(
        f'{_JOINED}/{name}',
        shape=blocks.shape,
        chunks=(min(_JOINED_TIMES, blocks.shape[0]), *blocks.shape[1:]),
        dtype=blocks.dtype,
        fill_value=blocks.fill_value,
        overwrite=True,
    )
    for start in range(0, blocks.shape[0], _JOINED_TIMES):
        stop = min(start + _JOINED_TIMES, blocks.shape[0])
        joined[start:stop] = blocks[start:stop]


def column(group: zarr.Group, name: str) -> Any:
    """The array of a column of a variable, joined or not."""
    place = f'{_JOINED}/{name}' if group.attrs.get(_JOINED) else name
    return group[place]


def variables(group: zarr.Group) -> dict[str, zarr.Group]:
    """The groups of the variables, by name."""
    return dict(sorted(group.groups()))
