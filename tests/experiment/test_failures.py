"""Runs that go wrong: interrupted, killed, refused by the server, on a full disk. Nothing is lost that need not be."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from slobench.errors import RecordsError
from slobench.names import Exit
from slobench.records.counters import Counters, Slot
from tests.experiment.running import WORKER, report, running, until, zeros
from tests.generate.mock_server import MockServer, after, at_once, never, with_status

S = 10**9
SHORT = ("--input-tokens", "8", "--output-tokens", "4", "--arrivals", "constant", "--json", "--workers", "2")


def test_one_interrupt_drains_and_reports(tmp_path: Path) -> None:
    """SIGINT once: nothing more is offered, replies in flight are waited for, every file is made, exit 130."""
    with (
        MockServer(after(0.5)) as server,
        running(tmp_path / "r", "--rate", "40", "--duration", "10m", "--target", server.url, *SHORT) as run,
    ):
        until(lambda: len(server.seen) >= 20, "20 requests")
        run.process.send_signal(signal.SIGINT)
        assert run.end() == Exit.INTERRUPTED
        outcomes = Counter(run.rows()["outcome"])
        assert outcomes.keys() == {"ok", "unsent"}
        assert outcomes["ok"] == len(server.seen) >= 20
        assert not any(seen.closed for seen in server.seen)
        shown = run.json()
        assert (shown["exit"], shown["outcomes"]["all"]) == (130, dict(outcomes))
        assert run.run_json()["run"]["stop"] == "interrupted"
        assert {"report.md", "report.html", "chunks.parquet", "telemetry.parquet"} <= {
            path.name for path in run.folder.iterdir()
        }
        assert not run.children()


def test_an_interrupt_while_all_is_being_started_ends_at_once(tmp_path: Path) -> None:
    """SIGINT when there are workers and nothing was offered yet: exit 130, no traceback, no process left."""
    with running(tmp_path / "r", "--rate", "40", "--duration", "10m", "--target", "sim", *SHORT) as run:
        until(lambda: len(run.children(WORKER)) == 2, "the workers")
        started = run.children()
        run.process.send_signal(signal.SIGINT)
        assert run.end() == Exit.INTERRUPTED
        until(lambda: not any(map(alive, [*started, *run.children()])), "the end of every process")
    assert "Traceback" not in run.err.read_text()


def test_two_interrupts_cut(tmp_path: Path) -> None:
    """SIGINT twice: what is in flight is ended as `cut`, which is neither good nor an error; exit 130."""
    with (
        MockServer(never) as server,
        running(tmp_path / "r", "--rate", "40", "--duration", "10m", "--target", server.url, *SHORT) as run,
    ):
        until(lambda: len(server.seen) >= 20, "20 requests")
        run.process.send_signal(signal.SIGINT)
        until(lambda: b"interrupted" in run.err.read_bytes(), "that it drains")
        assert run.process.poll() is None
        run.process.send_signal(signal.SIGINT)
        assert run.end() == Exit.INTERRUPTED
        rows = run.rows()
        assert Counter(rows["outcome"]).keys() == {"cut", "unsent"}
        assert rows["outcome"].count("cut") == len(server.seen)
        assert all(time_ns is None for time_ns in rows["first_token_ns"])


def test_t33_the_end_of_the_duration_cuts_and_says_so(tmp_path: Path) -> None:
    """drain: cut ends the run at its duration: nothing is offered after it, cut rows are listed and not good."""
    with (
        MockServer(never) as server,
        running(
            *(tmp_path / "r", "--rate", "40", "--duration", "1s", "--drain", "cut", "--slo", "e2e<500ms"),
            *("--target", server.url, *SHORT),
        ) as run,
    ):
        code = run.end()
        rows, shown = run.rows(), run.json()
    assert code == Exit.TARGET  # not one reply came to its end
    assert max(rows["scheduled_ns"]) < S
    listed = Counter(rows["outcome"])
    assert listed.keys() <= {"cut", "unsent"}
    assert listed["cut"] == len(server.seen) > 0
    assert sum(each.get("cut", 0) for each in shown["outcomes"].values()) >= listed["cut"]
    assert all(result["good"] == 0 for result in shown["slo"].values())
    # The server would have kept them for ever; the run's own end is after its limit and before any timeout (120 s).
    assert S <= run.run_json()["run"]["end_ns"] < 60 * S


def test_t33_replies_that_outlive_the_grace_are_cut(tmp_path: Path) -> None:
    """drain: grace offers until the duration and waits that long, not longer."""
    with (
        MockServer(never) as server,
        running(
            *(tmp_path / "r", "--rate", "40", "--duration", "1s", "--drain", "grace=1s"),
            *("--target", server.url, *SHORT),
        ) as run,
    ):
        run.end()
        rows = run.rows()
    cut = [end for end, outcome in zip(rows["end_ns"], rows["outcome"], strict=True) if outcome == "cut"]
    assert len(cut) == len(server.seen)
    assert min(cut) >= 2 * S  # duration + grace, never earlier
    assert run.run_json()["run"]["end_ns"] < 60 * S


def test_t46_a_killed_worker_makes_the_run_invalid(tmp_path: Path) -> None:
    """SIGKILL of one of two workers: its rows are `lost` and counted, the other's are ok, the verdict is INVALID."""
    with (
        MockServer(after(0.3)) as server,
        running(tmp_path / "r", "--rate", "50", "--requests", "110", "--target", server.url, *SHORT) as run,
    ):
        until(lambda: len(server.seen) >= 20, "20 requests")
        victim = run.children(WORKER)[0]
        victim.kill()
        assert run.end() == Exit.INVALID
        rows, shown = run.rows(), run.json()
    lost = [worker for worker, outcome in zip(rows["worker"], rows["outcome"], strict=True) if outcome == "lost"]
    assert len(lost) >= sum(seen.closed for seen in server.seen) > 0
    assert len(set(lost)) == 1
    assert {o for o, w in zip(rows["outcome"], rows["worker"], strict=True) if w != lost[0]} == {"ok"}
    assert any(f["code"] == "V02" and f["level"] == "invalid" and "lost" in f["seen"] for f in shown["findings"])
    assert "killed by signal 9" in run.err.read_text()
    assert list(run.run_json()["run"]["workers_lost"]) == [str(lost[0])]


