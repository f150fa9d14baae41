"""From records to a summary: what is counted, what is printed, what a run ends with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.metrics.ask import Ask
from slobench.metrics.evaluate import summarise
from slobench.metrics.summary import Summary
from slobench.names import Exit, Outcome

S = 10**9
Clean = Callable[..., Any]
NULLABLE = [
    "started_ns",
    "sent_ns",
    "first_token_ns",
    "last_token_ns",
    "end_ns",
    "output_tokens",
    "input_tokens",
    "chunks",
]


def summary(run: Any) -> Summary:
    """Evaluate and summarise."""
    return summarise(run.evaluate())


def noisy(run: Any, seed: int = 1) -> Any:
    """Spread TTFT lognormally around 50 ms more."""
    noise = np.random.default_rng(seed).lognormal(0, 0.5, len(run["index"])) * 0.05 * S
    for name in ("headers_ns", "first_token_ns", "first_output_ns", "last_token_ns", "end_ns"):
        run[name] = run[name] + noise
    return run


def test_a_good_run_ends_with_zero(clean: Clean) -> None:
    """VALID, its objectives met, exit 0; attainment and goodput are those of the window's requests."""
    run = noisy(clean())
    run.slo = ("ttft<500ms", "tpot<50ms", "attainment>=99%", "error_rate<0.1%", "ttft:p90<200ms")
    seen = summary(run)
    result = seen.slo["all"]
    assert (seen.verdict, seen.valid, seen.exit, seen.exits) == ("VALID", True, 0, ())
    assert (result.good, result.met) == (result.population, True)
    assert [objective.met for objective in result.objectives] == [True] * 3
    length = seen.window.end_s - seen.window.start_s
    assert result.goodput.value == pytest.approx(result.good / length)
    assert result.good_tokens.value == pytest.approx(result.good * 8 / length)
    assert result.attainment.low is not None
    assert result.attainment.n_eff is not None


def test_every_request_failed_is_a_report_without_zeros(clean: Clean) -> None:
    """No division by zero, no 0 ms anywhere: nulls, attainment 0, exit 6."""
    run = clean()
    run.slo = ("ttft<500ms", "attainment>=99%", "ttft:p99<500ms")
    run.fail(slice(None), "connection", "connection refused")
    seen = summary(run)
    assert seen.exit == Exit.TARGET
    assert set(seen.exits) == {Exit.SLO, Exit.TARGET}
    assert seen.latency["all"] == {}
    assert seen.slo["all"].attainment.value == 0.0
    assert seen.slo["all"].goodput.value == 0.0
    assert seen.latency_adjusted["all"]["ttft"]["p50"].value == math.inf
    assert seen.window.mean_e2e_s is None
    assert seen.errors == {"connection": {"connection refused": len(run["index"])}}


def test_no_requests_at_all_are_a_report_too(make: Callable[..., Any]) -> None:
    """An empty plan has null attainment, no latencies and the load 0."""
    seen = summary(make(np.empty(0)))
    assert seen.slo["all"].attainment.value is None
    assert seen.load["all"].planned == 0
    assert seen.exit == 0


def test_errors_are_no_latencies_but_count_against(clean: Clean) -> None:
    """Failures that ended after 1 ms do not lower a success percentile; the adjusted one is +inf from their share on."""
    run = noisy(clean())
    rows = slice(None, None, 20)
    before = summary(run).latency["all"]["e2e"]["min"].value
    run.fail(rows, "http_error", "500 oops", status=500)
    run["end_ns"][rows] = run["sent_ns"][rows] + 0.001 * S
    seen = summary(run)
    assert seen.latency["all"]["e2e"]["min"].value >= before  # type: ignore[operator]
    share = 1 - seen.slo["all"].attainment.value  # type: ignore[operator]
    assert share == pytest.approx(0.05, abs=0.001)
    adjusted = seen.latency_adjusted["all"]["ttft"]
    assert math.isfinite(adjusted["p90"].value)  # type: ignore[arg-type]
    assert adjusted["p99"].value == math.inf
    assert adjusted["p90"].value >= seen.latency["all"]["ttft"]["p90"].value  # type: ignore[operator]


