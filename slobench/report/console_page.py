"""A page in a terminal: the verdict first; colour and rules only where someone looks at it."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from slobench.report import words
from slobench.report.console import print_drawing, print_facts, print_table
from slobench.report.page import Page

_TONES = {"good": "bold green", "warn": "bold yellow", "bad": "bold red"}


def render(page: Page, console: Console) -> None:
    """Print the page; plain text without colour where the console is not a terminal."""
    print_drawing(lambda: _draw(page, console), console)


def _draw(page: Page, console: Console) -> None:
    console.print(Text.assemble((page.word, _TONES.get(page.tone, "bold")), f"  {words.clean(page.meaning, 2000)}"))
    for note in page.notes:
        console.print(Padding(Text(f"note: {words.clean(note, 1000)}", "yellow"), (0, 0, 0, 2)))
    console.print()
    console.print(Text(words.clean(page.heading, 300), "bold"))
    print_facts(page.facts, console)
    for table in page.tables:
        print_table(table, console)
    console.print()
    console.print(Text(words.clean(page.statement, 2000)))
    if page.files:
        console.print()
        console.print(Text.assemble(("files  ", "dim"), words.clean(page.files, 400)), soft_wrap=True)
