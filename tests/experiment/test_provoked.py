"""Validity findings provoked for real, through the real generator: each cause is made, and is found by its code.

Times are what they are on a busy machine, so other codes may be found beside the one that is asked for.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from slobench.names import Exit
from slobench.records import ceiling
from slobench.records.ceiling import Ceiling
from tests.experiment.running import WORKER, Run, running, until
from tests.experiment.tampering import Proxy, asking, counting
from tests.generate.mock_server import MockServer, after, never, one_at_a_time

SHORT = ("--input-tokens", "16", "--output-tokens", "16", "--json", "--workers", "1")
EASY = ("--slo", "ttft<60s", "--slo", "tpot<10s")
"""Limits that no busy machine misses: what is found is not about lateness."""


def found(shown: dict[str, Any]) -> dict[str, str]:
    """The gravest level of each code."""
    levels: dict[str, str] = {}
    for finding in shown["findings"]:
        assert finding["text"]
        assert finding["advice"]
        levels.setdefault(finding["code"], finding["level"])
    return levels


def seen_of(shown: dict[str, Any], code: str) -> str:
    """What the first finding of a code saw."""
    return next(finding["seen"] for finding in shown["findings"] if finding["code"] == code)


@contextmanager
def stopped_half_of_the_time(run: Run, *, period_s: float) -> Iterator[None]:
    """SIGSTOP and SIGCONT to the run's workers in turn, from the start of the load until the block ends."""
    until(lambda: bool(run.children(WORKER)), "the workers")
    until(lambda: "clock" in started(run), "the start")
    end = threading.Event()
    workers = run.children(WORKER)

    def throttle() -> None:
        while not end.is_set():
            for number in (signal.SIGSTOP, signal.SIGCONT):
                for worker in workers:
                    with suppress(psutil.NoSuchProcess):
                        worker.send_signal(number)
                end.wait(period_s / 2)

    thread = threading.Thread(target=throttle)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
        for worker in workers:
            with suppress(psutil.NoSuchProcess):
                worker.send_signal(signal.SIGCONT)


def started(run: Run) -> dict[str, Any]:
    """run.json so far."""
    with suppress(OSError, json.JSONDecodeError):
        return run.run_json()
    return {}


LATE = {"V01", "V03", "V04", "V05", "V06", "V07", "V18"}
"""Codes of a client that is late, and of a drift, of which one level run in twenty has one."""
CALM_NS = 1_000_000


def test_a_good_run_has_no_finding(tmp_path: Path, engine: str) -> None:
    """Even arrivals well below the engine's capacity, limits that are easy to meet: VALID, nothing to say.

    Where the machine lets the worker's timer fire late, it may be said that the client is late, and nothing else.
    """
    words = ("--rate", "40", "--arrivals", "constant", "--requests", "240", "--warmup", "1s", *EASY, *SHORT)
    with running(tmp_path / "r", *words, "--target", engine, "--set", "validity.v10.past=0.5") as run:
        code = run.end()
        shown, kept = run.json(), run.run_json()
    table = pq.read_table(run.folder / "telemetry.parquet")
    beats = table.filter(pc.equal(table["name"], "heartbeat_overshoot_ns"))["value"].to_numpy()
    calm = float(np.quantile(beats, 0.99)) < CALM_NS
    assert found(shown).keys() <= ({"V07"} if calm else LATE)
    assert code == Exit.OK or not calm
    # Limits that were changed are written down, and so is what the machine had to give.
    assert kept["thresholds"]["v10_errors"] == {"warning": 0.001, "past": 0.5}
    assert kept["spec"]["workload"]["validity"] == {"v10_errors": {"past": 0.5}}
    assert kept["cores"] >= 1


