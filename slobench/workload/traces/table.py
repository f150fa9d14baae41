"""CSV traces: columns of text by the names of the header, and checked numbers out of them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from slobench.config.problems import clip
from slobench.names import NULL
from slobench.records.arrow import arrow_array, floats, integers, text_array
from slobench.workload.traces.files import fault, first_line, opened
from slobench.workload.variates import FloatArray, IntArray

_BLOCK = 1 << 22
_LARGEST = 2**53


@dataclass(frozen=True, eq=False)
class Table:
    """Text columns of one CSV file, all of one length; `skipped`: data lines (from 0) that repeat the header."""

    path: Path
    columns: dict[str, pa.Array]
    skipped: IntArray

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def whole_numbers(self, name: str, *, empty: bool = False) -> IntArray:
        """Return a column of integers from 0 up; NULL where there is nothing and `empty` allows it."""
        numbers = self.numbers(name, empty=empty)
        nothing = np.isnan(numbers)
        self._refuse(name, ~nothing & ((numbers % 1 != 0) | (numbers > _LARGEST)), "a whole number below 2⁵³")
        return np.where(nothing, NULL, np.where(nothing, 0, numbers).astype(np.int64))

    def numbers(self, name: str, *, empty: bool = False) -> FloatArray:
        """Return a column of finite numbers from 0 up; NaN where there is nothing and `empty` allows it."""
        text = self.columns[name]
        there = text if not empty else _nothing_as_null(text)
        try:
            values = floats(pc.cast(there, pa.float64()))
        except pa.ArrowInvalid:
            self._refuse(name, ~_each(there, _is_number), "a number")
            values = np.array([np.nan if each is None else float(each) for each in _texts(there)])
        given = integers(there.is_valid()) == 1
        self._refuse(name, given & ~(np.isfinite(values) & (values >= 0)), "a finite number from 0 up")
        return np.where(given, values, np.nan)

    def times_ns(self, name: str) -> IntArray:
        """Return a column of dates with times of day, to the ns, in ns since 1970; with a zone in all rows or none."""
        text = self.columns[name]
        for kind in (pa.timestamp("ns"), pa.timestamp("ns", "UTC")):
            try:
                return integers(pc.cast(text, kind).view(pa.int64()))
            except pa.ArrowInvalid:
                continue
        plain, zoned = _each(text, partial(_is_time, zone=None)), _each(text, partial(_is_time, zone="UTC"))
        self._refuse(name, ~(plain | zoned), "a date and time such as 2023-11-16 18:15:46.6805900")
        self._refuse(name, zoned if plain[0] else plain, "a zone (+00:00) in every row or in none")
        raise fault(self.path, None, f"{name} is outside the years 1678 to 2261", "dates of our time")

    def texts(self, name: str) -> pa.Array:
        """Return a column of text, null where it is empty."""
        return _nothing_as_null(self.columns[name])

    def _refuse(self, name: str, bad: NDArray[np.bool_], expected: str) -> None:
        if not bad.any():
            return
        row = int(np.argmax(bad))
        value = _texts(self.columns[name].slice(row, 1))[0]
        more = f" (and {int(bad.sum()) - 1} more rows)" if bad.sum() > 1 else ""
        raise fault(self.path, self._line(row), f"{name} is {clip(value or '')}{more}", expected)

    def _line(self, row: int) -> int:
        """Return the line of a row: header, blank lines and repeated headers are no rows."""
        data_line = row + int(np.searchsorted(self.skipped - np.arange(len(self.skipped)), row, side="right"))
        return line_of(self.path, data_line + 1)


def header(path: Path) -> list[str]:
    """Return the names in the first line of a CSV file, spaces around them stripped."""
    return split_header(first_line(path))


def split_header(line: bytes) -> list[str]:
    """Return the names that a header line holds."""
    text = line.decode("utf-8", "replace")
    return [name.strip() for name in next(csv.reader(io.StringIO(text)), [])]


def read_table(path: Path, wanted: Sequence[str], optional: Collection[str] = ()) -> Table:
    """Read the wanted columns, and the optional ones that are there, as text; others are passed over.

    Raises ConfigError where columns are missing, and with the line for a row of more or fewer values than the header.
    """
    names = header(path)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise fault(path, 1, f"column {clip(twice[0])} is there twice", "each column once")
    missing = [name for name in wanted if name not in names]
    if missing:
        raise fault(path, 1, f"no column {', '.join(missing)}", f"columns {', '.join(wanted)}")
    picked = [name for name in names if name in {*wanted, *optional}]
    chunks = _read(path, names, picked)
    columns = {name: pa.concat_arrays([chunk[at] for chunk in chunks]).slice(1) for at, name in enumerate(picked)}
    again = np.ones(len(next(iter(columns.values()))), dtype=np.bool_)
    for name in picked:
        # A scalar out of an array: one made of Python's text would import pandas.
        again &= integers(pc.equal(columns[name], text_array([name])[0])) == 1
    if again.any():
        kept = arrow_array(np.flatnonzero(~again), pa.int64())
        columns = {name: column.take(kept) for name, column in columns.items()}
    if not len(next(iter(columns.values()))):
        raise fault(path, None, "has a header and no rows", "at least one request")
    return Table(path, columns, np.flatnonzero(again))


def _read(path: Path, names: list[str], picked: list[str]) -> list[list[pa.Array]]:
    from pyarrow import csv as arrow_csv

    options = {
        "read_options": arrow_csv.ReadOptions(column_names=names, block_size=_BLOCK, use_threads=False),
        "convert_options": arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(picked, pa.string()), include_columns=picked
        ),
    }
    try:
        with opened(path) as file, arrow_csv.open_csv(pa.PythonFile(file, mode="r"), **options) as reader:
            return [[pc.utf8_trim_whitespace(column) for column in batch.columns] for batch in reader]
    except pa.ArrowInvalid as error:
        raise _misread(path, str(error), len(names)) from None


def _misread(path: Path, told: str, expected: int) -> Exception:
    at = re.search(r"Row #(\d+): Expected \d+ columns, got (\d+)", told)
    if at:
        line = line_of(path, int(at[1]) - 1)
        return fault(path, line, f"{at[2]} values in this line", f"{expected}, as in the header; was the file cut?")
    if "UTF8" in told:
        return fault(path, None, "not UTF-8 text", "CSV, encoded as UTF-8")
    return fault(path, None, f"not readable as CSV: {told.splitlines()[0]}", "comma-separated values")


def line_of(path: Path, record: int) -> int:
    """Return the number of a line (from 1) before which stand `record` lines that are not empty."""
    seen = -1
    number = 0
    with opened(path) as file:
        for number, line in enumerate(file, 1):  # noqa: B007 (the last one where the file ends early)
            seen += line not in {b"\n", b"\r\n"}
            if seen == record:
                break
    return number


def _nothing_as_null(text: pa.Array) -> pa.Array:
    nothing = pc.is_in(pc.utf8_lower(text), value_set=text_array(["", "nan", "null", "none", "na"]))
    return pc.if_else(nothing, pa.nulls(1, pa.string())[0], text)


def _texts(array: pa.Array) -> list[Any]:
    return list(array.to_pylist())


def _each(text: pa.Array, holds: Callable[[str], bool]) -> NDArray[np.bool_]:
    return np.array([each is None or holds(each) for each in _texts(text)], dtype=np.bool_)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def iso_ns(text: str) -> int:
    """Return ns since 1970 of one date and time, without a zone taken as UTC; ValueError where it is none."""
    for zone in (None, "UTC"):
        try:
            return int(integers(pc.cast(text_array([text]), pa.timestamp("ns", zone)).view(pa.int64()))[0])
        except pa.ArrowInvalid:
            continue
    raise ValueError(f"{clip(text)} is no date and time")


def _is_time(text: str, *, zone: str | None) -> bool:
    try:
        pc.cast(text_array([text]), pa.timestamp("ns", zone))
    except pa.ArrowInvalid:
        return False
    return True
