"""Every validity check: silent on a clean run, and found where its cause is put into the records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.metrics.ask import Ask, Thresholds
from slobench.metrics.case import more_workers
from slobench.metrics.checks_instrument import wait_exceeded
from slobench.metrics.summary import Finding
from slobench.metrics.validity import verdict

S = 10**9
Clean = Callable[..., Any]


def found(run: Any) -> dict[str, str]:
    """Return the gravest level of each code that was found; each finding says all that a reader needs."""
    levels: dict[str, str] = {}
    for finding in run.evaluate().findings:
        assert all((finding.seen, finding.limit, finding.text, finding.advice)), finding
        levels.setdefault(finding.code, finding.level)
    return levels


def late(run: Any, rows: Any, by_s: float) -> None:
    """Begin requests later than scheduled."""
    for name in ("started_ns", "connected_ns", "sent_ns"):
        run[name][rows] += by_s * S


def in_flight_samples(run: Any) -> None:
    """Add what a worker that counts rightly would sample each second."""
    at = np.arange(1.0, 60.0)
    begun = np.searchsorted(np.sort(run["started_ns"]), at * S, side="right")
    ended = np.searchsorted(np.sort(run["end_ns"]), at * S, side="right")
    run.sample("in_flight", begun - ended, start=1.0)


def test_a_clean_run_has_no_finding(clean: Clean) -> None:
    """60 s of Poisson arrivals at 20/s, served in 0.12 s, watched by a calm worker: VALID, nothing else."""
    run = clean()
    in_flight_samples(run)
    evaluation = run.evaluate()
    assert evaluation.findings == ()
    assert verdict(evaluation.findings) == (True, "VALID")


@pytest.mark.parametrize("loop", ["open", "closed"])
def test_a_run_without_telemetry_is_judged_on_its_records(clean: Clean, loop: str) -> None:
    """Checks whose samples are missing are silent, in both kinds of loop."""
    run = clean(closed=loop == "closed", users=5)
    run.telemetry = []
    if loop == "closed":
        run["session"] = run["index"] % 5
    assert found(run) == {}


def test_no_records_have_no_findings(make: Callable[..., Any]) -> None:
    """An empty run is no reason for a finding, nor for an error."""
    assert found(make(np.empty(0))) == {}


# V01: send lag. S = 500 ms: p99 warns above 5 ms, invalid above 25 ms; 0.1 % later than 50 ms is invalid.


@pytest.mark.parametrize(("lag_s", "level"), [(0.0, None), (0.0045, None), (0.008, "warning"), (0.03, "invalid")])
def test_v01_send_lag(clean: Clean, lag_s: float, level: str | None) -> None:
    """Two in a hundred sends late by `lag_s`."""
    run = clean()
    late(run, slice(None, None, 50), lag_s)
    assert found(run).get("V01") == level


@pytest.mark.parametrize(("every", "level"), [(1000, None), (400, "invalid")])
def test_v01_a_few_very_late_sends(clean: Clean, every: int, level: str | None) -> None:
    """One send in 1,200 (0.09 %) may be later than 10 % of S, three (0.25 %) may not."""
    run = clean()
    late(run, slice(100, None, every) if every < 1000 else [100], 0.06)
    assert found(run).get("V01") == level


# V02: delivery.


@pytest.mark.parametrize(("missing", "level"), [(1, None), (6, "warning"), (24, "invalid")])
def test_v02_requests_that_were_never_begun(clean: Clean, missing: int, level: str | None) -> None:
    """0.08, 0.5 and 2 % of 1,181 planned requests failed on our side before they were sent."""
    run = clean()
    run.fail(slice(100, 100 + missing), "client")
    run["started_ns"][100 : 100 + missing] = np.nan
    assert found(run).get("V02") == level


@pytest.mark.parametrize("outcome", ["dropped", "lost"])
def test_v02_one_drop_or_loss_invalidates(clean: Clean, outcome: str) -> None:
    """A single arrival that was dropped, or lost with its worker, is one too many."""
    run = clean()
    run.fail([500], outcome)
    run["end_ns"][500] = np.nan
    assert found(run)["V02"] == "invalid"


@pytest.mark.parametrize(("limit", "said"), [(1024, "`max_in_flight` allows"), (66, "open files allow (`ulimit -n`)")])
def test_v02_says_whether_the_safety_stop_or_open_files_were_the_limit(clean: Clean, limit: int, said: str) -> None:
    """At most a few are in flight in the clean run: all that a limit of 66 leaves beside the worker's own 64."""
    run = clean()
    run.fail([500], "dropped")
    run["started_ns"][500] = run["end_ns"][500] = np.nan
    run.telemetry = [row for row in run.telemetry if row[2] != "fd_limit"]
    run.sample("fd_limit", np.full(10, float(limit)))
    (finding,) = [each for each in run.evaluate().findings if each.code == "V02"]
    assert said in finding.text


