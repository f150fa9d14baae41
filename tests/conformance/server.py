"""A server that plays scripts: raw bytes, pauses and resets over real sockets, and a log of when it sent what."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Send:
    """Write these bytes, and wait until the kernel has them."""

    data: bytes


@dataclass(frozen=True)
class Sleep:
    seconds: float


@dataclass(frozen=True)
class Close:
    """Close in order (FIN)."""


@dataclass(frozen=True)
class Reset:
    """Close with RST; what was sent before has been read by then only if a Sleep precedes."""


Step = Send | Sleep | Close | Reset
Script = Sequence[Step]


@dataclass
class Request:
    """One request as it came in."""

    head: bytes
    body: bytes
    connection: int  # 0, 1, … in order of acceptance
    received_ns: int
    sent_ns: list[int] = field(default_factory=list)  # before each Send of its script

    def header(self, name: str) -> str | None:
        """Return the value of a header; None where it is missing."""
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.strip().lower() == name:
                return value.strip()
        return None


class ScriptedServer:
    """Plays scripts[k] for the k-th request (the last one for all after), each on whatever connection it came."""

    def __init__(self, scripts: Sequence[Script], tls: ssl.SSLContext | None = None, *, silent: bool = False) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.lost = 0  # connections that the client closed or reset while a script was playing
        self._scripts = scripts
        self._tls = tls
        self._silent = silent  # accept, and never say anything
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> ScriptedServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        connection, self.connections = self.connections, self.connections + 1
        try:
            if self._silent:
                await asyncio.sleep(60)
            while await self._one(reader, writer, connection):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        request = Request(head, b"", connection, time.monotonic_ns())
        request.body = await reader.readexactly(int(request.header("content-length") or 0))
        number = len(self.requests)
        self.requests.append(request)
        for step in self._scripts[min(number, len(self._scripts) - 1)]:
            if isinstance(step, Sleep):
                await asyncio.sleep(step.seconds)
            elif isinstance(step, Send):
                request.sent_ns.append(time.monotonic_ns())
                writer.write(step.data)
                try:
                    await writer.drain()
                except ConnectionError:
                    self.lost += 1
                    raise
            else:
                if isinstance(step, Reset):
                    linger = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    writer.transport.abort()
                return False
        return True