def test_a_client_that_is_stopped_half_of_the_time(tmp_path: Path, engine: str) -> None:
    """200 ms stopped, 200 ms not.

    Late sends (V01), a late loop (V03), first tokens that were read late together with later ones (V05), and bursts
    instead of the planned process (V18): all are INVALID.
    """
    # Prompts long enough that a tenth of the first tokens are on their way when the worker is stopped.
    words = ("--rate", "40", "--requests", "160", "--slo", "ttft<500ms", *SHORT, "--input-tokens", "400")
    with running(tmp_path / "r", *words, "--target", engine) as run, stopped_half_of_the_time(run, period_s=0.4):
        assert run.end() == Exit.INVALID
        shown = run.json()
    assert {code: found(shown).get(code) for code in ("V01", "V03", "V05", "V18")} == dict.fromkeys(
        ("V01", "V03", "V05", "V18"), "invalid"
    )
    assert shown["verdict"].startswith("INVALID: V01 send lag p99 ")


class Group:
    """A control group of the test's own; CPU quotas of version 1 or 2."""

    def __init__(self, root: Path, *, version_1: bool) -> None:
        self._folder = root / f"slobench-test-{os.getpid()}"
        self._version_1 = version_1
        self._folder.mkdir()

    def join(self, pid: int) -> None:
        """Put a process into it; those that it starts later follow."""
        (self._folder / "cgroup.procs").write_text(str(pid))

    def allow(self, share: float) -> None:
        """Let it use this share of one CPU."""
        quota = f"{share * 100_000:.0f}"
        if self._version_1:
            (self._folder / "cpu.cfs_quota_us").write_text(quota)
        else:
            (self._folder / "cpu.max").write_text(f"{quota} 100000")

    def close(self) -> None:
        """Remove it, once its processes have ended."""
        until(lambda: not (self._folder / "cgroup.procs").read_text(), "the end of every process in the group")
        self._folder.rmdir()


@pytest.fixture
def group() -> Iterator[Group]:
    """A control group, where this process may make one."""
    version_1 = Path("/sys/fs/cgroup/cpu/cpu.stat").exists()
    try:
        made = Group(Path("/sys/fs/cgroup/cpu" if version_1 else "/sys/fs/cgroup"), version_1=version_1)
    except OSError as error:
        pytest.skip(f"a CPU quota needs a control group of its own: {error}")
    try:
        made.allow(10.0)
        yield made
    except OSError as error:
        pytest.skip(f"no CPU quota can be set here: {error}")
    finally:
        made.close()


def test_a_client_under_a_cpu_quota(tmp_path: Path, group: Group) -> None:
    """Workers that need more than the tenth of a CPU that they may use are throttled; V04 says how much of the time."""
    words = ("--rate", "300", "--requests", "900", *EASY, *SHORT)
    with MockServer(after(0.2)) as server, running(tmp_path / "r", *words, "--target", server.url) as run:
        group.join(run.process.pid)
        until(lambda: "clock" in started(run), "the start")
        group.allow(0.1)
        until(lambda: not run.children(WORKER), "the end of the load")
        group.allow(10.0)
        assert run.end() == Exit.INVALID
        shown = run.json()
    assert any(f["code"] == "V04" and f["level"] == "invalid" and "throttled" in f["seen"] for f in shown["findings"])


WALL_CLOCK_IS_SET = """
import sys, time
if "slobench.generate.worker" in sys.orig_argv:
    real, until = time.time_ns, time.monotonic_ns() + 3 * 10**9
    time.time_ns = lambda: real() - (400_000_000 if time.monotonic_ns() > until else 0)
"""