# V03: heartbeat. G = 50 ms: p99 warns above 2.5 ms, invalid above 5 ms.


@pytest.mark.parametrize(("overshoot_ms", "level"), [(2, None), (3, "warning"), (6, "invalid")])
def test_v03_the_loop_of_one_worker_is_late(clean: Clean, overshoot_ms: float, level: str | None) -> None:
    """The worst worker decides; others are calm."""
    run = clean()
    beats = np.full(1000, 80_000.0)
    beats[::50] = overshoot_ms * 1e6
    run.sample("heartbeat_overshoot_ns", beats, source="worker-1", step=0.05)
    assert found(run).get("V03") == level


# V04: CPU, throttling, steal, garbage collection.


@pytest.mark.parametrize(("busy", "level"), [(0.5, None), (0.7, "warning"), (0.9, "invalid")])
def test_v04_cpu(clean: Clean, busy: float, level: str | None) -> None:
    """CPU seconds of a worker per second of the window."""
    run = clean()
    run.sample("cpu_s", 3 + np.arange(61) * busy, source="worker-1")
    assert found(run).get("V04") == level


@pytest.mark.parametrize(("throttled_s", "level"), [(0.0, None), (0.03, "warning"), (0.5, "invalid")])
def test_v04_throttling(clean: Clean, throttled_s: float, level: str | None) -> None:
    """Any throttling warns; more than 0.1 % of the time invalidates."""
    run = clean()
    run.sample("throttled_s", np.linspace(7, 7 + throttled_s, 61), source="worker-1")
    assert found(run).get("V04") == level


@pytest.mark.parametrize(("steal", "level"), [(0.005, None), (0.03, "warning"), (0.08, "invalid")])
def test_v04_steal(clean: Clean, steal: float, level: str | None) -> None:
    """CPU time that the hypervisor gave to others."""
    run = clean()
    run.sample("steal_share", np.full(60, steal), source="worker-1")
    assert found(run).get("V04") == level


@pytest.mark.parametrize(
    ("pauses", "pause_ms", "level"),
    [(1, 25, None), (300, 2.2, None), (300, 3, "warning"), (1000, 8, "invalid"), (5000, 0.4, None)],
)
def test_v04_garbage_collection(clean: Clean, pauses: int, pause_ms: float, level: str | None) -> None:
    """The wait that 1 % of moments exceed counts: one pause of 25 ms in a minute reaches no p99, 1,000 of 8 ms do.

    300 pauses of 3 ms fill 1.5 % of the minute; 1 % of moments wait over 1 ms, which is above 1 % of G (0.5 ms).
    """
    run = clean()
    run.telemetry = [row for row in run.telemetry if row[2] != "gc_pause_ns"]
    run.sample("gc_pause_ns", np.full(pauses, pause_ms * 1e6), source="worker-1", start=1.0, step=58 / pauses)
    assert found(run).get("V04") == level


