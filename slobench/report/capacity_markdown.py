"""A capacity as Markdown for a pull request."""

from __future__ import annotations

from collections.abc import Iterator

from slobench.report import capacity_text as text
from slobench.report.capacity import CapacityView
from slobench.report.capacity_tables import tables
from slobench.report.markdown import escape
from slobench.report.page_markdown import markdown_table


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
        yield from markdown_table(table)
    yield escape(text.result_line(view))
