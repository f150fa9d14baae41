"""A page as one HTML file: no script, nothing fetched, every foreign text escaped."""

from __future__ import annotations

from importlib import resources

import jinja2
from markupsafe import Markup

from slobench.report import words
from slobench.report.page import Page


def render(page: Page) -> str:
    """Return the page."""
    folder = resources.files(__package__) / "templates"
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string((folder / "page.html.j2").read_text("utf-8")).render(
        style=Markup((folder / "report.css").read_text("utf-8")),  # noqa: S704 (ours, not a server's)
        page=page,
        state={"good": "good", "warn": "warned", "bad": "invalid"}.get(page.tone, "good"),
        clean=words.clean,
        svg=Markup,
    )
