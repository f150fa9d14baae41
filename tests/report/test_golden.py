import io
import re
from collections.abc import Callable
from dataclasses import replace

import orjson
import pytest
from rich.console import Console

from slobench.metrics.summary import Estimate, WindowText
from slobench.report import console, markdown
from slobench.report.summary import to_json
from slobench.report.view import RunView
from tests.report import fixtures

Golden = Callable[[str, str], None]


def on_console(view: RunView, *, terminal: bool = False, width: int = 80) -> str:
    """Return what the console report prints."""
    out = io.StringIO()
    console.render(
        view,
        Console(file=out, width=width, force_terminal=terminal, color_system="truecolor" if terminal else None, highlight=False),
    )  # fmt: skip
    return out.getvalue()


def only_class(view: RunView) -> RunView:
    """Return a run of one class without an SLO and without failures."""
    summary = view.summary
    load = fixtures.load(ok=720, finished=720)
    served = fixtures.slo_result(
        good=624, marginal={}, binding=None, objectives=(), met=None, vacuous=0, budgets=(),
        attainment=Estimate(1.0, 0.981, 1.0, 624, 200.0, 3.1, "optimistic"), attainment_admitted=Estimate(1.0),
    )  # fmt: skip
    return replace(
        view,
        slo=None,
        summary=replace(
            summary, verdict="VALID", exit=0, exits=(0,), findings=(), errors={}, outcomes={"all": {"ok": 720}},
            load={"all": load, "chat": load}, slo={"all": served, "chat": served},
            latency={"all": fixtures.latency_table()}, latency_adjusted={"all": fixtures.latency_table()},
        ),
    )  # fmt: skip


def all_failed(view: RunView) -> RunView:
    """Return a run in which no request succeeded."""
    nothing = dict.fromkeys(("mean", "p50", "p90", "p99"), Estimate(None))
    load = fixtures.load(
        ok=0, output_tokens_per_s=0.0, total_tokens_per_s=0.0, input_tokens_mean=None, output_tokens_mean=None,
        tokens_per_event=None,
    )  # fmt: skip
    failed = fixtures.slo_result(good=0, attainment=fixtures.share(0.0, 0.0, 0.02), marginal={}, binding=None, goodput=Estimate(0.0),
                                 good_tokens=Estimate(0.0), attainment_admitted=Estimate(None))  # fmt: skip
    return replace(
        view,
        summary=replace(
            view.summary, verdict="VALID (server: V10 errors)", exit=6, exits=(4, 6),
            load={"all": load, "chat": load}, slo={"all": failed, "chat": failed},
            latency={"all": {"ttft": nothing, "e2e": nothing}}, latency_adjusted={"all": {}},
            window=WindowText(0.0, 60.0, None, None, whole_run=True, steady=None),
            errors={"connection": {"refused": 720}}, outcomes={"all": {"connection": 720}},
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "change"),
    [("two_classes", lambda view: view), ("one_class", only_class), ("all_failed", all_failed)],
)
def test_reports_read_as_their_golden_files(
    name: str, change: Callable[[RunView], RunView], view: RunView, golden: Golden
) -> None:
    """Console, Markdown and JSON reports of three runs are, letter by letter, what was reviewed."""
    shown = change(view)
    golden(f"report_{name}.txt", on_console(shown))
    golden(f"report_{name}.md", markdown.render(shown))
    golden(f"report_{name}.json", orjson.dumps(to_json(shown), option=orjson.OPT_INDENT_2).decode() + "\n")


@pytest.mark.parametrize("change", [lambda view: view, only_class, all_failed])
def test_a_piped_report_is_plain_and_narrow(change: Callable[[RunView], RunView], view: RunView) -> None:
    """Where nobody looks at it there is no escape, no rule, no trailing blank, no line over 80 columns."""
    text = on_console(change(view))
    assert "\x1b" not in text
    assert not set(text) & set("─│┌┐└┘━┃╭╮╰╯")
    assert all(len(line) <= 80 and line == line.rstrip() for line in text.splitlines())


def test_a_terminal_shows_the_same_words_in_80_columns(view: RunView) -> None:
    """Colour adds nothing but colour: every figure of the plain report is in the terminal's, none is cut off."""
    seen = Console(width=80, record=True, force_terminal=True, file=io.StringIO(), highlight=False)
    console.render(view, seen)
    text = seen.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert [word for word in text.split() if set(word) != {"─"}] == on_console(view).split()


@pytest.mark.parametrize("change", [lambda view: view, only_class, all_failed])
def test_the_verdict_is_the_first_line(change: Callable[[RunView], RunView], view: RunView) -> None:
    """Findings stand above every number, the verdict above the findings."""
    lines = on_console(change(view)).splitlines()
    assert lines[0] == change(view).summary.verdict
    places = [
        next((i for i, line in enumerate(lines) if line.startswith(head)), None)
        for head in ("  V08", "  class", "Latency of", "Load")
    ]
    found = [place for place in places if place is not None]
    assert found == sorted(found)


def test_where_every_request_failed_no_latency_is_invented(view: RunView) -> None:
    """A run without one success shows no latency table and no 0 ms anywhere."""
    shown = all_failed(view)
    for text in (on_console(shown), markdown.render(shown)):
        assert "Latency" not in text
        assert not re.search(r"(?<![\d.])0 ms", text)
        assert "connection" in text
