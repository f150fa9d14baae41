"""Which requests meet their SLO, who is counted, and what is left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.config.slo import parse_slo
from slobench.metrics.latency import derive
from slobench.metrics.slo import Judged, judge, population

S = 10**9


def judged(run: Any, *clauses: str) -> Judged:
    """Judge a run's requests."""
    chunks = run.built_chunks()
    return judge(run.columns, derive(run.columns, chunks), chunks, parse_slo(clauses))


def test_all_limits_must_hold(make: Callable[..., Any]) -> None:
    """A request that meets TTFT and misses TPOT is not good; each limit alone stands beside."""
    run = make(np.array([1.0, 2.0]))
    run["first_token_ns"] = run["scheduled_ns"] + np.array([0.05, 0.7]) * S
    run["last_token_ns"] = run["first_token_ns"] + np.array([0.7, 0.07]) * S
    seen = judged(run, "ttft<500ms", "tpot<50ms")
    assert seen.met.tolist() == [0, 0]
    assert seen.marginal["ttft<500ms"].tolist() == [1, 0]
    assert seen.marginal["tpot<50ms"].tolist() == [0, 1]


@pytest.mark.parametrize(("limit", "met"), [("50ms", 1), ("49.999ms", 0), ("50.001ms", 1)])
def test_a_limit_is_met_at_its_very_value(make: Callable[..., Any], limit: str, met: int) -> None:
    """Comparison is <=: a TTFT of exactly 50 ms meets a 50 ms limit."""
    run = make(np.array([0.0]))
    assert judged(run, f"ttft<{limit}").met.tolist() == [met]


@pytest.mark.parametrize(
    "outcome",
    ["http_error", "stream_error", "truncated", "empty", "malformed", "timeout_total", "timeout_idle", "connection",
     "client", "dropped", "lost"],
)  # fmt: skip
def test_failures_are_not_good_whatever_was_seen(one: Callable[..., Any], outcome: str) -> None:
    """Errors, rejects, timeouts, drops and lost requests count, and count against."""
    run = one()
    run["outcome"][0] = outcome
    assert judged(run, "ttft<500ms").met.tolist() == [0]


def test_requests_that_were_never_due_are_outside(one: Callable[..., Any]) -> None:
    """`unsent` is in no population."""
    run = one()
    run["outcome"][0] = "unsent"
    seen = judged(run, "ttft<500ms")
    assert np.isnan(seen.met[0])
    assert population(run.columns, seen, np.array([True])).counted.tolist() == [False]


@pytest.mark.parametrize(
    "case",  # clause, whether a first token was seen, seconds until the end, met
    [
        ("ttft<500ms", True, 0.1, 1.0),
        ("ttft<500ms", False, 0.6, 0.0),
        ("ttft<500ms", False, 0.4, np.nan),
        ("e2e<1s", True, 2.0, 0.0),
        ("e2e<1s", True, 0.5, np.nan),
        ("tpot<50ms", True, 2.0, np.nan),
        ("max_gap<100ms", True, 0.3, 0.0),
        ("max_gap<100ms", True, 0.13, np.nan),
        ("deadline(100ms, 10ms, share=90%)", True, 0.12, 1.0),
        ("deadline(20ms, 10ms, share=90%)", True, 0.12, 0.0),
        ("deadline(500ms, 10ms, share=90%)", True, 0.12, np.nan),
    ],
)
@pytest.mark.parametrize("outcome", ["cut", "cancelled"])
def test_requests_that_we_ended_are_judged_on_limits_already_due(
    one: Callable[..., Any], outcome: str, case: tuple[str, bool, float, float]
) -> None:
    """A limit whose time came counts; with none due the request is left out, and counted as that."""
    clause, seen_first, lived, met = case
    run = one(end_ns=(1 + lived) * S)
    run["outcome"][0] = outcome
    if not seen_first:
        for name in ("first_token_ns", "first_output_ns", "last_token_ns"):
            run[name][0] = np.nan
    seen = judged(run, clause)
    assert seen.met.tolist() == pytest.approx([met], nan_ok=True)
    assert seen.left_out.tolist() == [bool(np.isnan(met))]


