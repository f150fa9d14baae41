"""Sessions in the metrics: the window waits for them, and their ends are counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from slobench.config.slo import parse_slo
from slobench.metrics.ask import Ask
from slobench.metrics.evaluate import evaluate, summarise
from slobench.metrics.latency import derive
from slobench.metrics.summary import SessionFacts, Summary
from slobench.metrics.window import Window, choose

S = 10**9
TURNS = 4
APART = 5.0  # s between the turns of a session


def sessions(make: Callable[..., Any], count: int, every: float, **changes: Any) -> Any:
    """`count` sessions of four turns, one begun each `every` s, their turns 5 s apart."""
    begun = np.repeat(np.arange(count) * every, TURNS)
    turn = np.tile(np.arange(TURNS), count)
    run = make(begun + turn * APART, **changes)
    run["session"] = np.repeat(np.arange(count), TURNS)
    run["turn"] = turn.astype(np.int32)
    run["follows"] = (turn > 0).astype(np.float64)
    return run


def never_sent(run: Any, rows: Any) -> None:
    """Make requests ones that never came, and so have no time."""
    run.fail(rows, "unsent")
    for name in ("scheduled_ns", "started_ns", "connected_ns", "sent_ns", "end_ns"):
        run[name][rows] = np.nan


def window(run: Any, **ask: Any) -> Window:
    """Choose the window of a run."""
    return choose(run.columns, derive(run.columns, run.built_chunks())["e2e_s"], Ask(**ask))


def summary(run: Any, *clauses: str, **ask: Any) -> Summary:
    """The summary of a run."""
    records = run.records()
    return summarise(evaluate(records, parse_slo(clauses or ("ttft<500ms",), ("chat",)), Ask(**ask)))


def facts(run: Any, **ask: Any) -> SessionFacts:
    """What its only class says of its sessions."""
    return summary(run, **ask).sessions["chat"]


def test_the_warm_up_lasts_until_sessions_overlap_as_they_will(make: Callable[..., Any]) -> None:
    """Requests come up to 15 s after their session began: before that, some that belong there are missing."""
    run = sessions(make, 100, 1.0)
    seen = window(run, duration_s=100.0)
    assert (seen.start_s, seen.end_s, seen.whole_run) == (15.0, 100.0, False)
    at = run["scheduled_ns"] / S
    per_s = np.histogram(at, np.arange(0, 101))[0]
    assert (per_s[15:99] == TURNS).all()
    assert per_s[14] < TURNS


def test_sessions_by_count_are_measured_to_the_last_that_began(make: Callable[..., Any]) -> None:
    """After it the load ebbs: its own later turns are drain."""
    seen = window(sessions(make, 100, 1.0))
    assert (seen.start_s, seen.end_s) == (15.0, pytest.approx(99 - 0.12))


def test_sessions_longer_than_the_run_are_measured_whole(make: Callable[..., Any]) -> None:
    """Where no steady load is reached, everything counts, the last turn of the last session too."""
    seen = window(sessions(make, 20, 1.0))
    assert seen.whole_run
    assert (seen.start_s, seen.end_s) == (0.0, pytest.approx(19 + 15))


def test_records_from_before_there_were_sessions_are_measured_as_ever(make: Callable[..., Any]) -> None:
    """Without the column nothing follows anything."""
    run = make(np.arange(0, 60, 0.1))
    assert "follows" not in run.columns
    assert window(run).start_s == pytest.approx(0.24)
    assert summary(run).sessions == {}


def test_complete_sessions_are_timed_from_the_first_request_to_the_last_token(make: Callable[..., Any]) -> None:
    """15 s of turns, and a reply of 0.12 s at the end."""
    seen = facts(sessions(make, 100, 1.0), duration_s=100.0)
    assert (seen.begun, seen.complete, seen.broken_off, seen.unfinished, seen.not_sent) == (100, 100, 0, 0, 0)
    assert seen.per_s == pytest.approx(1.0)
    assert seen.requests_mean == TURNS
    assert seen.e2e_s["p50"].value == seen.e2e_s["max"].value == pytest.approx(15.12)
    assert seen.e2e_s["p50"].n == 85
    assert seen.e2e_s["p50"].low is not None


def test_what_a_failure_took_with_it_is_counted_and_stands_in_no_rate(make: Callable[..., Any]) -> None:
    """Ten sessions fail in their second turn: 20 requests never come, ten miss their SLO, no more."""
    run = sessions(make, 100, 1.0)
    failed = np.arange(20, 30) * TURNS + 1
    run.fail(failed, "http_error", "HTTP 500", 500.0)
    never_sent(run, np.concatenate([failed + 1, failed + 2]))
    seen = summary(run, duration_s=100.0)
    one = seen.sessions["chat"]
    assert (one.begun, one.complete, one.broken_off, one.unfinished, one.not_sent) == (100, 90, 10, 0, 20)
    assert one.requests_mean == pytest.approx(3.8)
    assert seen.slo["all"].population - seen.slo["all"].good == 10
    assert not [finding for finding in seen.findings if finding.code == "V02"]
    assert seen.load["all"].sent == 380


def test_a_class_that_goes_on_has_not_given_up(make: Callable[..., Any]) -> None:
    """What its sessions did not send, the end of the run took."""
    run = sessions(make, 50, 1.0)
    run.fail(np.array([4]), "http_error", "HTTP 500", 500.0)
    never_sent(run, np.array([7]))
    seen = facts(run, goes_on=frozenset({"chat"}))
    assert (seen.complete, seen.broken_off, seen.not_sent) == (49, 1, 0)


def test_sessions_that_the_end_of_the_run_met_are_open(make: Callable[..., Any]) -> None:
    """Nobody failed: they are neither complete nor broken off; those that never began are not counted."""
    run = sessions(make, 50, 1.0)
    never_sent(run, np.flatnonzero(run["scheduled_ns"] >= 45 * S))
    seen = facts(run, duration_s=45.0)
    assert (seen.begun, seen.complete, seen.broken_off, seen.unfinished, seen.not_sent) == (45, 30, 0, 15, 0)


def test_users_who_gave_up_are_no_errors(make: Callable[..., Any]) -> None:
    """A cancelled request stands in no latency and no error table; its session is broken off."""
    run = sessions(make, 60, 1.0)
    given_up = np.arange(20, 30) * TURNS + 3
    for name in ("first_token_ns", "first_output_ns", "last_token_ns"):
        run[name][given_up] = np.nan
    run["outcome"][given_up] = "cancelled"
    run["end_ns"][given_up] = run["scheduled_ns"][given_up] + 0.2 * S
    seen = summary(run, duration_s=60.0)
    assert seen.errors == {}
    assert seen.outcomes["all"]["cancelled"] == 10
    assert seen.slo["all"].left_out == 10
    assert seen.sessions["chat"].broken_off == 10
    assert not [finding for finding in seen.findings if finding.code == "V10"]
    missed = summary(run, "ttft<500ms", "cancelled=missed", duration_s=60.0)
    assert missed.slo["all"].population - missed.slo["all"].good == 10


def test_users_of_a_closed_loop_have_one_session_after_another(make: Callable[..., Any]) -> None:
    """Each request that follows none begins one; the second of a user's three failed in its second turn."""
    run = make(np.arange(12) * 5.0)
    run["session"] = np.zeros(12, dtype=np.int64)
    run["turn"] = np.arange(12, dtype=np.int32)
    run["follows"] = np.tile([0.0, 1.0, 1.0, 1.0], 3)
    run.fail(np.array([5]), "http_error", "HTTP 500", 500.0)
    never_sent(run, np.array([6, 7]))
    seen = facts(run, closed=True, users=1)
    assert (seen.begun, seen.complete, seen.broken_off, seen.not_sent) == (3, 2, 1, 2)
    assert seen.e2e_s["p50"].value == pytest.approx(15.12)