@given(
    pauses_ms=st.lists(st.floats(0.01, 500), max_size=30),
    share=st.sampled_from([0.001, 0.01, 0.1]),
)
def test_v04_the_wait_is_exceeded_in_just_that_share_of_moments(pauses_ms: list[float], share: float) -> None:
    """Moments that wait longer than the result fill the share; where the pauses fill less, the result is 0."""
    pauses, length = np.array(pauses_ms) / 1e3, 60.0
    wait = wait_exceeded(pauses, length, share)
    longer = float(np.sum(np.maximum(pauses - wait, 0.0)))
    if pauses.sum() <= share * length:
        assert wait == 0.0
    else:
        assert longer == pytest.approx(share * length)


# V05: coalesced first tokens. S = 500 ms: an error above 5 ms counts.


@pytest.mark.parametrize(
    ("rows", "error_ms", "level"), [(1, 8, None), (6, 8, "warning"), (30, 8, "invalid"), (30, 4, None)]
)
def test_v05_uncertain_first_tokens(clean: Clean, rows: int, error_ms: float, level: str | None) -> None:
    """0.08, 0.5 and 2.5 % of first tokens came in one read with later events."""
    run = clean()
    run["first_token_error_ns"][200 : 200 + rows] = error_ms * 1e6
    assert found(run).get("V05") == level


@pytest.mark.parametrize(("beats", "level"), [(1, None), (6, "warning"), (30, "invalid")])
def test_v05_without_kernel_stamps_the_loop_is_looked_at(clean: Clean, beats: int, level: str | None) -> None:
    """0.08, 0.5 and 2.5 % of 1,200 heartbeats came more than 5 ms late; first-token errors say nothing then."""
    run = clean(stamps="user")
    run["first_token_error_ns"][:] = 0.0
    run.telemetry = []
    late_beats = np.full(1200, 80_000.0)
    late_beats[300 : 300 + beats] = 6e6
    run.sample("heartbeat_overshoot_ns", late_beats, step=0.05)
    assert found(run).get("V05") == level


# V06: connections.


@pytest.mark.parametrize(("wait_ms", "level"), [(0.5, None), (3, "warning"), (30, "invalid")])
def test_v06_waiting_for_an_open_connection(clean: Clean, wait_ms: float, level: str | None) -> None:
    """Sent minus started over connections that were open: p99 above 1 ms warns, above 5 % of S invalidates."""
    run = clean()
    run["sent_ns"][::50] = run["started_ns"][::50] + wait_ms * 1e6
    assert found(run).get("V06") == level


@pytest.mark.parametrize(("share", "level"), [(200, None), (50, "warning")])
def test_v06_new_connections(clean: Clean, share: int, level: str | None) -> None:
    """0.5 % of requests may open a connection, 2 % may not; with a connection per request all do, and may."""
    run = clean()
    run["connection_new"][::share] = 1.0
    assert found(run).get("V06") == level
    run["connection_new"][:] = 1.0
    run.ask = replace(run.ask, connection="per-request")
    assert "V06" not in found(run)


@pytest.mark.parametrize(("fds", "level"), [(700, None), (900, "warning"), (1024, "invalid")])
def test_v06_file_descriptors(clean: Clean, fds: int, level: str | None) -> None:
    """Of 1,024 descriptors 80 % may be open; at the limit no connection could be opened."""
    run = clean()
    run.sample("open_fds", [fds], start=30.0)
    assert found(run).get("V06") == level


# V07: stationarity.


def grow(run: Any, last_s: float) -> None:
    """Let TTFT grow linearly over the run from 50 ms."""
    at = np.linspace(0.0, last_s - 0.05, len(run["index"])) * S
    for name in ("headers_ns", "first_token_ns", "first_output_ns", "last_token_ns", "end_ns"):
        run[name] = run[name] + at


