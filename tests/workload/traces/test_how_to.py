"""What docs/how-to/record-and-replay.md and docs/trace-formats.md show works."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from slobench.config.recorded import FORMATS, Recorded
from slobench.names import NULL
from slobench.workload.traces.own import HEADER, KEYS, MARK
from slobench.workload.traces.read import read_trace
from slobench.workload.traces.schema import TRACE
from tests.workload.traces.writing import put

DOCS = Path(__file__).parents[3] / "docs"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
FORMATS_PAGE = (DOCS / "trace-formats.md").read_text()
HOW_TO = (DOCS / "how-to" / "record-and-replay.md").read_text()
LOG = [
    {
        "end": 1700000003.5,
        "took": 1.25,
        "status": 200,
        "in": 1000,
        "out": 4200,
        "user": "u1",
        "path": "/v1/chat/completions",
    },
    {"end": 1700000004.0, "took": 0.5, "status": 500, "in": 700, "out": 0, "user": "", "path": "/v1/completions"},
    {"end": 1700000005.0, "took": 0.1, "status": 200, "in": 300, "out": 90, "user": "", "path": "/metrics"},
]


def block(page: str, kind: str) -> str:
    return next(text for found, text in FENCE.findall(page) if found == kind)


def test_the_script_for_access_logs_works(tmp_path: Path) -> None:
    """Lines in nginx's form become a trace: times, sessions, failures, lengths from bytes."""
    script = put(tmp_path / "access_log.py", block(HOW_TO, "python"))
    lines = "".join(json.dumps(row) + "\n" for row in LOG)
    made = subprocess.run([sys.executable, str(script)], input=lines, capture_output=True, text=True, check=True).stdout
    trace = read_trace(put(tmp_path / "trace.jsonl", made))
    assert trace.numbers("arrival_ns").tolist() == [0, 1_250_000_000]
    assert trace.numbers("input_tokens").tolist() == [100, 25]
    assert trace.numbers("output_tokens").tolist() == [20, 0]
    assert trace.numbers("failed").tolist() == [0, 1]
    assert trace.numbers("session").tolist() == [0, NULL]
    assert trace.numbers("elapsed_ns").tolist() == [1_250_000_000, 500_000_000]


def test_nginx_writes_the_keys_that_the_script_reads() -> None:
    """The log format's keys are those of the lines above."""
    keys = set(re.findall(r'"(\w+)":', block(HOW_TO, "nginx")))
    assert keys == set(LOG[0])


def test_the_example_of_our_own_form_is_one(tmp_path: Path) -> None:
    """It is read without an error."""
    trace = read_trace(put(tmp_path / "t.jsonl", block(FORMATS_PAGE, "json")))
    assert trace.numbers("session").tolist() == [0, NULL, 0]
    assert trace.block_tokens == 16


def test_every_format_key_and_column_is_documented() -> None:
    """Formats, keys of our own form, columns of the table, and keys of `recorded`."""
    cells = {
        name
        for row in re.findall(r"^\| (`.*?) \|", FORMATS_PAGE, re.MULTILINE)
        for name in re.findall(r"`(\w[\w-]*)`", row)
    }
    assert set(FORMATS) - {"auto"} <= cells
    assert {key.name for key in KEYS} | {MARK, *HEADER} <= cells
    assert set(TRACE.names) <= cells
    rows = {name for row in re.findall(r"^\| (`.*?) \|", HOW_TO, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert {field.alias or name for name, field in Recorded.model_fields.items()} <= rows
