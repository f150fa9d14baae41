"""The public traces as they were published, where they lie beside the checkout: what is known of them comes out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slobench.config.recorded import Recorded
from slobench.workload.recorded import recorded_rows
from slobench.workload.sharing import Partial, hits
from slobench.workload.traces.prompts import Prompts
from slobench.workload.traces.read import read_trace
from slobench.workload.traces.schema import Trace

FOLDER = Path(__file__).parents[3].parent / "shared" / "traces"
POOL = "servegen/data/reason/deepseek-r1"


def real(name: str) -> Path:
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"no {name} in {FOLDER}")
    return path


def quantile(values: np.ndarray, q: float) -> float:
    return float(np.quantile(values, q))


@pytest.mark.parametrize(
    ("name", "rows", "span_s", "inputs", "outputs"),
    [
        ("azure_llm_2023/AzureLLMInferenceTrace_code.csv", 8819, 3436, (2048, 1469, 7436, 7437), (27.9, 13, 251, 1899)),
        (
            "azure_llm_2023/AzureLLMInferenceTrace_conv.csv",
            19366,
            3502,
            (1155, 1020, 4142, 14050),
            (211, 129, 601, 1000),
        ),
        ("mooncake/conversation_trace.jsonl", 12031, 3537, (12035, 6909, 85400, 126195), (343, 350, 1119, 2000)),
        ("mooncake/synthetic_trace.jsonl", 3993, 1022, (15325, 11587, 66456, 191378), (149, 69, 768, 893)),
        ("burstgpt/BurstGPT_1.first400.csv", 400, 37269, (521, 314, 1958, 2126), (277, 230, 1421, 2019)),
        ("burstgpt/BurstGPT_3.first400.csv", 400, 41453, (617, 308, 5929, 25085), (171, 101, 862, 1101)),
    ],
)
def test_rows_span_and_lengths_are_those_published(
    name: str, rows: int, span_s: float, inputs: tuple[float, ...], outputs: tuple[float, ...]
) -> None:
    """Rows, span, and mean, median, 99th percentile and maximum of lengths, from an independent count of each file."""
    trace = read_trace(real(name))
    assert len(trace) == rows
    assert trace.numbers("arrival_ns")[-1] / 1e9 == pytest.approx(span_s, abs=0.5)
    for column, (mean, p50, p99, most) in (("input_tokens", inputs), ("output_tokens", outputs)):
        values = trace.numbers(column)
        assert values.mean() == pytest.approx(mean, rel=0.002)
        assert quantile(values, 0.5) == pytest.approx(p50, rel=0.01)
        assert quantile(values, 0.99) == pytest.approx(p99, rel=0.01)
        assert values.max() == most


def test_azure_is_exact_sorted_and_has_no_ties() -> None:
    """Every stamp to its last digit, taken apart by hand."""
    path = real("azure_llm_2023/AzureLLMInferenceTrace_conv.csv")
    arrival = read_trace(path).numbers("arrival_ns")
    assert (np.diff(arrival) > 0).all()
    clocks = [line.split(",")[0].split()[1].split(":") for line in path.read_text().splitlines()[1:]]
    ticks = [(int(h) * 3600 + int(m) * 60) * 10**7 + int(s.replace(".", "")) for h, m, s in clocks]
    assert arrival.tolist() == [(each - ticks[0]) * 100 for each in ticks]


@pytest.mark.parametrize(
    ("name", "blocks", "unique", "block_hits", "token_hits", "bin_s"),
    [
        ("mooncake/conversation_trace.jsonl", 288_500, 182_790, 0.366, 0.374, 3.0),
        ("mooncake/synthetic_trace.jsonl", 121_877, 43_924, 0.640, 0.651, 0.001),
    ],
)
def test_mooncake_shares_what_was_counted(
    name: str, blocks: int, unique: int, block_hits: float, token_hits: float, bin_s: float
) -> None:
    """Hit rates of an infinite cache of 512-token blocks: of the file, and of the prompts that are replayed."""
    trace = read_trace(real(name))
    offsets, ids = trace.lists("blocks")
    assert (len(ids), len(np.unique(ids))) == (blocks, unique)
    assert (np.diff(offsets) == -(-trace.numbers("input_tokens") // 512)).all()
    assert trace.block_tokens == 512
    assert trace.bin_ns == round(bin_s * 1e9)
    contents = Prompts.of(trace).contents(trace, 0)
    found = hits(contents, trace.numbers("input_tokens"), 512, partial=Partial.RECORDED)
    assert found.block_hit_rate == pytest.approx(block_hits, abs=0.0005)
    assert found.token_hit_rate == pytest.approx(token_hits, abs=0.0005)


def test_mooncake_scaled_down_shares_the_same() -> None:
    """For a tiny model with 16-token blocks: a 32nd of the length, the same blocks found."""
    rows = recorded_rows(Recorded(file=str(real("mooncake/synthetic_trace.jsonl")), scale_tokens=1 / 32), "a", 0, None)
    assert rows.contents is not None
    found = hits(rows.contents, rows.input_tokens, 16, partial=Partial.RECORDED)
    assert found.block_hit_rate == pytest.approx(0.640, abs=0.0005)
    assert rows.input_tokens.mean() == pytest.approx(15325 / 32, rel=0.002)


def test_burstgpt_failures_and_sessions() -> None:
    """17 and 1 failures; 135 sessions of 2.9 turns on average, 24 at most; 6 rows of the API log have none."""
    first, third = (read_trace(real(f"burstgpt/BurstGPT_{n}.first400.csv")) for n in (1, 3))
    assert (first.numbers("failed").sum(), third.numbers("failed").sum()) == (17, 1)
    assert not first.has("session")
    session, turn = third.numbers("session"), third.numbers("turn")
    assert int(session.max()) + 1 == 135
    assert (session >= 0).sum() / 135 == pytest.approx(2.9, abs=0.05)
    assert int(turn.max()) + 1 == 24
    assert int((session < 0).sum()) == 6
    labels = np.array(third.table["class"].to_pylist())
    assert {label.split("/")[1] for label in labels[session < 0]} == {"API log"}


def weighted(trace: Trace, name: str) -> tuple[float, float, float]:
    values = trace.numbers(name)
    return float(values.mean()), quantile(values, 0.5), quantile(values, 0.99)


def test_a_pool_of_servegen_has_its_published_lengths() -> None:
    """Mean, median and 99th percentile of a day, each client weighted by its rate; 16 requests/s in all."""
    trace = read_trace(real(POOL), seed=1)
    assert len(trace) / 86_400 == pytest.approx(16.0, abs=0.1)
    assert weighted(trace, "input_tokens") == pytest.approx((1268, 208, 23423), rel=0.02)
    assert weighted(trace, "output_tokens") == pytest.approx((1527, 792, 12607), rel=0.02)
    assert len(set(trace.table["class"].to_pylist())) == 73


def test_every_record_of_azure_is_replayed_once_in_order() -> None:
    """19,366 requests, at their times."""
    path = real("azure_llm_2023/AzureLLMInferenceTrace_conv.csv")
    trace, rows = read_trace(path), recorded_rows(Recorded(file=str(path)), "a", 0, None)
    assert rows.notes == ()
    assert rows.start_ns.tolist() == trace.numbers("arrival_ns").tolist()
    assert rows.input_tokens.tolist() == trace.numbers("input_tokens").tolist()
    assert rows.output_tokens.tolist() == trace.numbers("output_tokens").tolist()