def test_v07_an_overloaded_server_is_a_result_not_an_invalid_run(clean: Clean) -> None:
    """TTFT that grows from 50 ms to 10 s is OVERLOADED: VALID, marked percentiles, the SLO missed."""
    run = clean()
    run.slo = ("ttft<60s", "attainment>=50%")
    grow(run, 10.0)
    evaluation = run.evaluate()
    (finding,) = [f for f in evaluation.findings if f.code == "V07"]
    assert (finding.level, finding.side) == ("server", "server")
    assert "OVERLOADED" in finding.seen
    assert verdict(evaluation.findings)[1].startswith("VALID (server: V07 OVERLOADED")
    assert evaluation.latency["all"]["ttft"]["p99"].note.endswith("not steady")
    assert evaluation.results["all"].attainment.value == 1.0
    assert evaluation.results["all"].met is False


def test_v07_is_found_too_where_the_window_is_the_whole_run(clean: Clean) -> None:
    """A queue that grows for the whole run leaves no room for a warm-up; its TTFT still says so."""
    run = clean()
    grow(run, 40.0)
    levels = found(run)
    assert levels["V07"] == "server"
    assert levels["V08"] == "warning"


def test_v07_a_drift_without_growth_is_a_warning(clean: Clean) -> None:
    """TTFT that grows by 10 % beyond chance: not steady perhaps, not overloaded."""
    run = clean()
    grow(run, 0.055)
    assert found(run)["V07"] == "warning"


def test_v07_a_short_run_that_fills_the_server_is_not_overloaded(make: Callable[..., Any]) -> None:
    """30 requests whose replies outlast the arrivals: the growing number in flight is no overload."""
    run = make(np.arange(30) / 10, ttft=3.0)
    assert found(run).get("V07") is None


def test_v07_warns_about_level_runs_as_rarely_as_it_says(clean: Clean) -> None:
    """Of 60 clean runs with noisy TTFT at most 9 warn (chance of 10 or more at 5 %: 0.1 %), and none is overloaded."""
    levels = []
    for seed in range(60):
        run = clean(seed=seed)
        noise = np.random.default_rng(seed).lognormal(0, 0.5, len(run["index"])) * 0.05 * S
        for name in ("headers_ns", "first_token_ns", "first_output_ns", "last_token_ns", "end_ns"):
            run[name] = run[name] + noise
        run.telemetry = []
        levels.append(found(run).get("V07"))
    assert "server" not in levels
    assert levels.count("warning") <= 9


# V08: length.


def test_v08_a_short_window_is_a_warning_and_no_more(clean: Clean) -> None:
    """60 s of replies of 3 s are 18 mean E2E after the warm-up: a plain run warns."""
    run = clean()
    run.slo = ("ttft<5s",)
    for name in ("last_token_ns", "end_ns"):
        run[name] = run[name] + 3 * S
    assert found(run)["V08"] == "warning"


def test_v08_replies_of_half_a_second_do_not_warn_in_a_minute(clean: Clean) -> None:
    """30 windows of mean E2E fit; intervals are marked optimistic, which is no finding."""
    run = clean()
    for name in ("last_token_ns", "end_ns"):
        run[name] = run[name] + 0.38 * S
    evaluation = run.evaluate()
    assert evaluation.findings == ()
    assert "optimistic" in evaluation.latency["all"]["ttft"]["p50"].note


def test_v08_empty_stretches_leave_too_few_batches(make: Callable[..., Any]) -> None:
    """Arrivals in the first and last tenth only: no ten batches, no intervals."""
    run = make(np.concatenate([np.arange(0, 6, 0.1), np.arange(55, 60, 0.1)]), ask=Ask(duration_s=60.0))
    assert found(run)["V08"] == "warning"


