"""What a validation says of a model: its loss, and errors as forecasters read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from weather.model.forecaster import Forecaster
from weather.variables import HEADLINE_FIELDS

_HOUR = np.timedelta64(1, 'h')


class Validation(NamedTuple):
    """A validation.

    Attributes:
      parts: `[step]` of the loss.
      named: RMSE by name, such as `validation_rmse_Z500_24h`, SI units.
    """

    parts: np.ndarray
    named: Mapping[str, float]


def headline_errors(
    mean_squares: np.ndarray, model: Forecaster, timestep: np.timedelta64
) -> dict[str, float]:
    """RMSE of the headline fields, of a wind that of the vector, in SI units.

    Args:
      mean_squares: `[step, channel]`, mean squared errors of normalised states,
        weighted by area.
      model: whose scales and channels they have.
      timestep: length of a step.

    Returns:
      By field and lead time, for each field that the model forecasts.
    """
    squares = mean_squares * np.square(np.asarray(model.normalizer.scale))
    found = {}
    for name, (level, components) in HEADLINE_FIELDS.items():
        wanted = [(component, level) for component in components]
        if any(channel not in model.channels for channel in wanted):
            continue
        columns = [model.channels[channel] for channel in wanted]
        errors = np.sqrt(squares[:, columns].sum(axis=1))
        for step, error in enumerate(errors, start=1):
            hours = step * timestep / _HOUR
            found[f'validation_rmse_{name.replace(" ", "")}_{hours:g}h'] = float(error)
    return found
