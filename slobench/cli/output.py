"""What commands write and print: reports as files, JSON, a page on the terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from slobench.report.page import Page


def write_text(path: Path, text: str) -> None:
    """Write a file, and the folder that it lies in. Raises RecordsError where the disk refuses."""
    from slobench.errors import RecordsError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    except OSError as error:
        raise RecordsError(f"cannot write {path}: {error.strerror}\n  expected  a file you may write to") from None


def write_pages(folder: Path, name: str, page: Page) -> None:
    """Write NAME.md and NAME.html. Raises RecordsError where the disk refuses."""
    from slobench.report import page_html, page_markdown

    write_text(folder / f"{name}.md", page_markdown.render(page))
    write_text(folder / f"{name}.html", page_html.render(page))


def write_json(path: Path, data: object) -> None:
    """Write plain data as JSON. Raises RecordsError where the disk refuses."""
    write_text(path, json_of(data) + "\n")


def json_of(data: object) -> str:
    """Plain data as JSON for people and programs."""
    import orjson

    return orjson.dumps(data, option=orjson.OPT_INDENT_2).decode()


def replace_unshowable() -> None:
    """Keep a terminal that cannot show "≤" from losing the report."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def show_page(page: Page, data: object, *, as_json: bool, quiet: bool) -> None:
    """Print a page: as JSON, its verdict alone, or everything."""
    replace_unshowable()
    if as_json:
        typer.echo(json_of(data))
    elif quiet:
        typer.echo(f"{page.word}  {page.meaning}")
    else:
        from rich.console import Console

        from slobench.report.console_page import render

        render(page, Console(highlight=False))