@pytest.mark.parametrize(
    ("claim", "e2e_s", "level"), [(False, 3.0, "warning"), (True, 3.0, "warning"), (True, 5.5, "invalid")]
)
def test_v08_a_claim_needs_ten_mean_e2e(clean: Clean, claim: bool, e2e_s: float, level: str) -> None:  # noqa: FBT001
    """60 s with replies of 3.1 s (17 of them in the window) may carry a claim, with replies of 5.6 s (9) they may not.

    A run that only reports warns of both.
    """
    run = clean(claim=claim)
    run.slo = ("ttft<50s",)
    for name in ("last_token_ns", "end_ns"):
        run[name] = run[name] + e2e_s * S
    assert found(run)["V08"] == level


# V09: precision of judged quantiles.


@pytest.mark.parametrize(("clause", "level"), [("ttft:p50<500ms", None), ("ttft:p99.9<500ms", "warning")])
def test_v09_a_judged_quantile_needs_requests_beyond_it(clean: Clean, clause: str, level: str | None) -> None:
    """1,170 requests have 1 beyond p99.9; quantiles that the SLO does not judge are not looked at."""
    run = clean()
    noise = np.random.default_rng(1).lognormal(0, 0.5, len(run["index"])) * 0.05 * S
    for name in ("headers_ns", "first_token_ns", "first_output_ns", "last_token_ns", "end_ns"):
        run[name] = run[name] + noise
    run.slo = (clause,)
    assert found(run).get("V09") == level


# V10: errors.


@pytest.mark.parametrize(("failures", "level"), [(1, None), (6, "warning"), (24, "server")])
def test_v10_errors_are_the_servers_result(clean: Clean, failures: int, level: str | None) -> None:
    """0.09, 0.5 and 2 % of the window's requests failed."""
    run = clean()
    run.fail(slice(100, 100 + failures), "http_error", "500", status=500)
    assert found(run).get("V10") == level


def test_v10_errors_up_to_the_allowed_share_only_warn(clean: Clean) -> None:
    """2 % errors with 5 % allowed."""
    run = clean(allowed_error_share=0.05)
    run.fail(slice(100, 124), "http_error", "500", status=500)
    assert found(run)["V10"] == "warning"


# V11: the workload as planned.


@pytest.mark.parametrize(("short", "level"), [(0.005, None), (0.03, "warning"), (0.1, "invalid")])
def test_v11_output_tokens(clean: Clean, short: float, level: str | None) -> None:
    """Forced lengths that did not come."""
    run = clean()
    run["output_tokens"] = run["output_tokens"] * (1 - short)
    assert found(run).get("V11") == level


def test_v11_lengths_that_were_not_forced_only_warn(clean: Clean) -> None:
    """Replies that end by themselves are not those that were planned; that is said, and no reason to void a run."""
    run = clean(forces_length=False)
    run["output_tokens"] = run["output_tokens"] / 2
    assert found(run)["V11"] == "warning"


def test_v11_a_class_of_free_length_is_no_broken_promise(clean: Clean) -> None:
    """Half as many tokens in a class that may stop where it likes: a warning; where lengths are forced, invalid."""
    for free, level in ((frozenset({"chat"}), "warning"), (frozenset({"batch"}), "invalid")):
        run = clean(free=free)
        run["output_tokens"] = run["output_tokens"] / 2
        assert found(run)["V11"] == level


@pytest.mark.parametrize(("extra", "level"), [(0.005, None), (0.03, "warning"), (0.1, "invalid")])
def test_v11_input_tokens_where_ids_were_sent(clean: Clean, extra: float, level: str | None) -> None:
    """The server counted more prompt tokens than ids were sent."""
    run = clean()
    run["input_tokens"] = run["input_tokens"] * (1 + extra)
    assert found(run).get("V11") == level


