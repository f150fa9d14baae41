"""The plan: every request of a run, its due time, class and lengths, made before the run as data."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from slobench.errors import ConfigError, RecordsError
from slobench.names import NULL
from slobench.records.arrow import integers, text_array, text_values
from slobench.records.schema import PLAN as SCHEMA
from slobench.wire.endpoint import Endpoint
from slobench.workload.prompts import prompt_refs
from slobench.workload.sessions import classes_by_share, deal, turns_for
from slobench.workload.variates import IntArray, child

if TYPE_CHECKING:
    from slobench.config.workload import ClosedLoop, Workload

# A worker loads plans and builds none: what only building needs, pydantic's models above all, is imported there, and
# the worker starts in half the time.

_CLASSES = b"slobench.classes"
_PILOT = 1024  # requests whose output lengths stand for the rest where turns are counted


@dataclass(frozen=True, eq=False)
class Plan:
    """Planned requests in order of their index, as columns of one length; read-only.

    scheduled_ns: int64 ns from the start of the run, ascending; None in a closed loop.
    class_code: int32, position in class_names. priority: int64, NULL where none is sent.
    prompt: what the prompt is made from; the same reference under the same run nonce is the same prompt.
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

    def __post_init__(self) -> None:
        for name, column in self._columns().items():
            if column is not None:
                kept = np.ascontiguousarray(
                    column, dtype=np.int32 if name in {"class_code", "turn"} else np.int64
                ).view()
                kept.flags.writeable = False
                object.__setattr__(self, name, kept)
        sizes = {len(column) for column in self._columns().values() if column is not None}
        if len(sizes) != 1:
            raise ValueError(f"columns of one length expected, got {sorted(sizes)}")

    def __len__(self) -> int:
        return len(self.index)

    def _columns(self) -> dict[str, NDArray[Any] | None]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "class_names"}

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) over the columns in the order of the schema: equal plans, and only they, have equal digests.

        For each column its name, then for each row a byte that says whether it is there (nullable columns only), then
        the values, little-endian, 0 where there is none; for the class, its codes and the class names as JSON.
        """
        state = hashlib.sha256(json.dumps([len(self), *self.class_names]).encode())
        for field, (name, column) in zip(SCHEMA, self._columns().items(), strict=True):
            values = np.full(len(self), NULL) if column is None else column
            state.update(f"\0{field.name}\0".encode())
            if field.nullable:
                there = values != NULL
                state.update(np.packbits(there, bitorder="little").tobytes())
                values = np.where(there, values, 0)
            state.update(values.astype("<i4" if name in {"class_code", "turn"} else "<i8").tobytes())
        return state.hexdigest()

    def to_arrow(self) -> pa.Table:
        """Return the plan as a table of records.schema.PLAN, sharing memory with it."""
        arrays = []
        for field, column in zip(SCHEMA, self._columns().values(), strict=True):
            # From buffers: pa.array would import pandas.
            values = np.full(len(self), NULL) if column is None else column
            kind = pa.int32() if field.name in {"class", "turn"} else pa.int64()
            there = np.packbits(values != NULL, bitorder="little") if field.nullable else None
            buffers = [None if there is None else pa.py_buffer(there), pa.py_buffer(values)]
            array = pa.Array.from_buffers(kind, len(self), buffers)
            if field.name == "class":
                array = pa.DictionaryArray.from_arrays(array, text_array(self.class_names))
            arrays.append(array)
        metadata = {**SCHEMA.metadata, _CLASSES: json.dumps(self.class_names).encode()}
        return pa.Table.from_arrays(arrays, schema=SCHEMA.with_metadata(metadata))

    @classmethod
    def from_arrow(cls, table: pa.Table) -> Plan:
        """Read a table that `to_arrow` made, also after it went through a parquet file.

        Raises RecordsError where columns are missing.
        """
        missing = sorted(set(SCHEMA.names) - set(table.column_names))
        if missing:
            raise RecordsError(f"not a plan: no column {', '.join(missing)}\n  expected  {', '.join(SCHEMA.names)}")
        columns: dict[str, Any] = {name: integers(_one_chunk(table[name])) for name in SCHEMA.names if name != "class"}
        if len(table) and table["scheduled_ns"].null_count == len(table):
            columns["scheduled_ns"] = None
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
        return Plan(class_names=self.class_names, **picked)  # type: ignore[arg-type]  # as in the fields

    def joined(self, more: Plan) -> Plan:
        """This plan and then the rows of another one with the same classes; both open, or both closed."""
        if self.class_names != more.class_names:
            raise ValueError(f"plans of classes {self.class_names} and {more.class_names}")
        theirs = more._columns()
        joined = {
            name: None if column is None else np.concatenate([column, theirs[name]])
            for name, column in self._columns().items()
        }
        return Plan(class_names=self.class_names, **joined)  # type: ignore[arg-type]  # as in the fields

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

    Open loop: the classes' arrivals merged by time, the first `requests` of them, or those before `duration` and, as
    a run by duration goes on offering while its last replies come, `drain.grace` more (not where it cuts).
    Closed loop: row = (turn, user), the class drawn by share.
    Each purpose and class has its own seed: one more class changes no other's times or lengths.
    Raises ConfigError for a plan that is empty, too long, or a burst beside other arrivals.
    """
    from slobench.config.workload import ClosedLoop
    from slobench.workload.lengths import draw

    names = tuple(workload.classes)
    if isinstance(workload.loop, ClosedLoop):
        n = _closed_rows(workload, workload.loop, seed)
        codes = classes_by_share(n, {name: spec.share for name, spec in workload.classes.items()}, seed)
        session, turn = deal(n, workload.loop.users)
        scheduled = None
    else:
        scheduled, codes = _open_rows(workload, seed)
        session, turn = deal(len(codes), max(1, len(codes)))
    if len(codes) == 0:
        raise ConfigError(
            f"the plan of workload {workload.name!r} is empty: no arrival falls within its duration\n"
            f"  expected  a longer duration or a higher rate (now {workload.offered_rate():g}/s)"
        )
    columns = {name: np.empty(len(codes), dtype=np.int64) for name in ("input", "output", "prompt", "priority")}
    for code, (name, spec) in enumerate(workload.classes.items()):
        rows = np.flatnonzero(codes == code)
        columns["input"][rows] = draw(spec.input_tokens, len(rows), child(seed, "input_tokens", name))
        columns["output"][rows] = draw(spec.output_tokens, len(rows), child(seed, "output_tokens", name))
        columns["prompt"][rows] = prompt_refs(
            rows, seed=seed, name=name, shared_prefix_tokens=spec.shared_prefix_tokens
        )
        columns["priority"][rows] = NULL if spec.priority is None else spec.priority
    return Plan(
        index=np.arange(len(codes)),
        scheduled_ns=scheduled,
        class_code=codes.astype(np.int32),
        session=session,
        turn=turn.astype(np.int32),
        prompt=columns["prompt"],
        input_tokens=columns["input"],
        output_tokens=columns["output"],
        priority=columns["priority"],
        class_names=names,
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


def _open_rows(workload: Workload, seed: int) -> tuple[IntArray, IntArray]:
    """Due times and class codes of an open loop, in order; at equal times in the order of the classes."""
    from slobench.config.workload import MAX_REQUESTS, Burst
    from slobench.workload.arrivals import offsets_ns

    arrivals = {name: spec.arrivals for name, spec in workload.classes.items() if spec.arrivals is not None}
    bursts = [name for name, process in arrivals.items() if isinstance(process, Burst)]
    if bursts and len(bursts) < len(arrivals):
        raise ConfigError(
            f"class {bursts[0]}: a burst takes all requests at once and leaves none to the other classes\n"
            "  expected  a burst for every class, or for none"
        )
    n = workload.requests
    if bursts and n is not None:
        shares = {name: workload.classes[name].share for name in bursts}
        codes = classes_by_share(n, shares, seed)
        return np.zeros(n, dtype=np.int64), codes
    horizon_ns = None if workload.duration is None else workload.duration + _tail_ns(workload)
    # The fastest class first: its nth arrival bounds what is drawn of the others, and the result does not depend on it.
    times: dict[str, IntArray] = {}
    for name in sorted(arrivals, key=lambda name: -_rate(arrivals[name])):
        times[name] = offsets_ns(arrivals[name], n=n, horizon_ns=horizon_ns, rng=child(seed, "arrivals", name))
        if n is not None and horizon_ns is None:
            horizon_ns = int(times[name][-1]) + 1
    due = np.concatenate([times[name] for name in workload.classes])
    codes = np.repeat(np.arange(len(times)), [len(times[name]) for name in workload.classes])
    if len(due) > MAX_REQUESTS and n is None:
        raise ConfigError(f"a plan of {len(due):,} requests\n  expected  at most {MAX_REQUESTS:,}")
    order = np.argsort(due, kind="stable")[:n]
    return due[order], codes[order]


def _rate(process: Any) -> float:
    return float(process.rate)


def _tail_ns(workload: Workload) -> int:
    return 0 if workload.drain.mode == "cut" else workload.drain.grace


def _closed_rows(workload: Workload, loop: ClosedLoop, seed: int) -> int:
    """Rows of a closed loop: as asked, or enough for its duration by the bound of `turns_for`."""
    from slobench.workload.lengths import draw

    if workload.requests is not None:
        return workload.requests
    # Sums of Python, in a fixed order: a dot product rounds differently from machine to machine.
    total = sum(
        spec.share * int(draw(spec.output_tokens, _PILOT, child(seed, "output_tokens", name)).sum())
        for name, spec in workload.classes.items()
    )
    mean_output_tokens = total / _PILOT / sum(spec.share for spec in workload.classes.values())
    assert workload.duration is not None
    return loop.users * turns_for(
        workload.duration, loop.think_time, users=loop.users, mean_output_tokens=mean_output_tokens
    )


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
