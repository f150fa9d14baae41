"""Formats are told by the first line; where none fits, all are listed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slobench.errors import ConfigError
from slobench.workload.traces.read import FORMATS, format_of, read_trace
from tests.workload.traces.writing import (
    AIPERF,
    AZURE,
    BAILIAN,
    BURSTGPT_1,
    BURSTGPT_3,
    MOONCAKE,
    SHAREGPT,
    SPLITWISE,
    VIDUR,
    VIDUR_TIMED,
    jsonl,
    otlp,
    put,
    span,
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (AZURE, "azure"),
        (BURSTGPT_1, "burstgpt"),
        (BURSTGPT_3, "burstgpt"),
        (VIDUR, "vidur"),
        (VIDUR_TIMED, "vidur"),
        (SPLITWISE, "splitwise"),
        (jsonl(MOONCAKE), "mooncake"),
        (jsonl(BAILIAN), "bailian"),
        (jsonl(AIPERF), "aiperf"),
        (jsonl(SHAREGPT), "sharegpt"),
        (json.dumps(SHAREGPT), "sharegpt"),
        (json.dumps(SHAREGPT, indent=4), "sharegpt"),
        (json.dumps(otlp([span("a", 0, 1)])), "otel"),
        (json.dumps({"spans": [span("a", 0, 1)]}, indent=4), "otel"),
        ('{"slobench_trace": 1}\n{"arrival_s": 1}', "slobench-jsonl"),
    ],
)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_each_format_is_known(tmp_path: Path, text: str, name: str, packed) -> None:
    """By columns or keys, whatever the file is called."""
    assert format_of(put(tmp_path / "trace", text, packed=packed)) == name


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "{}", "[]", '{"timestamp": 1}', "# title", "\n\n", "{" * 10_000])
def test_no_format_fits(tmp_path: Path, text: str) -> None:
    """The error shows how the file begins, and every format with what it looks like."""
    with pytest.raises(ConfigError, match="no known trace format; it begins") as error:
        read_trace(put(tmp_path / "trace", text))
    assert all(name in str(error.value) for name in FORMATS)


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    """A name that is not there, and a format that is not known, with the nearest."""
    with pytest.raises(ConfigError, match="no such file"):
        read_trace(tmp_path / "none.csv")
    with pytest.raises(ConfigError, match=r"no trace format named 'moncake'(.|\n)*nearest   mooncake"):
        read_trace(put(tmp_path / "a.jsonl", jsonl(MOONCAKE)), "moncake")
    with pytest.raises(ConfigError, match=r"format mooncake has no option 'blocks'(.|\n)*block_tokens"):
        read_trace(tmp_path / "a.jsonl", blocks=3)


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        (
            "mooncake",
            {"block_tokens": "x"},
            "block_tokens of format mooncake is 'x'\n  expected  a whole number above 0",
        ),
        ("mooncake", {"block_tokens": 0}, "above 0"),
        ("timed-trace", {"unit_s": True}, "unit_s"),
        ("timed-trace", {"names": "a,b"}, "2 names of keys"),
        ("servegen", {"seed": -1}, "from 0 up"),
    ],
)
def test_options_that_make_no_sense_are_told(tmp_path: Path, name: str, options: dict[str, object], told: str) -> None:
    """With the option, what it is and what was expected."""
    with pytest.raises(ConfigError, match=told):
        read_trace(put(tmp_path / "a.jsonl", jsonl(MOONCAKE)), name, **options)
