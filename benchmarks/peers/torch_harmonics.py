"""torch-harmonics on the same grid: scalar and vector transforms, eager.

Its fields are `[channel, lat, lon]` and `[channel, component, lat, lon]`; a vector
field is one of spin 1.
"""

import functools
import importlib.metadata
from typing import Any, NamedTuple

import torch
import torch_harmonics

from benchmarks.cases import Case
from benchmarks.harness import num_cores
from benchmarks.peers import Prepared, measures

torch.set_num_threads(num_cores())


class Pair(NamedTuple):
    """The two directions at one spin."""

    forward: torch.nn.Module
    inverse: torch.nn.Module


def versions() -> dict[str, str]:
    """Of torch and torch-harmonics."""
    names = ('torch', 'torch-harmonics')
    return {name: importlib.metadata.version(name) for name in names}


def prepare(case: dict[str, Any]) -> Prepared:
    """Operations `'forward'` and `'inverse'`."""
    wanted = Case.from_json(case)
    pairs, init_seconds = measures.timed(lambda: _create(wanted))
    fields, coefficients = _fields(wanted), _coefficients(wanted)
    operations = {
        name: functools.partial(_run, [getattr(pairs[s], name) for s in pairs], inputs)
        for name, inputs in (('forward', fields), ('inverse', coefficients))
    }
    return Prepared(
        operations=operations,
        facts={
            'init_seconds': init_seconds,
            'table_bytes': sum(_table_bytes(pair) for pair in pairs.values()),
            'round_trip': {
                str(spin): _round_trip(pair, values)
                for (spin, pair), values in zip(
                    pairs.items(), coefficients, strict=True
                )
            },
        },
    )


@torch.no_grad()
def _run(modules, inputs) -> list[torch.Tensor]:
    return [module(x) for module, x in zip(modules, inputs, strict=True)]


def _create(case: Case) -> dict[int, Pair]:
    measures.forget_caches('torch_harmonics')
    classes = {
        0: (torch_harmonics.RealSHT, torch_harmonics.InverseRealSHT),
        1: (torch_harmonics.RealVectorSHT, torch_harmonics.InverseRealVectorSHT),
    }
    # Exclusive, unlike everywhere else here.
    size = case.max_degree + 1
    options = dict(lmax=size, mmax=size, grid='equiangular')
    # Its tables are float64 until converted; the conversion in each call would cost.
    return {
        spin: Pair(
            *(make(case.num_lat, case.num_lon, **options).float() for make in both)
        )
        for spin, both in classes.items()
        if spin in case.spins
    }


def _fields(case: Case) -> list[torch.Tensor]:
    return [
        torch.from_numpy(
            measures.normal(count, *_components(spin), case.num_lat, case.num_lon)
        )
        for spin, count in case.fields.items()
    ]


def _coefficients(case: Case) -> list[torch.Tensor]:
    return [
        torch.from_numpy(
            measures.real_field_coefficients(
                count, *_components(spin), max_degree=case.max_degree, spin=spin
            )
        )
        for spin, count in case.fields.items()
    ]


def _components(spin: int) -> tuple[int, ...]:
    return () if spin == 0 else (2,)


def _table_bytes(pair: Pair) -> int:
    return sum(b.nbytes for module in pair for b in module.buffers())


def _round_trip(pair: Pair, coefficients: torch.Tensor) -> dict[str, float]:
    (field,) = _run([pair.inverse], [coefficients])
    (after,) = _run([pair.forward], [field])
    return measures.round_trip(coefficients.numpy(), after.numpy())
