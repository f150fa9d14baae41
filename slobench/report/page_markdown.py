"""A page as Markdown: a file, a comment on a pull request, the summary of a CI job."""

from __future__ import annotations

from collections.abc import Iterator

from slobench.report import words
from slobench.report.markdown import escape, table_rows
from slobench.report.page import Page
from slobench.report.tables import Table

_SIGNS = {"good": "✅", "warn": "⚠️", "bad": "❌"}


def render(page: Page) -> str:
    """Return the page; nothing that a server or a file's name holds is left active."""
    return "\n".join(_lines(page)).rstrip() + "\n"


def _lines(page: Page) -> Iterator[str]:
    yield f"# {escape(words.clean(page.heading, 300))}"
    yield ""
    sign = _SIGNS.get(page.tone, "")
    yield f"{sign} **{escape(page.word)}** {escape(words.clean(page.meaning, 2000))}".strip()
    yield ""
    for note in page.notes:
        yield f"- {escape(words.clean(note, 1000))}"
    if page.notes:
        yield ""
    for table in page.tables:
        yield from markdown_table(table)
    yield "|  |  |"
    yield "|---|---|"
    yield from (f"| {escape(name)} | {escape(words.clean(value, 500))} |" for name, value in page.facts)
    yield ""
    yield f"> {escape(words.clean(page.statement, 2000))}"


def markdown_table(table: Table) -> Iterator[str]:
    """Yield the lines of one table under its title."""
    yield from table_rows(table)
    for note in table.notes:
        yield escape(note)
        yield ""
