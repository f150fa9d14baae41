"""Other tools' definitions: one stream, six answers; what each formula makes of its corner cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.config.slo import parse_slo
from slobench.errors import UsageError
from slobench.metrics.columns import group_chunks
from slobench.metrics.evaluate import evaluate, summarise
from slobench.metrics.peers import PEERS, Replies, definition, formulas, known
from tests.metrics.conftest import Run, poisson


def one_stream() -> Replies:
    """Events at 100, 200, 300 and 400 ms, the reason to finish by itself at once, usage and the end at 600 ms.

    The server's usage says 5 tokens, a client's byte tokenizer 12.
    """
    run = Run(np.array([10.0]), tokens=4, ttft=0.1, gap=0.1)
    for name in ("started_ns", "connected_ns", "sent_ns"):
        run[name] = np.array([10e9])
    run["output_tokens"], run["end_ns"] = np.array([5.0]), np.array([10.6e9])
    records = run.records()
    replies = Replies.of(records.requests, records.chunks, group_chunks(records.requests, records.chunks))
    return replace(replies, finish=replies.last, client_tokens=np.array([12.0]))


@pytest.mark.parametrize(
    ("name", "statistic", "ms", "measured_ms"),
    [
        ("ttft@vllm", np.mean, 100, 103.8),
        ("tpot@vllm", np.mean, 75, 75.8),
        ("itl@vllm", np.mean, 75, 75.8),
        ("itl@vllm", np.median, 100, 100.7),
        ("itl@vllm", np.min, 0, 0),
        ("e2e@vllm", np.mean, 400, 407),
        ("ttft@guidellm", np.mean, 100, 102.5),
        ("tpot@guidellm", np.mean, 80, 81.0),
        ("itl@guidellm", np.mean, 75, 75.7),
        ("e2e@guidellm", np.mean, 600, 600),
        ("ttft@aiperf", np.mean, 100, 103.3),
        ("itl@aiperf", np.mean, 300 / 11, 27.6),
        ("icl@aiperf", np.mean, 100, 101),
        ("e2e@aiperf", np.mean, 400, 407),
        ("ttft@inference-perf", np.mean, 100, 103.7),
        ("tpot@inference-perf", np.mean, 300 / 11, 27.6),
        ("itl@inference-perf", np.median, 0, 0),
        ("e2e@inference-perf", np.mean, 600, 609),
        ("ttft@evalscope", np.mean, 100, 104.7),
        ("tpot@evalscope", np.mean, 125, 126),
        ("itl@evalscope", np.mean, 100, 101),
        ("e2e@evalscope", np.mean, 600, 609),
        ("ttft@sglang", np.mean, 100, 109),
        ("tpot@sglang", np.mean, 125, 127),
        ("itl@sglang", np.mean, 100, 101),
        ("e2e@sglang", np.mean, 600, 616),
    ],
)
def test_one_stream_has_six_answers(name: str, statistic, ms: float, measured_ms: float) -> None:
    """Each formula gives the stream's exact value, and so what the tool itself measured of it, but for its overhead."""
    seen = statistic(definition(name).values(one_stream()).seconds) * 1e3
    assert seen == pytest.approx(ms, abs=1e-6)
    assert ms <= measured_ms <= ms * 1.1 + 1e-9


def test_the_servers_count_makes_aiperf_agree_with_guidellm() -> None:
    """`--use-server-token-count`, measured as 75.5 ms: the same quotient."""
    replies = one_stream()
    replies = replace(replies, client_tokens=replies.tokens)
    assert definition("itl@aiperf").values(replies).seconds == pytest.approx([0.075])


def test_aiperf_leaves_out_the_tokens_of_the_first_event() -> None:
    """Where the server says that it carried several: what comes after is divided by what is left."""
    replies = replace(one_stream(), client_tokens=np.array([12.0]), first_tokens=np.array([2.0]))
    assert definition("itl@aiperf").values(replies).seconds == pytest.approx([0.03])


