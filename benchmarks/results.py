"""Results on disk: JSON with every measurement, and sections of RESULTS.md.

A section stands between `<!-- NAME: begin -->` and `<!-- NAME: end -->`, and belongs
to the command that writes it: `replace_section` changes what is between and nothing
else.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

PATH = pathlib.Path(__file__).with_name('RESULTS.md')


class Target(NamedTuple):
    """A figure and what it should be.

    Attributes:
      name: What was measured.
      value: The figure, or None where it was not measured.
      bound: The limit, or None where it is for information.
      relation: '>=', '<=' or '<'.
    """

    name: str
    value: float | None
    bound: float | None
    relation: str

    @property
    def verdict(self) -> str:
        """`'pass'`, `'FAIL'`, `'info'` or `'not measured'`."""
        if self.value is None:
            return 'not measured'
        if self.bound is None:
            return 'info'
        passed = {
            '>=': self.value >= self.bound,
            '<=': self.value <= self.bound,
            '<': self.value < self.bound,
        }[self.relation]
        return 'pass' if passed else 'FAIL'

    def row(self) -> list[str]:
        """Cells of the table of targets."""
        value = '-' if self.value is None else f'{self.value:.3g}'
        bound = '-' if self.bound is None else f'{self.relation} {self.bound:g}'
        return [self.name, value, bound, self.verdict]


def write_json(path: str | pathlib.Path, result: Mapping[str, Any]) -> None:
    """Writes a result, indented, with its folder."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + '\n')


def replace_section(name: str, text: str, *, path: pathlib.Path = PATH) -> None:
    """Puts `text` between the markers of `name`.

    Raises:
      ValueError: If the file does not have both markers, once each, in order.
    """
    begin, end = f'<!-- {name}: begin -->', f'<!-- {name}: end -->'
    old = path.read_text()
    # Anything else would cut out text that belongs to somebody else.
    if not old.count(begin) == old.count(end) == 1 or old.find(end) < old.find(begin):
        raise ValueError(
            f'expected {begin} and then {end} in {path}, once each, got '
            f'{old.count(begin)} and {old.count(end)}'
        )
    before, after = old.split(begin)[0], old.split(end)[1]
    path.write_text(f'{before}{begin}\n{text.strip()}\n{end}{after}')


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns: fit for a terminal too.

    The first column is aligned left, the others right.
    """
    cells = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rule = ['-' * widths[0], *('-' * (width - 1) + ':' for width in widths[1:])]
    aligned = [_align(row, widths) for row in cells]
    aligned.insert(1, rule)
    return '\n'.join('| ' + ' | '.join(row) + ' |' for row in aligned)


def provenance(
    machine: Mapping[str, Any], versions: Mapping[str, str], command: str
) -> str:
    """Where figures come from, in a paragraph.

    Args:
      machine: From `machine.describe`.
      versions: `{package: version}`.
      command: The command line that measured them.
    """
    packages = ', '.join(f'{name} {versions[name]}' for name in sorted(versions))
    return (
        f'{machine["date"]}, commit {machine["commit"]}: `{command}` on '
        f'{machine["cpu"]}, {machine["cores"]} cores, {machine["memory_gib"]:g} GiB, '
        f'{machine["os"]}, GLIBC_TUNABLES={machine["tunables"]}, Python '
        f'{machine["python"]}; {packages}.'
    )


def _align(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    numbers = [
        cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)
    ]
    return [row[0].ljust(widths[0]), *numbers]
