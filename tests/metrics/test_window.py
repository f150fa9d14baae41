"""The measurement window: after the warm-up, before the load ebbs, or the whole run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from slobench.metrics.ask import Ask
from slobench.metrics.latency import derive
from slobench.metrics.window import Window, choose, phases

S = 10**9


def window(run: Any, **ask: Any) -> Window:
    """Choose the window of a run."""
    return choose(run.columns, derive(run.columns, run.built_chunks())["e2e_s"], Ask(**ask))


def test_warm_up_is_twice_the_p99_e2e(make: Callable[..., Any]) -> None:
    """Replies of 0.12 s: measured from 0.24 s on, to the planned end; what was offered later is drain."""
    run = make(np.arange(0, 61, 0.1))
    seen = window(run, duration_s=60.0)
    assert (seen.start_s, seen.end_s, seen.whole_run) == (pytest.approx(0.24), 60.0, False)
    phase = phases(run.columns, seen)
    assert [int(np.sum(phase == name)) for name in ("warmup", "main", "drain")] == [3, 597, 10]


def test_a_longer_warm_up_is_taken_where_asked(make: Callable[..., Any]) -> None:
    """The asked warm-up counts where it is longer than the rule's."""
    assert window(make(np.arange(0, 60, 0.1)), duration_s=60.0, warmup_s=7.0).start_s == 7.0


def test_a_run_by_count_is_measured_to_one_p99_before_its_last_arrival(make: Callable[..., Any]) -> None:
    """The last replies of a run by count run on an emptying server: they are left out."""
    assert window(make(np.arange(0, 60, 0.1))).end_s == pytest.approx(59.9 - 0.12)


def test_a_window_shorter_than_half_becomes_the_whole_run(make: Callable[..., Any]) -> None:
    """Where a warm-up would leave less than half, everything is measured and the window says so."""
    run = make(np.arange(0, 10, 0.1), ttft=4.0)
    seen = window(run)
    assert seen.whole_run
    assert (seen.start_s, seen.end_s) == (0.0, pytest.approx(9.9))
    assert np.all(phases(run.columns, seen) == "main")  # the last arrival too


def test_a_burst_is_measured_to_its_last_reply(make: Callable[..., Any]) -> None:
    """Arrivals at one instant have no rate of their own: the window ends with the last reply."""
    seen = window(make(np.zeros(50)))
    assert seen.whole_run
    assert seen.end_s == pytest.approx(0.1201, abs=1e-6)


def test_a_closed_loop_is_measured_until_its_first_user_runs_out(make: Callable[..., Any]) -> None:
    """Two users with 5 turns each; the faster one is out at 40 s, so the slower one's last turns are drain."""
    run = make(np.concatenate([np.arange(5) * 8.0, np.arange(5) * 20.0]))
    run["session"] = np.repeat([0, 1], 5)
    run["end_ns"] = run["scheduled_ns"] + np.repeat([8.0, 20.0], 5) * S
    seen = window(run, closed=True, users=2)
    assert seen.end_s == 40.0
    assert phases(run.columns, seen).tolist().count("drain") == 3


def test_users_with_turns_left_do_not_end_a_closed_window(make: Callable[..., Any]) -> None:
    """A run by duration plans more turns than are used: the unsent ones keep their user from running out."""
    run = make(np.append(np.arange(0, 30, 0.5), np.nan))
    run["session"] = np.zeros(61, dtype=np.int64)
    run.fail([60], "unsent")
    run["end_ns"][60] = np.nan
    seen = window(run, closed=True, users=1, duration_s=30.0)
    assert seen.end_s == 30.0
    assert phases(run.columns, seen)[-1] == "drain"


@pytest.mark.parametrize("interrupted", [True, False])
def test_a_run_that_ended_early_is_measured_to_what_was_offered(make: Callable[..., Any], *, interrupted: bool) -> None:
    """Stopped or killed at 20 s of 60: the window ends with the last request that was due, unsent ones are outside."""
    run = make(np.arange(0, 60, 0.1))
    run["outcome"][200:] = "unsent"
    seen = window(run, duration_s=60.0, interrupted=interrupted)
    assert seen.end_s == pytest.approx(19.9)


def test_a_run_without_a_success_still_has_a_window(make: Callable[..., Any]) -> None:
    """Every request failed: no E2E to choose by, so the whole plan is measured."""
    run = make(np.arange(0, 10, 0.1))
    run.fail(slice(None), "connection")
    seen = window(run, duration_s=10.0)
    assert (seen.start_s, seen.end_s, seen.mean_e2e_s) == (0.0, 10.0, None)


def test_no_requests_leave_a_window_of_positive_length(make: Callable[..., Any]) -> None:
    """Rates over an empty run divide by something."""
    assert window(make(np.empty(0))).length_s > 0


def test_batches_are_equal_parts_of_the_window() -> None:
    """Ten parts of 10 s; what lies outside is put in the nearest, a null time anywhere."""
    chosen = Window(0.0, 100.0, 1.0, 1.0, 0.0, whole_run=False)
    assert chosen.batch(np.array([0.0, 9.99, 10.0, 99.9, 100.0, -5.0])).tolist() == [0, 0, 1, 9, 9, 0]
    assert chosen.batch(np.array([np.nan])).tolist() == [0]
