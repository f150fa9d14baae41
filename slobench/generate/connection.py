"""One HTTP/1.1 connection: connect, TLS, write, and the reads that wait to be decoded.

Knows nothing of pools, timeouts or schedules; every method returns at once.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from typing import Any

import httptools

from slobench.generate.exchange import Exchange
from slobench.generate.opening import Opening
from slobench.generate.plain import PlainReader, Ready
from slobench.generate.stamps import Receiver
from slobench.generate.tls import TlsCodec
from slobench.records.schema import NULL
from slobench.wire.outcome import Ended
from slobench.wire.reply import Reply

Address = tuple[int, Any]  # family, sockaddr


class Connection:
    """A socket, its TLS state, and the exchange that is on it.

    `pending` holds the reads (bytes, time, lag) that wait for `decode`, in order; b"" is EOF,
    and then `failure` may say why.
    """

    __slots__ = (
        "_began", "_body_until_close", "_chunked", "_complete", "_content_type", "_first_read", "_in_chunk",
        "_keep_alive", "_line_ended", "_opening", "_out", "_parser", "_previous_ns", "_raw_prefix", "_receiver",
        "_request", "_tcp_up", "_tls", "address", "connecting", "decode_queued", "exchange", "failure", "fd",
        "is_plain", "last_read_ns", "pending", "served", "session", "sock", "wants_write",
    )  # fmt: skip

    def __init__(self, address: Address, receiver: Receiver, tls: TlsCodec | None) -> None:
        self.address = address
        self.sock = socket.socket(address[0], socket.SOCK_STREAM)
        self.sock.setblocking(False)
        self.fd = self.sock.fileno()
        self._receiver = receiver
        self._tls = tls
        self._tcp_up = False
        self.connecting = self.wants_write = True
        self.exchange: Exchange | None = None
        self.session: int | None = None
        self.served = 0  # exchanges begun on this connection
        self.pending: list[tuple[bytes, int, int]] = []
        self.decode_queued = False
        self.is_plain = False  # its reads are taken by a PlainReader
        self.failure = ""
        self.last_read_ns = NULL
        self._request: bytes | None = None
        self._out: list[memoryview] = []

    def connect(self) -> str:
        """Begin to connect; return why that failed at once, or ""."""
        try:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._receiver.prepare(self.sock)
            code = self.sock.connect_ex(self.address[1])
        except OSError as error:
            return f"connect: {error.strerror or error}"
        return "" if code in (0, errno.EINPROGRESS) else f"connect: {errno.errorcode.get(code, code)}"

    def begin(self, exchange: Exchange, request: bytes) -> None:
        """Take an exchange; its request is written by `advance` as soon as the connection is up."""
        self.exchange = exchange
        self.served += 1
        self.last_read_ns = self._previous_ns = NULL
        self._parser: Any = None  # made for the first read that needs it
        self._complete = self._keep_alive = self._chunked = self._in_chunk = self._line_ended = False
        self._body_until_close = True
        self._content_type, self._first_read = "", b""
        self._opening: Opening | None = None  # which the reply may have
        self._began = False  # and has: its head was taken without the parser
        self._raw_prefix: bytes | None = None  # and so was its first event: what is to be made known to the reply
        self._request = request

    def advance(self, now_ns: int) -> str:
        """Go on with connecting, the handshake and writing; return why it failed, or ""."""
        try:
            if self.connecting and not self._come_up():
                return ""
            self._write(now_ns)
        except ssl.SSLError as error:
            return f"tls: {getattr(error, 'verify_message', '') or error.reason or error}"
        except OSError as error:
            return f"{'connect' if self.connecting else 'write'}: {error.strerror or error}"
        return ""

    def _come_up(self) -> bool:
        if not self._tcp_up:
            code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, errno.errorcode.get(code, str(code)))
            self._tcp_up = True
        tls = self._tls
        if tls is not None and not tls.ready:
            tls.handshake()
            self._queue(tls.outgoing())
            if not tls.ready:
                self._flush()
                return False
        self.connecting = False
        return True

    def _queue(self, data: bytes) -> None:
        if data:
            self._out.append(memoryview(data))

    def _write(self, now_ns: int) -> None:
        exchange, request = self.exchange, self._request
        if exchange is not None and request is not None:
            self._request = None
            exchange.connected_ns = now_ns
            exchange.sent_ns = now_ns
            self._previous_ns = now_ns
            if self._tls is None:
                self._out.append(memoryview(request))
            else:
                self._tls.encrypt(request)
                self._queue(self._tls.outgoing())
        self._flush()

    def _flush(self) -> None:
        out = self._out
        while out:
            try:
                sent = self.sock.send(out[0])
            except BlockingIOError:
                break
            if sent == len(out[0]):
                del out[0]
            else:
                out[0] = out[0][sent:]
        self.wants_write = bool(out)

    def receive(self) -> int:
        """Read once into `pending`; return how many bytes wait more than before."""
        try:
            data, t_ns, lag_ns = self._receiver.read(self.sock)
            if self._tls is not None and data:
                data = self._tls.decrypt(data)
                self._queue(self._tls.outgoing())
                if not data:
                    return 0  # part of a handshake or a record
        except BlockingIOError:
            return 0
        except (OSError, ssl.SSLError) as error:
            now_ns = self._receiver.now_ns()
            data, t_ns, lag_ns = b"", now_ns, 0
            self.failure = f"{'tls' if isinstance(error, ssl.SSLError) else 'read'}: {error.strerror or error}"
        self.last_read_ns = t_ns
        self.pending.append((data, t_ns, lag_ns))
        return len(data)

    def decode(self, data: bytes, t_ns: int, lag_ns: int) -> Ended | None:
        """Feed a read that was pending to the exchange's reply; return how the reply ended, or None."""
        exchange = self.exchange
        assert exchange is not None
        if not data:
            if self.failure:
                return Ended.RESET
            closed_in_order = self._body_until_close and exchange.headers_ns != NULL
            return Ended.COMPLETE if closed_in_order else Ended.CLOSED
        exchange.reads += 1
        t_ns = max(t_ns, self._previous_ns)  # bytes of a stream come in their order, and after the request
        if exchange.reads == 1:
            self._first_read = data
        exchange.receive_lag_max_ns = max(exchange.receive_lag_max_ns, lag_ns)
        body = self._after_head(data)
        if not (self._began and self._parser is None and self._take_usual(exchange.reply, body)):
            try:
                self._parse(body)
            except httptools.HttpParserError as error:
                self.failure = f"http: {error}"
                if not self._complete:  # else what follows the reply is noise, and the connection not used again
                    return Ended.MALFORMED
        if exchange.headers_ns == NULL and exchange.reply.http_status != NULL:
            exchange.headers_ns = t_ns
        exchange.reply.stamp(t_ns, lag_ns, self._previous_ns)
        self._previous_ns = t_ns
        self._line_ended = data.endswith(b"\r\n")
        return Ended.COMPLETE if self._complete else None

    def _after_head(self, data: bytes) -> bytes:
        """What follows the head, where this is the first read and begins with the one that may come; else all of it."""
        opening, exchange = self._opening, self.exchange
        if opening is None or exchange is None or exchange.reads != 1 or not data.startswith(opening.head):
            return data
        self._take_head(exchange.reply, opening)
        return data[len(opening.head) :]

    def _take_head(self, reply: Reply, opening: Opening) -> None:
        self._began, self._body_until_close, self._content_type = True, False, opening.content_type
        reply.on_headers(200, opening.content_type)
        self._first_read, self._line_ended = opening.head, True

    def _parse(self, data: bytes) -> None:
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)
            if self._began and self._opening is not None:
                self._parser.feed_data(self._opening.head)
                self._resume()
        self._parser.feed_data(data)

    def _resume(self) -> None:
        """Give the reply the form of the events that were taken from its beginning on."""
        if self._raw_prefix is not None and self._opening is not None and self.exchange is not None:
            self.exchange.reply.go_on(self._opening.shape(self._raw_prefix))
            self._raw_prefix = None

    def _take_usual(self, reply: Reply, data: bytes) -> bool:
        """Take a read that follows a usual beginning and holds whole events in forms that are known; else leave it."""
        found = None if self._opening is None else self._opening.read_end(data)
        if found is None or self._opening is None:
            return False
        events, self._complete = found
        self._keep_alive = self._opening.keep_alive
        reply.take_events(events)
        return True

    def begin_plain(self, reader: PlainReader) -> Opening | None:
        """Leave its reads to the reader, where the reply stands between two events and two chunks.

        Return how this reply began, the first time, where others may begin like that.
        """
        exchange = self.exchange
        reopened = self._opening is not None and self.open_plain(reader, self._opening)
        if exchange is None or reopened or not self._is_quiet:
            return None
        self._resume()
        # A chunk's head that is cut ends in no line end, and a whole one has been told by on_chunk_header.
        between = self._line_ended and not self._in_chunk if self._chunked else self._body_until_close
        shape = exchange.reply.plain_shape
        if not between or shape is None or exchange.reply.http_status == NULL:
            return None
        reader.begin(self.sock, exchange.index, shape, self._chunked, exchange.reply.sink)
        self.is_plain = True
        first_read, self._first_read = self._first_read, b""
        if not first_read or not self._chunked:
            return None
        return Opening.of(first_read, shape, self._content_type, keep_alive=self._keep_alive)

    def open_plain(self, reader: PlainReader, opening: Opening) -> bool:
        """Leave its reads to the reader where the request is written and no token was read; whether that is so."""
        exchange = self.exchange
        if exchange is None or exchange.sent_ns == NULL or self.is_plain or not self._is_quiet:
            return False
        reply, past_head = exchange.reply, self._began and self._parser is None
        if not reply.stream or reply.first_token_ns != NULL or not (past_head or not exchange.reads):
            return False
        reader.open(self.sock, exchange.index, opening, self._previous_ns, reply.sink, not past_head)
        self._opening = opening
        self.is_plain = True
        return True

    @property
    def _is_quiet(self) -> bool:
        return not (self.pending or self.wants_write or self._complete or self._tls is not None or self.failure)

    def end_plain(self, reader: PlainReader) -> None:
        """Take its reads back, and count what was taken of them."""
        taken, exchange = reader.end(self.fd), self.exchange
        self.is_plain = False
        if exchange is None or not taken.reads:
            return
        exchange.reads += taken.reads
        exchange.receive_lag_max_ns = max(exchange.receive_lag_max_ns, taken.lag_max_ns)
        opening, reply = self._opening, exchange.reply
        if opening is not None and taken.headers_ns != NULL:
            exchange.headers_ns = taken.headers_ns
            self._take_head(reply, opening)
        if taken.raw_prefix is not None:
            self._chunked = True
            self._raw_prefix, self._first_read = taken.raw_prefix, b""
            reply.add_first(taken.first_ns, taken.first_tokens, taken.first_error_ns)
        if taken.events:
            reply.add_plain(taken.events, taken.tokens, taken.last_ns)
        self.last_read_ns = self._previous_ns = taken.last_ns

    def hand_up(self, ready: Ready) -> int:
        """Put a read that the reader could not take where `receive` puts its own; return its bytes."""
        data = ready.data or b""
        if ready.errno:
            self.failure = f"read: {os.strerror(ready.errno)}"
        self.last_read_ns = ready.t_ns
        self.pending.append((data, ready.t_ns, ready.lag_ns))
        return len(data)

    # httptools calls these from feed_data.
    def on_header(self, name: bytes, value: bytes) -> None:
        """One response header."""
        lower = name.lower()
        if lower == b"content-type":
            self._content_type = value.decode("latin-1")
        elif lower in (b"content-length", b"transfer-encoding"):
            self._body_until_close = False

    def on_headers_complete(self) -> None:
        """The head of the response is here; interim (1xx) ones are passed over."""
        status = self._parser.get_status_code()
        self._keep_alive = self._parser.should_keep_alive()
        if status >= 200 and self.exchange is not None and not self._complete:
            self.exchange.reply.on_headers(status, self._content_type)

    def on_chunk_header(self) -> None:
        """The line that begins a chunk is whole."""
        self._chunked = self._in_chunk = True

    def on_chunk_complete(self) -> None:
        """A chunk is whole, the line end behind it too."""
        self._in_chunk = False

    def on_body(self, body: bytes) -> None:
        """A piece of the body, chunk framing removed."""
        if self.exchange is not None and not self._complete:
            self.exchange.reply.feed(body)

    def on_message_complete(self) -> None:
        """The response is whole."""
        if self._complete:
            self.failure = "http: a second reply to one request"
        elif self._parser.get_status_code() >= 200:
            self._complete = True
            self._keep_alive = self._parser.should_keep_alive()  # here only: the parser forgets it afterwards

    def reusable(self) -> bool:
        """Whether the connection may carry another request."""
        unfinished = self.pending or self.failure or self._out or self._request is not None
        return self._complete and self._keep_alive and not unfinished

    def release(self) -> None:
        """Let go of the exchange (and of the reference cycle through the parser)."""
        self.exchange = None
        self._parser = None  # breaks the cycle: the parser holds this connection
        self._first_read = b""

    def close(self) -> None:
        """Close the socket; what the kernel still holds is thrown away."""
        self.sock.close()
        self.release()
        self.pending.clear()
