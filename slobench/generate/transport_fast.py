"""The default transport: our own sockets, kernel receive stamps, parsing put off to quiet moments."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from slobench.clock import EpochClock
from slobench.errors import UsageError
from slobench.generate.connection import Address, Connection
from slobench.generate.deadlines import Deadlines, Timeouts
from slobench.generate.decoding import Decoding
from slobench.generate.exchange import Exchange, OnEnd, ReadCounters
from slobench.generate.idle import Idle
from slobench.generate.native import make_reader
from slobench.generate.opening import Opening
from slobench.generate.plain import READABLE
from slobench.generate.stamps import Receiver
from slobench.generate.tls import TlsCodec, tls_context
from slobench.names import Outcome
from slobench.pacer import NEVER
from slobench.wire.endpoint import Endpoint, request_head
from slobench.wire.outcome import Ended

_FAILED = select.EPOLLERR
_EVENTS_PER_PASS = 64  # then the event loop looks at its timers and other sockets
_EVENTS_PER_LOOK = 16  # then a send that is due goes out: reads take some 40 µs, in Python 100
_ERROR_CHARS = 500


class FastTransport:
    """HTTP/1.1 over asyncio with an epoll of its own, nested in the event loop's.

    One callback then serves up to 64 ready sockets: the loop's own cost per ready socket is paid once.
    Times are `clock`'s; `next_send_ns` and `send_due` are set by the loop that sends.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        clock: EpochClock,
        on_end: OnEnd,
        request_id: str,
        counters: ReadCounters,
        *,
        gather: bool = False,
    ) -> None:
        """endpoints: by class code; one server, reached in one way, with paths and headers of each class.

        gather: no send waits for a reply's end, so those of a millisecond may be decoded together.
        """
        self.next_send_ns = NEVER
        self.send_due: Callable[[], None] = lambda: None
        self._endpoint = endpoint = endpoints[0]
        self._now_ns = clock.now_ns
        self._on_end = on_end
        self._receiver = Receiver(clock, counters)
        self._clock, self._counters = clock, counters
        parts = urlsplit(endpoint.url)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        extra = b"connection: close\r\n" if endpoint.connection == "per-request" else b""
        own = extra + f"x-request-id: {request_id}-".encode()
        self._heads = tuple(request_head(each) + own for each in endpoints)
        self._tls = tls_context(endpoint)
        self._timeouts = Timeouts(endpoint)
        self._addresses: list[Address] = []
        self._by_fd: dict[int, Connection] = {}
        self._by_index: dict[int, Connection] = {}
        self._idle = Idle(by_session=self._endpoint.connection == "per-session")
        self._decoding = Decoding(self, clock, self._decode_one, gather=gather)
        self._openings: dict[int, Opening] = {}  # by class: of its last reply that did not begin as the one before

    async def open(self) -> None:
        """Resolve the host once and start watching. Raises UsageError where the name is unknown."""
        self._loop = asyncio.get_running_loop()
        try:
            found = await self._loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise UsageError(f"cannot resolve {self._host!r}: {error.strerror or error}") from None
        self._addresses = [(family, address) for family, _, _, _, address in found]
        self._epoll = select.epoll()
        self._loop.add_reader(self._epoll.fileno(), self._serve)
        self._plain = make_reader(self._endpoint.receiver, self._epoll, self._clock, self._counters)
        self._counters.receiver = self._plain.kind
        self._deadlines = Deadlines(self._now_ns, self._by_index.__contains__, self._judge)

    def start(self, exchange: Exchange) -> None:
        """Begin to send; the exchange's end is reported from the event loop."""
        self._deadlines.watch(exchange.index, self._timeouts.first_look(exchange))
        connection = self._idle.take(exchange.session)
        exchange.connection_new = connection is None
        if connection is None:
            self._connect(exchange, self._addresses)
        else:
            self._begin(connection, exchange)

    def abort(self, exchange: Exchange, outcome: Outcome) -> None:
        """End the exchange now and close its connection."""
        connection = self._by_index.get(exchange.index)
        if connection is None or connection.exchange is not exchange:
            return
        if connection.is_plain:
            connection.end_plain(self._plain)
        while connection.pending and connection.exchange is exchange:
            self._decode_one(connection)
        current = self._by_index.get(exchange.index)  # another one, where what was decoded led to a reconnect
        if current is not None and current.exchange is exchange:
            exchange.reply.finish(Ended.ABORTED)
            self._finish(current, outcome, "", self._now_ns())

    def end_session(self, session: int) -> None:
        """Close the idle connections of a session, of which nothing more comes."""
        for connection in self._idle.end_session(session):
            self._drop(connection)

    async def close(self) -> None:
        """Cut what is open and close every connection."""
        for connection in list(self._by_index.values()):
            if connection.exchange is not None:
                self.abort(connection.exchange, Outcome.CUT)
        for connection in list(self._by_fd.values()):
            self._drop(connection)
        self._deadlines.close()
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    # Connections

    def _connect(self, exchange: Exchange, addresses: list[Address]) -> None:
        """Open a connection to the first of `addresses` that takes one; the last failure ends the exchange."""
        failure, outcome = "no address", Outcome.CONNECTION
        for address in addresses:
            try:
                codec = TlsCodec(self._tls, self._host) if self._tls else None
                connection = Connection(address, self._receiver, codec)
            except OSError as error:  # EMFILE and its kin: this machine's fault, not the server's
                failure, outcome = f"socket: {error.strerror or error}", Outcome.CLIENT
                break
            failure = connection.connect()
            if not failure:
                self._by_fd[connection.fd] = connection
                self._epoll.register(connection.fd, READABLE | select.EPOLLOUT)
                self._begin(connection, exchange)
                return
            connection.close()
        self._loop.call_soon(self._fail, exchange, outcome, failure)

    def _begin(self, connection: Connection, exchange: Exchange) -> None:
        body, head = exchange.body, self._heads[exchange.class_code]
        request = b"%b%d\r\ncontent-length: %d\r\n\r\n%b" % (head, exchange.index, len(body), body)
        connection.session = exchange.session
        self._by_index[exchange.index] = connection
        connection.begin(exchange, request)
        if not connection.connecting:
            self._advance(connection)

    def _advance(self, connection: Connection) -> None:
        was_waiting = connection.connecting or connection.wants_write
        connecting = connection.connecting
        failure = connection.advance(self._now_ns())
        if failure:
            self._broken(connection, failure, connecting=connecting and connection.connecting)
            return
        exchange = connection.exchange
        if exchange is not None and exchange.class_code in self._openings:
            connection.open_plain(self._plain, self._openings[exchange.class_code])
        waits = connection.wants_write
        if waits != was_waiting:
            self._epoll.modify(connection.fd, READABLE | (select.EPOLLOUT if waits else 0))

    def _broken(self, connection: Connection, failure: str, *, connecting: bool) -> None:
        exchange = connection.exchange
        if exchange is None:
            self._drop(connection)
        elif connecting and not failure.startswith("tls"):
            tried = self._addresses.index(connection.address)
            self._forget(connection)
            rest = self._addresses[tried + 1 :]
            if rest:
                self._connect(exchange, rest)
            else:
                self._fail(exchange, Outcome.CONNECTION, failure)
        else:
            connection.failure = connection.failure or failure
            connection.pending.append((b"", self._now_ns(), 0))
            self._decoding.add(connection)
            self._decoding.soon()

    def _forget(self, connection: Connection) -> None:
        if connection.exchange is not None:
            self._by_index.pop(connection.exchange.index, None)
        self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        if self._by_fd.pop(connection.fd, None) is None:
            return
        if connection.is_plain:
            connection.end_plain(self._plain)
        self._epoll.unregister(connection.fd)
        self._idle.remove(connection)
        self._decoding.nbytes -= sum(len(data) for data, _, _ in connection.pending)
        connection.close()

    def _release(self, connection: Connection) -> None:
        reusable = self._endpoint.connection != "per-request" and connection.reusable()
        connection.release()
        if not reusable:
            self._drop(connection)
        else:
            self._idle.put(connection)

    # Reading and decoding

    def _serve(self) -> None:
        left = _EVENTS_PER_PASS
        while left > 0:
            self._read()
            left -= self._plain.ready
            if self._plain.ready < _EVENTS_PER_LOOK or self._decoding.give_way():
                break
        self._decoding.plan()

    def _read(self) -> None:
        by_fd = self._by_fd
        for ready in self._plain.poll(_EVENTS_PER_LOOK):
            connection, events = by_fd.get(ready.fd), ready.events
            if connection is None:
                continue
            if connection.exchange is None:
                self._drop(connection)  # closed by the server while idle, or bytes that nobody asked for
                continue
            if events & READABLE and not (connection.connecting and events & _FAILED):
                if connection.is_plain:
                    connection.end_plain(self._plain)
                    self._decoding.nbytes += connection.hand_up(ready)
                else:
                    self._decoding.nbytes += connection.receive()
                if not connection.decode_queued and connection.pending:
                    self._decoding.add(connection)
            if connection.wants_write or connection.connecting:
                self._advance(connection)

    def _decode_one(self, connection: Connection) -> None:
        exchange = connection.exchange
        if exchange is None:  # bytes after the end of the reply
            self._drop(connection)
            return
        read = connection.pending.pop(0)
        self._decoding.nbytes -= len(read[0])
        ended = connection.decode(*read)
        if ended is None:
            if not connection.pending:
                opening = connection.begin_plain(self._plain)
                if opening is not None:
                    self._openings[exchange.class_code] = opening.after(self._openings.get(exchange.class_code))
            return
        if ended in (Ended.CLOSED, Ended.RESET) and self._reconnect(connection, exchange):
            return
        outcome, error = exchange.reply.finish(ended)
        detail = "" if outcome is Outcome.OK else connection.failure
        self._finish(connection, outcome, f"{error}: {detail}" if error and detail else error or detail, read[1])

    def _reconnect(self, connection: Connection, exchange: Exchange) -> bool:
        """One silent try on a new connection, only where a pooled one closed before any byte of the reply."""
        if exchange.reads or exchange.reconnects or connection.served < 2:
            return False
        exchange.reconnects = 1
        exchange.connection_new = True
        self._forget(connection)
        self._connect(exchange, self._addresses)
        return True

    # Ends

    def _finish(self, connection: Connection, outcome: Outcome, error: str, end_ns: int) -> None:
        exchange = connection.exchange
        assert exchange is not None
        self._by_index.pop(exchange.index, None)
        if outcome in (Outcome.OK, Outcome.EMPTY, Outcome.HTTP_ERROR, Outcome.TRUNCATED, Outcome.STREAM_ERROR):
            self._release(connection)  # reusable() tells whether the message was whole
        else:
            self._drop(connection)
        self._end(exchange, outcome, error, end_ns)

    def _fail(self, exchange: Exchange, outcome: Outcome, error: str) -> None:
        if exchange.outcome is None:
            exchange.reply.finish(Ended.ABORTED)
            self._by_index.pop(exchange.index, None)
            self._end(exchange, outcome, error, self._now_ns())

    def _end(self, exchange: Exchange, outcome: Outcome, error: str, end_ns: int) -> None:
        exchange.outcome, exchange.error, exchange.end_ns = outcome, error[:_ERROR_CHARS], end_ns
        self._on_end(exchange)

    def _judge(self, index: int) -> int | None:
        """End the exchange where it has timed out, else say when to look again."""
        connection, now_ns = self._by_index.get(index), self._now_ns()
        if connection is None or connection.exchange is None:
            return None
        exchange = connection.exchange
        if connection.is_plain:
            connection.end_plain(self._plain)
            connection.begin_plain(self._plain)
        if connection.pending:
            return now_ns + 1  # decode what came before judging
        deadline_ns, outcome = self._timeouts.first(exchange, connection.last_read_ns)
        if deadline_ns > now_ns:
            return self._timeouts.next_look(exchange, connection.last_read_ns, now_ns)
        self.abort(exchange, outcome)
        return None
