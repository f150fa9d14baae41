"""The simulated server as a process: `python -m slobench.engine.server`.

Reads one JSON line on stdin, {"engine": {…}, "host": "127.0.0.1", "port": 0, "model": "sim", "log": null}, of which
every key may be left out; prints {"port": N} when it listens; ends when stdin closes or on SIGTERM.
`log`: a CSV file with one line a request, id,recv_ns,first_ns,last_ns,tokens,status (done|closed): when its last byte
was read, and when its first and last token were given to the kernel, on CLOCK_MONOTONIC.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, TextIO

import orjson
from pydantic import Field, ValidationError

from slobench import open_files
from slobench.config.base import Model
from slobench.config.engine import Engine
from slobench.engine.exposition import ServerMetrics
from slobench.engine.front import Front
from slobench.engine.http import HttpConnection
from slobench.engine.model import EngineCore
from slobench.engine.serving import Serving

_BACKLOG = 4096


class Order(Model):
    """What to serve, and where."""

    engine: Engine = Engine()
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9._/-]+$")] = "sim"
    log: str | None = None


async def serve(order: Order, stop: asyncio.Event, out: TextIO, log: TextIO | None = None) -> None:
    """Serve until `stop`; the port is written to `out`. OSError where it cannot listen."""
    loop = asyncio.get_running_loop()
    core = EngineCore(order.engine)
    metrics = ServerMetrics(order.model)
    connections: set[HttpConnection] = set()
    serving = Serving(core, metrics, loop, log)
    front = Front(core, serving, metrics)
    try:
        server = await loop.create_server(
            lambda: HttpConnection(front, connections), order.host, order.port, backlog=_BACKLOG
        )
        out.write(orjson.dumps({"port": server.sockets[0].getsockname()[1]}).decode() + "\n")
        out.flush()
        await stop.wait()
        server.close()
        for connection in list(connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # what was still in progress reaches the log
    finally:
        serving.close()


async def _run(order: Order, log: TextIO | None) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which may still drain

    def stdin_readable() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            loop.remove_reader(sys.stdin.fileno())
            stop.set()

    loop.add_reader(sys.stdin.fileno(), stdin_readable)
    await serve(order, stop, sys.stdout, log)


def main() -> int:
    """Run the server; return the exit code of the process."""
    open_files.raise_limit()
    open_files.make_room()
    try:
        order = Order.model_validate_json(_first_line())
    except ValidationError as error:
        sys.stderr.write(f"cannot read the order on stdin: {error}\n")
        return 2
    gc.collect()
    gc.freeze()
    try:
        with Path(order.log).open("w", encoding="utf-8") if order.log else contextlib.nullcontext() as log:
            asyncio.run(_run(order, log))
    except OSError as error:
        sys.stderr.write(f"cannot serve on {order.host}:{order.port}: {error}\n")
        return 1
    return 0


def _first_line() -> bytes:
    """Read one line and not a byte more: the loop watches the rest of stdin."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(sys.stdin.fileno(), 1)
        if not byte:
            break
        line += byte
    return line


if __name__ == "__main__":
    sys.exit(main())
