"""A capacity as Markdown for a pull request."""

from __future__ import annotations

from collections.abc import Iterator

from slobench.report import capacity_text as text
from slobench.report.capacity import CapacityView
from slobench.report.capacity_tables import tables
from slobench.report.markdown import escape
from slobench.report.tables import Table


def render(view: CapacityView) -> str:
    """Return capacity.md."""
    return "\n".join(_lines(view)).rstrip() + "\n"


def _lines(view: CapacityView) -> Iterator[str]:
    word, meaning, _ = text.verdict(view)
    yield f"# {escape(text.heading(view))}"
    yield ""
    yield f"**{escape(text.headline(view))}**"
    yield ""
    yield f"**{word}** {escape(meaning)}"
    yield ""
    yield from (f"- {name}: {escape(value)}" for name, value in text.facts(view))
    yield ""
    for table in tables(view):
        yield from _table(table)
    yield escape(text.result_line(view))


def _table(table: Table) -> Iterator[str]:
    yield f"## {escape(table.title)}"
    yield ""
    yield "| " + " | ".join(escape(column) for column in table.columns) + " |"
    left = [i == 0 or column in table.left or not column for i, column in enumerate(table.columns)]
    yield "|" + "|".join("---" if each else "---:" for each in left) + "|"
    yield from ("| " + " | ".join(escape(cell.text) for cell in row) + " |" for row in table.rows)
    yield ""
    for note in table.notes:
        yield f"{escape(note)}"
        yield ""
