"""A capacity in a terminal: the result first; colour and rules only where someone looks at it."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from slobench.report import capacity_text as text
from slobench.report import words
from slobench.report.capacity import CapacityView
from slobench.report.capacity_tables import tables
from slobench.report.console import print_drawing, print_facts, print_table

_TONES = {"good": "bold green", "warn": "bold yellow", "bad": "bold red"}


def render(view: CapacityView, console: Console) -> None:
    """Print the result; plain text without colour where the console is not a terminal."""
    print_drawing(lambda: _draw(view, console), console)


def _draw(view: CapacityView, console: Console) -> None:
    word, meaning, tone = text.verdict(view)
    console.print(Text(text.headline(view), "bold"))
    console.print(Text.assemble((word, _TONES[tone]), f"  {words.clean(meaning, 1000)}"))
    console.print()
    console.print(Text(text.heading(view), "bold"))
    print_facts(tuple(text.facts(view)), console)
    for table in tables(view):
        print_table(table, console)
    console.print()
    console.print(Text(words.clean(text.result_line(view), 2000)))
    console.print()
    console.print(Text.assemble(("files  ", "dim"), (words.clean(view.folder, 400), "bold")), soft_wrap=True)
    console.print(
        Padding(Text(f"capacity.json, capacity.md, capacity.html; {text.exit_words(view)}", "dim"), (0, 0, 0, 7))
    )
