"""The public traces as they were published, where they lie beside the checkout: rows, spans and means as known."""

from __future__ import annotations

from pathlib import Path

import pytest

from slobench.workload.traces.read import read_trace

FOLDER = Path(__file__).parents[3].parent / "shared" / "traces"


def real(name: str) -> Path:
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"no {name} in {FOLDER}")
    return path


@pytest.mark.parametrize(
    ("name", "rows", "span_s", "input_mean", "output_mean"),
    [
        ("azure_llm_2023/AzureLLMInferenceTrace_code.csv", 8819, 3436, 2048, 27.9),
        ("azure_llm_2023/AzureLLMInferenceTrace_conv.csv", 19366, 3502, 1155, 211),
        ("mooncake/conversation_trace.jsonl", 12031, 3537, 12035, 343),
        ("mooncake/synthetic_trace.jsonl", 3993, 1022, 15325, 149),
    ],
)
def test_rows_span_and_means_are_those_published(
    name: str, rows: int, span_s: float, input_mean: float, output_mean: float
) -> None:
    """As in the publications and in an independent count of the same files."""
    trace = read_trace(real(name))
    arrival = trace.numbers("arrival_ns")
    assert len(trace) == rows
    assert arrival[-1] / 1e9 == pytest.approx(span_s, abs=0.5)
    assert trace.numbers("input_tokens").mean() == pytest.approx(input_mean, rel=0.002)
    assert trace.numbers("output_tokens").mean() == pytest.approx(output_mean, rel=0.002)
