"""Reads of streams that go on as they began: received, unframed and recorded without an HTTP or a JSON parser.

Most reads of a run hold whole HTTP chunks of whole events that differ from the event before in text and ids only.
A `PlainReader` takes those at once; whatever else comes is handed up as bytes, and the stream is not plain any more
until `begin` says so again. A read is taken whole or handed up whole.
"""

from __future__ import annotations

import re
import select
import socket
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from slobench.clock import Clock
from slobench.generate.exchange import ReadCounters
from slobench.generate.stamps import Receiver
from slobench.names import NULL
from slobench.wire.openai import Shape
from slobench.wire.reply import ChunkSink

READABLE = select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP
_OPENING, _CLOSING = b"data: ", b"\n\n"
_AROUND_BYTES = len(_OPENING) + len(_CLOSING)
_chunk_head = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n").match
_HEADS_UP_TO = 4096


class Ready(NamedTuple):
    """A socket that asks for attention. data: what came on a plain stream and could not be taken, else None."""

    fd: int
    events: int
    data: bytes | None = None
    t_ns: int = 0
    lag_ns: int = 0
    errno: int = 0  # why reading failed; data is b"" then


class Taken(NamedTuple):
    """What was read of a plain stream since it began to be plain."""

    reads: int
    events: int
    tokens: int  # by ids; 0 where the events have none
    last_ns: int  # when the last read was received; NULL: none was
    lag_max_ns: int


class PlainReader(Protocol):
    """Watches sockets, and takes the reads of plain streams; knows nothing of exchanges and pools.

    kind: which implementation it is. ready: how many sockets the last `poll` found ready.
    """

    kind: str
    ready: int

    def poll(self, limit: int) -> list[Ready]:
        """Read the plain streams among up to `limit` sockets that are ready; return what others must look at.

        Never waits.
        """
        ...

    def begin(self, sock: socket.socket, index: int, shape: Shape, chunked: bool, sink: ChunkSink, /) -> None:  # noqa: FBT001 (the twin in C takes no names)
        """Take the reads of this socket: a stream of request `index` between two events and two HTTP chunks.

        shape: of its last event; no byte of it is a line end.
        """
        ...

    def end(self, fd: int, /) -> Taken:
        """Take no more reads of this socket; return what was taken."""
        ...


@dataclass(slots=True, eq=False)
class _Stream:
    """A plain stream, and what its reads are held against."""

    sock: socket.socket
    index: int
    shape: Shape
    chunked: bool
    sink: ChunkSink
    prefix: bytes  # of an event, as it comes on the wire
    suffix: bytes
    tail: bytes  # of a read that is one event
    active: bool = True
    reads: int = 0
    events: int = 0
    tokens: int = 0
    last_ns: int = NULL
    lag_max_ns: int = NULL


class PythonPlainReader:
    """The reader without the native module."""

    kind = "python"

    def __init__(self, epoll: select.epoll, clock: Clock, counters: ReadCounters) -> None:
        self.ready = 0
        self._epoll = epoll
        self._receiver = Receiver(clock, counters)
        self._streams: dict[int, _Stream] = {}

    def poll(self, limit: int) -> list[Ready]:
        """As PlainReader."""
        streams, read, handed = self._streams, self._receiver.read, []
        found = self._epoll.poll(0, limit)
        self.ready = len(found)
        for fd, events in found:
            stream = streams.get(fd)
            if stream is None or not stream.active or not events & READABLE:
                handed.append(Ready(fd, events))
                continue
            try:
                data, t_ns, lag_ns = read(stream.sock)
            except BlockingIOError:
                continue
            except OSError as error:
                stream.active = False
                handed.append(Ready(fd, events, b"", self._receiver.now_ns(), 0, error.errno or 0))
                continue
            if not _take(stream, data, t_ns, lag_ns):
                stream.active = False
                handed.append(Ready(fd, events, data, t_ns, lag_ns))
        return handed

    def begin(self, sock: socket.socket, index: int, shape: Shape, chunked: bool, sink: ChunkSink, /) -> None:  # noqa: FBT001
        """As PlainReader."""
        prefix, suffix = _OPENING + shape.prefix, shape.suffix + _CLOSING
        tail = suffix + b"\r\n" if chunked else suffix
        self._streams[sock.fileno()] = _Stream(sock, index, shape, chunked, sink, prefix, suffix, tail)

    def end(self, fd: int, /) -> Taken:
        """As PlainReader."""
        stream = self._streams.pop(fd)
        return Taken(stream.reads, stream.events, stream.tokens, stream.last_ns, stream.lag_max_ns)


def _take(stream: _Stream, data: bytes, t_ns: int, lag_ns: int) -> bool:
    """Record the events of a read; False where it holds anything else, and then nothing is recorded."""
    n = 1
    size, tail = len(data), stream.tail
    head = (_HEADS[size] if size < _HEADS_UP_TO else None) if stream.chunked else b""
    match = None
    if head is not None and data.startswith(head) and data.startswith(stream.prefix, len(head)) and data.endswith(tail):
        match = stream.shape.varying(data, len(head) + len(stream.prefix), size - len(tail))
    if match is not None:  # one event, as nearly always
        tokens = NULL
        if stream.shape.between is not None:
            tokens = match[1].count(b",") + 1
            stream.tokens += tokens
        nbytes = size - len(head or b"") - len(tail) + len(stream.suffix) - _AROUND_BYTES
        stream.sink.add(stream.index, t_ns, tokens, nbytes, stream.shape.channel, lag_ns, False)
    else:
        found = _events(stream, data)
        n = len(found)
        if not n:
            return False
        for nth, (tokens, nbytes) in enumerate(found, 1):
            stream.sink.add(stream.index, t_ns, tokens, nbytes, stream.shape.channel, lag_ns, nth < n)
            stream.tokens += max(tokens, 0)
    stream.events += n
    stream.reads += 1
    stream.last_ns = t_ns
    if lag_ns > stream.lag_max_ns:  # noqa: PLR1730 (max() costs a call for every read)
        stream.lag_max_ns = lag_ns
    return True


def _events(stream: _Stream, data: bytes) -> list[tuple[int, int]]:
    """(tokens, bytes) of each event of a read; none unless it is whole chunks of whole events of the shape."""
    found: list[tuple[int, int]] = []
    at = 0
    while at < len(data):
        stop = len(data)
        if stream.chunked:
            head = _chunk_head(data, at)
            if head is None:
                return []
            at = head.end()
            stop = at + int(head[1], 16)
            if stop == at or data[stop : stop + 2] != b"\r\n":
                return []
        while at < stop:
            end = data.find(_CLOSING, at, stop) + len(_CLOSING)
            inner = end - len(stream.suffix)
            if not data.startswith(stream.prefix, at, stop) or not data.startswith(stream.suffix, inner, end):
                return []
            match = stream.shape.varying(data, at + len(stream.prefix), inner)
            if match is None:
                return []
            tokens = NULL if stream.shape.between is None else match[1].count(b",") + 1
            found.append((tokens, end - at - _AROUND_BYTES))
            at = end
        at += 2 if stream.chunked else 0
    return found


def _heads() -> list[bytes | None]:
    """The head of the chunk that is a read of so many bytes; None where no chunk is."""
    heads: list[bytes | None] = [None] * _HEADS_UP_TO
    for size in range(1, _HEADS_UP_TO):
        head = b"%x\r\n" % size
        if len(head) + size + 2 < _HEADS_UP_TO:
            heads[len(head) + size + 2] = head
    return heads


_HEADS = _heads()