@pytest.mark.parametrize(("drift", "level"), [(0.0, None), (0.03, "warning")])
def test_v11_text_prompts_are_calibrated_in_warm_up(clean: Clean, drift: float, level: str | None) -> None:
    """Text of 30 % more tokens than planned is no finding; tokens that drift away from the warm-up's are."""
    run = clean(ids_sent=False, warmup_s=10.0)
    run["input_tokens"] = run["input_tokens"] * 1.3
    run["input_tokens"][300:] *= 1 + drift
    assert found(run).get("V11") == level


@pytest.mark.parametrize("kind", ["chats", "texts"])
@pytest.mark.parametrize(("extra", "level"), [(0.0, None), (0.03, "warning")])
def test_v11_counts_ids_and_text_of_several_classes_apart(
    clean: Clean, extra: float, level: str | None, kind: str
) -> None:
    """Text that is 30 % longer than planned is no finding beside a class whose ids are counted exactly."""
    run = clean(**{kind: frozenset({"chat"})}, warmup_s=10.0)
    other = np.arange(len(run["index"])) % 2 == 1
    run["class"] = np.where(other, "batch", "chat").astype(object)
    run["input_tokens"] = run["input_tokens"] * np.where(other, 1 + extra, 1.3)
    assert found(run).get("V11") == level


# V12: the shape of streams.


def test_v12_several_tokens_an_event(clean: Clean) -> None:
    """Two tokens an event: single tokens cannot be timed."""
    run = clean()
    run["chunks"] = run["chunks"] / 2
    assert found(run)["V12"] == "warning"


@pytest.mark.parametrize(("every", "level"), [(50, None), (10, "invalid")])
def test_v12_buffered_replies(clean: Clean, every: int, level: str | None) -> None:
    """2 % of replies may arrive whole, 10 % mean that something buffers the stream."""
    run = clean()
    for name in ("headers_ns", "first_token_ns", "first_output_ns"):
        run[name][::every] = run["last_token_ns"][::every]
    assert found(run).get("V12") == level


def test_v12_long_replies_within_milliseconds_are_buffered_too(make: Callable[..., Any]) -> None:
    """40 tokens within 4 ms are not made one by one."""
    run = make(np.arange(0, 60, 0.1), tokens=40, gap=0.0001, ask=Ask(duration_s=60.0))
    assert found(run)["V12"] == "invalid"


def test_v12_late_ends_are_told(clean: Clean) -> None:
    """A usage event 80 ms after the last token, in the median reply."""
    run = clean()
    run["end_ns"] = run["end_ns"] + 0.08 * S
    assert found(run) == {"V12": "warning"}


def test_v12_is_silent_where_nothing_streams(clean: Clean) -> None:
    """Without streaming there is no stream to judge."""
    run = clean(stream=False)
    for name in ("first_token_ns", "first_output_ns"):
        run[name][:] = np.nan
    run.slo = ("e2e<1s",)
    assert found(run) == {}


# V13: accounting.


def test_v13_an_unknown_outcome_or_a_double_index_is_damage(clean: Clean) -> None:
    """Every planned request has exactly one of the outcomes."""
    run = clean()
    run["outcome"][7] = "vanished"
    assert found(run)["V13"] == "invalid"


@pytest.mark.parametrize(("name", "by_ns"), [("started_ns", -60_000), ("sent_ns", -80_000), ("last_token_ns", 0.3 * S)])
def test_v13_times_out_of_order(clean: Clean, name: str, by_ns: float) -> None:
    """A send before its schedule, or an end long before the last token: the clock cannot be trusted."""
    run = clean()
    run[name][11] += by_ns
    assert found(run)["V13"] == "invalid"


@pytest.mark.parametrize(("counted_twice", "level"), [(0, None), (1, "invalid")])
def test_v13_littles_law(clean: Clean, counted_twice: int, level: str | None) -> None:
    """Workers count one request more in flight than the records hold."""
    run = clean()
    in_flight_samples(run)
    run.telemetry = [
        (at, source, name, value + counted_twice * (name == "in_flight")) for at, source, name, value in run.telemetry
    ]
    assert found(run).get("V13") == level


