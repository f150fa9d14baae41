"""What is said of a trace: figures of small ones by hand, and those of published ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from slobench.names import NULL
from slobench.workload.trace_facts import (
    describe_trace,
    dispersion_at,
    joint_facts,
    length_facts,
    log_edges,
    rate_over_time,
    spearman,
)
from slobench.workload.traces.read import read_trace
from slobench.workload.traces.schema import Trace, list_array, make_trace

SHARED = Path(__file__).parents[2].parent / "shared" / "traces"
published = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/traces")
TOKENS = st.lists(st.integers(1, 5_000), min_size=2, max_size=80)
fixed = settings(derandomize=True, deadline=None)
S = 10**9


def trace(arrival_s: list[float], inputs: list[int], outputs: list[int], **more: Any) -> Trace:
    """A trace of these requests."""
    columns = {
        "arrival_ns": np.array([round(each * S) for each in arrival_s]),
        "input_tokens": np.array(inputs),
        "output_tokens": np.array(outputs),
    }
    keywords = {name: more.pop(name) for name in ("bin_ns", "block_tokens", "timed") if name in more}
    return make_trace(columns | more, format="test", **keywords)


def test_figures_of_five_requests() -> None:
    """Span, rate, cv, lengths, correlation, failures and labels, by hand."""
    facts = describe_trace(
        trace(
            [0, 1, 2, 4, 8], [10, 20, 30, 40, 999], [5, 4, 3, 2, 0],
            failed=np.array([0, 0, 0, 0, 1]), **{"class": pa.array(["a", "a", "b", "a", None])},
        )
    )  # fmt: skip
    assert (facts.rows, facts.failed, facts.span_s, facts.arrivals.rate) == (5, 1, 8, 0.5)
    assert facts.arrivals.cv == pytest.approx(np.std([1, 1, 2, 4]) / 2)
    assert facts.arrivals.dispersion == {"1": None, "10": None, "60": None, "600": None}
    assert facts.input_tokens is not None
    assert (facts.input_tokens.n, facts.input_tokens.mean, facts.input_tokens.max) == (4, 25, 40)
    assert facts.joint is not None
    assert facts.joint.pearson == pytest.approx(-1)
    assert facts.classes == {"a": 3, "b": 1, "": 1}
    assert facts.sharing is None
    assert facts.sessions is None
    assert "1 of 5 requests failed" in facts.artefacts[0]


def test_sharing_of_three_prompts() -> None:
    """Blocks of 4 tokens: the second prompt repeats both blocks of the first, the third only its first."""
    blocks = list_array(np.array([0, 2, 4, 6]), np.array([1, 2, 1, 2, 1, 9]))
    facts = describe_trace(trace([0, 1, 2], [8, 8, 8], [1, 1, 1], blocks=blocks, block_tokens=4))
    assert facts.sharing is not None
    assert (facts.sharing.blocks, facts.sharing.different_blocks) == (6, 3)
    assert (facts.sharing.block_hit_rate, facts.sharing.token_hit_rate) == (0.5, 0.5)


def test_sessions_and_the_time_to_the_next_turn() -> None:
    """Two sessions, of three turns and of one; the gaps are those within the first."""
    facts = describe_trace(trace([0, 1, 5, 15], [1] * 4, [1] * 4, session=np.array([7, 8, 7, 7])))
    assert facts.sessions is not None
    assert (facts.sessions.sessions, facts.sessions.with_several_turns) == (2, 1)
    assert (facts.sessions.turns_mean, facts.sessions.turns_max) == (2, 3)
    assert (facts.sessions.gap_p50_s, facts.sessions.gap_p90_s) == (5, 10)


def test_whole_seconds_and_bins_are_named_as_the_recorders() -> None:
    """Ties of whole seconds are told, with the cv that is left when arrivals are spread; exact times are not."""
    rng = np.random.default_rng(1)
    times = np.sort(rng.uniform(0, 300, 900))
    whole = np.floor(times / 3) * 3
    exact = describe_trace(trace(times.tolist(), [5] * 900, [5] * 900))
    binned = describe_trace(trace(whole.tolist(), [5] * 900, [5] * 900, bin_ns=3 * S))
    assert exact.spread is None
    assert not exact.artefacts
    assert "bins of 3s" in binned.artefacts[0]
    assert binned.arrivals.cv is not None
    assert binned.arrivals.cv > 2
    assert binned.spread is not None
    assert binned.spread.cv == pytest.approx(1, abs=0.15)
    seconds = describe_trace(trace(np.floor(times).tolist(), [5] * 900, [5] * 900, bin_ns=S))
    assert "whole seconds" in seconds.artefacts[0]


def test_inputs_at_the_longest_look_like_a_limit() -> None:
    """A twentieth of the inputs at the very maximum is told."""
    inputs = [*range(1, 191), *[4096] * 10]
    facts = describe_trace(trace(list(range(200)), inputs, [1] * 200))
    assert "5.0% of inputs are at the longest, 4096 tokens" in facts.artefacts[0]


def test_without_times_and_lengths_nothing_is_made_up() -> None:
    """An untimed trace without outputs has no rate, no dispersion, no joint lengths."""
    facts = describe_trace(trace([0, 0, 0], [5, 6, 7], [NULL] * 3, timed=False))
    assert facts.span_s is None
    assert facts.arrivals.rate is None
    assert facts.rate_over_time is None
    assert facts.output_tokens is None
    assert facts.joint is None


@fixed
@given(TOKENS)
def test_a_histogram_holds_every_length(tokens: list[int]) -> None:
    """Bins ascend, cover all lengths, and their counts add up."""
    facts = length_facts(np.array(tokens))
    assert facts is not None
    assert sum(facts.counts) == len(tokens)
    assert list(facts.edges) == sorted(set(facts.edges))
    assert facts.min <= facts.p50 <= facts.p90 <= facts.p99 <= facts.max
    edges = log_edges(np.array(tokens), 10)
    assert edges[0] < min(tokens)
    assert edges[-1] > max(tokens)


@fixed
@given(TOKENS, st.integers(0, 100))
def test_rank_correlation_is_scipys(inputs: list[int], seed: int) -> None:
    """With ties and without; None where one side does not vary."""
    outputs = np.random.default_rng(seed).integers(1, 9, len(inputs))
    found = spearman(np.array(inputs), outputs)
    if len(set(inputs)) == 1 or len(set(outputs.tolist())) == 1:
        assert found is None
    else:
        assert found == pytest.approx(spearmanr(inputs, outputs).statistic)
    joint = joint_facts(np.array(inputs), outputs)
    assert joint is not None
    assert sum(map(sum, joint.counts)) == len(inputs)


@fixed
@given(st.lists(st.floats(0.001, 100), min_size=2, max_size=60))
def test_rate_over_time_counts_everything(gaps: list[float]) -> None:
    """Rates times widths add up to the requests, the last window being as wide as is left."""
    times = np.concatenate([[0.0], np.cumsum(gaps)])
    found = rate_over_time(times)
    assert found is not None
    edges = np.minimum(np.arange(len(found.rates) + 1) * found.width_s, times[-1])
    assert float(np.dot(found.rates, np.diff(edges))) == pytest.approx(len(times))
    assert len(found.rates) <= 61


def test_dispersion_needs_ten_windows() -> None:
    """Fewer say nothing."""
    times = np.arange(0, 95, 1.0)
    assert dispersion_at(times, 10) is None
    assert dispersion_at(times, 9) is not None


PUBLISHED = [
    # file, rows, span s, rate, cv, dispersion at 1, 10, 60 s, input mean and p50 and max, output the same
    ("azure_llm_2023/AzureLLMInferenceTrace_code.csv", 8819, 3436, 2.57, 13.2, (13.2, 71.6, 164),
     (2048, 1469, 7437), (27.9, 13, 1899)),
    ("azure_llm_2023/AzureLLMInferenceTrace_conv.csv", 19366, 3502, 5.53, 1.09, (1.39, 3.86, 16.1),
     (1155, 1020, 14050), (211, 129, 1000)),
    ("mooncake/conversation_trace.jsonl", 12031, 3537, 3.40, 3.03, (7.90, 2.10, 2.95),
     (12035, 6909, 126195), (343, 350, 2000)),
    ("mooncake/synthetic_trace.jsonl", 3993, 1022, 3.91, 1.01, (1.09, 1.18, 1.19),
     (15325, 11587, 191378), (149, 69, 893)),
    ("burstgpt/BurstGPT_1.first400.csv", 400, 37269, 0.0107, 4.56, (1.0, 1.2, 2.8), (543.6, 353, 2126), (288.8, 238, 2019)),
    ("burstgpt/BurstGPT_3.first400.csv", 400, 41453, 0.0096, 2.87, (1.0, 1.2, 2.3), (618.9, 309, 25085), (171.3, 101, 1101)),
]  # fmt: skip


@published
@pytest.mark.parametrize(("file", "rows", "span", "rate", "cv", "spread", "inputs", "outputs"), PUBLISHED)
def test_published_traces_have_their_published_figures(
    file: str, rows: int, span: float, rate: float, cv: float, spread: Any, inputs: Any, outputs: Any
) -> None:
    """Rows, span, rate, cv, dispersion and lengths, to the digits that were published.

    Dispersion: within 8 %, as the published ones divide by n and begin their windows elsewhere.
    """
    facts = describe_trace(read_trace(SHARED / file))
    assert facts.rows == rows
    assert facts.span_s == pytest.approx(span, abs=0.6)
    assert facts.arrivals.rate == pytest.approx(rate, rel=0.005)
    assert facts.arrivals.cv == pytest.approx(cv, rel=0.005)
    assert [facts.arrivals.dispersion[scale] for scale in ("1", "10", "60")] == pytest.approx(list(spread), rel=0.08)
    for lengths, (mean, median, largest) in ((facts.input_tokens, inputs), (facts.output_tokens, outputs)):
        assert lengths is not None
        assert lengths.mean == pytest.approx(mean, rel=0.003)
        assert (lengths.p50, lengths.max) == (median, largest)


@published
@pytest.mark.parametrize(
    ("file", "blocks", "different", "block_hit", "token_hit"),
    [
        ("conversation", 288_500, 182_790, 0.366, 0.374),
        ("synthetic", 121_877, 43_924, 0.640, 0.651),
    ],
)
def test_published_sharing(file: str, blocks: int, different: int, block_hit: float, token_hit: float) -> None:
    """Blocks and hit rates of an infinite cache, as Mooncake's paper and an independent count have them."""
    facts = describe_trace(read_trace(SHARED / "mooncake" / f"{file}_trace.jsonl"))
    assert facts.sharing is not None
    assert (facts.sharing.blocks, facts.sharing.different_blocks) == (blocks, different)
    assert facts.sharing.block_hit_rate == pytest.approx(block_hit, abs=5e-4)
    assert facts.sharing.token_hit_rate == pytest.approx(token_hit, abs=5e-4)


@published
def test_what_looks_like_the_recorders_doing_is_told_of_published_traces() -> None:
    """Mooncake's bins of 3 s, BurstGPT's whole seconds and failures, the context limit of Azure's code trace."""

    def told(file: str) -> str:
        return " ".join(describe_trace(read_trace(SHARED / file)).artefacts)

    assert "bins of 3s" in told("mooncake/conversation_trace.jsonl")
    assert "whole seconds" in told("burstgpt/BurstGPT_1.first400.csv")
    assert "17 of 400 requests failed" in told("burstgpt/BurstGPT_1.first400.csv")
    assert "7437 tokens: a context limit" in told("azure_llm_2023/AzureLLMInferenceTrace_code.csv")
