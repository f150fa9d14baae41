"""A comparison in every form: what is said of each row, letter by letter."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from slobench.config.margins import Margins
from slobench.experiment.compare import Compared
from slobench.metrics.arm import Arm
from slobench.metrics.compare import compare
from slobench.report import console_page, page_html, page_markdown
from slobench.report.compare import page_of, to_json
from tests.metrics.arms import arm
from tests.report.fixtures import HOSTILE
from tests.report.rounding import rounded

Golden = Callable[[str, str], None]


def compared(base: list[Arm], *news: list[Arm], refused: tuple[str, ...] = (), names: tuple[str, ...] = ()) -> Compared:
    made = compare(base, news, Margins(), [refused] * len(news))
    found = names or ("results/main", *(f"results/pr-{k}" for k in range(1, len(news) + 1)))
    return Compared(found, tuple(base), tuple(tuple(each) for each in news), Margins(), made)


def repeats(n: int, run: int = 0, **changes: float) -> list[Arm]:
    return [arm(seed=seed, run=run, **changes) for seed in range(1, n + 1)]


CASES = {
    "pairs": lambda: compared(repeats(4), repeats(4, run=1, tpot_s=0.0225, good=0.9)),
    "alone": lambda: compared([arm(classes=("chat", "code"))], [arm(classes=("chat", "code"), run=1)]),
    "two": lambda: compared(repeats(3), repeats(3, run=1), repeats(3, run=2, ttft_s=0.15)),
    "forced": lambda: compared(
        [arm(settings={"target.args.max-num-seqs": "16"})],
        [arm(seed=2, settings={"target.args.max-num-seqs": HOSTILE})],
        refused=(f"plan: {HOSTILE}",),
        names=("results/main", HOSTILE),
    ),
}


def on_console(found: Compared) -> str:
    out = io.StringIO()
    console_page.render(page_of(found, Path("cmp"), stacked=True), Console(file=out, width=80, highlight=False))
    return out.getvalue()


@pytest.mark.parametrize("name", ["pairs", "alone", "two"])
def test_reports_read_as_their_golden_files(name: str, golden: Golden) -> None:
    """Console, Markdown and JSON are what was reviewed."""
    found = CASES[name]()
    golden(f"compare_{name}.txt", on_console(found))
    golden(f"compare_{name}.md", page_markdown.render(page_of(found)))
    golden(f"compare_{name}.json", json.dumps(rounded(to_json(found)), indent=2, ensure_ascii=False) + "\n")


@pytest.mark.parametrize("name", CASES)
def test_the_console_needs_no_more_than_80_columns(name: str) -> None:
    """And folds no number."""
    lines = on_console(CASES[name]()).splitlines()
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("name", CASES)
def test_every_row_has_a_verdict_with_its_size(name: str) -> None:
    """Better or worse with a change; cannot tell with a number, or that none would."""
    for each in to_json(CASES[name]())["comparisons"]:
        for row in each["rows"]:
            change = row.get("ratio") or row["difference"]
            assert change["low"] <= change["value"] <= change["high"]
            if row["verdict"] in {"better", "worse"}:
                neutral = 1.0 if "ratio" in row else 0.0
                assert change["value"] != neutral
                assert not change["low"] <= neutral <= change["high"]


@pytest.mark.parametrize("name", CASES)
def test_names_in_the_picture_are_not_cut_off(name: str) -> None:
    """At 6 pixels a letter each lies within the picture's 960."""
    for figure in page_of(CASES[name]()).figures:
        found = re.findall(r'class="note" x="([\d.]+)" y="[\d.]+" text-anchor="(\w+)">([^<]*)<', figure.svg)
        assert found
        for at, anchor, text in found:
            end = float(at) + (6 if anchor == "start" else -6) * len(text)
            assert 0 <= end <= 960, text


def test_hostile_names_are_inert() -> None:
    """In Markdown and HTML."""
    found = CASES["forced"]()
    assert "<script>" not in page_markdown.render(page_of(found))
    assert "<script>alert" not in page_html.render(page_of(found))
    assert "\x1b" not in on_console(found)


def test_what_was_forced_is_said() -> None:
    """Above the numbers."""
    text = on_console(CASES["forced"]())
    assert text.index("compared by force") < text.index("TTFT p50")


def test_one_run_each_says_what_it_cannot_know() -> None:
    """And what would."""
    text = " ".join(on_console(CASES["alone"]()).split())
    assert "too few runs to see what differs from one run of a server to the next: 3 % is assumed for it" in text
    assert "pairs tell" in text
