"""slobench's own traces: JSON lines, the first of which says what holds for all (docs/trace-formats.md)."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from slobench.config.document import shown
from slobench.config.problems import clip, unknown
from slobench.errors import RecordsError
from slobench.names import NULL
from slobench.records.arrow import text_values
from slobench.workload.traces.blocks import text_blocks
from slobench.workload.traces.files import fault, first_line
from slobench.workload.traces.lines import Key, Lines, read_lines
from slobench.workload.traces.schema import TRACE, VERSION, Trace, list_array, make_trace
from slobench.workload.traces.sessions import numbered
from slobench.workload.traces.vidur import UNTIMED
from slobench.workload.variates import IntArray

MARK = "slobench_trace"
FORMAT = "slobench-jsonl"
HEADER = {"block_tokens": 1, "history": "cumulative", "bin_ns": 0, "format": "", "about": ""}
"""Keys of the first line beside MARK, each with a value of its kind."""
_TIMES = ("arrival", "delay", "elapsed")
KEYS = (
    *(Key(f"{name}_ns", "whole") for name in _TIMES),
    *(Key(f"{name}_s", "number") for name in _TIMES),
    *(Key(name, "whole") for name in ("input_tokens", "output_tokens", "turn", "images")),
    Key("class", "text"),
    Key("session", "name"),
    Key("after", "wholes"),
    Key("blocks", "wholes"),
    Key("failed", "flag"),
    Key("text", "text"),
)
_ROWS = 8192
_TEXT_BLOCK = 16
_TICK = 10**9


def read(path: Path, *, chars_per_token: float = 4.0) -> Trace:
    """Read a trace of our own. An unknown key is an error, and so is a time that is given in two units.

    Where a prompt's text is there, a length that is not is estimated, and blocks that are not are made of it.
    """
    header = _header(path)
    lines = read_lines(path, KEYS, strict=True, skip=1)
    columns: dict[str, Any] = {f"{name}_ns": _time(lines, name) for name in _TIMES}
    nothing = columns["arrival_ns"] == NULL
    timed = not nothing.all()
    if timed:
        lines.refuse(nothing, "no arrival_ns or arrival_s", "one of them in every line, or in none")
    else:
        columns["arrival_ns"] = np.zeros(len(lines), dtype=np.int64)
    columns |= {name: lines.wholes(name) for name in ("input_tokens", "output_tokens", "images")}
    columns |= {name: lines.text_column(name) for name in ("class", "text")}
    columns["session"] = numbered(lines.texts("session"))
    turn = lines.wholes("turn")
    if (turn != NULL).any():
        lines.refuse(
            (turn == NULL) & (columns["session"] != NULL), "a session without a turn", "turn in all, or in none"
        )
        columns["turn"] = turn
    columns["after"] = lines.list_column("after", empty=True)
    columns["failed"] = np.where(lines.wholes("failed") == NULL, 0, lines.wholes("failed"))
    columns["blocks"], block_tokens = _blocks(lines, header, chars_per_token)
    notes = [] if timed else [UNTIMED]
    columns["input_tokens"], estimated = _lengths(lines, columns["input_tokens"], chars_per_token)
    if estimated:
        notes.append(f"{estimated} lengths are estimated: a token for each {chars_per_token:g} characters")
    return make_trace(
        columns,
        format=header.get("format") or FORMAT,
        block_tokens=block_tokens,
        history=header.get("history", "cumulative"),
        bin_ns=header.get("bin_ns", 0),
        timed=timed,
        notes=notes,
    )


def _lengths(lines: Lines, given: IntArray, chars_per_token: float) -> tuple[IntArray, int]:
    """Lengths of prompts, estimated where only their text is there, and how many are."""
    texts = lines.texts("text")
    guessed = (given == NULL) & np.array([text is not None for text in texts], dtype=np.bool_)
    if not guessed.any():
        return given, 0
    lengths = [math.ceil(len(text or "") / chars_per_token) for text in texts]
    return np.where(guessed, lengths, given), int(guessed.sum())


def _blocks(lines: Lines, header: Mapping[str, Any], chars_per_token: float) -> tuple[pa.Array, int | None]:
    """Blocks as they are given, else those that texts are made of, and tokens of each."""
    size: int | None = header.get("block_tokens")
    if len(lines.lists("blocks")[1]):
        if size is None:
            raise fault(lines.path, 1, "no block_tokens for `blocks`", f'{{"{MARK}": 1, "block_tokens": 16}} there')
        return lines.list_column("blocks"), size
    texts = lines.texts("text")
    if not any(texts):
        return lines.list_column("blocks"), size
    size = size or _TEXT_BLOCK
    found = [text_blocks(text or "", round(size * chars_per_token)) for text in texts]
    offsets = np.cumsum([0, *map(len, found)])
    return list_array(offsets, np.array([*chain.from_iterable(found)], dtype=np.int64), np.diff(offsets) > 0), size


def _header(path: Path) -> Mapping[str, Any]:
    """Read and check the first line."""
    example = f'{{"{MARK}": {VERSION}}} as the first line'
    try:
        header = orjson.loads(first_line(path))
    except orjson.JSONDecodeError as error:
        raise fault(path, 1, f"not JSON: {error.msg}", example) from None
    if not isinstance(header, dict) or MARK not in header:
        raise fault(path, 1, f"does not begin with {{{MARK!r}: …}}", example)
    if header[MARK] != int(VERSION):
        raise fault(path, 1, f"{MARK} is {clip(header[MARK])}", f"{VERSION}, the version that this slobench reads")
    for name, value in header.items():
        if name not in {*HEADER, MARK}:
            told, _, expected = unknown("unknown field", name, [*HEADER]).partition("\n  expected  ")
            raise fault(path, 1, told, expected)
        if name != MARK and type(value) is not type(HEADER[name]):
            raise fault(
                path, 1, f"{name} is {clip(value)}", "text" if isinstance(HEADER[name], str) else "a whole number"
            )
    if header.get("history", "cumulative") not in {"cumulative", "delta"}:
        raise fault(path, 1, f"history is {clip(header['history'])}", "cumulative or delta")
    if header.get("block_tokens", 1) < 1 or header.get("bin_ns", 0) < 0:
        raise fault(path, 1, "block_tokens below 1 or bin_ns below 0", "a block of at least one token, a bin from 0 up")
    return header


def _time(lines: Lines, name: str) -> IntArray:
    """One of the times, in ns, from whichever unit it is given in; of seconds only what is after the first counts."""
    exact, seconds = lines.wholes(f"{name}_ns"), lines.reals(f"{name}_s")
    in_s = ~np.isnan(seconds)
    lines.refuse(in_s & (exact != NULL), f"both {name}_ns and {name}_s", "one of them")
    if not in_s.any():
        return exact
    if name == "arrival":
        lines.refuse(exact != NULL, "arrival_ns where other lines have arrival_s", "one unit in all lines")
    origin = float(np.floor(np.nanmin(seconds))) if name == "arrival" else 0.0
    ns: IntArray = np.rint(np.where(in_s, seconds - origin, 0) * _TICK).astype(np.int64)
    return np.where(in_s, ns, exact)


def write_jsonl(trace: Trace, path: Path) -> None:
    """Write a trace as our own JSON lines; read again it is the same trace.

    Raises RecordsError where the disk refuses.
    """
    header: dict[str, Any] = {MARK: int(VERSION), "format": trace.format, "history": trace.history}
    if trace.block_tokens is not None:
        header["block_tokens"] = trace.block_tokens
    if trace.bin_ns:
        header["bin_ns"] = trace.bin_ns
    try:
        with path.open("wb") as file:
            file.write(orjson.dumps(header) + b"\n")
            for low in range(0, len(trace), _ROWS):
                part = Trace(trace.table.slice(low, _ROWS), trace.format, trace.block_tokens, timed=trace.timed)
                file.writelines(orjson.dumps(row) + b"\n" for row in _rows(part))
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise RecordsError(
            f"cannot write {shown(path)}: {reason}\n  expected  a folder that exists, with room"
        ) from None


def _rows(trace: Trace) -> list[dict[str, Any]]:
    """The rows as JSON objects, without what is not there."""
    rows: list[dict[str, Any]] = [{} for _ in range(len(trace))]
    for field in TRACE:
        if not trace.has(field.name) or (field.name == "arrival_ns" and not trace.timed):
            continue
        there, values = _values(trace, field)
        for row, given, value in zip(rows, there, values, strict=True):
            if given and (value or field.name != "failed"):
                row[field.name] = value
    return rows


def _values(trace: Trace, field: pa.Field) -> tuple[list[bool], list[Any]]:
    there = trace.there(field.name)
    if pa.types.is_list(field.type):
        offsets, values = trace.lists(field.name)
        flat = values.tolist()
        return there.tolist(), [flat[low:high] for low, high in pairwise(offsets.tolist())]
    if pa.types.is_string(field.type):
        return there.tolist(), text_values(trace.table[field.name].combine_chunks()).tolist()
    if pa.types.is_boolean(field.type):
        return there.tolist(), (trace.numbers(field.name) == 1).tolist()
    return there.tolist(), trace.numbers(field.name).tolist()