def of(run: Run) -> Replies:
    records = run.records()
    return Replies.of(records.requests, records.chunks, group_chunks(records.requests, records.chunks))


def test_a_reply_of_one_token_has_no_tpot() -> None:
    """Neither with vLLM nor with those that divide by n − 1; GuideLLM's counts the first token."""
    replies = of(Run(np.array([1.0]), tokens=1))
    for name in ("tpot@vllm", "itl@guidellm", "itl@aiperf", "tpot@sglang", "ttft@inference-perf"):
        assert np.isnan(definition(name).values(replies).seconds).all(), name
    assert definition("tpot@guidellm").values(replies).seconds == pytest.approx([0.0499])
    assert not len(definition("itl@vllm").values(replies).seconds)


def test_a_connection_opened_for_the_request_is_inside_vllms_ttft_only() -> None:
    """From the client's start with vLLM, from the first byte sent with GuideLLM."""
    run = Run(np.array([1.0]))
    run["started_ns"], run["sent_ns"] = np.array([1.0e9]), np.array([1.02e9])
    replies = of(run)
    assert definition("ttft@vllm").values(replies).seconds == pytest.approx([0.05])
    assert definition("ttft@guidellm").values(replies).seconds == pytest.approx([0.03])


@given(
    tokens=st.lists(st.integers(2, 30), min_size=1, max_size=5),
    events=st.lists(st.integers(2, 30), min_size=5, max_size=5),
)
def test_pooled_gaps_sum_to_the_span_of_the_reply(tokens: list[int], events: list[int]) -> None:
    """Whatever the tool: its gaps, zeros and all, add up to last − first token."""
    n = len(tokens)
    run = Run(np.arange(n, dtype=np.float64) * 10)
    run["output_tokens"] = np.array(tokens, dtype=np.float64)
    run["chunks"] = np.minimum(np.array(events[:n], dtype=np.float64), tokens)
    replies = of(run)
    for name in ("itl@vllm", "icl@aiperf", "itl@inference-perf", "itl@sglang"):
        found = definition(name).values(replies)
        assert np.bincount(found.row, found.seconds, n) == pytest.approx(replies.last - replies.first), name
    assert len(definition("itl@inference-perf").values(replies).seconds) == sum(tokens) - n


def test_they_stand_in_the_summary_with_intervals_and_by_class() -> None:
    """Named rows beside our own, over the same successes of the same window."""
    run = Run(poisson(10.0, 60.0))
    run["class"] = np.where(np.arange(len(run.scheduled)) % 3 == 0, "code", "chat").astype("<U9")
    run.fail(slice(100, 110), "http_error", "500", 500)
    seen = summarise(evaluate(run.records(), parse_slo(run.slo), run.ask, peers=("tpot@vllm", "itl@vllm", "ttft@vllm")))
    for name in ("all", "chat", "code"):
        table = seen.latency[name]
        for peer, own in (("tpot@vllm", "tpot"), ("itl@vllm", "itl")):
            assert table[peer]["p99"].n == table[own]["p99"].n
            assert table[peer]["p99"].value == pytest.approx(table[own]["p99"].value)
        assert table["ttft@vllm"]["mean"].value == pytest.approx(0.05 - 50e-6)
        assert table["ttft@vllm"]["mean"].low is not None
    assert "tpot@vllm" not in seen.latency_adjusted["all"]


def test_names_are_checked_and_said_once() -> None:
    """Another tool's own word for a metric is the same metric; an unknown one is refused with what there is."""
    assert known(["e2el@vllm", "e2e@vllm", "tpot@vllm"]) == ("e2e@vllm", "tpot@vllm")
    with pytest.raises(UsageError, match="tpot@vllm"):
        known(["tp@vllm"])
    with pytest.raises(UsageError, match="guidellm"):
        known(["tpot"])
    assert formulas(["ttft", "tpot@vllm"]) == {"tpot@vllm": PEERS["tpot@vllm"].formula}
