"""The report as Markdown for a pull request: the key numbers, nothing that a server wrote left active."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from slobench.report import context, words
from slobench.report.hosts import hosts_table
from slobench.report.outcomes import error_table, outcome_words
from slobench.report.server import server_line
from slobench.report.sessions import session_table
from slobench.report.slo_tables import budget_table, objective_line, slo_table
from slobench.report.tables import (
    LOAD_NOTE,
    Cell,
    Table,
    class_latency_table,
    class_load_table,
    latency_table,
    load_facts,
)
from slobench.report.traffic import traffic_table
from slobench.report.view import RunView

MOST_ERRORS = 20
_SPECIAL = re.compile(r"([\\`*_\[\]|~$])")
# Entities, because GitHub links a bare URL, a mention or an issue number even behind a backslash.
_ENTITIES = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    "#": "&#35;",
    "@": "&#64;",
    "://": "&#58;//",
    "www.": "www&#46;",
}
_ACTIVE = re.compile("|".join(re.escape(active) for active in _ENTITIES))


def escape(text: str) -> str:
    """Text that Markdown renders letter by letter: no tag, link, mention, emphasis, table cell or formula."""
    text = _ACTIVE.sub(lambda found: _ENTITIES[found[0]], text)
    return _SPECIAL.sub(r"\\\1", text)


def render(view: RunView) -> str:
    """Return report.md."""
    return "\n".join(_lines(view)).rstrip() + "\n"


def _lines(view: RunView) -> Iterator[str]:
    summary = view.summary
    yield f"# {escape(context.heading(view))}"
    yield ""
    yield f"**{escape(words.clean(summary.verdict, 1000))}**"
    yield ""
    objective = objective_line(view)
    if objective:
        yield f"**{escape(objective.text)}**"
        yield ""
    yield from _findings(view)
    tables = (
        slo_table(view, brief=True),
        budget_table(view),
        latency_table(view, brief=True),
        class_latency_table(view),
        session_table(view),
    )
    for table in filter(None, tables):
        yield from _table(table)
    load = summary.load.get(view.total)
    if load is not None:
        yield "## Load in the window"
        yield ""
        yield from _rows(load_facts(load))
        yield escape(f"{LOAD_NOTE[0].upper()}{LOAD_NOTE[1:]}.")
        yield ""
        by_class = class_load_table(view)
        if by_class:
            yield from _table(by_class)
        outcomes = outcome_words(view, ", ")
        yield escape(f"Whole run: planned {words.count(load.planned)}, sent {words.count(load.sent)}; {outcomes}.")
        yield ""
        server = server_line(view)
        if server:
            yield escape(f"Server: {server}.")
            yield ""
    traffic = traffic_table(view)
    if traffic:
        yield from _table(traffic)
    hosts = hosts_table(view)
    if hosts:
        yield from _table(hosts)
    errors = error_table(view, most=MOST_ERRORS)
    if errors:
        yield from _table(errors)
    yield "## What was run"
    yield ""
    yield from _rows((*context.facts(view), *(("note", note) for note in context.notes(view))))
    if summary.statement:
        yield f"> {escape(words.clean(summary.statement, 2000))}"
        yield ""


def _findings(view: RunView) -> Iterator[str]:
    for finding in view.summary.findings:
        limit = f" (limit {words.clean(finding.limit)})" if finding.limit else ""
        seen = escape(f"{words.clean(finding.seen)}{limit}")
        advice = f" → {escape(words.clean(finding.advice, 1000))}" if finding.advice else ""
        yield f"- **{finding.code}** {finding.level}: {seen}. {escape(words.clean(finding.text, 1000))}{advice}"
    if view.summary.findings:
        yield ""


def _rows(facts: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "|  |  |"
    yield "|---|---|"
    for name, value in facts:
        yield f"| {escape(name)} | {escape(value)} |"
    yield ""


def table_rows(table: Table) -> Iterator[str]:
    """Yield a table's lines under its title, its notes left out."""
    yield f"## {escape(table.title)}"
    yield ""
    yield "| " + " | ".join(escape(column) for column in table.columns) + " |"
    text = [i == 0 or not column or column in table.left for i, column in enumerate(table.columns)]
    yield "|" + "|".join("---" if left else "---:" for left in text) + "|"
    for row in table.rows:
        yield "| " + " | ".join(_cell(cell) for cell in row) + " |"
    yield ""


def _table(table: Table) -> Iterator[str]:
    yield from table_rows(table)
    for note in table.notes:
        yield escape(f"{note[0].upper()}{note[1:]}") + "  "
    if table.notes:
        yield ""


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    if text and cell.tone in {"strong", "bad"}:
        text = f"**{text}**"
    return ("&nbsp;&nbsp;" if cell.indent else "") + text