def test_a_wall_clock_that_is_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers whose wall clock is set back by 400 ms while they run: V13, and no time of a request goes backwards."""
    (tmp_path / "sitecustomize.py").write_text(WALL_CLOCK_IS_SET)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    words = ("--rate", "30", "--requests", "120", *EASY, *SHORT)
    with MockServer(after(0.02)) as server, running(tmp_path / "r", *words, "--target", server.url) as run:
        assert run.end() == Exit.INVALID
        shown = run.json()
    assert seen_of(shown, "V13") == "the wall clock was set 1 times, by up to 400 ms"
    assert not any("out of order" in finding["seen"] for finding in shown["findings"])


def test_what_the_server_does_otherwise_than_planned(tmp_path: Path, engine: str) -> None:
    """A man in the middle closes each connection (V06), halves the replies (V11), and edits their usage.

    It reports cached tokens of prompts that were unique (V17), and reasoning that the stream did not show, with
    which TTFT cannot be judged (V19). It passes each event on as it comes (no V12).
    """
    words = ("--rate", "40", "--requests", "120", "--no-ignore-eos", *EASY, *SHORT)
    usage = counting(prompt_tokens_details={"cached_tokens": 8}, completion_tokens_details={"reasoning_tokens": 4})
    with (
        Proxy(engine, close=True, request=asking(max_tokens=8), reply=usage) as proxy,
        running(tmp_path / "r", *words, "--target", proxy.address) as run,
    ):
        assert run.end() == Exit.INVALID
        shown = run.json()
    levels = found(shown)
    expected = {"V06": "warning", "V11": "warning", "V12": None, "V17": "invalid", "V19": "invalid"}
    assert {code: levels.get(code) for code in expected} == expected


def test_a_proxy_that_buffers(tmp_path: Path, engine: str) -> None:
    """Replies of 16 tokens that arrive whole: their TTFT is INVALID."""
    words = ("--rate", "40", "--requests", "100", *EASY, *SHORT)
    with Proxy(engine, whole=True) as proxy, running(tmp_path / "r", *words, "--target", proxy.address) as run:
        assert run.end() == Exit.INVALID
        assert found(run.json())["V12"] == "invalid"


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def nginx(folder: Path, upstream: str) -> Iterator[str]:
    """A real nginx in front of a server, with its defaults: HTTP/1.0 upstream and proxy_buffering on."""
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(binary).exists():
        pytest.skip("nginx is not installed (apt-get install nginx-light)")
    folder.mkdir()
    port = free_port()
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
        f"http {{ access_log off; {temporary} server {{ listen 127.0.0.1:{port};\n"
        f"location / {{ proxy_pass {upstream}; }} }} }}\n"
    )
    with subprocess.Popen([binary, "-p", str(folder), "-c", str(folder / "nginx.conf")]) as process:

        def listens() -> bool:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return True
            return False

        try:
            until(listens, "nginx")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)


def test_nginx_in_front_of_the_server(tmp_path: Path, engine: str) -> None:
    """With its defaults it keeps short replies until they are complete."""
    words = ("--rate", "40", "--requests", "100", *EASY, *SHORT)
    with nginx(tmp_path / "nginx", engine) as url, running(tmp_path / "r", *words, "--target", url) as run:
        assert run.end() == Exit.INVALID
        assert found(run.json())["V12"] == "invalid"


def test_an_overload_and_a_window_that_is_too_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of one permit that is offered twice what it can: OVERLOADED (V07).

    With it a window without warm-up (V08), a percentile judged by a handful of requests (V09), and a load above this
    machine's ceiling (V16).
    """
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    ceiling.save(Ceiling(ceiling.machine_id(), 1, 10.0, 1e6, 1e4))
    words = ("--rate", "40", "--requests", "160", "--slo", "ttft:p99<60s", *SHORT)
    with MockServer(one_at_a_time(0.05)) as server, running(tmp_path / "r", *words, "--target", server.url) as run:
        assert run.end() == Exit.INVALID
        shown, kept = run.json(), run.run_json()
    levels = found(shown)
    assert (levels["V07"], levels["V08"], levels["V16"]) == ("server", "warning", "invalid")
    assert levels["V09"] == "warning"
    assert shown["exits"] == sorted({int(Exit.INVALID), int(Exit.SLO)})
    assert kept["ceiling"] == replace(ceiling.load(), version="").to_dict()  # type: ignore[type-var]


def test_more_in_flight_than_the_safety_stop_allows(tmp_path: Path) -> None:
    """A server that never replies, and four requests in flight at most: the others are dropped (V02)."""
    words = ("--rate", "40", "--duration", "2s", "--drain", "cut", "--concurrency", "4", *EASY, *SHORT)
    with MockServer(never) as server, running(tmp_path / "r", *words, "--target", server.url) as run:
        run.end()
        shown = run.json()
    assert found(shown)["V02"] == "invalid"
    assert "dropped" in seen_of(shown, "V02")
