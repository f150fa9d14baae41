"""HTTP/1.x as far as the simulated server needs it: requests in, replies whole or chunk by chunk out."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from http import HTTPStatus
from typing import NamedTuple, Protocol, cast

import httptools

MAX_BODY_BYTES = 64 << 20
_MAX_UNSENT_BYTES = 16 << 20  # a client that does not read is dropped here


class Message(NamedTuple):
    """One request, complete. `received_ns`: when its last byte was read, on CLOCK_MONOTONIC."""

    method: str
    path: str
    request_id: str
    body: bytes
    received_ns: int
    keep_alive: bool
    chunked: bool  # the client understands chunked replies (HTTP/1.1)


class Handler(Protocol):
    """Answers requests."""

    def handle(self, connection: HttpConnection, message: Message) -> None:
        """Answer now, or later through `connection`."""
        ...

    def lost(self, connection: HttpConnection) -> None:
        """Forget the reply in progress: its client is gone."""
        ...

    def done(self, connection: HttpConnection) -> None:
        """Forget the reply in progress: it is written."""
        ...


class HttpConnection(asyncio.Protocol):
    """One client: its requests are answered in turn."""

    def __init__(self, handler: Handler, connections: set[HttpConnection]) -> None:
        self._handler = handler
        self._connections = connections
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Message] = deque()
        self._current: Message | None = None
        self._url = b""
        self._request_id = ""
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._received_ns = 0
        self.transport: asyncio.Transport

    # --- the event loop calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=_MAX_UNSENT_BYTES)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """End."""
        self._connections.discard(self)
        self._waiting.clear()
        if self._current is not None:
            self._current = None
            self._handler.lost(self)

    def data_received(self, data: bytes) -> None:
        """Take one read."""
        self._received_ns = time.monotonic_ns()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self._current is None:
                self._current = Message("", "", "", b"", self._received_ns, keep_alive=False, chunked=True)
                self.respond(400, f"not HTTP/1.x: {error}\n".encode(), "text/plain")
            self.transport.close()

    def pause_writing(self) -> None:
        """Drop a client that lets its reply pile up."""
        self.transport.abort()

    # --- the parser calls these

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._url, self._request_id, self._body, self._body_bytes = b"", "", [], 0

    def on_url(self, url: bytes) -> None:
        """Take a part of the path."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header."""
        lower = name.lower()
        if lower == b"x-request-id":
            self._request_id = value.decode("latin-1")
        elif lower == b"expect" and value.lower() == b"100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._body_bytes += len(body)
        if self._body_bytes <= MAX_BODY_BYTES:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """Answer the request, or keep it until those before it are answered."""
        message = Message(
            self._parser.get_method().decode(),
            self._url.decode("latin-1").partition("?")[0],
            self._request_id,
            b"".join(self._body),
            self._received_ns,
            self._parser.should_keep_alive(),
            self._parser.get_http_version() == "1.1",
        )
        self._body = []
        if self._current is not None:
            self._waiting.append(message)
            return
        self._take(message, too_large=self._body_bytes > MAX_BODY_BYTES)

    # --- the handler calls these

    @property
    def gone(self) -> bool:
        """Whether nobody reads any more."""
        return self.transport.is_closing()

    @property
    def takes_chunks(self) -> bool:
        """Whether the client of the request in progress understands chunked replies."""
        return self._current is not None and self._current.chunked

    def respond(self, status: int, body: bytes, content_type: str = "application/json") -> None:
        """Answer whole."""
        assert self._current is not None
        self.transport.write(
            b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\ncontent-length: %d\r\n%s\r\n%s"
            % (
                status,
                HTTPStatus(status).phrase.encode(),
                content_type.encode(),
                len(body),
                b"" if self._current.keep_alive else b"connection: close\r\n",
                body,
            )
        )
        self.done()

    def stream_head(self) -> bytes:
        """Return the head of a reply that comes in chunks (in plain bytes to an HTTP/1.0 client)."""
        assert self._current is not None
        return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n%s%s\r\n" % (
            b"transfer-encoding: chunked\r\n" if self._current.chunked else b"",
            b"" if self._current.keep_alive and self._current.chunked else b"connection: close\r\n",
        )

    def done(self) -> None:
        """Go on to the next request, once the reply is written."""
        message, self._current = self._current, None
        assert message is not None
        self._handler.done(self)
        if not (message.keep_alive and message.chunked):
            self.transport.close()
        elif self._waiting:
            self._take(self._waiting.popleft())

    def _take(self, message: Message, *, too_large: bool = False) -> None:
        self._current = message
        if too_large:
            self.respond(413, b'{"error":{"message":"the body is too large","code":413}}')
        else:
            self._handler.handle(self, message)
