"""Latency of single requests: what each quantity is, and when it does not exist."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.metrics.columns import group_chunks, slices
from slobench.metrics.latency import _max_gap, chosen_gaps_s, derive, event_tokens, gaps_s, tokens_per_event
from slobench.names import CHANNELS, Channel

S = 10**9


def derived(run: Any) -> dict[str, float]:
    """Return each derived quantity of a single request."""
    return {name: float(column[0]) for name, column in derive(run.columns, run.built_chunks()).items()}


def test_latencies_count_from_the_scheduled_time(one: Callable[..., Any]) -> None:
    """A request sent 30 ms late has its TTFT and E2E from the plan's time, and the send-based ones beside them."""
    seen = derived(one(started_ns=1.03 * S, sent_ns=1.031 * S))
    assert seen["ttft_s"] == pytest.approx(0.05)
    assert seen["e2e_s"] == pytest.approx(0.12)
    assert seen["send_lag_s"] == pytest.approx(0.03)
    assert seen["ttft_sent_s"] == pytest.approx(0.019)
    assert seen["e2e_sent_s"] == pytest.approx(0.089)


def test_the_first_gap_is_ttft_and_no_gap_between_tokens(make: Callable[..., Any]) -> None:
    """A long wait for the first token is in TTFT only: the largest gap and TPOT know the later ones."""
    run = make(np.array([1.0]), ttft=3.0)
    seen = derived(run)
    assert seen["ttft_s"] == pytest.approx(3.0)
    assert seen["max_gap_s"] == pytest.approx(0.01)
    assert seen["tpot_s"] == pytest.approx(0.01)


def test_tpot_counts_tokens_by_usage_not_events(one: Callable[..., Any]) -> None:
    """24 tokens in 8 events over 70 ms: TPOT is 70/23 ms, and there are 7 gaps."""
    run = one(output_tokens=24.0)
    run["output_tokens_planned"] = np.array([24])
    assert derived(run)["tpot_s"] == pytest.approx(0.07 / 23)
    assert tokens_per_event(run.columns, np.array([True])) == 3.0


def test_a_first_event_of_m_tokens_is_taken_off_the_adjusted_tpot(one: Callable[..., Any]) -> None:
    """Of 12 tokens 5 came in the first event: the rest took 70 ms, 10 ms each."""
    seen = derived(one(output_tokens=12.0, first_chunk_tokens=5.0))
    assert seen["tpot_adjusted_s"] == pytest.approx(0.07 / 7)
    assert seen["tpot_s"] == pytest.approx(0.07 / 11)


@pytest.mark.parametrize(
    "changes",
    [
        {"output_tokens": 1.0, "chunks": 1.0, "last_token_ns": 1.05 * S},
        {"output_tokens": 0.0, "chunks": 0.0, "first_token_ns": np.nan, "last_token_ns": np.nan},
        {"output_tokens": 8.0, "chunks": 1.0, "first_chunk_tokens": 8.0, "last_token_ns": 1.05 * S},
        {"output_tokens": 8.0, "chunks": 3.0, "last_token_ns": 1.05 * S},
        {"output_tokens": np.nan},
    ],
    ids=["one token", "none", "all in one event", "all in one read", "not counted"],
)
def test_tpot_is_null_where_it_cannot_be_seen(one: Callable[..., Any], changes: dict[str, float]) -> None:
    """One token, no token, or all at one instant: TPOT is null, never 0, negative or infinite."""
    seen = derived(one(**changes))
    assert np.isnan(seen["tpot_s"])
    assert np.isnan(seen["tpot_adjusted_s"])


def test_all_tokens_in_the_first_event_leave_no_adjusted_tpot(one: Callable[..., Any]) -> None:
    """A first event that carried every token leaves nothing to divide by."""
    assert np.isnan(derived(one(first_chunk_tokens=8.0))["tpot_adjusted_s"])


def test_e2e_ends_at_the_last_token(one: Callable[..., Any]) -> None:
    """A usage event or [DONE] half a second later does not extend it."""
    assert derived(one(end_ns=1.62 * S))["e2e_s"] == pytest.approx(0.12)


@pytest.mark.parametrize("outcome", ["timeout_total", "truncated", "http_error", "cut", "lost"])
def test_what_did_not_succeed_has_no_e2e(one: Callable[..., Any], outcome: str) -> None:
    """E2E is null unless the request succeeded; a TTFT that was seen stays."""
    run = one()
    run["outcome"][0] = outcome
    assert np.isnan(derived(run)["e2e_s"])
    assert derived(run)["ttft_s"] == pytest.approx(0.05)


