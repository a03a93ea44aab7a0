"""A plan as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from weather.data.loader import GIGABYTE
from weather.training.plan import GIB, Needs, Plan
from weather.training.proposals import Proposal

_COLUMNS = (
    'stage',
    'updates',
    'steps',
    'batch',
    'device GiB',
    'host GB',
    'MB/update',
    'MB/s',
    'TFLOP/update',
    's/update',
    'days',
)


def describe(plan: Plan) -> str:
    """All that a plan says, without whether it fits."""
    setup, machine = plan.setup, plan.machine
    training = setup.training
    data, space = plan.mesh
    many = len(list(training.plan()))
    head = [
        f'{plan.num_parameters:,} parameters; {training.total_updates:,} updates in '
        f'{many} {"stage" if many == 1 else "stages"}',
        f'{machine.num_devices} devices in {machine.num_processes} processes, mesh '
        f'{data} x {space} (data x space)',
        f'checkpoints of {_gb(plan.checkpoint_bytes)} GB, '
        f'{training.keep_checkpoints} newest and {training.keep_best} best of them '
        f'kept: {_gb(plan.checkpoint_bytes * _num_kept(plan))} GB',
    ]
    rows = [_row(plan, needs) for needs in plan.needs]
    return '\n'.join([*head, '', *_table([_COLUMNS, *rows]), '', *_totals(plan)])


def _num_kept(plan: Plan) -> int:
    training = plan.setup.training
    kept = training.keep_checkpoints + training.keep_best
    if training.keep_every:
        kept += training.total_updates // training.keep_every
    return kept


def _row(plan: Plan, needs: Needs) -> tuple[str, ...]:
    phase, program = needs.phase, needs.program
    megabytes, seconds = needs.read_bytes / 1e6, needs.seconds
    return (
        str(phase.stage.number),
        f'{phase.num_updates:,.0f}',
        str(phase.num_steps),
        str(phase.settings.batch_size),
        f'{program.total / GIB:.4g}',
        _gb(needs.host_bytes),
        f'{megabytes:.4g}',
        '-' if seconds is None else f'{megabytes / seconds:.4g}',
        f'{program.flops.total / 1e12:.4g}',
        '-' if seconds is None else f'{seconds:.4g}',
        '-' if needs.days is None else f'{needs.days:.3g}',
    )


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        '  '.join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]


def _totals(plan: Plan) -> list[str]:
    largest = plan.largest.program
    lines = [
        f'a device holds at most {largest.total / GIB:.4g} GiB: state '
        f'{largest.state / GIB:.4g}, two batches {2 * largest.batch / GIB:.4g}, tables '
        f'{largest.model / GIB:.4g}, workspace {largest.workspace / GIB:.4g} (compiled '
        'for CPUs: other compilers may differ)'
    ]
    if plan.days is None:
        lines.append('time: unknown; say --rate, or --peak_tflops and --utilisation')
    else:
        lines.append(f'time: {plan.days:.3g} days, {_basis(plan)}')
        if plan.machine.read_mb_per_s is None:
            lines.append(
                'the wait for data is not in it: see MB/s, over all processes, and '
                '--read_mb_per_s'
            )
    if plan.cost is not None:
        lines.append(f'cost: {plan.cost:,.0f}')
    return lines


def _basis(plan: Plan) -> str:
    machine = plan.machine
    if machine.rate is not None:
        return f'from {machine.rate:g} updates/s in the first phase'
    return (
        f'if products of matrices reach {machine.utilisation:.0%} of '
        f'{machine.peak_tflops:g} TFLOP/s on every device'
    )


def verdict(plan: Plan, proposal: Proposal | None) -> str:
    """Why a training that does not fit is refused, and what would."""
    phase, program = plan.largest.phase, plan.largest.program
    text = (
        f'expected at most {plan.machine.hbm_gib:g} GiB on a device, got '
        f'{program.total / GIB:.4g} GiB in stage {phase.stage.number} with '
        f'{phase.num_steps} steps and batch_size={phase.settings.batch_size}'
    )
    if proposal is None:
        return f'{text}; nothing is left to split: more devices, or a smaller model'
    size = f'{proposal.program.total / GIB:.4g} GiB'
    if proposal.fits:
        return f'{text}; {size} with {proposal.flags}'
    return (
        f'{text}; no mesh, batch or rematerialisation fits, the nearest are {size} '
        f'with {proposal.flags}: more devices, or a smaller model'
    )


def _gb(num_bytes: float) -> str:
    return f'{num_bytes / GIGABYTE:.3g}'
