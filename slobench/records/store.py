"""The files of a run folder: parquet tables and run.json, each whole or absent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from slobench.errors import RecordsError, UsageError
from slobench.names import CHANNELS
from slobench.records.arrow import arrow_array, floats, integers, text_array, text_values
from slobench.records.assemble import assemble
from slobench.records.chunk_rows import narrowed
from slobench.records.schema import CHUNKS, DERIVED, PLAN, REQUESTS, TELEMETRY, VERSION, Columns, Records, plan_schema
from slobench.records.whole import write_whole

__all__ = [
    "Stored",
    "assemble",
    "load",
    "read_plan",
    "read_requests",
    "read_run_json",
    "write_parquet",
    "write_plan",
    "write_run_json",
]

_ROW_GROUP = 2**17
_NEVER_NULL = {
    *("index", "session", "turn", "worker", "input_tokens_planned", "output_tokens_planned"),
    *("t_ns", "bytes", "lag_ns"),
}
# Objects: 500 characters in one row would make numpy's str 2 kB in every row.
_LONG_TEXT = {"error", "finish_reason", "source", "name", "labels"}
_CLASSES = b"slobench.classes"


@dataclass(frozen=True, slots=True)
class Stored:
    """What a run folder's tables hold.

    derived: the columns of DERIVED, float64, NaN where null.
    phase: str; slo_met: float64, 1, 0 or NaN where not evaluable.
    """

    records: Records
    derived: Columns
    phase: NDArray[np.str_]
    slo_met: NDArray[np.float64]


def write_parquet(
    folder: Path, records: Records, derived: Columns, phase: NDArray[np.str_], slo_met: NDArray[np.float64]
) -> None:
    """Write requests.parquet, chunks.parquet and telemetry.parquet; each replaces an older one when it is whole.

    derived: the columns of DERIVED (more are ignored); phase: names.Phase values, "" where a row has none.
    Raises RecordsError where the disk refuses.
    """
    requests = {**records.requests, **{name: derived[name] for name in DERIVED}, "phase": phase, "slo_met": slo_met}
    _write_table(folder / "requests.parquet", REQUESTS, requests)
    # Times as packed differences hardly compress further, and nobody looks for rows by their bytes.
    _write_table(
        folder / "chunks.parquet", CHUNKS, records.chunks, compression="snappy", write_statistics=["index", "t_ns"]
    )
    _write_table(folder / "telemetry.parquet", TELEMETRY, records.telemetry)


def load(folder: Path) -> Stored:
    """Read the tables that `write_parquet` wrote, also those of earlier versions: what they lack is null.

    Raises RecordsError where a table is missing, unreadable or of a later version.
    """
    requests = read_requests(folder)
    chunks = narrowed(_read_table(folder / "chunks.parquet", CHUNKS))
    telemetry = _read_table(folder / "telemetry.parquet", TELEMETRY)
    aside = {*DERIVED, "phase", "slo_met"}
    return Stored(
        Records({name: column for name, column in requests.items() if name not in aside}, chunks, telemetry),
        {name: requests[name] for name in DERIVED},
        requests["phase"],
        requests["slo_met"],
    )


def read_requests(folder: Path) -> Columns:
    """Read requests.parquet alone. Raises RecordsError as `load` does."""
    return _read_table(folder / "requests.parquet", REQUESTS)


def write_plan(folder: Path, plan_table: pa.Table) -> None:
    """Write plan.parquet. Raises RecordsError where the disk refuses."""
    classes = plan_table.column("class").combine_chunks()
    names = _dictionary(classes)
    table = plan_table.replace_schema_metadata({**(PLAN.metadata or {}), _CLASSES: orjson.dumps(names)})

    def write(path: Path) -> None:
        pq.write_table(table, path, row_group_size=_ROW_GROUP, compression="zstd")

    _replace(folder / "plan.parquet", write)


def read_plan(folder: Path) -> pa.Table:
    """Read plan.parquet as it was written, class codes included (parquet numbers them anew: the digest would differ).

    Raises RecordsError where it is missing, unreadable or of a later version.
    """
    path = folder / "plan.parquet"
    with _opened(path) as file:
        table = file.read()
    names: list[str] = orjson.loads(table.schema.metadata[_CLASSES])
    classes = table.column("class").combine_chunks()
    code_of = {name: code for code, name in enumerate(names)}
    recode = np.array([code_of[name] for name in _dictionary(classes)], dtype=np.int64)
    codes = recode[integers(classes.indices)] if len(classes) else np.empty(0, dtype=np.int64)
    ordered = pa.DictionaryArray.from_arrays(arrow_array(codes, pa.int32()), text_array(names))
    at = table.schema.get_field_index("class")
    schema = plan_schema(table.column_names)
    return table.set_column(at, PLAN.field("class"), ordered).select(schema.names).cast(schema)


def write_run_json(folder: Path, run: Mapping[str, Any]) -> None:
    """Write run.json, replacing an older one when it is whole; NaN and infinities become null.

    Raises RecordsError where the disk refuses or a value has no JSON form.
    """
    options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    try:
        text = orjson.dumps(dict(run), option=options, default=_json_of) + b"\n"
    except TypeError as error:
        raise RecordsError(f"cannot write {folder / 'run.json'}: {error}") from error
    _replace(folder / "run.json", lambda path: path.write_bytes(text))


def read_run_json(folder: Path) -> dict[str, Any]:
    """Read run.json. Raises RecordsError where it is missing, damaged or of a later version."""
    path = folder / "run.json"
    try:
        run = orjson.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise UsageError(
            f"no run in {folder}\n  expected  a folder that `slobench run` wrote, with run.json"
        ) from error
    except OSError as error:
        raise RecordsError(f"cannot read {path}: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise RecordsError(f"cannot read {path}: {error}\n  expected  JSON as `slobench run` writes it") from error
    if not isinstance(run, dict):
        raise RecordsError(f"cannot read {path}: it holds no object\n  expected  JSON as `slobench run` writes it")
    _check_version(path, run.get("schema", VERSION))
    return run


def _json_of(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, frozenset | set):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _write_table(path: Path, schema: pa.Schema, columns: Columns, **options: Any) -> None:
    options = {"compression": "zstd", **_encodings(schema), **options}

    def write(temporary: Path) -> None:
        with pq.ParquetWriter(temporary, schema, **options) as writer:
            for group in _row_groups(schema, columns):
                writer.write_table(group, row_group_size=_ROW_GROUP)

    _replace(path, write)


def _encodings(schema: pa.Schema) -> dict[str, Any]:
    """Differences for whole numbers, which are mostly times and indices: a quarter of the time of a dictionary."""
    whole = [field.name for field in schema if pa.types.is_integer(field.type)]
    words = [field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_dictionary(field.type)]
    return {"use_dictionary": words, "column_encoding": dict.fromkeys(whole, "DELTA_BINARY_PACKED")}


def _row_groups(schema: pa.Schema, columns: Columns) -> Iterator[pa.Table]:
    n = len(columns[schema.names[0]])
    for start in range(0, n, _ROW_GROUP) or [0]:
        part = slice(start, start + _ROW_GROUP)
        arrays = [_to_arrow(field, columns[field.name][part]) for field in schema]
        yield pa.Table.from_arrays(arrays, schema=schema)


def _to_arrow(field: pa.Field, values: NDArray[Any]) -> pa.Array:
    if field.name == "channel":
        return pa.DictionaryArray.from_arrays(arrow_array(values, pa.int8()), text_array(list(CHANNELS)))
    return arrow_array(values, field.type)


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    write_whole(
        path,
        write,
        f"a folder with free space; what the run recorded is kept in spool/\n  then      slobench report {path.parent}",
    )


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a table of ours. Raises RecordsError where it is missing, unreadable or of a later version."""
    try:
        with pq.ParquetFile(path, memory_map=True) as file:  # not read_table: it imports pyarrow.dataset
            _check_version(path, (file.schema_arrow.metadata or {}).get(b"slobench.schema", b"none").decode())
            yield file
    except FileNotFoundError as error:
        raise RecordsError(
            f"no {path.name} in {path.parent}\n  expected  the folder of a finished run\n"
            f"  then      slobench report {path.parent} rebuilds it where the run left a spool/"
        ) from error
    except (OSError, pa.ArrowException) as error:
        raise RecordsError(f"cannot read {path}: {error}\n  expected  a parquet file that slobench wrote") from error


