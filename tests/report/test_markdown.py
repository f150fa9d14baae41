from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from slobench.report import markdown
from slobench.report.view import RunView
from tests.report.test_html import hostile


def kinds(text: str) -> set[str]:
    """Return every kind of token that a Markdown reader makes of it."""
    reader = MarkdownIt("commonmark", {"linkify": False}).enable("table").enable("strikethrough")
    found = set()
    for token in reader.parse(text):
        found.add(token.type)
        found |= {child.type for child in token.children or ()}
    return found


@given(st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1, max_size=80))
def test_escaped_text_reads_as_itself(text: str) -> None:
    """Whatever text goes in, a Markdown reader shows that text and makes nothing else of it."""
    (token,) = MarkdownIt("commonmark").parseInline(f"x{markdown.escape(text)}x")
    assert {child.type for child in token.children or ()} <= {"text", "text_special"}
    assert "".join(child.content for child in token.children or ()) == f"x{text}x"


def test_nothing_from_outside_becomes_markdown(view: RunView) -> None:
    """Markup in names and errors makes no HTML, link, image, code or extra cell, and mentions nobody."""
    shown = markdown.render(hostile(view))
    assert not kinds(shown) & {"html_block", "html_inline", "link_open", "image", "code_inline", "fence", "code_block"}
    assert "@" not in shown
    assert "://" not in shown


def test_rows_have_as_many_cells_as_their_heading(view: RunView) -> None:
    """A pipe in a message does not add a cell."""
    width = 0
    for line in markdown.render(view).splitlines():
        cells = line.replace("\\|", "").count("|")
        if not line.startswith("|"):
            width = 0
        elif width:
            assert cells == width
        else:
            width = cells


@pytest.mark.parametrize("verdict", ["VALID", "INVALID: V01 send lag p99 31 ms > 25 ms (5 % of the 500 ms TTFT limit)"])
def test_the_verdict_stands_above_every_table(verdict: str, view: RunView) -> None:
    """The verdict is the first thing after the title."""
    lines = markdown.render(replace(view, summary=replace(view.summary, verdict=verdict))).splitlines()
    assert lines[2] == f"**{markdown.escape(verdict)}**"
