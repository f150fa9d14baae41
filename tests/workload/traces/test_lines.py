"""JSON Lines traces: Mooncake, timed_trace, Bailian, AIPerf, and hostile lines."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.errors import ConfigError
from slobench.names import NULL
from slobench.workload.traces.read import read_trace
from tests.workload.traces.writing import AIPERF, BAILIAN, MOONCAKE, jsonl, put

MS = 10**6


def blocks(trace) -> list[list[int]]:
    offsets, values = trace.lists("blocks")
    return [values[low:high].tolist() for low, high in pairwise(offsets)]


def test_mooncake(tmp_path: Path) -> None:
    """Milliseconds, lengths, and blocks of 512 tokens as the lengths say."""
    trace = read_trace(put(tmp_path / "m.jsonl", jsonl(MOONCAKE)))
    assert trace.numbers("arrival_ns").tolist() == [0, 105 * MS, 274 * MS]
    assert trace.numbers("input_tokens").tolist() == [1100, 1536, 513]
    assert trace.numbers("output_tokens").tolist() == [52, 26, 9]
    assert blocks(trace) == [[0, 1, 2], [0, 1, 3], [0, 4]]
    assert (trace.format, trace.block_tokens, trace.bin_ns, trace.history) == ("mooncake", 512, MS, "cumulative")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.rstrip("\n"),
        lambda text: "\ufeff" + text,
        lambda text: "\n\n" + text.replace("\n", "\n   \n"),
        lambda text: text.replace("1100", "1100.0").replace("105", "105.0"),
        lambda text: text.replace('"hash_ids"', '"priority": 3, "hash_ids"'),
    ],
    ids=["crlf", "no-newline", "bom", "blank-lines", "whole-floats", "more-keys"],
)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_harmless_variants_read_alike(tmp_path: Path, change, packed) -> None:
    """Line ends, byte order marks, gzip and other keys change nothing; keys that were passed over are told."""
    wanted = read_trace(put(tmp_path / "a.jsonl", jsonl(MOONCAKE)))
    trace = read_trace(put(tmp_path / "b.jsonl", change(jsonl(MOONCAKE)), packed=packed))
    assert trace.table.equals(wanted.table)
    assert trace.notes == (("not used: priority",) if "priority" in change(jsonl(MOONCAKE)) else ())


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"timestamp": 1, "input_length": 5, "output', r"m\.jsonl:4: not JSON"),
        ('{"timestamp": NaN, "input_length": 5, "output_length": 1}', r"m\.jsonl:4: not JSON"),
        ("[1, 2]", r"m\.jsonl:4: \[1, 2\] is no JSON object"),
        ("7", r"m\.jsonl:4: 7 is no JSON object"),
        ('{"timestamp": 1, "output_length": 1}', r"m\.jsonl:4: no input_length"),
        ('{"timestamp": 1, "input_length": null, "output_length": 1}', r"m\.jsonl:4: no input_length"),
        ('{"timestamp": 1, "input_length": "5", "output_length": 1}', r"m\.jsonl:4: input_length is '5'"),
        ('{"timestamp": 1, "input_length": 5.5, "output_length": 1}', r"m\.jsonl:4: input_length is 5\.5"),
        ('{"timestamp": 1, "input_length": true, "output_length": 1}', r"m\.jsonl:4: input_length is true"),
        ('{"timestamp": 1, "input_length": -5, "output_length": 1}', r"m\.jsonl:4: input_length is -5"),
        ('{"timestamp": 1, "input_length": 99999999999999999999, "output_length": 1}', r"m\.jsonl:4: input_length"),
        ('{"timestamp": -1, "input_length": 5, "output_length": 1}', r"m\.jsonl:4: timestamp is -1"),
        ('{"timestamp": "1", "input_length": 5, "output_length": 1}', r"m\.jsonl:4: timestamp is '1'"),
        ('{"timestamp": 1, "input_length": 5, "output_length": 1, "hash_ids": 3}', r"m\.jsonl:4: hash_ids is 3"),
        ('{"timestamp": 1, "input_length": 5, "output_length": 1, "hash_ids": ["a"]}', r"m\.jsonl:4: hash_ids is"),
        ('{"timestamp": 1, "input_length": 5, "output_length": 1, "hash_ids": [1.5]}', r"m\.jsonl:4: hash_ids is"),
    ],
)
def test_a_fault_is_told_with_its_line(tmp_path: Path, line: str, told: str) -> None:
    """Cut lines, wrong types, numbers that are none: one error, the line, what was expected."""
    path = put(tmp_path / "m.jsonl", jsonl(MOONCAKE) + line)
    with pytest.raises(ConfigError, match=told) as error:
        read_trace(path)
    assert "\n  expected  " in str(error.value)


@given(data=st.binary(max_size=300))
def test_no_bytes_make_a_traceback(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Whatever follows good lines: a trace, or a ConfigError."""
    path = put(tmp_path_factory.getbasetemp() / "fuzz.jsonl", jsonl(MOONCAKE).encode() + data)
    with suppress(ConfigError):
        assert len(read_trace(path)) >= 3


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(
    row=st.dictionaries(st.sampled_from(["timestamp", "input_length", "output_length", "hash_ids"]), json_values),
    kind=st.sampled_from(["mooncake", "timed-trace", "bailian", "aiperf", "slobench-jsonl", "otel", "sharegpt"]),
)
def test_no_value_makes_a_traceback(tmp_path_factory: pytest.TempPathFactory, row: dict[str, Any], kind: str) -> None:
    """Whatever JSON a line holds, whatever format it is read as: a trace, or a ConfigError."""
    text = json.dumps({"slobench_trace": 1}) + "\n" if kind == "slobench-jsonl" else ""
    path = put(tmp_path_factory.getbasetemp() / "value.jsonl", text + json.dumps(row) + "\n")
    with suppress(ConfigError):
        assert len(read_trace(path, kind)) == 1


