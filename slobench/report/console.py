"""The report in a terminal: verdict first; colour and rules only where someone looks at it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from slobench.metrics.summary import Finding, Summary
from slobench.names import Exit
from slobench.report import context, words
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
from slobench.report.traffic import traffic_line
from slobench.report.view import RunView

STYLES = {"": "", "strong": "bold", "good": "green", "bad": "bold red", "warn": "yellow", "dim": "dim"}
MOST_ERRORS = 8
EXIT_MEANINGS = {
    Exit.OK: "all well",
    Exit.TOOL: "the tool failed",
    Exit.USAGE: "usage or configuration",
    Exit.INVALID: "the run is invalid",
    Exit.SLO: "SLO missed",
    Exit.REGRESSION: "regression",
    Exit.TARGET: "the target failed",
    Exit.UNDECIDED: "could not decide",
    Exit.INTERRUPTED: "interrupted",
}


def render(view: RunView, console: Console) -> None:
    """Print the whole report; plain text, no rules, no colour where the console is not a terminal."""
    print_drawing(lambda: _draw(view, console), console)


def print_drawing(draw: Callable[[], None], console: Console) -> None:
    """Let `draw` print on the console; without trailing blanks where nobody looks at it."""
    if console.is_terminal:
        draw()
        return
    with console.capture() as captured:
        draw()
    console.file.writelines(line.rstrip() + "\n" for line in captured.get().splitlines())


def _draw(view: RunView, console: Console) -> None:
    summary = view.summary
    console.print(_verdict(summary))
    objective = objective_line(view)
    if objective:
        console.print(Text(objective.text, "bold green" if objective.tone == "good" else STYLES[objective.tone]))
    for finding in summary.findings:
        console.print(_finding(finding))
    console.print()
    console.print(Text(context.heading(view), "bold"))
    told = [("note", note) for note in context.notes(view)]
    console.print(_facts((*context.facts(view), *told)))
    tables = (
        slo_table(view, brief=True),
        budget_table(view, brief=True),
        latency_table(view, brief=True),
        class_latency_table(view),
        session_table(view),
    )
    for table in filter(None, tables):
        print_table(table, console)
    _print_load(view, console)
    errors = error_table(view, most=MOST_ERRORS)
    if errors:
        _print_errors(errors, console)
    _print_end(view, console)


def _verdict(summary: Summary) -> Text:
    word, _, rest = summary.verdict.partition(" ")
    bad, warned = not summary.valid, bool(summary.findings)
    tone = "bold red" if bad else "bold yellow" if warned else "bold green"
    return Text.assemble((words.clean(word, 40), tone), (f" {words.clean(rest, 1000)}" if rest else "", "bold"))


def _finding(finding: Finding) -> Padding:
    tone = {"warning": "yellow", "invalid": "bold red", "server": "bold magenta"}[finding.level]
    head = Text.assemble(
        (finding.code, tone),
        (f" {finding.level}  ", tone),
        (words.clean(finding.seen), "bold"),
        (f" · limit {words.clean(finding.limit)}" if finding.limit else "", "dim"),
    )
    body = Text(words.clean(finding.text, 1000))
    if finding.advice:
        body.append(f"\n→ {words.clean(finding.advice, 1000)}")
    grid = Grid.grid()
    grid.add_row(head)
    if finding.text:
        grid.add_row(Padding(body, (0, 0, 0, 4)))
    return Padding(grid, (0, 0, 0, 2))


def _facts(facts: Iterable[tuple[str, str]]) -> Padding:
    grid = Grid.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in facts:
        grid.add_row(Text(name), Text(value))
    return Padding(grid, (0, 0, 0, 2))


def _grid(table: Table, console: Console) -> Grid:
    looked_at = console.is_terminal
    gap = _gap(table, console.width - 2)
    grid = Grid(
        box=box.SIMPLE_HEAD if looked_at else None,  # its column rule is one blank
        padding=(0, gap - 1 if looked_at else gap, 0, 0),
        pad_edge=False,
        show_edge=False,
        header_style="dim",
        border_style="dim",
    )
    for position, column in enumerate(table.columns):
        text = position == 0 or column in table.left
        grid.add_column(
            Text(column),
            justify="left" if text or not column else "right",
            overflow="fold",
            no_wrap=not text,
        )
    for row in table.rows:
        grid.add_row(*(_cell(cell) for cell in row))
    return grid


def _gap(table: Table, width: int) -> int:
    """Return the widest space between columns, 1 to 3, with which no cell has to fold."""
    texts = [table.columns, *([("  " if cell.indent else "") + cell.text for cell in row] for row in table.rows)]
    first, *others = [max(map(len, column)) for column in zip(*texts, strict=True)]
    needed = min(first, 24) + sum(others)  # a long first column folds
    return min(3, max(1, (width - needed) // max(1, len(table.columns) - 1)))


def _cell(cell: Cell) -> Text:
    return Text(("  " if cell.indent else "") + cell.text, STYLES[cell.tone])


def _title(text: str, console: Console) -> None:
    console.print()
    console.print(Text(text, "bold cyan" if console.is_terminal else ""))


def _notes(notes: Sequence[str], console: Console) -> None:
    for note in notes:
        console.print(Padding(Text(note, "dim"), (0, 0, 0, 2)))


def print_facts(facts: Iterable[tuple[str, str]], console: Console) -> None:
    """Print names and values in two columns."""
    console.print(_facts(facts))


def print_table(table: Table, console: Console) -> None:
    """Print a table under its title, with its notes."""
    _title(table.title, console)
    console.print(Padding(_grid(table, console), (0, 0, 0, 2)))
    _notes(table.notes, console)


def _print_load(view: RunView, console: Console) -> None:
    load = view.summary.load.get(view.total)
    if load is None:
        return
    _title("Load in the window", console)
    grid = Grid.grid(padding=(0, 2, 0, 0))
    for _ in range(2):
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
    facts = load_facts(load)
    for left, right in zip_longest(facts[::2], facts[1::2], fillvalue=("", "")):
        grid.add_row(*(Text(text) for text in (*left, *right)))
    console.print(Padding(grid, (0, 0, 0, 2)))
    by_class = class_load_table(view)
    if by_class:
        console.print()
        console.print(Padding(_grid(by_class, console), (0, 0, 0, 2)))
    outcomes, traffic, server = outcome_words(view, " · "), traffic_line(view), server_line(view)
    _notes(
        (
            LOAD_NOTE,
            *((f"server: {server}",) if server else ()),
            *((f"traffic: {traffic}",) if traffic else ()),
            f"whole run: planned {words.count(load.planned)}, sent {words.count(load.sent)}; {outcomes}",
        ),
        console,
    )


def _print_errors(table: Table, console: Console) -> None:
    _title(table.title, console)
    grid = Grid.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(justify="right", no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for row in table.rows:
        grid.add_row(*(_cell(cell) for cell in row))
    console.print(Padding(grid, (0, 0, 0, 2)))
    _notes(table.notes, console)


def _print_end(view: RunView, console: Console) -> None:
    console.print()
    if view.summary.statement:
        console.print(Text(words.clean(view.summary.statement, 2000)))
        console.print()
    first, *rest = view.files() or [""]
    console.print(Text.assemble(("files  ", "dim"), (words.clean(view.folder, 400), "bold")), soft_wrap=True)
    if first:
        console.print(Padding(Text(", ".join((first, *rest)), "dim"), (0, 0, 0, 7)))
    codes = [Exit(code) for code in view.summary.exits if code != Exit.OK]
    if codes:
        told = ", ".join(f"{int(code)} ({EXIT_MEANINGS[code]})" for code in codes)
        console.print(
            Text.assemble(
                ("exit   ", "dim"),
                f"{view.summary.exit}" + (f" of {told}" if len(codes) > 1 else f" ({EXIT_MEANINGS[codes[0]]})"),
            )
        )
