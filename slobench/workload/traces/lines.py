"""JSON Lines traces: typed columns by key, read a block at a time, faults told with their line."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from slobench.config.problems import clip, unknown
from slobench.errors import ConfigError
from slobench.names import NULL
from slobench.records.arrow import text_array
from slobench.workload.traces.files import blocks_of_lines, fault
from slobench.workload.traces.schema import list_array
from slobench.workload.variates import FloatArray, IntArray

Kind = Literal["whole", "number", "text", "name", "flag", "wholes"]
_WORDS: Mapping[Kind, str] = {
    "whole": "a whole number from 0 up",
    "number": "a finite number from 0 up",
    "text": "text",
    "name": "text or a whole number",
    "flag": "true or false",
    "wholes": "a list of whole numbers",
}
_LARGEST = 2**62


@dataclass(frozen=True, slots=True)
class Key:
    """A key that each line may hold, or must."""

    name: str
    kind: Kind
    required: bool = False


@dataclass(frozen=True, eq=False)
class Lines:
    """Columns of one file by key; `unused`: keys that were seen and not asked for; `numbers`: the line of each row."""

    path: Path
    columns: dict[str, _Column]
    unused: tuple[str, ...]
    numbers: IntArray

    def __len__(self) -> int:
        return len(self.numbers)

    def wholes(self, name: str) -> IntArray:
        """Integers; NULL where there is none."""
        return np.frombuffer(self.columns[name].values, dtype=np.int64)

    def reals(self, name: str) -> FloatArray:
        """Numbers; NaN where there is none."""
        return np.frombuffer(self.columns[name].values, dtype=np.float64)

    def texts(self, name: str) -> list[str | None]:
        """Texts; None where there is none."""
        return self.columns[name].texts

    def text_column(self, name: str) -> pa.Array:
        """Texts as an arrow column."""
        texts = self.columns[name].texts
        there = np.array([each is not None for each in texts], dtype=np.bool_)
        return _with_nulls(text_array([each or "" for each in texts]), there)

    def lists(self, name: str) -> tuple[IntArray, IntArray]:
        """Lists as offsets and values; an absent one is empty."""
        column = self.columns[name]
        lengths = np.maximum(np.frombuffer(column.lengths, dtype=np.int64), 0)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        return offsets, np.frombuffer(column.values, dtype=np.int64)

    def list_column(self, name: str, *, empty: bool = False) -> pa.Array:
        """Lists as an arrow column; null where there is none and, unless `empty` lists are told from none, no item."""
        offsets, values = self.lists(name)
        absent = np.frombuffer(self.columns[name].lengths, dtype=np.int64) < 0
        return list_array(offsets, values, ~absent if empty else np.diff(offsets) > 0)

    def refuse(self, bad: NDArray[np.bool_], problem: str, expected: str) -> None:
        """Raise ConfigError for the first bad row, if there is one."""
        if bad.any():
            more = f" (and {int(bad.sum()) - 1} more lines)" if bad.sum() > 1 else ""
            raise fault(self.path, int(self.numbers[int(np.argmax(bad))]), problem + more, expected)


@dataclass(slots=True)
class _Column:
    """What has been read of one key so far."""

    values: array[Any]
    lengths: array[int] = field(default_factory=lambda: array("q"))
    texts: list[str | None] = field(default_factory=list)


def read_lines(path: Path, keys: Sequence[Key], *, strict: bool = False, skip: int = 0) -> Lines:
    """Read one JSON object a line, behind the first `skip` lines.

    Raises ConfigError with the line for what is no JSON object, for a required key that is not there, for a value of
    the wrong kind and, where `strict`, for a key that is not asked for.
    """
    columns = {key.name: _Column(array("d" if key.kind == "number" else "q")) for key in keys}
    numbers = array("q")
    seen: set[str] = set()
    left = skip
    for lines, at in blocks_of_lines(path):
        lines, at = lines[left:], at[left:]  # noqa: PLW2901 (what is skipped stands in the first block)
        left = 0
        rows = _parsed(path, lines, at)
        new = set().union(*rows) - seen
        if strict and new - columns.keys():
            _refuse_unknown(path, rows, at, list(columns))
        seen |= new
        for key in keys if rows else ():
            _append(columns[key.name], [row.get(key.name) for row in rows], key, (path, at))
        numbers.extend(at)
    if not numbers:
        raise fault(path, None, "holds no requests", "one JSON object a line")
    return Lines(path, columns, tuple(sorted(seen - columns.keys())), np.frombuffer(numbers, dtype=np.int64))


def objects(path: Path) -> Iterator[tuple[Any, int]]:
    """Yield the JSON value of each line that is not blank, and its number."""
    for lines, numbers in blocks_of_lines(path):
        for line, number in zip(lines, numbers, strict=True):
            try:
                yield orjson.loads(line), number
            except orjson.JSONDecodeError as error:
                raise _no_json(path, number, error) from None


def _no_json(path: Path, number: int, error: orjson.JSONDecodeError) -> ConfigError:
    return fault(
        path, number, f"not JSON: {error.msg} at character {error.colno}", "one whole JSON object a line; was it cut?"
    )


def _parsed(path: Path, lines: list[bytes], at: list[int]) -> list[dict[str, Any]]:
    try:
        rows = [orjson.loads(line) for line in lines]
    except orjson.JSONDecodeError:
        for line, number in zip(lines, at, strict=True):
            try:
                orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise _no_json(path, number, error) from None
        raise
    if set(map(type, rows)) - {dict}:
        number, row = next((number, row) for number, row in zip(at, rows, strict=True) if type(row) is not dict)
        raise fault(path, number, f"{clip(row)} is no JSON object", "one JSON object a line")
    return rows


def _refuse_unknown(path: Path, rows: list[dict[str, Any]], at: list[int], known: list[str]) -> None:
    number, name = next(
        (number, name) for number, row in zip(at, rows, strict=True) for name in row if name not in known
    )
    told, _, expected = unknown("unknown field", name, known).partition("\n  expected  ")
    raise fault(path, number, told, expected)


def _append(column: _Column, values: list[Any], key: Key, place: tuple[Path, list[int]]) -> None:
    """Add the values of one block to a column."""
    kinds = set(map(type, values))
    if key.required and type(None) in kinds:
        row = values.index(None)
        raise fault(place[0], place[1][row], f"no {key.name}", f"{_WORDS[key.kind]} for it in every line")
    if key.kind in {"text", "name"}:
        _refuse(values, key, place, {str, type(None)} if key.kind == "text" else {str, int, type(None)})
        column.texts += values if key.kind == "text" else [None if each is None else str(each) for each in values]
    elif key.kind == "flag":
        _refuse(values, key, place, {bool, type(None)})
        column.values.extend(NULL if each is None else int(each) for each in values)
    elif key.kind == "wholes":
        _append_lists(column, values, key, place)
    elif key.kind == "whole":
        if kinds - {int}:
            values = [_as_whole(each) for each in values]
            _refuse(values, key, place, {int})
        if min(values, key=_or_zero) < 0 or max(values) > _LARGEST:
            _refuse(values, key, place, {int}, lambda each: each == NULL or 0 <= each <= _LARGEST)
        column.values.extend(values)
    else:
        _refuse(values, key, place, {int, float, type(None)}, lambda each: each is None or 0 <= each < float("inf"))
        column.values.extend(float("nan") if each is None else each for each in values)


def _append_lists(column: _Column, values: list[Any], key: Key, place: tuple[Path, list[int]]) -> None:
    """Add lists; the length of one that is not there is -1."""
    _refuse(values, key, place, {list, type(None)})
    lists = [() if each is None else each for each in values]
    column.lengths.extend([-1 if each is None else len(each) for each in values])
    if set(map(type, chain.from_iterable(lists))) - {int}:
        _refuse(values, key, place, {list}, lambda each: not each or set(map(type, each)) == {int})
    before = len(column.values)
    try:
        column.values.extend(chain.from_iterable(lists))
    except OverflowError:  # hashes of 64 bits: those from 2⁶³ up become negative
        del column.values[before:]
        column.values.extend(each if each < 2**63 else each - 2**64 for each in chain.from_iterable(lists))


def _refuse(
    values: list[Any],
    key: Key,
    place: tuple[Path, list[int]],
    kinds: set[type],
    holds: Callable[[Any], bool] = lambda _: True,
) -> None:
    for value, number in zip(values, place[1], strict=True):
        if type(value) not in kinds or not holds(value):
            raise fault(place[0], number, f"{key.name} is {clip(value)}", _WORDS[key.kind])


def _as_whole(value: Any) -> Any:
    """Return a float of a whole number as that, and nothing as NULL."""
    if value is None:
        return NULL
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _or_zero(value: int) -> int:
    return 0 if value == NULL else value


def _with_nulls(texts: pa.Array, there: NDArray[np.bool_]) -> pa.Array:
    if there.all():
        return texts
    bitmap = pa.py_buffer(np.packbits(there, bitorder="little"))
    return pa.Array.from_buffers(texts.type, len(texts), [bitmap, *texts.buffers()[1:]])
