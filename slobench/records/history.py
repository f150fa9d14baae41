"""history.parquet: what every run amounted to, one row a metric and class, appended run by run."""

from __future__ import annotations

import fcntl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from slobench.errors import RecordsError
from slobench.records.whole import write_whole

VERSION = 1
SCHEMA = pa.schema(
    [
        pa.field("started_s", pa.float64()),  # wall clock, s since 1970
        pa.field("run", pa.string(), nullable=False),
        pa.field("revision", pa.string()),  # of what was tested, as CI names it
        pa.field("digest", pa.string(), nullable=False),  # of the plan
        pa.field("workload", pa.string(), nullable=False),
        pa.field("target", pa.string(), nullable=False),
        pa.field("valid", pa.bool_(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("window_of_e2e", pa.float64()),
        pa.field("requests", pa.int64(), nullable=False),  # in the window
        pa.field("class", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),  # ttft:p90, attainment
        pa.field("value", pa.float64(), nullable=False),  # s, or a share
    ],
    metadata={"slobench.history": str(VERSION)},
)


def append(path: Path, rows: Sequence[Mapping[str, Any]]) -> int:
    """Add rows; those of a run that is there already, by name and start, are left out. Returns how many were added.

    The file is replaced when the new one is whole; two that append at once wait for each other. Raises RecordsError
    where the disk refuses, or the file is no history.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(f".{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = read(path) if path.exists() else SCHEMA.empty_table()
            known = set(zip(before["run"].to_pylist(), before["started_s"].to_pylist(), strict=True))
            fresh = [dict(row) for row in rows if (row["run"], row["started_s"]) not in known]
            if fresh:
                table = pa.concat_tables([before, pa.Table.from_pylist(fresh, schema=SCHEMA)])
                write_whole(path, lambda aside: pq.write_table(table, aside, compression="zstd"))
            return len(fresh)
    except OSError as error:
        raise RecordsError(f"cannot write {path}: {error.strerror}\n  expected  a file you may write to") from error


def read(path: Path) -> pa.Table:
    """Read the whole history. Raises RecordsError where it is missing, unreadable or of a later version."""
    try:
        table = pq.ParquetFile(path).read()
    except (OSError, pa.ArrowException) as error:
        raise RecordsError(f"cannot read {path}: {error}\n  expected  a file that --history wrote") from error
    version = (table.schema.metadata or {}).get(b"slobench.history", b"none").decode()
    if not version.isdigit() or set(SCHEMA.names) - set(table.column_names):
        raise RecordsError(f"{path} is no history\n  expected  a file that `slobench gate --history` wrote")
    if int(version) > VERSION:
        raise RecordsError(
            f"{path} has version {version}, this slobench reads up to {VERSION}\n  expected  a newer one"
        )
    try:
        return table.select(SCHEMA.names).cast(SCHEMA)
    except pa.ArrowException as error:
        raise RecordsError(f"cannot read {path}: {error}\n  expected  a file that --history wrote") from error
