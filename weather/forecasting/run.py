"""A trained run, read back from its directory: all that a forecast needs."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping

import numpy as np

from learning import provenance
from learning.checkpoint import Checkpoints
from weather.experiment import Experiment
from weather.model.forecaster import Forecaster, Weights
from weather.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained model and what it was made of.

    Attributes:
      variables: its averaged parameters and batch statistics.
      timestep: length of a model step.
      provenance: config hash, checkpoint, code and data, for the attributes of files.
    """

    setup: Experiment
    model: Forecaster
    variables: Weights
    timestep: np.timedelta64
    provenance: Mapping[str, str]


def load_run(
    workdir: str | pathlib.Path,
    *,
    update: int | None = None,
    average: float | None = None,
) -> Run:
    """Reads a run for forecasting.

    Args:
      workdir: run directory.
      update: which checkpoint; by default the newest that is whole.
      average: decay of the moving average to take, one of `training.more_ema_decays`;
        by default that of `training.ema_decay`.

    Raises:
      ValueError: the run keeps no such average.
      WorkdirError: no run there, or the checkpoint is of another one.
      FileNotFoundError: no such checkpoint.
      CheckpointError: it, or every one, is damaged.
    """
    files = Workdir(workdir)
    setup = files.read_config()
    item = _item_of(average, setup)
    with Checkpoints(files.checkpoints) as checkpoints:
        update = checkpoints.resolve(update)
        metadata = checkpoints.metadata(update)
        files.check_checkpoint(metadata)
        # Scales and statics come with the checkpoint: forecasts need no training data.
        model = Forecaster.without_data(setup)
        template = model.template()
        items = checkpoints.restore('forecast', template, update)
        if item is not None:
            weights = checkpoints.restore(item, template['variables'], update)
            items = {**items, 'variables': weights}
        digest = checkpoints.digest(update)
    model, weights = model.with_items(items)
    return Run(
        setup=setup,
        model=model,
        variables=weights,
        timestep=np.timedelta64(metadata['timestep_seconds'], 's'),
        provenance={
            'title': f'Forecasts of spherecast, run {files.path.name}',
            'config_hash': setup.digest,
            'checkpoint': f'{files.checkpoints.name}/{update}',
            'checkpoint_digest': digest,
            'training_data': setup.data.store,
            'average': f'moving average of decay {average or setup.training.ema_decay}',
            'num_parameters': f'{metadata["num_parameters"]:,}',
            'training_code': f'{metadata["code_version"]}, {metadata["git_commit"]}',
            'code_version': provenance.code_version(),
            'git_commit': provenance.git_commit(),
        },
    )


def _item_of(average: float | None, setup: Experiment) -> str | None:
    """Which item of a checkpoint holds an average; None for that of forecasts."""
    training = setup.training
    if average is None or average == training.ema_decay:
        return None
    if average not in training.more_ema_decays:
        kept = ', '.join(map(str, (training.ema_decay, *training.more_ema_decays)))
        raise ValueError(
            f'expected a moving average that the run keeps, one of {kept}, got '
            f'{average:g}; training.more_ema_decays says which are kept'
        )
    return f'average_{average}'
