"""One row for each planned request, whatever became of its worker; and files that hold exactly what was recorded."""

from __future__ import annotations

import hashlib
import math
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slobench.errors import RecordsError, SlobenchError
from slobench.names import CHANNELS, OUTCOMES, Channel, Outcome, Phase, TokensSource
from slobench.records import store
from slobench.records.arrow import arrow_array, text_values
from slobench.records.schema import CHUNKS, DERIVED, NULL, PLAN, REQUESTS, SPOOL_REQUESTS, VERSION, Records
from slobench.records.spool import SpoolWriter
from slobench.records.store import (
    assemble,
    load,
    read_plan,
    read_run_json,
    write_parquet,
    write_plan,
    write_run_json,
)

NAN = math.nan
EXACT_NS = st.integers(0, 2**53)  # float64 holds these exactly
NS_OR_NULL = st.just(NULL) | EXACT_NS


def make_plan(scheduled_ns: list[int | None], sessions: list[int] | None = None) -> pa.Table:
    """A plan with two classes in turn, the second of them first in its dictionary."""
    n = len(scheduled_ns)
    classes = pa.DictionaryArray.from_arrays(
        pa.array([k % 2 for k in range(n)], pa.int32()), pa.array(["zebra", "ant", "unused"])
    )
    columns = [
        pa.array(range(n), pa.int64()),
        pa.array(scheduled_ns, pa.int64()),
        classes,
        pa.array(sessions if sessions is not None else range(n), pa.int64()),
        pa.array([0] * n, pa.int32()),
        pa.array(range(n), pa.int64()),
        pa.array([10] * n, pa.int64()),
        pa.array([5] * n, pa.int64()),
        pa.array([None if k % 3 else k for k in range(n)], pa.int64()),
    ]
    return pa.Table.from_arrays(columns, schema=PLAN)


def end_row(index: int, **seen: Any) -> tuple[Any, ...]:
    """An end record in which only what is named was seen."""
    row: dict[str, Any] = {name: "" if kind == "str" else NULL for name, kind in SPOOL_REQUESTS.items()}
    row |= {"index": index, "tokens_source": -1, "connection_new": -1, "outcome": OUTCOMES.index(Outcome.OK), **seen}
    return tuple(row.values())


def outcomes(records: Records) -> list[str]:
    """The outcome of each planned request."""
    return records.requests["outcome"].tolist()


@dataclass(frozen=True)
class Fate:
    """What a worker recorded of one planned request."""

    started_ns: int | None
    chunks: list[tuple[int, int, int, int, int, bool]]  # t_ns, tokens, bytes, channel, lag_ns, coalesced
    end: dict[str, Any] | None


CHUNK_ROWS = st.tuples(
    EXACT_NS, st.just(NULL) | st.integers(0, 99), st.integers(0, 10**6), st.integers(0, 3), EXACT_NS, st.booleans()
)
ENDS = st.fixed_dictionaries(
    {
        name: st.text(max_size=9) if kind == "str" else NS_OR_NULL
        for name, kind in SPOOL_REQUESTS.items()
        if name not in {"index", "http_status", "reconnects"}
    }
    | {
        "tokens_source": st.integers(-1, 2),
        "outcome": st.integers(0, len(OUTCOMES) - 1),
        "connection_new": st.integers(-1, 1),
        "http_status": st.just(NULL) | st.integers(100, 599),
        "reconnects": st.integers(0, 3),
    }
)
FATES = st.lists(
    st.builds(
        Fate,
        started_ns=st.none() | EXACT_NS,
        chunks=st.lists(CHUNK_ROWS, max_size=4).map(sorted),
        end=st.none() | ENDS,
    ),
    max_size=8,
)


