"""Rates over the window, counts over the run."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.metrics.estimate import split
from slobench.metrics.latency import derive
from slobench.metrics.load import Measured, gaps_cv, in_flight, load, token_flow, token_series
from slobench.metrics.window import Window

S = 10**9


def window(start: float, end: float) -> Window:
    """Return a window that was chosen by nothing."""
    return Window(start, end, 0.1, 0.1, 0.0, whole_run=False)


def seen(run: Any, start: float, end: float) -> Any:
    """Work out the load of all requests in a window."""
    chunks = run.built_chunks()
    span = window(start, end)
    windows = split(span.batch(run["scheduled_ns"] / S), 100.0)
    held = Measured(run.columns, derive(run.columns, chunks), token_flow(run.columns, chunks), span, windows)
    return load(held, np.ones(len(run["index"]), dtype=np.bool_))


@given(
    starts=st.lists(st.floats(0, 9), min_size=1, max_size=20),
    tokens=st.integers(1, 40),
    length=st.floats(0.05, 20),
)
def test_the_peak_token_rate_is_at_least_the_mean(
    make: Callable[..., Any], starts: list[float], tokens: int, length: float
) -> None:
    """Per-second buckets sum to the window's tokens, and the highest is no lower than their mean."""
    run = make(np.sort(starts), tokens=tokens)
    flow = token_flow(run.columns, run.built_chunks())
    width, buckets = token_series(flow, 0.0, length)
    inside = flow.tokens[flow.at_s < length].sum()
    assert buckets.sum() == pytest.approx(inside)
    assert buckets.max() / width >= inside / length * (1 - 1e-12)


@given(edges=st.lists(st.floats(0.01, 11), min_size=1, max_size=6, unique=True))
def test_windows_share_out_tokens_without_loss(make: Callable[..., Any], edges: list[float]) -> None:
    """A reply across an edge credits each window with its own tokens: windows sum to the total."""
    run = make(np.arange(0, 10, 0.37), tokens=30)
    flow = token_flow(run.columns, run.built_chunks())
    cuts = [0.0, *sorted(edges), 12.0]
    parts = [token_series(flow, a, b)[1].sum() for a, b in pairwise(cuts)]
    assert sum(parts) == pytest.approx(30 * len(run["index"]))


def test_tokens_of_failed_replies_are_no_throughput(make: Callable[..., Any]) -> None:
    """Partial tokens of an error are out; those of a reply that we cut were served all the same."""
    run = make(np.array([0.0, 1.0, 2.0]))
    run["outcome"][:] = ["ok", "stream_error", "cut"]
    assert token_flow(run.columns, run.built_chunks()).tokens.sum() == 16


def test_a_reply_that_did_not_stream_counts_when_it_ended(make: Callable[..., Any]) -> None:
    """Without token events its tokens arrive at the end of its read."""
    run = make(np.array([0.0]))
    run["first_token_ns"][0] = np.nan
    run["chunks"][0] = 0
    flow = token_flow(run.columns, run.built_chunks())
    assert (flow.at_s.tolist(), flow.tokens.tolist()) == ([pytest.approx(0.12)], [8.0])


def test_rates_are_those_of_the_window_and_counts_those_of_the_run(make: Callable[..., Any]) -> None:
    """Ten requests a second for 20 s, looked at from 5 to 15 s."""
    run = make(np.arange(200) / 10)
    run.fail([150], "dropped")
    run["started_ns"][150] = np.nan
    result = seen(run, 5.0, 15.0)
    assert (result.planned, result.sent, result.finished, result.ok) == (200, 199, 199, 199)
    assert result.offered_rps == pytest.approx(10)
    assert result.sent_rps == pytest.approx(10)
    assert result.output_tokens_per_s == pytest.approx(80)
    assert result.input_tokens_per_s == pytest.approx(1000)
    assert result.total_tokens_per_s == pytest.approx(1080)
    assert result.finished_rps == pytest.approx(10)
    assert result.in_flight_mean == pytest.approx(10 * 0.12005, rel=1e-3)
    assert result.in_flight_max == 2
    assert result.send_lag_p99_s == pytest.approx(50e-6)
    assert result.connection_wait_p99_s == pytest.approx(50e-6)


def test_the_completion_rate_does_not_know_the_ramp(make: Callable[..., Any]) -> None:
    """First to last completion: 11 ends over 1 s are 10 a second, though the first came after 9 s."""
    run = make(np.full(11, 0.0))
    run["end_ns"] = (9 + np.arange(11) / 10) * S
    assert seen(run, 0.0, 20.0).finished_rps == pytest.approx(10)


@given(spans=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 50)), min_size=1, max_size=40))
def test_in_flight_is_the_exact_time_average(spans: list[tuple[int, int]]) -> None:
    """The averages between edges are the overlaps of all spans with each stretch, over its length."""
    begin = np.array([float(start) for start, _ in spans])
    end = begin + np.array([float(length) for _, length in spans])
    edges = np.array([10.0, 30.0, 75.0])
    levels, most = in_flight(begin, end, edges)
    overlap = [
        np.clip(np.minimum(end, b) - np.maximum(begin, a), 0, None).sum() / (b - a) for a, b in ((10, 30), (30, 75))
    ]
    assert levels.tolist() == pytest.approx(overlap)
    assert most >= max(levels) - 1e-9
    assert most <= len(spans)


def test_the_cv_of_gaps_tells_even_from_poisson_sends() -> None:
    """0 for even sends, 1 for Poisson (standard error of a cv over 20,000 gaps: 0.007), null for one send."""
    assert gaps_cv(np.arange(100) / 10) == pytest.approx(0, abs=1e-9)
    poisson = np.cumsum(np.random.default_rng(1).exponential(1, 20_000))
    assert gaps_cv(poisson) == pytest.approx(1, abs=4 * 0.0071)
    assert gaps_cv(np.array([1.0])) is None


def test_nothing_sent_has_no_latency_and_rates_of_zero(make: Callable[..., Any]) -> None:
    """Empty records give nulls and zeros, no division by zero."""
    result = seen(make(np.empty(0)), 0.0, 1.0)
    assert (result.offered_rps, result.finished_rps, result.in_flight_max) == (0, 0, 0)
    assert result.send_lag_p99_s is None
    assert result.tokens_per_event is None
