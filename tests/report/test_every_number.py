"""No percentile is shown without what it is worth: n_eff, or a reason why it has none."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from slobench.metrics.summary import Estimate
from slobench.report import html, markdown
from slobench.report.slo_tables import budget_table, slo_table
from slobench.report.summary import to_json
from slobench.report.tables import Table, class_latency_table, latency_table
from slobench.report.view import RunView
from tests.report import fixtures
from tests.report.test_golden import all_failed, on_console, only_class

QUANTILE = re.compile(r"\bp\d+(\.\d+)?\b")
REASONS = (  # what a percentile outside a table of estimates may be, and what tells the reader so
    (
        re.compile(r"(send lag|connection wait) p\d+"),
        "send lag and connection wait count every request",
    ),  # counted over every request, not estimated
    (re.compile(r"E2E mean .*, p99 .* of the whole run"), "of the whole run"),  # what the window was chosen by
    (re.compile(r"p50p99|Each dot is"), "without an interval"),  # the lines of a chart
    (re.compile(r"over every send: p99|p50.*p99.*max|at p99"), "over every send"),  # send lag's chart and its limits
)


def bare(view: RunView) -> RunView:
    """Return a run whose intervals could not be given: too few requests."""

    def strip(e: Estimate) -> Estimate:
        return Estimate(e.value, n=9, note="no interval: fewer than 20")

    latency = {
        name: {m: {q: strip(e) for q, e in t.items()} for m, t in table.items()}
        for name, table in view.summary.latency.items()
    }
    return replace(view, summary=replace(view.summary, latency=latency, latency_adjusted=latency))


CHANGES: list[Callable[[RunView], RunView]] = [lambda view: view, only_class, all_failed, bare]


def tables(view: RunView) -> Iterator[Table]:
    for brief in (True, False):
        yield from filter(
            None, (slo_table(view, brief=brief), latency_table(view, brief=brief), budget_table(view, brief=brief))
        )
    yield from filter(
        None, (class_latency_table(view), *(latency_table(view, brief=False, name=n) for n in view.classes))
    )


@pytest.mark.parametrize("change", CHANGES)
def test_a_row_of_a_percentile_has_n_eff_or_a_mark(change: Callable[[RunView], RunView], view: RunView) -> None:
    """In each table, each row that names a percentile fills its n_eff cell, or its last cell points to the reason."""
    for table in tables(change(view)):
        where = next(i for i, column in enumerate(table.columns) if column.startswith("n_eff"))
        for row in table.rows:
            if any(QUANTILE.fullmatch(cell.text) or ":p" in cell.text for cell in row):
                worth, last = row[where].text, row[-1].text
                told = [note for note in table.notes if (last and last[0] in note) or note.startswith("intervals:")]
                assert worth not in {"", "–"} or told, (table.title, row)


@pytest.mark.parametrize("change", CHANGES)
def test_json_says_of_each_percentile_what_it_is_worth(change: Callable[[RunView], RunView], view: RunView) -> None:
    """Wherever a key is a percentile, its value holds n and n_eff, or n and a note."""
    found = 0

    def walk(value: Any, path: tuple[str, ...] = ()) -> None:
        nonlocal found
        if isinstance(value, dict):
            for key, item in value.items():
                if QUANTILE.fullmatch(key) and item["value"] is not None:
                    found += 1
                    assert item["n"], path
                    assert item["n_eff"] is not None or item.get("note"), (*path, key)
                walk(item, (*path, key))
        elif isinstance(value, list):
            for item in value:
                walk(item, path)

    shown = change(view)
    walk(to_json(shown))
    assert found or change is all_failed


class _Text(HTMLParser):
    """The text of a page by block, tables apart."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks, self.skip = [""], 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.skip += tag in {"table", "style", "pre", "svg"}
        if tag in {"p", "div", "section", "figure", "ul", "dl", "h3", "article"}:
            self.blocks.append("")

    def handle_endtag(self, tag: str) -> None:
        self.skip -= tag in {"table", "style", "pre", "svg"}

    def handle_data(self, data: str) -> None:
        if not self.skip:
            self.blocks[-1] += data


@pytest.mark.parametrize("change", CHANGES)
def test_a_percentile_outside_a_table_is_worth_something_or_says_why_not(
    change: Callable[[RunView], RunView], view: RunView
) -> None:
    """Tiles, facts, captions and legends: n_eff beside it, or the words that say what kind of number it is."""
    shown = change(view)
    page = html.render(shown)
    reader = _Text()
    reader.feed(page)
    for block in reader.blocks:
        text = " ".join(block.split())
        if not QUANTILE.search(text) or text == shown.summary.statement:
            continue
        worth = "n_eff" in text or "fewer than 20" in text
        assert worth or any(kind.search(text) and reason in page for kind, reason in REASONS), text


@pytest.mark.parametrize("change", CHANGES)
def test_plain_text_names_percentiles_in_tables_or_with_a_reason(
    change: Callable[[RunView], RunView], view: RunView
) -> None:
    """Console and Markdown: a line with a percentile is a table's row or one of the kinds that need no n_eff."""
    shown = change(view)
    for text in (on_console(shown, width=120), markdown.render(shown)):
        rows = {"".join(cell.text for cell in row[:2]) for table in tables(shown) for row in table.rows}
        for line in text.splitlines():
            plain = re.sub(r"[|*\\]|&nbsp;", "", line)
            if not QUANTILE.search(plain) or ("offered" in plain and "window" in plain):
                continue
            in_table = any(QUANTILE.search(row) and QUANTILE.search(row)[0] in plain for row in rows)  # type: ignore[index]
            flat = " ".join(text.replace("\\", "").lower().split())
            told = any(kind.search(plain) and reason.lower() in flat for kind, reason in REASONS)
            assert in_table or told, line


def test_the_statement_says_n_n_eff_and_d() -> None:
    """The line that is read alone carries what its attainment is worth."""
    statement = fixtures.summary().statement
    assert "n_eff" in statement
    assert "(D " in statement


def test_no_interval_of_requests_as_if_independent_is_computed_anywhere() -> None:
    """Wilson and Agresti intervals, and a normal interval of a share, stand nowhere in the code."""
    package = Path(html.__file__).parents[1]
    found = [
        f"{path.name}: {word}"
        for path in package.rglob("*.py")
        for word in re.findall(
            r"wilson|agresti|proportion_confint|sem\(|norm\.interval", path.read_text(), re.IGNORECASE
        )
    ]
    assert not found