def record(folder: Path, fates: list[Fate], workers: int) -> None:
    """Write the spools of workers that lived these fates, a flush every other request."""
    for worker in range(workers):
        writer = SpoolWriter(folder / "spool", worker)
        for index in range(worker, len(fates), workers):
            fate = fates[index]
            if fate.started_ns is not None:
                writer.starts.add(index, 1000 * index, fate.started_ns)
            for chunk in fate.chunks:
                writer.chunks.add(index, *chunk)
            if fate.end is not None:
                writer.requests.add(end_row(index, **fate.end))
            if index % 2:
                writer.flush()
        writer.close()


def none_for_nan(values: np.ndarray) -> list[Any]:
    """A column as Python values; NaN is None."""
    return [None if isinstance(value, float) and math.isnan(value) else value for value in values.tolist()]


def expected_row(index: int, fate: Fate) -> dict[str, Any]:
    """What the request's row must hold (strings "" and numbers None where never seen)."""
    row: dict[str, Any] = {name: "" if kind == "str" else None for name, kind in SPOOL_REQUESTS.items()}
    row |= {"tokens_source": "", "outcome": Outcome.UNSENT, "started_ns": fate.started_ns}
    if fate.end is not None:
        row |= {name: None if value == NULL else value for name, value in fate.end.items()}
        row["tokens_source"] = ["", *TokensSource][fate.end["tokens_source"] + 1]
        row["outcome"] = OUTCOMES[fate.end["outcome"]]
        row["connection_new"] = None if fate.end["connection_new"] < 0 else fate.end["connection_new"]
    elif fate.started_ns is not None or fate.chunks:
        row["outcome"] = Outcome.LOST
        if fate.chunks:
            output = [
                t for t, _, _, channel, _, _ in fate.chunks if CHANNELS[channel] in {Channel.CONTENT, Channel.TOOL}
            ]
            tokens = fate.chunks[0][1]
            row |= {
                "first_token_ns": fate.chunks[0][0],
                "first_output_ns": output[0] if output else None,
                "last_token_ns": fate.chunks[-1][0],
                "first_chunk_tokens": None if tokens == NULL else tokens,
                "chunks": len(fate.chunks),
                "receive_lag_max_ns": max(lag for *_, lag, _ in fate.chunks),
            }
    return row | {"index": index, "scheduled_ns": 1000 * index}


