"""Reads of streams that go on as they began: received, unframed and recorded without an HTTP or a JSON parser.

Most reads of a run hold whole HTTP chunks of whole events that differ from the event before in text and ids only.
A `PlainReader` takes those at once, and those of a reply that begins as the one before it did (`Opening`); whatever
else comes is handed up as bytes, and the stream is not plain any more until `begin` says so again. A read is taken
whole or handed up whole.
"""

from __future__ import annotations

import re
import select
import socket
import time
from typing import NamedTuple, Protocol

from slobench.clock import EpochClock
from slobench.generate.exchange import ReadCounters
from slobench.generate.opening import Opening
from slobench.generate.stamps import ANCILLARY_BYTES, BELIEVABLE_LAG_NS, Receiver, stamp_of
from slobench.names import NULL
from slobench.records.buffers import CHUNK_ROW
from slobench.wire.openai import CLOSING, OPENING, Shape
from slobench.wire.sink import ChunkSink

READABLE = select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP
_AROUND_BYTES = len(OPENING) + len(CLOSING)
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
    tokens: int  # by ids; NULL where the events have none
    last_ns: int  # when the last read was received; NULL: none was
    lag_max_ns: int
    headers_ns: int = NULL  # when the head was received; NULL: it was not, or was there before
    first_ns: int = NULL  # when the first token was, as the three that follow; NULL: as above
    first_tokens: int = NULL
    first_error_ns: int = NULL
    raw_prefix: bytes | None = None  # of its events


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

    def open(
        self,
        sock: socket.socket,
        index: int,
        opening: Opening,
        previous_ns: int,
        sink: ChunkSink,
        awaits_head: bool,  # noqa: FBT001
        /,
    ) -> None:
        """Take the reads of this socket from the beginning of the reply on, where it begins like this.

        previous_ns: when it was sent, or the read before was received. awaits_head: else it is past its head.
        """
        ...


_Frame = tuple[bytes, int, int, int]
"""Of a read of some size that is one event: how it begins, where its text begins and ends, its bytes."""


class _Stream:
    """A plain stream, and what its reads are held against."""

    __slots__ = (
        "add", "alone", "awaits_head", "channel", "chunked", "events", "first_error_ns", "first_ns",
        "first_tokens", "frames", "has_ids", "headers_ns", "index", "lag_max_ns", "last_ns", "opening", "packed",
        "prefix", "previous_ns", "reads", "receive", "suffix", "tail", "tokens", "varying",
    )  # fmt: skip

    def __init__(
        self, sock: socket.socket, index: int, shape: Shape | Opening, sink: ChunkSink, *, chunked: bool
    ) -> None:
        self.receive = sock.recvmsg_into
        self.index = index
        self.add, self.packed = sink.add, sink.packed
        self.chunked = chunked
        self.prefix: bytes | None = None  # of an event, as it comes on the wire; None: none has come
        self.suffix = shape.raw_suffix
        self.tail = self.suffix + b"\r\n" if chunked else self.suffix  # of a read that is one event
        self.varying = shape.varying
        self.has_ids = shape.between is not None
        self.channel = shape.channel
        self.opening: Opening | None = None  # it is awaited, or came
        self.awaits_head = False
        self.frames: dict[int, _Frame] = {}  # by size of the read
        self.alone = 0  # reads of one event, which are not in `reads` and `events`
        self.reads = self.events = self.tokens = 0
        self.headers_ns = self.previous_ns = self.last_ns = self.lag_max_ns = NULL
        self.first_ns = self.first_tokens = self.first_error_ns = NULL

    def expect(self, size: int) -> None:
        """Keep what a read of one event and this size is held against, after one that came."""
        head = _HEADS[size] if self.chunked and size < _HEADS_UP_TO else b""
        if self.prefix is not None and head is not None and size < _HEADS_UP_TO:
            nbytes = size - len(head) - len(self.tail) + len(self.suffix) - _AROUND_BYTES
            start = len(head) + len(self.prefix)
            self.frames[size] = (head + self.prefix, start, size - len(self.tail), nbytes)