def _check_version(path: Path, version: object) -> None:
    if not str(version).isdigit():
        raise RecordsError(f"cannot read {path}: it names no schema version\n  expected  a file that slobench wrote")
    if int(str(version)) > VERSION:
        raise RecordsError(
            f"{path} has schema version {version}, this slobench reads up to {VERSION}\n"
            "  expected  a newer slobench: pip install -U slobench"
        )


def _read_table(path: Path, schema: pa.Schema) -> dict[str, NDArray[Any]]:
    """All columns, one after another: two of them at most are in memory twice."""
    with _opened(path) as file:
        return {field.name: _from_arrow(field, _column_of(file, field)) for field in schema}


def _column_of(file: pq.ParquetFile, field: pa.Field) -> pa.Array:
    """One column; all null where the file is older than the column."""
    if field.name not in file.schema_arrow.names:
        return pa.nulls(file.metadata.num_rows, field.type)
    return file.read(columns=[field.name]).column(0).combine_chunks()


def _from_arrow(field: pa.Field, column: pa.Array) -> NDArray[Any]:
    """One column as Records holds it."""
    kind = column.type
    if field.name == "channel":
        codes = np.array([*(CHANNELS.index(name) for name in _dictionary(column)), -1], dtype=np.int8)
        positions: NDArray[Any] = codes[integers(column.indices, null=-1)]
        return positions
    if pa.types.is_string(kind) or pa.types.is_dictionary(kind):
        values = text_values(column)
        return values if field.name in _LONG_TEXT else values.astype(np.str_)
    if field.name == "coalesced":
        flags: NDArray[np.bool_] = floats(column) == 1
        return flags
    if field.name in _NEVER_NULL:
        numbers: NDArray[Any] = integers(column).astype(f"i{kind.bit_width // 8}")
        return numbers
    return floats(column)


def _dictionary(array: pa.DictionaryArray) -> list[str]:
    return list(text_values(array.dictionary))