def assert_equal_columns(left: Mapping[str, Any], right: Mapping[str, Any]) -> None:
    """Same names, same kinds of values, same values (NaN equals NaN)."""
    assert left.keys() == right.keys()
    for name in left:
        assert left[name].dtype.kind == right[name].dtype.kind, name
        assert none_for_nan(left[name]) == none_for_nan(right[name]), name


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fates=FATES, workers=st.integers(1, 3), row_group=st.integers(1, 9))
def test_spool_to_records_to_parquet_and_back_loses_nothing(
    tmp_path_factory: pytest.TempPathFactory, fates: list[Fate], workers: int, row_group: int
) -> None:
    """Records hold what the workers wrote, a row for each planned request, and parquet gives them back equal."""
    folder = tmp_path_factory.mktemp("run")
    record(folder, fates, workers)
    records = assemble(folder, make_plan([1000 * k for k in range(len(fates))]), workers)

    for index, fate in enumerate(fates):
        seen = {name: none_for_nan(records.requests[name])[index] for name in SPOOL_REQUESTS}
        assert seen == expected_row(index, fate)
    assert records.requests["worker"].tolist() == [index % workers for index in range(len(fates))]
    chunk_rows = [
        (index, t, None if tokens == NULL else tokens, nbytes, channel, lag, coalesced)
        for index, fate in enumerate(fates)
        for t, tokens, nbytes, channel, lag, coalesced in fate.chunks
    ]
    seen_chunks = sorted(zip(*(none_for_nan(records.chunks[name]) for name in CHUNKS.names), strict=True), key=str)
    assert seen_chunks == sorted(chunk_rows, key=str)
    in_order = list(zip(records.chunks["index"].tolist(), records.chunks["t_ns"].tolist(), strict=True))
    assert in_order == sorted(in_order)

    n = len(fates)
    derived = {name: np.array([NAN if k % 2 else k / 7 for k in range(n)]) for name in DERIVED}
    phase = np.array([list(Phase)[k % 3] for k in range(n)], dtype=np.str_)
    slo_met = np.array([[1.0, 0.0, NAN][k % 3] for k in range(n)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "_ROW_GROUP", row_group)
        write_parquet(folder, records, derived, phase, slo_met)
    loaded = load(folder)
    assert_equal_columns(loaded.records.requests, records.requests)
    assert_equal_columns(loaded.records.chunks, records.chunks)
    assert_equal_columns(loaded.records.telemetry, records.telemetry)
    assert_equal_columns(loaded.derived, derived)
    assert loaded.phase.tolist() == phase.tolist()
    assert none_for_nan(loaded.slo_met) == none_for_nan(slo_met)
    shutil.rmtree(folder)


def test_parquet_files_have_the_documented_columns_and_real_nulls(tmp_path: Path) -> None:
    """Other programs read the columns in order, with nulls (not NaN, "" or sentinels) for what was never seen."""
    record(tmp_path, [Fate(5, [(7, NULL, 3, 1, 0, True)], None)], 1)
    records = assemble(tmp_path, make_plan([0]), 1)
    nothing = {name: np.array([NAN]) for name in DERIVED}
    write_parquet(tmp_path, records, nothing, np.array([""]), np.array([NAN]))
    requests = pq.read_table(tmp_path / "requests.parquet")
    assert requests.schema.names == REQUESTS.names
    assert requests.schema.types == REQUESTS.types
    assert requests.schema.metadata[b"slobench.schema"] == str(VERSION).encode()
    row = requests.to_pylist()[0]
    unseen = {name for name, value in row.items() if value is None}
    assert unseen == set(REQUESTS.names) - {
        *("index", "class", "session", "turn", "worker", "scheduled_ns", "started_ns", "first_token_ns"),
        *("last_token_ns", "input_tokens_planned", "output_tokens_planned", "priority", "chunks", "outcome"),
        *("receive_lag_max_ns", "follows"),
    }
    chunk = pq.read_table(tmp_path / "chunks.parquet").to_pylist()[0]
    assert chunk == {
        "index": 0, "t_ns": 7, "tokens": None, "bytes": 3, "channel": "reasoning", "lag_ns": 0, "coalesced": True,
    }  # fmt: skip


def test_rows_of_a_dead_worker_that_were_due_are_lost_and_later_ones_unsent(tmp_path: Path) -> None:
    """What a killed worker should have sent, as far as the run is known to have come, is lost; the rest never due."""
    dead = SpoolWriter(tmp_path / "spool", 0)
    dead.starts.add(0, 0, 1)
    dead.flush()
    alive = SpoolWriter(tmp_path / "spool", 1)
    alive.starts.add(1, 100, 101)
    alive.requests.add(end_row(1))
    alive.starts.add(5, 500, 501)
    alive.requests.add(end_row(5))
    alive.close()
    dead._wake.set()
    dead._closing = True
    dead._thread.join(10)  # ends as a killed process does: nothing says that its spool is whole
    records = assemble(tmp_path, make_plan([0, 100, 200, 300, 400, 500, 600, 700]), 2)
    lost, ok, unsent = Outcome.LOST, Outcome.OK, Outcome.UNSENT
    assert outcomes(records) == [lost, ok, lost, unsent, lost, ok, unsent, unsent]


def test_a_worker_that_left_no_spool_is_dead(tmp_path: Path) -> None:
    """Rows of a worker without any file are lost as far as the others came."""
    alive = SpoolWriter(tmp_path / "spool", 1)
    alive.requests.add(end_row(1))
    alive.close()
    assert outcomes(assemble(tmp_path, make_plan([0, 100, 200]), 2)) == [Outcome.LOST, Outcome.OK, Outcome.UNSENT]


def test_a_worker_that_ended_without_a_single_record_is_not_dead(tmp_path: Path) -> None:
    """A worker that closed an empty spool lost nothing: its rows are unsent."""
    SpoolWriter(tmp_path / "spool", 0).close()
    busy = SpoolWriter(tmp_path / "spool", 1)
    busy.requests.add(end_row(1))
    busy.close()
    assert outcomes(assemble(tmp_path, make_plan([0, 100]), 2)) == [Outcome.UNSENT, Outcome.OK]


def test_rows_that_a_stopped_run_never_offered_are_unsent(tmp_path: Path) -> None:
    """A worker that ended its spool well has lost nothing: what it did not begin was not due."""
    writer = SpoolWriter(tmp_path / "spool", 0)
    writer.requests.add(end_row(0))
    writer.requests.add(end_row(2, outcome=OUTCOMES.index(Outcome.UNSENT)))
    writer.close()
    unsent = Outcome.UNSENT
    assert outcomes(assemble(tmp_path, make_plan([0, 100, 200, 300]), 1)) == [Outcome.OK, unsent, unsent, unsent]


def test_the_scheduled_time_of_an_open_loop_is_never_moved(tmp_path: Path) -> None:
    """The plan's time stands, whatever a worker noted."""
    writer = SpoolWriter(tmp_path / "spool", 0)
    writer.starts.add(0, 999, 1000)
    writer.requests.add(end_row(0, scheduled_ns=999))
    writer.close()
    assert assemble(tmp_path, make_plan([100]), 1).requests["scheduled_ns"].tolist() == [100]


def test_a_closed_loop_takes_scheduled_times_from_its_workers(tmp_path: Path) -> None:
    """Where the plan has no time, the worker's is used, of the start or of the end; a turn never taken has none."""
    writer = SpoolWriter(tmp_path / "spool", 0)
    writer.starts.add(0, 50, 60)
    writer.requests.add(end_row(1, scheduled_ns=70))
    writer.close()
    records = assemble(tmp_path, make_plan([None] * 3, sessions=[0, 1, 0]), 1)
    assert none_for_nan(records.requests["scheduled_ns"]) == [50, 70, None]
    assert outcomes(records) == [Outcome.LOST, Outcome.OK, Outcome.UNSENT]


def test_sessions_belong_to_workers(tmp_path: Path) -> None:
    """The worker of a row is its session's: session % workers."""
    SpoolWriter(tmp_path / "spool", 0).close()
    records = assemble(tmp_path, make_plan([0, 1, 2, 3], sessions=[4, 5, 4, 7]), 3)
    assert records.requests["worker"].tolist() == [1, 2, 1, 1]


def test_telemetry_names_its_worker_and_metric(tmp_path: Path) -> None:
    """Samples of all workers stand in order of time under their names."""
    for worker in (0, 1):
        writer = SpoolWriter(tmp_path / "spool", worker)
        writer.telemetry.add(20 - worker, worker, 1.5)
        writer.telemetry.add(30 + worker, 127, 2.5)
        writer.close()
    telemetry = assemble(tmp_path, make_plan([0]), 2).telemetry
    assert telemetry["t_ns"].tolist() == [19, 20, 30, 31]
    assert telemetry["source"].tolist() == ["worker-1", "worker-0", "worker-0", "worker-1"]
    assert telemetry["name"].tolist() == ["cpu_s", "heartbeat_overshoot_ns", "metric_127", "metric_127"]


def test_a_spool_of_another_plan_is_refused(tmp_path: Path) -> None:
    """A recorded request that the plan lacks is an error, not a silent loss."""
    writer = SpoolWriter(tmp_path / "spool", 0)
    writer.starts.add(7, 0, 0)
    writer.close()
    with pytest.raises(RecordsError, match="holds request 7, which the plan does not"):
        assemble(tmp_path, make_plan([0, 1]), 1)


@given(words=st.lists(st.sampled_from(["", *(f"w{k}" for k in range(12))]), max_size=60), wide=st.booleans())
def test_words_come_back_as_they_were(words: list[str], *, wide: bool) -> None:
    """Few words or many, in a column of objects or of fixed width; none is null."""
    values = np.array(words, dtype=np.str_ if wide else np.object_)
    found = arrow_array(values, pa.string())
    assert found.to_pylist() == [word or None for word in words]
    assert text_values(found).tolist() == words


def test_a_plan_comes_back_with_its_bytes(tmp_path: Path) -> None:
    """All column buffers, the class codes too, are those that were written, so the digest stays the plan's."""
    plan = make_plan([None, 5, 7, 9, 11])
    write_plan(tmp_path, plan)
    back = read_plan(tmp_path)
    assert back.schema.equals(PLAN, check_metadata=True)
    assert back.to_pylist() == plan.to_pylist()
    before, after = (table.column("class").combine_chunks() for table in (plan, back))
    assert after.dictionary.to_pylist() == before.dictionary.to_pylist()
    digests = [
        hashlib.sha256(codes.indices.buffers()[1].to_pybytes()[: 4 * 5]).hexdigest() for codes in (before, after)
    ]
    assert digests[0] == digests[1]


def test_tables_of_an_earlier_version_are_read_with_nulls(tmp_path: Path) -> None:
    """A file from before a column existed gives that column as null, text as ""."""
    record(tmp_path, [Fate(5, [], None)], 1)
    records = assemble(tmp_path, make_plan([0]), 1)
    write_parquet(tmp_path, records, {name: np.array([1.5]) for name in DERIVED}, np.array(["main"]), np.array([1.0]))
    path = tmp_path / "requests.parquet"
    older = pq.read_table(path).drop_columns(["backend", "reconnects", "max_gap_s", "slo_met"])
    pq.write_table(older, path)
    loaded = load(tmp_path)
    assert loaded.records.requests["backend"].tolist() == [""]
    assert none_for_nan(loaded.records.requests["reconnects"]) == [None]
    assert none_for_nan(loaded.derived["max_gap_s"]) == [None]
    assert none_for_nan(loaded.slo_met) == [None]
    assert loaded.derived["ttft_s"].tolist() == [1.5]


@pytest.mark.parametrize(
    ("metadata", "words"),
    [({"slobench.schema": "999"}, "up to 1.*newer slobench"), ({}, "names no schema version")],
)
def test_tables_that_cannot_be_understood_are_refused(tmp_path: Path, metadata: dict[str, str], words: str) -> None:
    """A later schema version and a foreign file are errors that say so."""
    pq.write_table(pa.table({"index": [1]}).replace_schema_metadata(metadata), tmp_path / "requests.parquet")
    with pytest.raises(RecordsError, match=f"(?s){words}"):
        load(tmp_path)


def test_missing_and_damaged_tables_are_readable_errors(tmp_path: Path) -> None:
    """A missing table names the command that rebuilds it; a damaged one names the file."""
    with pytest.raises(RecordsError, match=r"no requests\.parquet in .*\n(.|\n)*slobench report"):
        load(tmp_path)
    (tmp_path / "requests.parquet").write_bytes(b"PAR1junk")
    with pytest.raises(RecordsError, match=r"cannot read .*requests\.parquet"):
        load(tmp_path)


def test_a_full_disk_leaves_the_older_file_and_no_rest(tmp_path: Path) -> None:
    """A table or run.json that cannot be written whole leaves the one that was there (EFBIG, by RLIMIT_FSIZE)."""
    code = """
        import resource, sys
        from pathlib import Path
        from slobench.errors import RecordsError
        from slobench.records.store import read_run_json, write_run_json
        folder = Path(sys.argv[1])
        write_run_json(folder, {"schema": 1, "name": "older"})
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        try:
            write_run_json(folder, {"schema": 1, "name": "x" * 10_000})
        except RecordsError as error:
            print(error)
        print(read_run_json(folder)["name"], sorted(path.name for path in folder.iterdir()))
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert said.splitlines()[0] == f"cannot write {tmp_path}/run.json: File too large"
    assert said.splitlines()[-1] == "older ['run.json']"


def test_a_table_that_fails_halfway_leaves_the_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a row group cannot be written, the earlier table stays and no temporary file is left."""
    record(tmp_path, [Fate(5, [], None)], 1)
    records = assemble(tmp_path, make_plan([0]), 1)
    arguments = ({name: np.array([1.5]) for name in DERIVED}, np.array(["main"]), np.array([1.0]))
    write_parquet(tmp_path, records, *arguments)
    before = (tmp_path / "requests.parquet").read_bytes()

    def fail(self: object, *args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", fail)
    with pytest.raises(RecordsError, match=r"requests\.parquet: No space left on device\n.*kept in spool/"):
        write_parquet(tmp_path, records, *arguments)
    assert (tmp_path / "requests.parquet").read_bytes() == before
    assert not list(tmp_path.glob(".*.tmp"))


def test_run_json_comes_back(tmp_path: Path) -> None:
    """Numbers of numpy, paths, tuples and outcomes as keys have a JSON form; NaN and infinity are null."""
    run = {
        "schema": 1,
        "rate": np.float64(2.5),
        "seeds": np.arange(3),
        "out": Path("a/b"),
        "codes": (Outcome.OK,),
        "outcomes": {Outcome.LOST: 3},
        "value": math.inf,
        "low": NAN,
    }
    write_run_json(tmp_path, run)
    assert read_run_json(tmp_path) == {
        "schema": 1, "rate": 2.5, "seeds": [0, 1, 2], "out": "a/b", "codes": ["ok"], "outcomes": {"lost": 3},
        "value": None, "low": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "expected  a folder that `slobench run` wrote"),
        (b"", "expected  JSON"),
        (b'{"a": ', "expected  JSON"),
        (b"\xff\xfe", "expected  JSON"),
        (b"[1]", "it holds no object"),
        (orjson.dumps({"schema": 99}), "newer slobench"),
    ],
)
def test_a_run_json_that_cannot_be_read_is_a_readable_error(tmp_path: Path, content: bytes | None, words: str) -> None:
    """Missing, empty, cut, binary, foreign and later files each say what was expected."""
    if content is not None:
        (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(SlobenchError, match=words):
        read_run_json(tmp_path)


def test_a_value_without_a_json_form_is_named(tmp_path: Path) -> None:
    """A stray object is an error before anything is written."""
    with pytest.raises(RecordsError, match="object"):
        write_run_json(tmp_path, {"x": object()})
    assert not list(tmp_path.iterdir())


def test_assembling_and_loading_import_no_pandas(tmp_path: Path) -> None:
    """Reading a run back does not cost the import of pandas."""
    plan = make_plan([0, 1])
    record(tmp_path, [Fate(5, [(7, NULL, 3, 1, 0, True)], None), Fate(6, [], {"error": "x"})], 1)
    write_plan(tmp_path, plan)
    code = """
        import sys
        from pathlib import Path
        import numpy as np
        from slobench.records.schema import DERIVED
        from slobench.records.store import assemble, load, read_plan, write_parquet
        folder = Path(sys.argv[1])
        records = assemble(folder, read_plan(folder), 1)
        nothing = np.full(2, np.nan)
        write_parquet(folder, records, dict.fromkeys(DERIVED, nothing), np.array(["main", ""]), nothing)
        assert load(folder).records.requests["error"].tolist() == ["", "x"]
        print("pandas" in sys.modules)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout == "False\n"
