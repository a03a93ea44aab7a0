"""What one library does in its worker process: one module per library.

The contract. A module of this package imports its library at the top (a missing one
is then reported as not installed, not as an error) and has:

- `versions() -> dict[str, str]`: what was measured, `{'jax': '0.10.2', ...}`.
- `prepare(case: dict) -> Prepared`: sets one case up. `case` is whatever JSON the
  parent sent, and means what the two agree on.
- `probe() -> Prepared`, optional: the machine's own speed, see `peers.probes`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Prepared(NamedTuple):
    """One case, ready to be timed.

    Attributes:
      operations: `{name: function}`. A call does the work once and returns when it is
        done (`jax.block_until_ready`); inputs were made before, results are dropped.
        Whatever needs compiling is compiled.
      facts: `{name: value}` to report, JSON: seconds to initialise and to compile,
        round-trip errors, bytes of tables.
    """

    operations: Mapping[str, Callable[[], object]]
    facts: Mapping[str, Any]