def test_error_occurrences_are_summed_and_outcomes_add_up(clean: Clean) -> None:
    """Counts of requests, not of kinds of error; all outcomes of a class sum to its planned requests."""
    run = clean()
    run.fail(slice(0, 30), "http_error", "500 a", status=500)
    run.fail(slice(30, 40), "http_error", "500 b", status=500)
    run.fail(slice(40, 45), "timeout_total", "no end after 120 s")
    run["class"] = np.where(np.arange(len(run["index"])) % 3 == 0, "batch", "chat")
    seen = summary(run)
    assert seen.errors["http_error"] == {"500 a": 30, "500 b": 10}
    assert seen.errors["timeout_total"] == {"no end after 120 s": 5}
    for name, counts in seen.outcomes.items():
        assert sum(counts.values()) == seen.load[name].planned
    assert seen.outcomes["all"] == {
        key: seen.outcomes["batch"].get(key, 0) + seen.outcomes["chat"].get(key, 0) for key in seen.outcomes["all"]
    }


def test_timeouts_are_censored_not_measured(clean: Clean) -> None:
    """Where timed-out requests reach a quantile it prints as `> timeout`; other failures do not claim that."""
    run = noisy(clean())
    run.fail(slice(None, None, 20), "timeout_total", "no end after 120 s")
    run["end_ns"][::20] = run["scheduled_ns"][::20] + 120 * S
    table = summary(run).latency_adjusted["all"]["e2e"]
    assert table["p99"].value == math.inf
    assert "> 2 min 00 s" in table["p99"].note
    assert ">" not in table["p90"].note
    run["outcome"][run["outcome"] == "timeout_total"] = "connection"
    assert ">" not in summary(run).latency_adjusted["all"]["e2e"]["p99"].note


def test_cut_requests_are_neither_good_nor_bad_unless_a_limit_was_due(clean: Clean) -> None:
    """Cut before any limit was due: out of both sides, and listed; not a failure, so no error."""
    run = clean()
    rows = slice(500, 520)
    run["outcome"][rows] = "cut"
    for name in ("first_token_ns", "first_output_ns", "last_token_ns"):
        run[name][rows] = np.nan
    run["end_ns"][rows] = run["sent_ns"][rows] + 0.01 * S
    seen = summary(run)
    assert (seen.slo["all"].left_out, seen.slo["all"].attainment.value) == (20, 1.0)
    assert seen.outcomes["all"]["cut"] == 20
    assert not [finding for finding in seen.findings if finding.code == "V10"]


def test_rejects_count_against_attainment_and_not_against_that_of_the_admitted(clean: Clean) -> None:
    """429 and 503 are not good; `attainment_admitted` leaves them out of both sides."""
    run = clean()
    run.fail(slice(None, None, 10), "http_error", "429 busy", status=429)
    result = summary(run).slo["all"]
    assert result.attainment.value == pytest.approx(0.9, abs=0.001)
    assert result.attainment_admitted.value == 1.0


def test_the_binding_limit_has_the_lowest_marginal_attainment(clean: Clean) -> None:
    """Joint attainment is at most the lowest marginal one."""
    run = clean()
    run["first_token_ns"][::10] += 0.6 * S
    run["first_output_ns"] = run["first_token_ns"].copy()
    late = slice(3, None, 20)
    for name in ("last_token_ns", "end_ns"):
        run[name][::10] += 0.6 * S
        run[name][late] += 1.0 * S
    result = summary(run).slo["all"]
    assert result.binding == "ttft<500ms"
    lowest = min(seen.value for seen in result.marginal.values())  # type: ignore[type-var]
    assert result.attainment.value <= lowest  # type: ignore[operator]
    assert result.attainment.value == pytest.approx(0.9 - 0.05, abs=0.005)


@pytest.mark.parametrize("bound_ms", range(60, 240, 9))
def test_the_printed_quantile_is_the_one_that_is_judged(clean: Clean, bound_ms: int) -> None:
    """A quantile objective is met exactly where the printed value is within it, and where enough requests are."""
    run = noisy(clean())
    run.slo = (f"ttft:p90<{bound_ms}ms",)
    evaluation = run.evaluate()
    result = evaluation.results["all"]
    (objective,) = result.objectives
    ttft = evaluation.derived["ttft_s"][evaluation.phase == "main"]
    assert objective.seen.value is not None
    assert objective.met == (objective.seen.value <= bound_ms / 1000)
    assert objective.met == (np.mean(ttft <= bound_ms / 1000) >= 0.9)
    assert objective.seen.value == evaluation.latency_adjusted["all"]["ttft"]["p90"].value
    assert result.met is objective.met


