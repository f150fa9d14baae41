"""Samples in the spool: what was flushed is read back, a disk that refuses loses nothing, assembled with the workers'."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slobench.records import samples
from slobench.records.samples import Sample, SampleWriter
from slobench.records.schema import NULL
from slobench.records.spool import SpoolWriter
from slobench.records.store import assemble, load, write_parquet
from tests.records.test_store import make_plan

TEXT = st.text(max_size=12)
SAMPLE = st.builds(Sample, st.integers(NULL, 2**63 - 1), TEXT, TEXT, TEXT, st.floats(allow_nan=False))


def read(folder: Path) -> list[Sample]:
    """All samples of a spool, in order."""
    found = samples.read(folder)
    columns = [found[name].tolist() for name in ("t_ns", "source", "name", "labels", "value")]
    return [Sample(*row) for row in zip(*columns, strict=True)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(batches=st.lists(st.lists(SAMPLE, max_size=5), max_size=5))
def test_what_was_flushed_is_read(batches: list[list[Sample]], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Any text, any number, in the order in which they were added."""
    folder = tmp_path_factory.mktemp("spool")
    writer = SampleWriter(folder)
    for batch in batches:
        writer.add(batch)
        writer.flush()
    writer.add([Sample(1, "host", "x", "", 0.5)])  # not flushed
    wanted = [sample for batch in batches for sample in batch]
    assert read(folder) == wanted


def test_a_full_disk_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails is cut back, told, and made again in a new file."""
    writer, real = SampleWriter(tmp_path), os.write
    writer.add([Sample(1, "host", "a", "", 1.0)])
    writer.flush()

    def full(fd: int, data: memoryview) -> int:
        real(fd, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    writer.add([Sample(2, "host", "b", "", 2.0)])
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        writer.flush()
    writer.add([Sample(3, "host", "c", "", 3.0)])
    writer.close()
    assert [sample.name for sample in read(tmp_path)] == ["a", "b", "c"]
    assert len(list(tmp_path.glob("samples-*.arrow"))) == 2
    assert writer.error is not None
    assert "No space left" in writer.error
    assert writer.lost == 0


def test_what_the_disk_refuses_to_the_end_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that stays full: the samples that were kept for another try are told as lost."""

    def full(_fd: int, _data: memoryview) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    writer = SampleWriter(tmp_path)
    writer.add([Sample(1, "host", "a", "", 1.0), Sample(2, "host", "b", "", 2.0)])
    monkeypatch.setattr(os, "write", full)
    writer.close()
    assert (writer.lost, read(tmp_path)) == (2, [])


def test_samples_stand_among_the_workers(tmp_path: Path) -> None:
    """telemetry.parquet has both in order of time; it is made from the spool, and read back as it was."""
    spool = tmp_path / "spool"
    worker = SpoolWriter(spool, 0)
    worker.telemetry.add(20, 1, 1.5)
    worker.close()
    writer = SampleWriter(spool)
    writer.add([Sample(-5, "server", "running", 'engine="0"', 3.0), Sample(30, "host", "host_cpu_share", "", 0.5)])
    writer.close()
    records = assemble(tmp_path, make_plan([0]), 1)
    told = records.telemetry
    assert told["t_ns"].tolist() == [-5, 20, 30]
    assert told["source"].tolist() == ["server", "worker-0", "host"]
    assert told["labels"].tolist() == ['engine="0"', "", ""]
    nothing = np.full(1, np.nan)
    derived = dict.fromkeys(
        ("ttft_s", "ttfo_s", "tpot_s", "e2e_s", "ttft_sent_s", "e2e_sent_s", "send_lag_s", "max_gap_s"), nothing
    )
    write_parquet(tmp_path, records, derived, np.array(["main"]), nothing)
    assert pq.read_table(tmp_path / "telemetry.parquet")["value"].to_pylist() == [3.0, 1.5, 0.5]
    again = load(tmp_path).records.telemetry
    assert all((again[name] == told[name]).all() for name in told)


def test_a_spool_without_samples(tmp_path: Path) -> None:
    """A run of an earlier version: none, and no error."""
    assert read(tmp_path) == []
