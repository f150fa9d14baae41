"""How long slobench takes to begin: `--help`, and from `run` to the first byte at the server.

    .venv/bin/python benchmarks/startup.py [--rounds 5]

The requests of that run are all due at once, or the plan's first gap would count as start-up.
Printed beside them: the same Python doing nothing, and importing typer alone, in turn with them. CPU seconds are
of the whole process tree; on a busy machine the wall times say little and the CPU times and ratios hold.
Each call adds a line to benchmarks/history/startup.jsonl.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from socket import create_server, socket

import history

EMPTY = b'{"object": "list", "data": [{"id": "tiny", "object": "model"}]}'
MODELS = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b"


@dataclass(frozen=True)
class Took:
    """Seconds of one start."""

    wall_s: float
    cpu_s: float


def timed(command: list[str]) -> Took:
    """Run a command to its end."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall_s, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Took(wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


class FirstByte:
    """A server that answers questions about itself and notes when the first request for tokens came."""

    def __init__(self) -> None:
        self._listener = create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.came = threading.Event()
        self.at = 0.0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket) -> None:
        with connection:
            data = connection.recv(1)
            if not data:
                return
            now = time.perf_counter()
            while b"\r\n\r\n" not in data:
                data += connection.recv(65536)
            if data.startswith(b"POST"):
                if not self.came.is_set():
                    self.at = now
                    self.came.set()
                return
            connection.sendall(MODELS % (len(EMPTY), EMPTY))


def to_first_byte() -> Took:
    """`slobench run` against a server that runs already; the CPU is that of all it started until then."""
    server = FirstByte()
    with tempfile.TemporaryDirectory(prefix="startup-") as text:
        command = [
            sys.executable,
            "-m",
            "slobench",
            "run",
            "--target",
            server.url,
            "--arrivals",
            "burst",
            "--requests",
            "20",
        ]
        start = time.perf_counter()
        run = subprocess.Popen(
            [*command, "--out", str(Path(text) / "run"), "--quiet"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        if not server.came.wait(60):
            raise SystemExit("no request came")
        took = Took(server.at - start, cpu_of(run.pid))
        run.kill()
        run.wait()
        time.sleep(0.5)  # its workers see that it is gone
    return took


def cpu_of(root: int) -> float:
    """CPU seconds so far of a process and what it started, ended children included."""
    import psutil

    parent = psutil.Process(root)
    times = [each.cpu_times() for each in (parent, *parent.children(recursive=True))]
    return sum(each.user + each.system + each.children_user + each.children_system for each in times)


def main() -> None:
    """Measure each in turn, print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    python = sys.executable
    kinds = {
        "python -c pass": lambda: timed([python, "-c", "pass"]),
        "import typer": lambda: timed([python, "-c", "import typer"]),
        "slobench --help": lambda: timed([python, "-m", "slobench", "--help"]),
        "slobench run, to the first byte": to_first_byte,
    }
    found: dict[str, list[Took]] = {name: [] for name in kinds}
    for _ in range(args.rounds):
        for name, measure in kinds.items():
            found[name].append(measure())
    base_s = statistics.median(each.cpu_s for each in found["python -c pass"])
    figures: dict[str, object] = {"rounds": args.rounds}
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {args.rounds} rounds, medians")
    print(f"{'':34}{'wall':>9}{'CPU':>9}{'CPU, × python':>15}")
    for name, each in found.items():
        wall_s, cpu_s = (statistics.median(values) for values in zip(*((t.wall_s, t.cpu_s) for t in each), strict=True))
        print(f"{name:34}{wall_s * 1e3:6.0f} ms{cpu_s * 1e3:6.0f} ms{cpu_s / base_s:14.1f}")
        figures[name] = {
            "wall_ms": round(wall_s * 1e3),
            "cpu_ms": round(cpu_s * 1e3),
            "ratio": round(cpu_s / base_s, 2),
        }
    history.append("startup", figures)


if __name__ == "__main__":
    main()
