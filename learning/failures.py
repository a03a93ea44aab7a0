"""Failures of a training, and what it did about them: it goes back and tries again.

They are on the disk before the training goes on: what an update sees is a function of
its number and of this list, so that a training that was killed meanwhile comes to the
same end.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any

from learning import processes
from learning.addresses import Place
from learning.files import write_text


class TrainingFailed(FloatingPointError):
    """A loss, or its gradient, that no training should go on with.

    Attributes:
      update: the one whose loss it is.
      facts: loss, norm of the gradient, best loss so far; JSON types.
    """

    def __init__(self, update: int, message: str, facts: Mapping[str, Any]):
        super().__init__(message)
        self.update = update
        self.facts = dict(facts)


@dataclasses.dataclass(frozen=True)
class Failure:
    """One failure.

    Attributes:
      update: where it showed.
      back_to: the update whose checkpoint training went back to; 0 for the beginning.
      time: when, ISO 8601 UTC.
      facts: what is known of it.
      left_out: what is not to be read again, as the task names it.
    """

    update: int
    back_to: int
    time: str
    facts: Mapping[str, Any]
    left_out: Sequence[str] = ()


class Failures:
    """All failures of a run, oldest first."""

    def __init__(self, place: Place, entries: Sequence[Failure] = ()):
        self._place = place
        self.entries = list(entries)

    @classmethod
    def read(cls, place: Place) -> Failures:
        """Reads those of a run.

        Raises:
          ValueError: the file is damaged.
        """
        if not place.exists():
            return cls(place)
        try:
            found = [Failure(**entry) for entry in json.loads(place.read_text())]
        except (ValueError, TypeError) as error:
            raise ValueError(
                f'expected the list of failures of a run in {place}, found no such '
                f'thing ({error}); remove it where a crash left it: training then '
                'meets again what it had passed'
            ) from error
        return cls(place, found)

    def order(self, update: int) -> int:
        """Which order of batches update `update` (the first is 0) follows.

        0 as long as nothing has failed: another one after each failure.
        """
        return sum(entry.back_to <= update for entry in self.entries)

    def left_out(self, update: int) -> tuple[str, ...]:
        """What update `update` must not read."""
        found = [e.left_out for e in self.entries if e.back_to <= update]
        return tuple(sorted({name for names in found for name in names}))

    def changes_after(self, update: int) -> list[int]:
        """Updates beyond `update` from which on another order holds, ascending."""
        return sorted({e.back_to for e in self.entries if e.back_to > update})

    def add(
        self, failure: TrainingFailed, back_to: int, left_out: Sequence[str]
    ) -> Failure:
        """Writes a failure down."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
        entry = Failure(failure.update, back_to, now, failure.facts, tuple(left_out))
        self.entries.append(entry)
        # All processes know of it; one writes.
        if processes.is_first():
            entries = [dataclasses.asdict(entry) for entry in self.entries]
            write_text(self._place, json.dumps(entries, indent=1) + '\n')
        return entry

    def in_a_row(self, back_to: int) -> list[Failure]:
        """Failures after the checkpoint of an update, none of which was passed."""
        return [entry for entry in self.entries if entry.back_to == back_to]

    def report(self, back_to: int) -> str:
        """A table of the failures in a row, in Markdown."""
        rows = [
            f'| {entry.time} | {entry.update} | '
            + ' | '.join(_shown(entry.facts.get(name)) for name in _SHOWN)
            + f' | {", ".join(entry.left_out) or "-"} |'
            for entry in self.in_a_row(back_to)
        ]
        head = (
            '| time | update | loss | gradient | best loss | learning rate | left out |'
        )
        more = [
            f'\n## Update {entry.update}\n\n'
            + '\n'.join(
                f'- {name}: {_shown(value)}'
                for name, value in entry.facts.items()
                if name not in _SHOWN
            )
            for entry in self.in_a_row(back_to)
        ]
        return '\n'.join(
            [
                f'# Training failed {len(rows)} times after update {back_to}\n',
                head,
                '|' + ' --- |' * 7,
                *rows,
                *more,
                '',
            ]
        )


_SHOWN = ('loss', 'gradient_norm', 'best_loss', 'learning_rate')


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f'{value:.4g}'
    if isinstance(value, list):
        return ', '.join(map(_shown, value))
    return str(value)
