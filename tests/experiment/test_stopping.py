"""Rules that end a run early: when looks are made, what they may say, and what then happens to the offer."""

from __future__ import annotations

import re
import signal
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.config.slo import parse_slo
from slobench.config.until import Decided, Precise
from slobench.config.workload import Workload
from slobench.errors import ConfigError
from slobench.experiment import stopping as stopping_module
from slobench.experiment.events import Notice
from slobench.experiment.offer import OfferEnd
from slobench.experiment.stopping import Reason, Stopping, how_it_stopped, planned_looks, refuse_undecidable
from slobench.names import Exit
from tests.experiment.running import report, running, until
from tests.experiment.test_offer import Asked, S, follow, workload
from tests.experiment.test_offer import FakePool as Pool

FAST = ("--target", "sim", "--rate", "40", "--input-tokens", "16", "--output-tokens", "8", "--workers", "1")
EAGER = ("--set", "until.batch=500ms", "--set", "until.first_look=3s")


@given(
    first=st.floats(0.5, 100),
    growth=st.floats(1.01, 3),
    bound=st.none() | st.floats(1, 10_000),
)
def test_looks_are_few_ever_further_apart_and_before_the_bound(
    first: float, growth: float, bound: float | None
) -> None:
    """At least a second apart, none at or after the bound, which the run's own end is."""
    rule = Decided(first_look=first, growth=growth)
    found = planned_looks(rule, bound)
    assert len(found) <= 200
    rounded = 0.0005 * (1 + growth)  # times are given to the ms, and to the precision of a float
    assert all(b - a >= 0.999 and b * (1 + 1e-12) >= growth * a - rounded for a, b in pairwise(found))
    assert bound is None or all(at < bound + 1e-3 for at in found)
    assert found or (bound is not None and bound <= first + 1e-3)


def judged(*clauses: str, **until: Any) -> None:
    """Refuse or not."""
    spec = workload(until=until)
    refuse_undecidable(spec, parse_slo(clauses, tuple(spec.classes)))


def test_what_cannot_be_decided_is_refused_before_the_start() -> None:
    """No objective; all of them good, which no number of requests shows; attainment of nothing."""
    with pytest.raises(ConfigError, match="no objective"):
        judged("ttft<500ms", rule="decided")
    with pytest.raises(ConfigError, match="no number of requests"):
        judged("ttft<500ms", "attainment>=100%", rule="decided")
    with pytest.raises(ConfigError, match="needs limits"):
        judged("error_rate<1%", rule="precision", within={"attainment": 0.01})
    judged("ttft:p99<500ms", rule="decided")
    judged("error_rate<1%", rule="precision", within={"attainment": 0.01, "ttft:p50": 0.1})


class Told(Stopping):
    """Looks that say what they are told to, one a tick."""

    def __init__(self, *reasons: Reason | None) -> None:
        super().__init__(Path(), ())
        self.reasons = list(reasons)

    def tick(self, now_ns: int) -> Reason | None:
        return self.reasons.pop(0) if self.reasons else None


@pytest.mark.parametrize(("reason", "stop"), [("met", "decided"), ("missed", "decided"), ("precise", "precise")])
@pytest.mark.parametrize(
    ("drain", "tail_s", "cut_s"),
    [({"mode": "wait"}, 2, None), ({"mode": "cut"}, 0, 0), ({"mode": "grace", "grace": "5s"}, 2, 5)],
)
def test_a_rule_ends_the_offer_as_its_duration_would(
    tmp_path: Path, reason: Reason, stop: str, drain: dict[str, Any], tail_s: float, cut_s: float | None
) -> None:
    """It is told once, goes on for its last replies, and drains by the workload's policy from there on."""
    pool = Pool(ends=lambda pool: pool.ticks >= 4)
    events = list(
        follow(tmp_path, workload(drain, duration="60s"), pool, at_s=5, e2e_s=(1.0,) * 100, stopping=Told(None, reason))
    )
    end = events[-1]
    assert isinstance(end, OfferEnd)
    assert (end.stop, end.interrupted) == (stop, False)
    assert end.stopped_ns is not None
    stops = [told for told in pool.told if told != "cut"]
    # The histogram's bins are 2.5 % wide.
    assert stops == [("stop", pytest.approx(end.stopped_ns + tail_s * S, abs=0.026 * tail_s * S))]
    assert ("cut" in pool.told) is (cut_s == 0)  # 5 s are not over yet
    assert sum(isinstance(event, Notice) for event in events) == 1


