"""Traces written in other forms: read again they hold the same, and what has no place is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from slobench.errors import UsageError
from slobench.workload.sharing import Partial, hits
from slobench.workload.traces.convert import Changes, changed, write
from slobench.workload.traces.ops import labels
from slobench.workload.traces.prompts import Prompts
from slobench.workload.traces.read import read_trace
from slobench.workload.traces.schema import Trace, list_array, make_trace

S = 10**9
N = 40


def trace(*, blocks: bool = True) -> Trace:
    """Forty requests with labels and, where wanted, blocks of 4 tokens that every other request shares."""
    ids = np.array([each for row in range(N) for each in (0, row % 2, 100 + row)])
    columns = {
        "arrival_ns": np.arange(N) * S // 4 + 123_000_000,
        "input_tokens": np.full(N, 11),
        "output_tokens": np.arange(1, N + 1),
        "class": pa.array(["chat", "code"] * (N // 2)),
    }
    if blocks:
        columns["blocks"] = list_array(np.arange(N + 1) * 3, ids)
    return make_trace(columns, format="test", block_tokens=4 if blocks else None)


@pytest.mark.parametrize("form", ["jsonl", "csv", "mooncake"])
def test_times_and_lengths_come_back(form: str, tmp_path: Path) -> None:
    """Every form keeps both, in order; ours keeps the rest too."""
    path = tmp_path / "trace"
    told = write(trace(), form, path)
    again = read_trace(path, "mooncake", block_tokens=4) if form == "mooncake" else read_trace(path)
    for name in ("arrival_ns", "input_tokens", "output_tokens"):
        assert (again.numbers(name) == trace().numbers(name)).all()
    assert bool(told) == (form != "jsonl")
    assert ("blocks" in " ".join(told)) == (form == "csv")
    assert again.has("blocks") == (form != "csv")
    assert again.has("class") == (form == "jsonl")


def test_sharing_comes_back_from_mooncakes_form(tmp_path: Path) -> None:
    """The hit rate of an infinite cache is the same before and after."""
    path = tmp_path / "trace.jsonl"
    write(trace(), "mooncake", path)
    again = read_trace(path, "mooncake", block_tokens=4)
    rates = [
        hits(Prompts.of(each).contents(each, 0), each.numbers("input_tokens"), 4, partial=Partial.RECORDED)
        for each in (trace(), again)
    ]
    assert rates[0] == rates[1]
    assert rates[0].hit_blocks > N


def test_failures_and_unknown_lengths_are_left_out_where_there_is_no_place(tmp_path: Path) -> None:
    """They are counted in a note."""
    failed = np.zeros(N, np.int64)
    failed[3] = 1
    flagged = trace(blocks=False).with_column("failed", pa.array(failed == 1))
    told = write(flagged, "csv", tmp_path / "a.csv")
    assert "1 requests" in told[0]
    assert len(read_trace(tmp_path / "a.csv")) == N - 1


def test_labels_are_renamed_and_changes_come_in_order() -> None:
    """A label gets a new name; speed halves the span; a loop doubles the rows; thinning keeps about its share."""
    new = changed(trace(), Changes(rename=("chat=talk",), speed=2, loop=2), 0)
    assert labels(new) == {"talk": N, "code": N}
    assert len(new) == 2 * N
    first = new.numbers("arrival_ns")[:N]
    assert first[-1] - first[0] == (N - 1) * S // 8
    assert 5 < len(changed(trace(), Changes(keep=0.5), 3)) < 35
    assert changed(trace(), Changes(scale_tokens=2), 0).numbers("output_tokens").tolist() == list(
        range(2, 2 * N + 1, 2)
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (Changes(keep=0), "--keep 0"),
        (Changes(speed=0), "not above 0"),
        (Changes(rename=("chat",)), "LABEL=NEW"),
        (Changes(rename=("chit=talk",)), "no label"),
    ],
)
def test_changes_that_make_no_sense_are_refused(changes: Changes, told: str) -> None:
    """Each with what was expected."""
    with pytest.raises(UsageError, match=told):
        changed(trace(), changes, 0)


def test_a_form_needs_what_it_holds(tmp_path: Path) -> None:
    """Mooncake's form without blocks, and a form that is none, are refused."""
    with pytest.raises(UsageError, match="without prefix blocks"):
        write(trace(blocks=False), "mooncake", tmp_path / "x")
    with pytest.raises(UsageError, match="no form named"):
        write(trace(), "parquet", tmp_path / "x")
