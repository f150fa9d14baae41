"""Objectives of a class: availability, percentiles as shares, goodput, and what can end a run with exit 4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.config.slo import parse_slo
from slobench.metrics.estimate import Windows
from slobench.metrics.evaluate import summarise
from slobench.metrics.rates import rate
from slobench.names import Exit

S = 10**9
Clean = Callable[..., Any]


def summary(run: Any) -> Any:
    return summarise(run.evaluate())


def with_failures(run: Any, share: float) -> Any:
    n = len(run["index"])
    run.fail(np.arange(n) % round(1 / share) == 0, "http_error", "500", status=500)
    return run


def test_availability_is_what_error_rate_leaves(clean: Clean) -> None:
    """The share that got a whole reply: 1 - error rate, with the same verdict."""
    run = with_failures(clean(), 0.05)
    run.slo = ("availability>=99%",)
    available = summary(run)
    run.slo = ("error_rate<1%",)
    failing = summary(run)
    (one,), (other,) = (
        [o for o in s.slo["all"].objectives if o.bound is not None] for s in (available, failing)
    )  # fmt: skip
    assert one.seen.value == pytest.approx(1 - (other.seen.value or 0))
    assert (one.seen.low, one.seen.high) == (pytest.approx(1 - other.seen.high), pytest.approx(1 - other.seen.low))
    assert one.met is other.met is False
    assert Exit.SLO in available.exits
    assert Exit.SLO in failing.exits


@pytest.mark.parametrize("clauses", [(), ("availability>=99%",), ("ttft:p99<500ms",), ("error_rate<1%", "ttft<500ms")])
def test_a_run_without_a_miss_has_an_interval(clean: Clean, clauses: tuple[str, ...]) -> None:
    """100 % is not certain: the dependence of those who came closest says how many requests it rests on."""
    run = clean()
    rng = np.random.default_rng(2)
    run["first_token_ns"] = run["scheduled_ns"] + rng.lognormal(np.log(0.05), 0.3, len(run["index"])) * S
    run["last_token_ns"] = run["first_token_ns"] + 0.07 * S
    run.slo = clauses
    result = summary(run).slo["all"]
    shares = [result.attainment, *(each.seen for each in result.objectives if each.text.startswith(("avail", "error")))]
    for seen in shares:
        assert seen.n_eff is not None
        assert seen.high - seen.low > 0.5 / seen.n
    for each in result.budgets:
        assert each.used.high is not None
        assert each.used.high > each.used.value == 0


def test_a_slow_reply_is_available(clean: Clean) -> None:
    """Availability asks whether a whole reply came, not how fast; attainment asks both."""
    run = clean()
    run.slo = ("ttft<1ms", "attainment>=99%", "availability>=99.9%")
    met = {each.text: each.met for each in summary(run).slo["all"].objectives}
    assert met == {"attainment>=99%": False, "availability>=99.9%": True}


def test_requests_that_we_ended_say_nothing_of_availability(clean: Clean) -> None:
    """Cut ones are in neither side; rejects count against."""
    run = clean()
    n = len(run["index"])
    run["outcome"][np.arange(n) % 2 == 0] = "cut"
    run.fail(np.arange(n) % 4 == 1, "http_error", "429", status=429)
    run.slo = ("availability>=99%",)
    (seen, *_) = summary(run).slo["all"].objectives
    assert seen.seen.value == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("clauses", [("ttft<10ms",), ("ttft<10ms", "class=chat e2e<1ms"), ("deadline(1ms, 1ms)",), ()])
def test_limits_without_an_objective_never_end_with_exit_4(clean: Clean, clauses: tuple[str, ...]) -> None:
    """Every request misses its limits, and nobody said how many may: counted, not judged."""
    run = clean()
    run.slo = clauses
    seen = summary(run)
    assert Exit.SLO not in seen.exits
    assert all(result.met is None for result in seen.slo.values())
    assert all(result.budgets == () for result in seen.slo.values())
    if clauses:
        assert seen.slo["all"].attainment.value == 0.0


@given(
    values=st.lists(st.floats(0.001, 1.0), min_size=1, max_size=60),
    failures=st.integers(0, 20),
    q=st.sampled_from([50.0, 90.0, 95.0, 99.0, 99.9]),
    limit=st.floats(0.001, 1.0),
)
def test_a_percentile_limit_is_a_marginal_attainment(
    make: Callable[..., Any], *, values: list[float], failures: int, q: float, limit: float
) -> None:
    """`ttft:p99<L` is met exactly where at least 99 % of requests, failures counted, have a TTFT of at most L."""
    n = len(values) + failures
    run = make(np.arange(n) / 10)
    run["first_token_ns"] = run["scheduled_ns"] + np.concatenate([values, np.full(failures, 0.1)]) * S
    if failures:
        run.fail(slice(len(values), None), "connection")
    run.slo = (f"ttft:p{q:g}<{limit!r}s",)
    seen = run.evaluate()
    result, inside = seen.results["all"], seen.phase == "main"
    (objective,) = [each for each in result.objectives if each.bound is not None]
    ttft = np.where(np.isnan(run["first_token_ns"]), np.inf, run["first_token_ns"] - run["scheduled_ns"])[inside] / S
    assert objective.met == bool(np.quantile(ttft, q / 100, method="inverted_cdf") <= objective.bound)
    (spent,) = result.budgets
    within = float(np.mean(ttft <= objective.bound))
    if abs(within - q / 100) > 1e-9:
        assert objective.met == (within > q / 100)
    assert (spent.used.value or 0) * (1 - q / 100) == pytest.approx(1 - within)


def test_goodput_counts_good_requests_and_their_tokens(clean: Clean) -> None:
    """Requests and tokens a second of the window; the interval holds the value, and more misses lower it."""
    run = with_failures(clean(), 0.1)
    seen = run.evaluate()
    result, length = seen.results["all"], seen.window.length_s
    assert result.goodput.value == pytest.approx(result.good / length)
    assert result.good_tokens.value == pytest.approx(result.good * 8 / length)
    for each in (result.goodput, result.good_tokens):
        assert each.low < each.value < each.high
        assert each.n == result.good


def test_the_interval_of_a_poisson_rate_covers_it() -> None:
    """Of 400 windows of Poisson events at most 35 (binomial, 99.9 %: 5 % of 400) leave the true rate outside."""
    rng = np.random.default_rng(7)
    missed = 0
    for _ in range(400):
        part = rng.integers(0, 10, rng.poisson(300))
        seen = rate(np.ones(len(part)), part, Windows(np.empty(0, np.int64), 10, optimistic=False), 30.0)
        missed += not (seen.low or 0) <= 10.0 <= (seen.high or 0)
    assert missed <= 35


def test_a_rate_of_few_events_has_no_interval() -> None:
    """Under 20 events a tenth of the window says nothing, and the estimate says so."""
    windows = Windows(np.empty(0, np.int64), 10, optimistic=False)
    seen = rate(np.ones(5), np.arange(5), windows, 10.0)
    assert (seen.value, seen.low, seen.note) == (0.5, None, "no interval: fewer than 20")
    assert rate(np.empty(0), np.empty(0, np.int64), windows, 10.0).value == 0.0


def test_a_class_is_judged_by_its_own_clauses_and_the_total_by_the_common_ones(clean: Clean) -> None:
    """Joint and marginal attainment for each class and in total; the lowest marginal is binding."""
    run = clean()
    run["class"] = np.where(np.arange(len(run["index"])) % 4 == 0, "batch", "chat")
    slow = np.arange(len(run["index"])) % 4 == 0
    run["first_token_ns"] = run["first_token_ns"] + slow * 0.3 * S
    run["last_token_ns"] = run["last_token_ns"] + slow * 0.3 * S
    run.slo = ("ttft<100ms", "tpot<50ms", "attainment>=99%", "class=batch ttft<1s", "class=batch availability>=99%")
    seen = summary(run).slo
    assert (seen["chat"].attainment.value, seen["batch"].attainment.value, seen["all"].attainment.value) == (1, 1, 1)
    assert {each.text for each in seen["batch"].objectives} == {"attainment>=99%", "availability>=99%"}
    assert {each.text for each in seen["all"].objectives} == {"attainment>=99%"}
    run.slo = ("ttft<100ms", "tpot<50ms", "attainment>=99%")
    seen = summary(run).slo
    assert seen["batch"].binding == "ttft<100ms"
    assert (seen["batch"].attainment.value, seen["batch"].marginal["tpot<50ms"].value) == (0, 1)
    assert [seen[name].met for name in ("chat", "batch", "all")] == [True, False, False]
    assert parse_slo(run.slo).for_class("batch").objectives[0].bound == 0.99