def test_v13_a_wall_clock_that_is_set_is_found(clean: Clean) -> None:
    """One step of 200 ms in one worker's telemetry; steps that are let pass are none."""
    run = clean()
    run.sample("wall_step_ns", [-200e6], start=20.0)
    (finding,) = [f for f in run.evaluate().findings if f.code == "V13"]
    assert (finding.level, finding.seen) == ("invalid", "the wall clock was set 1 times, by up to 200 ms")
    run.ask = replace(run.ask, thresholds=Thresholds.model_validate({"v13_clock_steps": 1}))
    assert "V13" not in found(run)


@pytest.mark.parametrize(("steps", "level"), [(0, None), (3, "invalid")])
def test_v13_stamps_that_cannot_be_true(clean: Clean, steps: int, level: str | None) -> None:
    """Reads whose kernel stamp lies in the future or far back."""
    run = clean()
    run.sample("clock_steps", np.minimum(np.arange(60), steps))
    assert found(run).get("V13") == level


# V18: arrivals as planned.


def test_v18_sends_that_wait_for_each_other(clean: Clean) -> None:
    """Sends gathered in steps of 0.25 s: each late by 125 ms in the mean, and no Poisson process any more."""
    run = clean()
    run.slo = ("ttft<100s",)
    gathered = np.ceil(run["scheduled_ns"] / (0.25 * S)) * 0.25 * S - run["scheduled_ns"]
    late(run, slice(None), gathered / S)
    assert found(run)["V18"] == "invalid"


def test_v18_a_stall_changes_the_dispersion(clean: Clean) -> None:
    """Four stalls of 2 s, caught up at once: gaps are few to differ, counts per second do."""
    run = clean()
    run.slo = ("ttft<100s",)
    at = run["scheduled_ns"] / S
    for start in (10.0, 20.0, 30.0, 40.0):
        stalled = (at > start) & (at < start + 2)
        late(run, stalled, start + 2 - at[stalled])
    texts = [f.seen for f in run.evaluate().findings if f.code == "V18"]
    assert any(text.startswith("dispersion") for text in texts)


def test_v18_even_arrivals_may_jitter(make: Callable[..., Any]) -> None:
    """Sends of a constant process 0-0.3 ms late are the planned process; 0-30 ms late they are not."""
    small = make(np.arange(0, 60, 0.05), ask=Ask(duration_s=60.0))
    late(small, slice(None), np.random.default_rng(1).uniform(0, 0.0003, 1200))
    assert "V18" not in found(small)
    large = make(np.arange(0, 60, 0.05), ask=Ask(duration_s=60.0))
    late(large, slice(None), np.random.default_rng(1).uniform(0, 0.03, 1200))
    assert found(large)["V18"] == "invalid"


def test_v18_has_nothing_to_say_of_closed_loops(clean: Clean) -> None:
    """Users send when they are ready: there are no planned gaps."""
    run = clean(closed=True, users=3)
    run.slo = ("ttft<100s",)
    late(run, slice(None, None, 2), 0.2)
    assert "V18" not in found(run)


# V19: replies that could not be judged.


@pytest.mark.parametrize(("rows", "level"), [(0, None), (10, "warning"), (120, "invalid")])
def test_v19_unjudgeable_replies(clean: Clean, rows: int, level: str | None) -> None:
    """Replies with hidden reasoning have no TTFT to judge: some warn, over 5 % invalidate."""
    run = clean()
    run["reasoning_tokens"][100 : 100 + rows] = 2.0
    assert found(run).get("V19") == level


# Verdicts and thresholds.


