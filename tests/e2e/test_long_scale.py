"""Loads at the edge of what one machine can do, against a server in C that logs the truth (benchmarks/fidelity)."""

from __future__ import annotations

import csv
import json
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

SOURCE = Path(__file__).parents[2] / "benchmarks" / "fidelity" / "refserver.c"
OURS = 4096
"""Open files beside the streams: the server's are its own, so this is room for the client's."""

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
Record = Callable[[str, object], None]


@dataclass(frozen=True)
class Truth:
    """What the server logged, by request; ns on CLOCK_MONOTONIC."""

    received: np.ndarray
    first: np.ndarray
    last: np.ndarray
    tokens: np.ndarray
    done: np.ndarray


@dataclass(frozen=True)
class Ran:
    """A finished run. rows: the columns of requests.parquet by request, in the order of the truth."""

    code: int
    record: dict[str, Any]
    rows: dict[str, np.ndarray]
    gaps_s: np.ndarray
    truth: Truth

    @property
    def all_ok(self) -> bool:
        """Whether every reply came whole."""
        return Counter(self.rows["outcome"]) == Counter({"ok": len(self.truth.first)})

    @property
    def true_ttft_s(self) -> np.ndarray:
        """From the server's read of the request's last byte to its first token."""
        return (self.truth.first - self.truth.received) / 1e9

    @property
    def added_s(self) -> np.ndarray:
        """What everything but the server adds to TTFT as users see it, from the planned time on."""
        return self.rows["ttft_s"] - self.true_ttft_s

    @property
    def worst(self) -> str:
        """The verdict with the findings behind it."""
        found = [f"{each['code']} {each['level']}: {each['seen']}" for each in self.record["findings"]]
        return "; ".join([self.record["verdict"], *found])


@pytest.fixture(scope="module")
def refserver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server, compiled here."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    program = tmp_path_factory.mktemp("refserver") / "refserver"
    subprocess.run(["cc", "-O2", "-o", program, SOURCE], check=True)
    return program


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as trial:
        return not trial.connect_ex(("127.0.0.1", port))


@contextmanager
def serving(program: Path, log: Path, *flags: str) -> Iterator[str]:
    """A server that serves; its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [program, "--port", str(port), "--log", log, *flags]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not listens(port):
            time.sleep(0.02)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def offered(program: Path, folder: Path, server: tuple[str, ...], *arguments: str, soft: int | None = None) -> Ran:
    """Offer a load to a server of its own and hold its log beside what was recorded. soft: limit of open files."""

    def limited() -> None:
        if soft is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    out, log = folder / "run", folder / "truth.csv"
    with serving(program, log, *server) as url:
        command = [sys.executable, "-m", "slobench", "run", "--target", url, "--model", "tiny", "--out", str(out)]
        done = subprocess.run([*command, "--quiet", *arguments], preexec_fn=limited, timeout=500, check=False)
    with log.open() as file:
        seen = {int(row["id"].rpartition("-")[2]): row for row in csv.DictReader(file)}
    rows = pq.read_table(out / "requests.parquet").to_pandas().set_index("index", drop=False)
    rows = rows.loc[sorted(seen)]
    each = [seen[index] for index in rows["index"]]
    numbers = (np.array([int(row[key]) for row in each]) for key in ("recv_ns", "first_ns", "last_ns", "tokens"))
    chunks = pq.read_table(out / "chunks.parquet", columns=["index", "t_ns"]).to_pandas()
    gaps = chunks.groupby("index")["t_ns"].diff().dropna().to_numpy() / 1e9
    truth = Truth(*numbers, np.array([row["status"] == "done" for row in each]))
    columns = {name: rows[name].to_numpy() for name in rows.columns}
    return Ran(done.returncode, json.loads((out / "run.json").read_text()), columns, gaps, truth)


def p(values: np.ndarray, q: float) -> float:
    """A quantile by the inverse ECDF, as slobench gives it."""
    return float(np.quantile(values, q, method="inverted_cdf"))


def ms(seconds: float) -> str:
    """Milliseconds in words."""
    return f"{seconds * 1e3:.3f} ms"


def needs_files(streams: int) -> None:
    """Skip, with the reason, where this user may not open so many."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < streams + OURS:
        pytest.skip(f"{streams} streams need {streams + OURS} open files, the hard limit is {hard}")