def test_exit_codes_follow_what_was_asked(clean: Clean) -> None:
    """A missed SLO ends with 4 only where an objective was given; invalid goes before it, interruption before all."""
    run = noisy(clean())
    run.slo = ("ttft<60ms",)
    assert summary(run).exit == 0
    run.slo = ("ttft<60ms", "attainment>=99%")
    assert summary(run).exit == Exit.SLO
    for name in ("started_ns", "sent_ns"):
        run[name] = run[name] + 0.04 * S
    assert summary(run).exit == Exit.INVALID
    run.ask = replace(run.ask, interrupted=True)
    seen = summary(run)
    assert seen.exit == Exit.INTERRUPTED
    assert set(seen.exits) == {Exit.INTERRUPTED, Exit.INVALID, Exit.SLO}
    run.ask = replace(run.ask, interrupted=False, target_died=True)
    assert summary(run).exit == Exit.TARGET


def test_classes_stand_beside_the_total(clean: Clean) -> None:
    """Each class has its own load, SLO and latencies; counts of classes sum to those of all."""
    run = noisy(clean())
    run["class"] = np.where(np.arange(len(run["index"])) % 4 == 0, "batch", "chat")
    run.slo = ("ttft<500ms", "attainment>=99%", "class=batch ttft<90ms")
    seen = summary(run)
    assert set(seen.slo) == set(seen.load) == set(seen.latency) == {"all", "batch", "chat"}
    assert seen.slo["all"].good == seen.slo["batch"].good + seen.slo["chat"].good
    assert seen.slo["chat"].met is True
    assert seen.slo["batch"].met is False
    assert seen.exit == Exit.SLO
    assert set(seen.slo["all"].marginal) == {"ttft<500ms", "ttft<90ms"}


def test_slo_met_is_null_without_an_slo(clean: Clean) -> None:
    """The stored column says nothing where nothing was asked; success stands in the summary."""
    run = clean()
    run.slo = ()
    evaluation = run.evaluate()
    assert np.all(np.isnan(evaluation.slo_met))
    assert evaluation.results["all"].attainment.value == 1.0


def test_gaps_are_called_itl_only_where_events_carry_one_token(clean: Clean) -> None:
    """With one token an event there is ITL; with two there are gaps between events, and an amortised, marked ITL."""
    single = summary(clean()).latency["all"]
    assert single["itl"]["p50"].value == pytest.approx(0.01)
    assert "icl" not in single
    run = clean()
    run["chunks"] = run["chunks"] / 2
    double = summary(run).latency["all"]
    assert double["icl"]["p50"].value == pytest.approx(0.07 / 3, rel=1e-6)
    assert double["itl"]["p50"].value == pytest.approx(0.07 / 6, rel=1e-6)
    assert "gap/tokens" in double["itl"]["p50"].note


def test_tokens_counted_as_events_make_token_metrics_approximate(clean: Clean) -> None:
    """Where the server reported no usage, that is said beside the numbers."""
    run = clean()
    run["tokens_source"][:] = "chunks"
    seen = summary(run)
    assert seen.approximate_tokens
    assert seen.tokens_source == {"chunks": seen.load["all"].ok}
    assert "approximate" in seen.latency["all"]["tpot"]["p50"].note


def test_intervals_of_tpot_p99_are_called_approximate(clean: Clean) -> None:
    """They cover less than they say."""
    run = clean()
    run["last_token_ns"] = run["last_token_ns"] + np.random.default_rng(1).exponential(0.01, len(run["index"])) * S
    run["end_ns"] = run["last_token_ns"] + 100_000
    tpot = summary(run).latency["all"]["tpot"]
    assert "approximate" in tpot["p99"].note
    assert "approximate" not in tpot["p50"].note


def test_the_full_run_stands_beside_the_window(clean: Clean) -> None:
    """Warm-up and drain are kept: the whole run's table counts every success, without intervals."""
    run = clean()
    seen = summary(run)
    assert seen.latency_full_run["all"]["ttft"]["p50"].n == len(run["index"])
    assert seen.latency_full_run["all"]["ttft"]["p50"].low is None
    assert seen.latency["all"]["ttft"]["p50"].n < len(run["index"])


