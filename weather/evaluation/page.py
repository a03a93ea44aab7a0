"""One self-contained HTML page: its style, its parts and their escaping."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

_STYLE = """
:root { color-scheme: light; --ink: #1d2127; --soft: #5d6670; --line: #dfe3e8;
  --accent: #0b5394; }
* { box-sizing: border-box; }
body { margin: 0; background: #f5f6f8; color: var(--ink);
  font: 16px/1.5 "Segoe UI", "Helvetica Neue", Helvetica, Arial, "DejaVu Sans",
  sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 0 20px 48px; }
header { padding: 30px 0 14px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 6px; }
header p { margin: 0; color: var(--soft); max-width: 900px; }
section { background: #fff; border: 1px solid var(--line); border-radius: 6px;
  padding: 18px 22px 22px; margin: 16px 0; }
h2 { font-size: 20px; margin: 0 0 8px; }
h3 { font-size: 16px; margin: 26px 0 8px; }
p { margin: 8px 0; max-width: 1000px; }
nav a { color: var(--accent); text-decoration: none; margin-right: 18px;
  white-space: nowrap; }
nav a:hover { text-decoration: underline; }
nav { margin-top: 12px; }
dl { display: grid; grid-template-columns: repeat(2, max-content 1fr);
  gap: 4px 18px; margin: 0; font-size: 14.5px; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
figure { margin: 12px 0 0; }
figure img { width: 100%; height: auto; display: block; }
figcaption, .note { color: var(--soft); font-size: 14px; max-width: 1000px;
  margin-top: 8px; }
.notice { border-left: 3px solid #c98a1b; background: #fdf8ee; padding: 8px 12px;
  margin: 10px 0; font-size: 14.5px; max-width: none; }
.wide { overflow-x: auto; }
.narrow table { width: auto; min-width: 640px; }
table { border-collapse: collapse; font-size: 14.5px; width: 100%;
  font-variant-numeric: tabular-nums; }
th, td { padding: 5px 10px; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
thead th { color: var(--soft); font-weight: 600; border-bottom: 1px solid #b9c0c8; }
th.group { text-align: center; border-bottom: 0; }
th.left, td.left { text-align: left; }
tbody tr.first td, tbody tr.first th { border-top: 1px solid #b9c0c8; }
tbody th { font-weight: 600; vertical-align: top; }
td.best { font-weight: 700; }
.unit { display: block; color: var(--soft); font-weight: 400; }
details summary { cursor: pointer; color: var(--accent); }
pre { font-size: 13px; line-height: 1.4; overflow-x: auto; background: #f5f6f8;
  padding: 12px; border-radius: 4px; }
ul { margin: 8px 0; padding-left: 22px; }
@media (max-width: 800px) { dl { grid-template-columns: max-content 1fr; } }
@media print { body { background: #fff; } section { break-inside: avoid;
  border: 0; padding: 0; } }
"""


class Section(NamedTuple):
    """A part of the page with a heading; `body` is HTML."""

    anchor: str
    title: str
    body: str


class Cell(NamedTuple):
    """A cell of a table; `text` is escaped, `colour` a CSS background."""

    text: str
    colour: str = ''
    classes: str = ''


def escape(text: object) -> str:
    """Text as HTML."""
    return html.escape(str(text))


def render(title: str, introduction: str, sections: Iterable[Section]) -> str:
    """Returns the page.

    Args:
      title: text.
      introduction: text under the title.
      sections: parts, in their order.
    """
    sections = list(sections)
    links = ''.join(
        f'<a href="#{part.anchor}">{escape(part.title)}</a>' for part in sections
    )
    bodies = '\n'.join(
        f'<section id="{part.anchor}"><h2>{escape(part.title)}</h2>\n{part.body}'
        '</section>'
        for part in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<style>{_STYLE}</style></head>\n<body><main>\n'
        f'<header><h1>{escape(title)}</h1><p>{escape(introduction)}</p>'
        f'<nav>{links}</nav></header>\n{bodies}\n</main></body></html>\n'
    )


def picture(image: str, *, alternative: str, caption: str = '') -> str:
    """A figure; `image` is a `data:` address."""
    text = f'<figcaption>{escape(caption)}</figcaption>' if caption else ''
    return f'<figure><img src="{image}" alt="{escape(alternative)}">{text}</figure>\n'


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f'<p>{escape(text)}</p>\n'


def note(text: str) -> str:
    """A paragraph that explains how to read something."""
    return f'<p class="note">{escape(text)}</p>\n'


def notice(text: str) -> str:
    """A paragraph that says that something is missing."""
    return f'<p class="notice">{escape(text)}</p>\n'


def items(texts: Iterable[str]) -> str:
    """A list of plain texts."""
    return f'<ul>{"".join(f"<li>{escape(text)}</li>" for text in texts)}</ul>\n'


def facts(of: Mapping[str, str]) -> str:
    """Names and values in two columns."""
    pairs = ''.join(
        f'<dt>{escape(name)}</dt><dd>{escape(value)}</dd>' for name, value in of.items()
    )
    return f'<dl>{pairs}</dl>\n'


def folded(summary: str, text: str) -> str:
    """Preformatted text behind a line that unfolds it."""
    return (
        f'<details><summary>{escape(summary)}</summary>'
        f'<pre>{escape(text)}</pre></details>\n'
    )


def row(cells: Sequence[Cell], *, heading: str = '', classes: str = '') -> str:
    """A row of a table; `heading` is HTML that stands before the cells."""
    data = ''.join(_cell(cell) for cell in cells)
    return f'<tr class="{classes}">{heading}{data}</tr>\n'


def table(head: str, rows: Iterable[str], *, classes: str = 'wide') -> str:
    """A table of HTML rows."""
    return (
        f'<div class="{classes}"><table><thead>{head}</thead>'
        f'<tbody>{"".join(rows)}</tbody></table></div>\n'
    )


def _cell(cell: Cell) -> str:
    style = f' style="background:{cell.colour}"' if cell.colour else ''
    return f'<td class="{cell.classes}"{style}>{escape(cell.text)}</td>'
