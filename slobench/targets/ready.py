"""From a command to a server that answers: a port, the start, the wait with the process watched."""

from __future__ import annotations

import errno
import http.client
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import slobench
from slobench.errors import TargetStartError
from slobench.targets.base import Launch
from slobench.targets.failures import explain
from slobench.targets.http import Server
from slobench.targets.process import LOG_BYTES, Command, GuardedServer
from slobench.units import format_s

T = TypeVar("T")
HOST = "127.0.0.1"
_POLL_S = 0.2
_SAY_S = 1.0
_LOG_NOISE = re.compile(r"^(\(\w+[^)]*\) )?(INFO|WARNING|ERROR) [0-9-]+ [0-9:]+ (\[[^\]]*\] )?")


@dataclass(frozen=True, slots=True)
class Readiness:
    """When a server counts as ready, and how long that may take."""

    name: str
    path: str
    limit_ns: int


def port(wanted: int) -> int:
    """Return the port to serve on: the one wanted, or a free one for 0.

    Raises TargetStartError where the wanted one is taken: readiness would be asked of whoever has it.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            why = "port in use" if error.errno == errno.EADDRINUSE else "not allowed"
            raise TargetStartError(
                f"cannot serve on port {wanted}: {why}\n"
                "  advice   stop what listens there, or set the target's `port: 0` for a free one"
            ) from None
        number: int = probe.getsockname()[1]
        return number


def located(path: str) -> Path | None:
    """Find a file or folder named in a target: as it stands, below the current folder, or below slobench's checkout."""
    for base in (Path.cwd(), Path(slobench.__file__).parents[1]):
        candidate = base / Path(path).expanduser()
        if candidate.exists():
            return candidate
    return None


def started(command: Command, readiness: Readiness, ask: Server, launch: Launch) -> GuardedServer:
    """Start a server and wait until it is ready; it is stopped again where that fails.

    Raises TargetStartError with the cause and the end of its log.
    """
    server = GuardedServer(command)
    try:
        _wait(server, readiness, ask, launch)
    except BaseException:
        server.stop()
        raise
    return server


def _wait(server: GuardedServer, readiness: Readiness, ask: Server, launch: Launch) -> None:
    start = time.monotonic()
    said = start
    what = f"{readiness.name} did not start"
    while not _answers(ask, readiness.path):
        now = time.monotonic()
        if not server.alive():
            raise TargetStartError(_failed(server, what))
        if now - start > readiness.limit_ns / 1e9:
            limit = format_s(readiness.limit_ns / 1e9)
            raise TargetStartError(_failed(server, f"{what}: {ask.url}{readiness.path} not ready after {limit}"))
        if now - said >= _SAY_S:
            said = now
            launch.progress(f"{readiness.name} starts: {now - start:.0f} s  {_last_line(server)}")
        time.sleep(_POLL_S)
    if not server.alive():  # then whoever answered is not ours
        raise TargetStartError(_failed(server, what))


def _answers(ask: Server, path: str) -> bool:
    try:
        return ask.get(path, timeout_s=5.0).status == 200
    except (OSError, http.client.HTTPException):
        return False


def _last_line(server: GuardedServer) -> str:
    lines = [_LOG_NOISE.sub("", line).strip() for line in server.tail(5).splitlines()]
    return next((line for line in reversed(lines) if line), "")[:100]


def _failed(server: GuardedServer, what: str) -> str:
    # Its children may still be writing why: the log is complete when the guard has ended them all.
    code = server.exit_code
    server.stop()
    return explain(what, server.logged(LOG_BYTES), code, path=str(server.log), tail=server.tail())


def asked(server: GuardedServer, name: str, question: Callable[[], T]) -> T:
    """Return the answer of a server that is ready; it is stopped where the question fails.

    Raises what `question` raises, or TargetStartError with the log where the server has died meanwhile.
    """
    try:
        return question()
    except TargetStartError:
        if server.alive():
            server.stop()
            raise
        raise TargetStartError(_failed(server, f"{name} ended during its first request")) from None
    except BaseException:
        server.stop()
        raise