def test_a_killed_parent_leaves_its_records_and_no_process(tmp_path: Path) -> None:
    """SIGKILL of `slobench run`: its workers end; `slobench report` recovers all but at most the last second."""
    with (
        MockServer(after(0.05)) as server,
        running(tmp_path / "r", "--rate", "60", "--duration", "10m", "--target", server.url, *SHORT) as run,
    ):
        until(lambda: len(older_than(server, S)) >= 60, "60 replies a second ago")
        children = run.children()
        assert len([each for each in children if WORKER in " ".join(each.cmdline())]) == 2
        killed_ns = time.monotonic_ns()
        run.process.kill()
        until(lambda: not any(map(alive, children)), "the end of the workers")
    assert not (tmp_path / "r" / "requests.parquet").exists()
    code, shown = report(run.folder)
    assert code == shown["exit"] == Exit.INTERRUPTED
    rows = run.rows()
    recovered = {index for index, o in zip(rows["index"], rows["outcome"], strict=True) if o == "ok"}
    replied = older_than(server, S, killed_ns)
    assert len(replied) >= 60
    skip_where_it_stood_still(run.folder)
    assert replied <= recovered
    outcomes = Counter(rows["outcome"])
    assert outcomes.keys() <= {"ok", "lost", "unsent"}
    # Nothing that was never sent is said to have been: begun rows are at most those that the server saw.
    assert outcomes["ok"] <= len(server.seen)


