"""The far side of a worker on another host: holds its process and its files there, for a Ray actor; imports no Ray.

Nothing passes per request: the worker appends to its spool and its counters as everywhere, and `poll` hands on what
has grown, in bounded pieces, a few times a second.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slobench import __version__
from slobench.errors import UsageError
from slobench.generate.pool import raise_fd_limit
from slobench.generate.process import end, events_of, spawn, tell

PIECE_BYTES = 4 * 2**20
"""What `poll` hands on of a spool at most."""

_FILES = re.compile(r"w\d+(-\w+-\d+\.arrow|\.stderr)")
_END_S = 3.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What a host says of itself. folder: where it keeps the worker's files; nice: what the worker runs at.

    network: two processes with the same one share their loopback interface.
    """

    version: str
    host: str
    folder: str
    nice: int
    fd_limit: int
    network: str


@dataclass(frozen=True, slots=True)
class Polled:
    """What is new. files: (name, offset, bytes); blocks: a worker's part of each counter file, by name.

    more: there is more in the files than this, and no event is newer than what they hold. closed: the spool was.
    """

    events: tuple[tuple[str, dict[str, Any]], ...]
    blocks: Mapping[str, bytes]
    files: tuple[tuple[str, int, bytes], ...]
    more: bool
    closed: bool


class RemoteWorker:
    """One generator process on the host that this runs on, and a folder of its own; both end with it."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="slobench-"))
        self._events: list[tuple[str, dict[str, Any]]] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._asked: frozenset[str] = frozenset()  # counter files, at the last poll
        self._worker = 0

    def begin(self, worker: int, connections: int) -> Facts | str:
        """Start the process. A text: why it cannot do its job here, for the user to mend."""
        try:
            fd_limit = raise_fd_limit(connections)  # what the process starts with
        except UsageError as error:
            return str(error)
        self._worker = worker
        self._process = process = spawn(self._folder / f"w{worker}.stderr")
        with suppress(PermissionError):  # Ray's processes run at nice 15, behind everything else on a busy host
            os.setpriority(os.PRIO_PROCESS, process.pid, 0)
        nice = os.getpriority(os.PRIO_PROCESS, process.pid)
        threading.Thread(target=self._listen, args=(process,), daemon=True).start()
        return Facts(__version__, socket.gethostname(), str(self._folder), nice, fd_limit, network())

    def clock_ns(self) -> int:
        """Return CLOCK_MONOTONIC of this host, in ns: the process's own."""
        return time.monotonic_ns()

    def put(self, name: str, data: bytes) -> None:
        """Append to a file of the folder."""
        with (self._folder / name).open("ab") as file:
            file.write(data)

    def write(self, line: bytes) -> int:
        """Write to the process, a part of a line or lines; return the time here when that was done."""
        assert self._process is not None
        tell(self._process, line)
        return self.clock_ns()

    def poll(self, have: Mapping[str, int], blocks: Mapping[str, tuple[int, int]]) -> Polled:
        """Hand on what is new. have: bytes of each file that are with the parent; blocks: (start, size) by file."""
        # In this order: what was said before has been counted and written by now.
        events = tuple(self._events)
        del self._events[: len(events)]
        counted = {name: self._part(name, start, size) for name, (start, size) in blocks.items()}
        closed = (self._folder / f"w{self._worker}.closed").exists()
        files, more = self._grown(have)
        # Of probes that have ended. What was never asked for is of one to come: it is put here before the parent asks.
        for name in self._asked - blocks.keys():
            (self._folder / name).unlink()
        self._asked = frozenset(blocks)
        return Polled(events, counted, files, more, closed)

    def kill(self) -> None:
        """Kill the process."""
        if self._process is not None:
            self._process.kill()

    def end(self) -> None:
        """End the process: it writes down what it has, and goes; killed where it does not."""
        if self._process is not None:
            end(self._process, _END_S)

    def close(self) -> None:
        """End the process, and remove its files."""
        self.end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        for said in events_of(process):
            self._events.append(said)

    def _grown(self, have: Mapping[str, int]) -> tuple[tuple[tuple[str, int, bytes], ...], bool]:
        """Return what the parent lacks of the files, and whether there is more than may be handed on at once."""
        # An end record on disk means that its chunks are there too: so their size is taken after that of the ends,
        # and they go first.
        names = sorted(path.name for path in self._folder.iterdir() if _FILES.fullmatch(path.name))
        sizes = {name: (self._folder / name).stat().st_size for name in reversed(names)}
        left, files = PIECE_BYTES, []
        for name in names:
            offset = have.get(name, 0)
            data = self._part(name, offset, min(left, sizes[name] - offset))
            left -= len(data)
            if data:
                files.append((name, offset, data))
        return tuple(files), not left

    def _part(self, name: str, start: int, size: int) -> bytes:
        if size <= 0:  # a file that was cut back after a failed write
            return b""
        with (self._folder / name).open("rb") as file:
            return os.pread(file.fileno(), size, start)


def network() -> str:
    """Name this process's network namespace among all hosts'; two boots of one host are two hosts."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/net').stat().st_ino}"
    except OSError:
        return f"{socket.gethostname()}/{os.getpid()}"