def test_an_interrupt_comes_before_a_rule(tmp_path: Path) -> None:
    """Who stopped by hand did not wait for the rule: no look is heeded any more."""
    pool = Pool(ends=lambda pool: pool.ticks >= 4)
    events = list(follow(tmp_path, workload(), pool, at_s=5, asked=Asked(1), stopping=Told(None, "met", "met")))
    assert (events[-1].stop, events[-1].stopped_ns) == ("interrupted", None)


def look_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let looks be made by a script."""
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\n{text}\n")
    script.chmod(0o755)
    monkeypatch.setattr(stopping_module.sys, "executable", str(script))


def ticked(stopping: Stopping, now_s: float) -> Reason | None:
    """Tick until the look in progress has ended."""
    found = stopping.tick(round(now_s * S))
    until(lambda: stopping._process is None or stopping._process.poll() is not None, "the look ends")
    return found


def test_looks_come_when_they_are_due_and_the_missed_ones_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One at a time; the sizes that one found are handed to the next."""
    look_script(
        tmp_path, monkeypatch, """read line; echo "$line" >> "$0.log"; echo '{"stop": null, "sizes": {"a": 7}}'"""
    )
    stopping = Stopping(tmp_path, (1.0, 2.0, 3.0, 9.0))
    assert [ticked(stopping, at) for at in (0.5, 2.5, 2.6, 5.0, 8.0)] == [None] * 5
    asked = (tmp_path / "python.log").read_text().splitlines()
    assert ['"at_ns":2500000000' in asked[0], '"at_ns":5000000000' in asked[1], len(asked)] == [True, True, 2]
    assert '"sizes":{}' in asked[0]
    assert '"sizes":{"a":7}' in asked[1]
    assert len(stopping.looks) == 2


def test_a_look_that_says_stop_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what it saw is kept for run.json."""
    look_script(tmp_path, monkeypatch, """echo '{"stop": "missed", "settled_s": 3}'""")
    stopping = Stopping(tmp_path, (1.0,))
    assert [ticked(stopping, 1.0), ticked(stopping, 1.5)] == [None, "missed"]
    told = how_it_stopped(stopping, "decided", 1_500_000_000, 2 * S)
    assert told == {
        "reason": "missed",
        "found": "missed",
        "stopped_s": 1.5,
        "looks": [{"stop": "missed", "settled_s": 3}],
    }


def test_a_look_that_fails_is_noted_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last words stand in run.json; at the bound it is looked at once more."""
    look_script(tmp_path, monkeypatch, "echo 'no spool' >&2; exit 1")
    stopping = Stopping(tmp_path, (1.0,))
    assert [ticked(stopping, 1.0), ticked(stopping, 2.0)] == [None, None]
    told = how_it_stopped(stopping, "complete", None, 3 * S)
    assert (told["reason"], told["found"]) == ("bound", None)
    assert told["looks"] == [{"error": "no spool"}] * 2


