"""Which checkpoints a run has, and which of them are whole."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Any

from learning import checksums
from learning.addresses import contents
from learning.checkpoint import UNFINISHED, CheckpointError, Checkpoints


@dataclasses.dataclass(frozen=True)
class Entry:
    """A checkpoint, looked through.

    Attributes:
      update: its number.
      problems: what is wrong with it; nothing, if it is whole.
      bytes: size of all its files.
      digest: as forecasts name it; empty where it has no checksums.
      score: by which the best are kept, if it has one.
      saved: when; UTC.
      is_resumed: whether a resume takes this one.
    """

    update: int
    problems: list[str]
    bytes: int
    digest: str
    score: float | None
    saved: datetime.datetime | None
    is_resumed: bool

    @property
    def is_damaged(self) -> bool:
        """Whether it was whole once, and is no more."""
        return bool(self.problems) and self.problems != [UNFINISHED]

    def __str__(self) -> str:
        state = self.problems[0] if self.problems else 'whole'
        if self.problems:
            more = f' (and {len(self.problems) - 1} more)' * (len(self.problems) > 1)
            state = f'{"damaged" if self.is_damaged else "unfinished"}: {state}{more}'
        score = 'none' if self.score is None else f'{self.score:.6g}'
        return (
            f'{self.update:>8}  {state}, {self.bytes:,} bytes, digest '
            f'{self.digest or "none"}, score {score}, saved '
            f'{self.saved and self.saved.strftime("%Y-%m-%d %H:%M:%S UTC")}'
            f'{", used by a resume" if self.is_resumed else ""}'
        )


def take(saved: Checkpoints) -> list[Entry]:
    """Looks through all checkpoints, oldest first."""
    problems = {update: saved.verify(update) for update in saved.updates}
    newest = max((u for u, wrong in problems.items() if not wrong), default=None)
    return [_entry(saved, u, wrong, u == newest) for u, wrong in problems.items()]


def check(entries: Sequence[Entry]) -> None:
    """Refuses to call damage none.

    Raises:
      CheckpointError: a checkpoint is damaged.
    """
    damaged = [entry.update for entry in entries if entry.is_damaged]
    if damaged:
        raise CheckpointError(
            f'of {len(entries)} checkpoints {len(damaged)} are damaged: {damaged}; put '
            'back copies of their files, or remove them'
        )


def _entry(
    saved: Checkpoints, update: int, problems: list[str], is_resumed: bool
) -> Entry:
    folder = saved.directory / str(update)
    facts: dict[str, Any] = {}
    digest = ''
    try:
        facts = dict(checksums.read(folder))
        digest = saved.digest(update)
    except (OSError, ValueError, TypeError):
        pass  # Said by `problems`, or of the first version.
    files = contents(folder)
    return Entry(
        update=update,
        problems=problems,
        bytes=sum(known.bytes for known in files.values()),
        digest=digest,
        score=_number(facts.get('score')),
        saved=_time(facts.get('saved'))
        or max((f.written for f in files.values()), default=None),
        is_resumed=is_resumed,
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _time(text: Any) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
