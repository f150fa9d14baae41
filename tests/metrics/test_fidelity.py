"""How true the traffic was: asked, planned and sent arrivals, counted lengths, measured sharing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from slobench.config.arrivals import Constant, OnOff, Poisson, Varying
from slobench.config.rates import Ramp
from slobench.metrics.ask import Ask, PlannedSharing
from slobench.stats.arrivals import counts, dispersion

Clean = Callable[..., Any]
S = 10**9


def test_a_faithful_run_shows_the_same_three_times(clean: Clean) -> None:
    """A clean Poisson run: asked, planned and sent agree within the chance of 1,200 arrivals."""
    run = clean(processes={"chat": Poisson(rate=20)})
    found = run.evaluate().fidelity["all"]
    assert found.asked is not None
    assert (found.asked.rate, found.asked.cv) == (pytest.approx(20), 1.0)
    assert found.asked.dispersion == pytest.approx({"1s": 1, "10s": 1, "60s": 1})
    n = found.planned.rate * (run.evaluate().window.length_s)
    assert abs(found.planned.rate - 20) < 4 * 20 / math.sqrt(n)  # a Poisson count's own spread
    assert abs(found.planned.cv - 1) < 4 / math.sqrt(n)  # the cv of n exponentials has a spread of about 1/√n
    assert found.sent == pytest.approx(found.planned) or abs(found.sent.rate - found.planned.rate) < 1e-3
    assert found.gap_distance < 0.02


def test_planned_and_sent_are_counted_apart(clean: Clean) -> None:
    """Sends gathered in steps of 1 s: the plan keeps its cv, what was sent has many gaps of 0 and some of 1 s."""
    run = clean()
    gathered = np.ceil(run["scheduled_ns"] / S) * S
    run["started_ns"], run["sent_ns"] = gathered + 1, gathered + 2
    found = run.evaluate().fidelity["all"]
    assert found.planned.cv == pytest.approx(1, abs=0.15)
    assert found.sent.cv > 3
    assert found.gap_distance > 0.5


def test_dispersion_is_that_of_the_counts_in_the_window(clean: Clean) -> None:
    """The index of dispersion at 1 s is variance over mean of the window's counts; too few bins give none."""
    run = clean()
    evaluation = run.evaluate()
    window, at = evaluation.window, np.asarray(run["scheduled_ns"]) / S
    expected = dispersion(counts(at[window.holds(at)], 1.0, window.start_s, window.end_s))
    assert evaluation.fidelity["all"].planned.dispersion == pytest.approx({"1s": expected})


def test_only_the_first_request_of_a_session_arrives(clean: Clean) -> None:
    """Of sessions of two turns, each 0.4 s apart, only the first turns are arrivals."""
    run = clean()
    n = len(run["index"])
    run["turn"] = np.arange(n) % 2
    run["session"] = np.arange(n) // 2
    found = run.evaluate().fidelity["all"]
    assert found.planned.rate == pytest.approx(10, rel=0.2)
    assert found.planned.cv < 0.9  # of every second event of a Poisson process: 0.71


def test_each_class_has_its_own_and_the_total_adds_up(clean: Clean) -> None:
    """Independent processes: rates add, dispersions are weighted by rate, a cv of the sum is not claimed."""
    run = clean(processes={"chat": Poisson(rate=15), "even": Constant(rate=5)})
    run["class"][::4] = "even"
    found = run.evaluate().fidelity
    assert set(found) == {"all", "chat", "even"}
    total = found["all"].asked
    assert total is not None
    assert total.rate == pytest.approx(20)
    assert total.cv is None
    assert total.dispersion["10s"] == pytest.approx(0.75, abs=0.02)
    assert found["even"].asked.cv == 0


def test_a_class_without_a_process_leaves_the_total_unasked(clean: Clean) -> None:
    """Recorded traffic promises no rate: its class and the total have no asked column, the other class has."""
    run = clean(processes={"chat": Poisson(rate=15)})
    run["class"][::4] = "recorded"
    found = run.evaluate().fidelity
    assert found["all"].asked is None
    assert found["recorded"].asked is None
    assert found["chat"].asked is not None


def test_a_load_that_is_meant_to_change_is_asked_over_the_window(clean: Clean) -> None:
    """Of a ramp the mean rate of the window counts, not that of the whole shape."""
    ramp = Varying(rate=Ramp.model_validate({"shape": "ramp", "from": 0.0, "to": 60.0, "over": "60s"}))
    run = clean(processes={"chat": ramp})
    evaluation = run.evaluate()
    middle = (evaluation.window.start_s + evaluation.window.end_s) / 2
    assert evaluation.fidelity["all"].asked.rate == pytest.approx(middle, rel=1e-3)


