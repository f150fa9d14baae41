"""history.parquet: rows are appended once, whole, also by two at once."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slobench.errors import RecordsError
from slobench.records.history import SCHEMA, append, read


def rows(run: str, start: float = 1.0) -> list[dict[str, Any]]:
    common = {
        "started_s": start, "run": run, "revision": None, "digest": "d", "workload": "w", "target": "sim",
        "valid": True, "verdict": "VALID", "window_of_e2e": 30.0, "requests": 700, "class": "all",
    }  # fmt: skip
    return [{**common, "metric": key, "value": value} for key, value in (("ttft:p90", 0.1), ("attainment", 0.99))]


def test_runs_are_appended_in_order(tmp_path: Path) -> None:
    """And the same run only once."""
    path = tmp_path / "sub" / "history.parquet"
    assert append(path, rows("a")) == 2
    assert append(path, [*rows("b"), *rows("a")]) == 2
    table = read(path)
    assert table["run"].to_pylist() == ["a", "a", "b", "b"]
    assert table.schema.equals(SCHEMA)


def _append(path: Path, name: str) -> None:
    append(path, rows(name))


def test_two_that_append_at_once_lose_nothing(tmp_path: Path) -> None:
    """Eight processes, eight runs."""
    path = tmp_path / "history.parquet"
    context = multiprocessing.get_context("fork")
    with context.Pool(4) as pool:
        pool.starmap(_append, [(path, f"run-{k}") for k in range(8)])
    assert sorted(set(read(path)["run"].to_pylist())) == [f"run-{k}" for k in range(8)]


def test_other_files_are_refused(tmp_path: Path) -> None:
    """No parquet, another table, a later version, values of another kind, none at all."""
    path = tmp_path / "history.parquet"
    with pytest.raises(RecordsError):
        read(path)
    path.write_text("no")
    with pytest.raises(RecordsError):
        read(path)
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(RecordsError, match="no history"):
        read(path)
    later = SCHEMA.with_metadata({"slobench.history": "2"}).empty_table()
    pq.write_table(later, path)
    with pytest.raises(RecordsError, match="newer"):
        read(path)
    words = pa.table({name: ["x"] for name in SCHEMA.names}).replace_schema_metadata(SCHEMA.metadata)
    pq.write_table(words, path)
    with pytest.raises(RecordsError, match="cannot read"):
        read(path)
