"""The one table that every trace is read into."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from slobench.errors import ConfigError
from slobench.records.arrow import arrow_array, integers
from slobench.workload.traces.sessions import renumbered, turns_of
from slobench.workload.variates import IntArray

History = Literal["cumulative", "delta"]
VERSION = "1"
_LAST_NS = 2**60  # 36 years

TRACE = pa.schema(
    [
        pa.field("arrival_ns", pa.int64(), nullable=False),  # from the start of the recording
        pa.field("input_tokens", pa.int64()),
        pa.field("output_tokens", pa.int64()),
        pa.field("class", pa.string()),  # the recorder's own label: model, kind of request
        pa.field("session", pa.int64()),
        pa.field("turn", pa.int32()),  # place in the session, from 0
        pa.field("delay_ns", pa.int64()),  # wait after what the row waits for has ended
        pa.field("after", pa.list_(pa.int64())),  # turns of the same session that it waits for; null: the one before
        pa.field("blocks", pa.list_(pa.int64())),  # names of the prompt's blocks: equal ones hold equal tokens
        pa.field("images", pa.int32()),
        pa.field("elapsed_ns", pa.int64()),  # how long the recorded reply took, from end to end
        pa.field("failed", pa.bool_(), nullable=False),
        pa.field("text", pa.string()),  # the prompt itself
    ]
)


@dataclass(frozen=True, eq=False)
class Trace:
    """Recorded requests in order of arrival; at equal times in the order of the file.

    table: the columns of TRACE. block_tokens: tokens that each of `blocks` stands for, but a prompt's last.
    history: whether input_tokens and blocks of later turns hold the turns before them ("cumulative") or only what is
    new ("delta"). bin_ns: the recorder rounded its times to multiples of this; 0: they are exact. timed: whether it
    wrote times of arrival at all. notes: what the reader left out or changed, for the user.
    """

    table: pa.Table
    format: str
    block_tokens: int | None = None
    history: History = "cumulative"
    bin_ns: int = 0
    timed: bool = True
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def numbers(self, name: str) -> IntArray:
        """Return an integer or boolean column, NULL where there is nothing."""
        return integers(_whole(self.table[name]))

    def lists(self, name: str) -> tuple[IntArray, IntArray]:
        """Return a column of lists as offsets (one more than rows) and values; nothing there is an empty list."""
        column = _whole(self.table[name])
        offsets = integers(column.offsets)
        # What stands at null rows is not looked at.
        lengths = np.where(self.there(name), np.diff(offsets), 0)
        starts = np.zeros(len(offsets), dtype=np.int64)
        np.cumsum(lengths, out=starts[1:])
        if starts[-1] == offsets[-1] - offsets[0]:
            return starts, _plain(column.values)[offsets[0] : offsets[-1]]
        return starts, _plain(column.flatten())

    def has(self, name: str) -> bool:
        """Whether some row has a value in this column."""
        return bool(self.table[name].null_count < len(self))

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) over times, lengths and blocks: what tells one recording from another."""
        state = hashlib.sha256(f"{len(self)}\0{self.block_tokens}".encode())
        for name in ("arrival_ns", "input_tokens", "output_tokens"):
            state.update(np.ascontiguousarray(self.numbers(name), dtype="<i8").data)
        for column in self.lists("blocks") if self.has("blocks") else ():
            state.update(np.ascontiguousarray(column, dtype="<i8").data)
        return state.hexdigest()

    def to_arrow(self) -> pa.Table:
        """Return the table with what else is known of the trace in its schema's metadata."""
        metadata = {"format": self.format, "history": self.history, "bin_ns": str(self.bin_ns)}
        if self.block_tokens is not None:
            metadata["block_tokens"] = str(self.block_tokens)
        if not self.timed:
            metadata["timed"] = "false"
        return self.table.replace_schema_metadata({"slobench.trace": VERSION, **metadata})

    def take(self, rows: NDArray[Any]) -> Trace:
        """Rows picked by a mask or by positions."""
        positions = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return replace(self, table=self.table.take(arrow_array(positions.astype(np.int64), pa.int64())))

    def there(self, name: str) -> NDArray[np.bool_]:
        """Which rows have a value in this column; an empty list is one."""
        there: NDArray[np.bool_] = integers(_whole(self.table[name]).is_valid()) == 1
        return there

    def without(self, name: str) -> Trace:
        """Return the same with nothing in a column."""
        return self.with_column(name, pa.nulls(len(self), TRACE.field(name).type))

    def with_numbers(self, **columns: IntArray) -> Trace:
        """Return the same with other values in some integer columns."""
        trace = self
        for name, values in columns.items():
            trace = trace.with_column(name, arrow_array(values, TRACE.field(name).type))
        return trace

    def with_column(self, name: str, column: pa.Array) -> Trace:
        """Return the same with another column."""
        table = self.table.set_column(TRACE.get_field_index(name), TRACE.field(name), column)
        return replace(self, table=table)