def test_ten_thousand_streams_are_held(refserver: Path, tmp_path: Path, record_property: Record) -> None:
    """10,000 replies of a token a second are open for a minute: none is lost, and their times are the server's.

    The soft limit of open files is 1,024, as in many shells: slobench raises its own.
    """
    needs_files(10_000)
    load = ("--arrivals", "constant", "--rate", "400", "--requests", "10000")
    lengths = ("--input-tokens", "32", "--output-tokens", "85")
    ran = offered(refserver, tmp_path, ("--ttft-ms", "50", "--itl-ms", "1000"), *load, *lengths, soft=1024)
    begun, ended = np.sort(ran.rows["started_ns"]), np.sort(ran.rows["end_ns"])
    full_s = (ended[0] - begun[-1]) / 1e9
    error_s = ran.rows["ttft_sent_s"] - ran.true_ttft_s
    true_gap_s = (ran.truth.last - ran.truth.first) / 1e9 / (ran.truth.tokens - 1)
    record_property("all open for", f"{full_s:.0f} s")
    record_property(
        "TTFT error p50, p99, max", ", ".join(ms(x) for x in (p(error_s, 0.5), p(error_s, 0.99), max(error_s)))
    )
    record_property("gap p1, p50, p99", ", ".join(ms(p(ran.gaps_s, q)) for q in (0.01, 0.5, 0.99)))
    record_property("TPOT error p99", ms(p(np.abs(ran.rows["tpot_s"] - true_gap_s), 0.99)))
    record_property("send lag p99", ms(p(ran.rows["send_lag_s"], 0.99)))
    record_property("verdict", ran.worst)
    assert ran.all_ok
    assert len(ran.truth.done) == 10_000
    assert ran.truth.done.all()
    assert full_s > 55
    assert p(np.abs(error_s), 0.99) < 0.002
    assert p(np.abs(ran.rows["tpot_s"] - true_gap_s), 0.99) < 0.0005
    assert ran.record["verdict"] == "VALID" or ran.record["findings"]


@pytest.mark.parametrize("rate", [1000, 2000, 3000, 4000, 5000])
def test_spacing_at_thousands_of_requests_a_second(
    refserver: Path, tmp_path: Path, record_property: Record, rate: int
) -> None:
    """Requests arrive at the server spaced as planned, or the run says that they were not: never silently wrong."""
    load = ("--arrivals", "constant", "--rate", str(rate), "--requests", str(10 * rate), "--workers", "2")
    ran = offered(refserver, tmp_path, ("--ttft-ms", "5"), *load, "--input-tokens", "32", "--output-tokens", "1")
    arrived = np.sort(ran.truth.received)
    off_s = (ran.truth.received - ran.rows["scheduled_ns"] - ran.record["clock"]["start_ns"]) / 1e9
    kept = len(arrived) / 10 / rate > 0.99 and p(ran.rows["send_lag_s"], 0.99) < 0.001 and p(off_s, 0.99) < 0.002
    realised = (len(arrived) - 1) / (arrived[-1] - arrived[0]) * 1e9
    record_property(f"{rate}/s: realised", f"{realised:.1f}/s of {len(arrived)} requests")
    lags = (p(ran.rows["send_lag_s"], q) for q in (0.5, 0.99))
    record_property(f"{rate}/s: send lag p50, p99", ", ".join(map(ms, lags)))
    record_property(
        f"{rate}/s: arrival at the server against the plan p50, p99", f"{ms(p(off_s, 0.5))}, {ms(p(off_s, 0.99))}"
    )
    record_property(f"{rate}/s: verdict", ran.worst)
    flagged = {each["code"] for each in ran.record["findings"]} & {"V01", "V03", "V04", "V18"}
    assert kept or flagged, "neither kept nor flagged"
    assert abs(realised / rate - 1) < 0.01 or flagged


def test_long_prompts_add_little_to_ttft(refserver: Path, tmp_path: Path, record_property: Record) -> None:
    """64 streams at a time with 50,000 tokens of prompt each: from the planned send on, less than 2 ms are added."""
    load = ("--rate", "32", "--duration", "20s")
    lengths = ("--input-tokens", "50000", "--output-tokens", "100")
    ran = offered(refserver, tmp_path, ("--ttft-ms", "50", "--itl-ms", "20"), *load, *lengths)
    record_property("in flight, mean", f"{ran.record['summary']['load']['in_flight_mean']:.0f}")
    record_property(
        "added p50, p99, max", ", ".join(ms(x) for x in (p(ran.added_s, 0.5), p(ran.added_s, 0.99), max(ran.added_s)))
    )
    record_property("verdict", ran.worst)
    assert ran.all_ok
    assert p(ran.added_s, 0.5) < 0.002
    assert p(ran.added_s, 0.99) < 0.002


def test_two_workers_do_more_than_one(refserver: Path, tmp_path: Path, record_property: Record) -> None:
    """A closed loop of 64 users with replies of one token: two generator processes get more of them in a second."""
    found = {}
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        load = ("--concurrency", "64", "--requests", "20000", "--workers", str(workers))
        ran = offered(refserver, folder, ("--ttft-ms", "1"), *load, "--input-tokens", "32", "--output-tokens", "1")
        arrived = np.sort(ran.truth.received)
        found[workers] = (len(arrived) - 1) / (arrived[-1] - arrived[0]) * 1e9
        record_property(f"{workers} workers", f"{found[workers]:.0f} requests/s")
    record_property("two over one", f"{found[2] / found[1]:.2f}")
    assert found[2] > 1.2 * found[1]