@pytest.mark.parametrize(
    ("clauses", "met"),
    [
        (("ttft<500ms",), [0.0, np.nan, 1.0, 1.0]),
        (("ttft<500ms", "cancelled=missed"), [0.0, 0.0, 0.0, 1.0]),
        (("ttft<500ms", "cancelled=ignored"), [np.nan, np.nan, np.nan, 1.0]),
        (("ttft<500ms", "class=chat cancelled=missed", "cancelled=ignored"), [0.0, 0.0, 0.0, 1.0]),
    ],
)
def test_an_slo_may_say_what_cancelled_requests_count_as(
    make: Callable[..., Any], clauses: tuple[str, ...], met: list[float]
) -> None:
    """Given up after the limit, before it, after a token in time, and one that nobody gave up."""
    run = make(np.arange(4.0))
    run["outcome"][:3] = "cancelled"
    for row, lived in ((0, 0.6), (1, 0.4)):
        for name in ("first_token_ns", "first_output_ns", "last_token_ns"):
            run[name][row] = np.nan
        run["end_ns"][row] = (row + lived) * S
    seen = judged(run, *clauses)
    assert seen.met.tolist() == pytest.approx(met, nan_ok=True)
    assert seen.marginal["ttft<500ms"].tolist() == pytest.approx(met, nan_ok=True)
    assert seen.left_out.tolist() == np.isnan(met).tolist()


def test_a_null_tpot_meets_its_limit_vacuously(one: Callable[..., Any]) -> None:
    """A one-token reply neither fails a TPOT or gap limit nor is left out; it is counted as vacuous."""
    run = one(output_tokens=1.0, chunks=1.0, last_token_ns=1.05 * S)
    seen = judged(run, "tpot<50ms", "max_gap<50ms")
    assert seen.met.tolist() == [1]
    assert population(run.columns, seen, np.array([True])).vacuous == 1


@pytest.mark.parametrize("clause", ["ttft<500ms", "tpot<50ms", "max_gap<1s", "deadline(1s, 50ms)"])
def test_a_limit_that_cannot_exist_leaves_a_success_unjudged(one: Callable[..., Any], clause: str) -> None:
    """A reply that did not stream has no TTFT, TPOT or gap: null, left out of both sides and counted."""
    run = one(first_token_ns=np.nan, first_output_ns=np.nan, chunks=0.0)
    seen = judged(run, clause, "e2e<1s")
    assert np.isnan(seen.met[0])
    people = population(run.columns, seen, np.array([True]))
    assert (people.not_judged, int(people.counted.sum()), people.vacuous) == (1, 0, 0)
    assert judged(run, "e2e<1s").met.tolist() == [1]


def test_a_limit_may_grow_with_the_prompt(make: Callable[..., Any]) -> None:
    """`ttft<40ms+0.5ms/token`: 50 ms is late for 10 tokens and in time for 100; the server's count goes first."""
    run = make(np.array([0.0, 1.0, 2.0]))
    run["input_tokens_planned"] = np.array([100, 100, 10])
    run["input_tokens"] = np.array([10.0, np.nan, 100.0])
    assert judged(run, "ttft<40ms+0.5ms/token").met.tolist() == [0, 1, 1]


def test_classes_have_their_own_limits(make: Callable[..., Any]) -> None:
    """An own limit replaces the common one; with limits on one class only, the other is not judged."""
    run = make(np.array([0.0, 1.0]))
    run["class"] = np.array(["chat", "batch"])
    assert judged(run, "ttft<40ms", "class=batch ttft<1s").met.tolist() == [0, 1]
    only = judged(run, "class=batch ttft<1s")
    assert only.met.tolist() == pytest.approx([np.nan, 1.0], nan_ok=True)
    assert not only.unjudgeable.any()


def test_without_any_limit_success_is_all_that_is_asked(make: Callable[..., Any]) -> None:
    """No SLO: good means complete and without error."""
    run = make(np.array([0.0, 1.0]))
    run.fail([1], "http_error", status=500)
    assert judged(run).met.tolist() == [1, 0]


@given(
    events=st.lists(st.tuples(st.integers(0, 400), st.integers(1, 4)), min_size=1, max_size=30),
    first=st.integers(1, 500),
    each=st.integers(1, 100),
    share=st.sampled_from([0.5, 0.9, 1.0]),
)
def test_a_deadline_counts_each_token_against_its_own_time(
    make: Callable[..., Any], events: list[tuple[int, int]], first: int, each: int, share: float
) -> None:
    """Token i is on time at scheduled + first + (i-1)*each; good where the share of such tokens suffices."""
    times = np.cumsum([gap for gap, _ in events]) * 1_000_000
    carried = [tokens for _, tokens in events]
    run = make(np.array([1.0]))
    run["first_token_ns"], run["last_token_ns"] = np.array([S + times[0]]), np.array([S + times[-1]])
    run["chunks"], run["output_tokens"] = np.array([float(len(events))]), np.array([float(sum(carried))])
    run.chunks = run.built_chunks()
    run.chunks["t_ns"], run.chunks["tokens"] = S + times, np.array(carried, dtype=float)
    at = np.repeat(times, carried)
    in_time = np.mean(at <= (first + np.arange(len(at)) * each) * 1_000_000)
    met = judged(run, f"deadline({first}ms, {each}ms, share={share * 100:g}%)").met
    assert met.tolist() == [float(in_time >= share - 1e-12)]
