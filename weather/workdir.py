"""The run directory: its files, and the rule that it belongs to one experiment."""

from __future__ import annotations

import json
import pathlib

from learning.files import replacing
from weather.experiment import Experiment, differences


class WorkdirError(ValueError):
    """A run directory that belongs to another experiment, or to none."""


class Workdir:
    """Paths of a run directory.

    Attributes:
      path: the directory.
    """

    def __init__(self, path: str | pathlib.Path):
        if '://' in str(path):
            raise WorkdirError(
                f'expected a local run directory, got {path}; train into a local one '
                'and copy it'
            )
        self.path = pathlib.Path(path)

    @property
    def config(self) -> pathlib.Path:
        """The experiment, as JSON."""
        return self.path / 'config.json'

    @property
    def statistics(self) -> pathlib.Path:
        """Mean, spread and tendency of the channels, netCDF."""
        return self.path / 'statistics.nc'

    @property
    def invalid_times(self) -> pathlib.Path:
        """Times that training and validation leave out because of NaN, JSON."""
        return self.path / 'invalid_times.json'

    @property
    def climatology(self) -> pathlib.Path:
        """Climatology of the training period, Zarr."""
        return self.path / 'climatology.zarr'

    @property
    def checkpoints(self) -> pathlib.Path:
        """Orbax checkpoints."""
        return self.path / 'checkpoints'

    @property
    def tensorboard(self) -> pathlib.Path:
        """TensorBoard event files."""
        return self.path / 'tensorboard'

    @property
    def metrics(self) -> pathlib.Path:
        """Losses by update, CSV."""
        return self.path / 'metrics.csv'

    @property
    def forecasts(self) -> pathlib.Path:
        """Forecasts, one netCDF file per start."""
        return self.path / 'forecasts'

    @property
    def scores(self) -> pathlib.Path:
        """Scores, CSV."""
        return self.path / 'scores.csv'

    @property
    def report(self) -> pathlib.Path:
        """The report, one HTML page."""
        return self.path / 'report.html'

    def claim(self, setup: Experiment) -> None:
        """Makes the directory that of `setup`, or checks that it is already.

        Raises:
          WorkdirError: the directory holds another experiment; says how they differ.
        """
        if self.config.exists():
            changed = differences(self.read_config().to_dict(), setup.to_dict())
            if changed:
                raise WorkdirError(
                    f'{self.path} holds a run of another config (there -> here): '
                    f'{"; ".join(changed)}. Give another --workdir, or set these keys '
                    'as they were there'
                )
            return
        with replacing(self.config) as temporary:
            temporary.write_text(json.dumps(setup.to_dict(), indent=2) + '\n')

    def read_config(self) -> Experiment:
        """The experiment of the run.

        Raises:
          WorkdirError: there is none.
        """
        if not self.config.exists():
            raise WorkdirError(
                f'no run in {self.path}: expected {self.config}; train first with '
                f'scripts/train.py --workdir={self.path}'
            )
        return Experiment.from_config(json.loads(self.config.read_text()))