def older_than(server: MockServer, age_ns: int, now_ns: int | None = None) -> set[int]:
    """Requests whose reply the server gave away that long ago."""
    before_ns = (time.monotonic_ns() if now_ns is None else now_ns) - age_ns
    return {seen.index for seen in server.seen if 0 < seen.replied_ns < before_ns}


def skip_where_it_stood_still(folder: Path) -> None:
    """A worker that got no processor for half a second cannot have read, or flushed, each second."""
    rows = pq.read_table(folder / "telemetry.parquet").to_pydict()
    late_ns = max(v for name, v in zip(rows["name"], rows["value"], strict=True) if name == "heartbeat_overshoot_ns")
    if late_ns > S / 2:
        pytest.skip(f"V03: a worker stood still for {late_ns / S:.1f} s: this machine is too busy to judge a second by")


def alive(process: psutil.Process) -> bool:
    """Whether it runs; a zombie whose parent does not reap does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_killed_parent_takes_the_simulated_server_along(tmp_path: Path) -> None:
    """The embedded server and its guard end too."""
    with running(tmp_path / "r", "--rate", "20", "--duration", "10m", "--target", "sim", *SHORT) as run:
        until(lambda: len(run.children("slobench.engine.server")) > 0 and len(run.children(WORKER)) == 2, "all of it")
        children = run.children()
        run.process.kill()
        until(lambda: not any(map(alive, children)), "the end of every process")


@pytest.mark.parametrize("status", [500, 0], ids=["HTTP 500", "reset"])
def test_where_every_request_fails_there_is_a_report_and_no_zero(tmp_path: Path, status: int) -> None:
    """Exit 6, a report that lists the errors, and no latency of 0 in any file: what was not seen is null."""
    with (
        MockServer(with_status(status)) as server,
        running(
            *(tmp_path / "r", "--rate", "60", "--requests", "40", "--slo", "ttft<500ms", "--slo", "attainment>=99%"),
            *("--target", server.url, *SHORT),
        ) as run,
    ):
        assert run.end() == Exit.TARGET
    rows, shown = run.rows(), run.json()
    outcome = "http_error" if status else "connection"
    assert Counter(rows["outcome"]) == {outcome: 40}
    for column in ("ttft_s", "tpot_s", "first_token_ns", "last_token_ns", "output_tokens"):
        assert set(rows[column]) == {None}, column
    assert list(shown["errors"]) == [outcome]
    for key in ("latency", "latency_by_class", "latency_with_failures", "latency_full_run"):
        # A note of how many requests an estimate rests on may be 0; a time may not.
        assert [at for at in zeros(shown[key]) if re.search(r"\.(value|low|high)$", at)] == []
    assert {result["good"] for result in shown["slo"].values()} == {0}
    for name in ("report.md", "report.html"):
        assert not re.search(r"(?<![\d.])0(\.0+)? ?m?s\b", text_of(run.folder / name)), name


def text_of(path: Path) -> str:
    """What a reader sees: no style, no script, no drawing."""
    text = re.sub(r"(?s)<(style|script|svg).*?</\1>", " ", path.read_text())
    return re.sub(r"<[^>]*>", " ", text) if path.suffix == ".html" else text


def test_a_server_that_goes_away_mid_run_is_reported(tmp_path: Path) -> None:
    """From then on the port is closed: `connection`, every row of the plan accounted for."""
    with (
        MockServer(after(0.05)) as server,
        running(tmp_path / "r", "--rate", "60", "--requests", "150", "--target", server.url, *SHORT) as run,
    ):
        until(lambda: len(server.seen) >= 50, "50 requests")
        server.close()
        code = run.end()
    rows = run.rows()
    outcomes = Counter(rows["outcome"])
    assert outcomes.keys() == {"ok", "connection"}
    assert sum(outcomes.values()) == 150
    assert code in (Exit.INVALID, Exit.OK)  # errors are the server's side: a result, unless our own checks fail
    errors = {e for e, o in zip(rows["error"], rows["outcome"], strict=True) if o == "connection"}
    assert any("ECONNREFUSED" in error for error in errors)


def test_a_server_of_ours_that_is_killed_mid_run_is_the_target_s_failure(tmp_path: Path) -> None:
    """SIGKILL of the embedded server: replies in flight `connection`, the rest unsent, exit 6, no process left."""
    words = ("--input-tokens", "8", "--output-tokens", "64", "--workers", "1", "--json")
    with running(tmp_path / "r", "--rate", "40", "--duration", "10m", "--target", "sim", *words) as run:
        live = run.folder / "spool" / "counters.bin"
        until(lambda: live.exists() and ended(live) >= 20, "20 replies")
        servers = [each for each in run.children("slobench.engine.server") if not each.children()]
        servers[0].kill()
        assert run.end() == Exit.TARGET
        assert not run.children()
    outcomes = Counter(run.rows()["outcome"])
    assert outcomes.keys() == {"ok", "connection", "unsent"}
    how = run.run_json()["run"]
    assert (how["stop"], how["target_died"]) == ("target died", True)
    assert "the server ended during the run" in run.err.read_text()


def ended(live: Path) -> int:
    """Replies so far, by the live counters."""
    try:
        with Counters.open(live) as counters:
            return counters.snapshot().total(Slot.ENDED)
    except RecordsError:  # it is being made
        return 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "slobench-test", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small file system needs the right to mount: {error}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Leave no byte."""
    with (folder / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
        while True:
            ballast.write(bytes(4096))


def test_a_disk_that_is_full_at_the_start_is_one_readable_error(small_disk: Path) -> None:
    """Nothing is started; the file that could not be written is named; exit 1."""
    fill(small_disk)
    words = ["run", "--rate", "50", "--requests", "100", "--target", "sim", *SHORT, "--out", str(small_disk / "r")]
    command = [sys.executable, "-m", "slobench", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == Exit.TOOL
    assert re.match(r"error: cannot write \S+: No space left on device\n  expected  .*\n$", done.stderr)


def test_a_full_disk_is_said_and_earlier_rows_are_kept(tmp_path: Path, small_disk: Path) -> None:
    """The disk fills while it runs: an error that names it, exit 1; with room again the report has the early rows."""
    with (
        MockServer(after(0.01)) as server,
        running(small_disk / "r", "--rate", "50", "--requests", "300", "--target", server.url, *SHORT) as run,
    ):
        until(lambda: len(older_than(server, 2 * S)) >= 60, "60 replies two seconds ago")
        fill(small_disk)
        full_ns = time.monotonic_ns()
        code = run.end()
    assert code == Exit.TOOL
    said = run.err.read_text() if run.err.exists() else ""
    assert "No space left on device" in said
    assert "Traceback" not in said
    (small_disk / "ballast").unlink()
    shutil.copytree(run.folder, tmp_path / "copy")
    _, shown = report(tmp_path / "copy")
    table = pq.read_table(tmp_path / "copy" / "requests.parquet").to_pydict()
    ok = {index for index, o in zip(table["index"], table["outcome"], strict=True) if o == "ok"}
    early = older_than(server, 2 * S, full_ns)
    assert len(early) >= 60
    assert not shown["valid"]
    skip_where_it_stood_still(tmp_path / "copy")
    assert early <= ok


def test_a_run_that_goes_well_ends_with_what_it_says(tmp_path: Path) -> None:
    """The same way of running, nothing wrong: every row ok, no process and no spool left."""
    with (
        MockServer(at_once) as server,
        running(tmp_path / "r", "--rate", "60", "--requests", "60", "--target", server.url, *SHORT) as run,
    ):
        run.end()
    assert Counter(run.rows()["outcome"]) == {"ok": 60}
    assert run.run_json()["run"]["stop"] == "complete"
    assert not (run.folder / "spool").exists()
