"""The plan: every request of a run, its due time, class and lengths, made before the run as data."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from slobench.errors import ConfigError, RecordsError
from slobench.names import NULL
from slobench.records.arrow import integers, list_array, list_values, text_array, text_values
from slobench.records.schema import PLAN as SCHEMA
from slobench.records.schema import PLAN_OPTIONAL, plan_schema
from slobench.wire.endpoint import Endpoint
from slobench.workload.content import Contents
from slobench.workload.prompts import prompt_refs
from slobench.workload.variates import IntArray

if TYPE_CHECKING:
    from slobench.config.workload import Workload
    from slobench.workload.rows import Rows

# A worker loads plans and builds none: what only building needs, pydantic's models above all, is imported there, and
# the worker starts in half the time.

_CLASSES = b"slobench.classes"
_NARROW = frozenset({"class_code", "turn", "images"})
_UNUSED = {"after": 0, "delay_ns": NULL, "patience_ns": NULL, "images": 0}


@dataclass(frozen=True, eq=False)
class Plan:
    """Planned requests in order of their index, as columns of one length; read-only.

    scheduled_ns: int64 ns from the start of the run; NULL where a row follows others; None in a closed loop.
    class_code: int32, position in class_names. priority: int64, NULL where none is sent.
    prompt: what the prompt is made from; the same reference under the same run nonce is the same prompt.
    Columns that no row uses are None. after: int64, bit k set = it waits for the row of its session that stands k + 1
    rows before it; rows of such a session stand together, in the order of their turns. delay_ns: int64, from the last
    end of those to its own scheduled time. patience_ns: int64, from its scheduled time until it is given up; NULL =
    never. images: int32. contents: what prompts begin with. notes: what was left out or
    changed on the way, for the user; in no file of the plan's.
    """

    index: IntArray
    scheduled_ns: IntArray | None
    class_code: NDArray[np.int32]
    session: IntArray
    turn: NDArray[np.int32]
    prompt: IntArray
    input_tokens: IntArray
    output_tokens: IntArray
    priority: IntArray
    class_names: tuple[str, ...]
    after: IntArray | None = None
    delay_ns: IntArray | None = None
    patience_ns: IntArray | None = None
    images: NDArray[np.int32] | None = None
    contents: Contents | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, column in self._columns().items():
            if column is not None and name in _UNUSED and (column == _UNUSED[name]).all():
                object.__setattr__(self, name, None)
            elif column is not None:
                kept = np.ascontiguousarray(column, dtype=np.int32 if name in _NARROW else np.int64).view()
                kept.flags.writeable = False
                object.__setattr__(self, name, kept)
        if self.contents is not None and self.contents.unique:
            object.__setattr__(self, "contents", None)
        sizes = {len(column) for column in (*self._columns().values(), self.contents) if column is not None}
        if len(sizes) != 1:
            raise ValueError(f"columns of one length expected, got {sorted(sizes)}")

    def __len__(self) -> int:
        return len(self.index)

    def _columns(self) -> dict[str, NDArray[Any] | None]:
        aside = {"class_names", "contents", "notes"}
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in aside}

    def _filled(self) -> Iterator[tuple[pa.Field, NDArray[Any]]]:
        """The plain columns that a file has, with their place in the schema."""
        for field, (name, column) in zip((*SCHEMA, *PLAN_OPTIONAL), self._columns().items(), strict=False):
            if column is not None or name not in _UNUSED:
                yield field, np.full(len(self), NULL) if column is None else column

    @cached_property
    def due_ns(self) -> IntArray | None:
        """The scheduled times that are fixed beforehand, ascending; None in a closed loop."""
        return None if self.scheduled_ns is None else np.sort(self.scheduled_ns[self.scheduled_ns != NULL])

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) over the columns in the order of the schema: equal plans, and only they, have equal digests.

        For each column its name, then for each row a byte that says whether it is there (nullable columns only), then
        the values, little-endian, 0 where there is none; for the class, its codes and the class names as JSON. Optional
        columns that no row uses are left out; of contents the number of parts of each row comes before the keys.
        """
        state = hashlib.sha256(json.dumps([len(self), *self.class_names]).encode())
        for field, values in self._filled():
            state.update(f"\0{field.name}\0".encode())
            if field.nullable:
                there = values != NULL
                state.update(np.packbits(there, bitorder="little").tobytes())
                filled = np.where(there, values, 0)
            else:
                filled = values
            state.update(filled.astype("<i4" if values.dtype == np.int32 else "<i8").tobytes())
        if self.contents is not None:
            state.update(b"\0content_key\0" + self.contents.counts.astype("<i8").tobytes())
            state.update(self.contents.keys.astype("<i8").tobytes())
            state.update(b"\0content_tokens\0" + self.contents.tokens.astype("<i4").tobytes())
        return state.hexdigest()

    def to_arrow(self) -> pa.Table:
        """Return the plan as a table of records.schema.PLAN and what it uses of PLAN_OPTIONAL, sharing memory."""
        arrays = {}
        for field, values in self._filled():
            # From buffers: pa.array would import pandas.
            kind = pa.int32() if values.dtype == np.int32 else pa.int64()
            there = np.packbits(values != NULL, bitorder="little") if field.nullable else None
            buffers = [None if there is None else pa.py_buffer(there), pa.py_buffer(values)]
            array = pa.Array.from_buffers(kind, len(self), buffers)
            if field.name == "class":
                array = pa.DictionaryArray.from_arrays(array, text_array(self.class_names))
            arrays[field.name] = array
        if self.contents is not None:
            for name, parts in (("content_key", self.contents.keys), ("content_tokens", self.contents.tokens)):
                arrays[name] = list_array(self.contents.offsets, parts, PLAN_OPTIONAL.field(name).type)
        schema = plan_schema(arrays)
        metadata = {**SCHEMA.metadata, _CLASSES: json.dumps(self.class_names).encode()}
        return pa.Table.from_arrays(list(arrays.values()), schema=schema.with_metadata(metadata))

    @classmethod
    def from_arrow(cls, table: pa.Table) -> Plan:
        """Read a table that `to_arrow` made, also after it went through a parquet file.

        Raises RecordsError where columns are missing.
        """
        missing = sorted(set(SCHEMA.names) - set(table.column_names))
        if missing:
            raise RecordsError(f"not a plan: no column {', '.join(missing)}\n  expected  {', '.join(SCHEMA.names)}")
        plain = [*SCHEMA.names, *_UNUSED.keys() & set(table.column_names)]
        columns: dict[str, Any] = {name: integers(_one_chunk(table[name])) for name in plain if name != "class"}
        if len(table) and table["scheduled_ns"].null_count == len(table):
            columns["scheduled_ns"] = None
        if {"content_key", "content_tokens"} <= set(table.column_names):
            offsets, keys = list_values(_one_chunk(table["content_key"]))
            columns["contents"] = Contents(offsets, keys, list_values(_one_chunk(table["content_tokens"]))[1])
        classes = _one_chunk(table["class"])
        if not pa.types.is_dictionary(classes.type):
            classes = classes.dictionary_encode()
        found = text_values(classes.dictionary).tolist()
        names = tuple(json.loads((table.schema.metadata or {}).get(_CLASSES, json.dumps(found))))
        if not set(found) <= set(names):
            raise RecordsError(f"not a plan: classes {found} are not those it names, {list(names)}")
        # A parquet file may number the classes in another order.
        code_of = np.array([names.index(name) for name in found], dtype=np.int32)
        return cls(class_code=code_of[integers(classes.indices)], class_names=names, **columns)

    def shard(self, worker: int, workers: int) -> Plan:
        """Rows of whole sessions for one of `workers`; the union of all shards is the plan."""
        if not 0 <= worker < workers:
            raise ValueError(f"worker {worker} of {workers}")
        return self.take(self.session % workers == worker)

    def take(self, rows: NDArray[Any] | slice) -> Plan:
        """Rows picked by a mask, by positions or as a slice; indices and class codes stay those of the whole plan."""
        picked = {name: None if column is None else column[rows] for name, column in self._columns().items()}
        contents = None if self.contents is None else self.contents.take(rows)
        return Plan(class_names=self.class_names, contents=contents, **picked)  # type: ignore[arg-type]  # as in fields

    def joined(self, more: Plan) -> Plan:
        """This plan and then the rows of another one with the same classes; both open, or both closed."""
        if self.class_names != more.class_names:
            raise ValueError(f"plans of classes {self.class_names} and {more.class_names}")
        joined: dict[str, Any] = {}
        for name in self._columns():
            both = [(len(plan), getattr(plan, name)) for plan in (self, more)]
            if name in _UNUSED and any(column is not None for _, column in both):
                both = [(n, np.full(n, _UNUSED[name]) if column is None else column) for n, column in both]
            joined[name] = None if both[0][1] is None else np.concatenate([column for _, column in both])
        if self.contents is not None or more.contents is not None:
            parts = [plan.contents or Contents.none(len(plan)) for plan in (self, more)]
            joined["contents"] = parts[0].joined(parts[1])
        return Plan(class_names=self.class_names, **joined)

    def save(self, path: Path) -> None:
        """Write as an Arrow IPC file, uncompressed so that every worker maps the same pages.

        Raises RecordsError where the disk refuses.
        """
        table = self.to_arrow()
        try:
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise RecordsError(
                f"cannot write {path}: {reason}\n  expected  a folder that exists, on a disk with room"
            ) from None

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Map a file that `save` wrote. Raises RecordsError where it cannot be read."""
        try:
            return cls.from_arrow(pa.ipc.open_file(pa.memory_map(str(path))).read_all())
        except (OSError, pa.ArrowInvalid) as error:
            raise RecordsError(
                f"cannot read plan {path}: {error}\n  expected  an Arrow file of `slobench plan`"
            ) from None


def build_plan(workload: Workload, seed: int) -> Plan:
    """Plan a workload: the same bytes for the same workload and seed, on any machine, for any number of workers.

    Open loop: the classes' rows merged by the start of their sessions, the first `requests` of them, or of sessions
    that begin before `duration` and, as a run by duration goes on offering while its last replies come, `drain.grace`
    more (not where it cuts). Closed loop: row = (turn, user), the class drawn by share.
    Each purpose and class has its own seed: one more class changes no other's times or lengths.
    Raises ConfigError for a plan that is empty, too long, or a burst beside other arrivals.
    """
    from slobench.config.workload import ClosedLoop
    from slobench.workload.class_content import with_content
    from slobench.workload.class_rows import closed_rows, open_rows

    closed = isinstance(workload.loop, ClosedLoop)
    rows, codes = (closed_rows if closed else open_rows)(workload, seed)
    if not len(rows):
        raise ConfigError(
            f"the plan of workload {workload.name!r} is empty: no arrival falls within its duration\n"
            f"  expected  a longer duration or a higher rate (now {workload.offered_rate():g}/s)"
        )
    return plan_of(with_content(rows, codes, workload, seed), codes, workload, seed, closed=closed)


def plan_of(  # each is one fact of the plan
    rows: Rows, codes: IntArray, workload: Workload, seed: int, *, first: int = 0, closed: bool = False
) -> Plan:
    """Make a plan of rows that have their contents; codes: the class of each, first: the index of the first one."""
    from slobench.workload.patience import with_patience

    rows = with_patience(rows, codes, workload, seed)
    index = first + np.arange(len(rows))
    prompt, priority = (np.empty(len(rows), dtype=np.int64) for _ in range(2))
    for code, (name, spec) in enumerate(workload.classes.items()):
        mine = codes == code
        prompt[mine] = prompt_refs(index[mine], seed=seed, name=name, shared_prefix_tokens=spec.shared_prefix_tokens)
        priority[mine] = NULL if spec.priority is None else spec.priority
    return Plan(
        index=index,
        scheduled_ns=None if closed else rows.start_ns,
        class_code=codes.astype(np.int32),
        session=rows.session,
        turn=rows.turn,
        prompt=prompt,
        input_tokens=rows.input_tokens,
        output_tokens=rows.output_tokens,
        priority=priority,
        class_names=tuple(workload.classes),
        after=rows.after,
        delay_ns=rows.delay_ns,
        patience_ns=rows.patience_ns,
        images=rows.images,
        contents=rows.contents,
        notes=rows.notes,
    )


def refuse_too_long(plan: Plan, endpoint: Endpoint) -> None:
    """Raise ConfigError where rows do not fit the server's context: it would clamp or refuse them."""
    if endpoint.max_model_len is None:
        return
    total = plan.input_tokens + plan.output_tokens
    too_long = np.flatnonzero(total > endpoint.max_model_len)
    if too_long.size:
        row = int(too_long[np.argmax(total[too_long])])
        raise ConfigError(
            f"{too_long.size} of {len(plan)} requests are longer than the server's context of "
            f"{endpoint.max_model_len} tokens\n"
            f"  longest   {plan.input_tokens[row]} in + {plan.output_tokens[row]} out = {total[row]} "
            f"(class {plan.class_names[plan.class_code[row]]})\n"
            "  expected  shorter input_tokens or output_tokens (max: bounds a distribution), or a server with a larger "
            "--max-model-len"
        )


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
