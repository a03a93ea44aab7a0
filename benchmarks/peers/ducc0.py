"""ducc0 on the same grid, a field at a time, as its interface has it.

`'forward'` and `'inverse'` are `analysis_2d` and `synthesis_2d` with a thread per core.
The variant `'tuned'` is the fastest use of ducc0 that was found for many fields below
the largest degree: fields side by side with one thread each, and as forward transform
`adjoint_synthesis_2d` with the quadrature weights as ring factors, which is exact here
and spares the upsampling by which `analysis_2d` reaches higher degrees.
"""

import concurrent.futures
import functools
import importlib.metadata
from collections.abc import Callable
from typing import Any

import ducc0
import numpy as np

from benchmarks.cases import Case
from benchmarks.harness import num_cores
from benchmarks.peers import Prepared, measures

CORES = num_cores()
# Made once: starting threads is not to be timed.
POOL = concurrent.futures.ThreadPoolExecutor(CORES)


class FieldsOfSpin:
    """The fields of one spin: maps `[field, component, lat, lon]` and their alm."""

    def __init__(self, case: Case, *, spin: int):
        self.count = case.fields[spin]
        components = 1 if spin == 0 else 2
        self._options = dict(spin=spin, lmax=case.max_degree, geometry='CC')
        weights = ducc0.sht.get_gridweights('CC', case.num_lat)
        self._solid_angles = np.asarray(weights) / case.num_lon
        self.maps = measures.normal(self.count, components, case.num_lat, case.num_lon)
        self.alms = _random_alms(self.count, components, case.max_degree, spin)
        # Results have their place beforehand: no allocation is timed.
        self.new_maps = np.empty_like(self.maps)
        self.new_alms = np.empty_like(self.alms)

    def analyse(self, field: int, *, nthreads: int = CORES) -> None:
        """Map to coefficients."""
        self._to_alm(ducc0.sht.analysis_2d, self.maps, field, nthreads=nthreads)

    def integrate(self, field: int, *, nthreads: int = CORES) -> None:
        """The same by plain quadrature."""
        quadrature = functools.partial(
            ducc0.sht.adjoint_synthesis_2d, ringfactor=self._solid_angles
        )
        self._to_alm(quadrature, self.maps, field, nthreads=nthreads)

    def synthesise(self, field: int, *, nthreads: int = CORES) -> None:
        """Coefficients to map."""
        ducc0.sht.synthesis_2d(
            alm=self.alms[field],
            map=self.new_maps[field],
            nthreads=nthreads,
            **self._options,
        )

    def round_trip(self, analyse: Callable[..., None]) -> dict[str, float]:
        """Errors of all fields, with one of the two analyses."""
        for field in range(self.count):
            self.synthesise(field)
        # An analysis reads `maps`: for this once, those that were synthesised.
        given, self.maps = self.maps, self.new_maps
        for field in range(self.count):
            analyse(self, field)
        self.maps = given
        return measures.round_trip(self.alms, self.new_alms)

    def _to_alm(self, function, maps: np.ndarray, field: int, *, nthreads: int) -> None:
        function(
            map=maps[field],
            alm=self.new_alms[field],
            nthreads=nthreads,
            **self._options,
        )


def versions() -> dict[str, str]:
    """Of ducc0."""
    return {'ducc0': importlib.metadata.version('ducc0')}


def prepare(case: dict[str, Any]) -> Prepared:
    """Operations `'forward'` and `'inverse'`, and these `'tuned'`."""
    wanted = Case.from_json(case)
    spins = {spin: FieldsOfSpin(wanted, spin=spin) for spin in wanted.spins}
    sets = list(spins.values())
    return Prepared(
        operations={
            'forward': lambda: _in_turn(sets, FieldsOfSpin.analyse),
            'inverse': lambda: _in_turn(sets, FieldsOfSpin.synthesise),
            'forward tuned': lambda: _side_by_side(sets, FieldsOfSpin.integrate),
            'inverse tuned': lambda: _side_by_side(sets, FieldsOfSpin.synthesise),
        },
        facts={
            'round_trip': _round_trips(spins, FieldsOfSpin.analyse),
            'variants': {
                'tuned': {'round_trip': _round_trips(spins, FieldsOfSpin.integrate)}
            },
        },
    )


def _round_trips(spins: dict[int, FieldsOfSpin], analyse) -> dict[str, Any]:
    return {str(spin): fields.round_trip(analyse) for spin, fields in spins.items()}


def _in_turn(sets: list[FieldsOfSpin], function: Callable[..., None]) -> None:
    for fields in sets:
        for field in range(fields.count):
            function(fields, field)


def _side_by_side(sets: list[FieldsOfSpin], function: Callable[..., None]) -> None:
    single = functools.partial(function, nthreads=1)
    jobs = [
        POOL.submit(single, fields, field)
        for fields in sets
        for field in range(fields.count)
    ]
    for job in jobs:
        job.result()


def _random_alms(count: int, components: int, max_degree: int, spin: int) -> np.ndarray:
    """`[field, component, index]` in healpy's order: by order, then by degree."""
    square = measures.real_field_coefficients(
        count, components, max_degree=max_degree, spin=spin
    )
    order, degree = np.triu_indices(max_degree + 1)
    return np.ascontiguousarray(square[..., degree, order])
