"""The weights of another run, with which a run begins."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from learning.checkpoint import Checkpoints
from weather.data.normalizer import Normalizer
from weather.experiment import Experiment
from weather.model.forecaster import Forecaster, Weights
from weather.model.transfer import Taken, transfer, transfer_scales
from weather.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Origin:
    """A trained run, seen from one that begins with its weights.

    Attributes:
      setup: its experiment.
      model: its forecaster, with the scales that its weights are of.
      weights: its averaged weights.
      name: run and checkpoint.
      wanted: the experiment that begins.
    """

    setup: Experiment
    model: Forecaster
    weights: Weights
    name: str
    wanted: Experiment

    @classmethod
    def read(cls, setup: Experiment) -> Origin | None:
        """Reads the run that `setup.init_from` names; None where it names none.

        Raises:
          WorkdirError: there is no such run.
          CheckpointError: all of its checkpoints are damaged.
          ValueError: its grid of states or its step is another.
        """
        if not setup.init_from:
            return None
        files = Workdir(setup.init_from)
        theirs = files.read_config()
        with Checkpoints(files.checkpoints) as saved:
            update = saved.resolve(None)
            model = Forecaster.without_data(theirs)
            items = saved.restore('forecast', model.template(), update)
            hours = saved.metadata(update)['timestep_seconds'] / 3600
            digest = saved.digest(update)
        wanted = setup.data.timestep_hours
        if wanted and wanted != hours:
            raise ValueError(
                f'expected a run with steps of {wanted:g} h in {files.path} '
                f'(init_from), found steps of {hours:g} h: tendencies of other steps '
                'are other quantities'
            )
        model, weights = model.with_items(items)
        name = f'{files.checkpoints}/{update} ({digest or "without checksums"})'
        return cls(theirs, model, weights, name, setup)

    def scaled(self, model: Forecaster) -> Forecaster:
        """The new run's forecaster, with the scales that the weights are of."""
        normalizer = transfer_scales(
            self.model.channels, self.model.normalizer, model.channels, model.normalizer
        )
        inputs = model.input_normalizer
        if inputs is not None and self.model.input_normalizer is not None:
            inputs = transfer_scales(
                self.model.inputs, self.model.input_normalizer, model.inputs, inputs
            )
        return model.replace(  # type: ignore[attr-defined]
            normalizer=normalizer, input_normalizer=inputs
        )

    def into(self, start: Weights) -> Weights:
        """The weights to begin with, of `start` where this run knows none.

        Raises:
          ValueError: nothing fits.
        """
        return jax.tree.map(np.asarray, self._taken(start).weights)

    def summary(self, model: Forecaster) -> str:
        """What is taken and what is not, in lines for the console."""
        taken = self._taken(model.init(jax.random.key(0)))
        lines = [
            f'init_from: {self.name}: {len(taken.whole)} parameters taken whole, '
            f'{len(taken.partly)} in part, {len(taken.new)} new'
        ]
        ours, theirs = self._variables(self.wanted), self._variables(self.setup)
        for words, names in (
            ('new here', [name for name in ours if name not in theirs]),
            ('not taken', [name for name in theirs if name not in ours]),
            ('in part', taken.partly),
            ('new', taken.new),
        ):
            if names:
                lines.append(f'  {words}: {", ".join(names)}')
        lines += self._other_scales(model.normalizer)
        return '\n'.join(lines)

    def _taken(self, start: Any) -> Taken:
        return transfer(self.setup, self.weights, self.wanted, start)

    def _variables(self, setup: Experiment) -> list[str]:
        return [str(c) for of in (setup.data.channels, setup.data.inputs) for c in of]

    def _other_scales(self, own: Normalizer) -> list[str]:
        """Says where the data at hand are of other scales than those of the weights."""
        shared = [c for c in self.wanted.data.channels if c in self.model.channels]
        far = []
        for channel in shared:
            ours = float(np.asarray(own.scale)[self.wanted.data.channels[channel]])
            place = self.model.channels[channel]
            theirs = float(np.asarray(self.model.normalizer.scale)[place])
            if not 0.8 < ours / theirs < 1.25:
                far.append(f'{channel} {theirs:.3g} -> {ours:.3g}')
        if not far:
            return []
        return [
            '  warning: scales of these data differ from those of the weights, which '
            f'are kept: {"; ".join(far)}'
        ]