def test_the_statement_can_be_read_alone(clean: Clean) -> None:
    """It names load, process, seed, window, n, n_eff, attainment with interval, definitions, lag and verdict."""
    run = noisy(clean(seed=3))
    run.ask = replace(run.ask, arrivals="poisson", seed=17)
    text = summary(run).statement
    for part in (
        "req/s (poisson, seed 17, vr off)", "window [", "n = ", "n_eff = ", "(D = ", "joint attainment 100 % [",
        "of *scheduled* requests (errors and timeouts count against)", "TTFT from intended send time",
        "TPOT = (last − first)/(n − 1) from usage", "send lag p99 50 µs", "verdict VALID",
    ):  # fmt: skip
        assert part in text


def test_a_closed_loop_is_never_called_an_offer(make: Callable[..., Any]) -> None:
    """Its load followed from the users."""
    run = make(np.arange(0, 60, 0.1), ask=Ask(closed=True, users=4, duration_s=60.0))
    run["session"] = run["index"] % 4
    assert "by 4 users in a closed loop" in summary(run).statement
    assert "poisson" not in summary(run).statement


@given(
    outcomes=st.lists(st.sampled_from([str(outcome) for outcome in Outcome]), max_size=60),
    nulls=st.lists(st.tuples(st.integers(0, 59), st.sampled_from(NULLABLE)), max_size=40),
    seed=st.integers(0, 1000),
    closed=st.booleans(),
    clauses=st.sampled_from(
        [(), ("ttft<100ms", "attainment>=90%"), ("deadline(60ms, 20ms)", "e2e:p99<1s", "error_rate<5%")]
    ),
)
def test_any_mixture_of_outcomes_and_nulls_makes_a_summary(
    make: Callable[..., Any],
    *,
    outcomes: list[str],
    nulls: list[tuple[int, str]],
    seed: int,
    closed: bool,
    clauses: tuple[str, ...],
) -> None:
    """No error, no warning; good <= population <= planned, outcomes add up, shares in [0, 1] within their intervals."""
    rng = np.random.default_rng(seed)
    run = make(np.sort(rng.uniform(0, 10, len(outcomes))), ask=Ask(closed=closed, users=3, timeout_s=5.0))
    run["session"] = run["index"] % 3
    run["outcome"][:] = outcomes
    for row, name in nulls:
        if row < len(outcomes):
            run[name][row] = np.nan
    run.slo = clauses
    seen = summary(run)
    total = seen.slo["all"]
    assert total.good <= total.population <= seen.load["all"].planned == len(outcomes)
    assert sum(seen.outcomes["all"].values()) == len(outcomes)
    for result in seen.slo.values():
        for estimate in (result.attainment, result.attainment_admitted, *result.marginal.values()):
            if estimate.value is not None and estimate.low is not None and estimate.high is not None:
                assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    for table in (*seen.latency["all"].values(), *seen.latency_adjusted["all"].values()):
        values = [estimate.value for name, estimate in table.items() if name != "mean"]
        assert values == sorted(values)  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("outcome", "interrupted", "code"),
    [
        ("cut", False, Exit.TARGET),
        ("cut", True, Exit.INTERRUPTED),
        ("client", False, Exit.INVALID),
        ("lost", False, Exit.INVALID),
        ("connection", False, Exit.TARGET),
    ],
)
def test_only_the_servers_own_failures_are_a_failed_target(
    clean: Clean, outcome: str, *, interrupted: bool, code: int
) -> None:
    """Where no reply succeeded, exit 6 says that the server failed; replies that we lost, or that the user ended, do
    not say that. Cut at the planned end of the offer, they had their time.
    """
    run = clean()
    run.ask = replace(run.ask, interrupted=interrupted)
    run["outcome"] = np.full(len(run["index"]), outcome)
    assert (Exit.TARGET in summary(run).exits) == (code == Exit.TARGET)
    if code == Exit.INVALID:
        assert not summary(run).valid


def test_a_lost_worker_is_invalid_even_where_nothing_was_in_flight(clean: Clean) -> None:
    """Half the load was never offered: no request is lost, but the numbers are of another load than planned."""
    run = clean()
    run.ask = replace(run.ask, workers=2, workers_lost=1)
    seen = summary(run)
    assert not seen.valid
    assert "1 of 2 generator processes lost" in seen.verdict
