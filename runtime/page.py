"""The one look of every HTML page that fcnkit writes: evaluations and benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

__all__ = ["document", "table"]

_STYLE: Final = """
:root { color-scheme: light dark; --paper: #fff; --line: #e3e6ea; --soft: #f6f7f9;
  --ink: #1d2127; --dim: #5c6570; --warn: #fdf3e7; --fine: #ebf7f2; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #101418; --line: #323a43; --soft: #1a2027; --ink: #e6edf3; --dim: #9aa6b2;
    --warn: #33260f; --fine: #10291f; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 2rem 1.5rem 4rem; color: var(--ink);
  background: var(--paper);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .2rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; padding-top: 1rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
p { margin: .3rem 0; }
.dim { color: var(--dim); }
.scroll { overflow-x: auto; }
.scroll + .scroll { margin-top: 1rem; }
.half { max-width: 36rem; }
.row { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { color: var(--dim); font-weight: 600; background: var(--soft); }
th:first-child, td:first-child { text-align: left; }
td.wide { white-space: normal; text-align: left; }
tr.total td { font-weight: 600; }
table.facts { width: auto; }
table.facts td { text-align: left; padding-right: 2rem; }
figure { margin: 1rem 0; }
figure img { width: 100%; height: auto; border: 1px solid var(--line); border-radius: 6px; }
.row figure { margin: 0; }
figure.own-size img { width: auto; max-width: 100%; }
.swatch { display: inline-block; width: 1.6em; height: .9em; border: 1px solid #888; }
.warn { margin: .4rem 0; padding: .4rem .8rem; border-left: 4px solid #d9822b;
  background: var(--warn); }
.fine { margin: .4rem 0; padding: .4rem .8rem; border-left: 4px solid #2a9d6f;
  background: var(--fine); }
tr.note td { padding: 0 0 .4rem; text-align: left; white-space: normal; }
tr.note p { margin: 0; }
table.cards th { white-space: normal; vertical-align: bottom; }
table.cards th, table.cards td { padding: .3rem .4rem; }
@media (max-width: 40rem) {
  body { padding: 1rem .8rem 3rem; }
  h1 { font-size: 1.3rem; overflow-wrap: anywhere; }
  h3 { overflow-wrap: anywhere; }
  table.facts, table.facts tbody, table.facts tr, table.facts td { display: block; }
  table.facts td { white-space: normal; overflow-wrap: anywhere; border: 0; padding: 0 0 .2rem; }
  table.facts td:first-child { color: var(--dim); }
  table.cards thead { display: none; }
  table.cards, table.cards tbody { display: block; }
  table.cards tr { display: grid; grid-template-columns: 1fr 1fr; padding: .5rem 0;
    border-bottom: 1px solid var(--line); }
  table.cards td { display: flex; justify-content: space-between; gap: .4rem; border: 0;
    padding: .1rem .4rem; white-space: normal; }
  table.cards td::before { content: attr(data-name); color: var(--dim); text-align: left; }
  table.cards td:first-child, table.cards tr.note td { display: block; grid-column: 1 / -1; }
  table.cards tr:not(.note) td:first-child { font-weight: 600; overflow-wrap: anywhere; }
  table.cards td:first-child::before { content: none; }
}
"""


def document(title: str, body: Sequence[str]) -> str:
    """Return a whole page, which loads no style, script or font.

    Args:
        title: For the browser's tab, plain text.
        body: Parts of HTML.
    """
    return (
        "<!doctype html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Without an icon, a browser asks the server for one and reports that it failed.
        f'<link rel="icon" href="data:,"><style>{_STYLE}</style></head>\n<body><main>\n'
        + "\n".join(body)
        + "\n</main></body></html>\n"
    )


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    strong: Sequence[str] = (),
    colors: Sequence[str] = (),
    notes: Sequence[Sequence[str]] = (),
    cards: bool = False,
) -> str:
    """Return a table.

    Args:
        head: Titles of the columns; empty for a table without them.
        rows: Cells as plain text.
        strong: First cells of the rows that stand out.
        colors: A CSS color per row, drawn as a square in its last cell; none by default.
        notes: Warnings of each row, which stand below it; none by default.
        cards: Show each row as a card on a narrow screen, with the titles beside the cells.
    """
    titles = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    names = [f' data-name="{escape(cell)}"' for cell in head] if cards else []
    body = []
    for number, row in enumerate(rows):
        cells = "".join(
            f"<td{name}>{escape(cell)}</td>"
            for name, cell in zip(names[: len(row)] or [""] * len(row), row, strict=True)
        )
        if colors:
            color = escape(colors[number])
            cells += f'<td><span class="swatch" style="background:{color}"></span></td>'
        kind = ' class="total"' if row[0] in strong else ""
        body.append(f"<tr{kind}>{cells}</tr>")
        for line in notes[number] if notes else ():
            text = f'<p class="warn">{escape(line)}</p>'
            body.append(f'<tr class="note"><td colspan="{len(row)}">{text}</td></tr>')
    top = f"<thead><tr>{titles}</tr></thead>" if head else ""
    kind = "" if head else ' class="facts"'
    if cards:
        kind = ' class="cards"'
    # Whoever has no mouse scrolls a wide table with the arrow keys: it must take the focus.
    inner = f"<table{kind}>{top}<tbody>{''.join(body)}</tbody></table>"
    return f'<div class="scroll" tabindex="0">{inner}</div>'
