"""Pieces of shell scripts that targets share."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping

# What follows an attempt is decided the same way everywhere. An attempt that a signal
# ended, or that came far enough, is no proof of a fault; nor is one whose processes did
# not all come, or did not all stay, which ends with 75.
JUDGE = r"""
# judge STATUS SECONDS: sets `verdict` to done, again or stop; counts in `errors`.
judge() {
  local status=$1 seconds=$2
  if [ "$status" -eq 0 ]; then
    verdict=done
    return
  fi
  if [ "$status" -gt 128 ] || [ "$status" -eq 75 ] \
      || [ "$seconds" -ge "$settled_seconds" ]; then
    errors=0
  else
    errors=$((errors + 1))
  fi
  verdict=again
  if [ -e "$folder/stop" ]; then
    say "stopped, as $folder/stop asks; the same launch without it goes on"
    verdict=stop
  elif [ "$errors" -ge 2 ]; then
    say "the error repeats (status $status, after $seconds s): see the log"
    verdict=stop
  elif [ "$restarts" -ge "$max_restarts" ]; then
    say "ended with $status after $restarts restarts, and no more are allowed"
    verdict=stop
  fi
}
"""
SAY = r"""
say() {
  printf '%s launch: %s\n' "$(date -u +%FT%TZ)" "$*"
}
"""


def assignments(values: Mapping[str, object]) -> str:
    """Lines that set variables."""
    return '\n'.join(f'{name}={quoted(value)}' for name, value in values.items())


def array(name: str, values: Iterable[object]) -> str:
    """A line that sets an array."""
    return f'{name}=({" ".join(map(quoted, values))})'


def filled(template: str, **parts: str) -> str:
    """The script `template` with its parts, which stand there as `@NAME@`."""
    for name, text in parts.items():
        template = template.replace(f'@{name.upper()}@', text)
    return template


def quoted(value: object) -> str:
    """A value as one word of a shell."""
    return shlex.quote(str(value))


def command(words: Iterable[object]) -> str:
    """A command, a line for every word after the first."""
    return ' \\\n    '.join(map(quoted, words))
