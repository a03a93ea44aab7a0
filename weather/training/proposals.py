"""What to change in a training that its devices cannot hold, found by compiling it."""

from __future__ import annotations

import dataclasses
import itertools
import shlex
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from learning.schema import ConfigError
from weather import experiment
from weather.training.ahead import Program, compile_update, phases
from weather.training.plan import Compile, Plan, mesh_of

Changes = Mapping[str, Any]
# Programs that are compiled, at most: each takes up to minutes.
_MOST = 16


@dataclasses.dataclass(frozen=True)
class Proposal:
    """What would fit, or comes nearest.

    Attributes:
      changes: of the config, by key.
      program: with them.
      fits: whether it does.
    """

    changes: Changes
    program: Program
    fits: bool

    @property
    def flags(self) -> str:
        """The changes as a command line has them."""
        changes = self.changes.items()
        return ' '.join(f'--config.{k}={shlex.quote(str(v))}' for k, v in changes)


def propose(plan: Plan, compiled: Compile = compile_update) -> Proposal | None:
    """Finds changes with which the largest phase fits, by compiling it.

    First those that learn the same (what is computed anew, the mesh, sharded
    parameters), then a batch in parts, whose norms see parts, then a smaller one.

    Returns:
      What fits; else what comes nearest; None where nothing can be changed.
    """
    number = list(plan.needs).index(plan.largest)

    def attempt(changes: Changes) -> Proposal | None:
        return _try(plan, changes, number, compiled)

    tried: list[Proposal] = []
    for changes in itertools.islice(_rungs(plan), _MOST):
        found = attempt(changes)
        if found is not None and found.fits:
            return _without_needless(plan, found, attempt)
        tried += [found] if found is not None else []
    return min(tried, key=lambda found: found.program.total, default=None)


def _rungs(plan: Plan) -> Iterator[Changes]:
    """Changes to try, the most that learn the same at once and first."""
    same = _harmless(plan)
    if same:
        yield same
    settings = plan.largest.phase.settings
    data = same.get('devices.data', plan.mesh[0])
    rows = settings.batch_size // data
    for parts in _divisors(rows):
        if parts > settings.accumulate:
            yield same | _in_stage(plan, {'accumulate': parts})
    for fewer in reversed(_divisors(rows)[:-1]):
        batch = {'batch_size': fewer * data, 'accumulate': 1}
        yield same | _in_stage(plan, batch)


def _harmless(plan: Plan) -> dict[str, Any]:
    """All that saves memory and learns the same."""
    setup, changes = plan.setup, dict[str, Any]()
    for remat in _stronger_remat(setup.model.remat)[-1:]:
        changes['model.remat'] = remat
    for data, space in _finer_meshes(plan)[-1:]:
        changes |= {'devices.data': data, 'devices.space': space}
    if plan.machine.num_devices > 1 and setup.devices.parameters == 'replicated':
        changes['devices.parameters'] = 'sharded'
    return changes


def _without_needless(
    plan: Plan, found: Proposal, attempt: Callable[[Changes], Proposal | None]
) -> Proposal:
    """The same with less of what it fits with less of."""
    for group, less in _less(plan):
        if not group & set(found.changes):
            continue
        fewer = {k: value for k, value in found.changes.items() if k not in group}
        for changes in [dict[str, Any](), *less]:
            if not fewer | changes or fewer | changes == found.changes:
                continue
            without = attempt(fewer | changes)
            if without is not None and without.fits:
                found = without
                break
    return found


def _less(plan: Plan) -> list[tuple[set[str], list[dict[str, Any]]]]:
    """Keys that belong together, the dearest first, with what saves less than all."""
    meshes: list[dict[str, Any]] = [
        {'devices.data': data, 'devices.space': space}
        for data, space in _finer_meshes(plan)[:-1]
    ]
    remats: list[dict[str, Any]] = [
        {'model.remat': remat} for remat in _stronger_remat(plan.setup.model.remat)[:-1]
    ]
    return [
        ({'devices.parameters'}, []),
        ({'devices.data', 'devices.space'}, meshes),
        ({'model.remat'}, remats),
    ]


def _stronger_remat(remat: str) -> list[str]:
    """What keeps less than `remat`, by the order in which the schema names them."""
    field = experiment.Model.model_fields['remat']
    names = list(typing.get_args(field.annotation))
    return names[names.index(remat) + 1 :]


def _finer_meshes(plan: Plan) -> list[tuple[int, int]]:
    """Meshes that split a sample more than that of the plan."""
    (_, space), count = plan.mesh, plan.machine.num_devices
    rows, latitudes = plan.largest.phase.settings.batch_size, plan.setup.grid.num_lat
    return [
        (count // finer, finer)
        for finer in _divisors(count)
        if finer > space and latitudes % finer == 0 and rows % (count // finer) == 0
    ]


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def _in_stage(plan: Plan, values: Changes) -> dict[str, Any]:
    """Keys of the first stage as such; of a later one in the list of the others."""
    number = plan.largest.phase.stage.number
    if number == 1:
        return {f'training.{key}': value for key, value in values.items()}
    stages = plan.setup.to_dict()['training']['stages']
    stages[number - 2] |= values
    return {'training.stages': stages}


def _try(
    plan: Plan, changes: Changes, number: int, compiled: Compile
) -> Proposal | None:
    try:
        setup = plan.setup.with_changes(changes)
        phase = list(phases(setup.training))[number]
        program = compiled(setup, phase, mesh_of(setup, plan.machine))
    except (ConfigError, ValueError):
        return None  # The schema, or the mesh, does not know such a thing.
    return Proposal(changes, program, plan.machine.fits(program))
