"""A proxy between client and server that spoils what passes: buffers replies, closes connections, edits both ways."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

Edit = Callable[[bytes], bytes]


def unchanged(part: bytes) -> bytes:
    """Let it pass."""
    return part


def asking(**changes: Any) -> Edit:
    """Change fields of a request's JSON body."""
    return lambda body: json.dumps(json.loads(body) | changes).encode()


def counting(**changes: Any) -> Edit:
    """Change fields of the usage that ends a reply, in whole chunks of its stream."""

    def edit(chunk: bytes) -> bytes:
        lines = chunk.split(b"\n")
        for number, line in enumerate(lines):
            if line.startswith(b"data: {") and b'"usage":{' in line.replace(b" ", b""):
                event = json.loads(line[6:])
                event["usage"] |= changes
                lines[number] = b"data: " + json.dumps(event).encode()
        return b"\n".join(lines)

    return edit


@dataclass(eq=False)
class Proxy:
    """Passes requests on to `url` until the block ends, one connection to the server for each."""

    url: str
    whole: bool = False  # keep a reply until it is complete, then send it at once
    close: bool = False  # close the client's connection after each reply
    delay_s: float = 0.0  # keep a request as long before it is passed on
    request: Edit = unchanged
    reply: Edit = unchanged
    port: int = 0

    def __enter__(self) -> Self:
        self._loop, ready = asyncio.new_event_loop(), threading.Event()
        self._closing = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,))
        self._thread.start()
        assert ready.wait(30)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(30)

    @property
    def address(self) -> str:
        """What clients are told."""
        return f"http://127.0.0.1:{self.port}"

    def _serve(self, ready: threading.Event) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._main(ready))

    async def _main(self, ready: threading.Event) -> None:
        server = await asyncio.start_server(self._client, "127.0.0.1", 0, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._closing.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._exchange(reader, writer):
                pass
        writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        first, fields = await _head(reader)
        body = await reader.readexactly(int(fields.pop("content-length", "0")))
        body = self.request(body) if body else body
        await asyncio.sleep(self.delay_s)
        aim = urlsplit(self.url)
        from_server, to_server = await asyncio.open_connection(aim.hostname, aim.port)
        fields |= {"content-length": str(len(body)), "connection": "close"}
        to_server.write(_worded(first, fields) + body)
        try:
            first, fields = await _head(from_server)
            fields["connection"] = "close" if self.close else "keep-alive"
            if "content-length" in fields:
                held = [_worded(first, fields) + await from_server.readexactly(int(fields["content-length"]))]
            else:
                held = [_worded(first, fields)]
                while part := await _chunk(from_server):
                    changed = self.reply(part)
                    held.append(b"%x\r\n%b\r\n" % (len(changed), changed))
                    if not self.whole:
                        writer.writelines(held)
                        held = []
                held.append(b"0\r\n\r\n")
            writer.writelines(held)
            await writer.drain()
        finally:
            to_server.close()
        return not self.close


async def _head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    return first, {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}


def _worded(first: str, fields: dict[str, str]) -> bytes:
    return "\r\n".join([first, *(f"{name}: {value}" for name, value in fields.items()), "", ""]).encode()


async def _chunk(reader: asyncio.StreamReader) -> bytes:
    size = int((await reader.readline()).split(b";")[0], 16)
    return (await reader.readexactly(size + 2))[:-2]