class PythonPlainReader:
    """The reader without the native module."""

    kind = "python"

    def __init__(self, epoll: select.epoll, clock: EpochClock, counters: ReadCounters) -> None:
        self.ready = 0
        self._epoll = epoll
        self._clock, self._counters = clock, counters
        self._receiver = Receiver(clock, counters)
        self._streams: dict[int, _Stream] = {}
        self._active: dict[int, _Stream] = {}

    def poll(self, limit: int) -> list[Ready]:
        """As PlainReader."""
        handed: list[Ready] = []
        self.ready = found = self._look(limit, handed)
        # A burst, of two or more, goes on while it is read; what was handed up would be found again.
        while found and 1 < self.ready < limit and not handed:
            found = self._look(limit - self.ready, handed)
            self.ready += found
        return handed

    def _look(self, limit: int, handed: list[Ready]) -> int:
        """Look at sockets that are ready; return how many there were."""
        active, receiver = self._active, self._receiver
        buffer, into, pack = receiver.buffer, receiver.into, CHUNK_ROW.pack
        monotonic_ns, time_ns, epoch_ns = time.monotonic_ns, time.time_ns, self._clock.epoch_ns
        reads = 0
        found = self._epoll.poll(0, limit)
        for fd, events in found:
            stream = active.get(fd)
            if stream is None or not events & READABLE:
                handed.append(Ready(fd, events))
                continue
            try:
                size, ancillary, _, _ = stream.receive(into, ANCILLARY_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                del active[fd]
                handed.append(Ready(fd, events, b"", receiver.now_ns(), 0, error.errno or 0))
                continue
            now_ns, wall_ns = monotonic_ns() - epoch_ns, time_ns()
            lag_ns = NULL
            if ancillary:
                seconds, nanoseconds = stamp_of(ancillary[0][2])
                lag_ns = wall_ns - (seconds * 1_000_000_000 + nanoseconds)
            if 0 <= lag_ns <= BELIEVABLE_LAG_NS:  # as Receiver.date, without a call for each read
                t_ns = now_ns - lag_ns
                reads += 1
            else:
                t_ns, lag_ns = receiver.date(size, ancillary, now_ns, wall_ns)
            # Bytes of a stream come in their order: a stop between the readings of two clocks must not turn it round.
            if t_ns < stream.previous_ns:  # noqa: PLR1730 (max() costs a call for every read)
                t_ns = stream.previous_ns
            frame = stream.frames.get(size)
            if frame is not None:  # of one event, as nearly all are
                beginning, start, stop, nbytes = frame
                match = None
                if buffer.startswith(beginning) and buffer.startswith(stream.tail, stop):
                    match = stream.varying(buffer, start, stop)
                if match is not None:
                    tokens = NULL
                    if stream.has_ids:
                        tokens = match[1].count(b",") + 1
                        stream.tokens += tokens
                    packed = stream.packed
                    if packed is None:
                        stream.add(stream.index, t_ns, tokens, nbytes, stream.channel, lag_ns, False)
                    else:
                        packed += pack(stream.index, t_ns, tokens, nbytes, stream.channel, lag_ns, False)
                    stream.alone += 1
                    stream.last_ns = stream.previous_ns = t_ns
                    if lag_ns > stream.lag_max_ns:  # noqa: PLR1730 (max() costs a call for every read)
                        stream.lag_max_ns = lag_ns
                    continue
            data = bytes(buffer[:size])
            if not _take(stream, data, t_ns, lag_ns):
                del active[fd]
                handed.append(Ready(fd, events, data, t_ns, lag_ns))
        self._counters.reads += reads
        return len(found)

    def begin(self, sock: socket.socket, index: int, shape: Shape, chunked: bool, sink: ChunkSink, /) -> None:  # noqa: FBT001
        """As PlainReader."""
        stream = self._streams[sock.fileno()] = self._active[sock.fileno()] = _Stream(
            sock, index, shape, sink, chunked=chunked
        )
        stream.prefix = shape.raw_prefix

    def open(
        self,
        sock: socket.socket,
        index: int,
        opening: Opening,
        previous_ns: int,
        sink: ChunkSink,
        awaits_head: bool,  # noqa: FBT001
        /,
    ) -> None:
        """As PlainReader."""
        stream = self._streams[sock.fileno()] = self._active[sock.fileno()] = _Stream(
            sock, index, opening, sink, chunked=True
        )
        stream.opening, stream.previous_ns, stream.awaits_head = opening, previous_ns, awaits_head

    def end(self, fd: int, /) -> Taken:
        """As PlainReader."""
        stream = self._streams.pop(fd)
        self._active.pop(fd, None)
        tokens = stream.tokens if stream.has_ids else NULL
        counts = (stream.reads + stream.alone, stream.events + stream.alone, tokens, stream.last_ns, stream.lag_max_ns)
        first = (stream.headers_ns, stream.first_ns, stream.first_tokens, stream.first_error_ns)
        return Taken(*counts, *first, stream.prefix if stream.first_ns != NULL else None)


def _take(stream: _Stream, data: bytes, t_ns: int, lag_ns: int) -> bool:
    """Record the events of a read; False where it holds anything else, and then nothing is recorded."""
    at, opening, awaits_head = 0, stream.opening, stream.awaits_head
    if opening is not None and awaits_head:
        at = len(opening.head)
        if not data.startswith(opening.head):
            return False
    prefix = stream.prefix or _first_prefix(opening, data, at)
    found = [] if prefix is None else _events(stream, prefix, data, at)
    n = len(found)
    if not n and not (awaits_head and at == len(data)):
        return False
    if awaits_head:
        stream.headers_ns, stream.awaits_head = t_ns, False
    if n and stream.prefix is None:
        stream.prefix = prefix
        stream.first_ns, stream.first_tokens = t_ns, found[0][0]
        stream.first_error_ns = max(t_ns - stream.previous_ns, 0) if n > 1 else 0
    for nth, (tokens, nbytes) in enumerate(found, 1):
        stream.add(stream.index, t_ns, tokens, nbytes, stream.channel, lag_ns, nth < n)
        stream.tokens += max(tokens, 0)
    stream.reads += 1
    stream.events += n
    stream.last_ns = stream.previous_ns = t_ns
    stream.lag_max_ns = max(stream.lag_max_ns, lag_ns)
    if n == 1 and not awaits_head:
        stream.expect(len(data))
    return True


def _first_prefix(opening: Opening | None, data: bytes, at: int) -> bytes | None:
    """The prefix of the event that begins the chunk at a position."""
    head = _chunk_head(data, at)
    match = None if head is None or opening is None else opening.raw_prefix(data, head.end())
    return None if match is None else match[0]


def _events(stream: _Stream, prefix: bytes, data: bytes, at: int) -> list[tuple[int, int]]:
    """(tokens, bytes) of each event from a position on; none unless it is whole chunks of whole events of the shape."""
    found: list[tuple[int, int]] = []
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
            end = data.find(CLOSING, at, stop) + len(CLOSING)
            inner = end - len(stream.suffix)
            if not data.startswith(prefix, at, stop) or not data.startswith(stream.suffix, inner, end):
                return []
            match = stream.varying(data, at + len(prefix), inner)
            if match is None:
                return []
            tokens = match[1].count(b",") + 1 if stream.has_ids else NULL
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
