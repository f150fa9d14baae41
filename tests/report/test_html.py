import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from slobench.metrics.summary import Finding
from slobench.records.schema import Records
from slobench.report import html
from slobench.report.view import RunView
from tests.report import fixtures
from tests.report.test_golden import all_failed, only_class

OURS = {
    "html", "head", "meta", "title", "style", "body", "main", "header", "p", "span", "h1", "h2", "h3", "div", "strong",
    "em", "section", "article", "b", "small", "dl", "dt", "dd", "table", "thead", "tbody", "tr", "th", "td", "figure",
    "figcaption", "ul", "li", "i", "svg", "path", "rect", "text", "details", "summary", "pre", "footer",
}  # fmt: skip
EMPTY = {"meta", "path", "rect"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails where tags do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def hostile(view: RunView) -> RunView:
    """Return the run with markup in every text that a server, a file or a user can choose."""
    evil = "\"><script>alert(1)</script><img src=x onerror=alert(2)>&lt;'{{ 7 * 7 }}"
    summary = view.summary
    rename = {"chat": evil, "code": f"{evil}2", "all": "all"}
    records = view.records.requests | {
        "class": np.where(view.records.requests["class"] == "chat", evil, f"{evil}2"),
        "outcome": np.where(
            view.records.requests["outcome"] == "http_error", evil[:60], view.records.requests["outcome"]
        ),
    }
    clause = replace(summary.slo["all"], marginal={evil: fixtures.share(0.9, 0.8, 0.95)}, binding=evil)
    return replace(
        view,
        run=fixtures.run_json(
            slobench=evil,
            server={"model": evil, "url": f"http://x/{evil}"},
            host={"cpu_model": evil, evil: evil},
            settings={"requested": {evil: evil}, "observed": {evil: f"{evil}!"}},
            run={"duration_s": 60.0, "notes": [evil]},
        ),
        records=Records(records, view.records.chunks, view.records.telemetry),
        summary=replace(
            summary,
            verdict=f"VALID {evil}",
            findings=(Finding("V10", "server", "server", evil, evil, evil),),
            load={rename[k]: v for k, v in summary.load.items()},
            slo={rename[k]: clause for k in summary.slo},
            latency={rename[k]: {**v, evil: v["ttft"]} for k, v in summary.latency.items()},
            latency_adjusted={},
            errors={evil: {evil: 3}},
            outcomes={"all": {"ok": 1, evil: 3}},
            statement=evil,
        ),
    )


def test_nothing_from_outside_becomes_markup(view: RunView) -> None:
    """Markup in class names, errors, model, settings, findings stays text: only our tags, no handler, no script."""
    text = html.render(hostile(view))
    page = Page(text)
    assert {tag for tag, _ in page.tags} <= OURS
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert "49" not in "".join(page.text).split("alert(2)>&lt;'")[1][:12]
    assert "<script>alert(1)</script>" in "".join(page.text)


@pytest.mark.parametrize("change", [lambda view: view, only_class, all_failed, hostile])
def test_the_page_fetches_nothing(change, view: RunView) -> None:
    """No attribute names another resource, the style has no url(), and a policy forbids both."""
    text = html.render(change(view))
    page = Page(text)
    assert not {name for _, attrs in page.tags for name in attrs} & {"src", "href", "srcset", "action", "data", "style"}
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    policy = next(attrs["content"] for tag, attrs in page.tags if tag == "meta" and "http-equiv" in attrs)
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_the_figures_of_the_summary_are_on_the_page(view: RunView) -> None:
    """Verdict, findings, attainment, percentiles and error texts of the summary are all to be read."""
    text = "".join(Page(html.render(view)).text)
    for shown in ("VALID", "V08", "V10", "SLO MISSED (code)", "95.8 %", "446 ms", "[312, 579] ms", "429 Too Many", "∞"):
        assert shown in text


def test_a_page_of_a_large_run_stays_small() -> None:
    """A million requests with as many token events make a page under 2 MB: points are thinned, never dropped from lines."""
    n = 1_000_000
    recorded, derived = fixtures.records(n=2_000, seconds=3_600)
    spread = np.arange(n) % 2_000
    requests = {name: column[spread] for name, column in recorded.requests.items()}
    requests["scheduled_ns"] = np.sort(np.random.default_rng(5).uniform(0, 3.6e12, n))
    chunks = {name: column[np.arange(n) % len(column)] for name, column in recorded.chunks.items()}
    large = fixtures.view(
        records=Records(requests, chunks, recorded.telemetry),
        derived={name: column[spread] for name, column in derived.items()},
    )
    text = html.render(large)
    assert len(text.encode()) < 400_000
    assert "2,500 of 991" in text  # 17 of 2,000 have no token: 991,500 do


def test_a_run_that_never_sent_anything_still_has_a_page(view: RunView) -> None:
    """Without one request there are no charts, and the page says so."""
    requests = {name: column[:0] for name, column in view.records.requests.items()}
    chunks = {name: column[:0] for name, column in view.records.chunks.items()}
    derived = {name: column[:0] for name, column in view.derived.items()}
    text = html.render(replace(view, records=Records(requests, chunks, view.records.telemetry), derived=derived))
    assert "nothing to draw" in text


def test_the_burn_of_the_error_budget_is_drawn_where_there_is_one() -> None:
    """A line for each class with an objective, a rule where the budget is spent exactly; none without an objective."""
    page = html.render(fixtures.view())
    assert page.count("Error budget burn") == 1
    assert "budget spent exactly" in page
    assert "chat attainment&gt;=99%" in page
    assert "Error budget" not in html.render(only_class(fixtures.view()))


def test_a_burn_that_cannot_be_told_is_not_drawn(view: RunView) -> None:
    """A window too short for a burn rate has no chart, and the table says why."""
    summary = view.summary
    told = "insufficient: 15.3 s is less than 30 mean E2E (54 s)"
    slo = {
        name: replace(result, budgets=tuple(replace(b, at_s=(), burn=(), note=told) for b in result.budgets))
        for name, result in summary.slo.items()
    }
    page = html.render(replace(view, summary=replace(summary, slo=slo)))
    assert "Error budget burn" not in page
    assert f"burn over time {told}" in page
