"""ShareGPT conversations and OpenTelemetry spans."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from slobench.errors import ConfigError
from slobench.names import NULL
from slobench.workload.traces.read import format_of, read_trace
from tests.workload.traces.writing import SHAREGPT, jsonl, otlp, put, span, usage

S = 10**9


@pytest.mark.parametrize("indent", [None, 2])
def test_sharegpt(tmp_path: Path, indent: int | None) -> None:
    """A conversation is a session, each reply a turn whose prompt holds all that was said before."""
    trace = read_trace(put(tmp_path / "s.json", json.dumps(SHAREGPT, indent=indent)))
    assert (trace.format, trace.timed) == ("sharegpt", False)
    assert trace.numbers("input_tokens").tolist() == [10, 33, 4]
    assert trace.numbers("output_tokens").tolist() == [20, 1, 3]
    assert trace.numbers("session").tolist() == [0, 0, 1]
    assert trace.numbers("turn").tolist() == [0, 1, 0]
    assert trace.table["text"].to_pylist() == ["a" * 40, "c" * 10, "s" * 8 + "u" * 8]
    assert "1 conversations without a question and a reply" in trace.notes[2]


def test_sharegpt_as_lines_and_other_tokenizers(tmp_path: Path) -> None:
    """One conversation a line; how many characters make a token can be said."""
    path = put(tmp_path / "s.jsonl", jsonl(SHAREGPT))
    assert format_of(path) == "sharegpt"
    assert read_trace(path, chars_per_token=2.0).numbers("input_tokens").tolist() == [20, 65, 8]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[{"conversations": [{"from": "human", "value": "a"}]}', r"s\.json:1: not JSON"),
        ('[{"conversations": 5}]', "conversation 0"),
        ('[{"conversations": [{"from": "human", "value": 5}]}]', "conversation 0: message"),
        ('[{"conversations": [{"from": "nobody", "value": "a"}]}]', "conversation 0: message"),
        ('[{"conversations": []}]', "no requests in this trace"),
        ("[]", "no requests in this trace"),
    ],
)
def test_no_conversation_is_refused(tmp_path: Path, text: str, told: str) -> None:
    """What is no list of conversations, or holds none, is told."""
    with pytest.raises(ConfigError, match=told):
        read_trace(put(tmp_path / "s.json", text), "sharegpt")


AGENT = [
    span("plan", 0, 2, attributes=usage(100, 10)),
    span("left", 3, 5, attributes=usage(200, 20)),
    span("right", 3.5, 9, attributes=usage(300, 30)),
    span("join", 10, 11, attributes=usage(600, 60)),
    span("other", 1, 4, trace_id="u", attributes=usage(50, 5)),
]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(otlp(AGENT)),
        json.dumps(otlp(AGENT), indent=1),
        jsonl([otlp([each]) for each in reversed(AGENT)]),
        jsonl(AGENT),
        json.dumps({"spans": AGENT}),
        json.dumps({"spans": AGENT}, indent=2),
    ],
    ids=["otlp", "otlp-indented", "otlp-lines", "span-lines", "spans", "spans-indented"],
)
def test_fan_out_and_joins_come_back(tmp_path: Path, text: str) -> None:
    """A call waits for the last ones of its trace that had ended when it began, in every known form of the file."""
    trace = read_trace(put(tmp_path / "o.json", text))
    assert trace.format == "otel"
    assert trace.numbers("arrival_ns").tolist() == [0, S, 3 * S, 3_500_000_000, 10 * S]
    assert trace.numbers("input_tokens").tolist() == [100, 50, 200, 300, 600]
    assert trace.numbers("output_tokens").tolist() == [10, 5, 20, 30, 60]
    assert trace.numbers("session").tolist() == [0, 1, 0, 0, 0]
    assert trace.numbers("turn").tolist() == [0, 0, 1, 2, 3]
    assert trace.table["after"].to_pylist() == [[], [], [0], [0], [1, 2]]
    assert trace.numbers("delay_ns").tolist() == [NULL, NULL, S, 1_500_000_000, S]
    assert trace.numbers("elapsed_ns").tolist() == [2 * S, 3 * S, 2 * S, 5_500_000_000, S]


def test_plain_spans_with_messages(tmp_path: Path) -> None:
    """Without usage, lengths come from messages and the reply's text; ISO times with a zone; errors are failures."""
    plain = {
        "span_id": "a",
        "start_time": "2025-06-01T12:00:00.500000+02:00",
        "end_time": "2025-06-01T10:00:02Z",
        "status": {"code": "ERROR"},
        "attributes": {
            "gen_ai.request.model": "m",
            "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": "x" * 41}]}]),
            "gen_ai.output.text": "y" * 8,
        },
    }
    tool = {"span_id": "b", "start_time": "2025-06-01T10:00:01Z", "end_time": "2025-06-01T10:00:02Z", "attributes": {}}
    trace = read_trace(put(tmp_path / "o.json", json.dumps({"spans": [tool, plain]})))
    assert len(trace) == 1
    assert trace.numbers("input_tokens").tolist() == [11]
    assert trace.numbers("output_tokens").tolist() == [2]
    assert trace.numbers("failed").tolist() == [1]
    assert trace.numbers("elapsed_ns").tolist() == [1_500_000_000]
    assert "lengths of 1 calls are estimated" in trace.notes[0]


def test_lengths_that_nobody_recorded_are_nothing(tmp_path: Path) -> None:
    """Absent is null, not 0."""
    trace = read_trace(put(tmp_path / "o.jsonl", jsonl([span("a", 0, 1)])))
    assert trace.numbers("input_tokens").tolist() == [NULL]


def test_equal_beginnings_of_messages_are_equal_blocks(tmp_path: Path) -> None:
    """Where prompts were recorded, their common beginning is seen in pieces of 16 tokens."""
    system = "s" * 640
    calls = [
        span(name, at, at + 1, trace_id=name, attributes={**usage(200, 5), "gen_ai.input.messages": system + name * 80})
        for at, name in enumerate("abc")
    ]
    trace = read_trace(put(tmp_path / "o.jsonl", jsonl(calls)))
    assert trace.block_tokens == 16
    offsets, names = trace.lists("blocks")
    mine = [names[low:high].tolist() for low, high in pairwise(offsets)]
    assert mine[0][:10] == mine[1][:10] == mine[2][:10]
    assert mine[0][10] != mine[1][10]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (jsonl([{**AGENT[0], "attributes": []}]), "no span is a call to a model"),
        (jsonl([{**AGENT[0], "endTimeUnixNano": "1"}]), "ends before it starts"),
        (jsonl([{**AGENT[0], "startTimeUnixNano": "soon"}]), r"o\.json:1: span 'plan'"),
        (jsonl([AGENT[0]]) + '{"resourceSpans": [', r"o\.json:2: not JSON"),
        (jsonl([AGENT[0]]) + "5\n", r"o\.json:2: 5 is no span"),
    ],
)
def test_faults_are_told(tmp_path: Path, text: str, told: str) -> None:
    """With the line and the span."""
    with pytest.raises(ConfigError, match=told):
        read_trace(put(tmp_path / "o.json", text))
