"""What a worker has flushed survives a kill, a cut file and a full disk; what was lost is counted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slobench.errors import RecordsError
from slobench.records import spool
from slobench.records.schema import NULL, SPOOL_CHUNKS, SPOOL_REQUESTS
from slobench.records.spool import SpoolWriter, read

INT64 = st.integers(NULL, 2**63 - 1)
CODE = st.integers(-1, 127)
KINDS = {"q": INT64, "b": CODE, "d": st.floats(allow_nan=False), "str": st.text(max_size=20)}


def rows_of(schema: dict[str, str]) -> st.SearchStrategy[tuple]:
    """Rows of a spool stream with any values that its columns can hold."""
    return st.tuples(*(KINDS[kind] for kind in schema.values()))


def until(condition: Callable[[], bool]) -> None:
    """Wait for the writer thread; the bound only turns a hang into a failure."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "the writer thread did not get there"
        time.sleep(0.002)


def is_idle(writer: SpoolWriter) -> Callable[[], bool]:
    """Tell whether everything flushed has been written."""
    return lambda: not writer._waiting


def add_chunks(writer: SpoolWriter, first: int, n: int) -> None:
    """Add `n` events with the indices from `first` on."""
    for index in range(first, first + n):
        writer.chunks.add(index, 10 * index, 1, 200, 0, 5, False)


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, which must succeed."""
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    flushes=st.lists(
        st.tuples(st.lists(rows_of(SPOOL_CHUNKS), max_size=5), st.lists(rows_of(SPOOL_REQUESTS), max_size=3)),
        max_size=4,
    )
)
def test_rows_come_back_as_they_were_added(tmp_path: Path, flushes: list[tuple[list[tuple], list[tuple]]]) -> None:
    """Every row of every flush is read back in order, whatever the values and wherever the flushes fell."""
    folder = tmp_path / "spool"
    shutil.rmtree(folder, ignore_errors=True)
    writer = SpoolWriter(folder, 3)
    for chunks, requests in flushes:
        for row in chunks:
            writer.chunks.add(*row)
        for row in requests:
            writer.requests.add(row)
        writer.flush()
    writer.close()
    spooled = read(folder)
    for columns, schema, rows in (
        (spooled.chunks, SPOOL_CHUNKS, [row for chunks, _ in flushes for row in chunks]),
        (spooled.requests, SPOOL_REQUESTS, [row for _, requests in flushes for row in requests]),
    ):
        assert list(zip(*(columns[name].tolist() for name in schema), strict=True)) == rows
        assert (columns["worker"] == 3).all()
    assert writer.error is None
    assert spooled.unclosed == frozenset()


def test_lone_surrogates_are_kept_as_escapes(tmp_path: Path) -> None:
    """An error text that UTF-8 cannot hold becomes an escape, and no exception in the writer thread."""
    writer = SpoolWriter(tmp_path, 0)
    writer.requests.add(tuple("\ud800!" if kind == "str" else 0 for kind in SPOOL_REQUESTS.values()))
    writer.close()
    assert read(tmp_path).requests["error"].tolist() == ["\\ud800!"]


def test_a_file_cut_at_any_byte_keeps_every_batch_before_the_cut(tmp_path: Path) -> None:
    """For each length of the file, exactly the batches that lie wholly in it are read."""
    writer = SpoolWriter(tmp_path / "whole", 0)
    sizes = []
    path = tmp_path / "whole" / "w0-chunks-0.arrow"
    for flush in range(3):
        add_chunks(writer, 10 * flush, 4)
        writer.flush()
        until(is_idle(writer))
        sizes.append(path.stat().st_size)
    writer.close()
    data = path.read_bytes()
    cut = tmp_path / "cut"
    cut.mkdir()
    for length in range(len(data) + 1):
        (cut / path.name).write_bytes(data[:length])
        spooled = read(cut)
        whole = sum(size <= length for size in sizes)
        assert spooled.chunks["index"].tolist() == [10 * flush + k for flush in range(whole) for k in range(4)]
        assert spooled.workers == {0}


@pytest.mark.parametrize("tail", [b"\0", b"\0" * 4096, b"\xff", b"\xff" * 64, b"\xff\xff\xff\xff\x08\0\0\0junkjunk"])
def test_what_a_power_loss_appends_does_not_hide_what_was_written(tmp_path: Path, tail: bytes) -> None:
    """Zeros or junk behind the last batch leave all batches readable."""
    writer = SpoolWriter(tmp_path, 0)
    add_chunks(writer, 0, 7)
    writer.close()
    with (tmp_path / "w0-chunks-0.arrow").open("ab") as file:
        file.write(tail)
    assert read(tmp_path).chunks["index"].tolist() == list(range(7))


def test_a_killed_worker_leaves_all_that_it_flushed(tmp_path: Path) -> None:
    """After SIGKILL the rows of every finished flush are there, and the spool counts as not closed."""
    code = """
        import sys, time
        from pathlib import Path
        from slobench.records.spool import SpoolWriter
        writer = SpoolWriter(Path(sys.argv[1]), 1)
        for flush in range(5):
            for k in range(100):
                writer.chunks.add(100 * flush + k, k, 1, 50, 0, 0, 0)
            writer.flush()
            while writer._waiting:
                time.sleep(0.001)
        writer.chunks.add(500, 0, 1, 50, 0, 0, 0)
        print("flushed", flush=True)
        time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "flushed\n"
        child.kill()
    spooled = read(tmp_path)
    assert spooled.chunks["index"].tolist() == list(range(500))
    assert spooled.unclosed == {1}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "slobench-test", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root to mount a small file system")
    if (made := subprocess.run(mount, capture_output=True, text=True, check=False)).returncode:
        pytest.skip(f"cannot mount a tmpfs here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_keeps_earlier_rows_and_later_ones_follow_when_there_is_room(small_disk: Path) -> None:
    """ENOSPC: the error is named, earlier rows stay readable, waiting rows are written once space is freed."""
    writer = SpoolWriter(small_disk, 0)
    add_chunks(writer, 0, 1000)
    writer.flush()
    until(is_idle(writer))
    add_chunks(writer, 1000, 8000)  # 340 kB do not fit into 256 KiB
    writer.flush()
    until(lambda: writer.error is not None)
    assert writer.error == f"cannot write {small_disk / 'w0-chunks-0.arrow'}: No space left on device"
    full = read(small_disk)
    assert full.chunks["index"].tolist() == list(range(1000))
    assert full.torn == ()

    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    add_chunks(writer, 9000, 1000)
    writer.close()
    assert read(small_disk).chunks["index"].tolist() == list(range(10_000))
    assert writer.lost_rows == 0


def test_a_disk_full_to_the_end_counts_the_rows_it_refused(small_disk: Path) -> None:
    """Closing on a full disk returns, counts the refused rows, and marks the spool as not whole."""
    writer = SpoolWriter(small_disk, 0)
    add_chunks(writer, 0, 10_000)
    writer.close()
    assert writer.lost["chunks"] == 10_000
    assert writer.error is not None
    assert read(small_disk).unclosed == {0}


def test_a_file_at_its_size_limit_is_followed_by_another(tmp_path: Path) -> None:
    """A write that fails halfway (EFBIG, by RLIMIT_FSIZE) is cut back and made again in a new file."""
    code = """
        import resource, sys, time
        from pathlib import Path
        from slobench.records.spool import SpoolWriter
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        writer = SpoolWriter(Path(sys.argv[1]), 0)
        for flush in range(6):
            for k in range(1000):
                writer.chunks.add(1000 * flush + k, k, 1, 50, 0, 0, 0)
            writer.flush()
            for _ in range(5000):
                if not writer._waiting:
                    break
                time.sleep(0.002)
                writer.flush()
        writer.close()
        print(writer.error, writer.lost_rows)
    """
    said = run_python(code, str(tmp_path)).stdout
    assert said == f"cannot write {tmp_path}/w0-chunks-0.arrow: File too large 0\n"
    spooled = read(tmp_path)
    assert spooled.chunks["index"].tolist() == list(range(6000))
    assert spooled.torn == ()
    assert (tmp_path / "w0-chunks-1.arrow").exists()


def test_rows_beyond_the_backlog_are_lost_and_counted_while_requests_still_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a disk that refuses, memory stays bounded: chunks go first, and each lost row is counted."""
    refusing = True
    real_write = os.write

    def write(fd: int, data: memoryview) -> int:
        if refusing:
            raise OSError(28, "No space left on device")
        return real_write(fd, data)

    monkeypatch.setattr(os, "write", write)
    writer = SpoolWriter(tmp_path, 0, backlog_bytes=40_000)
    row = tuple("" if kind == "str" else 1 for kind in SPOOL_REQUESTS.values())
    for flush in range(20):
        add_chunks(writer, 100 * flush, 100)
        writer.requests.add(row)
        writer.flush()
        assert writer._waiting_bytes <= 40_000
    kept = 2000 - writer.lost["chunks"]
    assert 0 < kept < 2000
    assert writer.lost["requests"] == 0
    assert not list(tmp_path.glob("*.arrow"))
    refusing = False
    writer.close()
    spooled = read(tmp_path)
    assert spooled.chunks["index"].tolist() == list(range(kept))
    assert len(spooled.requests["index"]) == 20
    assert spooled.unclosed == {0}


def test_flushing_does_not_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a write hangs, adding and flushing go on, and nothing is missing or out of order afterwards."""
    hanging, release = threading.Event(), threading.Event()
    real_write = os.write

    def write(fd: int, data: memoryview) -> int:
        hanging.set()
        assert release.wait(30), "flush waited for the disk"
        return real_write(fd, data)

    monkeypatch.setattr(os, "write", write)
    writer = SpoolWriter(tmp_path, 0)
    for flush in range(5):
        add_chunks(writer, 10 * flush, 10)
        writer.flush()
        assert hanging.wait(30)
    release.set()
    writer.close()
    assert read(tmp_path).chunks["index"].tolist() == list(range(50))


def test_closing_gives_up_on_a_disk_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that never returns costs its rows, not the end of the process."""
    release = threading.Event()
    monkeypatch.setattr(os, "write", lambda fd, data: release.wait(30) and len(data))
    writer = SpoolWriter(tmp_path, 0)
    add_chunks(writer, 0, 10)
    writer.close(timeout_s=0.05)
    assert writer.lost["chunks"] == 10
    release.set()
    writer._thread.join(30)
    assert not writer._thread.is_alive()


def test_an_end_record_on_disk_implies_its_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the chunks of a flush cannot be written, its end records are not written before them."""
    real_write = os.write

    def write(fd: int, data: memoryview) -> int:
        if "chunks" in Path(f"/proc/self/fd/{fd}").readlink().name:
            raise OSError(28, "No space left on device")
        return real_write(fd, data)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc to tell files apart")
    monkeypatch.setattr(os, "write", write)
    writer = SpoolWriter(tmp_path, 0)
    writer.starts.add(0, 1, 2)
    add_chunks(writer, 0, 1)
    writer.requests.add(tuple("" if kind == "str" else 0 for kind in SPOOL_REQUESTS.values()))
    writer.close()
    spooled = read(tmp_path)
    assert len(spooled.starts["index"]) == 1
    assert len(spooled.requests["index"]) == 0


def test_a_second_writer_of_the_same_worker_writes_beside_the_first(tmp_path: Path) -> None:
    """Nothing that an earlier writer left is overwritten."""
    for first in (0, 10):
        writer = SpoolWriter(tmp_path, 0)
        add_chunks(writer, first, 10)
        writer.close()
    assert read(tmp_path).chunks["index"].tolist() == list(range(20))


def test_columns_that_a_file_lacks_are_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spool of an earlier version, written before a column existed, is still read."""
    writer = SpoolWriter(tmp_path, 0)
    add_chunks(writer, 0, 2)
    writer.close()
    later = {**spool.STREAMS, "chunks": {**SPOOL_CHUNKS, "new": "q", "word": "str", "number": "d"}}
    monkeypatch.setattr(spool, "STREAMS", later)
    chunks = read(tmp_path).chunks
    assert chunks["new"].tolist() == [NULL, NULL]
    assert chunks["word"].tolist() == ["", ""]
    assert np.isnan(chunks["number"]).all()


def test_a_missing_spool_is_a_readable_error(tmp_path: Path) -> None:
    """Reading a folder that is not there says what was expected."""
    with pytest.raises(RecordsError, match="expected  the spool/ folder of a run"):
        read(tmp_path / "absent")


def test_writing_and_reading_import_no_pandas(tmp_path: Path) -> None:
    """A worker's first flush does not stall 0.3 s on an import of pandas."""
    code = """
        import sys
        from pathlib import Path
        from slobench.records.schema import SPOOL_REQUESTS
        from slobench.records.spool import SpoolWriter, read
        writer = SpoolWriter(Path(sys.argv[1]), 0)
        writer.chunks.add(0, 0, 1, 50, 0, 0, 0)
        writer.requests.add(tuple("x" if kind == "str" else 0 for kind in SPOOL_REQUESTS.values()))
        writer.close()
        assert len(read(Path(sys.argv[1])).requests["error"]) == 1
        print("pandas" in sys.modules)
    """
    assert run_python(code, str(tmp_path)).stdout == "False\n"