def test_block_sizes_are_told_by_the_lengths(tmp_path: Path) -> None:
    """16-token blocks are seen; lengths that fit no size are refused, with the option that says it."""
    rows = [{"timestamp": 0, "input_length": 33, "output_length": 1, "hash_ids": [1, 2, 3]}]
    assert read_trace(put(tmp_path / "a.jsonl", jsonl(rows))).block_tokens == 16
    rows[0]["input_length"] = 2000
    path = put(tmp_path / "b.jsonl", jsonl(rows))
    with pytest.raises(ConfigError, match="hash_ids stands for cannot be told"):
        read_trace(path)
    assert read_trace(path, block_tokens=700).block_tokens == 700
    with pytest.raises(ConfigError, match=r"b\.jsonl:1: more hash_ids than blocks of 1000 tokens"):
        read_trace(path, block_tokens=1000)


def test_bins_are_seen(tmp_path: Path) -> None:
    """Arrivals at multiples of 3 s, give or take 1 ms, are bins of 3 s; evenly spaced single ones are none."""
    at = [max(0, 3000 * (i // 10) + (i // 10) % 3 - 1) for i in range(400)]
    rows = [{"timestamp": t, "input_length": 5, "output_length": 1} for t in at]
    trace = read_trace(put(tmp_path / "a.jsonl", jsonl(rows)))
    assert trace.bin_ns == 3 * 10**9
    even = [{"timestamp": 3000 * i, "input_length": 5, "output_length": 1} for i in range(400)]
    assert read_trace(put(tmp_path / "b.jsonl", jsonl(even))).bin_ns == MS


def test_timed_trace_names_its_keys(tmp_path: Path) -> None:
    """vLLM's labels, seconds, and blocks of 16 unless told otherwise."""
    rows = [{"t": 0.5, "in": 40, "out": 3, "h": [1, 2, 3]}, {"t": 2, "in": 16, "out": 4, "h": [1]}]
    path = put(tmp_path / "t.jsonl", jsonl(rows))
    trace = read_trace(path, "timed-trace", names=("t", "in", "out", "h"))
    assert trace.numbers("arrival_ns").tolist() == [0, 1500 * MS]
    assert (trace.block_tokens, trace.format) == (16, "timed-trace")
    trace = read_trace(path, "timed-trace", names=("t", "in", "out", "h"), unit_s=0.001)
    assert trace.numbers("arrival_ns").tolist() == [0, 1_500_000]
    with pytest.raises(ConfigError, match="no t_s"):
        read_trace(path, "timed-trace", names=("t_s", "in", "out", "h"))


def test_bailian_sessions_are_trees(tmp_path: Path) -> None:
    """A chat and all that continues it is a session; a second child waits for its parent, not for its sibling."""
    trace = read_trace(put(tmp_path / "b.jsonl", jsonl(BAILIAN)))
    assert trace.format == "bailian"
    assert trace.numbers("session").tolist() == [0, 1, 0, 0]
    assert trace.numbers("turn").tolist() == [0, 0, 1, 2]
    assert trace.table["after"].to_pylist() == [None, None, None, [0]]
    assert trace.table["class"].to_pylist() == ["text", "search", "text", "image"]
    assert trace.numbers("arrival_ns").tolist() == [0, 386 * MS, 30_886 * MS, 33_886 * MS]
    assert trace.block_tokens == 16


def test_a_parent_that_is_not_there_is_told(tmp_path: Path) -> None:
    """A cut-out of a longer trace begins sessions in their middle."""
    trace = read_trace(put(tmp_path / "b.jsonl", jsonl(BAILIAN[2:])))
    assert trace.numbers("session").tolist() == [0, 1]
    assert "2 requests continue a chat that is not in this file" in trace.notes[0]


def test_aiperf_turns_follow_by_their_delay(tmp_path: Path) -> None:
    """A later turn comes its delay after the one before; it holds only what is new."""
    trace = read_trace(put(tmp_path / "a.jsonl", jsonl(AIPERF)))
    assert (trace.format, trace.history, trace.block_tokens) == ("aiperf", "delta", 512)
    assert trace.numbers("arrival_ns").tolist() == [0, 1500 * MS, 2000 * MS, 2_500_500_000]
    assert trace.numbers("session").tolist() == [0, 1, 0, 0]
    assert trace.numbers("turn").tolist() == [0, 0, 1, 2]
    assert trace.numbers("delay_ns").tolist() == [NULL, NULL, 2000 * MS, 500_500_000]
    assert trace.notes == ("not used: group_id",)


def test_aiperf_without_times_has_none(tmp_path: Path) -> None:
    """Sessions all without a timestamp have no times; some without are an error with the line."""
    bare = [{key: value for key, value in row.items() if key != "timestamp"} for row in AIPERF]
    assert not read_trace(put(tmp_path / "a.jsonl", jsonl(bare))).timed
    with pytest.raises(ConfigError, match=r"b\.jsonl:2: no timestamp"):
        read_trace(put(tmp_path / "b.jsonl", jsonl([AIPERF[0], bare[1]])))


def test_hashes_of_64_bits_are_kept(tmp_path: Path) -> None:
    """Hash ids up to 2⁶⁴ - 1 stay different from each other."""
    ids = [2**63 - 1, 2**63, 2**64 - 1]
    rows = [{"timestamp": 0, "input_length": 1536, "output_length": 1, "hash_ids": ids}]
    trace = read_trace(put(tmp_path / "a.jsonl", jsonl(rows)))
    assert trace.lists("blocks")[1].astype(np.uint64).tolist() == ids
