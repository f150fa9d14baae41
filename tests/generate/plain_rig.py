"""One connection whose reads are cut where a test says, and received with or without a reader of plain streams."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

from slobench.clock import MonotonicClock
from slobench.generate.connection import Connection
from slobench.generate.exchange import Exchange, ReadCounters
from slobench.generate.native import make_reader
from slobench.generate.opening import Opening
from slobench.generate.plain import READABLE, PlainReader, Ready
from slobench.generate.stamps import Receiver
from slobench.names import NULL, Outcome
from slobench.records.buffers import CHUNK_ROW, Chunks
from slobench.wire.outcome import Ended
from slobench.wire.reply import Reply
from tests.conformance.dialect import DONE, END, Dialect, chunk, head

Kind = Literal["native", "python", "none"]
"""none: every read goes through the HTTP parser."""
PATIENCE_S = 30.0  # for a hang; nothing is judged by it


class Row(NamedTuple):
    """One row of chunk records."""

    index: int
    t_ns: int
    tokens: int
    nbytes: int
    channel: int
    lag_ns: int
    coalesced: int


def rows_of(chunks: Chunks) -> list[Row]:
    """The rows in a buffer, in order."""
    return [Row(*row) for row in CHUNK_ROW.iter_unpack(bytes(chunks.packed))]


@dataclass
class Received:
    """What came of a reply."""

    rows: list[Row]
    reply: Reply
    exchange: Exchange
    counters: ReadCounters
    ended: Ended | None
    outcome: Outcome
    error: str
    plain_reads: int  # taken by the reader
    reusable: bool  # whether the connection may carry another request


class Line:
    """Our end of a connection, and the scripted other end."""

    def __init__(
        self,
        kind: Kind,
        api: Literal["completions", "chat"] = "completions",
        index: int = 7,
        opening: Opening | None = None,
    ) -> None:
        """opening: how the reply may begin."""
        self.counters, self.clock = ReadCounters(), MonotonicClock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.connection = Connection(
            (socket.AF_INET, self._listener.getsockname()), Receiver(self.clock, self.counters), None
        )
        self.connection.connect()
        self.server, _ = self._listener.accept()
        self.epoll = select.epoll()
        self.epoll.register(self.connection.fd, READABLE)
        choice: Literal["native", "python"] = "python" if kind == "none" else kind
        self.reader: PlainReader = make_reader(choice, self.epoll, self.clock, self.counters)
        self._bypass = kind != "none"
        self.chunks = Chunks()
        self.reply = Reply(index=index, api=api, stream=True, due_tokens=None, chunks=self.chunks)
        self.exchange = Exchange(index, index, 0, 0, b"", self.reply)
        self.connection.begin(self.exchange, b"POST / HTTP/1.1\r\n\r\n")
        while self.connection.wants_write:
            self.connection.advance(self.clock.now_ns())
        if self._bypass and opening is not None:
            self.connection.open_plain(self.reader, opening)
        self.opening: Opening | None = None
        """How this reply began, for others."""
        self.ended: Ended | None = None
        self.plain_reads = 0

    def poll(self) -> list[Ready]:
        """Wait for something to come, and look at it once."""
        give_up = time.monotonic() + PATIENCE_S
        while True:
            handed = self.reader.poll(8)
            if self.reader.ready:
                return handed
            assert time.monotonic() < give_up, "nothing came"

    def step(self) -> None:
        """Receive what the other end sent, as the transport does."""
        connection, handed = self.connection, self.poll()
        self.plain_reads += not handed
        for ready in handed:
            if connection.is_plain:
                connection.end_plain(self.reader)
                connection.hand_up(ready)
            else:
                connection.receive()
        while connection.pending and self.ended is None:
            self.ended = connection.decode(*connection.pending.pop(0))
            if self.ended is None and self._bypass and not connection.pending:
                self.opening = connection.begin_plain(self.reader) or self.opening

    def play(self, pieces: Sequence[bytes]) -> None:
        """Send each piece and receive it before the next one; then close, unless the reply has ended."""
        for piece in pieces:
            if self.ended is not None:
                return
            self.server.sendall(piece)
            self.step()
        self.server.close()
        while self.ended is None:
            self.step()

    def result(self) -> Received:
        """Settle the counts."""
        if self.connection.is_plain:
            self.connection.end_plain(self.reader)
        outcome, error = self.reply.finish(self.ended or Ended.ABORTED)
        rows, again = rows_of(self.chunks), self.connection.reusable()
        seen = (self.reply, self.exchange, self.counters, self.ended)
        return Received(rows, *seen, outcome, error, self.plain_reads, again)

    def close(self) -> None:
        """Let go of the sockets."""
        self.server.close()
        self.connection.close()
        self._listener.close()
        self.epoll.close()


@contextmanager
def line(
    kind: Kind, api: Literal["completions", "chat"] = "completions", opening: Opening | None = None
) -> Iterator[Line]:
    """A connection that is closed in the end."""
    made = Line(kind, api, opening=opening)
    try:
        yield made
    finally:
        made.close()


def receive(
    kind: Kind,
    pieces: Sequence[bytes],
    api: Literal["completions", "chat"] = "completions",
    opening: Opening | None = None,
) -> Received:
    """Receive a reply that comes in these pieces, each read by itself."""
    with line(kind, api, opening) as made:
        made.play(pieces)
        return made.result()


def untimed(received: Received) -> dict[str, object]:
    """All that is recorded of a reply but its times; of these, whether they were seen."""
    reply, exchange = received.reply, received.exchange
    firsts = (exchange.headers_ns, reply.first_token_ns, reply.first_output_ns)
    times = (*firsts, reply.last_token_ns, exchange.receive_lag_max_ns)
    return {
        "rows": [(r.index, r.tokens, r.nbytes, r.channel, r.coalesced) for r in received.rows],
        "counts": (reply.chunks, reply.input_tokens, reply.output_tokens, reply.reasoning_tokens, reply.cached_tokens),
        "first": (reply.first_chunk_tokens, reply.first_token_error_ns == NULL, reply.tokens_source),
        "ends": (reply.finish_reason, reply.http_status, reply.done, received.outcome, received.error),
        "reads": exchange.reads,
        "reusable": received.reusable,
        "seen": [t != NULL for t in times],
        "first token": received.rows[:1] and received.rows[0].t_ns == reply.first_token_ns,
        "last": [row.t_ns for row in received.rows][-1:] == [reply.last_token_ns] or not received.rows,
    }


def usual(speaks: Dialect, n: int, **extra: object) -> list[bytes]:
    """A reply of n tokens, in the writes of a usual server."""
    last = chunk(speaks.text(" z", finish="length", **extra)) + chunk(speaks.usage(7, n)) + chunk(DONE) + END
    return [head(), *(chunk(speaks.text(f" t{k}", **extra)) for k in range(n - 1)), last]


def opening_of(speaks: Dialect, **extra: object) -> Opening:
    """How usual replies begin and end, as learnt from some."""
    pieces = usual(speaks, 3, **extra)
    with line("python", speaks.api) as made:
        made.play(pieces)
        opening = made.opening
    assert opening is not None
    for _ in range(3):
        receive("python", pieces, speaks.api, opening)
    return opening