def test_the_verdict_names_the_first_reason_with_its_limit() -> None:
    """An INVALID line says what was seen, the limit, what it means and which other checks failed."""
    lag = Finding(
        "V01",
        "invalid",
        "instrument",
        "send lag p99 31 ms",
        "25 ms (5 % of the 500 ms TTFT limit)",
        "the client is saturated",
    )
    cpu = Finding("V04", "invalid", "instrument", "CPU", "85 %", "busy")
    short = Finding("V08", "warning", "workload", "window", "30", "short")
    steady = Finding("V07", "server", "server", "OVERLOADED: TTFT grew", "1.25-fold", "too much")
    assert verdict((lag, cpu, short)) == (
        False,
        "INVALID: V01 send lag p99 31 ms > 25 ms (5 % of the 500 ms TTFT limit): the client is saturated (also V04)",
    )
    assert verdict((short,)) == (True, "VALID (warnings: V08)")
    assert verdict((steady, short)) == (True, "VALID (server: V07 OVERLOADED; warnings: V08)")


def test_an_invalid_run_says_so_in_full(clean: Clean) -> None:
    """The verdict of a saturated client reads like the example in docs/metrics.md."""
    run = clean(workers=3)
    late(run, slice(None, None, 50), 0.03095)
    line = verdict(run.evaluate().findings)[1]
    assert line.startswith("INVALID: V01 send lag p99 31 ms > 25 ms (5 % of the 500 ms TTFT limit): ")
    assert "--workers 6" in line


@pytest.mark.parametrize(
    ("workers", "cores", "advice"),
    [
        (1, None, "--workers 2 "),
        (3, None, "--workers 6 "),
        (1, 8.0, "--workers 2 "),
        (3, 4.0, "--workers 4 "),
        (4, 4.0, "no core is free"),
        (1, 1.0, "no core is free"),
    ],
)
def test_more_workers_are_advised_where_a_core_is_free(workers: int, cores: float | None, advice: str) -> None:
    """Twice as many, as far as cores go; where all are in use another host."""
    said = more_workers(Ask(workers=workers, cores=cores))
    assert advice in said
    assert "another host" in said
    assert ("--workers " + str(workers * 2) in said) <= (cores is None or workers * 2 <= cores)


def test_thresholds_are_settings_that_survive_run_json() -> None:
    """They go to a plain dict and back; an unknown name is an error."""
    changed = Thresholds.model_validate({"v10_errors": {"past": 0.2}, "v08_batches": 5})
    assert changed.v10_errors.warning == Thresholds().v10_errors.warning
    assert Thresholds.from_dict(changed.to_dict()) == changed
    assert Thresholds.from_dict({}) == Thresholds()
    with pytest.raises(Exception, match="unknown threshold 'v99'"):
        Thresholds.from_dict({"v99": 1})


def test_a_threshold_that_is_changed_is_used(clean: Clean) -> None:
    """With 20 % errors past the limit instead of 1 %, 2 % only warn."""
    run = clean(thresholds=Thresholds.model_validate({"v10_errors": {"past": 0.2}}))
    run.fail(slice(100, 124), "http_error", "500", status=500)
    assert found(run)["V10"] == "warning"


# V21: clocks of several hosts. S = 500 ms: an error above 5 ms warns, above 25 ms is invalid; the worst host counts.


@pytest.mark.parametrize(
    ("clocks", "level"),
    [
        ({}, None),
        ({"a": 0.0003, "b": 0.0049}, None),
        ({"a": 0.0003, "b": 0.008}, "warning"),
        ({"a": 0.03, "b": 0.0003}, "invalid"),
    ],
)
def test_v21_clocks_of_hosts(clean: Clean, clocks: dict[str, float], level: str | None) -> None:
    """By how much times of the worst host may be off the run's clock; it is named, and more of Ray is advised."""
    run = clean(clocks=clocks)
    assert found(run).get("V21") == level
    if level is not None:
        named = next(each for each in run.evaluate().findings if each.code == "V21")
        assert named.seen.startswith(f"clock of {max(clocks, key=lambda host: clocks[host])} known to ±")
        assert "--workers ray/4" in more_workers(Ask(workers=2, clocks=clocks))
