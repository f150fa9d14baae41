"""A server under its guard, seen from our side: started, watched, stopped. No event loop is needed."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from slobench.errors import TargetStartError
from slobench.targets.guard import Order, marked, send
from slobench.targets.shm import SegmentWatch

LOG_BYTES = 2**20  # of a log's end, to look for a cause in: an access log grows without bound
YIELDS = 10
"""Nice value of a real server beside the generator. On two cores vLLM's spinning processes starve a client of
their own priority for seconds (send lag p99 0.4-2.1 s; so 1-5 ms); with cores to spare it changes nothing."""
_TAIL_BYTES = 64 * 1024
_CLEAN_UP_S = 45.0  # more than the guard takes after the stop time: leftovers 3 s, KILL 30 s


@dataclass(frozen=True, slots=True)
class Command:
    """What to run, and how long its orderly end may take."""

    argv: Sequence[str]
    environ: Mapping[str, str | None]  # changes to ours; None: unset
    log: Path
    stop_ns: int = 20 * 10**9
    stdin_line: str | None = None
    first_line: bool = False
    nice: int = 0


class GuardedServer:
    """One server process, its guard and its log."""

    def __init__(self, command: Command) -> None:
        """Start guard and server. Raises TargetStartError where the program cannot be run."""
        self.log = command.log
        self.mark = f"SLOBENCH_SERVER={secrets.token_hex(8)}"
        """In the environment of every process of the server."""
        self.pid: int | None = None
        self.exit_code: int | None = None
        self.removed_segments: tuple[str, ...] = ()
        self._first_line: str | None = None
        self._error = ""
        self._stop_s = command.stop_ns / 1e9
        self._clean = False
        self._buffer = b""
        command.log.parent.mkdir(parents=True, exist_ok=True)
        self._log_start = command.log.stat().st_size if command.log.exists() else 0
        self._guard = subprocess.Popen(
            [sys.executable, "-m", "slobench.targets.guard"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us alone: a run drains before its server goes
        )
        assert self._guard.stdin is not None
        assert self._guard.stdout is not None
        self._stdin, self._stdout = self._guard.stdin, self._guard.stdout
        self._stdin.write(json.dumps(asdict(_order(command, self.mark))).encode() + b"\n")
        self._stdin.flush()
        if not self._began():
            self.stop()
            raise TargetStartError(f"cannot start the server: {self._error or 'its guard ended at once'}")

    def alive(self) -> bool:
        """Whether the server process runs."""
        self._listen(0)
        return self.exit_code is None

    def first_line(self, timeout_s: float) -> str | None:
        """Return the first line of the server's output; None where it ended or said nothing in time."""
        deadline = time.monotonic() + timeout_s
        while self._first_line is None and self.exit_code is None and time.monotonic() < deadline:
            self._listen(0.2)
        return self._first_line

    def tail(self, lines: int = 15) -> str:
        """Return the last lines of what this server logged."""
        return "\n".join(self.logged(_TAIL_BYTES).splitlines()[-lines:])

    def logged(self, last_bytes: int | None = None) -> str:
        """Return what this server logged, or the end of it."""
        with contextlib.suppress(OSError), self.log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(self._log_start if last_bytes is None else max(self._log_start, size - last_bytes))
            return file.read().decode(errors="replace")
        return ""

    def stop(self) -> None:
        """End the server and all it started: TERM, wait, KILL, segments. Does nothing the second time."""
        if self._stdin.closed:
            return
        with contextlib.suppress(OSError):
            self._stdin.close()
        deadline = time.monotonic() + self._stop_s + _CLEAN_UP_S
        while not self._clean and self._listen(0.5) and time.monotonic() < deadline:
            pass
        if not self._clean:
            self._clean_up_ourselves()
        self._guard.kill()
        self._guard.wait()
        self._stdout.close()

    def _began(self) -> bool:
        while self.pid is None and self.exit_code is None:
            self._listen(10.0)
        return self.pid is not None

    def _listen(self, timeout_s: float) -> bool:
        """Take in what the guard says; False once it is gone."""
        if self._stdout.closed or not select.select([self._stdout], [], [], timeout_s)[0]:
            return not self._stdout.closed
        data = os.read(self._stdout.fileno(), 65536)
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._on_event(json.loads(line))
        if not data and self.exit_code is None:
            self.exit_code = -signal.SIGKILL  # the guard was killed, and its server with it
        return bool(data)

    def _on_event(self, event: dict[str, object]) -> None:
        match event:
            case {"event": "started", "pid": int(pid)}:
                self.pid = pid
            case {"event": "line", "text": str(text)}:
                self._first_line = text
            case {"event": "ended", "code": int(code)}:
                self.exit_code = code
                self._error = str(event.get("error", ""))
            case {"event": "clean", "segments": list(names)}:
                self._clean = True
                self.removed_segments = tuple(map(str, names))

    def _clean_up_ourselves(self) -> None:
        """Do what the guard would have done, where it was killed."""
        watch = SegmentWatch()
        for _ in range(100):
            if not (left := marked(self.mark)):
                break
            watch.look(left)
            send(left, signal.SIGKILL)
            time.sleep(0.05)
        self.removed_segments = tuple(watch.remove())


def _order(command: Command, mark: str) -> Order:
    name, _, value = mark.partition("=")
    environ = {**os.environ, **command.environ, name: value}
    return Order(
        argv=[str(part) for part in command.argv],
        environ={name: value for name, value in environ.items() if value is not None},
        log=str(command.log.absolute()),
        stop_s=command.stop_ns / 1e9,
        stdin_line=command.stdin_line,
        first_line=command.first_line,
        nice=command.nice,
        # The death signal follows the thread that started the guard: only the main one lasts as long as we do.
        parent=os.getpid() if threading.current_thread() is threading.main_thread() else None,
    )