def make_trace(
    columns: Mapping[str, NDArray[Any] | pa.Array],
    *,
    format: str,  # noqa: A002 (the word of the files and the flag)
    block_tokens: int | None = None,
    history: History = "cumulative",
    bin_ns: int = 0,
    timed: bool = True,
    notes: Sequence[str] = (),
) -> Trace:
    """Put columns (arrays of int64 with NULL for nothing, or of arrow) in order of arrival, and the first at 0.

    Sessions are numbered in the order of their first rows; turns, where none are given, by the order of their rows.
    Columns that are not given hold nothing. Raises ConfigError where there are no rows, or more than 36 years of them.
    """
    arrival = np.asarray(columns["arrival_ns"], dtype=np.int64)
    if not len(arrival):
        raise ConfigError(f"no requests in this trace ({format})\n  expected  at least one row")
    first, last = int(arrival.min()), int(arrival.max())
    if last - first > _LAST_NS:
        raise ConfigError(f"the trace ({format}) lasts more than 36 years\n  expected  arrival times in another unit")
    given = {"failed": np.zeros(len(arrival), dtype=np.int64), **columns, "arrival_ns": arrival - first}
    arrays = [_column(given.get(field.name), field, len(arrival)) for field in TRACE]
    trace = Trace(pa.Table.from_arrays(arrays, schema=TRACE), format, block_tokens, history, bin_ns, timed)
    trace = replace(trace, notes=tuple(notes))
    if (np.diff(arrival) < 0).any():
        trace = trace.take(np.argsort(arrival, kind="stable"))
    if trace.has("session"):
        session = renumbered(trace.numbers("session"))
        turn = trace.numbers("turn") if trace.has("turn") else turns_of(session)
        trace = trace.with_numbers(session=session, turn=turn)
    return trace


def joined(traces: Sequence[Trace]) -> Trace:
    """Put traces that are alike but for their rows one after the other."""
    table = pa.concat_tables([trace.table for trace in traces]).combine_chunks()
    return replace(traces[0], table=table)


def list_array(offsets: IntArray, values: IntArray, there: NDArray[np.bool_] | None = None) -> pa.Array:
    """Make a column of lists of int64; null where not `there` (whose lists must be empty)."""
    if len(values) >= 2**31:
        raise ConfigError(f"{len(values):,} prefix blocks in one trace\n  expected  fewer than 2³¹")
    bitmap = None if there is None or there.all() else pa.py_buffer(np.packbits(there, bitorder="little"))
    # From buffers, without a copy: a name may be any number, also the one that stands for nothing elsewhere.
    items = pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(np.ascontiguousarray(values, np.int64))])
    starts = pa.py_buffer(offsets.astype(np.int32))
    return pa.Array.from_buffers(pa.list_(pa.int64()), len(offsets) - 1, [bitmap, starts], children=[items])


def _plain(column: pa.Array) -> IntArray:
    """Return int64 values without nulls, sharing memory with the column."""
    data = column.buffers()[1]
    if data is None or not len(column):
        return np.empty(0, dtype=np.int64)
    return np.frombuffer(data, dtype=np.int64, count=len(column), offset=8 * column.offset)


def _column(values: Any, field: pa.Field, n: int) -> pa.Array:
    if values is None:
        return pa.nulls(n, field.type)
    if isinstance(values, np.ndarray):
        return arrow_array(values, field.type)
    return _whole(values).cast(field.type)


def _whole(column: Any) -> pa.Array:
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
