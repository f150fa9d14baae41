"""What is printed of an SLO is what was judged, at every rounding."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slobench.metrics.summary import Estimate, ObjectiveResult
from slobench.report import words
from slobench.report.slo_tables import budget_table, objective_line, slo_table
from slobench.report.view import RunView
from tests.report import fixtures


@given(share=st.floats(0.5, 0.99999) | st.just(1.0), bound=st.sampled_from([0.9, 0.95, 0.99, 0.999, 0.9999]))
@example(share=0.98996, bound=0.99)
@example(share=0.9899999, bound=0.99)
@example(share=0.99, bound=0.99)
def test_a_printed_share_stands_to_its_bound_as_the_measured_one(share: float, bound: float) -> None:
    """98.996 % against 99 % never prints as 99.0 %: the reader's comparison is the verdict."""
    if abs(share - bound) > 1e-8 or share == bound:
        shown = float(words.percent(share, bound).removesuffix(" %")) / 100
        assert (shown > bound + 1e-12) == (share > bound)
        assert (shown < bound - 1e-12) == (share < bound)


@given(value=st.floats(1e-4, 100), relative=st.floats(-1e-3, 1e-3))
@example(value=0.2420, relative=4e-4)
def test_a_printed_time_stands_to_its_limit_as_the_measured_one(value: float, relative: float) -> None:
    """262.8 ms against 262 ms, however it is rounded, is above."""
    limit = value * (1 + relative)
    if abs(relative) < 1e-7:
        return
    text, unit = words.seconds(value, limit).split()
    shown = float(text.replace(",", "")) * {"s": 1.0, "ms": 1e-3, "µs": 1e-6}[unit]
    assert (shown > limit * (1 + 1e-12)) == (value > limit)


def judged(value: float, *, met: bool) -> RunView:
    """Return a run whose attainment and TTFT p99 lie just beside what was asked."""
    seen = Estimate(value, value - 0.01, min(value + 0.005, 1.0), 5000, 60.0, 83.3)
    objectives = (
        ObjectiveResult("attainment>=99%", seen, met=met, bound=0.99),
        ObjectiveResult("ttft:p99<500ms", Estimate(0.50004, 0.4, 0.6, 5000, 60.0, 83.3), met=False, bound=0.5),
    )
    result = fixtures.slo_result(attainment=seen, objectives=objectives, met=False)
    summary = replace(fixtures.summary(), slo={"all": result, "chat": result}, load={"chat": fixtures.load()})
    return replace(fixtures.view(), summary=summary)


@pytest.mark.parametrize(("value", "met", "shown"), [(0.98996, False, "98.996 %"), (0.99004, True, "99.004 %")])
def test_the_table_shows_the_verdict_in_its_numbers(value: float, shown: str, *, met: bool) -> None:
    """Attainment and percentile get the digits that tell them from their bounds, in every row they stand in."""
    view = judged(value, met=met)
    table = slo_table(view)
    assert table is not None
    cells = [[cell.text for cell in row] for row in table.rows]
    assert cells[0][2] == shown
    (attainment,) = [row for row in cells if row[0] == "attainment>=99%"]
    assert (attainment[2], attainment[-1]) == (shown, "met" if met else "MISSED")
    (percentile,) = [row for row in cells if row[0] == "ttft:p99<500ms"]
    assert (percentile[2], percentile[-1]) == ("500.04 ms", "MISSED")
    line = objective_line(view)
    assert line is not None
    assert line.text == "SLO MISSED"


def test_limits_without_an_objective_are_said_to_be_counted_only() -> None:
    """Nobody should wait for exit 4 from limits alone."""
    result = fixtures.slo_result(objectives=(), met=None, budgets=())
    view = replace(
        fixtures.view(), summary=replace(fixtures.summary(), slo={"chat": result}, load={"chat": fixtures.load()})
    )
    table = slo_table(view)
    assert table is not None
    assert any("counted, not judged" in note and "exit 4" in note for note in table.notes)
    assert objective_line(view) is None
    assert budget_table(view) is None
    with_one = slo_table(fixtures.view())
    assert with_one is not None
    assert not any("counted, not judged" in note for note in with_one.notes)


def test_what_stands_beside_attainment_is_told() -> None:
    """Admitted requests with their own interval, vacuous, unjudged and left-out ones, goodput in both units."""
    result = fixtures.slo_result(not_judged=2, left_out=4)
    view = replace(
        fixtures.view(), summary=replace(fixtures.summary(), slo={"chat": result}, load={"chat": fixtures.load()})
    )
    table = slo_table(view)
    assert table is not None
    text = " ".join(table.notes)
    for part in (
        "97.7 % [95.1, 99.1] of the 612 admitted (429, 503 left out; n_eff/D 48/12.8)",
        "3 met a TPOT or gap limit vacuously", "2 could not be judged", "4 cancelled or cut before any limit was due",
        "goodput 11.5 req/s [10.7, 12.3], 2,512 tok/s [2,336, 2,688]",
    ):  # fmt: skip
        assert part in text


def test_budgets_of_several_objectives_name_each() -> None:
    """With one objective in all classes it is the title; else each row says which it is."""
    alike = budget_table(fixtures.view())
    assert alike is not None
    assert alike.title == "Error budget of attainment>=99%"
    summary = fixtures.summary()
    both = (*summary.slo["chat"].budgets, replace(summary.slo["chat"].budgets[0], objective="availability>=99.9%"))
    mixed = budget_table(
        replace(fixtures.view(), summary=replace(summary, slo={"chat": replace(summary.slo["chat"], budgets=both)}))
    )
    assert mixed is not None
    assert [row[0].text for row in mixed.rows if not row[0].indent] == [
        "chat: attainment>=99%",
        "chat: availability>=99.9%",
    ]


def test_a_censored_percentile_reads_as_such_whatever_else_is_noted() -> None:
    """`thin, > 10 s` prints `> 10 s`."""
    assert words.latency(Estimate(float("inf"), note="thin, > 10 s")) == "> 10 s"
    assert words.latency(Estimate(0.5, note="thin, optimistic")) == "500 ms"
