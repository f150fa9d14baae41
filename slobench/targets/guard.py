"""The guard: a small process between us and a server, so that no server outlives what started it.

    us --stdin: one JSON order, then "stop", or end of file when we die--> guard --> server and its children
    us <--stdout: JSON events: started, line, ended, clean---------------- guard

Killing vLLM's API server alone leaves its engine, its workers and 420 MB in /dev/shm. So the guard is the
subreaper of the server's tree (orphans become its children, wherever their session is), and when we or the
server die it ends all of it: TERM, then KILL, then the segments. Imports the standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slobench.targets.shm import SegmentWatch, all_pids

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.5
_CLOSED_S = 2.0  # what a server gets that ends when its stdin does, before it is told by TERM
_LEFTOVER_S = 3.0  # what the server's children get after its own end
_KILL_S = 30.0  # a process that the kernel holds (a hung driver) survives KILL: do not wait for ever
_SPAWN_FAILED = 127


@dataclass(frozen=True, slots=True)
class Order:
    """What to run. `environ` is complete; secrets in it travel by pipe, never in an argument vector."""

    argv: list[str]
    environ: dict[str, str]
    log: str
    stop_s: float = 20.0
    stdin_line: str | None = None  # written to the server's stdin, which then stays open while it may run
    first_line: bool = False  # report the first line of its stdout
    nice: int = 0  # how far it yields to others
    parent: int | None = None  # die with this process; None: only the pipe tells


def prctl(option: int, value: int) -> None:
    """Set a process attribute; does nothing where the system has no prctl."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def descendants(root: int) -> list[int]:
    """Living processes below `root`, parents first; zombies are left out."""
    children: dict[int, list[int]] = {}
    for pid in all_pids():
        with contextlib.suppress(OSError, ValueError, IndexError):
            # the command in parentheses may itself hold spaces and parentheses
            state, parent = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state not in "ZX":
                children.setdefault(int(parent), []).append(pid)
    found: list[int] = []
    wave = [root]
    while wave:
        wave = [child for parent in wave for child in children.get(parent, ())]
        found += wave
    return found


def marked(mark: str) -> list[int]:
    """Return the living processes that were started with `mark` in their environment.

    It finds a server's tree where the guard itself was killed, and its orphans are nobody's.
    """
    found = []
    for pid in all_pids():
        with contextlib.suppress(OSError):  # others' processes do not show their environment; a zombie has none
            if mark.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
    return found


