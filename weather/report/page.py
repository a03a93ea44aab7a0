"""One self-contained HTML page: what its parts are; `templates/` says how they look."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import jinja2

from learning.files import MARK
from weather.outputs import REPORT

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader('weather.report'),
    autoescape=True,  # All that a section holds is text.
    undefined=jinja2.StrictUndefined,  # A misspelt name would leave a gap.
    trim_blocks=True,
    lstrip_blocks=True,
)


class Part(NamedTuple):
    """A piece of a section: text, or what its kind needs."""

    kind: Literal[
        'paragraph', 'note', 'notice', 'heading', 'items', 'facts', 'folded', 'picture',
        'table',
    ]  # fmt: skip
    content: Any


class Section(NamedTuple):
    """A part of the page with a heading of its own."""

    anchor: str
    title: str
    parts: Sequence[Part]


class Picture(NamedTuple):
    """A figure; `image` is a `data:` address."""

    image: str
    alternative: str
    caption: str = ''


class Cell(NamedTuple):
    """A cell of a table, `rows` by `columns` large; `colour` is a CSS background."""

    text: str
    classes: str = ''
    colour: str = ''
    unit: str = ''
    rows: int = 1
    columns: int = 1
    heading: bool = False


class Table(NamedTuple):
    """Rows of cells."""

    head: Sequence[Sequence[Cell]]
    rows: Sequence[Sequence[Cell]]
    classes: str = 'wide'


def notice(text: str) -> Part:
    """A paragraph that says that something is missing or doubtful."""
    return Part('notice', text)


def render(title: str, introduction: str, sections: Iterable[Section]) -> str:
    """Returns the page."""
    return _TEMPLATES.get_template('page.html').render(
        mark=MARK,
        kind=REPORT.name,
        title=title,
        introduction=introduction,
        sections=list(sections),
    )
