"""A small OpenAI-like server that is told when to reply and remembers what it saw; in a thread of the test."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

Answer = Callable[["MockServer", "Seen"], Awaitable[int]]
"""Waits as long as the reply is to take; returns the HTTP status, 0 to reset the connection."""


@dataclass(eq=False)
class Seen:
    """One request as the server saw it; times on CLOCK_MONOTONIC, 0 = not yet."""

    index: int
    connection: int
    prompt_tokens: int
    max_tokens: int
    came_ns: int
    replied_ns: int = 0  # just before the last byte of the reply was given to the kernel
    closed: bool = False


async def at_once(_server: MockServer, _seen: Seen) -> int:
    """Reply without waiting."""
    return 200


def after(seconds: float) -> Answer:
    """Reply after a while."""

    async def answer(_server: MockServer, _seen: Seen) -> int:
        await asyncio.sleep(seconds)
        return 200

    return answer


async def never(server: MockServer, seen: Seen) -> int:
    """Reply only when the client is gone."""
    await server.closing.wait()
    return 0


def with_status(status: int) -> Answer:
    """Fail at once; 0: reset the connection."""

    async def answer(_server: MockServer, _seen: Seen) -> int:
        return status

    return answer


def once_there_are(n: int) -> Answer:
    """Hold every reply until n requests are in flight at one time."""
    arrived: list[asyncio.Event] = []

    async def answer(server: MockServer, _seen: Seen) -> int:
        if not arrived:
            arrived.append(asyncio.Event())
        if server.in_flight >= n:
            arrived[0].set()
        await arrived[0].wait()
        return 200

    return answer


def one_at_a_time(service_s: float) -> Answer:
    """One permit: a reply takes as long once it is its turn, first come, first served."""
    permits: list[asyncio.Lock] = []

    async def answer(_server: MockServer, _seen: Seen) -> int:
        if not permits:
            permits.append(asyncio.Lock())
        async with permits[0]:
            await asyncio.sleep(service_s)
        return 200

    return answer


@dataclass(eq=False)
class MockServer:
    """Serves until the block ends. `seen` grows by a request; read it once the requests have ended."""

    answer: Answer
    gap_s: Callable[[Seen, int], float] | None = None  # before token k, after the first byte; None: all in one write
    seen: list[Seen] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    connections: int = 0
    port: int = 0
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,))
        self._thread.start()
        assert ready.wait(30)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and reset every connection; once is enough."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self.closing.set)
            self._thread.join(30)

    def _serve(self, ready: threading.Event) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._main(ready))

    async def _main(self, ready: threading.Event) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self.closing.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._exchange(number, reader, writer):
                pass
        writer.transport.abort()

    async def _exchange(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        lines = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        body = await reader.readexactly(int(lines.get("content-length", 0)))
        if head.startswith("get"):
            known = " /v1/models " in head
            _reply(writer, 200 if known else 404, "application/json", b'{"data": [{"id": "tiny"}]}' if known else b"{}")
            return True
        asked = json.loads(body)
        index = int(lines["x-request-id"].rpartition("-")[2])
        seen = Seen(index, number, len(asked["prompt"]), asked["max_tokens"], time.monotonic_ns())
        self.seen.append(seen)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        gone = asyncio.ensure_future(reader.read(1))
        answer = asyncio.ensure_future(self.answer(self, seen))
        try:
            await asyncio.wait({gone, answer}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                seen.closed = True
                return False
            status = answer.result()
        finally:
            self.in_flight -= 1
            answer.cancel()
            gone.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await gone
        seen.replied_ns = time.monotonic_ns()
        if status == 200 and self.gap_s is not None:
            await _reply_slowly(writer, asked["max_tokens"], lambda k: self.gap_s(seen, k))  # type: ignore[misc]
        elif status == 200:
            _reply(writer, status, "text/event-stream", stream(asked["max_tokens"]))
        elif status:
            _reply(writer, status, "application/json", b'{"error": {"message": "out of order"}}')
        return status != 0


def _reply(writer: asyncio.StreamWriter, status: int, kind: str, body: bytes) -> None:
    head = f"HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)


async def _reply_slowly(writer: asyncio.StreamWriter, n: int, gap_s: Callable[[int], float]) -> None:
    """A streamed completion, token by token."""
    pieces = [piece + b"\n\n" for piece in stream(n).split(b"\n\n")[:-1]]
    head = f"HTTP/1.1 200 x\r\ncontent-type: text/event-stream\r\ncontent-length: {sum(map(len, pieces))}\r\n\r\n"
    writer.write(head.encode())
    for k, piece in enumerate(pieces):
        if k < n:
            await asyncio.sleep(gap_s(k))
        writer.write(piece)


def stream(n: int) -> bytes:
    """A whole streamed completion of n tokens, one an event."""

    def event(value: Any) -> bytes:
        return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"

    last = [None] * (n - 1) + ["length"]
    tokens = [event({"choices": [{"index": 0, "text": " a", "finish_reason": reason}]}) for reason in last]
    usage = event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": n}})
    return b"".join([*tokens, usage, b"data: [DONE]\n\n"])
