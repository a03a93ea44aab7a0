"""Statistics of repeated measurements."""

import dataclasses
from collections.abc import Callable, Hashable, Mapping
from typing import Protocol, TypeVar

import numpy as np

# A turn lasts at least so long: far above the clock's and the scheduler's grain.
LEAST_SECONDS = 0.05
# A call slower than this hides what the caches lost during the others' turns.
WARM_UP_BELOW_SECONDS = 0.25
MOST_CALLS = 10_000

Label = TypeVar('Label', bound=Hashable)


class Clock(Protocol):
    """Runs one operation a few times and says what it took."""

    def __call__(self, *, calls: int, warm_ups: int) -> float:
        """Seconds per call, over `calls` calls after `warm_ups` untimed ones."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """One number, measured once per round.

    Attributes:
      values: `[round]`; seconds per call, or a ratio of two such.
    """

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median over the rounds."""
        return float(np.median(self.values))

    @property
    def minimum(self) -> float:
        """Smallest of the rounds."""
        return float(np.min(self.values))

    @property
    def spread(self) -> float:
        """Interquartile range over median, dimensionless."""
        low, high = np.percentile(self.values, [25, 75])
        return float((high - low) / self.median)

    def __add__(self, other: 'Sample') -> 'Sample':
        """Round by round, e.g. forward plus inverse."""
        return Sample(
            tuple(a + b for a, b in zip(self.values, other.values, strict=True))
        )

    def map(self, function: Callable[[float], float]) -> 'Sample':
        """Each value changed alike, e.g. seconds into GFLOP/s."""
        return Sample(tuple(function(value) for value in self.values))

    def summary(self) -> dict[str, float | list[float]]:
        """Median, minimum, spread and the values, for JSON."""
        return {
            'median': self.median,
            'minimum': self.minimum,
            'spread': self.spread,
            'values': list(self.values),
        }


def ratio(numerator: Sample, denominator: Sample) -> Sample:
    """Quotients within a round, in which the machine was about equally fast."""
    pairs = zip(numerator.values, denominator.values, strict=True)
    return Sample(tuple(a / b for a, b in pairs))


def take_turns(
    clocks: Mapping[Label, Clock], *, rounds: int, least_seconds: float = LEAST_SECONDS
) -> dict[Label, Sample]:
    """Times operations alternately: A B C, A B C, ...

    Args:
      clocks: `{label: clock}`, in the order of their turns.
      rounds: How often each has its turn.
      least_seconds: How long a turn lasts, at least; a turn is at least one call.

    Returns:
      `{label: seconds per call, once per round}`.
    """
    calls = {label: _calls(clock, least_seconds) for label, clock in clocks.items()}
    values: dict[Label, list[float]] = {label: [] for label in clocks}
    for _ in range(rounds):
        for label, clock in clocks.items():
            values[label].append(clock(**calls[label]))
    return {label: Sample(tuple(seconds)) for label, seconds in values.items()}


def _calls(clock: Clock, least_seconds: float) -> dict[str, int]:
    """How many calls make a turn, from two single ones after a warm-up."""
    seconds = min(clock(calls=1, warm_ups=1), clock(calls=1, warm_ups=0))
    # Never 0, not even where the clock did not move.
    calls = int(np.ceil(least_seconds / max(seconds, 1e-9)))
    return {
        'calls': min(max(calls, 1), MOST_CALLS),
        'warm_ups': int(seconds < WARM_UP_BELOW_SECONDS),
    }
