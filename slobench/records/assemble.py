"""From the plan and the workers' spools to one row for each planned request, also after a crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from slobench.errors import RecordsError
from slobench.names import CHANNELS, OUTCOMES, Channel, Outcome, TokensSource
from slobench.records import samples, spool
from slobench.records.arrow import floats, integers, text_values
from slobench.records.chunk_rows import batches_of, sorted_chunks
from slobench.records.schema import NULL, PLAN, SPOOL_REQUESTS, WORKER_METRICS, Columns, Records
from slobench.records.spool import Spooled

_SOURCES = np.array([*TokensSource, ""])  # code -1 is the last: null
_CODES = ("tokens_source", "outcome", "connection_new")
_OUTPUT_CHANNELS = [CHANNELS.index(Channel.CONTENT), CHANNELS.index(Channel.TOOL)]


def assemble(folder: Path, plan_table: pa.Table, workers: int, *, only: tuple[int, int] | None = None) -> Records:
    """Build the records of a run from its folder's `spool/`: one row for each row of the plan, sorted by index.

    A request without an end record, and what it becomes:
    begun (a start or a chunk was written): `lost`, with the first and last token times of its chunks;
    not begun, its worker's spool not closed, and some worker had acted on a row scheduled as late: `lost`;
    else `unsent`.
    only: the plan is a part of what was offered, the requests with an index in [low, high).
    Raises RecordsError where the spool is missing or belongs to another plan.
    """
    spooled = spool.read(folder / spool.FOLDER, only, with_chunks=False)
    rows = _planned(plan_table, workers)
    chunks, with_chunks = sorted_chunks(batches_of(folder / spool.FOLDER, only))
    ended = _Rows(rows["index"], spooled.requests["index"])
    begun = _Rows(rows["index"], np.concatenate([spooled.starts["index"], with_chunks]))
    _put_starts(rows, spooled.starts)
    _put_ends(rows, spooled.requests, ended.at)
    is_open = begun.seen & ~ended.seen
    _put_open(rows, chunks, is_open)
    rows["outcome"] = np.where(
        is_open | _due_but_not_begun(rows, spooled, begun.seen | ended.seen), Outcome.LOST, rows["outcome"]
    )
    return Records(rows, chunks, _telemetry(spooled, samples.read(folder / spool.FOLDER)))


class _Rows:
    """Where records belong in the plan: `at` by record, `seen` by row of the plan."""

    def __init__(self, planned: NDArray[np.int64], recorded: NDArray[np.int64]) -> None:
        self.at = np.searchsorted(planned, recorded)
        inside = self.at < len(planned)
        if not inside.all() or (planned[self.at] != recorded).any():
            stray = recorded[~inside] if not inside.all() else recorded[planned[self.at] != recorded]
            raise RecordsError(
                f"the spool holds request {stray[0]}, which the plan does not\n  expected  the plan of the same run"
            )
        self.seen = np.zeros(len(planned), dtype=np.bool_)
        self.seen[self.at] = True


def _planned(plan_table: pa.Table, workers: int) -> dict[str, NDArray[Any]]:
    """Rows as the plan has them, everything else never seen."""
    waits = ["after"] if "after" in plan_table.column_names else []
    table = plan_table.select([*PLAN.names, *waits])
    table = table.combine_chunks().sort_by("index") if table.num_rows else table
    column = {name: table.column(name).combine_chunks() for name in table.column_names}
    n = table.num_rows
    session = integers(column["session"])
    rows: dict[str, NDArray[Any]] = {
        "index": integers(column["index"]),
        "class": text_values(column["class"]).astype(np.str_),
        "session": session,
        "turn": integers(column["turn"]).astype(np.int32),
        "worker": (session % workers).astype(np.int32),
        "backend": np.full(n, "", dtype=np.str_),
        "input_tokens_planned": integers(column["input_tokens"]),
        "output_tokens_planned": integers(column["output_tokens"]),
        "priority": floats(column["priority"]),
        "tokens_source": np.full(n, "", dtype=_SOURCES.dtype),
        "outcome": np.full(n, Outcome.UNSENT, dtype=np.array(OUTCOMES).dtype),
        "connection_new": np.full(n, np.nan),
        "scheduled_ns": floats(column["scheduled_ns"]),
        "follows": np.zeros(n) if not waits else (integers(column["after"]) != 0).astype(np.float64),
    }
    for name, kind in SPOOL_REQUESTS.items():
        if name not in rows:
            rows[name] = np.full(n, "", dtype=np.object_) if kind == "str" else np.full(n, np.nan)
    return rows


def _put_starts(rows: dict[str, NDArray[Any]], starts: Columns) -> None:
    at = np.searchsorted(rows["index"], starts["index"])
    rows["started_ns"][at] = _nan_for_null(starts["started_ns"])
    _schedule(rows, at, starts["scheduled_ns"])


def _put_ends(rows: dict[str, NDArray[Any]], ends: Columns, at: NDArray[np.int64]) -> None:
    for name, kind in SPOOL_REQUESTS.items():
        if kind == "str":
            rows[name][at] = ends[name]
        elif name not in {"index", "scheduled_ns", *_CODES}:
            rows[name][at] = _nan_for_null(ends[name])
    _schedule(rows, at, ends["scheduled_ns"])
    rows["tokens_source"][at] = _SOURCES[ends["tokens_source"]]
    rows["outcome"][at] = np.array(OUTCOMES)[ends["outcome"]]
    rows["connection_new"][at] = np.where(ends["connection_new"] < 0, np.nan, ends["connection_new"])


def _schedule(rows: dict[str, NDArray[Any]], at: NDArray[np.int64], scheduled_ns: NDArray[np.int64]) -> None:
    """Take the worker's scheduled time only where the plan has none (a closed loop): the plan's is never moved."""
    rows["scheduled_ns"][at] = np.where(
        np.isnan(rows["scheduled_ns"][at]), _nan_for_null(scheduled_ns), rows["scheduled_ns"][at]
    )


def _put_open(rows: dict[str, NDArray[Any]], chunks: Columns, is_open: NDArray[np.bool_]) -> None:
    """Fill what the chunks of requests without an end record say about them."""
    if not is_open.any():
        return
    mine = np.flatnonzero(is_open[np.searchsorted(rows["index"], chunks["index"])])
    if not len(mine):
        return
    index, t_ns = chunks["index"][mine], chunks["t_ns"][mine]
    first = np.flatnonzero(np.r_[True, index[1:] != index[:-1]])
    counts = np.diff(np.r_[first, len(index)])
    at = np.searchsorted(rows["index"], index[first])
    rows["first_token_ns"][at] = t_ns[first]
    rows["last_token_ns"][at] = t_ns[first + counts - 1]
    rows["chunks"][at] = counts
    rows["first_chunk_tokens"][at] = chunks["tokens"][mine][first]
    rows["receive_lag_max_ns"][at] = np.maximum.reduceat(chunks["lag_ns"][mine], first)
    output = np.flatnonzero(np.isin(chunks["channel"][mine], _OUTPUT_CHANNELS))
    with_output, where = np.unique(index[output], return_index=True)
    rows["first_output_ns"][np.searchsorted(rows["index"], with_output)] = t_ns[output[where]]


def _due_but_not_begun(rows: Columns, spooled: Spooled, acted_on: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Rows of dead workers that other workers' or their own records show to have been due.

    The last scheduled time that any worker acted on bounds what was due: a run that was stopped
    offered nothing after it, whatever was still written while it drained.
    """
    acted_on = acted_on & (rows["outcome"] != Outcome.UNSENT)
    due_until_ns = np.max(rows["scheduled_ns"][acted_on], initial=-np.inf)
    ended_well = list(spooled.workers - spooled.unclosed)
    dead = ~np.isin(rows["worker"], ended_well)
    due: NDArray[np.bool_] = rows["scheduled_ns"] <= due_until_ns  # False where NaN: a user's turn never came
    lost: NDArray[np.bool_] = dead & due & ~acted_on & (rows["outcome"] == Outcome.UNSENT)
    return lost


def _telemetry(spooled: Spooled, sampled: Columns) -> dict[str, NDArray[Any]]:
    """The workers' samples and the sampler's in the long form of telemetry.parquet, sorted by time."""
    own = spooled.telemetry
    n = len(own["t_ns"])
    # Python strings, equal ones shared: a column as wide as the longest label would take 100 bytes a sample.
    names = np.array([*WORKER_METRICS, *(f"metric_{code}" for code in range(len(WORKER_METRICS), 128))], np.object_)
    sources = np.array([f"worker-{k}" for k in range(int(np.max(own["worker"], initial=0)) + 1)], np.object_)
    parts = {
        "t_ns": (own["t_ns"], sampled["t_ns"]),
        "source": (sources[own["worker"]], sampled["source"]),
        "name": (names[own["name"]], sampled["name"]),
        "labels": (np.full(n, "", np.object_), sampled["labels"]),
        "value": (own["value"], sampled["value"]),
    }
    order = np.argsort(np.concatenate(parts["t_ns"]), kind="stable")
    return {name: np.concatenate(columns)[order] for name, columns in parts.items()}


def _nan_for_null(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.where(values == NULL, np.nan, values.astype(np.float64))