def send(pids: list[int], number: signal.Signals) -> None:
    """Signal each process that still exists."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


class Guard:
    """One server, from its start to the last of its children."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._watch = SegmentWatch()
        self._code: int | None = None
        self._stopping = False
        self._selector = selectors.DefaultSelector()
        self._line = b""
        self._log_fd = os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def run(self) -> None:
        """Start the server, watch it and us, and end with nothing of it left."""
        try:
            self._server = self._spawn()
        except OSError as error:
            self._say(event="ended", code=_SPAWN_FAILED, error=f"{self._order.argv[0]}: {error.strerror}")
            return
        self._say(event="started", pid=self._server.pid)
        while self._code is None and not self._stopping:
            self._wait(_POLL_S)
            self._reap()
            if self._watch.unknown():
                self._watch.look(self._tree())
        self._finish()

    def stop(self) -> None:
        """End the server; safe in a signal handler."""
        self._stopping = True

    def _spawn(self) -> subprocess.Popen[bytes]:
        order = self._order

        def before_exec() -> None:  # runs in the child of a process with one thread
            for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if order.nice:
                os.nice(order.nice)
                # Under autogroups a session is scheduled as one: only the group's own nice value counts outside it.
                with contextlib.suppress(OSError):
                    Path("/proc/self/autogroup").write_text(str(order.nice))

        server = subprocess.Popen(
            order.argv,
            env=order.environ,
            stdin=subprocess.DEVNULL if order.stdin_line is None else subprocess.PIPE,
            stdout=subprocess.PIPE if order.first_line else self._log_fd,
            stderr=self._log_fd,
            start_new_session=True,
            preexec_fn=before_exec,  # noqa: PLW1509
        )
        if server.stdin is not None and order.stdin_line is not None:
            with contextlib.suppress(BrokenPipeError):
                server.stdin.write(order.stdin_line.encode() + b"\n")
                server.stdin.flush()
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ, self._on_order)
        if server.stdout is not None:
            self._selector.register(server.stdout.fileno(), selectors.EVENT_READ, self._on_output)
        if sys.platform == "linux":  # its end is readable at once; elsewhere at the next poll
            with contextlib.suppress(OSError):  # no pidfds here: the poll sees it half a second later
                self._selector.register(os.pidfd_open(server.pid), selectors.EVENT_READ, self._selector.unregister)
        return server

    def _wait(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            key.data(key.fd)

    def _on_order(self, fd: int) -> None:
        if not os.read(fd, 4096):  # end of file: those who started us are gone
            self._selector.unregister(fd)
        self._stopping = True

    def _on_output(self, fd: int) -> None:
        data = os.read(fd, 65536)
        if not data:
            self._selector.unregister(fd)
        elif self._order.first_line and b"\n" not in self._line:
            self._line += data
            if b"\n" in self._line:
                line, _, data = self._line.partition(b"\n")
                self._say(event="line", text=line.decode(errors="replace"))
                self._log(data)
        else:
            self._log(data)

    def _log(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # a full disk must not end the server
            os.write(self._log_fd, data)

    def _reap(self) -> bool:
        """Collect whatever ended; whether anything of the tree is left.

        As subreaper every orphan of the tree is our child, so "no child" means that nothing is left. The states
        in /proc do not: a process whose first thread has ended shows as a zombie while others still run.
        """
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._server.pid:
                self._code = os.waitstatus_to_exitcode(status)
                self._say(event="ended", code=self._code)

    def _tree(self) -> list[int]:
        if Path("/proc/self/stat").exists():
            return descendants(os.getpid())
        return [self._server.pid] if self._code is None else []

    def _finish(self) -> None:
        self._watch.look(self._tree())
        if self._server.stdin is not None:
            with contextlib.suppress(OSError):
                self._server.stdin.close()
            self._until_ended(_CLOSED_S)
        if self._code is None:  # alone first: a server that shuts down in order tells its own children
            send([self._server.pid], signal.SIGTERM)
            self._until_ended(self._order.stop_s)
        killed = self._tree()
        send(killed, signal.SIGTERM)
        self._until_gone(_LEFTOVER_S)
        deadline = time.monotonic() + _KILL_S
        while self._reap() and time.monotonic() < deadline:
            send(self._tree(), signal.SIGKILL)
            self._until_gone(1.0)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._server.pid, signal.SIGKILL)  # all there is where there is no /proc
        self._say(event="clean", left=len(killed), segments=self._watch.remove())

    def _until_ended(self, limit_s: float) -> None:
        self._until(lambda: self._reap() and self._code is None, limit_s)

    def _until_gone(self, limit_s: float) -> None:
        self._until(self._reap, limit_s)

    def _until(self, goes_on: Callable[[], bool], limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        pause_s = 0.01
        while goes_on() and time.monotonic() < deadline:
            self._wait(pause_s)
            pause_s = min(2 * pause_s, 0.2)

    def _say(self, **event: Any) -> None:
        with contextlib.suppress(OSError):  # those who started us may be gone
            os.write(sys.stdout.fileno(), json.dumps(event).encode() + b"\n")


def main() -> None:
    """Read the order from stdin and carry it out."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as pipe:
        order = Order(**json.loads(pipe.readline()))  # unbuffered: the next line must stay in the pipe
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    if order.parent is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != order.parent:  # it died before we asked to be told
            return
    guard = Guard(order)
    signal.signal(signal.SIGTERM, lambda *_: guard.stop())
    guard.run()


if __name__ == "__main__":
    main()