def test_a_look_in_progress_is_ended_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No process outlives it."""
    look_script(tmp_path, monkeypatch, "exec sleep 60")
    stopping = Stopping(tmp_path, (1.0,))
    stopping.tick(1 * S)
    process = stopping._process
    assert process is not None
    before = time.monotonic()
    stopping.close()
    assert process.poll() is not None
    assert time.monotonic() - before < 59  # it was ended, not waited for


def test_a_run_that_is_decided_early_stops_early_and_its_files_are_complete(tmp_path: Path) -> None:
    """40 requests/s, all good, against 80 %: far from its bound of 120 s; window, rows and verdict are of one piece."""
    words = (*FAST, "--slo", "ttft<5s", "--slo", "attainment>=80%", "--until-decided", "--duration", "120s", *EAGER)
    with running(tmp_path / "r", *words, "--json") as run:
        code = run.end()
        found, kept, rows = run.json(), run.run_json(), run.rows()
    assert kept["run"]["stop"] == "decided"
    rule = kept["stopping"]
    assert (rule["rule"], rule["reason"], rule["found"]) == ("decided", "met", "met")
    assert rule["looks"][-1]["stop"] == "met"
    assert rule["planned_looks_s"][0] == 3.0
    assert rule["stopped_s"] < 100
    assert found["stopping"] == rule
    assert found["slo"]["all"]["met"] is True
    assert "stopped when decided" in found["slo"]["all"]["note"]
    assert found["window"]["end_s"] == pytest.approx(rule["stopped_s"])
    assert code in {0, 3}  # a busy machine may spoil the measurement, never the decision
    outcome = rows["outcome"]
    sent = outcome.count("ok")
    assert len(outcome) == kept["plan"]["rows"]
    assert outcome == ["ok"] * sent + ["unsent"] * (len(outcome) - sent)
    at_s = [ns / 1e9 for ns in rows["scheduled_ns"]]
    assert rule["stopped_s"] <= at_s[sent]  # what was due before is there
    assert {rows["phase"][i] for i in range(sent) if at_s[i] >= rule["stopped_s"]} <= {"drain"}
    assert not (tmp_path / "r" / "spool").exists()
    again, told = report(tmp_path / "r")
    assert (again, told["stopping"], told["window"]) == (code, rule, found["window"])


def test_a_missed_slo_ends_the_run_too(tmp_path: Path) -> None:
    """A limit that no reply meets: exit 4 after some seconds."""
    words = (*FAST, "--slo", "ttft<100us", "--slo", "attainment>=90%", "--until-decided", "--requests", "4000", *EAGER)
    with running(tmp_path / "r", *words, "--json") as run:
        run.end()
        found = run.json()
    assert (found["stopping"]["reason"], found["slo"]["all"]["met"]) == ("missed", False)
    assert 4 in found["exits"]
    assert found["outcomes"]["all"]["unsent"] > 1000


def test_a_run_that_is_precise_enough_stops(tmp_path: Path) -> None:
    """Half of the value is soon known of the median gap; the report says at which look, and marks its intervals."""
    words = (*FAST, "--until-precision", "tpot:p50=50%", "--duration", "120s", "--set", "until.first_look=5s")
    with running(tmp_path / "r", *words, "--json") as run:
        run.end()
        found = run.json()
    rule = found["stopping"]
    assert (rule["rule"], rule["reason"]) == ("precision", "precise")
    assert rule["looks"][-1]["metrics"]["tpot:p50"]["half_width"] <= 0.5
    assert "stopped when precise" in found["latency"]["tpot"]["p50"]["note"]


def test_a_run_that_decides_nothing_until_its_bound_exits_7(tmp_path: Path) -> None:
    """Four seconds are too few for 99.9 %: looked at once more at the end, then undecided."""
    words = (*FAST, "--slo", "ttft<5s,attainment>=99.9%", "--until-decided", "--duration", "4s", *EAGER)
    with running(tmp_path / "r", *words, "--json") as run:
        run.end()
        found = run.json()
    assert (found["stopping"]["reason"], found["stopping"]["found"]) == ("bound", None)
    assert found["stopping"]["looks"][-1]["objectives"]["attainment>=99.9%"]["decided"] is None
    assert 7 in found["exits"]


def test_intervals_of_a_run_that_was_stopped_by_hand_say_so(tmp_path: Path) -> None:
    """Whoever watches and stops when the numbers please gets numbers that please: each interval carries the note."""
    with running(tmp_path / "r", *FAST, "--duration", "10m", "--json") as run:
        until(lambda: re.search(rb"sent 1[0-9][0-9]", run.err.read_bytes()) is not None, "some replies")
        run.process.send_signal(signal.SIGINT)
        assert run.end() == Exit.INTERRUPTED
        found = run.json()
    assert (found["stopping"]["rule"], found["stopping"]["reason"]) == ("fixed", "interrupted")
    tables = (found["latency"], *found["latency_with_failures"].values())
    held = [seen for table in tables for each in table.values() for seen in each.values() if seen["low"] is not None]
    assert held
    assert all("stopped by hand" in seen["note"] for seen in held)


def test_a_rule_is_part_of_the_workload(tmp_path: Path) -> None:
    """It can stand in its file, and no other key of it changes the plan."""
    spec: Workload = workload(until={"rule": "precision", "within": {"ttft:p99": 0.05}})
    assert spec.until == Precise(within={"ttft:p99": 0.05})
    with pytest.raises(ValueError, match="no metric with an interval"):
        workload(until={"rule": "precision", "within": {"itl:p99": 0.05}})
