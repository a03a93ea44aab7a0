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


def load_run(workdir: str | pathlib.Path, *, update: int | None = None) -> Run:
    """Reads a run for forecasting.

    `update` says which checkpoint; by default the newest that is whole.

    Raises:
      WorkdirError: no run there, or the checkpoint is of another one.
      FileNotFoundError: no such checkpoint.
      CheckpointError: it, or every one, is damaged.
    """
    files = Workdir(workdir)
    setup = files.read_config()
    with Checkpoints(files.checkpoints) as checkpoints:
        update = checkpoints.resolve(update)
        metadata = checkpoints.metadata(update)
        files.check_checkpoint(metadata)
        # Scales and statics come with the checkpoint: forecasts need no training data.
        model = Forecaster.without_data(setup)
        items = checkpoints.restore('forecast', model.template(), update)
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
            'num_parameters': f'{metadata["num_parameters"]:,}',
            'training_code': f'{metadata["code_version"]}, {metadata["git_commit"]}',
            'code_version': provenance.code_version(),
            'git_commit': provenance.git_commit(),
        },
    )
