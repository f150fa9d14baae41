"""Token events of many batches come out as one sort of everything would have them."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.records.chunk_rows import batches_of, sorted_chunks
from slobench.records.schema import NULL
from slobench.records.spool import SpoolWriter, read, stream_schema

ROWS = st.tuples(
    st.integers(0, 12),  # index
    st.integers(0, 2**40),  # t_ns
    st.sampled_from([NULL, 1, 3]),
    st.integers(1, 2**33),  # bytes: some do not fit 32 bits
    st.sampled_from([0, 1]),
    st.integers(0, 5 * 10**9),
    st.sampled_from([0, 1]),
)
NAMES = stream_schema("chunks").names


def batch_of(rows: list[tuple[int, ...]]) -> pa.RecordBatch:
    """Rows in the spool's columns."""
    columns = zip(*rows, strict=True) if rows else [[] for _ in NAMES]
    return pa.RecordBatch.from_arrays(
        [pa.array(list(column), field.type) for column, field in zip(columns, stream_schema("chunks"), strict=True)],
        schema=stream_schema("chunks"),
    )


@given(batches=st.lists(st.lists(ROWS, max_size=12), max_size=6), offset=st.sampled_from([0, 7, 2**33]))
def test_the_order_is_by_index_then_time_then_arrival(batches, offset):
    """Against Python's stable sort, for any batches, also where times go back or numbers are large."""
    batches = [[(row[0] + offset, *row[1:]) for row in rows] for rows in batches]
    found, with_chunks = sorted_chunks(lambda: iter(map(batch_of, batches)))
    wanted = sorted((row for rows in batches for row in rows), key=lambda row: row[:2])
    assert with_chunks.tolist() == sorted({row[0] for row in wanted})
    for at, name in enumerate(NAMES):
        column = [row[at] for row in wanted]
        if name == "tokens":
            column = [np.nan if value == NULL else value for value in column]
        np.testing.assert_array_equal(found[name], np.array(column, float if name == "tokens" else None))
    assert found["coalesced"].dtype == bool


def test_columns_take_no_more_room_than_their_values_need():
    """32 bits where they are enough, nothing where all values are the same."""
    rows = [(index, index * 10**10, 1, 200 + index, 0, 40_000, 0) for index in range(100)]
    found, _ = sorted_chunks(lambda: iter([batch_of(rows)]))
    assert (found["index"].dtype, found["bytes"].dtype, found["t_ns"].dtype) == (np.int32, np.int32, np.int64)
    constant = [name for name in NAMES if found[name].strides == (0,)]
    assert constant == ["tokens", "channel", "lag_ns", "coalesced"]
    assert (found["tokens"] == 1).all()


def test_nothing_is_no_rows():
    """All columns are there, empty."""
    found, with_chunks = sorted_chunks(lambda: iter([batch_of([])]))
    assert {name: len(column) for name, column in found.items()} == dict.fromkeys(NAMES, 0)
    assert not len(with_chunks)


@pytest.mark.parametrize("only", [None, (2, 5)])
def test_a_spool_is_read_batch_by_batch_as_at_once(tmp_path, only):
    """Several workers, a file cut short, a part of the requests: the same rows as `read` gives."""
    for worker in range(2):
        spool = SpoolWriter(tmp_path, worker)
        for step in range(3):
            for index in range(worker, 8, 2):
                spool.chunks.add(index, step * 1000 + index, NULL, 100 + index, 0, 5, 0)
            spool.flush()
        spool.close()
    (path,) = tmp_path.glob("w1-chunks-0.arrow")
    path.write_bytes(path.read_bytes()[:-20])
    found, _ = sorted_chunks(batches_of(tmp_path, only))
    whole = read(tmp_path, only).chunks
    order = np.lexsort((whole["t_ns"], whole["index"]))
    assert len(order)
    for name in ("index", "t_ns", "bytes"):
        np.testing.assert_array_equal(found[name], whole[name][order])


def test_a_file_that_grows_between_the_readings_is_read_as_far_as_the_first_time(tmp_path):
    """A look at a run in progress: what came later waits for the next look."""
    spool = SpoolWriter(tmp_path, 0)
    spool.chunks.add(0, 1, NULL, 1, 0, 0, 0)
    spool.flush()
    batches = None
    while not batches:
        read_again = batches_of(tmp_path)
        batches = list(read_again())
    spool.chunks.add(0, 2, NULL, 1, 0, 0, 0)
    spool.close()
    assert sum(batch.num_rows for batch in read_again()) == 1
    assert sum(batch.num_rows for batch in batches_of(tmp_path)()) == 2


def test_small_batches_are_looked_at_together(tmp_path, monkeypatch):
    """Nothing is lost, doubled or out of order between them, whatever is asked for; batches without rows are none."""
    monkeypatch.setattr("slobench.records.chunk_rows._ROWS", 3)
    spool = SpoolWriter(tmp_path, 0)
    for second in range(8):
        for row in range(second % 3):
            spool.chunks.add(second, 10 * second + row, NULL, 1, 0, 0, 0)
        spool.flush()
        while spool._waiting:
            time.sleep(0.001)
    spool.close()
    every = [t for second in range(8) for t in range(10 * second, 10 * second + second % 3)]
    for only, expected in ((None, every), ((3, 6), [t for t in every if 30 <= t < 60]), ((6, 7), [])):
        assert [t for batch in batches_of(tmp_path, only)() for t in batch["t_ns"].tolist()] == expected
        assert sorted_chunks(batches_of(tmp_path, only))[0]["t_ns"].tolist() == expected
    assert len(list(batches_of(tmp_path)())) < 5
