"""How stored numbers become values: the one decoder of the project.

Packing follows the CF conventions 1.11, sections 2.5.1 and 8.1, and, for `_Unsigned`
and the valid range, the NetCDF Users Guide, appendix A. Values are float32, missing
ones NaN, known variables in SI units.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from weather.data import units
from weather.data.sources import DirectVariable, RawVariable
from weather.variables import VARIABLES

# Numbers unpacked at a time, in float64 in between. Fewer would stay closer to the
# processor, but threads take the interpreter in turns, and twice as long at 2**15.
_PORTION = 2**18
_HORIZONTAL = {'latitude', 'longitude'}
# Quantities of which a whole chunk is never exactly 0.
_NEVER_ZERO = ('K', 'Pa', 'm2 s-2', 'm s-1')


class Packing(NamedTuple):
    """How stored numbers become values: `stored * scale + offset`, NaN if missing.

    Attributes:
      dtype: how the stored bits are to be read (`_Unsigned` may differ from the store).
      scale: `scale_factor` of the CF conventions, units converted.
      offset: `add_offset` of the CF conventions, units converted.
      missing: stored numbers that stand for a missing value.
      valid: smallest and largest stored number that is no missing value.
    """

    dtype: np.dtype
    scale: float = 1.0
    offset: float = 0.0
    missing: tuple[Any, ...] = ()
    valid: tuple[float, float] = (-np.inf, np.inf)

    @classmethod
    def of(
        cls,
        dtype: np.dtype,
        attributes: Mapping[str, Any],
        convert: units.Conversion | None = None,
    ) -> Packing:
        """Reads the packing from the attributes of a variable.

        Raises:
          ValueError: an attribute that is no number, or a scale of 0.
        """
        packed_scale, packed_offset = (
            _number(attributes, name, default)
            for name, default in (('scale_factor', 1.0), ('add_offset', 0.0))
        )
        if not (np.isfinite([packed_scale, packed_offset]).all() and packed_scale):
            raise ValueError(
                f'expected a finite scale_factor other than 0 and add_offset, found '
                f'{packed_scale:g} and {packed_offset:g}'
            )
        factor, shift = convert or units.Conversion()
        read_as = _signedness(dtype, attributes)
        missing = [
            _as_stored(number, read_as)
            for name in ('_FillValue', 'missing_value')
            for number in _numbers(attributes, name)
        ]
        return cls(
            read_as,
            packed_scale * factor,
            packed_offset * factor + shift,
            # NaN is no such number: it means missing as it is, and equals nothing.
            tuple({m.item(): m for m in missing if m is not None and m == m}.values()),
            _valid(read_as, attributes, packed_scale, packed_offset),
        )

    @property
    def trivial(self) -> bool:
        """Whether stored numbers are the values."""
        return self[1:] == (1.0, 0.0, (), (-np.inf, np.inf))

    def unpack(self, stored: np.ndarray) -> np.ndarray:
        """Returns the values of `stored`: a float, float64 where it was scaled."""
        # _Unsigned changes the meaning of the bits, not of the numbers.
        if stored.dtype.kind != self.dtype.kind:
            stored = stored.view(self.dtype.newbyteorder(stored.dtype.byteorder))
        if self.trivial:
            return stored
        if (self.scale, self.offset) != (1.0, 0.0):
            # Added in float64: beside a large offset float32 would round the steps.
            values = stored * np.float64(self.scale) + self.offset
        else:
            # A copy, in which missing ones may become NaN.
            values = stored.astype(np.promote_types(stored.dtype, np.float32))
        for number in self.missing:
            values[stored == number] = np.nan
        low, high = self.valid
        if low > -np.inf or high < np.inf:
            values[(stored < low) | (stored > high)] = np.nan
        return values

    def unpack_into(self, out: np.ndarray, stored: np.ndarray) -> None:
        """Like `unpack`, into `out`, portion by portion."""
        if not (out.flags.c_contiguous and stored.flags.c_contiguous):
            out[...] = self.unpack(stored)
            return
        values, numbers = out.reshape(-1), stored.reshape(-1)
        for start in range(0, numbers.size, _PORTION):
            portion = slice(start, start + _PORTION)
            values[portion] = self.unpack(numbers[portion])


def _signedness(dtype: np.dtype, attributes: Mapping[str, Any]) -> np.dtype:
    """`_Unsigned` says how bits are meant where a format lacks the other integers."""
    unsigned = str(attributes.get('_Unsigned', '')).lower()
    if dtype.kind == 'i' and unsigned == 'true':
        return np.dtype(f'u{dtype.itemsize}')
    if dtype.kind == 'u' and unsigned == 'false':
        return np.dtype(f'i{dtype.itemsize}')
    return dtype


def _numbers(attributes: Mapping[str, Any], name: str) -> np.ndarray:
    """Returns an attribute as numbers, whatever it was spelt as."""
    try:
        found = np.atleast_1d(np.asarray(attributes.get(name, ()))).ravel()
        return found.astype(np.float64) if found.dtype.kind not in 'iufb' else found
    except (TypeError, ValueError):
        raise ValueError(
            f'expected numbers in the attribute {name}, found {attributes[name]!r}; '
            'correct or remove it'
        ) from None


def _number(attributes: Mapping[str, Any], name: str, default: float) -> float:
    found = _numbers(attributes, name)
    return float(found[0]) if found.size else default


def _as_stored(number: np.number, dtype: np.dtype) -> np.generic | None:
    """Returns a missing value as it looks in the store; None if it cannot be there."""
    if dtype.kind not in 'iu':
        with np.errstate(over='ignore'):  # 1e20 is infinite in float16.
            return dtype.newbyteorder('=').type(number)
    if not np.isfinite(number) or number != np.round(number):
        return None
    limits, bits = np.iinfo(dtype), 8 * dtype.itemsize
    # -1 is 255 where `_Unsigned` is beside a fill value of the signed type.
    for shifted in (int(number), int(number) + 2**bits, int(number) - 2**bits):
        if limits.min <= shifted <= limits.max:
            return dtype.newbyteorder('=').type(shifted)
    return None


def _valid(
    dtype: np.dtype, attributes: Mapping[str, Any], scale: float, offset: float
) -> tuple[float, float]:
    """Returns the valid range in stored numbers.

    It is given in these, except that floats beside packed integers mean values (NetCDF
    Users Guide: the type of the range tells).
    """
    pair = _numbers(attributes, 'valid_range')
    bounds = [-np.inf, np.inf]
    for place, name in enumerate(('valid_min', 'valid_max')):
        found = pair[place:][:1] if pair.size == 2 else _numbers(attributes, name)
        if not found.size:
            continue
        bound = float(found[0])
        if dtype.kind in 'iu':
            if found.dtype.kind == 'f' and (scale, offset) != (1.0, 0.0):
                # Rounded against the rounding of the division.
                bound = float(np.round((bound - offset) / scale, 6))
                # The least value is the largest stored number where the scale is
                # negative.
                place = place if scale > 0 else 1 - place
            elif (as_stored := _as_stored(found[0], dtype)) is not None:
                bound = float(as_stored)
        bounds[place] = bound
    low, high = bounds
    return low, high


class ContradictionError(ValueError):
    """Two stored numbers stand for one value, and differ."""


class AnyVariable(Protocol):
    """A variable whose values can be read, from one array or from several.

    Attributes:
      name: its name.
      dims: canonical names of its axes, in stored order.
      attributes, dtype: as stored.
      shape, chunks: sizes of the axes and of what is stored together.
    """

    name: str
    dims: tuple[str, ...]
    attributes: Mapping[str, Any]
    dtype: np.dtype
    shape: tuple[int, ...]
    chunks: tuple[int, ...]

    def read(self, box: tuple[slice, ...]) -> np.ndarray:
        """Returns the values of a box of the stored array, NaN where missing."""

    def version(self, box: tuple[slice, ...]) -> Iterator[str] | None:
        """Returns what changes when the values of a box may have: see `RawVariable`."""


class DecodedVariable:
    """One stored variable, read as values.

    A chunk that was never written is missing, whatever the fill value is, with one
    exception: Zarr also leaves out chunks that hold nothing but the fill value, and a
    whole chunk of zeros is ordinary for a mask, an orography, an amount of rain, sea
    ice or the sun at night. So an absent chunk reads as its fill value 0 for a field
    that never changes (unless not one chunk of it is there), and for a variable that
    is no prognostic of the table and no temperature, pressure, geopotential or speed.
    No chunk of wind or humidity is exactly 0 throughout. Stores whose fill value means
    missing (NaN, as xarray writes them) leave no room for doubt.

    Attributes:
    Attributes are those of `AnyVariable`; axes of one that the stored array lacks (the
    time of a forecast of one start) stand before the others.
    """

    def __init__(
        self,
        name: str,
        raw: RawVariable,
        dims: tuple[str, ...],
        source: str,
        *,
        assumed_units: str | None = None,
    ):
        """Reads how `raw` is packed; `ValueError` names variable and store.

        `assumed_units` are meant where the array says none.
        """
        stated = raw.attributes.get('units') or assumed_units
        convert = units.to_canonical(name, stated, source)
        try:
            self._packing = Packing.of(raw.dtype, raw.attributes, convert)
        except ValueError as error:
            raise ValueError(f'{name} in {source}: {error}') from None
        self._raw: Any = raw
        self._is_direct = self._packing.trivial and isinstance(raw, DirectVariable)
        self._added = (1,) * (len(dims) - len(raw.dims))
        self.name = name
        self.dims = dims
        self.attributes = raw.attributes
        self.dtype = raw.dtype
        self.shape = (*self._added, *raw.shape)
        self.chunks = (*self._added, *raw.chunks)

    def read(self, box: tuple[slice, ...]) -> np.ndarray:
        """Returns the values of a box of the stored array, NaN where missing."""
        inner = box[len(self._added) :]
        stored = self._raw.read(inner)
        values = self._packing.unpack(stored)
        # The cheap questions first: to find holes, a source may read all once more.
        if self._is_fill_a_value and self._may_be_absent(stored, inner):
            holes = self._holes(inner)
            if holes.any():
                values = np.where(holes, np.nan, values)
        return values[(None,) * len(self._added)] if self._added else values

    @property
    def raw(self) -> RawVariable:
        """The array as it is stored."""
        return self._raw

    def read_into(self, out: np.ndarray, box: tuple[slice, ...]) -> None:
        """Like `read`, into `out`; without a copy where stored numbers are values."""
        values, inner = out[(0,) * len(self._added)], box[len(self._added) :]
        if self._is_direct and values.dtype == self.dtype:
            self._raw.read_into(values, inner)
            stored = values
        else:
            stored = self._raw.read(inner)
            self._packing.unpack_into(values, stored)
        if self._is_fill_a_value and self._may_be_absent(stored, inner):
            values[np.broadcast_to(self._holes(inner), values.shape)] = np.nan

    def version(self, box: tuple[slice, ...]) -> Iterator[str] | None:
        """Returns what changes when the values of a box may have: see `RawVariable`."""
        stored = self._raw.version(box[len(self._added) :])
        if stored is None:
            return None
        packing = f'{self._packing} {self.dtype} {self._raw.fill_value}'
        return itertools.chain([packing], stored)

    @functools.cached_property
    def is_within_float32(self) -> bool:
        """Whether no stored number is infinite in float32 that was not infinite."""
        if self.dtype.kind not in 'iu':
            return bool(self.dtype == np.float32 and self._packing.trivial)
        limits = np.array([np.iinfo(self.dtype).min, np.iinfo(self.dtype).max], float)
        # `_Unsigned` may double the range.
        bound = np.abs(2 * limits * self._packing.scale).max()
        return bool(bound + abs(self._packing.offset) < np.finfo(np.float32).max)

    @functools.cached_property
    def _is_fill_a_value(self) -> bool:
        """Whether the fill value would pass for a value."""
        fill = self._raw.fill_value
        if fill is None:
            return False
        one = np.full((1,), fill, self._raw.dtype)
        return not np.isnan(self._packing.unpack(one)).any()

    def _may_be_absent(self, stored: np.ndarray, box: tuple[slice, ...]) -> bool:
        """Whether the first number of some chunk in the box is the fill value."""
        # The first of the box, and those at which a chunk begins within it.
        firsts = [
            [0, *range(-along.start % size or size, along.stop - along.start, size)]
            for along, size in zip(box, self._raw.chunks, strict=True)
        ]
        sample = stored[np.ix_(*firsts)] if stored.size else stored
        return bool(np.any(sample == np.asarray(self._raw.fill_value, self._raw.dtype)))

    def _holes(self, box: tuple[slice, ...]) -> np.ndarray:
        if not self._whole_chunks_may_be_zero:
            return self._raw.never_written(box)
        if 'time' in self.dims:
            return np.zeros((), bool)
        whole = tuple(slice(0, size) for size in self._raw.shape)
        return np.asarray(self._raw.never_written(whole).all())

    @functools.cached_property
    def _whole_chunks_may_be_zero(self) -> bool:
        fill = np.full((1,), self._raw.fill_value, self._raw.dtype)
        if self._packing.unpack(fill)[0] != 0:
            return False
        known = VARIABLES.get(self.name)
        if known and known.role == 'both':
            return False
        if (known and known.role == 'static') or set(self.dims) <= _HORIZONTAL:
            return True
        found = known.units if known else str(self.attributes.get('units', ''))
        return not any(units.conversion(found, unit) for unit in _NEVER_ZERO)
