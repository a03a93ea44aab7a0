"""What a misspelt name may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: object, candidates: Iterable[str]) -> str:
    """Returns `', did you mean ...?'` for the nearest candidate, or an empty string."""
    nearest = difflib.get_close_matches(str(name), list(candidates), n=1, cutoff=0.5)
    return f', did you mean {nearest[0]!r}?' if nearest else ''
