"""A trained run, read back from its directory: all that a forecast needs."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from learning import provenance
from learning.checkpoint import Checkpoints
from weather.data.forcings import POSITIONS
from weather.data.normalizer import Normalizer
from weather.experiment import Experiment
from weather.model.forecast_model import ForecastModel, Variables
from weather.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained model and what it was made of.

    Attributes:
      setup: the experiment.
      model: the model.
      variables: its averaged parameters and batch statistics.
      timestep: length of a model step.
      provenance: config hash, checkpoint, code and data, for the attributes of files.
    """

    setup: Experiment
    model: ForecastModel
    variables: Variables
    timestep: np.timedelta64
    provenance: Mapping[str, str]


def load_run(workdir: str | pathlib.Path, *, update: int | None = None) -> Run:
    """Reads a run for forecasting.

    Args:
      workdir: the run directory that `scripts/train.py` filled.
      update: which checkpoint; by default the newest.

    Raises:
      WorkdirError, FileNotFoundError: no run there, or no such checkpoint.
    """
    files = Workdir(workdir)
    setup = files.read_config()
    with Checkpoints(files.checkpoints) as checkpoints:
        update = checkpoints.resolve(update)
        metadata = checkpoints.metadata(update)
        model = _empty_model(setup)
        parts = checkpoints.restore_forecast(_template(model), update)
        # Checkpoints have checksums, and with them a digest, from version 0.2 on.
        digest = getattr(checkpoints, 'digest', lambda update: '')(update)
    model = dataclasses.replace(
        model, normalizer=Normalizer(**parts['normalizer']), statics=parts['statics']
    )
    return Run(
        setup=setup,
        model=model,
        variables=parts['variables'],
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


def _empty_model(setup: Experiment) -> ForecastModel:
    """The model without the numbers that come from data."""
    num_channels = len(setup.data.channels)
    scales = np.ones(num_channels, np.float32)
    num_statics = len(setup.data.statics) + len(POSITIONS)
    statics = np.zeros((*setup.grid.shape, num_statics), np.float32)
    return ForecastModel.create(setup, Normalizer(scales, scales, scales), statics)


def _template(model: ForecastModel) -> dict:
    """Shapes, dtypes and shardings of what a forecast reads from a checkpoint."""
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    template = {
        'variables': jax.eval_shape(model.init, jax.random.key(0)),
        'normalizer': {
            name: jnp.asarray(values) for name, values in vars(model.normalizer).items()
        },
        'statics': model.statics,
    }
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        template,
    )
