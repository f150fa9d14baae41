"""When replies are decoded: in quiet moments between the sends, or when too much waits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from slobench.clock import Clock
from slobench.generate.connection import Connection
from slobench.generate.exchange import Transport

_SLICE_NS = 500_000
_GATHER_S = 0.001  # from a read that needs decoding to the decoding of all that came meanwhile
_QUIET_NS = 1_000_000  # no decoding this close to the next send …
_BACKLOG_BYTES = 64 * 1024  # … unless this much waits, or …
_BACKLOG_NS = 5_000_000  # … it waits this long: above 1,000 sends/s no moment is quiet


class Decoding:
    """Connections whose reads wait to be decoded, oldest first. nbytes: of those reads, counted by the transport."""

    def __init__(
        self, transport: Transport, clock: Clock, decode_one: Callable[[Connection], None], *, gather: bool
    ) -> None:
        """decode_one: decodes the oldest read of a connection.

        gather: decoding is put off by 1 ms and done of many replies at once. One after the other they find their code
        in the caches; alone, each takes three times as long.
        """
        self.nbytes = 0
        self._transport = transport
        self._now_ns = clock.now_ns
        self._decode_one = decode_one
        self._gather = gather
        self._queue: deque[Connection] = deque()
        self._planned = False

    def give_way(self) -> bool:
        """Let what is due be sent first; whether more of it is, which goes out when the sockets were served."""
        transport = self._transport
        if transport.next_send_ns > self._now_ns():
            return False
        transport.send_due()
        return transport.next_send_ns <= self._now_ns()

    def add(self, connection: Connection) -> None:
        """Decode what is pending of it when `plan` or `soon` is called next."""
        if not connection.decode_queued:
            connection.decode_queued = True
            self._queue.append(connection)

    def plan(self) -> None:
        """Begin to decode what waits: now, or when more has come."""
        if self._queue and not self._planned:
            self._planned = True
            if self._gather:
                asyncio.get_running_loop().call_later(_GATHER_S, self._slice)
            else:
                self._slice()

    def soon(self) -> None:
        """Begin to decode in the event loop's next pass."""
        if not self._planned:
            self._planned = True
            asyncio.get_running_loop().call_soon(self._slice)

    def _slice(self) -> None:
        loop, now_ns, queue, decode_one = asyncio.get_running_loop(), self._now_ns, self._queue, self._decode_one
        start_ns = now_ns()
        while queue:
            at_ns, waiting = now_ns(), queue[0].pending
            behind = self.nbytes > _BACKLOG_BYTES or (waiting and at_ns - waiting[0][1] > _BACKLOG_NS)
            if not behind and self._transport.next_send_ns - at_ns < _QUIET_NS:
                loop.call_later(0.001, self._slice)  # after the send, whose own work comes first
                return
            if at_ns - start_ns > _SLICE_NS or self.give_way():
                loop.call_soon(self._slice)
                return
            connection = queue.popleft()
            connection.decode_queued = False
            while connection.pending:
                decode_one(connection)
        self._planned = False