def test_bursts_of_an_on_off_process_are_promised(clean: Clean) -> None:
    """An on-off process promises a dispersion above 1 that grows with the width of the bins."""
    process = OnOff.model_validate(
        {"process": "on-off", "on_rate": 40, "mean_on": "2s", "mean_off": "2s"},
    )
    asked = clean(processes={"chat": process}).evaluate().fidelity["all"].asked
    assert asked.rate == pytest.approx(20)
    known = list(asked.dispersion.values())
    assert known == sorted(known)
    assert all(each > 1 for each in known)


def test_lengths_are_compared_where_the_server_counted(clean: Clean) -> None:
    """Counted tokens against planned ones over successes of the window; requests without a count are left out."""
    run = clean()
    run["input_tokens"][:] = 110.0
    run["input_tokens"][::2] = np.nan
    run["output_tokens"][5:] = 4.0
    found = run.evaluate().fidelity["all"]
    assert found.input_tokens.ratio == pytest.approx(1.1)
    assert found.input_tokens.exact_share == 0
    assert found.input_tokens.n < found.output_tokens.n
    assert found.output_tokens.counted_mean == pytest.approx(4, abs=0.2)


def test_a_closed_loop_has_no_arrivals_but_lengths(clean: Clean) -> None:
    """Users send when they are ready: nothing arrives as planned, lengths are still compared."""
    found = clean(closed=True, users=3).evaluate().fidelity["all"]
    assert (found.asked, found.planned, found.sent, found.gap_distance) == (None, None, None, None)
    assert found.input_tokens.ratio == 1


def test_no_requests_are_no_traffic(make: Callable[..., Any]) -> None:
    """A run that sent nothing has an empty total and does not fail."""
    found = make(np.empty(0), ask=Ask(duration_s=60.0)).evaluate().fidelity["all"]
    assert found.input_tokens is None
    assert found.planned is None or not found.planned.rate


@pytest.mark.parametrize(
    ("planned", "measured", "level"), [(0.40, 0.38, None), (0.40, 0.30, "warning"), (0.2, 0.3, "warning")]
)
def test_v20_holds_the_servers_cache_against_the_plan(
    clean: Clean, planned: float, measured: float, level: str | None
) -> None:
    """Hits within five points of what the plan repeats are the plan's; fewer or more are told."""
    run = clean(sharing=PlannedSharing(16, planned), unique_prompts=False)
    run.sample("prefix_query_tokens", [1000.0, 121_000.0], source="server", step=60.0)
    run.sample("prefix_hit_tokens", [10.0, 10.0 + 120_000 * measured], source="server", step=60.0)
    evaluation = run.evaluate()
    assert {f.code: f.level for f in evaluation.findings}.get("V20") == level
    facts = evaluation.fidelity["all"].sharing
    assert (facts.planned, facts.measured, facts.block_tokens) == (planned, pytest.approx(measured), 16)


@pytest.mark.parametrize(("measured", "level"), [(0.26, None), (0.38, "warning"), (0.1, "warning")])
def test_v20_takes_the_plans_hits_in_a_cache_of_the_servers_size(
    clean: Clean, measured: float, level: str | None
) -> None:
    """Where its size is known, what an endless cache would find is no longer expected of the server's."""
    run = clean(sharing=PlannedSharing(32, 0.4, 500, 0.25), unique_prompts=False)
    run.sample("prefix_query_tokens", [1000.0, 121_000.0], source="server", step=60.0)
    run.sample("prefix_hit_tokens", [10.0, 10.0 + 120_000 * measured], source="server", step=60.0)
    evaluation = run.evaluate()
    found = [f for f in evaluation.findings if f.code == "V20"]
    assert [f.level for f in found] == [level] * (level is not None)
    assert all("25 % in 500 blocks of 32 tokens" in f.seen for f in found)
    facts = evaluation.fidelity["all"].sharing
    assert (facts.planned, facts.limited, facts.expected, facts.cache_blocks) == (0.4, 0.25, 0.25, 500)


def test_v20_leaves_unique_prompts_to_v17(clean: Clean) -> None:
    """Where nothing was to be shared, hits are V17's, and are told once."""
    run = clean(sharing=PlannedSharing(16, 0.0))
    run.sample("prefix_query_tokens", [0.0, 120_000.0], source="server", step=60.0)
    run.sample("prefix_hit_tokens", [0.0, 60_000.0], source="server", step=60.0)
    codes = [f.code for f in run.evaluate().findings]
    assert "V17" in codes
    assert "V20" not in codes


def test_prompts_with_images_are_left_out_of_the_lengths(clean: Clean) -> None:
    """The plan counts the text of a prompt, the server its images too: they are not comparable."""
    run = clean(images=frozenset({"pictures"}))
    run["class"][::2] = "pictures"
    run["input_tokens"][::2] = 4000.0
    found = run.evaluate().fidelity
    assert found["all"].input_tokens.ratio == 1
    assert found["pictures"].input_tokens is None
    assert found["pictures"].output_tokens is not None