def test_a_reply_that_did_not_stream_has_no_ttft(one: Callable[..., Any]) -> None:
    """Its TTFT is null, not its E2E."""
    run = one(first_token_ns=np.nan, first_output_ns=np.nan, chunks=0.0)
    seen = derived(run)
    assert np.isnan(seen["ttft_s"])
    assert np.isnan(seen["tpot_s"])
    assert seen["e2e_s"] == pytest.approx(0.12)


def test_reasoning_only_replies_have_a_ttft_and_no_ttfo(one: Callable[..., Any]) -> None:
    """Tokens of the reasoning channel set TTFT; TTFO waits for output that never came."""
    run = one(first_output_ns=np.nan, reasoning_tokens=8.0)
    run.chunks = run.built_chunks()
    run.chunks["channel"][:] = CHANNELS.index(Channel.REASONING)
    seen = derived(run)
    assert seen["ttft_s"] == pytest.approx(0.05)
    assert np.isnan(seen["ttfo_s"])


def test_hidden_reasoning_leaves_no_ttft_and_is_not_in_tpot(one: Callable[..., Any]) -> None:
    """Usage bills 100 reasoning tokens that the stream did not show: TTFT null, TPOT over the 8 shown."""
    seen = derived(one(output_tokens=108.0, reasoning_tokens=100.0))
    assert np.isnan(seen["ttft_s"])
    assert seen["ttfo_s"] == pytest.approx(0.05)
    assert seen["tpot_s"] == pytest.approx(0.01)


def test_the_largest_gap_is_that_of_its_own_request(make: Callable[..., Any]) -> None:
    """Stalls are found request by request; a request with one event has none."""
    run = make(np.array([0.0, 0.5, 1.0]))
    run["chunks"] = np.array([3.0, 1.0, 2.0])
    run.chunks = run.built_chunks()
    run.chunks["t_ns"] = np.array([0.1, 0.2, 0.5, 0.6, 1.1, 1.7]) * S
    gaps = derive(run.columns, run.chunks)["max_gap_s"]
    assert gaps[0] == pytest.approx(0.3)
    assert np.isnan(gaps[1])
    assert gaps[2] == pytest.approx(0.6)


def test_tokens_of_an_event_are_what_the_server_said_else_shared_out(make: Callable[..., Any]) -> None:
    """Known counts stay; what is left of the total goes to the other events of the same reply alike."""
    run = make(np.array([0.0, 1.0]))
    run["chunks"] = np.array([3.0, 2.0])
    run["output_tokens"] = np.array([11.0, np.nan])
    run.chunks = run.built_chunks()
    run.chunks["tokens"] = np.array([5.0, np.nan, np.nan, np.nan, np.nan])
    seen = event_tokens(run.columns, run.chunks, group_chunks(run.columns, run.chunks))
    assert seen.tolist() == [5, 3, 3, 1, 1]


def test_chunks_of_an_unknown_request_are_an_error(make: Callable[..., Any]) -> None:
    """Records that do not fit together are refused."""
    run = make(np.array([0.0]))
    run.chunks = run.built_chunks()
    run.chunks["index"] = run.chunks["index"] + 5
    with pytest.raises(ValueError, match="not among the request records"):
        derive(run.columns, run.chunks)


def test_no_requests_have_no_latencies(make: Callable[..., Any]) -> None:
    """Empty records derive to empty columns."""
    run = make(np.empty(0))
    assert all(len(column) == 0 for column in derive(run.columns, run.built_chunks()).values())


@given(data=st.data())
def test_chosen_gaps_and_the_largest_are_those_of_all_gaps(data: st.DataObject) -> None:
    """Slices and stretches give what one pass over everything does, wherever the choice and the replies end."""
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=6))
    index = np.repeat(np.arange(len(sizes)), sizes)
    steps = data.draw(st.lists(st.integers(0, 9), min_size=len(index), max_size=len(index)))
    t_ns = np.concatenate([np.cumsum(part) for part in np.split(np.array(steps) * S, np.cumsum(sizes)[:-1])])
    chunks, requests = {"index": index, "t_ns": t_ns}, {"index": np.arange(len(sizes))}
    groups = group_chunks(requests, chunks)
    every = gaps_s(chunks, groups)
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=len(index), max_size=len(index)))) & ~np.isnan(every)
    with mock.patch("slobench.metrics.latency.slices", lambda n, *_: slices(n, 3)):
        assert chosen_gaps_s(chunks, keep).tolist() == every[keep].tolist()
        largest = _max_gap(len(sizes), chunks, groups).tolist()
    expected = [np.fmax.reduce(part) for part in np.split(every, np.cumsum(sizes)[:-1])]
    assert np.array_equal(largest, expected, equal_nan=True)
