"""slobench's own JSON lines: what is written is read again, and nothing unknown is passed over."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given

from slobench.errors import ConfigError, RecordsError
from slobench.names import NULL
from slobench.workload.traces.own import write_jsonl
from slobench.workload.traces.read import read_trace
from slobench.workload.traces.schema import Trace
from tests.workload.traces.strategies import traces
from tests.workload.traces.writing import AIPERF, BAILIAN, SHAREGPT, jsonl, otlp, put, span, usage

HEAD = '{"slobench_trace": 1}\n'


@given(trace=traces())
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, trace: Trace) -> None:
    """Every column and all that holds for the whole trace."""
    path = tmp_path_factory.getbasetemp() / "own.jsonl"
    write_jsonl(trace, path)
    again = read_trace(path)
    assert again.to_arrow().equals(trace.to_arrow(), check_metadata=True)
    assert again.digest == trace.digest


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (jsonl(BAILIAN), "bailian"),
        (jsonl(AIPERF), "aiperf"),
        (jsonl(SHAREGPT), "sharegpt"),
        (jsonl([otlp([span("a", 0, 1, attributes=usage(5, 6)), span("b", 0.5, 2, attributes=usage(7, 8))])]), "otel"),
    ],
)
def test_every_format_can_be_converted(tmp_path: Path, text: str, kind: str) -> None:
    """Sessions, branches, histories and texts come through."""
    trace = read_trace(put(tmp_path / "in", text), kind)
    write_jsonl(trace, tmp_path / "out.jsonl")
    again = read_trace(tmp_path / "out.jsonl")
    # Texts become blocks, where there were none.
    kept = [name for name in trace.table.column_names if name != "blocks"]
    assert again.table.select(kept).equals(trace.table.select(kept))
    assert (again.format, again.history, again.timed, again.bin_ns) == (kind, trace.history, trace.timed, trace.bin_ns)


def test_times_in_seconds_and_named_sessions(tmp_path: Path) -> None:
    """What a log has: seconds since 1970, names of sessions, labels; rows in any order."""
    text = HEAD + jsonl(
        [
            {"arrival_s": 1700000002.25, "input_tokens": 40, "output_tokens": 4, "session": "u2", "class": "chat"},
            {"arrival_s": 1700000001.5, "input_tokens": 10, "output_tokens": 1, "session": "u1", "elapsed_s": 0.5},
            {"arrival_s": 1700000004.0, "input_tokens": 30, "output_tokens": 3, "session": "u1", "delay_s": 1.25},
        ]
    )
    trace = read_trace(put(tmp_path / "t.jsonl", text))
    assert trace.format == "slobench-jsonl"
    assert trace.numbers("arrival_ns").tolist() == [0, 750_000_000, 2_500_000_000]
    assert trace.numbers("session").tolist() == [0, 1, 0]
    assert trace.numbers("turn").tolist() == [0, 0, 1]
    assert trace.numbers("elapsed_ns").tolist() == [500_000_000, NULL, NULL]
    assert trace.numbers("delay_ns").tolist() == [NULL, NULL, 1_250_000_000]


def test_texts_give_lengths_and_blocks(tmp_path: Path) -> None:
    """4 characters a token, 16 tokens a block: equal beginnings are equal blocks."""
    rows = [{"arrival_s": at, "output_tokens": 3, "text": "x" * 128 + mark * 64} for at, mark in enumerate("ab")]
    trace = read_trace(put(tmp_path / "t.jsonl", HEAD + jsonl(rows)))
    assert trace.numbers("input_tokens").tolist() == [48, 48]
    offsets, names = trace.lists("blocks")
    assert offsets.tolist() == [0, 3, 6]
    assert (names[:2] == names[3:5]).all()
    assert names[2] != names[5]
    assert trace.block_tokens == 16


ROW = '{"arrival_ns": 5, "input_tokens": 3, "output_tokens": 1}\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (ROW, r"t\.jsonl:1: does not begin with"),
        ('{"slobench_trace": 2}\n' + ROW, r"t\.jsonl:1: slobench_trace is 2"),
        ('{"slobench_trace": 1, "blocktokens": 4}\n' + ROW, r"t\.jsonl:1: unknown field 'blocktokens'"),
        ('{"slobench_trace": 1, "block_tokens": "4"}\n' + ROW, r"t\.jsonl:1: block_tokens is '4'"),
        ('{"slobench_trace": 1, "block_tokens": 0}\n' + ROW, r"t\.jsonl:1: block_tokens below 1"),
        ('{"slobench_trace": 1, "history": "some"}\n' + ROW, r"t\.jsonl:1: history is 'some'"),
        (HEAD, "holds no requests"),
        (HEAD + ROW + ROW.replace("output_tokens", "output_length"), r"t\.jsonl:3: unknown field 'output_length'"),
        (HEAD + ROW + ROW.replace("arrival_ns", "timestamp"), r"t\.jsonl:3: unknown field 'timestamp'"),
        (HEAD + ROW + ROW.replace('"arrival_ns": 5, ', ""), r"t\.jsonl:3: no arrival_ns or arrival_s"),
        (HEAD + ROW.replace("}", ', "arrival_s": 1}'), r"t\.jsonl:2: both arrival_ns and arrival_s"),
        (HEAD + ROW + ROW.replace("arrival_ns", "arrival_s"), r"t\.jsonl:2: arrival_ns where other lines have"),
        (HEAD + ROW.replace("3", "-3"), r"t\.jsonl:2: input_tokens is -3"),
        (HEAD + ROW.replace("}", ', "failed": 1}'), r"t\.jsonl:2: failed is 1"),
        (HEAD + ROW.replace("}", ', "session": 1.5}'), r"t\.jsonl:2: session is 1\.5"),
        (HEAD + ROW.replace("}", ', "blocks": [1]}'), r"t\.jsonl:1: no block_tokens"),
        (HEAD + ROW.replace("}", ', "class": 7}'), r"t\.jsonl:2: class is 7"),
    ],
)
def test_faults_are_told_with_their_line(tmp_path: Path, text: str, told: str) -> None:
    """An unknown or misplaced field is an error, never ignored."""
    with pytest.raises(ConfigError, match=told):
        read_trace(put(tmp_path / "t.jsonl", text), "slobench-jsonl")


def test_a_disk_that_refuses_is_told(tmp_path: Path) -> None:
    """Where the file cannot be written: what was refused and why."""
    trace = read_trace(put(tmp_path / "t.jsonl", HEAD + ROW))
    with pytest.raises(RecordsError, match="cannot write"):
        write_jsonl(trace, tmp_path / "none" / "t.jsonl")
