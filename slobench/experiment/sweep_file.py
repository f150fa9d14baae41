"""sweep.parquet: a row for each cell that has ended, rewritten whole each time; a killed sweep goes on from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from slobench.config.experiment import Scalar
from slobench.errors import ConfigError, RecordsError
from slobench.experiment.gpus import target_gpus
from slobench.experiment.sweep_cells import Cell, Cells
from slobench.records.whole import write_whole

FILE, SCHEMA = "sweep.parquet", 1
State = Literal["done", "invalid", "failed", "skipped"]
AGAIN = frozenset({"failed", "invalid"})
"""States that a resumed sweep runs again."""
_SETTING = "set."


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a run of a cell came to; None where there is no such number. Times in s, rates per s, shares in [0, 1]."""

    requests: int | None = None
    attainment: float | None = None
    attainment_low: float | None = None
    attainment_high: float | None = None
    slo_met: bool | None = None
    overloaded: bool | None = None
    goodput_rps: float | None = None
    goodput_low: float | None = None
    goodput_high: float | None = None
    good_tokens_per_s: float | None = None
    offered_rps: float | None = None
    finished_rps: float | None = None
    output_tokens_per_s: float | None = None
    ttft_p50_s: float | None = None
    ttft_p90_s: float | None = None
    ttft_p99_s: float | None = None
    tpot_p50_s: float | None = None
    tpot_p99_s: float | None = None
    e2e_p50_s: float | None = None
    e2e_p99_s: float | None = None
    running_mean: float | None = None
    waiting_mean: float | None = None
    kv_usage_mean: float | None = None
    preemptions: float | None = None
    capacity: float | None = None
    capacity_low: float | None = None
    capacity_high: float | None = None
    certified: float | None = None
    output_tokens_mean: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One cell that has ended. reason: why it failed, was skipped or is invalid; error: the class of a failure.

    server: number of the start that it ran on, in this sweep. started: UTC.
    """

    key: str
    folder: str
    state: State
    target: str
    config: str
    settings: Mapping[str, Scalar]
    workload: str
    load_kind: str
    load: float | None
    repeat: int
    seed: int
    gpus: int | None = None
    price_per_hour: float | None = None
    plan_digest: str | None = None
    verdict: str = ""
    reason: str = ""
    error: str = ""
    log_tail: str = ""
    server: int | None = None
    started: str = ""
    start_s: float | None = None
    run_s: float | None = None
    numbers: Numbers = Numbers()

    @property
    def point(self) -> tuple[str, str, str, float | None]:
        """What its repeats have in common."""
        return self.config, self.workload, self.load_kind, self.load

    @property
    def saturated(self) -> bool:
        """Whether it shows overload or misses its SLO."""
        return bool(self.numbers.overloaded) or self.numbers.slo_met is False


def save(folder: Path, rows: Sequence[Row], order: Sequence[str]) -> None:
    """Write sweep.parquet, rows in the order of the plan; it replaces the older one when it is whole.

    Raises RecordsError where the disk refuses.
    """
    place = {key: number for number, key in enumerate(order)}
    table = _table(sorted(rows, key=lambda row: place[row.key]))
    write_whole(folder / FILE, lambda aside: pq.write_table(table, aside, compression="zstd"))


def load(folder: Path) -> list[Row]:
    """Read the rows. ConfigError where there are none, RecordsError where they cannot be read."""
    path = folder / FILE
    if not path.is_file():
        raise ConfigError(f"no {FILE} in {folder}\n  expected  the --out of a sweep that began")
    try:
        table = pq.read_table(path)
        version = int((table.schema.metadata or {}).get(b"slobench.sweep", b"0"))
        if version > SCHEMA:
            raise RecordsError(f"{path} is of a later version\n  expected  a newer slobench: pip install -U slobench")
        return [_row(each) for each in table.to_pylist()]
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise RecordsError(f"cannot read {path}: {error}\n  expected  a table as `slobench sweep` writes it") from None


def belonging(rows: Iterable[Row], cells: Cells, folder: Path) -> list[Row]:
    """Return the rows of a sweep that is to go on, each with the label that its config has now.

    ConfigError where some are of no cell: the experiment was another one then.
    """
    known = {cell.key: cell.config.label for cell in cells.cells}
    found = list(rows)
    strange = [row for row in found if row.key not in known]
    if strange:
        raise ConfigError(
            f"{folder / FILE} belongs to another sweep: {len(strange)} of its {len(found)} rows are of no cell of "
            f"{cells.experiment.name}, e.g. {strange[0].folder}\n"
            "  expected  the same experiment (more repeats, loads or settings may have joined it), or another --out"
        )
    return [replace(row, config=known[row.key]) for row in found]


def row_of(cell: Cell, state: State, **more: Any) -> Row:
    """Return the row of a cell with what is known of its target; `more` is put over it."""
    config = cell.config
    row = Row(
        key=cell.key,
        folder=cell.folder,
        state=state,
        target=config.target_name,
        config=config.label,
        settings=config.values,
        workload=cell.workload_name,
        load_kind=cell.load.kind,
        load=cell.load.value,
        repeat=cell.repeat,
        seed=cell.seed,
        gpus=target_gpus(config.target),
        price_per_hour=getattr(config.target, "price_per_hour", None),
    )
    return replace(row, **more)


_TYPES: Mapping[type, pa.DataType] = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def _kind(hint: Any) -> pa.DataType:
    return next((_TYPES[each] for each in (hint, *get_args(hint)) if each in _TYPES), pa.string())


_HINTS = get_type_hints(Row) | get_type_hints(Numbers)
_COLUMNS = {name: _kind(hint) for name, hint in _HINTS.items() if name != "numbers"}


def _table(rows: Sequence[Row]) -> pa.Table:
    columns: dict[str, pa.Array] = {}
    for name, kind in _COLUMNS.items():
        if name == "settings":
            columns[name] = pa.array([orjson.dumps(dict(row.settings)).decode() for row in rows], pa.string())
            for path in dict.fromkeys(path for row in rows for path in row.settings):
                columns[_SETTING + path] = _setting([row.settings.get(path) for row in rows])
            continue
        held = rows if name in Row.__slots__ else [row.numbers for row in rows]
        columns[name] = pa.array([getattr(each, name) for each in held], kind)
    return pa.table(columns).replace_schema_metadata({b"slobench.sweep": str(SCHEMA).encode()})


def _setting(values: Sequence[Scalar]) -> pa.Array:
    """One column of a setting's values: numbers where all are, else text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if len(kinds) == 1:
        return pa.array(values, _TYPES[kinds.pop()])
    return pa.array([None if value is None else str(value) for value in values], pa.string())


def _row(data: Mapping[str, Any]) -> Row:
    own = {each.name: data[each.name] for each in fields(Row) if each.name not in {"numbers", "settings"}}
    numbers = Numbers(**{each.name: data.get(each.name) for each in fields(Numbers)})
    return Row(**own, settings=orjson.loads(data["settings"]), numbers=numbers)
