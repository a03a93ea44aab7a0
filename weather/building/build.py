"""Builds a prepared store: check, plan, run, verify, finish.

What is at the output decides what is done: nothing there, a new store is begun; an
unfinished one of the same plan, it goes on; a finished one of the same plan, there is
nothing to do; anything else is refused, or replaced if it is this project's and that is
asked for. The metadata of the root are written when everything is there.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import logging
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from learning.files import MARK, is_full
from learning.provenance import code_version
from weather.building import layout, verify
from weather.building.engine import Engine, run_in_threads
from weather.building.layout import METADATA, SUMMARY, Place
from weather.building.output import (
    PLAN,
    Wanted,
    attributes_of,
    check_apart,
    locked,
    summary_metadata,
    whole_path,
)
from weather.building.packing import Packing
from weather.building.plan import Plan
from weather.building.planning import absent_periods, accumulated, describe, make_plan
from weather.building.tasks import ERROR_COLUMNS, Workshop
from weather.data.checks import check_mean
from weather.data.prepared_climatology import write_into_store
from weather.data.record_writer import RecordWriter
from weather.experiment import Experiment
from weather.outputs import PREPARED
from weather.variables import Channel

_LOGGER = logging.getLogger(__name__)


def build_store(
    setup: Experiment,
    sources: Sequence[str],
    output: str = '',
    *,
    engine: Engine = run_in_threads,
    overwrite: bool = False,
) -> str:
    """Makes the store of an experiment, or goes on with it.

    Args:
      setup: its `data` says what is wanted, its `prepare` how it is made.
      sources: paths, glob patterns or addresses of atmospheres.
      output: path or address of the store; that of the experiment where empty.
      engine: what runs the tasks.
      overwrite: whether a prepared store of another plan, or a finished one, may be
        replaced. It is removed first: both may not fit.

    Returns:
      What was made, in words.

    Raises:
      OutputError: something is at the output that must stay.
      ValueError: the sources lack something, cannot be read, or do not fit.
      LockedError: another process prepares the same store.
    """
    output = os.path.expanduser(output or setup.data.store).removeprefix('file://')
    sources = [whole_path(source) for source in sources]
    check_apart(output, sources)
    setup = setup.with_changes({'data.store': output})
    with locked(output) as scratch:
        plan = make_plan(setup, sources, output)
        wanted = Wanted(plan, overwrite)
        if wanted.is_finished():
            _check_whole(plan)
            done = f'{output} is finished, of the same plan: nothing to do'
            # A run that was killed after the store was finished, or wanted none.
            return '\n'.join([done, *_climatology(plan, scratch)])
        _LOGGER.info('%s', describe(plan))
        plan = wanted.begin()
        record = lay_out(plan)
        _run(plan, engine)
        summary = _finish(plan, record)
        Workshop.close()
        return '\n'.join([*summary, *_climatology(plan, scratch), *_how_to_go_on(plan)])


def _check_whole(plan: Plan) -> None:
    """Refuses a finished store from which a file has gone since."""
    lacking = verify.missing_files(plan)
    if lacking:
        name, files = next(iter(lacking.items()))
        raise ValueError(
            f'expected all files of {plan.output}, found '
            f'{sum(map(len, lacking.values()))} missing, the first {name}/{files[0]}: '
            'removed since it was finished; put them back, or say --overwrite to build '
            'it anew'
        )


def lay_out(plan: Plan) -> RecordWriter:
    """Makes all arrays, and writes those that are small; again changes nothing."""
    place, setup = plan.place, plan.experiment
    described = plan.describe()
    # The first of all: it tells whose the rest is.
    if attributes_of(place, SUMMARY, METADATA) is None:
        place.put(summary_metadata(described, plan.block), SUMMARY, METADATA)
    num_levels = {
        name: (len(plan.axis) if of else 1) for name, of in plan.levels.items()
    }
    record = RecordWriter.create(
        place.address,
        variables=num_levels,
        num_times=plan.times.size,
        block=plan.block,
        attributes={MARK: PREPARED.name, PLAN: described},
        storage_options=place.options,
    )
    layout.write_coordinates(place, plan.times, plan.axis, setup.grid)
    for name in plan.levels:
        content = layout.field_metadata(
            name,
            plan.shape(name),
            packing=plan.packing[name],
            compression=setup.prepare.compression,
            shard_times=setup.prepare.shard_times,
        )
        place.put(content, name, METADATA)
        if plan.packing[name] != Packing():
            shape = plan.times.size, num_levels[name]
            for column in ERROR_COLUMNS:
                content = layout.column_metadata(column, shape, plan.block)
                place.put(content, SUMMARY, name, column, METADATA)
    _write_statics(plan)
    return record


def _write_statics(plan: Plan) -> None:
    place, workshop = plan.place, Workshop.of(plan)
    for name in workshop.setup.data.statics:
        number = workshop.found[name][0]
        source = workshop.sources[number]
        field = source.dataset[name]
        # Which repeats it for every time: any is as good.
        field = field.isel(time=0) if 'time' in field.dims else field
        values = np.asarray(
            workshop.regridder(number, name).scalars(field.values[None, None]),
            np.float32,
        )[0, 0]
        if not np.isfinite(values).all():
            raise ValueError(
                f'expected finite values of the static {name} in {source.address}, '
                f'found {np.mean(~np.isfinite(values)):.1%} missing; leave it out of '
                'config.data.statics, or take it from another --source'
            )
        weights = workshop.setup.grid.area_weights
        mean = float(values.mean(axis=1, dtype=np.float64) @ weights / weights.size)
        check_mean(Channel(name), mean, source.address)
        content = layout.field_metadata(
            name, values.shape, compression=workshop.setup.prepare.compression
        )
        place.put(content, name, METADATA)
        place.array(name)[:] = values


def _run(plan: Plan, engine: Engine) -> None:
    """Runs what is not done, and what is said to be done and has no file."""
    try:
        engine(plan, verify.unfinished(plan))
        missing = verify.missing_files(plan)
        if again := verify.tasks_of(plan, missing):
            _LOGGER.info('files of %s are missing: made again', ', '.join(missing))
            # One after the other: the record may be joined already.
            run_in_threads(dataclasses.replace(plan, num_threads=1), again)
            missing = verify.missing_files(plan)
    except (OSError, RuntimeError) as error:
        if not plan.place.is_local or not is_full(error, plan.output):
            raise
        raise OSError(
            f'cannot write {plan.output}: no space is left on its disk; what is done '
            'is kept: make room, and run the same command'
        ) from error
    if missing or (left := verify.unfinished(plan)):
        what = missing or [f'{task.names} from {task.start}' for task in left]
        raise ValueError(
            f'expected all of {plan.output} to be written, found missing: {what}; run '
            'the same command again, it goes on'
        )


def _finish(plan: Plan, record: RecordWriter) -> list[str]:
    """Joins the record, makes the root, and says what was made."""
    place, setup = plan.place, plan.experiment
    _sweep(place)
    record.finish()
    found = {name: verify.findings(plan, name) for name in plan.levels}
    errors = {
        name: {
            'max': float(of.largest.max()),
            'rms': float(of.rms.max()),
            'rms_share_of_std': float(of.share.max()),
        }
        for name, of in found.items()
        if plan.packing[name] != Packing()
    }
    attributes = {
        MARK: PREPARED.name,
        'Conventions': 'CF-1.11',
        'title': 'Atmosphere prepared for training',
        'source': ', '.join(plan.sources),
        'history': f'spherecast {code_version()}: prepare_data.py, '
        f'{setup.prepare.regridding} regridding',
        'software': f'spherecast {code_version()}',
        'config_digest': setup.digest,
        'first_time': str(plan.times[0].astype('datetime64[s]')),
        'last_time': str(plan.times[-1].astype('datetime64[s]')),
        'accumulated_over_a_step': accumulated(plan),
        'packing_error': json.dumps(errors),
        PLAN: json.dumps(plan.describe()),
        'created': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    }
    names = ['time', *(['level'] if plan.axis else []), 'latitude', 'longitude']
    names += [*plan.levels, *setup.data.statics]
    place.put(layout.root_metadata(place, names, attributes), METADATA)
    return _summary(plan, found)


def _sweep(place: Place) -> None:
    """Removes what killed processes left half-written beside what they wrote."""
    if not place.is_local:
        return
    for folder, _, names in os.walk(place.root):
        for name in names:
            # Hidden names are `learning.files`' own, the others those of Zarr.
            if name.endswith('.partial') or name.startswith('.'):
                os.unlink(os.path.join(folder, name))


def _summary(plan: Plan, found: Mapping[str, verify.Findings]) -> list[str]:
    place = plan.place
    num_bytes = int(place.files.du(place.root))
    invalid = ', '.join(
        f'{name} {of.num_times} times ({of.num_missing} values)'
        for name, of in found.items()
        if of.num_missing
    )
    lines = [
        f'{plan.output} is complete: {plan.times.size} times, '
        f'{sum(plan.left_out.values())} left out, {num_bytes / 2**30:.3g} GiB, every '
        'file there and read back',
        f'not finite: {invalid or "nothing"}',
    ]
    for name, of in found.items():
        if plan.packing[name] != Packing():
            worst = int(np.argmax(of.share))
            at = f' at {plan.levels[name][worst]:g} hPa' if plan.levels[name] else ''
            lines.append(
                f'{name} as {plan.packing[name].kind}: RMS error {of.rms[worst]:.2g}, '
                f'{of.share[worst]:.2%} of the standard deviation{at}, the worst '
                f'level; largest {of.largest.max():.2g}'
            )
    return lines


def _climatology(plan: Plan, scratch: pathlib.Path | None) -> list[str]:
    if plan.experiment.prepare.climatology == 'no':
        return []
    return [write_into_store(plan.experiment, scratch=scratch)]


def _how_to_go_on(plan: Plan) -> list[str]:
    if absent := absent_periods(plan):
        return [f'warning: {absent}: a training on it, or its test, will stop there']
    return [
        'train: python scripts/train.py --config=CONFIG --workdir=RUN '
        f'--config.data.store={plan.output}'
    ]
